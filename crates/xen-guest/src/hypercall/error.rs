//! [`XenError`]: Xen's error numbers.

use core::fmt;

use xen_abi as sys;

/// An error number that Xen returned, as a positive number (1 is `EPERM`).
///
/// Xen's numbers are Linux's for what it returns in practice (public/errno.h).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct XenError(pub u16);

/// Defines the constants and the table that gives them names.
macro_rules! errors {
    ($($name:ident = $value:ident, $text:literal;)*) => {
        impl XenError {
            $(
                #[doc = concat!($text, ".")]
                pub const $name: XenError = XenError(sys::$value as u16);
            )*

            /// The name in Xen's headers, without the prefix, and what it means; `None` for a
            /// number that is not in public/errno.h.
            fn describe(self) -> Option<(&'static str, &'static str)> {
                match self {
                    $(XenError::$name => Some((stringify!($name), $text)),)*
                    _ => None,
                }
            }
        }
    };
}

errors! {
    EPERM = XEN_EPERM, "operation not permitted";
    ENOENT = XEN_ENOENT, "no such entry";
    ESRCH = XEN_ESRCH, "no such domain";
    EIO = XEN_EIO, "input/output error";
    ENXIO = XEN_ENXIO, "no such device or address";
    E2BIG = XEN_E2BIG, "argument too long";
    ENOEXEC = XEN_ENOEXEC, "executable format error";
    EBADF = XEN_EBADF, "bad number";
    EAGAIN = XEN_EAGAIN, "try again";
    ENOMEM = XEN_ENOMEM, "out of memory";
    EACCES = XEN_EACCES, "permission denied";
    EFAULT = XEN_EFAULT, "bad address";
    EBUSY = XEN_EBUSY, "busy";
    EEXIST = XEN_EEXIST, "exists already";
    EXDEV = XEN_EXDEV, "crosses domains";
    ENODEV = XEN_ENODEV, "no such device";
    EINVAL = XEN_EINVAL, "invalid argument";
    ENOSPC = XEN_ENOSPC, "no space left";
    EROFS = XEN_EROFS, "read-only";
    ERANGE = XEN_ERANGE, "out of range";
    EDEADLK = XEN_EDEADLK, "would deadlock";
    ENOSYS = XEN_ENOSYS, "not known to this Xen";
    ENODATA = XEN_ENODATA, "no data";
    EOVERFLOW = XEN_EOVERFLOW, "value too large";
    EMSGSIZE = XEN_EMSGSIZE, "message too long";
    ECONNREFUSED = XEN_ECONNREFUSED, "connection refused";
    EILSEQ = XEN_EILSEQ, "illegal sequence";
    EOPNOTSUPP = XEN_EOPNOTSUPP, "operation not supported";
    ETIMEDOUT = XEN_ETIMEDOUT, "timed out";
}

impl XenError {
    /// What a hypercall returned, as a result.
    ///
    /// # Errors
    /// The value is negative.
    pub fn check(returned: isize) -> Result<usize, XenError> {
        usize::try_from(returned)
            .map_err(|_| XenError(u16::try_from(returned.unsigned_abs()).unwrap_or(Self::EIO.0)))
    }

    /// The name in Xen's headers without its prefix, such as `"ENOSPC"`; `None` for a number that
    /// they don't have.
    pub fn name(self) -> Option<&'static str> {
        self.describe().map(|(name, _)| name)
    }
}

impl fmt::Debug for XenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "XenError({})", self.0),
        }
    }
}

impl fmt::Display for XenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.describe() {
            Some((name, text)) => write!(f, "{text} ({name})"),
            None => write!(f, "Xen's error number {}", self.0),
        }
    }
}

impl core::error::Error for XenError {}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn returned_values_become_results() {
        assert_eq!(XenError::check(7), Ok(7));
        assert_eq!(XenError::check(-28), Err(XenError::ENOSPC));
        assert_eq!(XenError::check(isize::MIN), Err(XenError::EIO));
    }

    #[test]
    fn known_numbers_have_names_and_unknown_ones_are_printed() {
        assert_eq!(XenError(28).to_string(), "no space left (ENOSPC)");
        assert_eq!(XenError(4000).to_string(), "Xen's error number 4000");
        assert_eq!(XenError(4000).name(), None);
    }
}
