//! Thousands of random operations end as in a model, over lanes with any delay and order.

use std::time::Duration;

use crate::model::{LINUX, run};
use xen9p_testing::bed::memory::bed_with;
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

#[test]
fn random_operations_over_wild_lanes() {
    for seed in 1..=12 {
        let options = LaneOptions {
            lanes: 1 + (seed % 4) as u16,
            capacity: 40 << 10,
            latency: (Duration::ZERO, Duration::from_millis(seed % 3)),
            in_order: seed.is_multiple_of(2),
            seed,
            ..LaneOptions::default()
        };
        let server = MemOptions {
            untyped_entries: seed.is_multiple_of(3),
            io_limit: if seed.is_multiple_of(4) {
                1000
            } else {
                u32::MAX
            },
            ..MemOptions::default()
        };
        let bed = bed_with(options, server, |_| {});
        run(&bed.fs, seed, 1500, LINUX);
        bed.finish();
    }
}
