//! Grants: pages that another domain may map, and pages of others that this one maps.
//!
//! [`Grants::share`] allocates zeroed whole pages and grants them to one domain; the
//! [`SharedPages`] it returns takes them back when dropped. A peer that still has a page mapped
//! can't be forced to let go: such pages, and their grant references, wait in quarantine, and
//! nothing reuses them before Xen says that the mapping is gone. The table is the domain's own, in
//! version 1 (public/grant_table.h). [`Grants::map`] is the other side of it.
//!
//! ```
//! use core::num::NonZeroUsize;
//!
//! use xen_guest::grant::{GrantError, Grants};
//! use xen_guest::hypercall::DomId;
//! use xen_guest::platform::Platform;
//!
//! /// Lends dom0 a page with a greeting; whether it has let go of it again.
//! fn lend<P: Platform>(grants: &Grants<P>) -> Result<bool, GrantError> {
//!     let page = grants.share(NonZeroUsize::MIN, DomId(0))?;
//!     page.memory().copy_in(0, b"hello");
//!     println!("map reference {}", page.refs()[0]);
//!     // Otherwise the page waits in quarantine.
//!     Ok(page.revoke())
//! }
//! ```

mod error;
mod lend;
mod map;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::mem::offset_of;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::hypercall::{DomId, XenError};
use crate::platform::{Claim, Frame, InUse, PAGE_SIZE, Page, Platform, Resource};
use crate::shared::{SharedMemory, SharedWord};
use xen_abi as sys;

use self::map::Maps;

pub use crate::hypercall::grant_table::GrantStatus;
pub use error::{CopyError, Counters, GrantError, Limits, MapError};
pub use lend::{Lent, OwnPages, Remote, Retired};
pub use map::MappedPages;
pub use xen_abi::GrantRef;

/// Entries in one frame of the table.
const PER_FRAME: u32 = (PAGE_SIZE / size_of::<sys::grant_entry_v1>()) as u32;

/// How often a revoke is tried again when the entry changed under its hands. Each failure means
/// that the peer mapped or unmapped at that very moment; one that does so forever is left to the
/// quarantine.
const REVOKE_TRIES: u32 = 8;

/// This domain's grant table. Clones are the same table.
pub struct Grants<P: Platform> {
    table: Rc<Table<P>>,
}

struct Table<P: Platform> {
    platform: P,
    limits: Cell<Limits>,
    /// Pages in the hands of [`SharedPages`].
    shared_pages: Cell<usize>,
    /// Pages that ever went to quarantine.
    total_quarantined_pages: Cell<u64>,
    /// The mapped frames of the table.
    frames: RefCell<Vec<SharedMemory<'static>>>,
    /// References that are free to use; their entries are all zero.
    free: RefCell<Vec<GrantRef>>,
    /// References of the mapped frames that the table can use at all: those in `free` and those in use.
    usable: Cell<usize>,
    quarantine: RefCell<Vec<Block>>,
    /// The domain's [`resumes`](crate::platform::DomainState::resumes) when the fields above were filled.
    resumes: Cell<u64>,
    /// Pages of other domains.
    maps: Maps,
    /// Makes this the only table of the domain: no other hands out these references.
    _claim: Claim<P>,
}

/// An entry of the table. Xen changes the flags at any time, by atomic operations.
struct Entry {
    flags: SharedWord<'static, u16>,
    domid: SharedWord<'static, u16>,
    frame: SharedWord<'static, u32>,
}

/// Pages that were allocated together, and the grants on them that are active.
struct Block {
    remote: DomId,
    first: NonNull<Page>,
    count: NonZeroUsize,
    refs: Vec<GrantRef>,
}

impl<P: Platform> Clone for Grants<P> {
    fn clone(&self) -> Self {
        Grants {
            table: Rc::clone(&self.table),
        }
    }
}

impl<P: Platform> Drop for Table<P> {
    fn drop(&mut self) {
        self.maps.give_back_spare(&self.platform);
    }
}

impl<P: Platform> fmt::Debug for Grants<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grants").field(&self.counters()).finish()
    }
}

impl<P: Platform> Grants<P> {
    /// Takes the domain's grant table over. Nothing of it is mapped yet.
    ///
    /// # Errors
    /// [`InUse`] while another `Grants` of this domain exists: two would hand out the same references.
    pub fn new(platform: P) -> Result<Self, InUse> {
        Ok(Grants {
            table: Rc::new(Table {
                _claim: Claim::new(&platform, Resource::GrantTable)?,
                resumes: Cell::new(platform.domain_state().resumes()),
                platform,
                limits: Cell::new(Limits::default()),
                shared_pages: Cell::new(0),
                total_quarantined_pages: Cell::new(0),
                frames: RefCell::new(Vec::new()),
                free: RefCell::new(Vec::new()),
                usable: Cell::new(0),
                quarantine: RefCell::new(Vec::new()),
                maps: Maps::default(),
            }),
        })
    }

    /// Sets how much may be shared from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.table.limits.set(limits);
    }

    /// How much is shared and held back.
    pub fn counters(&self) -> Counters {
        let table = &*self.table;
        let quarantine = table.quarantine.borrow();
        Counters {
            shared_pages: table.shared_pages.get(),
            quarantined_pages: quarantine.iter().map(|block| block.count.get()).sum(),
            quarantined_refs: quarantine.iter().map(|block| block.refs.len()).sum(),
            used_refs: table.usable.get() - table.free.borrow().len(),
            total_quarantined_pages: table.total_quarantined_pages.get(),
            mapped_pages: table.maps.mapped(),
            total_mapped_pages: table.maps.total(),
            stuck_pages: table.maps.stuck(),
        }
    }

    /// Allocates `count` zeroed pages, adjacent in the address space, and lets `remote` map them
    /// for reading and writing.
    ///
    /// # Errors
    /// See [`GrantError`]; nothing is shared then.
    pub fn share(&self, count: NonZeroUsize, remote: DomId) -> Result<SharedPages<P>, GrantError> {
        self.drain();
        self.check_quarantine(remote)?;
        self.check_limit(count)?;
        if self.table.platform.grant_driver().is_none() {
            self.reserve(count.get())?;
        }
        let mut block = self.alloc(count, remote)?;
        if let Err(error) = self.grant_all(&mut block) {
            let shared_pages = &self.table.shared_pages;
            shared_pages.set(shared_pages.get() - count.get());
            self.take_back(block);
            return Err(error);
        }
        Ok(SharedPages {
            grants: self.clone(),
            remote,
            first: block.first,
            count,
            refs: block.refs.into_boxed_slice(),
            resumes: self.table.resumes.get(),
        })
    }

    /// # Errors
    /// The domain holds on to too much of what was taken back from it.
    fn check_quarantine(&self, remote: DomId) -> Result<(), GrantError> {
        let quarantine = self.table.quarantine.borrow();
        let held = quarantine.iter().filter(|block| block.remote == remote);
        let held: usize = held.map(|block| block.count.get()).sum();
        match held > self.table.limits.get().quarantine {
            true => Err(GrantError::Quarantine(held)),
            false => Ok(()),
        }
    }

    /// # Errors
    /// So many pages more would be too many.
    fn check_limit(&self, count: NonZeroUsize) -> Result<(), GrantError> {
        let shared = self.table.shared_pages.get();
        match shared.saturating_add(count.get()) > self.table.limits.get().pages {
            true => Err(GrantError::Limit(shared)),
            false => Ok(()),
        }
    }

    /// Zeroed pages, which count as shared from now on, and are not granted yet.
    fn alloc(&self, count: NonZeroUsize, remote: DomId) -> Result<Block, GrantError> {
        let platform = &self.table.platform;
        let first = platform.alloc_pages(count).ok_or(GrantError::NoMemory)?;
        if !first.addr().get().is_multiple_of(PAGE_SIZE) {
            // It is not given back either: it is not known what such an address is part of.
            return Err(GrantError::Misaligned(first.addr().get()));
        }
        let shared_pages = &self.table.shared_pages;
        shared_pages.set(shared_pages.get() + count.get());
        Ok(Block {
            remote,
            first,
            count,
            refs: Vec::new(),
        })
    }

    /// Grants the pages of a block, and lists the references there, as far as it comes. Where the table is the domain's own,
    /// as many references are [reserved](Self::reserve).
    fn grant_all(&self, block: &mut Block) -> Result<(), GrantError> {
        let platform = &self.table.platform;
        let frames = (0..block.count.get()).map(|index| {
            // SAFETY: `index` is less than the number of pages allocated at `first`.
            platform.frame(unsafe { block.first.add(index) })
        });
        let frames =
            frames.map(|frame| u32::try_from(frame.0).map_err(|_| GrantError::OutOfReach(frame)));
        let frames = frames.collect::<Result<Vec<u32>, GrantError>>()?;
        let Some(driver) = platform.grant_driver() else {
            // The last ones are the hottest.
            let start = self.table.free.borrow().len() - block.count.get();
            block.refs = self.table.free.borrow_mut().split_off(start);
            for (&reference, frame) in block.refs.iter().zip(frames) {
                self.activate(reference, block.remote, frame);
            }
            return Ok(());
        };
        let usable = &self.table.usable;
        for frame in frames {
            let granted = driver.grant(block.remote, Frame(frame.into()));
            block.refs.push(granted.map_err(GrantError::Table)?);
            usable.set(usable.get() + 1);
        }
        Ok(())
    }

    /// Ends the grants of a block and gives its pages back, at once or, when the peer has some of them mapped, later.
    fn take_back(&self, mut block: Block) -> bool {
        self.revoke_all(&mut block);
        if block.refs.is_empty() {
            self.release(&block);
            return true;
        }
        let total = &self.table.total_quarantined_pages;
        total.set(total.get() + block.count.get() as u64);
        self.table.quarantine.borrow_mut().push(block);
        false
    }

    /// Begins anew if the domain was resumed elsewhere meanwhile: its table is another, and empty, and no domain has mapped
    /// anything. Pages in quarantine are given back; what was shared before is memory that only its owner uses.
    fn follow_resume(&self) {
        let table = &*self.table;
        let resumes = table.platform.domain_state().resumes();
        if table.resumes.replace(resumes) == resumes {
            return;
        }
        table.frames.borrow_mut().clear();
        table.free.borrow_mut().clear();
        table.usable.set(0);
        table.maps.forget_stuck();
        for mut block in table.quarantine.take() {
            block.refs.clear();
            self.release(&block);
        }
    }

    /// Takes back what it can of the pages in quarantine and returns how many pages are still
    /// there. Also done before anything new is shared.
    pub fn drain(&self) -> usize {
        self.follow_resume();
        self.leave_stuck();
        let blocks = self.table.quarantine.take();
        let mut kept = Vec::new();
        for mut block in blocks {
            self.revoke_all(&mut block);
            match block.refs.is_empty() {
                true => self.release(&block),
                false => kept.push(block),
            }
        }
        let pages = kept.iter().map(|block| block.count.get()).sum();
        self.table.quarantine.replace(kept);
        pages
    }

    /// Makes sure that `count` references are free, growing the table as needed.
    fn reserve(&self, count: usize) -> Result<(), GrantError> {
        while self.table.free.borrow().len() < count {
            let index = self.table.frames.borrow().len() as u32;
            let ours = self.table.platform.grant_refs();
            if index * PER_FRAME >= ours.end {
                return Err(GrantError::Table(XenError::ENOSPC));
            }
            let frame = self
                .table
                .platform
                .grant_frame(index)
                .map_err(GrantError::Table)?;
            // SAFETY: a frame of this domain's table, which stays mapped (Platform::grant_frame); by the `Claim` this is the
            // only driver that accesses it.
            let frame = unsafe { SharedMemory::new(frame.cast(), PAGE_SIZE) };
            self.table.frames.borrow_mut().push(frame);
            let first = (index * PER_FRAME).max(sys::GNTTAB_NR_RESERVED_ENTRIES);
            let fresh = (first..(index + 1) * PER_FRAME)
                .rev()
                .map(GrantRef)
                .filter(|reference| ours.contains(&reference.0))
                // The kernel that ran in this domain before us may have left grants behind.
                .filter(|&reference| self.entry(reference).flags.load(Ordering::Relaxed) == 0);
            let fresh: Vec<GrantRef> = fresh.collect();
            let usable = &self.table.usable;
            usable.set(usable.get() + fresh.len());
            self.table.free.borrow_mut().extend(fresh);
        }
        Ok(())
    }

    /// The entry of a reference that came from [`reserve`](Self::reserve).
    fn entry(&self, reference: GrantRef) -> Entry {
        let frame = self.table.frames.borrow()[(reference.0 / PER_FRAME) as usize];
        let start = (reference.0 % PER_FRAME) as usize * size_of::<sys::grant_entry_v1>();
        Entry {
            flags: frame.word(start + offset_of!(sys::grant_entry_v1, flags)),
            domid: frame.word(start + offset_of!(sys::grant_entry_v1, domid)),
            frame: frame.word(start + offset_of!(sys::grant_entry_v1, frame)),
        }
    }

    /// Fills in a free entry and makes it valid.
    fn activate(&self, reference: GrantRef, remote: DomId, frame: u32) {
        let entry = self.entry(reference);
        // Xen does not look at these before the flags say that the entry is valid.
        entry.domid.store(remote.0, Ordering::Relaxed);
        entry.frame.store(frame, Ordering::Relaxed);
        entry.flags.store(sys::GTF_permit_access, Ordering::Release);
    }

    /// Ends a grant. `false` when the peer has the page mapped.
    fn revoke(&self, reference: GrantRef) -> bool {
        if let Some(driver) = self.table.platform.grant_driver() {
            return driver.end(reference);
        }
        let flags = self.entry(reference).flags;
        let mut current = flags.load(Ordering::Acquire);
        for _ in 0..REVOKE_TRIES {
            if current & (sys::GTF_reading | sys::GTF_writing) != 0 {
                return false;
            }
            match flags.compare_exchange(current, 0) {
                Ok(_) => return true,
                Err(changed) => current = changed,
            }
        }
        false
    }

    /// Ends the grants of a block as far as possible; those that stay active stay in its list.
    fn revoke_all(&self, block: &mut Block) {
        block.refs.retain(|&reference| {
            let revoked = self.revoke(reference);
            match self.table.platform.grant_driver() {
                _ if !revoked => {}
                None => self.table.free.borrow_mut().push(reference),
                Some(_) => self.table.usable.set(self.table.usable.get() - 1),
            }
            !revoked
        });
    }

    /// Zeroes the pages of a block without active grants and gives them back.
    fn release(&self, block: &Block) {
        debug_assert!(block.refs.is_empty());
        // SAFETY: no grant on the pages is active, so no other domain accesses them, and their owner
        // is gone; they were allocated with this count, and the block is released once.
        unsafe {
            block
                .first
                .cast::<u8>()
                .write_bytes(0, block.count.get() * PAGE_SIZE);
            self.table.platform.free_pages(block.first, block.count);
        }
    }
}

/// Whole pages that one other domain may map, until this is dropped.
///
/// The peer can write to them at any time: see [`SharedMemory`].
#[must_use = "dropping the handle ends the grants"]
pub struct SharedPages<P: Platform> {
    grants: Grants<P>,
    remote: DomId,
    first: NonNull<Page>,
    count: NonZeroUsize,
    refs: Box<[GrantRef]>,
    /// The domain's [`resumes`](crate::platform::DomainState::resumes) when they were shared.
    resumes: u64,
}

impl<P: Platform> SharedPages<P> {
    /// The first byte, for code that maps or hands on the pages; all of them follow it in the address space. To read and
    /// write them is what [`memory`](Self::memory) is for: accesses by this address have to be atomic ones, too.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.first.cast()
    }

    /// All of them as one piece of memory.
    pub fn memory(&self) -> SharedMemory<'_> {
        // SAFETY: allocated for this handle, mapped until it is dropped, and what else in this domain has their address, by
        // `as_ptr`, has to use it so that this holds.
        unsafe { SharedMemory::new(self.as_ptr(), self.size()) }
    }

    /// How many pages there are.
    pub fn count(&self) -> NonZeroUsize {
        self.count
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.count.get() * PAGE_SIZE
    }

    /// The grant reference of each page, in order.
    pub fn refs(&self) -> &[GrantRef] {
        &self.refs
    }

    /// Ends the grants and says whether that was possible at once; if not, the pages wait in
    /// quarantine for the peer to unmap them. Dropping does the same.
    pub fn revoke(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        if self.refs.is_empty() {
            return true;
        }
        let mut block = Block {
            remote: self.remote,
            first: self.first,
            count: self.count,
            refs: core::mem::take(&mut self.refs).into_vec(),
        };
        let (grants, table) = (&self.grants, &*self.grants.table);
        let pages = block.count.get();
        table.shared_pages.set(table.shared_pages.get() - pages);
        grants.follow_resume();
        if self.resumes != table.resumes.get() {
            // These references may be others' by now.
            block.refs.clear();
        }
        grants.take_back(block)
    }
}

impl<P: Platform> Drop for SharedPages<P> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<P: Platform> fmt::Debug for SharedPages<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPages")
            .field("first", &self.first)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
