//! System calls, as far as they need words of our own.

use std::ffi::CStr;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use p9_wire::FileKind;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::{Errno, Result};

/// How often a resolution is tried again while directories move under it. Each try is some microseconds; a storm of
/// renames that lasts longer is answered with EAGAIN.
const MAX_TRIES: u32 = 1000;

/// The same where EXDEV can be meant.
const MAX_XDEV_TRIES: u32 = 10;

/// openat2 of one component. Where something was renamed or mounted meanwhile, and the kernel can't tell whether the way
/// stayed below, it says EAGAIN; where the file itself was moved away under its hands, EXDEV. The answer to both is to ask
/// again: a component leads out of its directory only where it is a mount point, and NO_XDEV forbids that.
pub(super) fn open_beneath(
    dir: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
    mode: u32,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode);
    for tries in 0..MAX_TRIES {
        match rustix::fs::openat2(dir, name, flags, mode, resolve) {
            Err(Errno::XDEV)
                if resolve.contains(ResolveFlags::NO_XDEV) && tries >= MAX_XDEV_TRIES =>
            {
                return Err(Errno::XDEV);
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::XDEV) => std::hint::spin_loop(),
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// What every statx asks for.
const WANTED: StatxFlags = StatxFlags::BASIC_STATS
    .union(StatxFlags::BTIME)
    .union(StatxFlags::MNT_ID);

/// statx of a descriptor.
pub(super) fn stat(fd: impl AsFd) -> Result<Statx> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, WANTED)
}

/// statx of what has this name, one component, in the directory `dir`. Of a symbolic link, it is about the link.
pub(super) fn look(dir: impl AsFd, name: &[u8]) -> Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(dir, name, flags, WANTED)
}

/// The number of the mount that a statx found the file on; `None`: Linux before 5.8.
pub(super) fn mount(stat: &Statx) -> Option<u64> {
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}

/// What kind of file a statx is about.
pub(super) fn file_kind(stat: &Statx) -> FileKind {
    FileKind::of_mode(u32::from(stat.stx_mode))
}

/// A descriptor's number in decimal, which is its name in `/proc/self/fd`.
pub(super) struct Decimal([u8; 12]);

impl Decimal {
    pub(super) fn of(fd: BorrowedFd<'_>) -> Decimal {
        let mut digits = [0; 12];
        // A descriptor has at most ten digits; were there more, the end would be missing, and the name no one's.
        let _ = write!(&mut digits[..11], "{}", fd.as_raw_fd());
        Decimal(digits)
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

/// A lock of an open file description (`F_OFD_SETLK`, `F_OFD_GETLK`), in the terms of fcntl(2).
#[derive(Clone, Copy, Debug)]
pub(super) struct RangeLock {
    /// `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
    pub(super) kind: libc::c_int,
    pub(super) start: i64,
    /// 0: to the end.
    pub(super) length: i64,
    /// The process, or -1 for a lock of an open file description.
    pub(super) pid: i32,
}

/// Takes or gives back a lock without waiting; EAGAIN when another is in the way.
pub(super) fn set_lock(fd: BorrowedFd<'_>, lock: RangeLock) -> Result<()> {
    fcntl_lock(fd, libc::F_OFD_SETLK, lock).map(drop)
}

/// Waits for a lock.
pub(super) fn wait_for_lock(fd: BorrowedFd<'_>, lock: RangeLock) -> Result<()> {
    loop {
        match fcntl_lock(fd, libc::F_OFD_SETLKW, lock) {
            Err(Errno::INTR) => {}
            done => return done.map(drop),
        }
    }
}

/// The lock that is in the way of this one.
pub(super) fn get_lock(fd: BorrowedFd<'_>, lock: RangeLock) -> Result<Option<RangeLock>> {
    let found = fcntl_lock(fd, libc::F_OFD_GETLK, lock)?;
    Ok((found.kind != libc::F_UNLCK).then_some(found))
}

fn fcntl_lock(fd: BorrowedFd<'_>, command: libc::c_int, lock: RangeLock) -> Result<RangeLock> {
    let mut flock = libc::flock {
        l_type: lock.kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: lock.start,
        l_len: lock.length,
        // The kernel refuses any other number here.
        l_pid: 0,
    };
    // SAFETY: these commands of fcntl read and write one `flock`, and this one lives on our stack until the call is
    // over; the descriptor is open for as long as it is borrowed.
    let status = unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut flock) };
    if status < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(RangeLock {
        kind: libc::c_int::from(flock.l_type),
        start: flock.l_start,
        length: flock.l_len,
        pid: flock.l_pid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_named_by_its_number() {
        let file = std::fs::File::open("/").unwrap();
        let name = Decimal::of(file.as_fd());
        assert_eq!(
            name.as_c_str().to_str().unwrap(),
            file.as_raw_fd().to_string()
        );
    }
}
