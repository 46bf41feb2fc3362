//! Typed hypercalls.
//!
//! One module for each of Xen's hypercalls, one function for each operation, over any
//! [`Platform`]. Structures are built on the caller's stack in the layout of [`sys`],
//! answers come back as values, refusals as [`XenError`]. What could break memory is `unsafe`;
//! what can only fail is not.

mod error;

pub mod console_io;
pub mod event_channel;
pub mod grant_table;
pub mod hvm;
pub mod memory;
pub mod raw;
pub mod sched;
pub mod vcpu;
pub mod version;

use core::fmt;

use crate::platform::Platform;
use xen_abi as sys;

pub use error::XenError;

/// The number of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(pub u16);

impl DomId {
    /// In a hypercall: the domain that makes it.
    pub const SELF: DomId = DomId(sys::DOMID_SELF);

    /// The first number that no domain can have.
    pub const FIRST_RESERVED: DomId = DomId(sys::DOMID_FIRST_RESERVED);
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Makes hypercall `number` for operation `op` with a pointer to `argument`.
///
/// # Safety
/// `T` is the structure that Xen reads and writes for this operation, and what it points to is
/// valid for what Xen does with it.
unsafe fn operate<P: Platform, T>(
    platform: &P,
    number: u32,
    op: u32,
    argument: &mut T,
) -> Result<usize, XenError> {
    // SAFETY: `argument` is an exclusive reference, so its whole memory is valid for reads and
    // writes by Xen while the call runs; the caller vouches for the type and for what is behind it.
    let result = unsafe {
        platform.hypercall(
            number,
            [
                op as usize,
                (&raw mut *argument).expose_provenance(),
                0,
                0,
                0,
            ],
        )
    };
    XenError::check(result)
}
