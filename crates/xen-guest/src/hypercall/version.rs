//! What this Xen is and can do (public/version.h, features.h).

use core::fmt;

use super::{XenError, operate};
use crate::platform::Platform;
use xen_abi as sys;

/// The version of the hypervisor, such as 4.17.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct XenVersion {
    /// The part before the dot.
    pub major: u16,
    /// The part after it.
    pub minor: u16,
}

impl fmt::Display for XenVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Asks for the version of the hypervisor. Never fails under Xen, so also the cheapest way to see
/// whether hypercalls work.
///
/// # Errors
/// Whatever Xen answered.
pub fn version<P: Platform>(platform: &P) -> Result<XenVersion, XenError> {
    // SAFETY: this operation takes no structure.
    let result = unsafe {
        platform.hypercall(
            sys::__HYPERVISOR_xen_version,
            [sys::XENVER_version as usize, 0, 0, 0, 0],
        )
    };
    let number = XenError::check(result)?;
    Ok(XenVersion {
        major: (number >> 16) as u16,
        minor: number as u16,
    })
}

/// Whether Xen offers this domain feature `feature` (`XENFEAT_*`).
///
/// # Errors
/// Whatever Xen answered.
pub fn has_feature<P: Platform>(platform: &P, feature: u32) -> Result<bool, XenError> {
    let mut argument = sys::xen_feature_info {
        submap_idx: feature / 32,
        submap: 0,
    };
    // SAFETY: the operation takes this structure, which holds no pointer.
    unsafe {
        operate(
            platform,
            sys::__HYPERVISOR_xen_version,
            sys::XENVER_get_features,
            &mut argument,
        )
    }?;
    Ok(argument.submap & (1 << (feature % 32)) != 0)
}
