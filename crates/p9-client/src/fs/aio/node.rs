//! What can be done to a file that there is a fid for, in each dialect.

use alloc::vec::Vec;

use super::{Fs, Handle, classic};
use crate::Dialect;
use crate::fs::{Error, FileTimes, FileType, Metadata, OpenOptions, Permissions, Result, StatFs};
use crate::session::Fid;
use p9_wire::{AttrMask, OpenFlags, Qid, SetAttr, SetAttrMask};

/// The error for what the dialect lacks.
pub(super) fn unsupported(fid: &Fid, op: &'static str) -> Error {
    Error::Unsupported {
        op,
        dialect: fid.session().dialect(),
    }
}

/// Whether the dialect is 9P2000.L.
pub(super) fn is_linux(fid: &Fid) -> bool {
    fid.session().dialect() == Dialect::Linux
}

/// Refuses `op` unless the dialect is 9P2000.L.
pub(super) fn only_linux(fid: &Fid, op: &'static str) -> Result<()> {
    if is_linux(fid) {
        Ok(())
    } else {
        Err(unsupported(fid, op))
    }
}

/// Opens the file; returns its qid and iounit.
pub(super) async fn open(fid: &Fid, options: &OpenOptions) -> Result<(Qid, u32)> {
    if !is_linux(fid) {
        return classic::open(fid, options).await;
    }
    let mut flags = options.open_flags();
    flags.set(OpenFlags::TRUNCATE, options.is_truncate());
    fid.lopen(flags).await
}

/// Makes a file of this name in the directory, which must not be there, and opens it.
pub(super) async fn create(
    fs: &Fs,
    dir: Handle,
    name: &[u8],
    options: &OpenOptions,
    mode: u32,
    gid: u32,
) -> Result<(Fid, Qid, u32)> {
    if !is_linux(dir.fid()) {
        let mut fid = fs.own(dir).await?;
        let (qid, iounit) = classic::create(&mut fid, name, options, mode).await?;
        return Ok((fid, qid, iounit));
    }
    let flags = options.open_flags() | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    match dir {
        // The fid of the directory becomes that of the file.
        Handle::Own(mut fid) => {
            let (qid, iounit) = fid.lcreate(name, flags, mode, gid).await?;
            Ok((fid, qid, iounit))
        }
        dir => dir.fid().create_in(name, flags, mode, gid).await,
    }
}

/// What is asked for of a file.
pub(super) const ATTRIBUTES: AttrMask = AttrMask::BASIC.union(AttrMask::BTIME);

pub(super) async fn stat(fid: &Fid) -> Result<Metadata> {
    if !is_linux(fid) {
        return classic::stat(fid).await;
    }
    let attr = fid.getattr(ATTRIBUTES).await?;
    Ok(Metadata::from(&attr))
}

pub(super) async fn set_size(fid: &Fid, size: u64) -> Result<()> {
    if size > i64::MAX as u64 {
        return Err(Error::InvalidInput("file size beyond 2^63 - 1"));
    }
    if !is_linux(fid) {
        return classic::set_size(fid, size).await;
    }
    fid.setattr(SetAttr {
        valid: SetAttrMask::SIZE,
        size,
        ..SetAttr::default()
    })
    .await
}

/// Changes the permission bits; `kind` is what the file is, if that is known.
pub(super) async fn set_mode(
    fid: &Fid,
    kind: Option<FileType>,
    permissions: Permissions,
) -> Result<()> {
    if !is_linux(fid) {
        return classic::set_mode(fid, permissions).await;
    }
    // The kind is part of the mode: QEMU's mapped security models store what they are sent, and a
    // file of no kind is what would be left.
    let kind = match kind {
        Some(kind) => kind,
        None => FileType::from_mode(fid.getattr(AttrMask::MODE).await?.mode),
    };
    fid.setattr(SetAttr {
        valid: SetAttrMask::MODE,
        mode: kind.mode() | permissions.mode(),
        ..SetAttr::default()
    })
    .await
}

pub(super) async fn set_owner(fid: &Fid, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let mut valid = SetAttrMask::empty();
    valid.set(SetAttrMask::UID, uid.is_some());
    valid.set(SetAttrMask::GID, gid.is_some());
    if valid.is_empty() {
        return Ok(());
    }
    if !is_linux(fid) {
        return classic::set_owner(fid, uid, gid).await;
    }
    fid.setattr(SetAttr {
        valid,
        uid: uid.unwrap_or(0),
        gid: gid.unwrap_or(0),
        ..SetAttr::default()
    })
    .await
}

pub(super) async fn set_times(fid: &Fid, times: FileTimes) -> Result<()> {
    let attr = times.to_setattr();
    if attr.valid.is_empty() {
        return Ok(());
    }
    if !is_linux(fid) {
        return classic::set_times(fid, &attr).await;
    }
    fid.setattr(attr).await
}

pub(super) async fn statfs(fid: &Fid) -> Result<StatFs> {
    only_linux(fid, "statfs")?;
    Ok(StatFs::from(&fid.statfs().await?))
}

pub(super) async fn fsync(fid: &Fid, data_only: bool) -> Result<()> {
    if !is_linux(fid) {
        return classic::fsync(fid).await;
    }
    fid.fsync(data_only).await
}

pub(super) async fn readlink(fid: &Fid) -> Result<Vec<u8>> {
    if !is_linux(fid) {
        return classic::readlink(fid).await;
    }
    fid.readlink().await
}
