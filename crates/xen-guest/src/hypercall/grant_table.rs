//! Grant table operations (public/grant_table.h), as far as the owner of grants needs them.

use super::{DomId, XenError};
use crate::platform::Platform;
use xen_abi::{self as sys, Frame, GrantRef};

/// A grant operation's own status (`GNTST_*`), as the error number nearest in meaning.
fn check_status(status: i16) -> Result<(), XenError> {
    match status {
        sys::GNTST_okay => Ok(()),
        sys::GNTST_bad_domain => Err(XenError::ESRCH),
        sys::GNTST_bad_gntref => Err(XenError::EINVAL),
        sys::GNTST_permission_denied => Err(XenError::EPERM),
        sys::GNTST_bad_virt_addr | sys::GNTST_bad_page => Err(XenError::EFAULT),
        sys::GNTST_address_too_big => Err(XenError::ERANGE),
        sys::GNTST_eagain => Err(XenError::EAGAIN),
        sys::GNTST_no_device_space | sys::GNTST_no_space => Err(XenError::ENOSPC),
        _ => Err(XenError::EIO),
    }
}

/// Grows this domain's grant table to `frames.len()` frames and fills in where they are (PV: the
/// machine frames, to be mapped; auto-translated domains use [`memory::add_to_physmap`] instead).
///
/// # Errors
/// `ENOSPC` or `EIO` when the table can't become that large.
///
/// [`memory::add_to_physmap`]: super::memory::add_to_physmap
pub fn setup_table<P: Platform>(platform: &P, frames: &mut [Frame]) -> Result<(), XenError> {
    let mut argument = sys::gnttab_setup_table {
        dom: DomId::SELF.0,
        nr_frames: u32::try_from(frames.len()).map_err(|_| XenError::EINVAL)?,
        status: 0,
        frame_list: sys::__guest_handle_xen_pfn_t {
            // A `Frame` is one u64, exactly Xen's xen_pfn_t.
            p: frames.as_mut_ptr().cast(),
        },
    };
    // SAFETY: the operation takes this structure; its list is valid for `nr_frames` writes of
    // xen_pfn_t, since it is an exclusive slice of as many `Frame`s, which are transparent u64s.
    unsafe {
        grant_op(platform, sys::GNTTABOP_setup_table, &mut argument)?;
    }
    check_status(argument.status)
}

/// Makes grant table operation `op` for one structure (the call takes arrays).
///
/// # Safety
/// `T` is the structure of operation `op`, and what it points to is valid for what Xen does.
unsafe fn grant_op<P: Platform, T>(
    platform: &P,
    op: u32,
    argument: &mut T,
) -> Result<(), XenError> {
    // SAFETY: an exclusive reference is valid for reads and writes of one structure; the caller
    // vouches for the type and for what is behind it.
    let result = unsafe {
        platform.hypercall(
            sys::__HYPERVISOR_grant_table_op,
            [
                op as usize,
                (&raw mut *argument).expose_provenance(),
                1,
                0,
                0,
            ],
        )
    };
    XenError::check(result).map(drop)
}

/// Where [`copy`] reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The beginning of a frame of this domain.
    Frame(Frame),
    /// The beginning of a page that a domain grants to this one by this reference.
    Grant(DomId, GrantRef),
}

/// Has Xen copy the first `len` bytes of one page to another.
///
/// # Errors
/// `EINVAL` for a reference that is none, `EPERM` for a grant to another domain, `EFAULT` for a frame that
/// is not there; others as Xen says.
///
/// # Safety
/// The target is memory that may be written to, and no Rust reference points to it.
pub unsafe fn copy<P: Platform>(
    platform: &P,
    from: Memory,
    to: Memory,
    len: u16,
) -> Result<(), XenError> {
    let end = |memory| match memory {
        Memory::Frame(frame) => sys::gnttab_copy_gnttab_copy_ptr {
            u: sys::gnttab_copy_gnttab_copy_ptr__bindgen_ty_1 { gmfn: frame.0 },
            domid: DomId::SELF.0,
            offset: 0,
        },
        Memory::Grant(domain, reference) => sys::gnttab_copy_gnttab_copy_ptr {
            u: sys::gnttab_copy_gnttab_copy_ptr__bindgen_ty_1 { ref_: reference.0 },
            domid: domain.0,
            offset: 0,
        },
    };
    let flag = |memory, flag| match memory {
        Memory::Frame(_) => 0,
        Memory::Grant(..) => flag,
    };
    let mut argument = sys::gnttab_copy {
        source: end(from),
        dest: end(to),
        len,
        // GNTCOPY_source_gref and GNTCOPY_dest_gref.
        flags: flag(from, 1) | flag(to, 2),
        status: 0,
    };
    // SAFETY: the operation takes this structure; the caller vouches for the target.
    unsafe { grant_op(platform, sys::GNTTABOP_copy, &mut argument) }?;
    check_status(argument.status)
}
