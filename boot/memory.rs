//! All the memory of the domain: what is free, and where it is mapped.
//!
//! RAM is mapped one to one, virtual address = (pseudo-)physical address. In a PV domain Xen checks
//! every page table entry, which takes time, so memory that the builder left unmapped is mapped
//! 2 MiB at a time when it is first needed. Two windows lie above: pages that are not RAM of ours
//! (shared_info, grant frames, the builder's rings), and the heap, whose pages need not be
//! neighbours in RAM.

use core::ops::Range;
use core::ptr::NonNull;

use spin::{Mutex, MutexGuard};

use super::pages::Pages;
use super::paging::{LARGE_SIZE, PageTables, Use};
use super::windows::Windows;
use crate::platform::{Frame, PAGE_SIZE, Page};

/// Where pages that are not RAM of ours are mapped; RAM above this address is not used.
const DEVICES: usize = 256 << 30;
/// Where the heap is mapped: in the same third-level table, to save two in a small domain.
const HEAP: usize = DEVICES + (16 << 20);
/// Where pages of other domains are mapped: in the same third-level table again.
const WINDOWS: usize = DEVICES + (128 << 30);
/// RAM that can be mapped one to one ends here.
pub(super) const ONE_TO_ONE_END: usize = DEVICES;
/// Pages kept back for the tables that the next 2 MiB may need.
const RESERVE: usize = 3;

/// See the module.
pub(super) struct Memory {
    pub(super) pages: Pages,
    pub(super) tables: PageTables,
    /// Frames not yet mapped (PV); starts on a 2 MiB boundary.
    pub(super) unmapped: Range<usize>,
    /// Bytes of RAM that the domain has.
    pub(super) total: usize,
    /// The first frame number with nothing behind it (PVH).
    pub(super) unused_frame: u64,
    /// The frame numbers, with nothing behind them, at which pages of other domains are mapped (PVH).
    pub(super) window_frame: u64,
    windows: Windows,
    devices_end: usize,
    heap_end: usize,
}

static MEMORY: Mutex<Option<Memory>> = Mutex::new(None);

/// The memory, once [`Memory::install`]ed, for this one statement.
///
/// # Panics
/// There is none yet.
pub(super) fn memory() -> impl core::ops::DerefMut<Target = Memory> {
    struct Installed(MutexGuard<'static, Option<Memory>>);
    impl core::ops::Deref for Installed {
        type Target = Memory;
        fn deref(&self) -> &Memory {
            self.0
                .as_ref()
                .expect("memory is in use before it is set up")
        }
    }
    impl core::ops::DerefMut for Installed {
        fn deref_mut(&mut self) -> &mut Memory {
            self.0
                .as_mut()
                .expect("memory is in use before it is set up")
        }
    }
    Installed(MEMORY.lock())
}

unsafe extern "C" {
    static xen9p_stack_guard: u8;
    static xen9p_image_start: u8;
    static xen9p_rodata_start: u8;
    static xen9p_data_start: u8;
    static xen9p_image_end: u8;
}

/// Where the linker put what is not to be changed: code, and the constants behind it.
pub(super) fn code_and_constants() -> Range<usize> {
    (&raw const xen9p_image_start).addr()..(&raw const xen9p_data_start).addr()
}

/// What the page at an address in or around the image is for.
fn use_of(address: usize) -> Use {
    let constants = (&raw const xen9p_rodata_start).addr();
    match code_and_constants().contains(&address) {
        false => Use::Data,
        true if address < constants => Use::Code,
        true => Use::Constants,
    }
}

/// The number of a page among all that windows can have.
fn window_index(page: NonNull<Page>) -> usize {
    (page.addr().get() - WINDOWS) / PAGE_SIZE
}

impl Memory {
    /// A domain with `total` bytes of RAM, nothing of which is free yet.
    pub(super) fn new(tables: PageTables, total: usize) -> Self {
        Memory {
            pages: Pages::new(),
            tables,
            unmapped: 0..0,
            total,
            unused_frame: 0,
            window_frame: 0,
            windows: Windows::new(),
            devices_end: DEVICES,
            heap_end: HEAP,
        }
    }

    /// Makes this the memory of the image.
    pub(super) fn install(mut self) {
        if self.protect_image().is_none() {
            super::fail(format_args!(
                "{} KiB of memory are too little for this image",
                self.total / 1024
            ));
        }
        *MEMORY.lock() = Some(self);
    }

    /// Takes away the right to write to code and constants, and to run what is neither; then page 0 and the page below the
    /// stack, so that null pointers and stack overflows are noticed.
    ///
    /// In a PV domain the pages around the image that the builder has mapped stay as it did: to change each takes Xen longer
    /// than the rest of the start.
    fn protect_image(&mut self) -> Option<()> {
        let range = match self.tables.has_large_pages() {
            // The large pages around these are split.
            true => {
                let fixed = code_and_constants();
                fixed.start / LARGE_SIZE * LARGE_SIZE..fixed.end.next_multiple_of(LARGE_SIZE)
            }
            false => code_and_constants().start..(&raw const xen9p_image_end).addr(),
        };
        for address in range.step_by(PAGE_SIZE) {
            let entry = (self.tables).entry(self.tables.frame(address), use_of(address));
            // SAFETY: the same frame as before; the linker put only code and constants where nothing can be written, and no
            // code elsewhere.
            unsafe { self.tables.set(&mut self.pages, address, entry, 1) }.ok()?;
        }
        let guard = (&raw const xen9p_stack_guard).addr();
        for address in [0, guard] {
            // SAFETY: nothing is in either page.
            unsafe { self.tables.set(&mut self.pages, address, 0, 1) }.ok()?;
        }
        Some(())
    }

    /// Bytes that are not in use.
    pub(super) fn free(&self) -> usize {
        (self.pages.free() + self.unmapped.len()) * PAGE_SIZE
    }

    /// Maps the next 2 MiB of RAM; false when all is mapped.
    fn map_more(&mut self) -> bool {
        let Range { start, end } = self.unmapped;
        let count = (end - start).min(LARGE_SIZE / PAGE_SIZE);
        let Some(first) = NonNull::new((start * PAGE_SIZE) as *mut Page).filter(|_| count > 0)
        else {
            return false;
        };
        // SAFETY: these frames are unmapped, and free once they are mapped.
        unsafe {
            if self.tables.set_one_to_one(&mut self.pages, start).is_err() {
                return false;
            }
            self.pages.add(first, count);
        }
        self.unmapped.start += count;
        true
    }

    /// `count` pages that follow each other, with anything in them.
    pub(super) fn take(&mut self, count: usize) -> Option<NonNull<Page>> {
        loop {
            if self.unmapped.is_empty() {
                return self.pages.take(count);
            }
            if self.pages.free() >= count.saturating_add(RESERVE)
                && let Some(first) = self.pages.take(count)
            {
                return Some(first);
            }
            if !self.map_more() {
                return None;
            }
        }
    }

    /// `count` zeroed pages that follow each other.
    pub(super) fn allocate(&mut self, count: usize) -> Option<NonNull<Page>> {
        let first = self.take(count)?;
        // SAFETY: these pages are ours.
        unsafe { first.write_bytes(0, count) };
        Some(first)
    }

    /// Gives pages back.
    ///
    /// # Safety
    /// They came from one [`allocate`](Self::allocate), and are not used any more.
    pub(super) unsafe fn release(&mut self, first: NonNull<Page>, count: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.pages.add(first, count) };
    }

    /// Maps a frame that is not RAM of ours, for good.
    ///
    /// # Safety
    /// Xen lets this domain map the frame, and it stays what it is.
    pub(super) unsafe fn map_device(&mut self, frame: Frame) -> Option<NonNull<Page>> {
        let address = self.devices_end;
        if address >= HEAP {
            return None;
        }
        let entry = self.tables.entry(frame, Use::Data);
        // SAFETY: nothing is mapped there yet; the frame is the caller's promise.
        unsafe { self.tables.set(&mut self.pages, address, entry, 1) }.ok()?;
        self.devices_end += PAGE_SIZE;
        NonNull::new(address as *mut Page)
    }

    /// Maps another frame, or none, where [`map_device`](Self::map_device) mapped one, or in a window.
    ///
    /// # Safety
    /// As there; `address` came from there, and no code relies on what was there before.
    pub(super) unsafe fn remap_device(&mut self, address: usize, frame: Option<Frame>) {
        let entry = frame.map_or(0, |frame| self.tables.entry(frame, Use::Data));
        // SAFETY: the caller's promise.
        let done = unsafe { self.tables.set(&mut self.pages, address, entry, 1) };
        debug_assert!(done.is_ok(), "the tables on the way are there already");
    }

    /// Takes `count` addresses for pages of other domains; nothing is there, but page tables down to the last level.
    pub(super) fn take_window(&mut self, count: usize) -> Option<NonNull<Page>> {
        let index = self.windows.take(count)?;
        let start = WINDOWS + index * PAGE_SIZE;
        for address in (start..).step_by(PAGE_SIZE).take(count) {
            // SAFETY: nothing is mapped there.
            if unsafe { self.tables.set(&mut self.pages, address, 0, 1) }.is_err() {
                self.windows.give_back(index, count);
                return None;
            }
        }
        NonNull::new(start as *mut Page)
    }

    /// Gives a window back.
    ///
    /// # Safety
    /// It came from [`take_window`](Self::take_window) with this count, and nothing is mapped there.
    pub(super) unsafe fn release_window(&mut self, first: NonNull<Page>, count: usize) {
        self.windows.give_back(window_index(first), count);
    }

    /// The frame number without memory that belongs to a page of a window (PVH).
    pub(super) fn window_frame_of(&self, page: NonNull<Page>) -> Frame {
        Frame(self.window_frame + window_index(page) as u64)
    }

    /// Maps a frame at a page of a window, or takes away what is there.
    ///
    /// # Safety
    /// `page` is of a window, Xen lets this domain map the frame, and no code relies on what was there before.
    pub(super) unsafe fn set_window(&mut self, page: NonNull<Page>, frame: Option<Frame>) {
        let address = page.addr().get();
        if frame.is_none() && !self.tables.is_mapped(address) {
            // Xen has taken it away already.
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { self.remap_device(address, frame) };
    }

    /// Adds up to `count` pages to the heap's window and returns the part that is new; empty when
    /// there is no memory left.
    pub(super) fn extend_heap(&mut self, count: usize) -> Range<usize> {
        let start = self.heap_end;
        for _ in 0..count {
            let Some(page) = self.take(1) else { break };
            let frame = self.tables.frame(page.addr().get());
            let entry = self.tables.entry(frame, Use::Data);
            // SAFETY: nothing is mapped there yet, and the page is used under this address alone.
            let mapped = unsafe { self.tables.set(&mut self.pages, self.heap_end, entry, 1) };
            if mapped.is_err() {
                // SAFETY: taken above and not used.
                unsafe { self.pages.add(page, 1) };
                break;
            }
            self.heap_end += PAGE_SIZE;
        }
        start..self.heap_end
    }
}
