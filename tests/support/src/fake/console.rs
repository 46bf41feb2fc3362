//! Who reads and feeds the domains' consoles.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use xen9p::hypercall::DomId;
use xen9p::platform::Page;

use super::World;

const IN: usize = 0;
const IN_SIZE: u32 = 1024;
const OUT: usize = 1024;
const OUT_SIZE: u32 = 2048;
const IN_CONS: usize = 3072;
const IN_PROD: usize = 3076;
const OUT_CONS: usize = 3080;
const OUT_PROD: usize = 3084;

/// A shared page as its servers see it: bytes and words at offsets, nothing more.
#[derive(Clone, Copy)]
pub(super) struct RingPage(NonNull<Page>);

impl RingPage {
    /// The page must live as long as the machine that this is part of.
    pub(super) fn new(page: NonNull<Page>) -> Self {
        RingPage(page)
    }

    pub(super) fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: callers pass the offset of an aligned word inside the page, which lives as long
        // as the machine; both sides access it atomically.
        unsafe { AtomicU32::from_ptr(self.0.cast::<u8>().add(offset).cast().as_ptr()) }
    }

    /// Whether a ring is full.
    pub(super) fn is_full(&self, size: u32, (cons, prod): (usize, usize)) -> bool {
        let cons = self.word(cons).load(Ordering::SeqCst);
        self.word(prod).load(Ordering::SeqCst).wrapping_sub(cons) >= size
    }

    /// Takes up to `limit` bytes out of a ring.
    pub(super) fn take(
        &self,
        (ring, size): (usize, u32),
        (cons, prod): (usize, usize),
        limit: usize,
    ) -> Vec<u8> {
        let mut at = self.word(cons).load(Ordering::SeqCst);
        let end = self.word(prod).load(Ordering::SeqCst);
        let mut bytes = Vec::new();
        while at != end && bytes.len() < limit {
            let offset = ring + (at % size) as usize;
            // SAFETY: inside the ring, inside the page.
            bytes.push(unsafe { self.0.cast::<u8>().add(offset).read_volatile() });
            at = at.wrapping_add(1);
        }
        self.word(cons).store(at, Ordering::SeqCst);
        bytes
    }

    /// Puts up to `limit` bytes from the front of `bytes` into a ring and returns how many.
    pub(super) fn put(
        &self,
        (ring, size): (usize, u32),
        (cons, prod): (usize, usize),
        bytes: &mut VecDeque<u8>,
        limit: usize,
    ) -> usize {
        let mut at = self.word(prod).load(Ordering::SeqCst);
        let mut count = 0;
        while count < limit
            && at.wrapping_sub(self.word(cons).load(Ordering::SeqCst)) < size
            && let Some(byte) = bytes.pop_front()
        {
            let offset = ring + (at % size) as usize;
            // SAFETY: inside the ring, inside the page.
            unsafe { self.0.cast::<u8>().add(offset).write_volatile(byte) };
            at = at.wrapping_add(1);
            count += 1;
        }
        self.word(prod).store(at, Ordering::SeqCst);
        count
    }
}

/// The reader and writer at the other end of one console.
pub(super) struct ConsoleServer {
    page: RingPage,
    port: u32,
    awake: bool,
    pub(super) output: Vec<u8>,
    pub(super) input: VecDeque<u8>,
    pub(super) stalled: bool,
}

impl ConsoleServer {
    pub(super) fn new(page: NonNull<Page>, port: u32) -> Self {
        ConsoleServer {
            page: RingPage::new(page),
            port,
            awake: false,
            output: Vec::new(),
            input: VecDeque::new(),
            stalled: false,
        }
    }

    /// Domain 0's end of the port.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Moves bytes and returns whether any moved.
    fn serve(&mut self) -> bool {
        let out = self
            .page
            .take((OUT, OUT_SIZE), (OUT_CONS, OUT_PROD), usize::MAX);
        self.output.extend_from_slice(&out);
        let ring = (IN, IN_SIZE);
        let fed = self
            .page
            .put(ring, (IN_CONS, IN_PROD), &mut self.input, usize::MAX);
        !out.is_empty() || fed > 0
    }
}

/// Serves all consoles. Like the real one, a server looks at a ring only when it was told to, or
/// has something to say.
pub(super) fn step(world: &Rc<World>) -> bool {
    let mut busy = false;
    for domain in world.domains.borrow_mut().values_mut() {
        let Some(console) = &mut domain.console else {
            continue;
        };
        let mut channels = world.channels.borrow_mut();
        console.awake |= channels.take_pending(DomId(0), console.port);
        if console.stalled || (!console.awake && console.input.is_empty()) {
            continue;
        }
        console.awake = false;
        if console.serve() {
            // Fails when the domain is gone, which is no concern of the console's.
            let _ = channels.send(DomId(0), console.port);
            busy = true;
        }
    }
    busy
}
