//! Event channel operations (public/event_channel.h).

use core::mem::MaybeUninit;

use super::{DomId, XenError, operate};
use crate::platform::Platform;
use xen_abi::{self as sys, Port};

/// What a port is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Not in use.
    Closed,
    /// Waits for the named domain to bind to it. A channel falls back to this when the other end
    /// closes or its domain dies.
    Unbound(DomId),
    /// Connected to a port of a domain.
    Interdomain(DomId, Port),
    /// Delivers a virtual interrupt.
    Virq(u32),
    /// Connects virtual CPUs of this domain.
    Ipi,
    /// A kind that this library never makes, with Xen's number for it.
    Other(u32),
}

/// Makes event channel operation `op`.
///
/// # Safety
/// `T` is the structure of operation `op`.
unsafe fn event_op<P: Platform, T>(
    platform: &P,
    op: u32,
    argument: &mut T,
) -> Result<(), XenError> {
    // SAFETY: none of the operations' structures holds a pointer; the caller vouches for the type.
    unsafe { operate(platform, sys::__HYPERVISOR_event_channel_op, op, argument) }.map(drop)
}

/// Allocates a port that `remote` may bind to.
///
/// # Errors
/// `ENOSPC` when the domain has all the ports it may have, `ESRCH` when there is no such domain.
pub fn alloc_unbound<P: Platform>(platform: &P, remote: DomId) -> Result<Port, XenError> {
    let mut argument = sys::evtchn_alloc_unbound {
        dom: sys::DOMID_SELF,
        remote_dom: remote.0,
        port: 0,
    };
    // SAFETY: the operation takes this structure.
    unsafe { event_op(platform, sys::EVTCHNOP_alloc_unbound, &mut argument) }?;
    Ok(Port(argument.port))
}

/// Allocates a port and connects it to port `remote_port` of `remote`, which is waiting for us.
/// The new port starts pending.
///
/// # Errors
/// `EINVAL` when that port does not wait for this domain; as [`alloc_unbound`] otherwise.
pub fn bind_interdomain<P: Platform>(
    platform: &P,
    remote: DomId,
    remote_port: Port,
) -> Result<Port, XenError> {
    let mut argument = sys::evtchn_bind_interdomain {
        remote_dom: remote.0,
        remote_port: remote_port.0,
        local_port: 0,
    };
    // SAFETY: the operation takes this structure.
    unsafe { event_op(platform, sys::EVTCHNOP_bind_interdomain, &mut argument) }?;
    Ok(Port(argument.local_port))
}

/// Allocates a port for virtual interrupt `virq` (`VIRQ_*`) of virtual CPU `vcpu`.
///
/// # Errors
/// `EEXIST` when it is bound already, `EINVAL` or `ENOENT` when there is no such interrupt or CPU.
pub fn bind_virq<P: Platform>(platform: &P, virq: u32, vcpu: u32) -> Result<Port, XenError> {
    let mut argument = sys::evtchn_bind_virq {
        virq,
        vcpu,
        port: 0,
    };
    // SAFETY: the operation takes this structure.
    unsafe { event_op(platform, sys::EVTCHNOP_bind_virq, &mut argument) }?;
    Ok(Port(argument.port))
}

/// Allocates a port that fires on virtual CPU `vcpu` when it is [sent](send) to: an event to
/// oneself.
///
/// # Errors
/// `ENOENT` when there is no such CPU, `ENOSPC` when there is no port left.
pub fn bind_ipi<P: Platform>(platform: &P, vcpu: u32) -> Result<Port, XenError> {
    let mut argument = sys::evtchn_bind_ipi { vcpu, port: 0 };
    // SAFETY: the operation takes this structure.
    unsafe { event_op(platform, sys::EVTCHNOP_bind_ipi, &mut argument) }?;
    Ok(Port(argument.port))
}

/// Closes a port. The other end, if there is one, becomes unbound.
///
/// # Errors
/// `EINVAL` when the port is not open.
pub fn close<P: Platform>(platform: &P, port: Port) -> Result<(), XenError> {
    let mut argument = sys::evtchn_close { port: port.0 };
    // SAFETY: the operation takes this structure.
    unsafe { event_op(platform, sys::EVTCHNOP_close, &mut argument) }
}

/// Makes the other end of a port pending.
///
/// # Errors
/// `EINVAL` when the port is neither interdomain, unbound (then nothing happens) nor an IPI.
pub fn send<P: Platform>(platform: &P, port: Port) -> Result<(), XenError> {
    let mut argument = sys::evtchn_send { port: port.0 };
    // SAFETY: the operation takes this structure.
    unsafe { event_op(platform, sys::EVTCHNOP_send, &mut argument) }
}

/// Unmasks a port and delivers what became pending while it was masked.
///
/// # Errors
/// `EINVAL` when there is no such port.
pub fn unmask<P: Platform>(platform: &P, port: Port) -> Result<(), XenError> {
    let mut argument = sys::evtchn_unmask { port: port.0 };
    // SAFETY: the operation takes this structure.
    unsafe { event_op(platform, sys::EVTCHNOP_unmask, &mut argument) }
}

/// What `port` of this domain is connected to at the moment.
///
/// # Errors
/// `EINVAL` when there is no such port.
pub fn status<P: Platform>(platform: &P, port: Port) -> Result<Status, XenError> {
    // SAFETY: the structure and its union consist of integers, for which all-zero is a value.
    let mut argument: sys::evtchn_status = unsafe { MaybeUninit::zeroed().assume_init() };
    argument.dom = sys::DOMID_SELF;
    argument.port = port.0;
    // SAFETY: the operation takes this structure.
    unsafe { event_op(platform, sys::EVTCHNOP_status, &mut argument) }?;
    Ok(match argument.status {
        sys::EVTCHNSTAT_closed => Status::Closed,
        sys::EVTCHNSTAT_unbound => {
            // SAFETY: every field of the union is made of integers and all of it is initialised.
            Status::Unbound(DomId(unsafe { argument.u.unbound }.dom))
        }
        sys::EVTCHNSTAT_interdomain => {
            // SAFETY: as above.
            let other = unsafe { argument.u.interdomain };
            Status::Interdomain(DomId(other.dom), Port(other.port))
        }
        // SAFETY: as above.
        sys::EVTCHNSTAT_virq => Status::Virq(unsafe { argument.u.virq }),
        sys::EVTCHNSTAT_ipi => Status::Ipi,
        other => Status::Other(other),
    })
}

/// Whether Xen knows a domain of this number, be it another one, of whose ports it tells nothing.
pub fn is_domain<P: Platform>(platform: &P, domain: DomId) -> bool {
    // SAFETY: the structure and its union consist of integers, for which all-zero is a value.
    let mut argument: sys::evtchn_status = unsafe { MaybeUninit::zeroed().assume_init() };
    argument.dom = domain.0;
    // SAFETY: the operation takes this structure.
    let answer = unsafe { event_op(platform, sys::EVTCHNOP_status, &mut argument) };
    answer != Err(XenError::ESRCH)
}

/// The number of the domain that asks: Xen fills it in for "self" in the status of a port.
///
/// # Errors
/// `ENOSPC` when the domain has all the ports it may have; `EIO` when Xen's answer makes no sense.
pub fn own_domain<P: Platform>(platform: &P) -> Result<DomId, XenError> {
    let port = alloc_unbound(platform, DomId::SELF)?;
    let status = status(platform, port);
    close(platform, port)?;
    match status? {
        Status::Unbound(domain) => Ok(domain),
        _ => Err(XenError::EIO),
    }
}
