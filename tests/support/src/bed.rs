//! What a test finds set up: a mount over the server in memory, one whose server goes
//! away and comes back, or a guest with a 9pfs device on the simulated Xen.

pub mod guest;
pub mod memory;
pub mod recovering;
