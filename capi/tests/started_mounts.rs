//! A mount that is started: beside other work, given up at any point, with a backend that never comes, and while the library
//! ends or the domain is saved.

mod kernel;

use std::cell::RefCell;
use std::ffi::{CStr, c_int, c_void};
use std::ptr::{null, null_mut};
use std::rc::Rc;

use kernel::{GUEST, World, finish, last_error, now, turn};
use xen9p::platform::Platform;
use xen9p::xen::xenbus::XenbusState;
use xen9p_capi::*;
use xen9p_testing::backend::{Faults, Program, Share};
use xen9p_testing::server::mem::{MemOptions, MemServer};

const NULL: *mut xen9p_handle = null_mut();

/// A step in which the other domains do a part of what they have to, in nanoseconds.
const STEP: u64 = 20_000;

/// The world with a second share.
fn world(faults: Faults) -> (World, Rc<RefCell<Share>>) {
    let world = World::new();
    let mut server = MemServer::new(MemOptions::default());
    let handler = Box::new(move |request: &[u8]| server.handle(request));
    let share = Share::new(
        &world.fake.dom0(),
        GUEST,
        1,
        "second",
        Program::Qemu,
        handler,
    );
    let share = Rc::new(RefCell::new(share.faulty(faults)));
    world.fake.share_peer(share.clone());
    (world, share)
}

fn stuck_in(state: XenbusState) -> Faults {
    Faults {
        stuck_in: Some(state),
        ..Faults::default()
    }
}

fn clock(world: &World) -> u64 {
    // SAFETY: the kernel is there.
    unsafe { now(world.callbacks().context) }
}

/// # Safety
/// The library is set up; `fs` lives until the operation is over.
unsafe fn start(tag: &'static CStr, timeout: u32, fs: *mut xen9p_handle) -> xen9p_handle {
    let options = xen9p_mount_options {
        size: size_of::<xen9p_mount_options>(),
        timeout,
        ..Default::default()
    };
    let mut op = 0;
    // SAFETY: all pointers are valid; the options are copied.
    let started = unsafe { xen9p_mount(tag.as_ptr(), &options, fs, &mut op) };
    assert_eq!(started, 0, "{}", last_error());
    op
}

/// # Safety
/// The library is set up.
unsafe fn look(fs: xen9p_handle) -> i32 {
    let mut stat = xen9p_stat::default();
    // SAFETY: all pointers are valid.
    unsafe { xen9p_stat(fs, c"/".as_ptr(), 0, &mut stat, NULL) }
}

#[test]
fn other_work_goes_on_beside_it() {
    let _turn = turn();
    for own_drivers in [false, true] {
        let (mut world, _share) = world(Faults::default());
        if own_drivers {
            world = world.with_drivers();
        }
        let callbacks = match own_drivers {
            true => world.drivers(),
            false => world.callbacks(),
        };
        let (mut first, mut second, mut again, mut op) = (0, 0, 0, 0);
        // SAFETY: all pointers are valid.
        unsafe {
            assert_eq!(xen9p_init(&callbacks), 0);
            assert_eq!(xen9p_mount(c"share".as_ptr(), null(), &mut first, NULL), 0);
            let mounting = start(c"second", 0, &mut second);
            // Each mount of it is the same device.
            assert_eq!(
                xen9p_mount(c"second".as_ptr(), null(), &mut again, NULL),
                -16
            );
            let mut stat = xen9p_stat::default();
            let mut done = 0;
            loop {
                match xen9p_poll(mounting) {
                    result if result == -XEN9P_EINPROGRESS => {}
                    result => {
                        assert_eq!(result, 0, "{}", last_error());
                        break;
                    }
                }
                assert_eq!(second, 0);
                assert_eq!(xen9p_stat(first, c"/".as_ptr(), 0, &mut stat, &mut op), 0);
                assert_eq!(finish(op), 0, "{}", last_error());
                done += 1;
                assert_eq!(xen9p_wait(first, clock(&world) + STEP), 0);
            }
            assert!(done > 0);
            assert_eq!(look(second), 0);
            // Mounted once more it is there at once.
            let op = start(c"second", 0, &mut again);
            assert_eq!(xen9p_poll(op), 0);
            assert_eq!(look(again), 0);
            assert_eq!(xen9p_exit(), 0);
        }
    }
}

#[test]
fn it_is_given_up_at_any_point() {
    let _turn = turn();
    let (world, share) = world(Faults::default());
    let before = world.fake.usage(GUEST);
    let mut given_up = 0;
    for steps in 0.. {
        let mut fs = 0;
        // SAFETY: all pointers are valid.
        unsafe {
            assert_eq!(xen9p_init(&world.callbacks()), 0);
            let op = start(c"second", 0, &mut fs);
            for _ in 0..steps {
                assert_eq!(xen9p_wait(op, clock(&world) + STEP), 0);
            }
            if fs != 0 {
                // It was over.
                assert_eq!(xen9p_poll(op), 0);
                break;
            }
            let begun = clock(&world);
            assert_eq!(xen9p_close(op, NULL), 0, "{}", last_error());
            assert!(clock(&world) - begun < 1_000_000_000);
            assert_eq!(share.borrow().rings(), 0);
            // And mounted after all.
            let mounted = xen9p_mount(c"second".as_ptr(), null(), &mut fs, NULL);
            assert_eq!(mounted, 0, "after {steps} steps: {}", last_error());
            assert_eq!(look(fs), 0);
            assert_eq!(xen9p_exit(), 0);
        }
        assert_eq!(world.fake.usage(GUEST), before, "after {steps} steps");
        given_up += 1;
    }
    assert!(given_up > 3, "{given_up}");
    assert_eq!(xen9p_exit(), 0);
    assert_eq!(world.fake.usage(GUEST), before);
}

#[test]
fn a_backend_that_never_comes_is_an_error_in_time() {
    let _turn = turn();
    for state in [XenbusState::Initialising, XenbusState::InitWait] {
        let (world, _share) = world(stuck_in(state));
        let before = world.fake.usage(GUEST);
        let (mut first, mut second) = (0, 0);
        // SAFETY: all pointers are valid.
        unsafe {
            assert_eq!(xen9p_init(&world.callbacks()), 0);
            assert_eq!(xen9p_mount(null(), null(), &mut first, NULL), 0);
            let begun = clock(&world);
            let op = start(c"second", 2, &mut second);
            let (mut longest, mut waits) = (0, 0);
            let mut polled = clock(&world);
            let result = loop {
                let result = xen9p_poll(op);
                longest = longest.max(clock(&world) - polled);
                if result != -XEN9P_EINPROGRESS {
                    break result;
                }
                waits += 1;
                assert_eq!(xen9p_wait(first, XEN9P_FOREVER), 0);
                polled = clock(&world);
            };
            assert!(waits < 100, "{waits}");
            assert_eq!(result, -110, "{state:?}: {}", last_error());
            assert!(last_error().contains("waited"), "{}", last_error());
            // Two steps at most, and the end of what was offered; no poll waits for any of it.
            let took = clock(&world) - begun;
            assert!((2..15).contains(&(took / 1_000_000_000)), "{took}");
            assert!(longest < 100_000_000, "{longest}");
            // Waited for as one operation, it takes as long.
            let op = start(c"second", 2, &mut second);
            assert_eq!(finish(op), -110);
            assert_eq!(look(first), 0);
            assert_eq!(xen9p_exit(), 0);
        }
        assert_eq!(world.fake.usage(GUEST), before);
    }
}

#[test]
fn the_end_of_the_library_is_the_end_of_it() {
    let _turn = turn();
    for state in [XenbusState::Initialising, XenbusState::InitWait] {
        let (world, share) = world(stuck_in(state));
        let before = world.fake.usage(GUEST);
        let mut fs = 0;
        // SAFETY: all pointers are valid.
        unsafe {
            for _ in 0..2 {
                assert_eq!(xen9p_init(&world.callbacks()), 0);
                let op = start(c"second", 60, &mut fs);
                assert_eq!(xen9p_wait(op, clock(&world) + 1_000_000_000), 0);
                assert_eq!(xen9p_poll(op), -XEN9P_EINPROGRESS);
                assert_eq!(xen9p_exit(), 0);
                assert_eq!(xen9p_poll(op), -6);
                assert_eq!(world.fake.usage(GUEST), before);
            }
            // A backend in order again.
            *share.borrow_mut() = {
                let mut server = MemServer::new(MemOptions::default());
                let handler = Box::new(move |request: &[u8]| server.handle(request));
                let dom0 = world.fake.dom0();
                Share::new(&dom0, GUEST, 1, "second", Program::Qemu, handler)
            };
            assert_eq!(xen9p_init(&world.callbacks()), 0);
            let op = start(c"second", 0, &mut fs);
            assert_eq!(finish(op), 0, "{}", last_error());
            assert_eq!(look(fs), 0);
            assert_eq!(xen9p_exit(), 0);
        }
    }
}

/// The machine's part of a suspend.
struct Machine {
    world: World,
    how: c_int,
}

unsafe extern "C" fn suspend(context: *mut c_void, ring: *mut xen9p_ring) -> c_int {
    // SAFETY: as the test hands it over; the ring is valid for this call.
    let (machine, ring) = unsafe { (&*context.cast::<Machine>(), &mut *ring) };
    if machine.how == 0 {
        machine.world.restore();
        let now = machine.world.kernel.platform.xenstore_ring().unwrap();
        ring.page = now.page.as_ptr().cast();
        ring.port = now.port.0;
    }
    machine.how
}

/// After a cancelled suspend it goes on; in a domain that was resumed elsewhere it is over, and can be made again.
#[test]
fn the_domain_may_be_saved_meanwhile() {
    let _turn = turn();
    let (mut mounted, mut lost) = (0, 0);
    for how in [1, 0] {
        for steps in 0..12 {
            let mut machine = Machine {
                world: World::new(),
                how,
            };
            let before = machine.world.fake.usage(GUEST);
            let mut fs = 0;
            // SAFETY: all pointers are valid.
            unsafe {
                assert_eq!(xen9p_init(&machine.world.callbacks()), 0);
                let op = start(c"share", 0, &mut fs);
                for _ in 0..steps {
                    assert_eq!(xen9p_wait(op, clock(&machine.world) + STEP), 0);
                }
                let begun = clock(&machine.world);
                let context = (&raw mut machine).cast();
                assert_eq!(
                    xen9p_suspend(Some(suspend), context),
                    how,
                    "{}",
                    last_error()
                );
                match finish(op) {
                    0 => mounted += 1,
                    // At once, and not when its time is over.
                    -5 => {
                        assert_eq!(how, 0);
                        assert!(clock(&machine.world) - begun < 5_000_000_000);
                        lost += 1;
                    }
                    other => panic!("{how}, {steps} steps: {other}: {}", last_error()),
                }
                if look(fs) != 0 {
                    assert_eq!(how, 0);
                    let again = xen9p_mount(null(), null(), &mut fs, NULL);
                    assert_eq!(again, 0, "{steps} steps: {}", last_error());
                    assert_eq!(look(fs), 0);
                }
                assert_eq!(xen9p_exit(), 0);
            }
            assert_eq!(
                machine.world.fake.usage(GUEST),
                before,
                "{how}, {steps} steps"
            );
        }
    }
    assert!(mounted >= 12 && lost > 2, "{mounted}, {lost}");
}
