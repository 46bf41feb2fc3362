//! What the host-side tests stand on.
//!
//! * [`fake`]: a simulated Xen, that is a [`Platform`](xen9p::platform::Platform) with a grant
//!   table, event channels and a small xenstore;
//! * [`backend`]: 9pfs backends that follow the exact rules of QEMU and of xen-9pfsd, or break them;
//! * [`server`]: 9P servers that others wrote, and [`Transport`](xen9p::transport::Transport)s to
//!   reach them without Xen;
//! * [`bed`]: a mount, or a guest, that a test finds set up;
//! * [`gate`]: a tree in which requests wait until the test lets them through;
//! * [`count`]: an allocator that counts;
//! * [`random`]: random numbers that are the same in each run.

pub mod backend;
pub mod bed;
pub mod count;
pub mod fake;
pub mod gate;
pub mod random;
pub mod server;
