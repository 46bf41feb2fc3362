//! The global allocator of an image.
//!
//! Large blocks are runs of pages, which come back to everyone when they are freed. Small ones come
//! from a heap that grows page by page.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};

use linked_list_allocator::Heap;
use spin::Mutex;

use super::counter::Counter;
use super::memory::memory;
use crate::platform::{PAGE_SIZE, Page};

/// Blocks from this size on are pages of their own.
const LARGE: usize = 64 * 1024;
/// What the heap grows by, if that is enough and so much is left.
const STEP: usize = 64 * 1024;

/// Blocks given out so far.
pub(super) static ALLOCATIONS: Counter = Counter::new();

static SMALL: Mutex<Heap> = Mutex::new(Heap::empty());

/// Allocates from the memory of the domain. [`entry!`](crate::entry) makes it the global allocator.
pub struct Allocator;

/// Bytes of the heap that are not in use.
pub(super) fn free() -> usize {
    SMALL.lock().free()
}

/// How many pages hold a block of its own, if `layout` gets one.
fn pages(layout: Layout) -> Option<usize> {
    (layout.size() >= LARGE && layout.align() <= PAGE_SIZE)
        .then(|| layout.size().div_ceil(PAGE_SIZE))
}

/// Pages as a block.
fn block(first: Option<NonNull<Page>>) -> *mut u8 {
    first.map_or(null_mut(), |first| first.as_ptr().cast())
}

/// Makes room for a block of `layout`; false when there is no memory left.
fn grow(heap: &mut Heap, layout: Layout) -> bool {
    // Twice the alignment: the allocator may have to leave a hole in front.
    let needed = layout.size().saturating_add(2 * layout.align() + 64);
    let added = memory().extend_heap(needed.max(STEP).div_ceil(PAGE_SIZE));
    if added.is_empty() {
        return false;
    }
    if heap.size() == 0 {
        // SAFETY: the window was mapped just now for the heap alone.
        unsafe { heap.init(added.start as *mut u8, added.len()) };
    } else {
        // SAFETY: as above, and windows follow each other.
        unsafe { heap.extend(added.len()) };
    }
    true
}

/// Asks those who keep memory for less than its use for some of it; whether there was any. The heap is free meanwhile.
fn give_back() -> bool {
    #[cfg(feature = "cache")]
    return super::start::give_back();
    #[cfg(not(feature = "cache"))]
    false
}

// SAFETY: blocks are exclusive and large enough: pages by the page allocator's promise, others by
// the heap's. The layout decides alone which of the two it is, so a block goes back where it came
// from. Nothing here panics or allocates.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.count();
        if let Some(count) = pages(layout) {
            return block(memory().take(count));
        }
        loop {
            let mut heap = SMALL.lock();
            if let Ok(block) = heap.allocate_first_fit(layout) {
                return block.as_ptr();
            }
            if !grow(&mut heap, layout) {
                drop(heap);
                if !give_back() {
                    return null_mut();
                }
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if let Some(count) = pages(layout) {
            ALLOCATIONS.count();
            return block(memory().allocate(count));
        }
        // SAFETY: the caller's promise.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block is that large.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise: a block of ours, so not null.
        let block = unsafe { NonNull::new_unchecked(block) };
        match pages(layout) {
            // SAFETY: the caller's promise, and the same count as in `alloc`.
            Some(count) => unsafe { memory().release(block.cast::<Page>(), count) },
            // SAFETY: the caller's promise.
            None => unsafe { SMALL.lock().deallocate(block, layout) },
        }
    }
}
