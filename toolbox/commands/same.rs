//! Whether two paths lead to one file.

use xen9p::fs::Metadata;

use super::Fail;
use super::place::Place;

/// How often a file is looked at that changes all the time.
const TRIES: usize = 3;

/// Whether the symbolic link at the end of a path is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Links {
    Followed,
    Themselves,
}

fn look(place: &Place, links: Links) -> Result<Metadata, Fail> {
    match links {
        Links::Followed => place.metadata(),
        Links::Themselves => place.symlink_metadata(),
    }
}

/// Whether two paths lead to one file: what is copied or moved onto itself would be lost.
///
/// A server tells a number for each file, but two file systems under one share, or two hosts, may use the
/// same one. Files with the same number are taken for one unless something proves that they are two:
/// attributes that differ while those of one did not change, or the numbers of their file systems.
pub fn is_same(a: &Place, b: &Place, links: Links) -> Result<bool, Fail> {
    let mut first = look(a, links)?;
    for _ in 0..TRIES {
        let other = look(b, links)?;
        if first.ino() != other.ino() || first.file_type() != other.file_type() {
            return Ok(false);
        }
        if first.ino() == 0 {
            // A tree that has no numbers.
            return a.is(b);
        }
        if is_unchanged(&first, &other) {
            break;
        }
        // They differ; or it is one file that another client writes to just now.
        let again = look(a, links)?;
        if is_unchanged(&first, &again) {
            return Ok(false);
        }
        first = again;
    }
    Ok(match (a.ns.statfs(&a.path), b.ns.statfs(&b.path)) {
        (Ok(a), Ok(b)) => (a.id, a.kind) == (b.id, b.kind),
        _ => true,
    })
}

/// Whether the attributes are those of one file at one time.
fn is_unchanged(a: &Metadata, b: &Metadata) -> bool {
    let attributes = |of: &Metadata| {
        (
            (of.mode(), of.uid(), of.gid(), of.nlink(), of.len()),
            (of.modified(), of.changed(), of.rdev(), of.version()),
        )
    };
    attributes(a) == attributes(b)
}
