//! Threads of a kernel that has a lock: no call keeps another out while it waits, and each is woken for its answer.

mod kernel;

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use kernel::{World, last_error, turn};
use xen9p_capi::*;

const NULL: *mut xen9p_handle = null_mut();

/// The kernel's lock, which is held or not, and what is waited for besides.
static HELD: Mutex<bool> = Mutex::new(false);
static FREE: Condvar = Condvar::new();

/// Calls of `wake`, and threads that sleep.
static WAKES: AtomicUsize = AtomicUsize::new(0);
static ASLEEP: AtomicUsize = AtomicUsize::new(0);
/// The most that slept at once.
static MOST_ASLEEP: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn lock(_: *mut c_void) {
    let mut held = HELD.lock().unwrap();
    while *held {
        held = FREE.wait(held).unwrap();
    }
    *held = true;
}

unsafe extern "C" fn unlock(_: *mut c_void) {
    let mut held = HELD.lock().unwrap();
    assert!(
        std::mem::replace(&mut *held, false),
        "the lock is given back twice"
    );
    FREE.notify_all();
}

unsafe extern "C" fn wake(_: *mut c_void) {
    assert!(*HELD.lock().unwrap(), "without the lock");
    WAKES.fetch_add(1, Ordering::Relaxed);
}

/// Sleeps on the simulated machine's clock for a moment at a time, and gives the lock up in between, until one of the ports
/// fired, the deadline, or a wake.
unsafe extern "C" fn wait(context: *mut c_void, ports: *const u32, count: usize, deadline: u64) {
    let before = WAKES.load(Ordering::Relaxed);
    let asleep = ASLEEP.fetch_add(1, Ordering::Relaxed) + 1;
    MOST_ASLEEP.fetch_max(asleep, Ordering::Relaxed);
    loop {
        // SAFETY: the lock is not held here: others come in.
        unsafe { unlock(context) };
        std::thread::yield_now();
        // SAFETY: as above.
        unsafe { lock(context) };
        // SAFETY: as the library calls it; the lock is held, so that one thread works on the simulation.
        let now = unsafe { kernel::now(context) };
        if WAKES.load(Ordering::Relaxed) != before || now >= deadline {
            break;
        }
        let moment = deadline.min(now + Duration::from_micros(50).as_nanos() as u64);
        // SAFETY: as above.
        unsafe { kernel::wait(context, ports, count, moment) };
        // SAFETY: as above.
        if unsafe { kernel::now(context) } < moment {
            break;
        }
    }
    ASLEEP.fetch_sub(1, Ordering::Relaxed);
}

/// What a thread does: a file of its own, written, read and checked, again and again.
fn work(fs: xen9p_handle, number: u8) {
    let path = std::ffi::CString::new(format!("/file-{number}")).unwrap();
    let data = vec![number; 40_000];
    let flags = XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE;
    for round in 0..30 {
        let mut file = 0;
        let mut read = vec![0; data.len()];
        // SAFETY: all pointers are valid.
        unsafe {
            let opened = xen9p_open(fs, path.as_ptr(), flags, 0o644, &mut file, NULL);
            assert_eq!(
                opened,
                0,
                "thread {number}, round {round}: {}",
                last_error()
            );
            let mut done = 0;
            while done < data.len() {
                let rest = &data[done..];
                let count = xen9p_write(file, rest.as_ptr().cast(), rest.len(), done as u64, NULL);
                assert!(count > 0, "thread {number}, round {round}: {count}");
                done += count as usize;
            }
            let mut op = 0;
            let started = xen9p_read(file, read.as_mut_ptr().cast(), read.len(), 0, &mut op);
            assert_eq!(started, 0);
            let count = loop {
                match xen9p_poll(op) {
                    result if result == -XEN9P_EINPROGRESS => {
                        assert_eq!(xen9p_wait(op, XEN9P_FOREVER), 0);
                    }
                    result => break result,
                }
            };
            assert_eq!(count, read.len() as i64);
            assert!(read == data, "thread {number} reads what another wrote");
            assert_eq!(xen9p_close(file, NULL), 0);
            assert_eq!(xen9p_unlink(fs, path.as_ptr(), NULL), 0);
        }
    }
}

#[test]
fn no_call_keeps_another_out_while_it_waits() {
    let _turn = turn();
    let world = World::new();
    let callbacks = xen9p_platform {
        lock: Some(lock),
        unlock: Some(unlock),
        wake: Some(wake),
        wait: Some(wait),
        ..world.callbacks()
    };
    let mut fs = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&callbacks), 0);
        assert_eq!(xen9p_mount(null(), null(), &mut fs), 0, "{}", last_error());
    }
    std::thread::scope(|scope| {
        for number in 1..=4 {
            scope.spawn(move || work(fs, number));
        }
    });
    assert!(!*HELD.lock().unwrap());
    assert_eq!(ASLEEP.load(Ordering::Relaxed), 0);
    // They did wait at the same time.
    assert!(MOST_ASLEEP.load(Ordering::Relaxed) > 1);
    assert_eq!(xen9p_exit(), 0);
    assert_eq!(world.server.borrow().fids(), 0);
}
