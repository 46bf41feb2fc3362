//! Scheduling operations (public/sched.h).

use super::{XenError, operate};
use crate::platform::Platform;
use xen_abi::{self as sys, Frame, Port};
use xen9p_time::Instant;

/// The most ports that one [`poll`] can take.
pub const MAX_POLL_PORTS: usize = 128;

/// Why a domain stops. What happens then is up to the toolstack (`on_poweroff` and so on).
///
/// Suspending is not among them: after it the domain goes on, perhaps without what it shares. That is [`suspend`],
/// which is unsafe.
///
/// ```compile_fail,E0599
/// use xen9p::hypercall::sched::{ShutdownReason, shutdown};
/// use xen9p::platform::Platform;
///
/// fn suspend(platform: &impl Platform) {
///     let _ = shutdown(platform, ShutdownReason::Suspend);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// The work is done.
    PowerOff,
    /// To be started again.
    Reboot,
    /// Something broke.
    Crash,
}

impl ShutdownReason {
    /// Xen's number.
    pub const fn number(self) -> u32 {
        match self {
            ShutdownReason::PowerOff => sys::SHUTDOWN_poweroff,
            ShutdownReason::Reboot => sys::SHUTDOWN_reboot,
            ShutdownReason::Crash => sys::SHUTDOWN_crash,
        }
    }
}

/// Tells Xen that this domain stops. Under Xen the call does not return.
///
/// # Errors
/// Whatever Xen answered.
pub fn shutdown<P: Platform>(platform: &P, reason: ShutdownReason) -> Result<(), XenError> {
    let mut argument = sys::sched_shutdown {
        reason: reason.number(),
    };
    // SAFETY: the operation takes this structure, which holds no pointer.
    unsafe {
        operate(
            platform,
            sys::__HYPERVISOR_sched_op,
            sys::SCHEDOP_shutdown,
            &mut argument,
        )
    }
    .map(drop)
}

/// How a suspended domain runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspended {
    /// Where it was, with all that it had: a checkpoint was taken, or saving it failed.
    Cancelled,
    /// In a new domain: there are no grants and no open ports but those of the builder, shared_info and grant
    /// table are other pages, and the backends of this domain know nothing of the new one.
    Resumed,
}

/// The return of [`suspend`], which alone makes one: the proof for [`Xen::suspend`](crate::Xen::suspend) that the domain
/// was suspended.
///
/// Safe code can't make one up, nor use one twice:
///
/// ```compile_fail,E0451
/// use xen9p::hypercall::sched::{SuspendReturn, Suspended};
/// use xen9p::platform::Platform;
/// use xen9p::xen::Xen;
///
/// fn forget_all_grants<P: Platform>(xen: &Xen<P>) {
///     let _ = xen.suspend(|| Ok(SuspendReturn { how: Suspended::Resumed }));
/// }
/// ```
///
/// ```compile_fail,E0599
/// fn twice(one: xen9p::hypercall::sched::SuspendReturn) -> [xen9p::hypercall::sched::SuspendReturn; 2] {
///     [one.clone(), one]
/// }
/// ```
#[must_use = "the drivers have to be told: `Xen::suspend` takes it"]
#[derive(Debug, PartialEq, Eq)]
pub struct SuspendReturn {
    how: Suspended,
}

impl SuspendReturn {
    /// For a kernel that makes the hypercall by a function of its own.
    ///
    /// # Safety
    /// It was made and came back so, as the last one of this kind, and this is the only token for it.
    pub unsafe fn assume(how: Suspended) -> Self {
        SuspendReturn { how }
    }

    /// How the domain runs again.
    pub fn how(&self) -> Suspended {
        self.how
    }
}

/// Stops this domain so that it can be saved, and returns when it runs again. `start_info` is the machine
/// frame of start_info in a PV domain, and of no meaning in others.
///
/// # Errors
/// Whatever Xen answered; the domain was not suspended then.
///
/// # Safety
/// After [`Suspended::Resumed`] nothing that Xen or another domain shared with this one is where it was:
/// shared_info and the grant table are not used before they are mapped anew, and the drivers of this domain are told of
/// this return, by [`Xen::suspend`](crate::Xen::suspend), before they are used again. In a PV domain no page table
/// refers to a frame that is not the domain's own, and start_info has the frames of the builder's rings as
/// pseudo-physical ones.
pub unsafe fn suspend<P: Platform>(
    platform: &P,
    start_info: Frame,
) -> Result<SuspendReturn, XenError> {
    let mut argument = sys::sched_shutdown {
        reason: sys::SHUTDOWN_suspend,
    };
    // SAFETY: the operation takes this structure, which holds no pointer, and for this reason a third
    // argument, from where the toolstack takes it; the caller vouches for the rest.
    let result = unsafe {
        platform.hypercall(
            sys::__HYPERVISOR_sched_op,
            [
                sys::SCHEDOP_shutdown as usize,
                (&raw mut argument).expose_provenance(),
                start_info.0 as usize,
                0,
                0,
            ],
        )
    };
    let how = match XenError::check(result)? {
        0 => Suspended::Resumed,
        _ => Suspended::Cancelled,
    };
    Ok(SuspendReturn { how })
}

/// Blocks until one of `ports` is pending or Xen's system time has reached `deadline`
/// ([`Instant::NEVER`]: no deadline). Also returns early for no reason.
///
/// Pending bits are not cleared: clear them before looking at what they announce, or the next call
/// returns at once. Events have to be masked (no interrupts, `evtchn_upcall_mask` set), or a
/// pending upcall makes each call return at once.
///
/// # Errors
/// `EINVAL` when there are more than [`MAX_POLL_PORTS`] or one is not a port.
pub fn poll<P: Platform>(platform: &P, ports: &[Port], deadline: Instant) -> Result<(), XenError> {
    let timeout = match deadline {
        // 0 means "none" to Xen; a deadline of 0 has passed, as has 1.
        Instant::NEVER => 0,
        at => at.as_nanos().max(1),
    };
    let mut argument = sys::sched_poll {
        ports: sys::__guest_handle_evtchn_port_t {
            // A `Port` is one u32, exactly Xen's evtchn_port_t; Xen only reads the list.
            p: ports.as_ptr().cast_mut().cast(),
        },
        nr_ports: u32::try_from(ports.len()).map_err(|_| XenError::EINVAL)?,
        timeout,
    };
    // SAFETY: the operation takes this structure; its list is valid for `nr_ports` reads, since it
    // is a slice of as many `Port`s, which are transparent u32s.
    unsafe {
        operate(
            platform,
            sys::__HYPERVISOR_sched_op,
            sys::SCHEDOP_poll,
            &mut argument,
        )
    }
    .map(drop)
}
