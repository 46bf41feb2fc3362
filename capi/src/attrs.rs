//! Attributes.

use alloc::boxed::Box;
use core::ffi::c_char;

use xen9p::errno::Errno;
use xen9p::fs::{FileTimes, Metadata, StatFs, SystemTime};
use xen9p::p9::wire::{AttrMask, SetAttr, SetAttrMask};
use xen9p::tree::{Node, OpenFile};

use crate::error::{Fail, Result, Tried};
use crate::names::{node, target};
use crate::operations::submit;
use crate::paths::{Place, place};
use crate::state::enter;
use crate::version::sized;
use crate::xen9p_handle;

/// A point in time: seconds since 1970, and nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct xen9p_time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanos: u32,
    /// 0.
    pub reserved: u32,
}

/// What is known of a file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct xen9p_stat {
    /// Size in bytes.
    pub size: u64,
    /// The number that identifies it on its server.
    pub ino: u64,
    /// How much it takes there, in blocks of 512 bytes.
    pub blocks: u64,
    /// The size of reads and writes that suits it, in bytes.
    pub block_size: u64,
    /// The device that it is, if it is one, as in Linux's st_rdev.
    pub rdev: u64,
    /// Number of names.
    pub links: u64,
    /// Last read.
    pub accessed: xen9p_time,
    /// Last change of the content.
    pub modified: xen9p_time,
    /// Last change of the attributes; 0 if the server does not tell.
    pub changed: xen9p_time,
    /// When it was made; 0 if the server does not tell.
    pub created: xen9p_time,
    /// Kind and permissions, as in Linux's st_mode.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Another number after each change of the content, where the server has one; 0: it has none.
    pub version: u32,
}

/// Of xen9p_stat(): the attributes of a symbolic link itself.
pub const XEN9P_NOFOLLOW: u32 = 1;

/// `mode` counts.
pub const XEN9P_SET_MODE: u32 = 1;
/// `uid` counts.
pub const XEN9P_SET_UID: u32 = 2;
/// `gid` counts.
pub const XEN9P_SET_GID: u32 = 4;
/// `length` counts.
pub const XEN9P_SET_LENGTH: u32 = 8;
/// `accessed` counts.
pub const XEN9P_SET_ACCESSED: u32 = 16;
/// `modified` counts.
pub const XEN9P_SET_MODIFIED: u32 = 32;
/// The time of the last read is the server's present time.
pub const XEN9P_SET_ACCESSED_NOW: u32 = 64;
/// The time of the last change is the server's present time.
pub const XEN9P_SET_MODIFIED_NOW: u32 = 128;

/// Attributes to be changed: chmod, chown, utimes and truncate in one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct xen9p_setattr {
    /// sizeof (struct xen9p_setattr).
    pub size: usize,
    /// What counts: XEN9P_SET_MODE and so on.
    pub valid: u32,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size of the file in bytes: it is cut, or extended by zeroes.
    pub length: u64,
    /// Last read.
    pub accessed: xen9p_time,
    /// Last change of the content.
    pub modified: xen9p_time,
}

/// How full a file system is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct xen9p_statfs {
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks that are free.
    pub blocks_free: u64,
    /// Blocks that are free for others than root.
    pub blocks_available: u64,
    /// Files there can be.
    pub files: u64,
    /// Files that can still be made.
    pub files_free: u64,
    /// Identifies the file system.
    pub id: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// Longest name, in bytes.
    pub name_max: u32,
    /// Linux's magic number of the kind of file system; 0 if the server does not tell.
    pub kind: u32,
    /// 0.
    pub reserved: u32,
}

impl From<SystemTime> for xen9p_time {
    fn from(time: SystemTime) -> Self {
        xen9p_time {
            seconds: time.secs(),
            nanos: time.subsec_nanos(),
            reserved: 0,
        }
    }
}

impl xen9p_time {
    fn time(self) -> Result<SystemTime> {
        match self.nanos {
            0..1_000_000_000 => Ok(SystemTime::new(self.seconds, self.nanos)),
            _ => Err(Fail::new(
                Errno::EINVAL,
                "a second has 1,000,000,000 nanoseconds",
            )),
        }
    }
}

fn stat(found: &Metadata) -> xen9p_stat {
    let time = |time: Option<SystemTime>| time.map_or(xen9p_time::default(), Into::into);
    xen9p_stat {
        size: found.len(),
        ino: found.ino(),
        blocks: found.blocks(),
        block_size: found.blksize(),
        rdev: found.rdev(),
        links: found.nlink(),
        accessed: found.accessed().into(),
        modified: found.modified().into(),
        changed: time(found.changed()),
        created: time(found.created()),
        mode: found.mode(),
        uid: found.uid(),
        gid: found.gid(),
        version: found.version(),
    }
}

const ATTRIBUTES: AttrMask = AttrMask::BASIC.union(AttrMask::BTIME);

async fn metadata(place: Place, follow: bool) -> Result<Metadata> {
    let attr = match place {
        Place::Path(fs, path) if follow => return Ok(fs.metadata(path).await?),
        Place::Path(fs, path) => return Ok(fs.symlink_metadata(path).await?),
        Place::File(file) => file.remote.getattr(ATTRIBUTES).await?,
        place => node(place).await?.getattr(ATTRIBUTES).await?,
    };
    Ok(Metadata::from(&attr))
}

/// The attributes of what a path leads to; with NULL as the path those of the node, or of the open file. `flags`: 0 or
/// XEN9P_NOFOLLOW; names in nodes are never followed.
///
/// # Safety
/// Pointers are NULL or valid until the call is over; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_stat(
    at: xen9p_handle,
    path: *const c_char,
    flags: u32,
    into: *mut xen9p_stat,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("stat", path) };
    enter(tried, || {
        if flags > XEN9P_NOFOLLOW {
            return Err(Fail::new(Errno::EINVAL, "an unknown flag for xen9p_stat"));
        }
        // SAFETY: the caller's promise.
        let (mount, place) = unsafe { place(at, path) }?;
        if into.is_null() {
            return Err(Fail::null("into"));
        }
        let future = async move {
            let found = metadata(place, flags == 0).await?;
            // SAFETY: the caller's promise.
            unsafe { into.write(stat(&found)) };
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

/// A change of attributes, checked, as requests, which are empty where there is nothing to do. The length comes first, since
/// servers write a time of change when they cut a file, whatever time came with it.
fn requests(wish: &xen9p_setattr) -> Result<[SetAttr; 2]> {
    let has = |flag| wish.valid & flag != 0;
    let twice = |a, b| has(a) && has(b);
    if wish.valid >= XEN9P_SET_MODIFIED_NOW * 2
        || twice(XEN9P_SET_ACCESSED, XEN9P_SET_ACCESSED_NOW)
        || twice(XEN9P_SET_MODIFIED, XEN9P_SET_MODIFIED_NOW)
    {
        return Err(Fail::new(
            Errno::EINVAL,
            "`valid` has an unknown bit, or a time and the present time",
        ));
    }
    if wish.length > i64::MAX as u64 {
        return Err(Fail::new(Errno::EINVAL, "a file size beyond 2^63 - 1"));
    }
    let mut times = FileTimes::new();
    if has(XEN9P_SET_ACCESSED) {
        times = times.set_accessed(wish.accessed.time()?);
    }
    if has(XEN9P_SET_MODIFIED) {
        times = times.set_modified(wish.modified.time()?);
    }
    let mut cut = SetAttr::default();
    cut.valid.set(SetAttrMask::SIZE, has(XEN9P_SET_LENGTH));
    cut.size = wish.length;
    let mut attr = times.to_setattr();
    for (flag, mask) in [
        (XEN9P_SET_ACCESSED_NOW, SetAttrMask::ATIME),
        (XEN9P_SET_MODIFIED_NOW, SetAttrMask::MTIME),
        (XEN9P_SET_MODE, SetAttrMask::MODE),
        (XEN9P_SET_UID, SetAttrMask::UID),
        (XEN9P_SET_GID, SetAttrMask::GID),
    ] {
        if has(flag) {
            attr.valid |= mask;
        }
    }
    (attr.mode, attr.uid, attr.gid) = (wish.mode & 0o7777, wish.uid, wish.gid);
    Ok([cut, attr])
}

/// Changes attributes of what a path leads to; with NULL as the path those of the node, or of the open file. The
/// length first, then all else at once.
///
/// # Safety
/// Pointers are NULL or valid; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_setattr(
    at: xen9p_handle,
    path: *const c_char,
    change: *const xen9p_setattr,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("setattr", path) };
    enter(tried, || {
        if change.is_null() {
            return Err(Fail::null("the change"));
        }
        // SAFETY: the caller's promise.
        let change = requests(&unsafe { sized(change, "the change") }?)?;
        // SAFETY: the caller's promise.
        let (mount, place) = unsafe { place(at, path) }?;
        let future = async move {
            let open = match &place {
                Place::File(file) => Some(file.clone()),
                _ => None,
            };
            match open {
                Some(file) => {
                    for request in change.iter().filter(|it| !it.valid.is_empty()) {
                        file.remote.setattr(request).await?;
                    }
                }
                None => {
                    let node = target(place).await?;
                    for request in change.iter().filter(|it| !it.valid.is_empty()) {
                        node.setattr(request).await?;
                    }
                }
            }
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

/// How full the file system is that a path leads to.
///
/// # Safety
/// Pointers are NULL or valid until the call is over; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_statfs(
    at: xen9p_handle,
    path: *const c_char,
    into: *mut xen9p_statfs,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("statfs", path) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let (mount, place) = unsafe { place(at, path) }?;
        if into.is_null() {
            return Err(Fail::null("into"));
        }
        let future = async move {
            let found = StatFs::from(&target(place).await?.statfs().await?);
            let full = xen9p_statfs {
                blocks: found.blocks,
                blocks_free: found.blocks_free,
                blocks_available: found.blocks_available,
                files: found.files,
                files_free: found.files_free,
                id: found.id,
                block_size: found.block_size,
                name_max: found.name_max,
                kind: found.kind,
                reserved: 0,
            };
            // SAFETY: the caller's promise.
            unsafe { into.write(full) };
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}
