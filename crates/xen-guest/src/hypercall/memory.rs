//! Memory operations (public/memory.h).

use super::{DomId, XenError, operate};
use crate::platform::Platform;
use xen_abi::{self as sys, Frame};

/// What [`add_to_physmap`] can put into this domain's physical address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The shared_info page.
    SharedInfo,
    /// A frame of the grant table, which grows when it is not that large yet.
    GrantTable(u32),
}

/// One entry of the memory map that [`memory_map`] fills in, in e820's layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed)]
pub struct MapEntry {
    /// Physical address of the first byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// What it is: 1 is RAM.
    pub kind: u32,
}

/// Puts a page of Xen's at guest frame `at` (auto-translated domains only).
///
/// # Errors
/// `EINVAL` when the frame or the index is out of range, `ENOSYS` in a PV domain.
///
/// # Safety
/// Frame `at` is unused: the memory that was there is gone afterwards.
pub unsafe fn add_to_physmap<P: Platform>(
    platform: &P,
    space: Space,
    at: Frame,
) -> Result<(), XenError> {
    let (space, index) = match space {
        Space::SharedInfo => (sys::XENMAPSPACE_shared_info, 0),
        Space::GrantTable(frame) => (sys::XENMAPSPACE_grant_table, frame),
    };
    let mut argument = sys::xen_add_to_physmap {
        domid: DomId::SELF.0,
        size: 0,
        space,
        idx: index.into(),
        gpfn: at.0,
    };
    // SAFETY: the operation takes this structure, which holds no pointer; the caller vouches that
    // the frame is free.
    unsafe {
        operate(
            platform,
            sys::__HYPERVISOR_memory_op,
            sys::XENMEM_add_to_physmap,
            &mut argument,
        )
    }
    .map(drop)
}

/// Fills in the memory map that the domain was built with and returns how many entries it has
/// (at most `entries.len()`).
///
/// # Errors
/// `ENOSYS` when the domain was built without a map (PV domains mostly), `EINVAL` when there is
/// no room for it.
pub fn memory_map<P: Platform>(platform: &P, entries: &mut [MapEntry]) -> Result<usize, XenError> {
    let mut argument = sys::xen_memory_map {
        nr_entries: u32::try_from(entries.len()).map_err(|_| XenError::EINVAL)?,
        buffer: sys::__guest_handle_void {
            p: entries.as_mut_ptr().cast(),
        },
    };
    // SAFETY: the operation takes this structure; its buffer is valid for `nr_entries` writes of
    // 20-byte e820 entries, since it is an exclusive slice of as many packed `MapEntry`s.
    unsafe {
        operate(
            platform,
            sys::__HYPERVISOR_memory_op,
            sys::XENMEM_memory_map,
            &mut argument,
        )
    }?;
    Ok(entries.len().min(argument.nr_entries as usize))
}

/// Pages of memory that this domain has at the moment.
///
/// # Errors
/// Whatever Xen answered.
pub fn current_reservation<P: Platform>(platform: &P) -> Result<usize, XenError> {
    let mut domain: sys::domid_t = DomId::SELF.0;
    // SAFETY: the operation takes a pointer to a domain number.
    unsafe {
        operate(
            platform,
            sys::__HYPERVISOR_memory_op,
            sys::XENMEM_current_reservation,
            &mut domain,
        )
    }
}

const _: () = assert!(size_of::<MapEntry>() == 20);
