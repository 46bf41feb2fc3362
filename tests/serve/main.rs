//! A domain that serves the 9pfs devices of others, on the simulated Xen: frontends of ours and of the test's own, which lie,
//! go and die.

mod common;
mod files;
mod lies;
mod life;
mod slow;
