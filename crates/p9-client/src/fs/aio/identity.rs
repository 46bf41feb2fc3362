//! Whether an open file is still the one that its name leads to, for servers that find open files by their names.

use alloc::vec::Vec;
use core::cell::Cell;

use p9_tree::{CleanPath, Node, Walked};
use p9_wire::{Errno, Qid};

use super::{Fs, node};
use crate::fs::{FileTimes, Metadata, Result};
use crate::session::Fid;

/// Before attributes are changed: whether the server would change this file. QEMU and diod find an open file by the
/// name it had, and would change another that has this name now. Asks only after this mount has renamed or removed
/// something.
pub(super) async fn check_identity(
    fs: &Fs,
    fid: &Fid,
    qid: Qid,
    path: &CleanPath,
    changes_seen: &Cell<u64>,
) -> Result<()> {
    let changes = fs.mount.changes_of_names.get();
    if changes_seen.get() == changes {
        return Ok(());
    }
    let mine = node::stat(fid).await?;
    if mine.ino() != qid.path {
        return Err(Errno::ESTALE.into());
    }
    let names: Vec<&[u8]> = path.names().collect();
    let other = fs.node().getattr_at(&names, node::ATTRIBUTES).await;
    match other.map(|walked| walked.map(|attr| Metadata::from(&attr))) {
        Ok(Walked::Through(other, _))
            if other.ino() != mine.ino() && !is_changed_itself(fid, &mine, &other).await? =>
        {
            return Err(Errno::ESTALE.into());
        }
        Err(error) if !error.is_of_the_path() => return Err(error),
        _ => {}
    }
    changes_seen.set(changes);
    Ok(())
}

/// Whether a change by this fid is one of this file, and not of the `other` that has its name. Tried out by giving the
/// file, for a moment, a time that the other has: if that goes to the other, nothing is changed.
async fn is_changed_itself(fid: &Fid, mine: &Metadata, other: &Metadata) -> Result<bool> {
    let times = |of: &Metadata| match mine.accessed() == other.accessed() {
        false => FileTimes::new().set_accessed(of.accessed()),
        true => FileTimes::new().set_modified(of.modified()),
    };
    if !node::is_linux(fid) || times(mine) == times(other) {
        // It can't be told.
        return Ok(false);
    }
    node::set_times(fid, times(other)).await?;
    let now = node::stat(fid).await?;
    let itself = (now.accessed(), now.modified()) != (mine.accessed(), mine.modified());
    if itself {
        node::set_times(fid, times(mine)).await?;
    }
    Ok(itself)
}
