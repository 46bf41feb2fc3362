//! 9P servers without Xen, and the transports to reach them.
//!
//! [`mem`] is our own, to be bent at will; [`lanes`] reaches it, or any function from request to
//! reply, over simulated rings on a simulated clock, and [`lies`] knows what may go wrong there.
//! [`raw`] talks to any server without a session.
//!
//! [`real`] has servers that others wrote, over a socket; [`qemu`] has QEMU's, over the virtio
//! device that a guest would use, with no guest. [`still`] is for measuring the client alone.

pub mod hostile;
pub mod lanes;
pub mod lies;
pub mod mem;
#[cfg(feature = "servers")]
pub mod qemu;
pub mod raw;
#[cfg(feature = "servers")]
pub mod real;
pub mod still;
pub mod xen9pfsd;

#[cfg(feature = "servers")]
pub use tempfile::TempDir;
