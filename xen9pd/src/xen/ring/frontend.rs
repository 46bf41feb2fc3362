//! A frontend's end of a ring, on memory of this process: for tests.

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Memory;

/// A page that both ends write to.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; 4096]>);

// SAFETY: no reference ever points into the page: both ends go by pointers, the indices atomically, and the bytes of a message by
// the side whose turn it is.
unsafe impl Sync for Page {}

/// The words of the index page.
pub(crate) const IN_CONS: usize = 0;
pub(crate) const IN_PROD: usize = 1;
pub(crate) const OUT_CONS: usize = 16;
pub(crate) const OUT_PROD: usize = 17;

pub(crate) struct Frontend {
    pages: Arc<Vec<Page>>,
    size: u32,
    in_cons: u32,
    out_prod: u32,
}

/// A ring of 2^`order` pages whose indices all begin at `start`.
pub(crate) fn ring(order: u32, start: u32) -> (Frontend, Memory) {
    let page = || Page(UnsafeCell::new([0; 4096]));
    let pages: Vec<Page> = (0..=1 << order).map(|_| page()).collect();
    let front = Frontend {
        pages: Arc::new(pages),
        size: 4096 << (order - 1),
        in_cons: start,
        out_prod: start,
    };
    for index in [IN_CONS, IN_PROD, OUT_CONS, OUT_PROD] {
        front.set(index, start);
    }
    // SAFETY: the pages live as long as the Arc does, which the ring holds, and are accessed as `Page` says.
    let memory = unsafe { Memory::new(front.at(0), front.at(4096), order, front.pages.clone()) };
    (front, memory)
}

impl Frontend {
    fn at(&self, offset: usize) -> NonNull<u8> {
        let pages = NonNull::new(self.pages.as_ptr().cast_mut().cast::<u8>());
        assert!(offset < 4096 * self.pages.len());
        // SAFETY: within the pages, which lie one behind the other.
        unsafe { pages.expect("a vector of pages").add(offset) }
    }

    pub(crate) fn word(&self, index: usize) -> &AtomicU32 {
        // SAFETY: an aligned word of the index page, which lives as long as `self` does.
        unsafe { self.at(4 * index).cast::<AtomicU32>().as_ref() }
    }

    pub(crate) fn set(&self, index: usize, value: u32) {
        self.word(index).store(value, Ordering::SeqCst);
    }

    /// Writes over a byte in the room for requests.
    pub(crate) fn write(&self, at: u32, byte: u8) {
        let at = 4096 + (self.size + (at & (self.size - 1))) as usize;
        // SAFETY: a byte of the pages of data.
        unsafe { self.at(at).write_volatile(byte) };
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write(self.out_prod, byte);
            self.out_prod = self.out_prod.wrapping_add(1);
        }
        self.set(OUT_PROD, self.out_prod);
    }

    /// Bytes that could be sent now.
    pub(crate) fn room(&self) -> usize {
        let taken = self.word(OUT_CONS).load(Ordering::SeqCst);
        (self.size - self.out_prod.wrapping_sub(taken)) as usize
    }

    /// Takes all replies that are there.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let sent = self.word(IN_PROD).load(Ordering::SeqCst);
        let count = sent.wrapping_sub(self.in_cons);
        let place = |index: u32| {
            let at = self.in_cons.wrapping_add(index) & (self.size - 1);
            self.at(4096 + at as usize)
        };
        let bytes = (0..count)
            // SAFETY: a byte of the pages of data.
            .map(|index| unsafe { place(index).read_volatile() })
            .collect();
        self.in_cons = sent;
        self.set(IN_CONS, sent);
        bytes
    }
}
