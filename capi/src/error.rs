//! Errors as C sees them: numbers, and a text for people.

use alloc::format;
use alloc::string::String;
use core::ffi::c_char;
use core::fmt;

use xen9p::errno::Errno;
use xen9p::fs;
use xen9p::transport::xen9pfs::ConnectError;
use xen9p::tree::files::Attempt;
use xen9p::xen::store::StoreError;

use crate::state::with_text;

/// An error on its way out.
pub(crate) struct Fail {
    errno: Errno,
    text: String,
}

/// What functions return inside.
pub(crate) type Result<T> = core::result::Result<T, Fail>;

impl Fail {
    pub(crate) fn new(errno: Errno, text: impl fmt::Display) -> Self {
        Fail {
            errno,
            text: format!("{text}"),
        }
    }

    /// An error without a text, which needs no memory.
    pub(crate) fn quiet(errno: Errno) -> Self {
        Fail {
            errno,
            text: String::new(),
        }
    }

    /// A pointer that must not be null.
    pub(crate) fn null(what: &str) -> Self {
        Fail::new(Errno::EFAULT, format_args!("{what} is a null pointer"))
    }

    /// The same, with what was tried in front of its text.
    pub(crate) fn of(self, tried: Attempt<'_>) -> Self {
        match self.text.is_empty() {
            true => self,
            false => Fail::new(self.errno, format_args!("{tried}: {}", self.text)),
        }
    }

    /// Keeps the text and returns the number.
    pub(crate) fn tell(self) -> i64 {
        let number = -i64::from(self.errno.number());
        if !self.text.is_empty() {
            with_text(|text| *text = self.text);
        }
        number
    }
}

impl From<fs::Error> for Fail {
    fn from(error: fs::Error) -> Self {
        Fail::new(error.errno(), error)
    }
}

impl From<ConnectError> for Fail {
    fn from(error: ConnectError) -> Self {
        let errno = match error {
            ConnectError::InUse => Errno::EBUSY,
            ConnectError::NoDevice | ConnectError::NoSuchTag(_) => Errno::ENODEV,
            ConnectError::Waited { .. } => Errno::ETIMEDOUT,
            ConnectError::Refused(_) | ConnectError::Gone => Errno::ENXIO,
            ConnectError::Version => Errno::EPROTONOSUPPORT,
            ConnectError::BadNode(_) | ConnectError::NoRing(_) | ConnectError::SmallRings => {
                Errno::EPROTO
            }
            ConnectError::Memory(_) => Errno::ENOMEM,
            _ => Errno::EIO,
        };
        Fail::new(errno, error)
    }
}

impl From<StoreError> for Fail {
    fn from(error: StoreError) -> Self {
        Fail::new(Errno::EIO, error)
    }
}

/// A result as C gets it: the number, or the negative error number.
pub(crate) fn number(result: Result<i64>) -> i64 {
    result.unwrap_or_else(Fail::tell)
}

/// As [`number`], for those that only succeed or fail.
pub(crate) fn status(result: Result<()>) -> i32 {
    number(result.map(|()| 0)) as i32
}

/// Copies a text with a final NUL, as much of it as fits; returns its whole length.
///
/// # Safety
/// `into` is NULL or valid for writes of `size` bytes.
pub(crate) unsafe fn copy_text(text: impl AsRef<[u8]>, into: *mut u8, size: usize) -> usize {
    let text = text.as_ref();
    if !into.is_null() && size > 0 {
        let count = text.len().min(size - 1);
        // SAFETY: `count` + 1 bytes fit.
        unsafe {
            into.copy_from_nonoverlapping(text.as_ptr(), count);
            into.add(count).write(0);
        }
    }
    text.len()
}

/// The text of the last call that failed, of any thread, for people: what was tried, what was found, what to do, as in
/// `open "/app.conf": No such file or directory (ENOENT)`. Copied with a final NUL as far as it fits; returns its whole length.
///
/// # Safety
/// `into` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_last_error(into: *mut c_char, size: usize) -> usize {
    // SAFETY: the caller's promise.
    with_text(|text| unsafe { copy_text(&*text, into.cast(), size) }).unwrap_or(0)
}

/// The text of an error number, negative or not: "No such file or directory". Copied as by xen9p_last_error().
///
/// # Safety
/// `into` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_describe(error: i32, into: *mut c_char, size: usize) -> usize {
    let text = match error.unsigned_abs() {
        0 => "Success",
        number => Errno::from_wire(number).text(),
    };
    // SAFETY: the caller's promise.
    unsafe { copy_text(text, into.cast(), size) }
}
