//! What can be done to a file that there is a fid for, in each dialect.

use alloc::vec::Vec;

use super::{Fs, Handle, classic};
use crate::Dialect;
use crate::fs::metadata::TimeChange;
use crate::fs::{
    Error, FileTimes, FileType, Metadata, OpenOptions, Permissions, Result, StatFs, SystemTime,
};
use crate::session::Fid;
use p9_wire::{Attr, AttrMask, OpenFlags, Qid, SetAttr, SetAttrMask, Time};

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

/// Linux's open flags; those that decide about access come from the options alone.
pub(super) fn open_flags(options: &OpenOptions) -> OpenFlags {
    let ours = OpenFlags::WRITE_ONLY
        | OpenFlags::READ_WRITE
        | OpenFlags::CREATE
        | OpenFlags::EXCLUSIVE
        | OpenFlags::TRUNCATE
        | OpenFlags::APPEND;
    let mut flags = OpenFlags::from_bits_retain(options.custom_flags) - ours;
    match (options.read, options.write || options.append) {
        (true, true) => flags |= OpenFlags::READ_WRITE,
        (false, true) => flags |= OpenFlags::WRITE_ONLY,
        (_, false) => {}
    }
    flags.set(OpenFlags::APPEND, options.append);
    flags.set(OpenFlags::DIRECTORY, options.directory);
    flags
}

/// Opens the file; returns its qid and iounit.
pub(super) async fn open(fid: &Fid, options: &OpenOptions) -> Result<(Qid, u32)> {
    if !is_linux(fid) {
        return classic::open(fid, options).await;
    }
    let mut flags = open_flags(options);
    flags.set(OpenFlags::TRUNCATE, options.truncate);
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
    let flags = open_flags(options) | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
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
    Ok(metadata_of(&attr))
}

fn time_of(time: Time) -> SystemTime {
    // Two's complement, as Linux reads it.
    SystemTime::new(
        time.secs as i64,
        u32::try_from(time.nanos).unwrap_or(u32::MAX),
    )
}

pub(super) fn metadata_of(attr: &Attr) -> Metadata {
    let known = |mask, time| attr.valid.contains(mask).then(|| time_of(time));
    Metadata {
        ino: attr.qid.path,
        version: attr.qid.version,
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        nlink: attr.nlink,
        rdev: attr.rdev,
        size: attr.size,
        blksize: attr.blksize,
        blocks: attr.blocks,
        atime: time_of(attr.atime),
        mtime: time_of(attr.mtime),
        ctime: known(AttrMask::CTIME, attr.ctime),
        btime: known(AttrMask::BTIME, attr.btime),
    }
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
    let mut attr = SetAttr::default();
    attr.atime = change(
        &mut attr.valid,
        times.accessed,
        SetAttrMask::ATIME,
        SetAttrMask::ATIME_SET,
    );
    attr.mtime = change(
        &mut attr.valid,
        times.modified,
        SetAttrMask::MTIME,
        SetAttrMask::MTIME_SET,
    );
    if attr.valid.is_empty() {
        return Ok(());
    }
    if !is_linux(fid) {
        return classic::set_times(fid, times).await;
    }
    fid.setattr(attr).await
}

/// Marks a time as one to be set, and gives the value for it.
fn change(
    valid: &mut SetAttrMask,
    time: Option<TimeChange>,
    some: SetAttrMask,
    exact: SetAttrMask,
) -> Time {
    match time {
        None => Time::default(),
        Some(TimeChange::Now) => {
            *valid |= some;
            Time::default()
        }
        Some(TimeChange::To(time)) => {
            *valid |= some | exact;
            Time {
                secs: time.secs() as u64,
                nanos: time.subsec_nanos().into(),
            }
        }
    }
}

pub(super) async fn statfs(fid: &Fid) -> Result<StatFs> {
    only_linux(fid, "statfs")?;
    let stat = fid.statfs().await?;
    Ok(StatFs {
        kind: stat.kind,
        block_size: stat.bsize,
        blocks: stat.blocks,
        blocks_free: stat.bfree,
        blocks_available: stat.bavail,
        files: stat.files,
        files_free: stat.ffree,
        id: stat.fsid,
        name_max: stat.namelen,
    })
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
