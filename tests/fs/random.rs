//! Thousands of random operations end as in a model, over lanes with any delay and order.

use std::time::Duration;

use crate::model::{LINUX, run};
use xen9p::fs::MountOptions;
use xen9p_testing::bed::memory::bed_with;
use xen9p_testing::bed::recovering::site_on;
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::{MemOptions, MemServer};

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

/// With all that makes a mount fast, and with nothing of it, over servers whose answers are short, late and in any order; and
/// over connections that would be found again.
#[test]
fn what_makes_a_mount_fast_changes_no_result() {
    let slow = MountOptions::new()
        .read_ahead(0)
        .keep_dirs(Duration::ZERO)
        .window(2);
    let fast = MountOptions::new().read_ahead(4 << 20).window(256);
    for seed in 1..=8 {
        for (mount, recovers) in [(&slow, false), (&fast, false), (&fast, true)] {
            let lanes = LaneOptions {
                lanes: 1 + (seed % 3) as u16,
                capacity: 40 << 10,
                latency: (Duration::ZERO, Duration::from_millis(seed % 4)),
                in_order: seed % 2 == 0,
                seed,
                ..LaneOptions::default()
            };
            let server = MemServer::new(MemOptions {
                io_limit: [u32::MAX, 1000, 5000][seed as usize % 3],
                untyped_entries: seed.is_multiple_of(4),
                ..MemOptions::default()
            });
            let site = site_on(server, lanes, mount, recovers);
            run(&site.fs, seed, 800, LINUX);
            site.finish(0);
        }
    }
}
