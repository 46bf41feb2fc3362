//! Files and directories, blocking.

use alloc::rc::Rc;
use core::cell::RefCell;
use core::ffi::{CStr, c_char, c_void};
use core::slice;

use xen9p::errno::Errno;
use xen9p::fs::{Metadata, OpenOptions, aio};

use crate::error::{Fail, Result};
use crate::handles::{Open, wrong};
use crate::state::{enter, enter_anyway, enter_status, give, handles, mounted};
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

/// What is known of a file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct xen9p_stat {
    /// Size in bytes.
    pub size: u64,
    /// The number that identifies it on its server.
    pub ino: u64,
    /// Seconds since 1970 of the last change of its content.
    pub modified: i64,
    /// And nanoseconds.
    pub modified_nanos: u32,
    /// Kind and permissions, as in Linux's st_mode.
    pub mode: u32,
    /// Number of names.
    pub links: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// An entry of a directory.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct xen9p_dirent {
    /// The number that identifies the file on its server.
    pub ino: u64,
    /// What it is, as the bits of st_mode for the kind (0040000 a directory, 0100000 a file); 0: ask for its attributes.
    pub kind: u32,
    /// Length of the name in bytes.
    pub length: u32,
    /// The name, with a final NUL.
    pub name: [c_char; 256],
}

/// The bytes of a path.
///
/// # Safety
/// `path` is NULL or a string with a final NUL that lives as long as it is used.
unsafe fn bytes<'a>(path: *const c_char) -> Result<&'a [u8]> {
    if path.is_null() {
        return Err(Fail::null("the path"));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { CStr::from_ptr(path) }.to_bytes())
}

/// A buffer of the caller's to be filled.
///
/// # Safety
/// `memory` is NULL or valid for `size` bytes as long as it is used.
pub(crate) unsafe fn buffer_mut<'a>(memory: *mut c_void, size: usize) -> Result<&'a mut [u8]> {
    match (memory.is_null(), size) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(Fail::null("the buffer")),
        (_, size) if size > isize::MAX as usize => Err(Fail::new(
            Errno::EINVAL,
            "the buffer is larger than memory can be",
        )),
        // SAFETY: the caller's promise.
        _ => Ok(unsafe { slice::from_raw_parts_mut(memory.cast(), size) }),
    }
}

/// A buffer of the caller's to be read.
///
/// # Safety
/// As [`buffer_mut`].
pub(crate) unsafe fn buffer<'a>(memory: *const c_void, size: usize) -> Result<&'a [u8]> {
    // SAFETY: the caller's promise; it is only read.
    Ok(unsafe { buffer_mut(memory.cast_mut(), size) }?)
}

/// The open file that a handle means.
pub(crate) fn file(handle: xen9p_handle) -> Result<Rc<aio::File>> {
    match handles(|handles| handles.get(handle))? {
        Open::File(file) => Ok(file),
        _ => Err(wrong("a file")),
    }
}

/// Runs an operation on a mount to its end.
fn run<T>(
    fs: xen9p_handle,
    operation: impl AsyncFnOnce(aio::Fs) -> xen9p::fs::Result<T>,
) -> Result<T> {
    let fs = mounted(fs)?;
    let session = fs.session().clone();
    Ok(session.block_on(operation(fs))?)
}

/// Opens a file by its path from the mount's root; `flags` are XEN9P_READ and so on, `mode` the permissions of a new one.
///
/// # Safety
/// Pointers are NULL or valid; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_open(
    fs: xen9p_handle,
    path: *const c_char,
    flags: u32,
    mode: u32,
    file: *mut xen9p_handle,
) -> i32 {
    enter_status(|| {
        if flags >= XEN9P_TRUNCATE * 2 {
            return Err(Fail::new(Errno::EINVAL, "an unknown flag for opening"));
        }
        // SAFETY: the caller's promise.
        let path = unsafe { bytes(path) }?;
        if file.is_null() {
            return Err(Fail::null("file"));
        }
        let has = |flag| flags & flag != 0;
        let mut options = OpenOptions::new();
        options.read(has(XEN9P_READ)).write(has(XEN9P_WRITE));
        options.append(has(XEN9P_APPEND)).create(has(XEN9P_CREATE));
        options
            .create_new(has(XEN9P_EXCLUSIVE))
            .truncate(has(XEN9P_TRUNCATE));
        options.mode(mode & 0o7777);
        let opened = run(fs, async |fs| fs.open_with(path, &options).await)?;
        // SAFETY: the caller's promise.
        unsafe { give(file, "file", Open::File(Rc::new(opened))) }
    })
}

/// Reads at an offset; returns how many bytes, 0 at the end of the file.
///
/// # Safety
/// `into` is NULL or valid for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_read(
    handle: xen9p_handle,
    into: *mut c_void,
    size: usize,
    offset: u64,
) -> i64 {
    enter(|| {
        let file = file(handle)?;
        // SAFETY: the caller's promise.
        let into = unsafe { buffer_mut(into, size) }?;
        Ok(file
            .get_ref()
            .session()
            .block_on(file.read_at(into, offset))? as i64)
    })
}

/// Writes at an offset, or at the end if the file was opened so; returns how many bytes, which may be fewer.
///
/// # Safety
/// `from` is NULL or valid for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_write(
    handle: xen9p_handle,
    from: *const c_void,
    size: usize,
    offset: u64,
) -> i64 {
    enter(|| {
        let file = file(handle)?;
        // SAFETY: the caller's promise.
        let from = unsafe { buffer(from, size) }?;
        Ok(file
            .get_ref()
            .session()
            .block_on(file.write_at(from, offset))? as i64)
    })
}

/// Returns when content and attributes are as safe as the server can make them.
#[unsafe(no_mangle)]
pub extern "C" fn xen9p_sync(handle: xen9p_handle) -> i32 {
    enter_status(|| {
        let file = file(handle)?;
        Ok(file.get_ref().session().block_on(file.sync_all())?)
    })
}

/// Cuts or extends a file that is open for writing.
#[unsafe(no_mangle)]
pub extern "C" fn xen9p_truncate(handle: xen9p_handle, size: u64) -> i32 {
    enter_status(|| {
        let file = file(handle)?;
        Ok(file.get_ref().session().block_on(file.set_len(size))?)
    })
}

fn stat(found: &Metadata) -> xen9p_stat {
    let modified = found.modified();
    xen9p_stat {
        size: found.len(),
        ino: found.ino(),
        modified: modified.secs(),
        modified_nanos: modified.subsec_nanos(),
        mode: found.mode(),
        links: u32::try_from(found.nlink()).unwrap_or(u32::MAX),
        uid: found.uid(),
        gid: found.gid(),
    }
}

/// The attributes of what a path leads to.
///
/// # Safety
/// Pointers are NULL or valid; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_stat(
    fs: xen9p_handle,
    path: *const c_char,
    into: *mut xen9p_stat,
) -> i32 {
    enter_status(|| {
        // SAFETY: the caller's promise.
        let path = unsafe { bytes(path) }?;
        if into.is_null() {
            return Err(Fail::null("into"));
        }
        let found = run(fs, async |fs| fs.metadata(path).await)?;
        // SAFETY: as above.
        unsafe { into.write(stat(&found)) };
        Ok(())
    })
}

/// The attributes of an open file.
///
/// # Safety
/// `into` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_fstat(handle: xen9p_handle, into: *mut xen9p_stat) -> i32 {
    enter_status(|| {
        let file = file(handle)?;
        if into.is_null() {
            return Err(Fail::null("into"));
        }
        let found = file.get_ref().session().block_on(file.metadata())?;
        // SAFETY: the caller's promise.
        unsafe { into.write(stat(&found)) };
        Ok(())
    })
}

/// Opens a directory to be listed.
///
/// # Safety
/// Pointers are NULL or valid; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_opendir(
    fs: xen9p_handle,
    path: *const c_char,
    dir: *mut xen9p_handle,
) -> i32 {
    enter_status(|| {
        // SAFETY: the caller's promise.
        let path = unsafe { bytes(path) }?;
        if dir.is_null() {
            return Err(Fail::null("dir"));
        }
        let listing = run(fs, async |fs| fs.read_dir(path).await)?;
        // SAFETY: as above.
        unsafe { give(dir, "dir", Open::Dir(Rc::new(RefCell::new(listing)))) }
    })
}

/// The next entry of a directory, without "." and "..": 1, or 0 when there is none left.
///
/// # Safety
/// `into` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_readdir(dir: xen9p_handle, into: *mut xen9p_dirent) -> i32 {
    enter(|| {
        let Open::Dir(listing) = handles(|handles| handles.get(dir))? else {
            return Err(wrong("a directory"));
        };
        if into.is_null() {
            return Err(Fail::null("into"));
        }
        let mut listing = listing.borrow_mut();
        let session = listing.get_ref().session().clone();
        let Some(entry) = session.block_on(listing.next()).transpose()? else {
            return Ok(0);
        };
        let name = entry.file_name();
        let mut found = xen9p_dirent {
            ino: entry.ino(),
            kind: entry.known_type().map_or(0, |kind| kind.mode()),
            length: name.len() as u32,
            name: [0; 256],
        };
        match found.name.get_mut(..name.len()) {
            Some(place) if name.len() < 256 => {
                for (to, from) in place.iter_mut().zip(name) {
                    *to = *from as c_char;
                }
            }
            _ => {
                return Err(Fail::new(
                    Errno::ENAMETOOLONG,
                    "the server lists a name of over 255 bytes",
                ));
            }
        }
        // SAFETY: the caller's promise.
        unsafe { into.write(found) };
        Ok(1)
    }) as i32
}

/// Makes an empty directory.
///
/// # Safety
/// `path` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_mkdir(fs: xen9p_handle, path: *const c_char, mode: u32) -> i32 {
    enter_status(|| {
        // SAFETY: the caller's promise.
        let path = unsafe { bytes(path) }?;
        run(fs, async |fs| {
            fs.create_dir_with_mode(path, mode & 0o7777).await
        })
    })
}

/// Removes a file, or a symbolic link itself.
///
/// # Safety
/// `path` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_unlink(fs: xen9p_handle, path: *const c_char) -> i32 {
    enter_status(|| {
        // SAFETY: the caller's promise.
        let path = unsafe { bytes(path) }?;
        run(fs, async |fs| fs.remove_file(path).await)
    })
}

/// Removes an empty directory.
///
/// # Safety
/// `path` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_rmdir(fs: xen9p_handle, path: *const c_char) -> i32 {
    enter_status(|| {
        // SAFETY: the caller's promise.
        let path = unsafe { bytes(path) }?;
        run(fs, async |fs| fs.remove_dir(path).await)
    })
}

/// Renames, replacing a file of the new name.
///
/// # Safety
/// Both are NULL or end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_rename(
    fs: xen9p_handle,
    from: *const c_char,
    to: *const c_char,
) -> i32 {
    enter_status(|| {
        // SAFETY: the caller's promise.
        let (from, to) = unsafe { (bytes(from)?, bytes(to)?) };
        run(fs, async |fs| fs.rename(from, to).await)
    })
}

/// Closes a mount, a file, a directory, or gives an operation up; the handle is closed whatever this returns. A mount
/// stays connected until the last of its files is closed.
#[unsafe(no_mangle)]
pub extern "C" fn xen9p_close(handle: xen9p_handle) -> i32 {
    let close = || match handles(|handles| handles.take(handle))? {
        Open::File(file) => match Rc::try_unwrap(file) {
            Ok(file) => {
                let session = file.get_ref().session().clone();
                Ok(session.block_on(file.close())?)
            }
            // An operation still uses it, and closes it when it is over.
            Err(_) => Ok(()),
        },
        // Dropped: the operation is flushed, the mount disconnects with its last file.
        Open::Mount(_) | Open::Dir(_) | Open::Operation(_) => Ok(()),
    };
    enter_anyway(|| close().map(|()| 0)) as i32
}
