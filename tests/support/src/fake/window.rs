//! Mapping other domains' pages as a guest does, by hypercalls, with all that Xen punishes.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use xen9p::hypercall::DomId;
use xen9p::platform::{PAGE_SIZE, Page, View};
use xen9p::sys;

use super::World;
use super::grant::MapError;

/// Where frames without memory begin, in PVH domains.
const FRAMES: u64 = 0x10_0000;

/// A page of a window.
struct Slot {
    owner: DomId,
    page: NonNull<Page>,
    frame: u64,
    /// What Xen has mapped there.
    xen: Option<NonNull<Page>>,
    /// What the domain's own page tables say.
    shown: bool,
}

/// What a handle stands for.
struct Mapping {
    granter: DomId,
    reference: u32,
    slot: usize,
}

/// The windows and mappings of all guests.
#[derive(Default)]
pub(super) struct Windows {
    /// By address.
    slots: BTreeMap<usize, Slot>,
    handles: BTreeMap<(DomId, u32), Mapping>,
    frames: u64,
    last_handle: u32,
}

impl World {
    fn is_pv(&self, id: DomId) -> bool {
        self.with_domain(id, |domain| domain.is_pv)
    }

    pub(super) fn alloc_window(&self, owner: DomId, count: NonZeroUsize) -> Option<NonNull<Page>> {
        let first = self.memory.borrow_mut().reserve(count)?;
        let mut windows = self.windows.borrow_mut();
        for index in 0..count.get() {
            // SAFETY: below the count.
            let page = unsafe { first.add(index) };
            windows.frames += 1;
            let slot = Slot {
                owner,
                page,
                frame: FRAMES + windows.frames,
                xen: None,
                shown: false,
            };
            let former = windows.slots.insert(page.as_ptr().addr(), slot);
            assert!(former.is_none(), "addresses are handed out once");
        }
        Some(first)
    }

    pub(super) fn free_window(&self, owner: DomId, first: NonNull<Page>, count: NonZeroUsize) {
        for index in 0..count.get() {
            let address = first.as_ptr().addr() + index * PAGE_SIZE;
            let slot = self.windows.borrow_mut().slots.remove(&address);
            let slot = slot.expect("a window is given back once");
            assert_eq!(slot.owner, owner, "a window is given back by its owner");
            assert!(
                slot.xen.is_none(),
                "Xen still maps a page in a window that is given back"
            );
            assert!(!slot.shown, "a window that is given back is empty");
        }
    }

    /// Where Xen maps a page for a slot.
    pub(super) fn window_address(&self, id: DomId, page: NonNull<Page>) -> u64 {
        let windows = self.windows.borrow();
        let slot = windows
            .slots
            .get(&page.as_ptr().addr())
            .expect("a page of a window");
        assert_eq!(slot.owner, id, "a window of the domain itself");
        match self.is_pv(id) {
            true => page.as_ptr().addr() as u64,
            false => slot.frame * PAGE_SIZE as u64,
        }
    }

    fn show(&self, page: NonNull<Page>, what: Option<NonNull<Page>>) {
        // SAFETY: a slot's address is reserved; what a domain does with a page that it has emptied is what this finds out.
        unsafe { self.memory.borrow().show(page, what) };
    }

    pub(super) fn set_window(&self, id: DomId, page: NonNull<Page>, view: View) {
        let pv = self.is_pv(id);
        let mut windows = self.windows.borrow_mut();
        let slot = windows.slots.get_mut(&page.as_ptr().addr());
        let slot = slot.expect("a page of a window");
        assert_eq!(slot.owner, id, "a window of the domain itself");
        let what = match view {
            View::Foreign => Some(slot.xen.expect("Xen has mapped a page there")),
            View::Own(frame) => {
                assert!(
                    !pv || slot.xen.is_none(),
                    "Xen crashes the domain: a grant is unmapped behind its back"
                );
                let own = self.memory.borrow().page(frame.0);
                Some(own.expect("a frame of the domain"))
            }
            View::Empty => {
                assert!(
                    !pv || slot.xen.is_none(),
                    "Xen crashes the domain: a grant is unmapped behind its back"
                );
                None
            }
        };
        slot.shown = what.is_some();
        self.show(page, what);
    }

    /// GNTTABOP_map_grant_ref for one entry; returns a `GNTST_*`.
    pub(super) fn map_for(&self, id: DomId, call: &mut sys::gnttab_map_grant_ref) -> i16 {
        if call.dom == sys::DOMID_SELF || !self.domains.borrow().contains_key(&DomId(call.dom)) {
            return sys::GNTST_bad_domain;
        }
        if call.flags & !sys::GNTMAP_readonly != sys::GNTMAP_host_map {
            return sys::GNTST_general_error;
        }
        let granter = DomId(call.dom);
        let pv = self.is_pv(id);
        assert!(
            pv || granter != id,
            "a PVH domain that maps its own page loses it"
        );
        let (used, limit) = {
            let windows = self.windows.borrow();
            let used = windows.handles.range((id, 0)..=(id, u32::MAX)).count();
            (used, self.with_domain(id, |domain| domain.max_maps))
        };
        if used >= limit {
            return sys::GNTST_no_space;
        }
        let page = match self.pin(
            id,
            granter,
            call.ref_,
            call.flags & sys::GNTMAP_readonly == 0,
        ) {
            Ok(page) => page,
            Err(MapError::BadReference) => return sys::GNTST_bad_gntref,
            Err(MapError::NotPermitted) => return sys::GNTST_general_error,
            Err(MapError::BadFrame) => return sys::GNTST_bad_page,
        };
        let mut windows = self.windows.borrow_mut();
        let found = windows.slots.iter_mut().find(|(address, slot)| match pv {
            true => **address as u64 == call.host_addr,
            false => slot.frame * PAGE_SIZE as u64 == call.host_addr,
        });
        let (&address, slot) = found.expect("pages are mapped in windows alone");
        assert_eq!(slot.owner, id, "a window of the domain itself");
        assert!(
            slot.xen.is_none(),
            "Xen crashes the domain: it maps a page over one that is mapped"
        );
        slot.xen = Some(page);
        if pv {
            slot.shown = true;
            self.show(slot.page, Some(page));
        }
        windows.last_handle += 1;
        call.handle = windows.last_handle;
        let mapping = Mapping {
            granter,
            reference: call.ref_,
            slot: address,
        };
        windows.handles.insert((id, call.handle), mapping);
        sys::GNTST_okay
    }

    /// GNTTABOP_unmap_grant_ref for one entry; returns a `GNTST_*`.
    pub(super) fn unmap_for(&self, id: DomId, call: &sys::gnttab_unmap_grant_ref) -> i16 {
        let pv = self.is_pv(id);
        let mut windows = self.windows.borrow_mut();
        let Some(mapping) = windows.handles.get(&(id, call.handle)) else {
            return sys::GNTST_bad_handle;
        };
        let slot = &windows.slots[&mapping.slot];
        let expected = match pv {
            true => mapping.slot as u64,
            false => slot.frame * PAGE_SIZE as u64,
        };
        if expected != call.host_addr {
            return sys::GNTST_general_error;
        }
        let mapping = windows
            .handles
            .remove(&(id, call.handle))
            .expect("found above");
        let slot = windows.slots.get_mut(&mapping.slot).expect("found above");
        slot.xen = None;
        // In a PVH domain an access would go on, to nothing: here it faults, too.
        self.show(slot.page, None);
        if pv {
            slot.shown = false;
        }
        drop(windows);
        self.unpin(mapping.granter, mapping.reference, true);
        sys::GNTST_okay
    }

    /// A domain has died, and Xen lets go of all that it had mapped.
    pub(super) fn unmap_all_for(&self, id: DomId) {
        let mut windows = self.windows.borrow_mut();
        let theirs: Vec<u32> = windows
            .handles
            .range((id, 0)..=(id, u32::MAX))
            .map(|(&(_, handle), _)| handle)
            .collect();
        for handle in theirs {
            let mapping = windows.handles.remove(&(id, handle)).expect("listed above");
            self.unpin(mapping.granter, mapping.reference, true);
        }
        windows.slots.retain(|_, slot| slot.owner != id);
    }
}
