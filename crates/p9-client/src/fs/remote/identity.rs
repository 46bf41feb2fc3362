//! Whether an open file is still the one that its name leads to, for servers that find open files by their names.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

use p9_tree::{CleanPath, Node, Walked};
use p9_wire::{AttrMask, Errno, Qid};

use super::attributes::setattr;
use super::{Mount, RemoteNode, classic, fid as fids};
use crate::fs::{FileTimes, Metadata, Result};
use crate::session::Fid;

/// What files are told apart by.
const ATTRIBUTES: AttrMask = AttrMask::BASIC.union(AttrMask::BTIME);

async fn stat(fid: &Fid) -> Result<Metadata> {
    let attr = match fids::is_linux(fid) {
        true => fid.getattr(ATTRIBUTES).await?,
        false => classic::attr(fid).await?,
    };
    Ok(Metadata::from(&attr))
}

/// Before attributes are changed: whether the server would change this file. QEMU and diod find an open file by the
/// name it had, and would change another that has this name now. Asks only after this mount has renamed or removed
/// something.
pub(super) async fn check_identity(
    mount: &Rc<Mount>,
    fid: &Fid,
    qid: Qid,
    path: &CleanPath,
    changes_seen: &Cell<u64>,
) -> Result<()> {
    let changes = mount.changes_of_names.get();
    if changes_seen.get() == changes {
        return Ok(());
    }
    let mine = stat(fid).await?;
    if mine.ino() != qid.path {
        return Err(Errno::ESTALE.into());
    }
    let names: Vec<&[u8]> = path.names().collect();
    let other = RemoteNode::root(mount.clone())
        .getattr_at(&names, ATTRIBUTES)
        .await;
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
    if !fids::is_linux(fid) || times(mine) == times(other) {
        // It can't be told.
        return Ok(false);
    }
    setattr(fid, &times(other).to_setattr()).await?;
    let now = stat(fid).await?;
    let itself = (now.accessed(), now.modified()) != (mine.accessed(), mine.modified());
    if itself {
        setattr(fid, &times(mine).to_setattr()).await?;
    }
    Ok(itself)
}
