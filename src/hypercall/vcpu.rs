//! Virtual CPU operations (public/vcpu.h).

use super::XenError;
use crate::platform::Platform;
use crate::sys;

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
