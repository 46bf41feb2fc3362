//! An allocator that counts, and that can be short of memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static LIMIT: Cell<isize> = const { Cell::new(isize::MAX) };
}

/// The system's allocator, with counts for each thread. To be a program's `#[global_allocator]`.
pub struct Counting;

/// How many times this thread has allocated or reallocated memory, if the program's allocator is
/// [`Counting`].
pub fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// Runs `work` with so many bytes of memory more than this thread has now: an allocation beyond them fails.
pub fn with_memory<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    LIMIT.set(IN_USE.get().saturating_add_unsigned(bytes));
    let done = work();
    LIMIT.set(isize::MAX);
    done
}

/// How many bytes this thread may still allocate.
pub fn free_memory() -> usize {
    usize::try_from(LIMIT.get().saturating_sub(IN_USE.get())).unwrap_or(0)
}

/// Takes note of an allocation of so many bytes more; `false` if there is no memory for it.
fn take(bytes: isize) -> bool {
    // A thread that is ending has no counters any more, and needs none.
    let taken = IN_USE.try_with(|in_use| {
        let after = in_use.get().saturating_add(bytes);
        let fits = bytes <= 0 || LIMIT.try_with(Cell::get).is_ok_and(|limit| after <= limit);
        if fits {
            in_use.set(after);
        }
        fits
    });
    taken.unwrap_or(true)
}

fn count() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: Every method hands its arguments to `System` as they are and returns what it says, or null,
// which means that there is no memory, so that the contract is kept because `System` keeps it. Counting
// neither allocates (the counters are constant-initialised thread-locals without destructors) nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        if !take(layout.size().cast_signed()) {
            return ptr::null_mut();
        }
        // SAFETY: The caller keeps the contract of this same method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        if !take(layout.size().cast_signed()) {
            return ptr::null_mut();
        }
        // SAFETY: The caller keeps the contract of this same method.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        if !take(size.cast_signed() - layout.size().cast_signed()) {
            return ptr::null_mut();
        }
        // SAFETY: The caller keeps the contract of this same method; `at` is from `System`, as all
        // memory of this allocator is.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        take(-layout.size().cast_signed());
        // SAFETY: The caller keeps the contract of this same method; `at` is from `System`, as all
        // memory of this allocator is.
        unsafe { System.dealloc(at, layout) }
    }
}
