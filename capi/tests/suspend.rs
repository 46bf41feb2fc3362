//! A kernel with files open is suspended: it goes on as before where that is cancelled, and with another backend where it
//! is resumed elsewhere.

mod kernel;

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};

use kernel::{GUEST, World, last_error, turn};
use xen9p::platform::Platform;
use xen9p_capi::*;

const NULL: *mut xen9p_handle = null_mut();

/// The machine's part.
struct Machine {
    world: World,
    /// What it returns.
    how: Cell<c_int>,
    /// How often it was called.
    calls: Cell<u32>,
}

unsafe extern "C" fn suspend(context: *mut c_void, ring: *mut xen9p_ring) -> c_int {
    // SAFETY: as the test hands it over; the ring is valid for this call.
    let (machine, ring) = unsafe { (&*context.cast::<Machine>(), &mut *ring) };
    machine.calls.set(machine.calls.get() + 1);
    if machine.how.get() == 0 {
        machine.world.restore();
        let now = machine.world.kernel.platform.xenstore_ring().unwrap();
        ring.page = now.page.as_ptr().cast();
        ring.port = now.port.0;
    }
    machine.how.get()
}

/// Whether the root can be looked at.
unsafe fn look(fs: xen9p_handle) -> i32 {
    let mut stat = xen9p_stat::default();
    // SAFETY: all pointers are valid.
    unsafe { xen9p_stat(fs, c"/".as_ptr(), 0, &mut stat, NULL) }
}

#[test]
fn files_outlive_what_the_domain_does() {
    let _turn = turn();
    for recovery in [0, 60] {
        let machine = Machine {
            world: World::new(),
            how: Cell::new(1),
            calls: Cell::new(0),
        };
        let before = machine.world.fake.usage(GUEST);
        let context = (&raw const machine).cast_mut().cast();
        let options = xen9p_mount_options {
            size: size_of::<xen9p_mount_options>(),
            recovery,
            ..Default::default()
        };
        let (mut fs, mut file) = (0, 0);
        // SAFETY: all pointers are valid.
        unsafe {
            assert_eq!(xen9p_init(&machine.world.callbacks()), 0);
            // Nothing is connected yet.
            assert_eq!(xen9p_suspend(Some(suspend), context), 1);
            assert_eq!(
                xen9p_mount(null(), &options, &mut fs, NULL),
                0,
                "{}",
                last_error()
            );
            let flags = XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE;
            let path = c"/f".as_ptr();
            assert_eq!(xen9p_open(fs, path, flags, 0o644, &mut file, NULL), 0);
            assert_eq!(xen9p_write(file, path.cast(), 2, 0, NULL), 2);
            // Cancelled, and not made at all.
            for how in [1, -5] {
                machine.how.set(how);
                assert_eq!(xen9p_suspend(Some(suspend), context), how);
                assert_eq!(look(fs), 0);
            }
            machine.how.set(0);
            for _ in 0..3 {
                assert_eq!(xen9p_suspend(Some(suspend), context), 0, "{}", last_error());
                let mut bytes = [0_u8; 2];
                let count = xen9p_read(file, bytes.as_mut_ptr().cast(), 2, 0, NULL);
                if recovery > 0 {
                    assert_eq!((count, &bytes), (2, b"/f"), "{}", last_error());
                    continue;
                }
                assert_eq!(count, -5, "{}", last_error());
                assert_eq!(xen9p_close(fs, NULL), 0);
                assert_eq!(
                    xen9p_mount(null(), &options, &mut fs, NULL),
                    0,
                    "{}",
                    last_error()
                );
                // What it says is told as started calls tell it.
                assert_eq!(xen9p_close(file, NULL), -5);
                assert!(last_error().starts_with("close: "), "{}", last_error());
                assert_eq!(xen9p_open(fs, path, flags, 0o644, &mut file, NULL), 0);
            }
            assert_eq!(xen9p_exit(), 0);
        }
        assert_eq!(machine.calls.get(), 6);
        let after = machine.world.fake.usage(GUEST);
        assert_eq!(after, before);
    }
}
