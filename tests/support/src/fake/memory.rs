//! Memory that knows who owns it, and notices who uses it after giving it back.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use super::host::Host;

use xen9p::hypercall::DomId;
use xen9p::platform::{Frame, PAGE_SIZE, Page};

/// What freed pages are filled with.
const FREED: u8 = 0xdd;

/// Freed pages that are kept, to notice late writes, before the host gets them back.
const KEPT_PAGES: usize = 4096;

struct Block {
    owner: DomId,
    first_frame: u64,
    count: NonZeroUsize,
}

/// Pages that were freed, by where they begin.
struct Freed(NonNull<Page>, NonZeroUsize);

/// All pages of all domains.
#[derive(Default)]
pub(super) struct Memory {
    next_frame: u64,
    /// By address.
    blocks: BTreeMap<usize, Block>,
    /// From frame to address.
    frames: BTreeMap<u64, usize>,
    freed: VecDeque<Freed>,
    host: Host,
    freed_pages: usize,
    /// Pages that came back with something in them.
    pub(super) dirty_frees: usize,
}

impl Memory {
    pub(super) fn alloc(&mut self, owner: DomId, count: NonZeroUsize) -> NonNull<Page> {
        let first = self.host.take(count);
        let address = first.as_ptr().expose_provenance();
        // Frames run backwards, so that no code comes to rely on their order, and start high, so
        // that none is taken for an index.
        let first_frame = 0x1_0000 + self.next_frame;
        self.next_frame += count.get() as u64 + 7;
        for index in 0..count.get() {
            let frame = first_frame + (count.get() - 1 - index) as u64;
            self.frames.insert(frame, address + index * PAGE_SIZE);
        }
        self.blocks.insert(
            address,
            Block {
                owner,
                first_frame,
                count,
            },
        );
        first
    }

    /// The frames of a block that is about to be freed.
    ///
    /// # Panics
    /// It is not one that `owner` has.
    pub(super) fn frames_of(
        &self,
        owner: DomId,
        first: NonNull<Page>,
        count: NonZeroUsize,
    ) -> std::ops::Range<u64> {
        let block = self
            .blocks
            .get(&first.as_ptr().addr())
            .expect("freed pages were allocated, and not freed before");
        assert_eq!(block.count, count, "pages are freed as they were allocated");
        assert_eq!(block.owner, owner, "pages are freed by their owner");
        block.first_frame..block.first_frame + count.get() as u64
    }

    /// Frees a block, which [`frames_of`](Self::frames_of) has checked.
    pub(super) fn free(&mut self, first: NonNull<Page>, count: NonZeroUsize) {
        let address = first.as_ptr().addr();
        let block = self.blocks.remove(&address).expect("checked before");
        for index in 0..count.get() {
            self.frames.remove(&(block.first_frame + index as u64));
            // SAFETY: a page of the block, which is not used any more.
            let page = unsafe {
                std::slice::from_raw_parts(first.add(index).cast::<u8>().as_ptr(), PAGE_SIZE)
            };
            self.dirty_frees += usize::from(page.iter().any(|&byte| byte != 0));
        }
        // SAFETY: the whole block, which is not used any more.
        unsafe {
            first
                .cast::<u8>()
                .write_bytes(FREED, count.get() * PAGE_SIZE)
        };
        self.freed.push_back(Freed(first, count));
        self.freed_pages += count.get();
        while self.freed_pages > KEPT_PAGES {
            self.give_back();
        }
    }

    /// Gives the host the pages that were freed the longest time ago.
    fn give_back(&mut self) -> bool {
        let Some(Freed(first, count)) = self.freed.pop_front() else {
            return false;
        };
        self.freed_pages -= count.get();
        // SAFETY: a freed block, which belongs to this list alone.
        let bytes = unsafe {
            std::slice::from_raw_parts(first.cast::<u8>().as_ptr(), count.get() * PAGE_SIZE)
        };
        let written = bytes.iter().any(|&byte| byte != FREED);
        // SAFETY: taken with this count; the slice above is not used any more.
        unsafe { self.host.give_back(first, count) };
        assert!(
            !written || std::thread::panicking(),
            "pages were written to after they were given back"
        );
        true
    }

    /// Pages that a domain has allocated.
    pub(super) fn pages(&self, owner: DomId) -> usize {
        let blocks = self.blocks.values().filter(|block| block.owner == owner);
        blocks.map(|block| block.count.get()).sum()
    }

    /// The frame behind a page.
    pub(super) fn frame(&self, page: NonNull<Page>) -> Frame {
        let address = page.as_ptr().addr();
        let (start, block) = self
            .blocks
            .range(..=address)
            .next_back()
            .expect("the page was allocated");
        let index = (address - start) / PAGE_SIZE;
        assert!(index < block.count.get(), "the page was allocated");
        Frame(block.first_frame + (block.count.get() - 1 - index) as u64)
    }

    /// Reserves addresses for `count` pages, at which there is nothing.
    pub(super) fn reserve(&mut self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        self.host.reserve(count)
    }

    /// Shows a page at a reserved address, too; nothing, if `page` is `None`.
    ///
    /// # Safety
    /// `at` is reserved, and what is there is not used.
    pub(super) unsafe fn show(&self, at: NonNull<Page>, page: Option<NonNull<Page>>) {
        // SAFETY: the caller's promise; pages of this memory are the host's.
        unsafe { self.host.show(at, page) };
    }

    /// Whose memory a frame is.
    pub(super) fn owner(&self, frame: u64) -> Option<DomId> {
        let address = self.frames.get(&frame)?;
        let (_, block) = self.blocks.range(..=address).next_back()?;
        Some(block.owner)
    }

    /// The page in front of a frame.
    pub(super) fn page(&self, frame: u64) -> Option<NonNull<Page>> {
        let address = *self.frames.get(&frame)?;
        NonNull::new(std::ptr::with_exposed_provenance_mut(address))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        while self.give_back() {}
        for (address, block) in std::mem::take(&mut self.blocks) {
            let first = NonNull::new(std::ptr::with_exposed_provenance_mut(address));
            // SAFETY: taken with this count; the simulated machine is gone, and with it
            // everyone who could use the memory.
            unsafe { self.host.give_back(first.expect("a page"), block.count) };
        }
    }
}
