//! The C interface of xen9p; `include/xen9p.h` is made of it, and says how it is used.
//!
//! One kernel, one library: what is set up lives in a static. Handles are numbers with a generation, so that a closed
//! one is told from an open one, whatever took its place. A call is a future; `operations` runs it to its end or hands out
//! a handle to it, and `threads` says who may work in here, and who sleeps.
#![no_std]
#![allow(non_camel_case_types)]

extern crate alloc;

mod attrs;
mod dirs;
mod error;
mod files;
#[cfg(feature = "freestanding")]
mod freestanding;
mod handles;
#[cfg(feature = "vchan")]
mod memory_tree;
mod mount;
mod names;
mod operations;
mod paths;
mod platform;
mod reserve;
#[cfg(feature = "vchan")]
mod serve;
mod state;
mod store;
mod threads;
mod tree;
#[cfg(feature = "vchan")]
mod vchan;
mod version;
mod xattrs;

pub use attrs::*;
pub use dirs::{xen9p_dirent, xen9p_opendir, xen9p_readdir, xen9p_seekdir};
pub use error::{xen9p_describe, xen9p_last_error};
pub use files::{
    XEN9P_APPEND, XEN9P_CREATE, XEN9P_EXCLUSIVE, XEN9P_LOCK_EXCLUSIVE, XEN9P_LOCK_NONE,
    XEN9P_LOCK_SHARED, XEN9P_READ, XEN9P_TRUNCATE, XEN9P_WRITE, xen9p_close, xen9p_lock,
    xen9p_open, xen9p_read, xen9p_sync, xen9p_write,
};
pub use mount::{xen9p_mount, xen9p_mount_options, xen9p_tag};
pub use names::{
    xen9p_link, xen9p_lookup, xen9p_mkdir, xen9p_mknod, xen9p_readlink, xen9p_rename, xen9p_rmdir,
    xen9p_symlink, xen9p_unlink,
};
pub use operations::{XEN9P_EINPROGRESS, XEN9P_FOREVER, xen9p_poll, xen9p_wait};
pub use platform::{
    XEN9P_WINDOW_EMPTY, XEN9P_WINDOW_FOREIGN, XEN9P_WINDOW_OWN, xen9p_hypercall, xen9p_platform,
    xen9p_ring,
};
#[doc(hidden)]
pub use reserve::Allocator;
#[cfg(feature = "vchan")]
pub use serve::xen9p_serve;
pub use state::{xen9p_check_platform, xen9p_exit, xen9p_init, xen9p_suspend};
pub use store::{xen9p_store_error, xen9p_watch_fired};
pub use version::{XEN9P_VERSION, xen9p_version};
pub use xattrs::{xen9p_getxattr, xen9p_setxattr};

/// Something open: a mount, a node, a file, a directory or an operation. 0 is never one.
pub type xen9p_handle = u32;
