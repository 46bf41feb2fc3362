//! Threads: one works in here at a time, and any number sleep.
//!
//! A thread that has to wait for an answer sleeps outside of everything: nothing of the library is borrowed or half done
//! then, and the kernel's lock is free. What connects to a device, asks xenstore or disconnects sleeps in the middle of its
//! work; nothing is borrowed there either, and others may come in.

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicBool, Ordering};

use xen9p::errno::Errno;
use xen9p::time::Instant;
use xen9p::xen::event::Port;

use crate::error::Fail;
use crate::platform::{callback, table};

/// As many ports as the drivers ever wait for at once.
const MAX_PORTS: usize = 128;

struct Threads {
    /// A thread works in here. Atomic, so that a second one is told so by any kernel that has no lock.
    is_entered: AtomicBool,
    /// A callback runs that may call xen9p_watch_fired().
    may_tell: Cell<bool>,
    /// Threads that are in a callback that blocks.
    sleepers: Cell<u32>,
    /// An event was taken since the sleepers were woken.
    has_taken: Cell<bool>,
    /// Waiting with a deadline that has passed notes the ports instead.
    is_noting: Cell<bool>,
    ports: RefCell<([Port; MAX_PORTS], usize)>,
}

// SAFETY: the kernel's lock, or the order that the interface asks for where there is none, keeps threads apart.
unsafe impl Sync for Threads {}

static THREADS: Threads = Threads {
    is_entered: AtomicBool::new(false),
    may_tell: Cell::new(false),
    sleepers: Cell::new(0),
    has_taken: Cell::new(false),
    is_noting: Cell::new(false),
    ports: RefCell::new(([Port(0); MAX_PORTS], 0)),
};

fn has_lock() -> bool {
    table(|table| table.lock.is_some()).unwrap_or(false)
}

/// What keeps one call from running inside another, and other threads out.
pub(crate) struct Entered(());

impl Entered {
    /// `None` while another call is inside. That may be anywhere, in the allocator too: nothing is touched, not even for a
    /// text.
    pub(crate) fn new() -> Option<Entered> {
        callback!(lock, ());
        if THREADS.is_entered.swap(true, Ordering::Acquire) {
            callback!(unlock, ());
            return None;
        }
        Some(Entered(()))
    }
}

/// A call that has to be alone is not.
pub(crate) fn busy() -> Fail {
    Fail::new(Errno::EBUSY, "a thread is in a call")
}

impl Drop for Entered {
    fn drop(&mut self) {
        THREADS.is_entered.store(false, Ordering::Release);
        wake();
        callback!(unlock, ());
    }
}

/// Whether xen9p_watch_fired() is called from a callback that may do that.
pub(crate) fn may_tell() -> bool {
    THREADS.may_tell.get()
}

/// Notes that an event was taken, which others may have waited for, too.
pub(crate) fn note_event() {
    THREADS.has_taken.set(true);
}

/// How many threads are in a callback that blocks, in the middle of their calls.
pub(crate) fn sleepers() -> u32 {
    THREADS.sleepers.get()
}

fn wake() {
    THREADS.has_taken.set(false);
    if THREADS.sleepers.get() > 0 {
        callback!(wake, ());
    }
}

/// Runs a callback that blocks, with the library open to others where there is a lock.
pub(crate) fn blocking<T>(callback: impl FnOnce() -> T) -> T {
    if THREADS.has_taken.get() {
        wake();
    }
    let told = THREADS.may_tell.replace(true);
    let noting = THREADS.is_noting.replace(false);
    THREADS.sleepers.set(THREADS.sleepers.get() + 1);
    if has_lock() {
        THREADS.is_entered.store(false, Ordering::Release);
    }
    let result = callback();
    THREADS.is_entered.store(true, Ordering::Relaxed);
    THREADS.sleepers.set(THREADS.sleepers.get() - 1);
    THREADS.is_noting.set(noting);
    THREADS.may_tell.set(told);
    result
}

/// Waits for ports, as the drivers do in the middle of their work.
pub(crate) fn wait(ports: &[Port], deadline: Instant) {
    if THREADS.is_noting.get() && deadline == Instant::from_nanos(0) {
        let mut noted = THREADS.ports.borrow_mut();
        let count = ports.len().min(MAX_PORTS);
        noted.0[..count].copy_from_slice(&ports[..count]);
        noted.1 = count;
        return;
    }
    // A Port is a transparent u32.
    let list = ports.as_ptr().cast();
    blocking(|| callback!(wait, (), list, ports.len(), deadline.as_nanos()));
}

/// Runs what waits with a deadline of 0 in the end, which is no wait: the ports are noted, for [`sleep`].
pub(crate) fn noting_ports<T>(work: impl FnOnce() -> T) -> T {
    THREADS.is_noting.set(true);
    let result = work();
    THREADS.is_noting.set(false);
    result
}

/// Sleeps until one of the ports fires that were waited for last.
pub(crate) fn sleep(deadline: Instant) {
    let (ports, count) = *THREADS.ports.borrow();
    wait(&ports[..count], deadline);
}

/// Forgets the ports.
pub(crate) fn forget() {
    THREADS.ports.borrow_mut().1 = 0;
}
