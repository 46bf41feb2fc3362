//! Open files.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::Cell;
use core::ffi::{c_char, c_void};
use core::pin::pin;

use xen9p::errno::Errno;
use xen9p::fs::OpenOptions;
use xen9p::p9::wire::{LockFlags, LockKind, LockStatus, OpenFlags};
use xen9p::tree::{Lock, Node, OpenFile};

use crate::error::{Fail, Result, Tried};
use crate::handles::{Kind, Open, wrong};
use crate::mount::Mount;
use crate::operations::{run, submit};
use crate::paths::{Place, buffer, buffer_mut, child, place};
use crate::state::{enter, enter_anyway, give, handles};
use crate::tree::TreeFile;
use crate::xen9p_handle;

/// Open for reading.
pub const XEN9P_READ: u32 = 1;
/// Open for writing.
pub const XEN9P_WRITE: u32 = 2;
/// Each write goes to the end of the file.
pub const XEN9P_APPEND: u32 = 4;
/// Make the file if it is not there.
pub const XEN9P_CREATE: u32 = 8;
/// Make the file; -EEXIST if it is there.
pub const XEN9P_EXCLUSIVE: u32 = 16;
/// Empty the file.
pub const XEN9P_TRUNCATE: u32 = 32;

/// A lock that others may hold as well.
pub const XEN9P_LOCK_SHARED: u32 = 0;
/// A lock of one holder.
pub const XEN9P_LOCK_EXCLUSIVE: u32 = 1;
/// Gives a lock back.
pub const XEN9P_LOCK_NONE: u32 = 2;

/// An open file.
pub(crate) struct File {
    pub(crate) remote: TreeFile,
    /// Whether there is something that its server may have to say when it is closed, or others wait for.
    matters_at_close: Cell<bool>,
}

/// The open file that a handle means.
pub(crate) fn file(handle: xen9p_handle) -> Result<(Rc<Mount>, Rc<File>)> {
    let open = handles(|handles| handles.get(handle))?;
    match open.kind {
        Kind::File(file) => Ok((open.mount, file)),
        _ => Err(wrong("a file")),
    }
}

fn options(flags: u32, mode: u32) -> Result<OpenOptions> {
    if flags >= XEN9P_TRUNCATE * 2 {
        return Err(Fail::new(Errno::EINVAL, "an unknown flag for opening"));
    }
    let has = |flag| flags & flag != 0;
    let mut options = OpenOptions::new();
    options.read(has(XEN9P_READ)).write(has(XEN9P_WRITE));
    options.append(has(XEN9P_APPEND)).create(has(XEN9P_CREATE));
    options
        .create_new(has(XEN9P_EXCLUSIVE))
        .truncate(has(XEN9P_TRUNCATE));
    options.mode(mode & 0o7777);
    options.check()?;
    Ok(options)
}

async fn open(place: Place, options: &OpenOptions, mode: u32) -> Result<File> {
    let makes = options.is_create() || options.is_create_new();
    let mut flags = options.open_flags();
    flags.set(OpenFlags::TRUNCATE, options.is_truncate());
    let remote = match place {
        Place::Path(fs, path) => fs.open_with(path, options).await?.into_inner(),
        Place::Name(dir, name) if makes => {
            flags.set(OpenFlags::EXCLUSIVE, options.is_create_new());
            let flags = flags | OpenFlags::CREATE;
            dir.create(name, flags, mode & 0o7777, u32::MAX).await?.file
        }
        Place::Name(dir, name) => child(&dir, name).await?.into_open(flags).await?,
        Place::Node(_) if makes => return Err(Fail::null("the name")),
        Place::Node(node) => node.open(flags).await?,
        Place::File(_) => return Err(wrong("a mount or a node")),
    };
    let writes = options.is_write() || options.is_append();
    Ok(File {
        remote,
        matters_at_close: Cell::new(writes),
    })
}

/// Opens a file; `flags` are XEN9P_READ and so on, `mode` the permissions of a new one. NULL as the path opens the node.
///
/// # Safety
/// Pointers are NULL or valid; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_open(
    at: xen9p_handle,
    path: *const c_char,
    flags: u32,
    mode: u32,
    file: *mut xen9p_handle,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("open", path) };
    enter(tried, || {
        let options = options(flags, mode)?;
        // SAFETY: the caller's promise.
        let (mount, place) = unsafe { place(at, path) }?;
        if file.is_null() {
            return Err(Fail::null("file"));
        }
        let of = mount.clone();
        let future = async move {
            let opened = open(place, &options, mode).await?;
            let kind = Kind::File(Rc::new(opened));
            // SAFETY: the caller's promise.
            unsafe { give(file, "file", Open { mount: of, kind }) }?;
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

/// Reads at an offset; returns how many bytes, 0 at the end of the file.
///
/// Calls that read on where the one before ended are read ahead for, as `read_ahead` of the mount's options says. Bytes that
/// were read ahead are given to no call behind a change of a file by this mount, or behind xen9p_lock(): it sees all that was
/// written through any handle, or by who had the lock before. What other domains and the server's own programs change in
/// them without a lock may be missed, however long ago it was: as if this call had been made together with the one that began
/// to read ahead.
///
/// # Safety
/// Pointers are NULL or valid, `into` for `size` bytes, until the call is over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_read(
    handle: xen9p_handle,
    into: *mut c_void,
    size: usize,
    offset: u64,
    op: *mut xen9p_handle,
) -> i64 {
    let tried = Tried::new("read");
    enter(tried, || {
        let (mount, file) = file(handle)?;
        // SAFETY: the caller's promise.
        let into = unsafe { buffer_mut(into, size) }?;
        let future = async move { Ok(file.remote.read_next(into, offset).await? as i64) };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    })
}

/// Writes at an offset, or at the end if the file was opened so; returns how many bytes, which may be fewer.
///
/// # Safety
/// As xen9p_read().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_write(
    handle: xen9p_handle,
    from: *const c_void,
    size: usize,
    offset: u64,
    op: *mut xen9p_handle,
) -> i64 {
    let tried = Tried::new("write");
    enter(tried, || {
        let (mount, file) = file(handle)?;
        // SAFETY: the caller's promise.
        let from = unsafe { buffer(from, size) }?;
        let future = async move { Ok(file.remote.write(from, offset).await? as i64) };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    })
}

/// Returns when content and attributes are as safe as the server can make them.
///
/// # Safety
/// `op` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_sync(handle: xen9p_handle, op: *mut xen9p_handle) -> i32 {
    let tried = Tried::new("sync");
    enter(tried, || {
        let (mount, file) = file(handle)?;
        let future = async move {
            file.remote.fsync(false).await?;
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

/// Locks bytes of a file against others, or gives them back: `kind` is XEN9P_LOCK_SHARED and so on, `length` 0 means to
/// the end, however far the file grows. Never waits for another holder: -EAGAIN (11). Closing the file gives its locks back.
///
/// Others are other domains, and programs where the server runs. The kernel is one holder, like a process of Linux, whatever its
/// threads and handles: it keeps them apart itself. The server decides what a lock is worth: xen9pd's hold against all
/// others; QEMU grants each, and keeps no one out; diod locks whole files, between handles of one kernel too. -EOPNOTSUPP
/// (95): the server has no locks.
///
/// # Safety
/// `op` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_lock(
    handle: xen9p_handle,
    kind: u32,
    start: u64,
    length: u64,
    op: *mut xen9p_handle,
) -> i32 {
    let tried = Tried::new("lock");
    enter(tried, || {
        let (mount, file) = file(handle)?;
        let kind = match kind {
            XEN9P_LOCK_SHARED => LockKind::READ,
            XEN9P_LOCK_EXCLUSIVE => LockKind::WRITE,
            XEN9P_LOCK_NONE => LockKind::UNLOCK,
            _ => return Err(Fail::new(Errno::EINVAL, "an unknown kind of lock")),
        };
        let lock = Lock {
            kind,
            start,
            length,
            owner: LOCK_OWNER,
            client: b"xen9p",
        };
        let future = async move {
            file.matters_at_close.set(true);
            match file.remote.lock(&lock, LockFlags::empty()).await? {
                LockStatus::SUCCESS => Ok(0),
                LockStatus::BLOCKED | LockStatus::GRACE => {
                    Err(Fail::new(Errno::EAGAIN, "another one holds the lock"))
                }
                _ => Err(Fail::new(Errno::ENOLCK, "the server has no more locks")),
            }
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

/// The number of the process that holds locks: there is one in a kernel like this.
const LOCK_OWNER: u32 = 1;

/// Closes a handle, which is closed whatever this returns: a mount, node, file or directory; of an operation, gives it up; of
/// an endpoint, serves its tree no more. A file that an operation uses is closed with the operation.
///
/// Of a file that is open for writing, or was locked, this waits for the server, and returns what that says: on a disk that it
/// writes to later, that may be an error of a write. Of all else the server is told, and its answer is not waited for.
///
/// # Safety
/// `op` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_close(handle: xen9p_handle, op: *mut xen9p_handle) -> i32 {
    let tried = Tried::new("close");
    enter_anyway(tried, || {
        let Open { mount, kind } = handles(|handles| handles.take(handle))?;
        let of = mount.clone();
        let future = async move {
            match kind {
                // Or an operation still uses it, and closes it when it is over.
                Kind::File(file) => match Rc::try_unwrap(file) {
                    Ok(file) if file.matters_at_close.get() => file.remote.close().await?,
                    file => {
                        drop(file);
                        of.look(false);
                    }
                },
                Kind::Mount(_) => of.give_up()?,
                #[cfg(feature = "vchan")]
                Kind::Endpoint(endpoint) => endpoint.end()?,
                Kind::Node(_) | Kind::Dir(_) | Kind::Operation(_) => drop(kind),
            }
            Ok(0)
        };
        if op.is_null() {
            // Without any memory: it gives some back.
            return run(&mount, pin!(future));
        }
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}
