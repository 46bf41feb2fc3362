//! Parameters of PVH and HVM domains (public/hvm/hvm_op.h and params.h). Unknown to PV domains:
//! `ENOSYS` there.

use super::{DomId, XenError, operate};
use crate::platform::Platform;
use xen_abi as sys;

/// Reads parameter `index` (`HVM_PARAM_*`) of this domain.
///
/// # Errors
/// `EINVAL` for an unknown parameter, `ENOSYS` in a PV domain.
pub fn get_param<P: Platform>(platform: &P, index: u32) -> Result<u64, XenError> {
    let mut argument = sys::xen_hvm_param {
        domid: DomId::SELF.0,
        pad: 0,
        index,
        value: 0,
    };
    // SAFETY: the operation takes this structure, which holds no pointer.
    unsafe {
        operate(
            platform,
            sys::__HYPERVISOR_hvm_op,
            sys::HVMOP_get_param,
            &mut argument,
        )
    }?;
    Ok(argument.value)
}

/// Sets parameter `index` (`HVM_PARAM_*`) of this domain.
///
/// # Errors
/// `EINVAL` or `EPERM` for a parameter or value that Xen does not take, `ENOSYS` in a PV domain.
///
/// # Safety
/// What the parameter makes Xen do is sound for this kernel: a callback vector, for one, must have
/// a handler before interrupts are enabled.
pub unsafe fn set_param<P: Platform>(platform: &P, index: u32, value: u64) -> Result<(), XenError> {
    let mut argument = sys::xen_hvm_param {
        domid: DomId::SELF.0,
        pad: 0,
        index,
        value,
    };
    // SAFETY: the operation takes this structure, which holds no pointer; the caller vouches for
    // what the parameter does.
    unsafe {
        operate(
            platform,
            sys::__HYPERVISOR_hvm_op,
            sys::HVMOP_set_param,
            &mut argument,
        )
    }
    .map(drop)
}
