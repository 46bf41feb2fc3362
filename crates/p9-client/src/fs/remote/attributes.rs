//! Attributes and their changes, in each dialect.

use p9_wire::{Attr, AttrMask, Qid, SetAttr, SetAttrMask};

use super::classic;
use crate::Dialect;
use crate::fs::{Error, FileType, Metadata, Permissions, Result};
use crate::session::Fid;

/// The attributes of a file in any dialect, and whether it is the root. In 9P2000.u those of a root are made up: xen-9pfsd dies
/// when it is asked for them, and takes the files of all its other guests along.
pub(super) async fn attr(fid: &Fid, qid: Qid, is_root: bool, mask: AttrMask) -> Result<Attr> {
    match fid.session().dialect() {
        Dialect::Linux => return fid.getattr(mask).await,
        Dialect::Unix if is_root => {}
        _ => return classic::attr(fid).await,
    }
    let metadata = Metadata::of_dir(qid);
    Ok(Attr {
        valid: AttrMask::BASIC - AttrMask::CTIME,
        qid,
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        nlink: metadata.nlink(),
        blksize: metadata.blksize(),
        ..Attr::default()
    })
}

/// Changes attributes in any dialect.
pub(super) async fn setattr(fid: &Fid, attr: &SetAttr) -> Result<()> {
    if attr.valid.is_empty() {
        return Ok(());
    }
    let has = |mask| attr.valid.contains(mask);
    if attr.size > i64::MAX as u64 && has(SetAttrMask::SIZE) {
        return Err(Error::InvalidInput(&"file size beyond 2^63 - 1"));
    }
    if super::fid::is_linux(fid) {
        let mut attr = *attr;
        if has(SetAttrMask::MODE) && FileType::from_mode(attr.mode).mode() == 0 {
            // QEMU's mapped security models store what they are sent, and a file of no kind is what would be left.
            let old = fid.getattr(AttrMask::MODE).await?.mode;
            attr.mode |= FileType::from_mode(old).mode();
        }
        return fid.setattr(attr).await;
    }
    if has(SetAttrMask::SIZE) {
        classic::set_size(fid, attr.size).await?;
    }
    let uid = has(SetAttrMask::UID).then_some(attr.uid);
    let gid = has(SetAttrMask::GID).then_some(attr.gid);
    if uid.is_some() || gid.is_some() {
        classic::set_owner(fid, uid, gid).await?;
    }
    if has(SetAttrMask::MODE) {
        classic::set_mode(fid, Permissions::from_mode(attr.mode)).await?;
    }
    if attr
        .valid
        .intersects(SetAttrMask::ATIME | SetAttrMask::MTIME)
    {
        classic::set_times(fid, attr).await?;
    }
    Ok(())
}
