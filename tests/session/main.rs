//! The session: requests in flight, connections that are lost, servers that lie, and what a request costs the client.

extern crate alloc;

mod ahead;
mod allocations;
mod auth;
mod capture;
mod copies;
mod flow;
mod lies;
mod odd_replies;
mod recovery;
mod reentry;
mod soak;
mod trace;

use xen9p_testing::count::Counting;

// It counts for each thread, and each test has a thread of its own.
#[global_allocator]
static ALLOCATOR: Counting = Counting;
