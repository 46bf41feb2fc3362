//! Grant table operations (public/grant_table.h): the table itself, copies, and mapping what others grant.

use core::fmt;

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

/// What Xen says of one grant that was to be mapped (`GNTST_*`); never [`OKAY`](Self::OKAY) in an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantStatus(pub i16);

impl GrantStatus {
    /// It is done.
    pub const OKAY: GrantStatus = GrantStatus(sys::GNTST_okay);
}

impl fmt::Display for GrantStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            sys::GNTST_okay => "it is done",
            sys::GNTST_general_error => "the grant is not valid, or not for this domain",
            sys::GNTST_bad_domain => "there is no such domain",
            sys::GNTST_bad_gntref => "the reference is beyond the other domain's table",
            sys::GNTST_bad_handle => "there is no such mapping",
            sys::GNTST_bad_virt_addr => "the address can't be mapped to",
            sys::GNTST_permission_denied => "Xen's policy does not permit it",
            sys::GNTST_bad_page => "there is no memory behind the grant",
            sys::GNTST_eagain => "the page is not there at the moment",
            sys::GNTST_no_device_space | sys::GNTST_no_space => "Xen can map no more",
            other => return write!(f, "status {other}"),
        };
        write!(f, "{text} (status {})", self.0)
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
        grant_op(
            platform,
            sys::GNTTABOP_setup_table,
            core::slice::from_mut(&mut argument),
        )?;
    }
    check_status(argument.status)
}

/// Makes grant table operation `op` for each of the structures.
///
/// # Safety
/// `T` is the structure of operation `op`, and what it points to is valid for what Xen does.
unsafe fn grant_op<P: Platform, T>(
    platform: &P,
    op: u32,
    arguments: &mut [T],
) -> Result<(), XenError> {
    // SAFETY: an exclusive slice is valid for reads and writes of as many structures; the caller
    // vouches for the type and for what is behind it.
    let result = unsafe {
        platform.hypercall(
            sys::__HYPERVISOR_grant_table_op,
            [
                op as usize,
                arguments.as_mut_ptr().expose_provenance(),
                arguments.len(),
                0,
                0,
            ],
        )
    };
    XenError::check(result).map(drop)
}

/// Has Xen map pages that other domains grant. Each entry has its status and handle afterwards.
///
/// # Errors
/// What Xen says of the call; then no entry means anything.
///
/// # Safety
/// No code relies on what was behind the entries' addresses, and each is one that the domain may have other
/// domains' pages at ([`window_address`](Platform::window_address)).
pub unsafe fn map<P: Platform>(
    platform: &P,
    entries: &mut [sys::gnttab_map_grant_ref],
) -> Result<(), XenError> {
    // SAFETY: the operation takes these structures; the caller vouches for the addresses.
    unsafe { grant_op(platform, sys::GNTTABOP_map_grant_ref, entries) }
}

/// Has Xen undo mappings. Each entry has its status afterwards.
///
/// # Errors
/// As [`map`].
///
/// # Safety
/// What is mapped there is not used any more.
pub unsafe fn unmap<P: Platform>(
    platform: &P,
    entries: &mut [sys::gnttab_unmap_grant_ref],
) -> Result<(), XenError> {
    // SAFETY: the operation takes these structures; the caller vouches for the addresses.
    unsafe { grant_op(platform, sys::GNTTABOP_unmap_grant_ref, entries) }
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
        flags: flag(from, SOURCE_IS_REFERENCE) | flag(to, DEST_IS_REFERENCE),
        status: 0,
    };
    // SAFETY: the caller vouches for the target.
    unsafe { copy_all(platform, core::slice::from_mut(&mut argument)) }?;
    check_status(argument.status)
}

/// In [`sys::gnttab_copy::flags`]: the source is a grant reference, and no frame.
pub const SOURCE_IS_REFERENCE: u16 = 1;

/// In [`sys::gnttab_copy::flags`]: the destination is a grant reference, and no frame.
pub const DEST_IS_REFERENCE: u16 = 2;

/// Has Xen copy within pages. Each entry has its status afterwards; one that fails does not stop the others.
///
/// # Errors
/// What Xen says of the call; then no entry means anything.
///
/// # Safety
/// The targets are memory that may be written to, and no Rust reference points to it.
pub unsafe fn copy_all<P: Platform>(
    platform: &P,
    entries: &mut [sys::gnttab_copy],
) -> Result<(), XenError> {
    // SAFETY: the operation takes these structures; the caller vouches for the targets.
    unsafe { grant_op(platform, sys::GNTTABOP_copy, entries) }
}
