//! The operations in 9P2000 and 9P2000.u.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::fid::unsupported;
use crate::Dialect;
use crate::fs::{Error, FileType, Permissions, Result};
use crate::session::Fid;
use p9_tree::Make;
use p9_tree::try_copy;
use p9_wire::Errno;
use p9_wire::{
    Attr, AttrMask, DirMode, OpenFlags, OpenMode, Qid, SetAttr, SetAttrMask, Stat, Time, kind,
};

/// Special bits of a Unix mode, and what 9P2000.u calls them.
const SPECIAL: [(u32, DirMode); 3] = [
    (0o4000, DirMode::SET_UID),
    (0o2000, DirMode::SET_GID),
    (0o1000, DirMode::STICKY),
];

/// Kinds of files that have a bit of their own; devices are told apart by the extension.
const KINDS: [(u32, DirMode); 4] = [
    (0o040_000, DirMode::DIR),
    (0o120_000, DirMode::SYMLINK),
    (0o010_000, DirMode::NAMED_PIPE),
    (0o140_000, DirMode::SOCKET),
];

fn is_unix(fid: &Fid) -> bool {
    fid.session().dialect() == Dialect::Unix
}

fn open_mode(flags: OpenFlags) -> OpenMode {
    let mut mode = if flags.contains(OpenFlags::READ_WRITE) {
        OpenMode::READ_WRITE
    } else if flags.contains(OpenFlags::WRITE_ONLY) {
        OpenMode::WRITE_ONLY
    } else {
        OpenMode::empty()
    };
    mode.set(OpenMode::TRUNCATE, flags.contains(OpenFlags::TRUNCATE));
    mode
}

/// Opens the file, with Linux's flags, of which all that the dialect lacks are hints. Whether the server appends is never
/// relied on: not all can.
pub(super) async fn open(fid: &Fid, flags: OpenFlags) -> Result<(Qid, u32)> {
    fid.open(open_mode(flags)).await
}

/// Makes a file, which must not be there (QEMU does not check that), and opens it; with flags as for [`open`].
pub(super) async fn create(
    fid: &mut Fid,
    name: &[u8],
    flags: OpenFlags,
    mode: u32,
) -> Result<(Qid, u32)> {
    let open = open_mode(flags) - OpenMode::TRUNCATE;
    let perm = permissions_of(fid, mode);
    fid.create(name, perm, open, b"").await
}

/// Makes what is no regular file. The fid of the directory is used up; whether it may be asked about is the caller's to say.
pub(super) async fn make(
    dir: Fid,
    name: &[u8],
    what: Make<'_>,
    mode: u32,
    may_ask: bool,
) -> Result<()> {
    match what {
        Make::Dir => make_dir(dir, name, mode & 0o7777, may_ask).await,
        Make::Symlink(target) => symlink(dir, name, target).await,
        Make::Node { major, minor } => mknod(dir, name, mode, (major, minor)).await,
    }
}

/// Makes a directory. As on a local file system it gets the setgid bit of the one it is in, if that may be asked for it:
/// QEMU takes the bit away that its kernel has passed on, and ignores it in Tcreate.
async fn make_dir(mut dir: Fid, name: &[u8], mode: u32, may_ask: bool) -> Result<()> {
    let inherits = may_ask
        && is_unix(&dir)
        && dir
            .stat(|stat| stat.mode.contains(DirMode::SET_GID))
            .await?;
    let perm = DirMode::DIR | permissions_of(&dir, mode);
    dir.create(name, perm, OpenMode::empty(), b"").await?;
    if inherits {
        let mode = perm | DirMode::SET_GID;
        change(&dir, |stat| stat.mode = mode).await?;
    }
    Ok(())
}

/// Makes something that the dialect has a mode bit for. The fid is used up.
async fn make_with(
    mut dir: Fid,
    name: &[u8],
    perm: DirMode,
    mode: u32,
    extension: &[u8],
) -> Result<()> {
    let perm = perm | permissions_of(&dir, mode);
    dir.create(name, perm, OpenMode::empty(), extension)
        .await
        .map(drop)
}

/// Makes a symbolic link (9P2000.u).
async fn symlink(dir: Fid, name: &[u8], target: &[u8]) -> Result<()> {
    if !is_unix(&dir) {
        return Err(unsupported(&dir, kind::TSYMLINK));
    }
    make_with(dir, name, DirMode::SYMLINK, 0o777, target).await
}

/// Makes a hard link (9P2000.u).
pub(super) async fn link(dir: Fid, file: &Fid, name: &[u8]) -> Result<()> {
    if !is_unix(&dir) {
        return Err(unsupported(&dir, kind::TLINK));
    }
    let extension = format!("{}", file.number().0);
    make_with(dir, name, DirMode::LINK, 0o777, extension.as_bytes()).await
}

/// Makes a device, named pipe or socket (9P2000.u).
async fn mknod(dir: Fid, name: &[u8], mode: u32, (major, minor): (u32, u32)) -> Result<()> {
    if !is_unix(&dir) {
        return Err(unsupported(&dir, kind::TMKNOD));
    }
    let kind = FileType::from_mode(mode);
    let (perm, extension) = if kind.is_block_device() {
        (DirMode::DEVICE, format!("b {major} {minor}"))
    } else if kind.is_char_device() {
        (DirMode::DEVICE, format!("c {major} {minor}"))
    } else if kind.is_fifo() {
        (DirMode::NAMED_PIPE, String::new())
    } else if kind.is_socket() {
        (DirMode::SOCKET, String::new())
    } else {
        return Err(Errno::EINVAL.into());
    };
    make_with(dir, name, perm, mode, extension.as_bytes()).await
}

/// The permission bits as the dialect has them.
fn permissions_of(fid: &Fid, mode: u32) -> DirMode {
    let mut perm = DirMode::from_bits_retain(mode) & DirMode::PERMISSIONS;
    if is_unix(fid) {
        for (bit, special) in SPECIAL {
            perm.set(special, mode & bit != 0);
        }
    }
    perm
}

/// The Unix mode that a stat means.
fn mode_of(stat: &Stat<'_>) -> u32 {
    let kind = KINDS
        .iter()
        .find(|(_, bit)| stat.mode.contains(*bit))
        .map_or(0o100_000, |&(kind, _)| kind);
    let kind = match stat.extension.first() {
        Some(b'b') if stat.mode.contains(DirMode::DEVICE) => 0o060_000,
        Some(b'c') if stat.mode.contains(DirMode::DEVICE) => 0o020_000,
        _ => kind,
    };
    let special = SPECIAL
        .iter()
        .filter(|(_, bit)| stat.mode.contains(*bit))
        .fold(0, |mode, (bit, _)| mode | bit);
    kind | special | (stat.mode & DirMode::PERMISSIONS).bits()
}

/// A time of these dialects, which have 32 bits of seconds. Servers cut off the rest of a time before 1970, so that it
/// would look like one after 2038 if the bits were not read as signed, the way C's 32-bit `time_t` was.
fn time_of(seconds: u32) -> Time {
    Time {
        secs: i64::from(seconds.cast_signed()).cast_unsigned(),
        nanos: 0,
    }
}

/// What a stat says. A dialect that has no numbers for users leaves them `u32::MAX`.
pub(super) fn attr_of(stat: &Stat<'_>) -> Attr {
    Attr {
        valid: AttrMask::BASIC - AttrMask::CTIME,
        qid: stat.qid,
        mode: mode_of(stat),
        uid: stat.n_uid,
        gid: stat.n_gid,
        nlink: 1,
        size: stat.length,
        blksize: 4096,
        blocks: stat.length.div_ceil(512),
        atime: time_of(stat.atime),
        mtime: time_of(stat.mtime),
        ..Attr::default()
    }
}

pub(super) async fn attr(fid: &Fid) -> Result<Attr> {
    fid.stat(attr_of).await
}

pub(super) async fn readlink(fid: &Fid) -> Result<Vec<u8>> {
    let target = fid.stat(|stat| {
        let is_link = stat.mode.contains(DirMode::SYMLINK);
        is_link.then(|| try_copy(stat.extension))
    });
    target.await?.ok_or(Errno::EINVAL)?
}

/// Changes the attributes that `set` sets.
async fn change<'a>(fid: &Fid, set: impl FnOnce(&mut Stat<'a>)) -> Result<()> {
    let mut stat = Stat::UNCHANGED;
    if !is_unix(fid) {
        // The server of the crate `ninep` wants to see the file's own; to others it is no change.
        stat.qid = fid.stat(|stat| stat.qid).await?;
    }
    set(&mut stat);
    fid.wstat(stat).await
}

pub(super) async fn set_size(fid: &Fid, size: u64) -> Result<()> {
    change(fid, |stat| stat.length = size).await
}

pub(super) async fn set_mode(fid: &Fid, permissions: Permissions) -> Result<()> {
    // The kind has to be said again, and must not change.
    let kind = DirMode::from_bits_retain(!(DirMode::PERMISSIONS.bits()));
    let special = SPECIAL
        .iter()
        .fold(DirMode::empty(), |bits, (_, bit)| bits | *bit);
    let old = fid.stat(|stat| stat.mode & (kind - special)).await?;
    let mode = old | permissions_of(fid, permissions.mode());
    change(fid, |stat| stat.mode = mode).await
}

pub(super) async fn set_owner(fid: &Fid, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    if !is_unix(fid) {
        return Err(unsupported(fid, kind::TSETATTR));
    }
    change(fid, |stat| {
        stat.n_uid = uid.unwrap_or(u32::MAX);
        stat.n_gid = gid.unwrap_or(u32::MAX);
    })
    .await
}

pub(super) async fn set_times(fid: &Fid, attr: &SetAttr) -> Result<()> {
    let seconds = |time: Time, some, exact| {
        if !attr.valid.contains(some) {
            return Ok(u32::MAX);
        }
        if !attr.valid.contains(exact) {
            // There is no word for it.
            return Err(unsupported(fid, kind::TSETATTR));
        }
        // More would fit, but could not be told from a time before 1970 when it is read again.
        u32::try_from(time.secs)
            .ok()
            .filter(|&secs| i32::try_from(secs).is_ok())
            .ok_or(Error::InvalidInput(
                &"a time before 1970 or after 2038-01-19, which this dialect has no number for",
            ))
    };
    let atime = seconds(attr.atime, SetAttrMask::ATIME, SetAttrMask::ATIME_SET)?;
    let mtime = seconds(attr.mtime, SetAttrMask::MTIME, SetAttrMask::MTIME_SET)?;
    change(fid, |stat| {
        stat.atime = atime;
        stat.mtime = mtime;
    })
    .await
}

/// Gives the file another name in its directory.
pub(super) async fn rename(fid: &Fid, name: &[u8]) -> Result<()> {
    change(fid, |stat| stat.name = name).await
}

/// Waits until the file is on stable storage (9P2000).
pub(super) async fn fsync(fid: &Fid) -> Result<()> {
    if is_unix(fid) {
        // QEMU would answer with nothing at all, and the request never end.
        return Err(unsupported(fid, kind::TFSYNC));
    }
    fid.wstat(Stat::UNCHANGED).await
}

/// Removes what the fid stands for.
pub(super) async fn remove(fid: Fid) -> Result<()> {
    if !is_unix(&fid) {
        return fid.remove().await;
    }
    let (again, _) = fid.walk(&[]).await?;
    match fid.remove().await {
        // xen-9pfsd has another way only.
        Err(Error::Unsupported { .. }) => {
            again.open(OpenMode::REMOVE_ON_CLOSE).await?;
            match again.close().await {
                // It was lost in between, and the server may have closed it.
                Err(Error::Stale) => Err(Error::MaybeApplied),
                result => result,
            }
        }
        result => result,
    }
}
