//! A kernel without a lock: while a call is under way each other one is refused, from a callback and from a second thread,
//! and does no harm.

mod kernel;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use kernel::{World, last_error, turn};
use xen9p_capi::*;

const NULL: *mut xen9p_handle = null_mut();
const EBUSY: i64 = -16;

/// What may be called at any time, and says nothing of other calls.
const ANY_TIME: &[&str] = &[
    "xen9p_describe",
    "xen9p_hypercall",
    "xen9p_last_error",
    "xen9p_store_error",
    "xen9p_version",
    // Allowed in `wait`, which is where these calls are made.
    "xen9p_watch_fired",
    // Of the object with vchans alone.
    "xen9p_serve",
];

unsafe extern "C" fn not_suspended(_: *mut c_void, _: *mut xen9p_ring) -> i32 {
    panic!("suspended in the middle of a call");
}

/// Makes every call, and tells its name and its result.
///
/// # Safety
/// The library is set up.
unsafe fn each_call(fs: xen9p_handle, file: xen9p_handle) -> Vec<(&'static str, i64)> {
    let (mut found, mut into) = (0, [0_u8; 64]);
    let (found, into) = (&raw mut found, into.as_mut_ptr());
    let (path, name) = (c"/f".as_ptr(), c"user.a".as_ptr());
    let mut stat = xen9p_stat::default();
    let mut full = xen9p_statfs::default();
    let mut entry = MaybeUninit::uninit();
    let change = xen9p_setattr {
        size: size_of::<xen9p_setattr>(),
        ..Default::default()
    };
    // SAFETY: all pointers are valid.
    let mut results: Vec<(&'static str, i64)> = unsafe {
        vec![
            ("xen9p_read", xen9p_read(file, into.cast(), 64, 0, NULL)),
            ("xen9p_write", xen9p_write(file, into.cast(), 64, 0, NULL)),
            (
                "xen9p_readlink",
                xen9p_readlink(fs, path, into.cast(), 64, NULL),
            ),
            (
                "xen9p_getxattr",
                xen9p_getxattr(fs, path, name, into.cast(), 64, NULL),
            ),
            ("xen9p_poll", xen9p_poll(file)),
            ("xen9p_tag", xen9p_tag(0, into.cast(), 64)),
        ]
    };
    // SAFETY: as above.
    let others: [(&'static str, i32); 29] = unsafe {
        [
            ("xen9p_mount", xen9p_mount(null(), null(), found, NULL)),
            (
                "xen9p_open",
                xen9p_open(fs, path, XEN9P_READ, 0, found, NULL),
            ),
            ("xen9p_lookup", xen9p_lookup(fs, path, found, NULL)),
            ("xen9p_opendir", xen9p_opendir(fs, path, found, NULL)),
            ("xen9p_readdir", xen9p_readdir(fs, entry.as_mut_ptr(), NULL)),
            ("xen9p_seekdir", xen9p_seekdir(fs, 0)),
            ("xen9p_stat", xen9p_stat(fs, path, 0, &mut stat, NULL)),
            ("xen9p_setattr", xen9p_setattr(fs, path, &change, NULL)),
            ("xen9p_statfs", xen9p_statfs(fs, path, &mut full, NULL)),
            ("xen9p_sync", xen9p_sync(file, NULL)),
            (
                "xen9p_lock",
                xen9p_lock(file, XEN9P_LOCK_SHARED, 0, 0, NULL),
            ),
            ("xen9p_close", xen9p_close(file, NULL)),
            ("xen9p_close", xen9p_close(fs, found)),
            ("xen9p_mkdir", xen9p_mkdir(fs, path, 0o755, NULL)),
            ("xen9p_mknod", xen9p_mknod(fs, path, 0o010644, 0, 0, NULL)),
            ("xen9p_unlink", xen9p_unlink(fs, path, NULL)),
            ("xen9p_rmdir", xen9p_rmdir(fs, path, NULL)),
            (
                "xen9p_rename",
                xen9p_rename(fs, path, fs, c"/g".as_ptr(), NULL),
            ),
            ("xen9p_link", xen9p_link(fs, path, fs, c"/g".as_ptr(), NULL)),
            (
                "xen9p_symlink",
                xen9p_symlink(path, fs, c"/g".as_ptr(), NULL),
            ),
            (
                "xen9p_setxattr",
                xen9p_setxattr(fs, path, name, into.cast(), 1, NULL),
            ),
            ("xen9p_wait", xen9p_wait(fs, 0)),
            ("xen9p_exit", xen9p_exit()),
            (
                "xen9p_suspend",
                xen9p_suspend(Some(not_suspended), null_mut()),
            ),
            (
                "xen9p_check_platform",
                xen9p_check_platform(None, null_mut()),
            ),
            // Started ones no less.
            ("xen9p_mount", xen9p_mount(null(), null(), found, found)),
            ("xen9p_stat", xen9p_stat(fs, path, 0, &mut stat, found)),
            ("xen9p_opendir", xen9p_opendir(fs, path, found, found)),
            ("xen9p_sync", xen9p_sync(file, found)),
        ]
    };
    results.extend(others.map(|(name, result)| (name, result.into())));
    results
}

thread_local! {
    /// What is open, once the calls are to be made from the next callback, and what they said.
    static CALLS: RefCell<Option<(bool, xen9p_handle, xen9p_handle)>> = const { RefCell::new(None) };
    static RESULTS: RefCell<Vec<(&'static str, i64)>> = const { RefCell::new(Vec::new()) };
}

/// Makes the calls, once, in this thread or in another.
fn meddle() {
    let Some((elsewhere, fs, file)) = CALLS.take() else {
        return;
    };
    // SAFETY: the library is set up.
    let calls = move || unsafe { each_call(fs, file) };
    let results = match elsewhere {
        true => std::thread::spawn(calls).join().unwrap(),
        false => calls(),
    };
    RESULTS.with_borrow_mut(|all| all.extend(results));
}

unsafe extern "C" fn wait(context: *mut c_void, ports: *const u32, count: usize, deadline: u64) {
    meddle();
    // SAFETY: as the library calls it.
    unsafe { kernel::wait(context, ports, count, deadline) };
}

unsafe extern "C" fn now(context: *mut c_void) -> u64 {
    meddle();
    // SAFETY: as above.
    unsafe { kernel::now(context) }
}

unsafe extern "C" fn take_pending(context: *mut c_void, port: u32) -> i32 {
    meddle();
    // SAFETY: as above.
    unsafe { kernel::take_pending(context, port) }
}

#[test]
fn a_second_call_is_refused() {
    let _turn = turn();
    let world = World::new();
    let plain = world.callbacks();
    type Callbacks = fn(xen9p_platform) -> xen9p_platform;
    let places: [Callbacks; 3] = [
        |it| xen9p_platform {
            wait: Some(wait),
            ..it
        },
        |it| xen9p_platform {
            now: Some(now),
            ..it
        },
        |it| xen9p_platform {
            take_pending: Some(take_pending),
            ..it
        },
    ];
    let mut names = BTreeSet::new();
    for place in places {
        for elsewhere in [false, true] {
            let (mut fs, mut file, mut op) = (0, 0, 0);
            let flags = XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE;
            let mut stat = xen9p_stat::default();
            // SAFETY: all pointers are valid.
            unsafe {
                assert_eq!(xen9p_init(&place(plain)), 0);
                assert_eq!(xen9p_init(&place(plain)), -17);
                let mounted = xen9p_mount(null(), null(), &mut fs, NULL);
                assert_eq!(mounted, 0, "{}", last_error());
                let opened = xen9p_open(fs, c"/f".as_ptr(), flags, 0o644, &mut file, NULL);
                assert_eq!(opened, 0, "{}", last_error());
                CALLS.set(Some((elsewhere, fs, file)));
                // Polled, so that the clock is looked at, too.
                assert_eq!(xen9p_stat(file, null(), 0, &mut stat, &mut op), 0);
                assert_eq!(kernel::finish(op), 0);
                let results = RESULTS.take();
                assert!(!results.is_empty());
                for (name, result) in results {
                    assert_eq!(result, EBUSY, "{name}");
                    names.insert(name);
                }
                // Nothing of it was done.
                assert_eq!(xen9p_write(file, c"x".as_ptr().cast(), 1, 0, NULL), 1);
                assert_eq!(xen9p_unlink(fs, c"/f".as_ptr(), NULL), 0);
                assert_eq!(xen9p_exit(), 0);
            }
        }
    }
    // It was every call of the header.
    let header = include_str!("../../include/xen9p.h");
    let words = header.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '(');
    let declared = words.filter_map(|word| word.strip_suffix('('));
    for name in declared.filter(|name| name.starts_with("xen9p_") && *name != "xen9p_init") {
        assert!(
            names.contains(name) || ANY_TIME.contains(&name),
            "{name} was not tried"
        );
    }
}
