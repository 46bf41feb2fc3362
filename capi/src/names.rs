//! Names: found, made, removed, changed.

use alloc::boxed::Box;
use core::ffi::{c_char, c_void};

use xen9p::errno::Errno;
use xen9p::p9::wire::UnlinkFlags;
use xen9p::tree::{Make, Node as _, Walked};

use crate::error::{Fail, Result, Tried, copy_text};
use crate::handles::{Kind, Open, wrong};
use crate::mount::Mount;
use crate::operations::submit;
use crate::paths::{Named, Place, buffer_mut, bytes, child, place};
use crate::state::{enter, give};
use crate::tree::TreeNode;
use crate::xen9p_handle;

/// The node that a place means, with the symbolic links of a path followed.
pub(crate) async fn target(place: Place) -> Result<TreeNode> {
    match place {
        Place::Path(fs, path) => Ok(fs.node_at(path, true).await?),
        place => node(place).await,
    }
}

/// The node that a place means. Symbolic links are not followed.
pub(crate) async fn node(place: Place) -> Result<TreeNode> {
    let (fs, path) = match place {
        Place::Path(fs, path) => (fs, path),
        Place::Name(dir, name) => return child(&dir, name).await,
        Place::Node(node) => return Ok(node),
        Place::File(_) => return Err(wrong("a mount or a node")),
    };
    let names = path.split(|&byte| byte == b'/');
    let names: alloc::vec::Vec<_> = names
        .filter(|name| !name.is_empty() && name != b".")
        .collect();
    if names.contains(&&b".."[..]) {
        return Err(Fail::new(Errno::EINVAL, "\"..\" leads to no node"));
    }
    match fs.root().walk_at(&names).await? {
        Walked::Through(node, _) => Ok(node),
        Walked::Link(_) => Err(Fail::new(
            Errno::ELOOP,
            "a symbolic link on the way, which is not followed to a node",
        )),
        Walked::Blocked(_, error) => Err(error.into()),
    }
}

/// Finds a node: a file or directory itself, whether open or not, for as long as the handle is not closed, whatever becomes
/// of its name. Symbolic links are not followed. In a mount `path` leads from the root, which is "/"; in a node it is
/// one name.
///
/// # Safety
/// Pointers are NULL or valid; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_lookup(
    at: xen9p_handle,
    path: *const c_char,
    found: *mut xen9p_handle,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("lookup", path) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let (mount, place) = unsafe { place(at, path) }?;
        if found.is_null() {
            return Err(Fail::null("found"));
        }
        let of = mount.clone();
        let future = async move {
            let kind = Kind::Node(node(place).await?);
            // SAFETY: the caller's promise.
            unsafe { give(found, "found", Open { mount: of, kind }) }?;
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

/// Makes an empty directory.
///
/// # Safety
/// Pointers are NULL or valid; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_mkdir(
    at: xen9p_handle,
    path: *const c_char,
    mode: u32,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("mkdir", path) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let (mount, place) = unsafe { place(at, path) }?;
        let place = place.name()?;
        let future = async move {
            match place {
                Named::Path(fs, path) => fs.create_dir_with_mode(path, mode & 0o7777).await?,
                Named::In(dir, name) => dir.make(name, Make::Dir, mode & 0o7777, u32::MAX).await?,
            }
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

/// Makes a device, a pipe, a socket name or an empty file, as the kind in `mode` says.
///
/// # Safety
/// Pointers are NULL or valid; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_mknod(
    at: xen9p_handle,
    path: *const c_char,
    mode: u32,
    major: u32,
    minor: u32,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("mknod", path) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let (mount, place) = unsafe { place(at, path) }?;
        let place = place.name()?;
        let future = async move {
            match place {
                Named::Path(fs, path) => fs.mknod(path, mode, major, minor).await?,
                Named::In(dir, name) => {
                    let what = Make::Node { major, minor };
                    dir.make(name, what, mode, u32::MAX).await?;
                }
            }
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

unsafe fn remove(
    at: xen9p_handle,
    path: *const c_char,
    is_dir: bool,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at(if is_dir { "rmdir" } else { "unlink" }, path) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let (mount, place) = unsafe { place(at, path) }?;
        let place = place.name()?;
        let future = async move {
            match (place, is_dir) {
                (Named::Path(fs, path), false) => fs.remove_file(path).await?,
                (Named::Path(fs, path), true) => fs.remove_dir(path).await?,
                (Named::In(dir, name), false) => dir.unlink(name, UnlinkFlags::empty()).await?,
                (Named::In(dir, name), true) => dir.unlink(name, UnlinkFlags::REMOVE_DIR).await?,
            }
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

/// Removes a file, or a symbolic link itself.
///
/// # Safety
/// Pointers are NULL or valid; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_unlink(
    at: xen9p_handle,
    path: *const c_char,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { remove(at, path, false, op) }
}

/// Removes an empty directory.
///
/// # Safety
/// As xen9p_unlink().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_rmdir(
    at: xen9p_handle,
    path: *const c_char,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { remove(at, path, true, op) }
}

/// Both ends of a call, which are of one mount, and of one kind.
///
/// # Safety
/// As [`place`].
unsafe fn two(
    at: xen9p_handle,
    path: *const c_char,
    to: xen9p_handle,
    new_path: *const c_char,
) -> Result<(alloc::rc::Rc<Mount>, Place, Place)> {
    // SAFETY: the caller's promise.
    let ((mount, from), (other, to)) = unsafe { (place(at, path)?, place(to, new_path)?) };
    if !alloc::rc::Rc::ptr_eq(&mount, &other) {
        return Err(Fail::new(Errno::EXDEV, "these are two mounts"));
    }
    Ok((mount, from, to))
}

fn mixed() -> Fail {
    Fail::new(
        Errno::EINVAL,
        "a path of a mount and a name in a node can't be combined",
    )
}

/// Renames, replacing a file of the new name. Both ends by paths, or both by names in nodes; -EXDEV (18) unless of one mount.
///
/// # Safety
/// Pointers are NULL or valid; paths end with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_rename(
    at: xen9p_handle,
    path: *const c_char,
    to: xen9p_handle,
    new_path: *const c_char,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::from_to("rename", path, new_path) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let (mount, from, to) = unsafe { two(at, path, to, new_path) }?;
        let (from, to) = (from.name()?, to.name()?);
        let future = async move {
            match (from, to) {
                (Named::Path(fs, from), Named::Path(_, to)) => fs.rename(from, to).await?,
                (Named::In(dir, name), Named::In(to, new_name)) => {
                    dir.rename(name, &to, new_name).await?;
                }
                _ => return Err(mixed()),
            }
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

/// Gives a file one more name. The file by a path, a name in a node, or a node; the new name as xen9p_rename().
///
/// # Safety
/// As xen9p_rename().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_link(
    at: xen9p_handle,
    path: *const c_char,
    to: xen9p_handle,
    new_path: *const c_char,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::from_to("link", path, new_path) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let (mount, from, to) = unsafe { two(at, path, to, new_path) }?;
        let to = to.name()?;
        let future = async move {
            match (from, to) {
                (Place::Path(fs, from), Named::Path(_, to)) => fs.hard_link(from, to).await?,
                (Place::Path(..), _) | (_, Named::Path(..)) => return Err(mixed()),
                (from, Named::In(dir, name)) => dir.link(&node(from).await?, name).await?,
            }
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

/// Makes a symbolic link that says `target`.
///
/// # Safety
/// As xen9p_rename().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_symlink(
    target: *const c_char,
    at: xen9p_handle,
    path: *const c_char,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::from_to("symlink", target, path) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let ((mount, place), target) = unsafe { (place(at, path)?, bytes(target, "the target")?) };
        let place = place.name()?;
        let future = async move {
            match place {
                Named::Path(fs, path) => fs.symlink(target, path).await?,
                Named::In(dir, name) => {
                    let what = Make::Symlink(target);
                    dir.make(name, what, 0o777, u32::MAX).await?;
                }
            }
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

/// What a symbolic link says. Copied with a final NUL as far as it fits; returns its whole length.
///
/// # Safety
/// Pointers are NULL or valid, `into` for `size` bytes, until the call is over; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_readlink(
    at: xen9p_handle,
    path: *const c_char,
    into: *mut c_char,
    size: usize,
    op: *mut xen9p_handle,
) -> i64 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("readlink", path) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let (mount, place) = unsafe { place(at, path) }?;
        // SAFETY: the caller's promise.
        let into = unsafe { buffer_mut(into.cast::<c_void>(), size) }?;
        let future = async move {
            let target = match place {
                Place::Path(fs, path) => fs.read_link(path).await?,
                place => node(place).await?.readlink().await?,
            };
            // SAFETY: the buffer is valid.
            Ok(unsafe { copy_text(&target, into.as_mut_ptr(), into.len()) } as i64)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    })
}
