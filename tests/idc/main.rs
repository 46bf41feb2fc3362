//! Messages, transactions and remote buffers (`transport::idc`): over a host socket, and between two domains of the
//! simulated Xen.

mod both;
mod breaks;
mod common;
mod costs;
mod domains;
mod engine;
mod fused;
mod lies;
mod life;
mod refused;
mod sockets;
mod third;
mod transports;

#[path = "../../fuzz/src/idc.rs"]
mod fuzz;

#[global_allocator]
static ALLOCATOR: xen9p_testing::count::Counting = xen9p_testing::count::Counting;
