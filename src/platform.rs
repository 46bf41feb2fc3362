//! What the drivers ask of whoever hosts them.
//!
//! [`Platform`] is the only door between the drivers and the machine: pages, frame numbers,
//! hypercalls, the clock, and a way to wait for events. The feature `rt` implements it for a bare
//! PV or PVH domain; an embedding kernel implements its own; the tests implement a simulated Xen.
//!
//! Everything is single-threaded: a `Platform` handle and every driver built on it belong to one
//! thread (or one executor), and no method is called from an interrupt handler.

use core::fmt;
use core::num::NonZeroUsize;
use core::ptr::NonNull;

use crate::hypercall::XenError;
use crate::time::Instant;
use crate::xen::event::Port;

/// Size of a page, of a grant frame and of every ring page, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// One page of memory. Only ever handled by raw pointer: the peer may write to it at any time.
#[repr(C, align(4096))]
pub struct Page([u8; PAGE_SIZE]);

/// A frame number as Xen wants it in a grant entry: an MFN in a PV domain, a GFN in a PVH domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Frame(pub u64);

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:#x})", self.0)
    }
}

/// A ring that Xen's domain builder prepared for us: xenstore's or the console's.
#[derive(Clone, Copy, Debug)]
pub struct BuilderRing {
    /// The shared page, mapped read-write for as long as the domain lives.
    pub page: NonNull<Page>,
    /// The event channel bound to the other end.
    pub port: Port,
}

/// The host of the drivers.
///
/// A handle is cheap to clone (a zero-sized type or a counted pointer) and all clones mean the
/// same machine.
///
/// # Safety
/// Drivers hand memory to other domains on the strength of these answers. The implementor owes
/// what each method's "Implementation safety" section says; the drivers owe what its "Safety"
/// section says.
pub unsafe trait Platform: Clone + 'static {
    /// Allocates `count` zeroed pages that follow each other in the address space (their frames
    /// need not). `None` when memory is short.
    ///
    /// # Implementation safety
    /// The memory is mapped read-write, page-aligned, all zero, used by nobody else until it comes
    /// back through [`free_pages`](Self::free_pages), and shares no page with anything else.
    fn alloc_pages(&self, count: NonZeroUsize) -> Option<NonNull<Page>>;

    /// Gives pages back.
    ///
    /// # Safety
    /// `first` and `count` are exactly those of one earlier [`alloc_pages`](Self::alloc_pages),
    /// given back once; no grant on any of the pages is active and nobody uses them any more.
    unsafe fn free_pages(&self, first: NonNull<Page>, count: NonZeroUsize);

    /// The frame behind a page that came from [`alloc_pages`](Self::alloc_pages).
    ///
    /// # Implementation safety
    /// The frame stays behind the page until the page is freed.
    fn frame(&self, page: NonNull<Page>) -> Frame;

    /// Makes hypercall `number` with up to five arguments and returns Xen's answer: negative is an
    /// error number of Xen's (see [`XenError`]). Unused arguments are 0.
    ///
    /// # Safety
    /// The arguments are valid for the call as Xen's public headers describe it; memory they point
    /// to is valid for the reads and writes that Xen will do.
    ///
    /// # Implementation safety
    /// The call reaches Xen unchanged, and memory written by Xen counts as written by the call.
    unsafe fn hypercall(&self, number: u32, args: [usize; 5]) -> isize;

    /// Maps frame `index` of the grant table, growing the table when it is not that large yet, and
    /// returns where it is. Asking again for the same frame returns the same address.
    ///
    /// # Implementation safety
    /// The page is frame `index` of this domain's version-1 grant table and stays mapped
    /// read-write.
    ///
    /// # Errors
    /// Whatever Xen answered; typically the table is at its maximum (`max_grant_frames`).
    fn grant_frame(&self, index: u32) -> Result<NonNull<Page>, XenError>;

    /// Xenstore's ring, or `None` in a domain without one (dom0 before its own xenstored).
    ///
    /// # Implementation safety
    /// As [`BuilderRing`] says.
    fn xenstore_ring(&self) -> Option<BuilderRing>;

    /// The console's ring, or `None` in a domain without one.
    ///
    /// # Implementation safety
    /// As [`BuilderRing`] says.
    fn console_ring(&self) -> Option<BuilderRing>;

    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// Nanoseconds since 1970-01-01 00:00 UTC, or 0 where nobody knows.
    fn wall_clock(&self) -> u64;

    /// Whether `port` has fired since the last time this was asked; forgets that it did.
    ///
    /// An event that arrives after the answer is seen by the next call: never lost.
    fn take_pending(&self, port: Port) -> bool;

    /// Blocks until one of `ports` has fired and was not taken yet, or `deadline` has passed. May
    /// return early for no reason. `ports` may be empty: a plain sleep.
    fn wait(&self, ports: &[Port], deadline: Instant);
}
