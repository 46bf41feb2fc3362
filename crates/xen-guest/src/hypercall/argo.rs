//! Argo operations (public/argo.h): messages that Xen copies from one domain to a ring in another.

use core::ptr;

use super::{DomId, XenError};
use crate::platform::Platform;
use xen_abi::{self as sys, Frame};

/// Pieces that one message may be made of.
pub const MAX_PARTS: usize = sys::XEN_ARGO_MAXIOV as usize;

/// A port of a domain's, where there may be a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The domain.
    pub domain: DomId,
    /// The port: a number that the domain chooses.
    pub port: u32,
}

impl Address {
    fn to_xen(self) -> sys::xen_argo_addr {
        sys::xen_argo_addr {
            aport: self.port,
            domain_id: self.domain.0,
            pad: 0,
        }
    }
}

/// What Xen tells of another domain's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRing {
    /// The largest message that fits into it when it is empty, in bytes, by Xen's reckoning.
    pub max_message: u32,
}

/// A question about one ring: what Xen calls ring data, of one entry.
#[repr(C)]
struct Question {
    head: sys::xen_argo_ring_data,
    entry: sys::xen_argo_ring_data_ent,
}

const _: () = assert!(size_of::<Question>() == 28);

/// Makes Argo operation `op`.
///
/// # Safety
/// The arguments are those of the operation, as public/argo.h says, and what they point to is valid for what Xen does with it.
unsafe fn argo_op<P: Platform>(
    platform: &P,
    op: u32,
    [first, second, third, fourth]: [usize; 4],
) -> Result<usize, XenError> {
    let args = [op as usize, first, second, third, fourth];
    // SAFETY: the caller vouches for them.
    let returned = unsafe { platform.hypercall(sys::__HYPERVISOR_argo_op, args) };
    // The lower half alone is the result. `sendv` in xen/common/argo.c returns `( ret < 0 ) ? ret : len`, where `len` is
    // unsigned: its errors come as positive numbers of 32 bits, and a message that was refused would count as sent.
    XenError::check(returned as i32 as isize)
}

/// Has Xen look whether there is room by now for those who wait to send to rings of this domain, and tell them. Nothing
/// else tells Xen that messages were taken out.
///
/// # Errors
/// `ENOSYS`: this Xen has no Argo; `EOPNOTSUPP`: it is switched off; `ENODEV`: not for this domain; `EPERM`, `EACCES`: the
/// policy forbids it.
pub fn wake_senders<P: Platform>(platform: &P) -> Result<(), XenError> {
    // SAFETY: this operation takes no argument but, where it is not NULL, the structure of a question.
    unsafe { argo_op(platform, sys::XEN_ARGO_OP_notify, [0; 4]) }.map(drop)
}

/// Asks for a ring that this domain can send to. `None`: there is no domain, or no ring for this one there.
///
/// # Errors
/// As [`wake_senders`].
pub fn query<P: Platform>(platform: &P, ring: Address) -> Result<Option<PeerRing>, XenError> {
    let mut question = Question {
        head: sys::xen_argo_ring_data {
            nent: 1,
            pad: 0,
            data: sys::__IncompleteArrayField::new(),
        },
        entry: sys::xen_argo_ring_data_ent {
            ring: ring.to_xen(),
            flags: 0,
            pad: 0,
            // None: Xen would note that this domain waits for it.
            space_required: 0,
            max_message_size: 0,
        },
    };
    let argument = (&raw mut question).expose_provenance();
    // SAFETY: the structure of this operation with one entry behind it, which is exclusive while the call runs.
    unsafe { argo_op(platform, sys::XEN_ARGO_OP_notify, [argument, 0, 0, 0]) }?;
    let exists = u32::from(question.entry.flags) & sys::XEN_ARGO_RING_EXISTS != 0;
    Ok(exists.then_some(PeerRing {
        max_message: question.entry.max_message_size,
    }))
}

/// Registers a ring at `port`, for messages of `partner` alone: `len` bytes from 64 on of the memory that these frames make
/// up.
///
/// # Errors
/// `EEXIST`: there is one at this port for this partner; `ESRCH`, `ECONNREFUSED`: there is no such partner, or it has no
/// Argo; `ENOSPC`: the domain has all the rings it may have; `EINVAL`: the length; and as [`wake_senders`].
///
/// # Safety
/// The frames are whole pages of this domain's own memory, which Xen may write to until the ring is unregistered. No Rust
/// code reads or writes them meanwhile but as memory that changes by itself.
pub unsafe fn register_ring<P: Platform>(
    platform: &P,
    port: u32,
    partner: DomId,
    len: u32,
    frames: &[Frame],
) -> Result<(), XenError> {
    let mut ring = sys::xen_argo_register_ring {
        aport: port,
        partner_id: partner.0,
        pad: 0,
        len,
    };
    let args = [
        (&raw mut ring).expose_provenance(),
        // A frame is a number of 64 bits, as Xen wants it.
        frames.as_ptr().expose_provenance(),
        frames.len(),
        sys::XEN_ARGO_REGISTER_FLAG_FAIL_EXIST as usize,
    ];
    // SAFETY: the structure of this operation, and as many frames as are told, which the caller vouches for.
    unsafe { argo_op(platform, sys::XEN_ARGO_OP_register_ring, args) }.map(drop)
}

/// Unregisters a ring. From then on Xen does not write to its memory.
///
/// # Errors
/// `ENOENT`: there is none, such as when the partner has died; and as [`wake_senders`].
pub fn unregister_ring<P: Platform>(
    platform: &P,
    port: u32,
    partner: DomId,
) -> Result<(), XenError> {
    let mut ring = sys::xen_argo_unregister_ring {
        aport: port,
        partner_id: partner.0,
        pad: 0,
    };
    let args = [(&raw mut ring).expose_provenance(), 0, 0, 0];
    // SAFETY: the structure of this operation.
    unsafe { argo_op(platform, sys::XEN_ARGO_OP_unregister_ring, args) }.map(drop)
}

/// Sends one message, the concatenation of at most [`MAX_PARTS`] parts, from a port of this domain's, at which there need not
/// be a ring. All of it is there when this returns, or nothing.
///
/// # Errors
/// `EAGAIN`: there is no room; an event (`VIRQ_ARGO`) tells when there is. `EBUSY`: neither, and no event will come, as too
/// many wait. `EMSGSIZE`: it never fits, or has no byte in it. `ECONNREFUSED`, `ESRCH`: there is no ring for this domain, or no such domain.
/// `EINVAL`: too many parts. And as [`wake_senders`].
pub fn send<P: Platform>(
    platform: &P,
    port: u32,
    to: Address,
    parts: &[&[u8]],
    kind: u32,
) -> Result<(), XenError> {
    let mut route = sys::xen_argo_send_addr {
        src: Address {
            // What is not the domain's own number is refused; this stands for it.
            domain: DomId(sys::XEN_ARGO_DOMID_ANY),
            port,
        }
        .to_xen(),
        dst: to.to_xen(),
    };
    let mut pieces = [sys::xen_argo_iov {
        iov_hnd: sys::__guest_handle_uint8 { p: ptr::null_mut() },
        iov_len: 0,
        pad: 0,
    }; MAX_PARTS];
    let mut count = 0;
    // Xen complains of empty ones on its console.
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let piece = pieces.get_mut(count).ok_or(XenError::EINVAL)?;
        piece.iov_hnd.p = part.as_ptr().cast_mut();
        piece.iov_len = u32::try_from(part.len()).map_err(|_| XenError::EMSGSIZE)?;
        count += 1;
    }
    if count == 0 {
        return Err(XenError::EMSGSIZE);
    }
    let args = [
        (&raw mut route).expose_provenance(),
        pieces.as_ptr().expose_provenance(),
        count,
        kind as usize,
    ];
    // SAFETY: the structures of this operation; the pieces are of slices that live until the end of this function, and Xen
    // only reads them.
    unsafe { argo_op(platform, sys::XEN_ARGO_OP_sendv, args) }.map(drop)
}
