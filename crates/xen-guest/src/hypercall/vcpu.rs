//! Virtual CPU operations (public/vcpu.h).

use core::time::Duration;

use super::XenError;
use crate::platform::Platform;
use xen_abi as sys;

/// Makes operation `op`, which takes no structure, on virtual CPU `vcpu`.
fn vcpu_op<P: Platform>(platform: &P, op: u32, vcpu: u32) -> Result<usize, XenError> {
    // SAFETY: the operations that come here take no argument, so Xen touches no memory of ours.
    let result = unsafe {
        platform.hypercall(
            sys::__HYPERVISOR_vcpu_op,
            [op as usize, vcpu as usize, 0, 0, 0],
        )
    };
    XenError::check(result)
}

/// Stops the 100 Hz timer that PV domains are born with.
///
/// # Errors
/// `ENOENT` when there is no such CPU, `ENOSYS` where there is no such timer (PVH).
pub fn stop_periodic_timer<P: Platform>(platform: &P, vcpu: u32) -> Result<(), XenError> {
    vcpu_op(platform, sys::VCPUOP_stop_periodic_timer, vcpu).map(drop)
}

/// Whether virtual CPU `vcpu` runs.
///
/// # Errors
/// `ENOENT` when there is no such CPU.
pub fn is_up<P: Platform>(platform: &P, vcpu: u32) -> Result<bool, XenError> {
    vcpu_op(platform, sys::VCPUOP_is_up, vcpu).map(|up| up != 0)
}

/// How long a virtual CPU has been in which state since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunTimes {
    /// On a processor.
    pub running: Duration,
    /// Ready to run, and waiting for a processor.
    pub runnable: Duration,
    /// With nothing to do: blocked or polling.
    pub blocked: Duration,
    /// Stopped: not brought up, paused.
    pub offline: Duration,
}

/// The times of virtual CPU `vcpu` of this domain.
///
/// # Errors
/// `ENOENT` when there is no such CPU.
pub fn run_times<P: Platform>(platform: &P, vcpu: u32) -> Result<RunTimes, XenError> {
    let mut info = sys::vcpu_runstate_info {
        state: 0,
        state_entry_time: 0,
        time: [0; 4],
    };
    // SAFETY: the operation writes one `vcpu_runstate_info` to where the third argument points, which is an
    // exclusively borrowed one.
    let result = unsafe {
        platform.hypercall(
            sys::__HYPERVISOR_vcpu_op,
            [
                sys::VCPUOP_get_runstate_info as usize,
                vcpu as usize,
                (&raw mut info).expose_provenance(),
                0,
                0,
            ],
        )
    };
    XenError::check(result)?;
    let time = |state: u32| Duration::from_nanos(info.time[state as usize]);
    Ok(RunTimes {
        running: time(sys::RUNSTATE_running),
        runnable: time(sys::RUNSTATE_runnable),
        blocked: time(sys::RUNSTATE_blocked),
        offline: time(sys::RUNSTATE_offline),
    })
}
