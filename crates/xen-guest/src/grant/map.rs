//! Pages of other domains, mapped.
//!
//! [`Grants::map`] maps pages that another domain grants to this one; dropping the [`MappedPages`] that it returns
//! unmaps them. Addresses where Xen did not undo a mapping are not used again before it has: in a PVH domain Xen
//! destroys a domain that maps something there. Until a page is unmapped its owner can't have it back, and lives
//! on as a zombie when it dies: unmap promptly.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::num::NonZeroUsize;
use core::ptr::NonNull;

use super::{Grants, MapError};
use crate::hypercall::grant_table::{self, GrantStatus};
use crate::hypercall::{DomId, event_channel};
use crate::platform::{PAGE_SIZE, Page, Platform, View};
use crate::shared::SharedMemory;
use xen_abi::{self as sys, GrantRef};

/// Grants in one hypercall.
const TOGETHER: usize = 32;

/// The mappings of a domain.
#[derive(Default)]
pub(super) struct Maps {
    live: RefCell<Vec<Rc<Foreign>>>,
    /// Those whose owner is gone and that Xen did not undo.
    stuck: RefCell<Vec<Rc<Foreign>>>,
    total: Cell<u64>,
    /// Shown in place of pages that are lost; allocated with the first mapping.
    spare: Cell<Option<NonNull<Page>>>,
    /// The number of this domain, which costs some hypercalls to find out.
    own: Cell<Option<DomId>>,
}

impl Maps {
    pub(super) fn mapped(&self) -> usize {
        let live = self.live.borrow();
        live.iter()
            .map(|foreign| foreign.handles.borrow().len())
            .sum()
    }

    pub(super) fn total(&self) -> u64 {
        self.total.get()
    }

    pub(super) fn stuck(&self) -> usize {
        let stuck = self.stuck.borrow();
        stuck
            .iter()
            .map(|foreign| foreign.handles.borrow().len())
            .sum()
    }

    /// The domain was resumed elsewhere, where Xen has none of its mappings, and another number for it.
    pub(super) fn forget_stuck(&self) {
        self.own.set(None);
        for foreign in self.stuck.borrow().iter() {
            foreign.handles.borrow_mut().clear();
        }
    }

    /// For the end of the table, when no mapping is left.
    pub(super) fn give_back_spare<P: Platform>(&self, platform: &P) {
        if let Some(spare) = self.spare.take() {
            // SAFETY: allocated by `Grants::map`, and shown nowhere: mappings keep the table.
            unsafe {
                spare.write_bytes(0, 1);
                platform.free_pages(spare, NonZeroUsize::MIN);
            }
        }
    }
}

/// A page that Xen has mapped: its number in the window, and Xen's number for the mapping.
#[derive(Clone, Copy)]
struct Handle {
    index: usize,
    number: u32,
}

/// A window with what is mapped in it.
struct Foreign {
    first: NonNull<Page>,
    count: NonZeroUsize,
    handles: RefCell<Vec<Handle>>,
    lost: Cell<bool>,
}

impl Foreign {
    fn page(&self, index: usize) -> NonNull<Page> {
        debug_assert!(index < self.count.get());
        // SAFETY: below the count of pages in the window.
        unsafe { self.first.add(index) }
    }

    /// Sets what is at every page.
    ///
    /// # Safety
    /// As [`Platform::set_window`].
    unsafe fn show<P: Platform>(&self, platform: &P, view: View) {
        for index in 0..self.count.get() {
            // SAFETY: the caller's promise.
            unsafe { platform.set_window(self.page(index), view) };
        }
    }

    /// Maps the pages behind `refs`, in order. What was mapped before an error is in the list of handles.
    ///
    /// # Safety
    /// The window is new.
    unsafe fn map<P: Platform>(
        &self,
        platform: &P,
        granter: DomId,
        refs: &[GrantRef],
    ) -> Result<(), MapError> {
        let mut handles = self.handles.borrow_mut();
        for (base, refs) in (0..).step_by(TOGETHER).zip(refs.chunks(TOGETHER)) {
            let entry = |(index, reference): (usize, &GrantRef)| sys::gnttab_map_grant_ref {
                host_addr: platform.window_address(self.page(base + index)),
                flags: sys::GNTMAP_host_map,
                ref_: reference.0,
                dom: granter.0,
                status: sys::GNTST_general_error,
                handle: 0,
                dev_bus_addr: 0,
            };
            let mut batch: Vec<_> = refs.iter().enumerate().map(entry).collect();
            // SAFETY: addresses of the window, at which nothing is.
            unsafe { grant_table::map(platform, &mut batch) }.map_err(MapError::Xen)?;
            let mut outcome = Ok(());
            for (index, entry) in batch.iter().enumerate() {
                match GrantStatus(entry.status) {
                    GrantStatus::OKAY => handles.push(Handle {
                        index: base + index,
                        number: entry.handle,
                    }),
                    status => {
                        let refused = MapError::Refused(GrantRef(entry.ref_), status);
                        outcome = outcome.and(Err(refused));
                    }
                }
            }
            outcome?;
        }
        Ok(())
    }

    /// Has Xen undo the mappings as far as it does; the others stay in the list of handles.
    ///
    /// # Safety
    /// The pages are not used any more.
    unsafe fn unmap<P: Platform>(&self, platform: &P) {
        let mut handles = self.handles.borrow_mut();
        let mut kept = Vec::new();
        for some in handles.chunks(TOGETHER) {
            let entry = |handle: &Handle| sys::gnttab_unmap_grant_ref {
                host_addr: platform.window_address(self.page(handle.index)),
                dev_bus_addr: 0,
                handle: handle.number,
                status: sys::GNTST_general_error,
            };
            let mut batch: Vec<_> = some.iter().map(entry).collect();
            // SAFETY: mapped by `map`, and the caller's promise.
            let done = unsafe { grant_table::unmap(platform, &mut batch) };
            for (handle, entry) in some.iter().zip(&batch) {
                if done.is_err() || GrantStatus(entry.status) != GrantStatus::OKAY {
                    kept.push(*handle);
                }
            }
        }
        *handles = kept;
    }
}

impl<P: Platform> Grants<P> {
    /// Maps the pages that `granter` grants to this domain by these references, for reading and writing, so that they
    /// follow each other in the address space. Each hypercall maps up to 32 of them.
    ///
    /// # Errors
    /// See [`MapError`]; nothing is mapped then.
    pub fn map(&self, granter: DomId, refs: &[GrantRef]) -> Result<MappedPages<P>, MapError> {
        self.drain();
        let (platform, maps) = (&self.table.platform, &self.table.maps);
        let count = NonZeroUsize::new(refs.len()).ok_or(MapError::NoWindow(0))?;
        let mapped = maps.mapped() + maps.stuck();
        if mapped.saturating_add(count.get()) > self.table.limits.get().mapped {
            return Err(MapError::Limit(mapped));
        }
        // In a PVH domain a page of its own would be lost by it.
        let own = match maps.own.get() {
            Some(own) => own,
            None => event_channel::own_domain(platform).map_err(MapError::Xen)?,
        };
        maps.own.set(Some(own));
        if granter == own || granter == DomId::SELF {
            return Err(MapError::Own);
        }
        if maps.spare.get().is_none() {
            let spare = platform.alloc_pages(NonZeroUsize::MIN);
            maps.spare.set(Some(spare.ok_or(MapError::NoMemory)?));
        }
        let first = platform.alloc_window(count);
        let foreign = Rc::new(Foreign {
            first: first.ok_or(MapError::NoWindow(count.get()))?,
            count,
            handles: RefCell::default(),
            lost: Cell::new(false),
        });
        // SAFETY: a new window.
        if let Err(error) = unsafe { foreign.map(platform, granter, refs) } {
            self.leave(foreign);
            return Err(error);
        }
        // SAFETY: a new window, all pages of which Xen has mapped.
        unsafe { foreign.show(platform, View::Foreign) };
        maps.total.set(maps.total.get() + count.get() as u64);
        maps.live.borrow_mut().push(Rc::clone(&foreign));
        Ok(MappedPages {
            grants: self.clone(),
            foreign,
        })
    }

    /// Unmaps what is in a window that is not used any more, and gives it back, or keeps it until Xen lets go.
    fn leave(&self, foreign: Rc<Foreign>) {
        let platform = &self.table.platform;
        // SAFETY: the window is not used any more.
        unsafe { foreign.unmap(platform) };
        if !foreign.handles.borrow().is_empty() {
            self.table.maps.stuck.borrow_mut().push(foreign);
            return;
        }
        // SAFETY: the window is not used any more, and Xen maps nothing there.
        unsafe {
            foreign.show(platform, View::Empty);
            platform.free_window(foreign.first, foreign.count);
        }
    }

    /// Tries again to undo mappings that Xen did not undo.
    pub(super) fn leave_stuck(&self) {
        for foreign in self.table.maps.stuck.take() {
            self.leave(foreign);
        }
    }

    /// Unmaps all pages of other domains, which are [lost](MappedPages::is_lost) by it: a page of this domain is in the
    /// place of each. Before a domain is saved: no mapping outlives that, and a PV domain with one can't be saved.
    pub(crate) fn unmap_all(&self) {
        let (platform, maps) = (&self.table.platform, &self.table.maps);
        self.leave_stuck();
        for foreign in maps.live.borrow().iter() {
            // SAFETY: what accesses the pages later finds others in their place.
            unsafe { foreign.unmap(platform) };
            foreign.lost.set(true);
            if let Some(spare) = maps.spare.get()
                && foreign.handles.borrow().is_empty()
            {
                // SAFETY: the pages are lost to their owner; the spare page is for that, and accessed by atomics only.
                unsafe { foreign.show(platform, View::Own(platform.frame(spare))) };
            }
        }
    }
}

/// Pages of another domain, mapped until this is dropped; they follow each other in the address space.
///
/// The other domain can write to them at any time: see [`SharedMemory`].
#[must_use = "dropping the handle unmaps the pages"]
pub struct MappedPages<P: Platform> {
    grants: Grants<P>,
    foreign: Rc<Foreign>,
}

impl<P: Platform> MappedPages<P> {
    /// The first byte; all pages follow it. Accesses by this address have to be atomic ones.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.foreign.first.cast()
    }

    /// All of them as one piece of memory.
    pub fn memory(&self) -> SharedMemory<'_> {
        // SAFETY: mapped until the handle is dropped, or other pages in their place, and no other code in this domain has
        // their addresses but by `as_ptr`.
        unsafe { SharedMemory::new(self.as_ptr(), self.size()) }
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.foreign.count.get() * PAGE_SIZE
    }

    /// Whether the pages are mapped no more, because the domain was suspended since: what is read and written is a page
    /// of this domain's own, which means nothing.
    pub fn is_lost(&self) -> bool {
        self.foreign.lost.get()
    }
}

impl<P: Platform> Drop for MappedPages<P> {
    fn drop(&mut self) {
        let maps = &self.grants.table.maps;
        let mut live = maps.live.borrow_mut();
        live.retain(|other| !Rc::ptr_eq(other, &self.foreign));
        drop(live);
        self.grants.leave(Rc::clone(&self.foreign));
    }
}

impl<P: Platform> fmt::Debug for MappedPages<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedPages")
            .field("first", &self.foreign.first)
            .field("count", &self.foreign.count)
            .finish_non_exhaustive()
    }
}
