//! A ring's memory as the backend sees it.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use xen9p::platform::PAGE_SIZE;
use xen9p::transport::xen9pfs::ring::{Order, Ring};
use xen9p::xen::shared::SharedMemory;

use super::canary::Canary;
use super::machine::MappedPage;

/// What overwritten words say.
const SCRIBBLE: u32 = 0xDEAD_BEEF;

/// The backend's view of one ring: the interface page and the data pages in the order of their
/// references, which need not lie side by side.
pub struct RingView {
    interface: NonNull<u8>,
    pages: Vec<NonNull<u8>>,
    canary: RefCell<Canary>,
    /// What was in the words that are overwritten.
    scribbled: RefCell<BTreeMap<usize, u32>>,
    /// Keeps them mapped, where they are another domain's.
    _maps: Vec<MappedPage>,
}

impl RingView {
    pub const IN_CONS: usize = 0;
    pub const IN_PROD: usize = 4;
    pub const OUT_CONS: usize = 64;
    pub const OUT_PROD: usize = 68;
    pub const RING_ORDER: usize = 128;
    pub const REF: usize = 132;

    /// # Safety
    /// All pages stay mapped for as long as the view is used; all other code uses them by raw
    /// pointer and, on another thread, only in the order that the indices give.
    pub unsafe fn new(interface: NonNull<u8>, pages: Vec<NonNull<u8>>) -> RingView {
        assert!(pages.len().is_power_of_two());
        let canary = RefCell::new(Canary::new(pages.len() * PAGE_SIZE));
        RingView {
            interface,
            pages,
            canary,
            scribbled: RefCell::default(),
            _maps: Vec::new(),
        }
    }

    /// A ring of another domain's, mapped until the view is dropped.
    pub fn mapped(interface: MappedPage, pages: Vec<MappedPage>) -> RingView {
        let addresses = pages.iter().map(MappedPage::as_ptr).collect();
        // SAFETY: mapped as long as the grants, which the view keeps; the domain runs on the same
        // thread and reaches its shared pages by raw pointer only.
        let mut view = unsafe { RingView::new(interface.as_ptr(), addresses) };
        view._maps = pages;
        view._maps.push(interface);
        view
    }

    /// Bytes in each direction.
    pub fn size(&self) -> u32 {
        (self.pages.len() * PAGE_SIZE / 2) as u32
    }

    /// A word of the interface page.
    pub fn get(&self, offset: usize) -> u32 {
        let value = self.word(offset).load(Ordering::SeqCst);
        match self.scribbled.borrow().get(&offset) {
            Some(&covered) if value == SCRIBBLE => covered,
            _ => value,
        }
    }

    /// Sets a word of the interface page.
    pub fn set(&self, offset: usize, value: u32) {
        self.word(offset).store(value, Ordering::SeqCst);
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset + 4 <= PAGE_SIZE);
        // SAFETY: inside the page, which is mapped as `new` asks.
        unsafe { AtomicU32::from_ptr(self.interface.as_ptr().add(offset).cast()) }
    }

    /// Bytes of the request half, from free-running `index` on.
    pub fn read_requests(&self, index: u32, len: usize) -> Vec<u8> {
        let bytes = self.bytes(self.size(), index, len);
        self.canary.borrow_mut().read(index, &bytes);
        bytes
    }

    /// Bytes of the reply half, from free-running `index` on.
    pub fn replies(&self, index: u32, len: usize) -> Vec<u8> {
        self.bytes(0, index, len)
    }

    fn bytes(&self, half: u32, index: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            let (at, run) = self.run(half, index.wrapping_add(done as u32));
            let run = run.min(len - done);
            // SAFETY: `run` bytes are left in the page; the frontend, having published them, does
            // not write to them before it sees them consumed.
            unsafe { at.copy_to_nonoverlapping(bytes[done..].as_mut_ptr(), run) };
            done += run;
        }
        bytes
    }

    /// Puts bytes into the reply half, from free-running `index` on.
    pub fn write_replies(&self, index: u32, bytes: &[u8]) {
        self.canary.borrow_mut().written(index, bytes);
        let mut done = 0;
        while done < bytes.len() {
            let (at, run) = self.run(0, index.wrapping_add(done as u32));
            let run = run.min(bytes.len() - done);
            // SAFETY: `run` bytes are left in the page; the frontend does not read them before it
            // sees them published.
            unsafe { at.copy_from_nonoverlapping(bytes[done..].as_ptr(), run) };
            done += run;
        }
    }

    /// Whether there is anything in the frontend's pages besides zeros, what was exchanged over the ring, and the
    /// words that the interface page has.
    pub fn leaks(&self) -> bool {
        let mut data = vec![0; self.pages.len() * PAGE_SIZE];
        for (page, copy) in self.pages.iter().zip(data.chunks_exact_mut(PAGE_SIZE)) {
            // SAFETY: a whole page, mapped as `new` asks; the copy may be torn, which is as good as any.
            unsafe { page.copy_to_nonoverlapping(NonNull::from(copy).cast(), PAGE_SIZE) };
        }
        let refs_end = Self::REF + 4 * self.pages.len();
        let interface = (0..PAGE_SIZE).step_by(4).filter(|&at| {
            let used = [Self::IN_CONS, Self::IN_PROD, Self::OUT_CONS, Self::OUT_PROD];
            !used.contains(&at) && !(Self::RING_ORDER..refs_end).contains(&at)
        });
        let canary = self.canary.borrow();
        canary.leaks(&data, self.get(Self::OUT_PROD))
            || (self.scribbled.borrow().is_empty()
                && interface.into_iter().any(|at| self.get(at) != 0))
    }

    /// Overwrites all words that are the frontend's own: its indices, the order, all references. The backend itself
    /// still knows what was there.
    pub fn scribble(&self) {
        let mut scribbled = self.scribbled.borrow_mut();
        let own = [Self::IN_CONS, Self::OUT_PROD, Self::RING_ORDER];
        for offset in own.into_iter().chain((Self::REF..PAGE_SIZE).step_by(4)) {
            // In one step, or what the frontend writes just now would be lost.
            let covered = self.word(offset).swap(SCRIBBLE, Ordering::SeqCst);
            if covered != SCRIBBLE {
                scribbled.insert(offset, covered);
            }
        }
    }

    /// Where a byte of a half lies, and how many bytes there are to the end of its page.
    fn run(&self, half: u32, index: u32) -> (*mut u8, usize) {
        let at = (half + index % self.size()) as usize;
        // SAFETY: below PAGE_SIZE, so inside the page.
        let byte = unsafe { self.pages[at / PAGE_SIZE].as_ptr().add(at % PAGE_SIZE) };
        (byte, PAGE_SIZE - at % PAGE_SIZE)
    }
}

/// A ring in plain memory, for tests without a simulated Xen.
pub struct PlainRing {
    memory: NonNull<u8>,
    order: Order,
}

// SAFETY: `PlainRing` itself touches the memory only when it is made and dropped; the two ends that
// it hands out order their accesses by the ring's indices.
unsafe impl Sync for PlainRing {}

impl PlainRing {
    pub fn new(order: Order) -> PlainRing {
        // SAFETY: the layout's size is not 0.
        let memory = NonNull::new(unsafe { alloc_zeroed(Self::layout(order)) }).expect("memory");
        PlainRing { memory, order }
    }

    fn layout(order: Order) -> Layout {
        Layout::from_size_align((order.pages().get() + 1) * PAGE_SIZE, PAGE_SIZE).unwrap()
    }

    /// The frontend's end, its indices starting at `start`. It must not outlive `self`.
    pub fn frontend(&self, start: u32) -> Ring {
        let size = self.order.pages().get() * PAGE_SIZE;
        // SAFETY: one interface page and the data pages behind it, which live as long as `self`; the backend's end is
        // another domain.
        let (interface, data) = unsafe {
            (
                SharedMemory::new(self.page(0), PAGE_SIZE),
                SharedMemory::new(self.page(1), size),
            )
        };
        Ring::new(interface, data, self.order, start)
    }

    /// The backend's end. It must not outlive `self`.
    pub fn backend(&self) -> RingView {
        // SAFETY: the pages live as long as `self`; the frontend keeps to the order of the indices.
        unsafe {
            RingView::new(
                self.page(0),
                (1..=self.order.pages().get())
                    .map(|i| self.page(i))
                    .collect(),
            )
        }
    }

    fn page(&self, index: usize) -> NonNull<u8> {
        // SAFETY: the allocation has `pages() + 1` pages.
        unsafe { self.memory.add(index * PAGE_SIZE) }
    }
}

impl Drop for PlainRing {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with the same layout.
        unsafe { dealloc(self.memory.as_ptr(), Self::layout(self.order)) }
    }
}
