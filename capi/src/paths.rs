//! Where a call goes to: a path from a mount's root, a name in a node, a node, or an open file.

use alloc::rc::Rc;
use core::ffi::{CStr, c_char, c_void};
use core::slice;

use xen9p::errno::Errno;
use xen9p::tree::{Node as _, is_name};

use crate::error::{Fail, Result};
use crate::files::File;
use crate::handles::{Kind, wrong};
use crate::mount::Mount;
use crate::state::handles;
use crate::tree::{Tree, TreeNode};
use crate::xen9p_handle;

/// What a handle and a path lead to.
pub(crate) enum Place {
    /// A path from the root of the mount; symbolic links are followed.
    Path(Tree, &'static [u8]),
    /// A name in a directory.
    Name(TreeNode, &'static [u8]),
    Node(TreeNode),
    File(Rc<File>),
}

/// The bytes of a string.
///
/// # Safety
/// `text` is NULL or a string with a final NUL that lives as long as it is used.
pub(crate) unsafe fn bytes(text: *const c_char, name: &str) -> Result<&'static [u8]> {
    if text.is_null() {
        return Err(Fail::null(name));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// A buffer of the caller's to be filled.
///
/// # Safety
/// `memory` is NULL or valid for `size` bytes as long as it is used.
pub(crate) unsafe fn buffer_mut(memory: *mut c_void, size: usize) -> Result<&'static mut [u8]> {
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
pub(crate) unsafe fn buffer(memory: *const c_void, size: usize) -> Result<&'static [u8]> {
    // SAFETY: the caller's promise; it is only read.
    Ok(unsafe { buffer_mut(memory.cast_mut(), size) }?)
}

/// Where a call goes to.
///
/// # Safety
/// `path` is NULL or a string with a final NUL that lives until the call is over.
pub(crate) unsafe fn place(at: xen9p_handle, path: *const c_char) -> Result<(Rc<Mount>, Place)> {
    let open = handles(|handles| handles.get(at))?;
    let place = match open.kind {
        // SAFETY: the caller's promise.
        Kind::Mount(fs) => Place::Path(fs, unsafe { bytes(path, "the path") }?),
        Kind::Node(node) if path.is_null() => Place::Node(node),
        Kind::Node(node) => {
            // SAFETY: the caller's promise.
            let name = unsafe { bytes(path, "the name") }?;
            if !is_name(name) {
                return Err(Fail::new(
                    Errno::EINVAL,
                    "in a node there are names of up to 255 bytes, without '/' and other than \".\" and \"..\"",
                ));
            }
            Place::Name(node, name)
        }
        Kind::File(file) if path.is_null() => Place::File(file),
        _ => return Err(wrong("a mount or a node")),
    };
    Ok((open.mount, place))
}

impl Place {
    /// What is called so in a directory, as names are needed where something is made or removed.
    pub(crate) fn name(self) -> Result<Named> {
        match self {
            Place::Path(fs, path) => Ok(Named::Path(fs, path)),
            Place::Name(dir, name) => Ok(Named::In(dir, name)),
            Place::Node(_) | Place::File(_) => Err(Fail::null("the name")),
        }
    }
}

/// A name in the tree.
pub(crate) enum Named {
    Path(Tree, &'static [u8]),
    In(TreeNode, &'static [u8]),
}

/// The node that a name in a directory means.
pub(crate) async fn child(dir: &TreeNode, name: &[u8]) -> Result<TreeNode> {
    Ok(dir.walk(name).await?)
}
