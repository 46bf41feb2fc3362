//! Whether the kernel was compiled with a header that fits, and structs that may be shorter than this version's.

use core::mem::size_of;

use xen9p::errno::Errno;

use crate::error::{Fail, Result};
use crate::platform::xen9p_platform;

/// The version of this header: major, minor and patch number in the bits from 16, 8 and 0 on. Header and library fit as
/// long as major and minor number are the same.
pub const XEN9P_VERSION: u32 = 0x000100;

/// The number without its last part.
const fn series(version: u32) -> u32 {
    version >> 8
}

/// The version of the library that was linked, as XEN9P_VERSION. May be called at any time.
#[unsafe(no_mangle)]
pub extern "C" fn xen9p_version() -> u32 {
    XEN9P_VERSION
}

/// The struct that the kernel filled in, whose first field is its size. What a kernel of an earlier patch version does not
/// know is zero.
///
/// # Safety
/// `from` is NULL or valid for the `size` that it begins with; `T` is a C struct that begins with this field and is valid
/// when all its bytes are zero.
unsafe fn copy_sized<T: Copy>(from: *const T) -> core::result::Result<T, Errno> {
    if from.is_null() {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the caller's promise.
    let size = unsafe { from.cast::<usize>().read() };
    if !(size_of::<usize>()..=size_of::<T>()).contains(&size) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the caller's promise; no more than `size` bytes are read, and none is written behind the copy's end.
    unsafe {
        let mut copy = core::mem::MaybeUninit::<T>::zeroed();
        let to = copy.as_mut_ptr().cast::<u8>();
        to.copy_from_nonoverlapping(from.cast(), size);
        Ok(copy.assume_init())
    }
}

/// Options of this kind, all of them at their default where `from` is NULL.
///
/// # Safety
/// As [`copy_sized`].
pub(crate) unsafe fn sized<T: Copy + Default>(from: *const T, what: &str) -> Result<T> {
    if from.is_null() {
        return Ok(T::default());
    }
    // SAFETY: the caller's promise.
    unsafe { copy_sized(from) }.map_err(|errno| {
        Fail::new(
            errno,
            format_args!(
                "`size` of {what} is none of a struct of this version: set it to its sizeof"
            ),
        )
    })
}

/// What the kernel provides, if its header fits.
///
/// # Safety
/// As [`copy_sized`].
pub(crate) unsafe fn read_platform(
    from: *const xen9p_platform,
) -> core::result::Result<xen9p_platform, Errno> {
    // SAFETY: the caller's promise.
    let platform = unsafe { copy_sized(from) }?;
    match series(platform.version) == series(XEN9P_VERSION) {
        true => Ok(platform),
        false => Err(Errno::EPROTONOSUPPORT),
    }
}
