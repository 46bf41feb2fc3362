//! What this Xen is and can do (public/version.h, features.h).

use core::fmt;

use super::XenError;
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
