//! A loop that polls its operations and waits when none is over never waits for what is there already, in whatever order it
//! polls, no matter which call took the answer in.

mod kernel;

use std::ptr::{null, null_mut};
use std::time::Duration;

use kernel::{World, last_error, now, turn};
use xen9p_capi::*;

const NULL: *mut xen9p_handle = null_mut();

/// How long each wait may take, in nanoseconds of the simulated clock: far longer than the server needs.
const LIMIT: u64 = 5_000_000_000;

/// All orders of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for thing in 0..count {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, thing);
                    order
                })
            })
            .collect();
    }
    orders
}

#[test]
fn no_wake_up_is_lost_in_any_order() {
    let _turn = turn();
    let world = World::new();
    let callbacks = world.callbacks();
    let clock = || {
        // SAFETY: the kernel is there.
        unsafe { now(callbacks.context) }
    };
    let mut fs = 0;
    let mut waits = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&callbacks), 0);
        assert_eq!(
            xen9p_mount(null(), null(), &mut fs, NULL),
            0,
            "{}",
            last_error()
        );
        let (mut file, flags) = (0, XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE);
        assert_eq!(
            xen9p_open(fs, c"/f".as_ptr(), flags, 0o644, &mut file, NULL),
            0
        );
        let data = vec![1_u8; 4000];
        assert_eq!(xen9p_write(file, data.as_ptr().cast(), 4000, 0, NULL), 4000);
        for order in orders(4) {
            for polls in 1..=order.len() {
                let mut buffers = vec![[0_u8; 1000]; order.len()];
                let mut ops = vec![0; order.len()];
                for (index, (op, buffer)) in ops.iter_mut().zip(&mut buffers).enumerate() {
                    let (into, at) = (buffer.as_mut_ptr().cast(), index as u64 * 1000);
                    assert_eq!(xen9p_read(file, into, 1000, at, op), 0);
                }
                let mut left = order.clone();
                while !left.is_empty() {
                    // So many of them at a time, each time beginning with another.
                    let some: Vec<usize> = left.iter().copied().take(polls).collect();
                    let before = left.len();
                    for index in some {
                        match xen9p_poll(ops[index]) {
                            result if result == -XEN9P_EINPROGRESS => {}
                            result => {
                                assert_eq!(result, 1000, "{}", last_error());
                                left.retain(|&other| other != index);
                            }
                        }
                    }
                    if left.len() == before {
                        left.rotate_left(polls.min(before) % before.max(1));
                        let deadline = clock() + LIMIT;
                        assert_eq!(xen9p_wait(fs, deadline), 0);
                        assert!(
                            clock() < deadline,
                            "{order:?}, {polls} at a time, {left:?} left"
                        );
                        waits += 1;
                    }
                }
            }
        }
        assert_eq!(xen9p_exit(), 0);
    }
    assert!(waits > 100, "{waits}");
}

#[test]
fn an_answer_that_another_call_took_in_ends_the_next_wait_at_once() {
    let _turn = turn();
    let world = World::new();
    let mut fs = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&world.callbacks()), 0);
        assert_eq!(
            xen9p_mount(null(), null(), &mut fs, NULL),
            0,
            "{}",
            last_error()
        );
        let (mut first, mut second) = (0, 0);
        let (mut one, mut two) = (xen9p_stat::default(), xen9p_stat::default());
        let root = c"/".as_ptr();
        for round in 0..10 {
            assert_eq!(xen9p_stat(fs, root, 0, &mut one, &mut first), 0);
            assert_eq!(xen9p_poll(first), -XEN9P_EINPROGRESS);
            // The backend answers, and another call takes answer and event in.
            world.fake.settle();
            assert_eq!(xen9p_stat(fs, root, 0, &mut two, &mut second), 0);
            for _ in 0..3 {
                assert_eq!(xen9p_poll(second), -XEN9P_EINPROGRESS);
            }
            assert_eq!(xen9p_wait(fs, XEN9P_FOREVER), 0);
            assert_eq!(
                xen9p_poll(second),
                -XEN9P_EINPROGRESS,
                "round {round}: the wait was for the other answer"
            );
            assert_eq!(xen9p_poll(first), 0);
            assert_eq!(xen9p_wait(second, XEN9P_FOREVER), 0);
            assert_eq!(xen9p_poll(second), 0);
        }
        assert_eq!(xen9p_exit(), 0);
    }
}

/// Where nothing comes any more, a call ends in time whether the kernel sleeps in it or only polls.
#[test]
fn a_call_without_an_answer_ends_in_time() {
    let _turn = turn();
    for polls in [false, true] {
        let world = World::new();
        let options = xen9p_mount_options {
            size: size_of::<xen9p_mount_options>(),
            timeout: 2,
            ..Default::default()
        };
        let (mut fs, mut op, mut stat) = (0, 0, xen9p_stat::default());
        // SAFETY: all pointers are valid.
        unsafe {
            assert_eq!(xen9p_init(&world.callbacks()), 0);
            assert_eq!(
                xen9p_mount(null(), &options, &mut fs, NULL),
                0,
                "{}",
                last_error()
            );
            world.fake.remove_peers();
            let begun = world.fake.now();
            let mut result = -XEN9P_EINPROGRESS;
            if polls {
                assert_eq!(xen9p_stat(fs, c"/".as_ptr(), 0, &mut stat, &mut op), 0);
                while result == -XEN9P_EINPROGRESS {
                    world.fake.run_for(Duration::from_millis(10));
                    result = xen9p_poll(op);
                }
            } else {
                result = xen9p_stat(fs, c"/".as_ptr(), 0, &mut stat, NULL).into();
            }
            assert!(result < 0, "{result}");
            let took = world.fake.now() - begun;
            assert!(took < Duration::from_secs(10), "{took:?}: {}", last_error());
            assert_eq!(xen9p_exit(), 0);
        }
    }
}
