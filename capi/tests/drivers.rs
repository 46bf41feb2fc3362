//! A kernel that has drivers for everything already: its xenbus, with requests under way, its grant table, with another
//! frontend, and its event dispatcher go on as if the library were not there.

mod kernel;

use std::ptr::{null, null_mut};

use kernel::{GUEST, World, last_error, turn};
use xen9p::xen::store::wire::Kind;
use xen9p_capi::*;

const NULL: *mut xen9p_handle = null_mut();

/// Writes a file, reads it, removes it.
unsafe fn use_files(fs: xen9p_handle) {
    let mut file = 0;
    let data: Vec<u8> = (0..200_000_u32).map(|n| (n / 3) as u8).collect();
    let mut read = vec![0; data.len()];
    let flags = XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE;
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(
            xen9p_open(fs, c"/f".as_ptr(), flags, 0o644, &mut file, NULL),
            0
        );
        let mut done = 0;
        while done < data.len() {
            let from = data[done..].as_ptr().cast();
            let count = xen9p_write(file, from, data.len() - done, done as u64, NULL);
            assert!(count > 0, "{count}: {}", last_error());
            done += count as usize;
        }
        let count = xen9p_read(file, read.as_mut_ptr().cast(), read.len(), 0, NULL);
        assert_eq!(count, data.len() as i64);
        assert!(read == data);
        assert_eq!(xen9p_close(file, NULL), 0);
        assert_eq!(xen9p_unlink(fs, c"/f".as_ptr(), NULL), 0);
    }
}

#[test]
fn the_drivers_of_the_kernel_notice_nothing() {
    let _turn = turn();
    let world = World::new().with_drivers();
    let own = world.own();
    // Another frontend has granted pages, and xenbus has a watch and requests without an answer.
    let theirs: Vec<u32> = (0..100)
        .map(|n| own.grant(0, 0x1000 + n).unwrap())
        .collect();
    let before: Vec<_> = theirs.iter().map(|&it| own.granted(it)).collect();
    own.submit(Kind::WATCH, 0, b"control\0theirs\0");
    let pending: Vec<u32> = (0..5)
        .map(|_| own.submit(Kind::READ, 0, b"domid\0"))
        .collect();
    world.fake.settle();
    let usage = world.fake.usage(GUEST);
    let mut fs = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&world.drivers()), 0);
        let mut breaches: Vec<String> = Vec::new();
        let context = (&raw mut breaches).cast();
        assert_eq!(xen9p_check_platform(Some(note), context), 0, "{breaches:?}");
        assert_eq!(
            xen9p_mount(c"share".as_ptr(), null(), &mut fs, NULL),
            0,
            "{}",
            last_error()
        );
        assert!(own.used() > theirs.len());
        use_files(fs);
        let after: Vec<_> = theirs.iter().map(|&it| own.granted(it)).collect();
        assert_eq!(after, before);
        // Its xenbus has all its answers.
        for request in pending {
            let answer = own.answer(request, &mut |_, _| {});
            assert_eq!(answer.payload, b"3");
        }
        world
            .fake
            .dom0()
            .write("/local/domain/3/control/shutdown", "suspend");
        world.fake.settle();
        own.pump(&mut |_, _| {});
        let fired = own
            .fired
            .borrow()
            .iter()
            .filter(|(path, token)| (&path[..], &token[..]) == (b"control/shutdown", b"theirs"))
            .count();
        assert!(fired > 0, "{:?}", own.fired.borrow());
        // Neither refusal is the end of anything.
        assert_eq!(xen9p_exit(), 0);
        assert_eq!((own.used(), own.ports.borrow().len()), (theirs.len(), 0));
        assert_eq!(xen9p_init(&world.drivers()), 0);
        own.refuses.set(true);
        assert!(xen9p_mount(null(), null(), &mut fs, NULL) < 0);
        own.refuses.set(false);
        assert_eq!(
            xen9p_mount(null(), null(), &mut fs, NULL),
            0,
            "{}",
            last_error()
        );
        use_files(fs);
        assert_eq!(xen9p_exit(), 0);
    }
    assert_eq!(own.used(), theirs.len());
    for reference in theirs {
        assert!(own.end(reference));
    }
    let after = world.fake.usage(GUEST);
    assert_eq!(
        (after.pages, after.ports, after.watches),
        (usage.pages, usage.ports, usage.watches)
    );
}

unsafe extern "C" fn note(context: *mut std::ffi::c_void, breach: *const std::ffi::c_char) {
    // SAFETY: the list of the test above; the text ends with a NUL.
    unsafe {
        let breaches: &mut Vec<String> = &mut *context.cast();
        breaches.push(std::ffi::CStr::from_ptr(breach).to_str().unwrap().into());
    }
}

#[test]
fn a_range_of_references_is_kept_to() {
    let _turn = turn();
    // The kernel's own driver hands out what is behind the range, from the top down.
    let world = World::new().with_drivers();
    let own = world.own();
    let mut fs = 0;
    for (first, count) in [(100, 250), (8, 64), (0, 300)] {
        let callbacks = xen9p_platform {
            first_grant: first,
            grants: count,
            ..world.callbacks()
        };
        let range = first..first + count;
        // SAFETY: all pointers are valid.
        unsafe {
            assert_eq!(xen9p_init(&callbacks), 0);
            let options = xen9p_mount_options {
                size: size_of::<xen9p_mount_options>(),
                disconnect: 1,
                ..Default::default()
            };
            assert_eq!(
                xen9p_mount(null(), &options, &mut fs, NULL),
                0,
                "{}",
                last_error()
            );
            let used = (1..512).filter(|&reference| own.granted(reference).0 != 0);
            let used: Vec<u32> = used.collect();
            assert!(
                used.len() > 1 && used.iter().all(|it| range.contains(it)),
                "{used:?}"
            );
            use_files(fs);
            assert_eq!(xen9p_exit(), 0);
        }
    }
    // Too few for the smallest ring.
    let callbacks = xen9p_platform {
        first_grant: 500,
        grants: 3,
        ..world.callbacks()
    };
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&callbacks), 0);
        assert_eq!(
            xen9p_mount(null(), null(), &mut fs, NULL),
            -12,
            "{}",
            last_error()
        );
        assert_eq!(xen9p_exit(), 0);
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let _turn = turn();
    let world = World::new().with_drivers();
    let (alone, drivers) = (world.callbacks(), world.drivers());
    let others = [
        // Both ways, or half of one.
        xen9p_platform {
            grant: drivers.grant,
            end_grant: drivers.end_grant,
            ..alone
        },
        xen9p_platform {
            grant: None,
            ..drivers
        },
        xen9p_platform {
            end_grant: None,
            ..drivers
        },
        xen9p_platform {
            grant_frame: None,
            ..alone
        },
        xen9p_platform {
            store_watch: None,
            ..drivers
        },
        xen9p_platform {
            store_request: None,
            ..drivers
        },
        xen9p_platform {
            xenstore: alone.xenstore,
            ..drivers
        },
        xen9p_platform {
            alloc: None,
            ..alone
        },
        xen9p_platform { now: None, ..alone },
        xen9p_platform {
            lock: drivers.port_opened.map(|_| nop as _),
            ..alone
        },
    ];
    for (index, other) in others.iter().enumerate() {
        // SAFETY: the callbacks are those of a kernel.
        assert_eq!(unsafe { xen9p_init(other) }, -22, "{index}");
    }
}

unsafe extern "C" fn nop(_: *mut std::ffi::c_void) {}
