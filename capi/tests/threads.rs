//! Threads of a kernel that has a lock: no call keeps another out while it waits, and each is woken for its answer.

mod kernel;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use kernel::{World, last_error, turn};
use xen9p::xen::store::wire::Kind;
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

/// A watch that fired: path and token.
fn event(path: &[u8], token: &[u8]) -> (CString, CString) {
    (CString::new(path).unwrap(), CString::new(token).unwrap())
}

/// Tells the library of its watches that fired, without the lock.
fn tell(events: &mut Vec<(CString, CString)>) {
    for (path, token) in events.drain(..) {
        // SAFETY: both end with a NUL.
        unsafe { xen9p_watch_fired(path.as_ptr(), token.as_ptr()) };
    }
}

/// Sleeps on the simulated machine's clock for a moment at a time, and gives the lock up in between, until one of the ports
/// fired, the deadline, or a wake.
unsafe extern "C" fn wait(context: *mut c_void, ports: *const u32, count: usize, deadline: u64) {
    let before = WAKES.load(Ordering::Relaxed);
    let asleep = ASLEEP.fetch_add(1, Ordering::Relaxed) + 1;
    MOST_ASLEEP.fetch_max(asleep, Ordering::Relaxed);
    // SAFETY: as the library calls it.
    let own = unsafe { kernel::kernel(context) }.own.as_ref();
    let mut events = Vec::new();
    loop {
        // SAFETY: the lock is not held here: others come in.
        unsafe { unlock(context) };
        tell(&mut events);
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
        if let Some(own) = own {
            kernel::memory::outside(|| {
                own.pump(&mut |path, token| events.push(event(path, token)))
            });
        }
        if !events.is_empty() {
            continue;
        }
        // SAFETY: as above.
        if unsafe { kernel::now(context) } < moment {
            break;
        }
    }
    ASLEEP.fetch_sub(1, Ordering::Relaxed);
}

/// As a kernel's xenbus does: other threads work while xenstore answers.
unsafe extern "C" fn store_request(
    context: *mut c_void,
    kind: u32,
    transaction: u32,
    payload: *const c_void,
    length: usize,
    answer: *mut c_void,
) -> i64 {
    // SAFETY: as the library calls it.
    let own = unsafe { kernel::kernel(context) }.own.as_ref().unwrap();
    // SAFETY: as above.
    let payload = unsafe { std::slice::from_raw_parts(payload.cast::<u8>(), length) };
    for _ in 0..20 {
        std::thread::yield_now();
    }
    // SAFETY: one thread works on the simulation at a time.
    unsafe { lock(context) };
    let mut events = Vec::new();
    let message = kernel::memory::outside(|| {
        let request = own.submit(Kind(kind), transaction, payload);
        own.answer(request, &mut |path, token| events.push(event(path, token)))
    });
    // SAFETY: as above; the answer has room for all.
    unsafe {
        unlock(context);
        tell(&mut events);
        if message.header.kind == Kind::ERROR {
            return xen9p_store_error(message.payload.as_ptr().cast()).into();
        }
        answer
            .cast::<u8>()
            .copy_from_nonoverlapping(message.payload.as_ptr(), message.payload.len());
    }
    message.payload.len() as i64
}

unsafe fn watch(context: *mut c_void, kind: Kind, path: *const c_char, token: *const c_char) {
    // SAFETY: as the library calls it.
    let (path, token) = unsafe { (CStr::from_ptr(path), CStr::from_ptr(token)) };
    let mut payload = path.to_bytes_with_nul().to_vec();
    payload.extend(b"lib-");
    payload.extend(token.to_bytes_with_nul());
    let mut answer = [0; 4096];
    // SAFETY: there is room.
    unsafe {
        store_request(
            context,
            kind.0,
            0,
            payload.as_ptr().cast(),
            payload.len(),
            answer.as_mut_ptr().cast(),
        )
    };
}

unsafe extern "C" fn store_watch(
    context: *mut c_void,
    path: *const c_char,
    token: *const c_char,
) -> c_int {
    // SAFETY: as the library calls it.
    unsafe { watch(context, Kind::WATCH, path, token) };
    0
}

unsafe extern "C" fn store_unwatch(
    context: *mut c_void,
    path: *const c_char,
    token: *const c_char,
) {
    // SAFETY: as the library calls it.
    unsafe { watch(context, Kind::UNWATCH, path, token) };
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

fn with_lock(world: &World) -> xen9p_platform {
    xen9p_platform {
        lock: Some(lock),
        unlock: Some(unlock),
        wake: Some(wake),
        wait: Some(wait),
        ..world.callbacks()
    }
}

/// Another domain in the place of this one, with another backend, in which the kernel's xenbus begins anew.
unsafe extern "C" fn restore(context: *mut c_void, _: *mut xen9p_ring) -> c_int {
    // SAFETY: the world of the test below, of which no other thread uses anything now.
    let world = unsafe { &mut *context.cast::<World>() };
    world.restore();
    world.kernel.own = Some(kernel::own::Own::new(world.kernel.platform.clone()));
    0
}

/// What a second thread was told while the first one asked xenstore, without the lock.
static ENDS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

unsafe extern "C" fn never_made(_: *mut c_void, _: *mut xen9p_ring) -> c_int {
    panic!("suspended in the middle of a call");
}

unsafe extern "C" fn store_request_beside_an_end(
    context: *mut c_void,
    kind: u32,
    transaction: u32,
    payload: *const c_void,
    length: usize,
    answer: *mut c_void,
) -> i64 {
    let end = || {
        // SAFETY: the function may be called until this returns.
        let suspended = unsafe { xen9p_suspend(Some(never_made), null_mut()) };
        [xen9p_exit(), suspended]
    };
    let told = std::thread::spawn(end).join().unwrap();
    ENDS.lock().unwrap().extend(told);
    // SAFETY: as the library calls it.
    unsafe { store_request(context, kind, transaction, payload, length, answer) }
}

/// A thread that asks xenstore by the kernel's connection is in a call as well.
#[test]
fn nothing_ends_while_a_thread_asks_xenstore() {
    let _turn = turn();
    let world = World::new().with_drivers();
    let mut fs = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        let platform = xen9p_platform {
            xenstore: kernel::nothing().xenstore,
            store_request: Some(store_request_beside_an_end),
            store_watch: Some(store_watch),
            store_unwatch: Some(store_unwatch),
            ..with_lock(&world)
        };
        assert_eq!(xen9p_init(&platform), 0);
        let result = xen9p_mount(null(), null(), &mut fs, NULL);
        assert_eq!(result, 0, "{}", last_error());
    }
    let told = ENDS.lock().unwrap().split_off(0);
    assert!(told.len() > 4, "{told:?}");
    assert!(told.iter().all(|&it| it == -16), "{told:?}");
    assert_eq!(xen9p_exit(), 0);
    assert_eq!(world.server.borrow().fids(), 0);
}

/// One of them looks for it, and the others wait for that.
#[test]
fn threads_go_on_together_with_another_backend() {
    let _turn = turn();
    let mut world = World::new().with_drivers();
    let options = xen9p_mount_options {
        size: size_of::<xen9p_mount_options>(),
        recovery: 60,
        ..Default::default()
    };
    let mut fs = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        let platform = xen9p_platform {
            xenstore: kernel::nothing().xenstore,
            store_request: Some(store_request),
            store_watch: Some(store_watch),
            store_unwatch: Some(store_unwatch),
            ..with_lock(&world)
        };
        assert_eq!(xen9p_init(&platform), 0);
        let result = xen9p_mount(null(), &options, &mut fs, NULL);
        assert_eq!(result, 0, "{}", last_error());
        let mut kept = 0;
        let flags = XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE;
        let opened = xen9p_open(fs, c"/kept".as_ptr(), flags, 0o644, &mut kept, NULL);
        assert_eq!(opened, 0);
        for _ in 0..5 {
            let context = (&raw mut world).cast();
            assert_eq!(xen9p_suspend(Some(restore), context), 0);
            std::thread::scope(|scope| {
                for number in 1..=4 {
                    scope.spawn(move || work(fs, number));
                }
                let count = xen9p_write(kept, c"kept".as_ptr().cast(), 4, 0, NULL);
                assert_eq!(count, 4, "{}", last_error());
            });
        }
        assert_eq!(xen9p_exit(), 0);
    }
    assert_eq!(world.server.borrow().fids(), 0);
}

#[test]
fn no_call_keeps_another_out_while_it_waits() {
    let _turn = turn();
    let world = World::new();
    let callbacks = with_lock(&world);
    let mut fs = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&callbacks), 0);
        assert_eq!(
            xen9p_mount(null(), null(), &mut fs, NULL),
            0,
            "{}",
            last_error()
        );
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
