//! The C interface of xen9p; `include/xen9p.h` is made of it, and says how it is used.
//!
//! One kernel, one library: what is set up lives in a static. Handles are numbers with a generation, so that a closed
//! one is told from an open one, whatever took its place.
#![no_std]
#![allow(non_camel_case_types)]

extern crate alloc;

mod error;
mod files;
#[cfg(feature = "freestanding")]
mod freestanding;
mod handles;
mod operations;
mod platform;
mod reserve;
mod state;
mod version;

pub use error::{xen9p_describe, xen9p_last_error};
pub use files::*;
pub use operations::*;
pub use platform::{xen9p_hypercall, xen9p_platform, xen9p_ring};
#[doc(hidden)]
pub use reserve::Allocator;
pub use state::{xen9p_check_platform, xen9p_init, xen9p_mount, xen9p_mount_options};
pub use version::{XEN9P_VERSION, xen9p_version};

/// Something open: a mount, a file, a directory or an operation. 0 is never one.
pub type xen9p_handle = u32;
