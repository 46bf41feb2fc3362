//! Typed hypercalls.
//!
//! One module for each of Xen's hypercalls, one function for each operation, over any
//! [`Platform`]. Structures are built on the caller's stack in the layout of [`xen_abi`],
//! answers come back as values, refusals as [`XenError`]. What could break memory is `unsafe`;
//! what can only fail is not.
//!
//! ```
//! use xen_guest::hypercall::sched::{ShutdownReason, shutdown};
//! use xen_guest::hypercall::version::version;
//! use xen_guest::hypercall::{XenError, memory};
//! use xen_guest::platform::Platform;
//!
//! /// Says what runs below, and powers off.
//! fn last_words<P: Platform>(platform: &P) -> Result<(), XenError> {
//!     let pages = memory::current_reservation(platform)?;
//!     println!("Xen {}, {pages} pages", version(platform)?);
//!     shutdown(platform, ShutdownReason::PowerOff)
//! }
//! ```

mod error;

pub mod argo;
pub mod console_io;
pub mod event_channel;
pub mod grant_table;
pub mod hvm;
pub mod memory;
pub mod raw;
pub mod sched;
pub mod vcpu;
pub mod version;

use crate::platform::Platform;

pub use error::XenError;
pub use xen_abi::DomId;

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
