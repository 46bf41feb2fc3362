//! Xen's own console (public/xen.h, console_io).

use super::XenError;
use crate::platform::Platform;
use xen_abi as sys;

/// Writes to Xen's console. For the first domain that is the serial line; an ordinary domain is
/// heard only by a verbose Xen (`guest_loglvl=all`) or one built for debugging.
///
/// # Errors
/// `EPERM` or `ENOSYS` where this domain is not heard.
pub fn write<P: Platform>(platform: &P, text: &[u8]) -> Result<(), XenError> {
    // SAFETY: Xen only reads `text.len()` bytes, and the slice is valid for that.
    let result = unsafe {
        platform.hypercall(
            sys::__HYPERVISOR_console_io,
            [
                sys::CONSOLEIO_write as usize,
                text.len(),
                text.as_ptr().expose_provenance(),
                0,
                0,
            ],
        )
    };
    XenError::check(result).map(drop)
}
