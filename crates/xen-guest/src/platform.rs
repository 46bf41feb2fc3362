//! What the drivers ask of the kernel that hosts them.
//!
//! [`Platform`] is the only door between the drivers and the machine: pages, frame numbers,
//! hypercalls, the clock, and a way to wait for events. The feature `rt` implements it for a bare
//! PV or PVH domain; an embedding kernel implements its own; the tests implement a simulated Xen.
//!
//! # The contract
//!
//! **What an implementor owes** is said at each method under "Implementation safety": memory goes to other
//! domains on the strength of it. Everything else a method promises is a matter of function, not of safety:
//! a clock that goes back or a lost event makes operations late or fail, no more.
//!
//! **What the drivers promise**, under "Safety" and here:
//!
//! * They call from one thread (or one executor) only, the one that made them: handles are neither `Send` nor
//!   `Sync`. **No method is called from an interrupt handler**, and none has to be
//!   callable from one. An interrupt handler of yours may wake your executor, set an
//!   `Interrupt` of the 9P session, and note which ports fired for
//!   [`take_pending`](Platform::take_pending) to tell later: that is all the drivers need of it.
//! * Pages come back as they were allocated, once, with no active grant. What a peer does not let go of is
//!   kept, and asked for again later.
//! * No method is called while another runs, except what [`wait`](Platform::wait) does itself.
//! * Only [`wait`](Platform::wait) may block; each call has a deadline, and nothing is held meanwhile that an
//!   interrupt handler or another thread might need.
//! * `alloc_pages` may say `None` at any point: the operation fails with an error, what it had taken is given
//!   back, and it may be tried again. Small objects come from the global allocator.
//! * `unsafe` hypercalls are made for the operations that [`hypercall`](crate::hypercall) lists, no others.
//!
//! # Checklist
//!
//! 1. A global allocator, and the crate without default features.
//! 2. The way into Xen: [`Gate`](crate::hypercall::raw::Gate), `syscall` for PV, by processor for PVH and HVM.
//! 3. shared_info mapped, if PVH or HVM by [`add_to_physmap`](crate::hypercall::memory::add_to_physmap). There,
//!    set `HVM_PARAM_CALLBACK_IRQ` from 64-bit mode even if interrupts stay off: it makes Xen use the 64-bit
//!    layout.
//! 4. Pages: whole, zeroed at each allocation, mapped read-write; [`frame`](Platform::frame) is the MFN in a PV
//!    domain, else the GFN.
//! 5. Grant frames: [`setup_table`](crate::hypercall::grant_table::setup_table) and mapping machine frames (PV), or
//!    [`add_to_physmap`](crate::hypercall::memory::add_to_physmap) at guest frames that are no memory. Version 1;
//!    all other code in this kernel that uses grants shares one [`Grants`](crate::grant::Grants), or keeps away from
//!    the references that it takes.
//! 6. [`domain_state`](Platform::domain_state): a `static` of type [`DomainState`].
//! 7. The builder's rings: from start_info (PV) or `HVM_PARAM_STORE_PFN` and its like.
//! 8. Clock: [`clock`](crate::clock) reads Xen's.
//! 9. Events, by one of two ways. Polling: leave all ports masked, take bits out of `evtchn_pending` in
//!    `take_pending`, wait in [`sched::poll`](crate::hypercall::sched::poll). Interrupts: unmask the ports that
//!    `take_pending` and `wait` are asked about, move the pending bits in the handler into bits of your own, and
//!    `hlt` with interrupts enabled only after looking at these with interrupts disabled. The timer is one of them:
//!    it may fire before the halt, and before the clock as this processor reckons it shows the deadline.
//!    `examples/embed-rust` does the latter.
//! 10. A kernel that has drivers for the grant table or for xenstore already keeps them:
//!     [`grant_driver`](Platform::grant_driver) instead of step 5, [`store_driver`](Platform::store_driver) instead of
//!     xenstore's ring; [`port_opened`](Platform::port_opened) and [`port_closed`](Platform::port_closed) tell its event
//!     dispatcher what it has to expect.
//! 11. For pages of other domains, which vchan needs: [`alloc_window`](Platform::alloc_window) and what goes with it. In a
//!     PV domain addresses with page tables; else as many frame numbers without memory besides, such as those above
//!     the end of the memory map.
//! 12. [`conformance::check`] passes.
//! 13. [`Xen::new`](crate::Xen::new), `xen9pfs::device`,
//!     `xen9pfs::connect`, `Fs::mount`.
//!
//! # Save and restore
//!
//! A kernel that wants `xl save` and `xl migrate` to work announces it
//! ([`ShutdownWatch::new`](crate::shutdown::ShutdownWatch::new)), and when it is asked for calls
//! [`Xen::suspend`](crate::Xen::suspend) with a function that does the machine's part:
//!
//! 1. In a PV domain: list its frames by [`pv::list_frames`](crate::suspend::pv::list_frames) (at any time before), and take
//!    every entry for a frame that is not the domain's own out of the page tables.
//! 2. [`sched::suspend`](crate::hypercall::sched::suspend), in a PV domain by
//!    [`pv::suspend`](crate::suspend::pv::suspend).
//! 3. If the domain was resumed elsewhere: shared_info and grant table again, as in steps 3 and 5 of the
//!    checklist; `xenstore_ring` and `console_ring` with the ports of the new domain; `grant_frame` from the new
//!    table; all ports masked or unmasked as before; a clock that goes on, although Xen's may have gone back.
//!    If it was cancelled, only what step 1 took away.
//!
//! The drivers ask again for everything, and never again use a port, a grant or a frame of the table that they were
//! given before. `boot/suspend.rs` is such a function for PV and PVH, and `examples/embed-rust` has a smaller one.

pub mod conformance;
mod domain;
mod drivers;

use core::num::NonZeroUsize;
use core::ops::Range;
use core::ptr::NonNull;

use crate::hypercall::XenError;
use crate::shared::SharedMemory;
use xen_abi::Port;
use xen9p_time::Instant;

pub(crate) use domain::Claim;
pub use domain::{DomainState, InUse, Resource};
pub use drivers::{GrantDriver, StoreDriver};
pub use xen_abi::Frame;

/// Size of a page, of a grant frame and of every ring page, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// One page of memory. Only ever handled by raw pointer: the peer may write to it at any time.
#[repr(C, align(4096))]
pub struct Page([u8; PAGE_SIZE]);

/// What is at a page of a window, see [`Platform::set_window`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Nothing: an access faults.
    Empty,
    /// The page that Xen has mapped at its [`window_address`](Platform::window_address).
    Foreign,
    /// A page of this domain's own.
    Own(Frame),
}

/// A ring that Xen's domain builder prepared for us: xenstore's or the console's.
#[derive(Clone, Copy, Debug)]
pub struct BuilderRing {
    /// The shared page, mapped read-write for as long as the domain lives.
    pub page: NonNull<Page>,
    /// The event channel bound to the other end.
    pub port: Port,
}

/// A builder's ring as the drivers use it.
pub(crate) struct MappedRing {
    pub(crate) page: SharedMemory<'static>,
    pub(crate) port: Port,
}

impl MappedRing {
    /// Xenstore's ring, if the domain has one.
    pub(crate) fn xenstore<P: Platform>(platform: &P) -> Option<Self> {
        // SAFETY: the platform vouches for it.
        Some(unsafe { Self::new(platform.xenstore_ring()?) })
    }

    /// The console's ring, if the domain has one.
    pub(crate) fn console<P: Platform>(platform: &P) -> Option<Self> {
        // SAFETY: the platform vouches for it.
        Some(unsafe { Self::new(platform.console_ring()?) })
    }

    /// # Safety
    /// `ring` is as [`BuilderRing`] says.
    unsafe fn new(ring: BuilderRing) -> Self {
        MappedRing {
            // SAFETY: mapped for as long as the domain lives (caller), and no code in it gets at the page but by this.
            page: unsafe { SharedMemory::new(ring.page.cast(), PAGE_SIZE) },
            port: ring.port,
        }
    }
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
    /// The memory is mapped read-write, page-aligned, all zero, and has no other user until it comes
    /// back through [`free_pages`](Self::free_pages), and shares no page with anything else.
    fn alloc_pages(&self, count: NonZeroUsize) -> Option<NonNull<Page>>;

    /// Gives pages back.
    ///
    /// # Safety
    /// `first` and `count` are exactly those of one earlier [`alloc_pages`](Self::alloc_pages),
    /// given back once; no grant on any of the pages is active and they are not used any more.
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

    /// Takes a window: addresses for `count` pages of other domains, which follow each other. Nothing is there yet.
    /// `None` when there is no room for so many, and where the kernel maps no pages of others, which is what is
    /// provided.
    ///
    /// # Implementation safety
    /// The addresses are page-aligned, nothing is mapped at them, and no other code uses them until they come back through
    /// [`free_window`](Self::free_window).
    fn alloc_window(&self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        let _ = count;
        None
    }

    /// Gives a window back.
    ///
    /// # Safety
    /// `first` and `count` are exactly those of one earlier [`alloc_window`](Self::alloc_window), given back once; all
    /// pages of it are [`View::Empty`], and Xen maps nothing at any of them.
    unsafe fn free_window(&self, first: NonNull<Page>, count: NonZeroUsize) {
        let _ = (first, count);
    }

    /// Where Xen is told to map another domain's page so that it can be seen at `page` of a window (`host_addr`): in a PV
    /// domain that address; else the guest physical address of a frame without memory, which is for this page alone.
    ///
    /// # Implementation safety
    /// The domain has no memory there, nothing of Xen's, and no device; in a PV domain the page tables down to the last
    /// level are there.
    fn window_address(&self, page: NonNull<Page>) -> u64 {
        page.addr().get() as u64
    }

    /// Sets what is at a page of a window. In a PV domain Xen itself shows and hides a foreign page when it maps and unmaps
    /// it, so that there is nothing to do for [`View::Foreign`], nor for [`View::Empty`] after that.
    ///
    /// # Safety
    /// `page` is of a window; no code relies on what was there; [`View::Foreign`]: Xen has mapped a page there;
    /// [`View::Own`]: nothing that a mapping more would break uses the frame.
    unsafe fn set_window(&self, page: NonNull<Page>, view: View) {
        let _ = (page, view);
    }

    /// What the drivers keep once per domain. One line: a `static` that is returned, or a field beside the rest of
    /// the machine.
    ///
    /// # Implementation safety
    /// All handles of one domain return the same state, and handles of two domains never do. That the grant table has
    /// one driver rests on it.
    fn domain_state(&self) -> &DomainState;

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

    /// Nanoseconds since 1970-01-01 00:00 UTC, or 0 where it is unknown.
    fn wall_clock(&self) -> u64;

    /// Whether `port` has fired since the last time this was asked; forgets that it did.
    ///
    /// An event that arrives after the answer is seen by the next call: never lost.
    fn take_pending(&self, port: Port) -> bool;

    /// Told of a port that the drivers opened, before anything can fire there. The builder's ports are not told.
    fn port_opened(&self, _port: Port) {}

    /// Told of a port that the drivers are about to close, after which its number may be that of another.
    fn port_closed(&self, _port: Port) {}

    /// The references that the drivers may use, the others being those of other drivers of this kernel's. All of them by
    /// default.
    fn grant_refs(&self) -> Range<u32> {
        0..u32::MAX
    }

    /// The kernel's own driver of the grant table. With one, [`grant_frame`](Self::grant_frame) is never called; without,
    /// which is the default, the drivers own the table.
    fn grant_driver(&self) -> Option<&dyn GrantDriver> {
        None
    }

    /// The kernel's own connection to xenstore. With one, [`xenstore_ring`](Self::xenstore_ring) is never called;
    /// without, which is the default, the drivers own the ring.
    fn store_driver(&self) -> Option<&dyn StoreDriver> {
        None
    }

    /// Blocks until one of `ports` has fired and was not taken yet, or `deadline` has passed. May
    /// return early for no reason. `ports` may be empty: a plain sleep. The drivers never pass more than
    /// [`MAX_POLL_PORTS`](crate::hypercall::sched::MAX_POLL_PORTS): what they wait for beyond that they look after by turns.
    fn wait(&self, ports: &[Port], deadline: Instant);
}
