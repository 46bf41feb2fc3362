//! 9P servers without Xen, and the transports to reach them.
//!
//! [`mem`] is our own, to be bent at will; [`lanes`] reaches it, or any function from request to
//! reply, over simulated rings on a simulated clock. [`raw`] talks to any of them without a session.

pub mod lanes;
pub mod mem;
pub mod raw;
