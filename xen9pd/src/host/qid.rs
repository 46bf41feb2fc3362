//! Numbers for files: `qid.path` is 64 bits, but a file of this machine is a device and an inode number, 64 bits each.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use p9_wire::{Errno, FileKind, Qid, QidKind};
use rustix::fs::Statx;

use super::FileId;

/// The upper byte of a path says which device the inode number in the other bits is of.
const INO_BITS: u32 = 56;

/// In the upper byte: the rest is the place of the file in the table of those that need one.
const LISTED: u64 = 0xff;

/// Files listed at most: a file system with inode numbers of more than 56 bits, or more than 254 file systems in one
/// share.
const MAX_LISTED: usize = 1 << 20;

/// Gives each file of a share a number that no other has.
///
/// Most are the inode number itself, so that they are the same after a restart; the share's first file system is
/// number 0.
#[derive(Debug)]
pub(super) struct Qids {
    root_dev: u64,
    others: Mutex<Others>,
}

#[derive(Debug, Default)]
struct Others {
    devices: Vec<u64>,
    listed: HashMap<FileId, u64>,
}

impl Qids {
    pub(super) fn new(root_dev: u64) -> Qids {
        Qids {
            root_dev,
            others: Mutex::default(),
        }
    }

    /// The number of a file.
    ///
    /// # Errors
    /// EOVERFLOW when so many files needed a place in the table that it is full.
    pub(super) fn path(&self, id: FileId) -> Result<u64, Errno> {
        let fits = id.ino >> INO_BITS == 0;
        if fits && id.dev == self.root_dev {
            return Ok(id.ino);
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if fits && let Some(number) = others.device(id.dev) {
            return Ok(number << INO_BITS | id.ino);
        }
        let next = others.listed.len();
        if next >= MAX_LISTED && !others.listed.contains_key(&id) {
            return Err(Errno::EOVERFLOW);
        }
        let place = *others.listed.entry(id).or_insert(next as u64);
        Ok(LISTED << INO_BITS | place)
    }

    /// The identity of the file that `stat` is about.
    pub(super) fn qid(&self, stat: &Statx) -> Result<Qid, Errno> {
        Ok(Qid {
            kind: kind_of(super::sys::file_kind(stat)),
            version: version(stat),
            path: self.path(FileId::of(stat))?,
        })
    }
}

impl Others {
    /// The number of a device, from 1 on; `None` when there are too many for a byte.
    fn device(&mut self, dev: u64) -> Option<u64> {
        let at = self.devices.iter().position(|&known| known == dev);
        let at = at.or_else(|| {
            (self.devices.len() + 1 < LISTED as usize).then(|| {
                self.devices.push(dev);
                self.devices.len() - 1
            })
        })?;
        Some(at as u64 + 1)
    }
}

/// What a qid says of a file of this kind.
pub(super) fn kind_of(kind: FileKind) -> QidKind {
    match kind {
        FileKind::DIR => QidKind::DIR,
        FileKind::SYMLINK => QidKind::SYMLINK,
        _ => QidKind::empty(),
    }
}

/// Another number after each change of content or attributes, as far as the file system's clock tells them apart. The
/// time of birth is in it too: a new file in the place of a removed one is another.
fn version(stat: &Statx) -> u32 {
    let nanos = |time: rustix::fs::StatxTimestamp| {
        (time.tv_sec as u64)
            .wrapping_mul(1_000_000_000)
            .wrapping_add(u64::from(time.tv_nsec))
    };
    let mixed = nanos(stat.stx_ctime)
        .wrapping_add(nanos(stat.stx_btime).rotate_left(32))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_files_have_the_same_number() {
        let qids = Qids::new(7);
        let mut seen = HashSet::new();
        let inos = [0, 1, 2, (1 << 56) - 1, 1 << 56, (1 << 56) + 1, u64::MAX];
        for round in 0..2 {
            for dev in 0..600 {
                for ino in inos {
                    let new = seen.insert(((dev, ino), qids.path(FileId { dev, ino }).unwrap()));
                    assert_eq!(new, round == 0, "the number of a file stays");
                }
            }
        }
        let paths: HashSet<u64> = seen.iter().map(|&(_, path)| path).collect();
        assert_eq!(paths.len(), 600 * inos.len());
    }

    #[test]
    fn the_table_has_a_bound_and_keeps_what_it_has() {
        let qids = Qids::new(0);
        let id = |ino: u64| FileId {
            dev: 0,
            ino: ino | 1 << 60,
        };
        for ino in 0..MAX_LISTED as u64 {
            qids.path(id(ino)).unwrap();
        }
        assert_eq!(qids.path(id(1 << 40)), Err(Errno::EOVERFLOW));
        assert_eq!(qids.path(id(5)), Ok(LISTED << INO_BITS | 5));
        assert_eq!(qids.path(FileId { dev: 0, ino: 5 }), Ok(5));
    }
}
