//! A 9P server with a client that sends anything, in any order.

/// Input: see the module it is handed to, which has random sessions of its own in `cargo test -p p9-server`.
pub fn run(input: &[u8]) {
    xen9p_testing::server::hostile::run(input);
}
