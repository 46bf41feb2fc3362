//! The library's allocator: the kernel's memory, and a reserve for when there is none.
//!
//! Rust's collections can't tell that a small allocation failed. So each call that may need memory begins by making
//! sure of a reserve, and is refused with -ENOMEM if that can't be had; what the kernel then refuses comes from there.
//! Large things ask whether there is memory, and get none of the reserve.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ptr::null_mut;

use crate::platform::callback;

/// Size of a reserve.
const SIZE: usize = 64 << 10;

/// What a call may need of it. Of all calls a mount needs the most, about a third of a reserve.
const NEED: usize = SIZE / 2;

/// What is larger is never taken from it.
const MAX_ALLOCATION: usize = SIZE / 4;

/// How many there are at most: what is kept for long, such as the files of a client, may stay in some.
const COUNT: usize = 64;

const ALIGN: usize = 16;

/// One piece of memory of the kernel's, given out from its start on and free again when nothing in it is used.
struct Reserve {
    /// Its address as a pointer; null until the kernel gave it.
    start: Cell<*mut u8>,
    given: Cell<usize>,
    live: Cell<usize>,
}

/// The allocator of a static library; a host test has its own, and this one inside of it.
#[derive(Debug)]
#[doc(hidden)]
pub struct Allocator;

struct Reserves([Reserve; COUNT]);

// SAFETY: the interface asks for one thread.
unsafe impl Sync for Reserves {}

static RESERVES: Reserves = Reserves(
    [const {
        Reserve {
            start: Cell::new(null_mut()),
            given: Cell::new(0),
            live: Cell::new(0),
        }
    }; COUNT],
);

impl Reserves {
    /// Those that the kernel has given: the first ones.
    fn given(&self) -> impl Iterator<Item = &Reserve> {
        (self.0.iter()).take_while(|reserve| !reserve.start.get().is_null())
    }
}

impl Reserve {
    /// Whether there is enough for a call. What is kept for long may be in the rest.
    fn is_ready(&self) -> bool {
        SIZE - self.given.get() >= NEED
    }

    fn has(&self, memory: *mut u8) -> bool {
        let start = self.start.get().addr();
        (start..start + SIZE).contains(&memory.addr())
    }

    fn take(&self, layout: Layout) -> Option<*mut u8> {
        if layout.size() > MAX_ALLOCATION || layout.align() > ALIGN {
            return None;
        }
        let at = self.given.get();
        let end = (at + layout.size()).next_multiple_of(ALIGN);
        if end > SIZE {
            return None;
        }
        self.given.set(end);
        self.live.set(self.live.get() + 1);
        // SAFETY: inside the piece, which has SIZE bytes; these were given out only once since it was whole.
        Some(unsafe { self.start.get().add(at) })
    }

    fn give_back(&self) {
        self.live.set(self.live.get() - 1);
        if self.live.get() == 0 {
            self.given.set(0);
        }
    }
}

/// Whether there is a reserve for a call; asks the kernel for one if it has to.
pub(crate) fn ready() -> bool {
    if RESERVES.given().any(Reserve::is_ready) {
        return true;
    }
    let Some(missing) = RESERVES.0.get(RESERVES.given().count()) else {
        return false;
    };
    missing
        .start
        .set(callback!(alloc, null_mut(), SIZE, ALIGN).cast());
    !missing.start.get().is_null()
}

/// Gives the reserves back that nothing is left in.
pub(crate) fn give_back() {
    while let Some(whole) = RESERVES.given().find(|reserve| reserve.live.get() == 0) {
        // The last one takes its place.
        let Some(last) = RESERVES.given().last() else {
            return;
        };
        let memory = whole.start.replace(last.start.get());
        whole.given.set(last.given.get());
        whole.live.set(last.live.get());
        last.start.set(null_mut());
        last.given.set(0);
        last.live.set(0);
        callback!(free, (), memory.cast(), SIZE, ALIGN);
    }
}

/// Has caches give memory back, of which so much is asked for; whether that was any.
#[cfg(feature = "cache")]
fn give_back_caches(layout: Layout) -> bool {
    layout.size() <= SIZE && crate::tree::give_back()
}

#[cfg(not(feature = "cache"))]
fn give_back_caches(_: Layout) -> bool {
    false
}

// SAFETY: memory is the kernel's, whose callbacks keep the contract of an allocator, as the header asks; or part of a
// piece of such memory, not given out again until all in it was given back, aligned to 16, which is enough for what is
// taken from it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        loop {
            let memory: *mut u8 =
                callback!(alloc, null_mut(), layout.size(), layout.align()).cast();
            if !memory.is_null() {
                return memory;
            }
            if !give_back_caches(layout) {
                break;
            }
        }
        let mut taken = RESERVES.given().filter_map(|reserve| reserve.take(layout));
        taken.next().unwrap_or(null_mut())
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        match RESERVES.given().find(|reserve| reserve.has(memory)) {
            Some(reserve) => reserve.give_back(),
            None => callback!(free, (), memory.cast(), layout.size(), layout.align()),
        }
    }
}
