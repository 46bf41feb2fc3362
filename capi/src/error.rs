//! Errors as C sees them: numbers, and a text for people.

use alloc::format;
use alloc::string::String;
use core::cell::RefCell;
use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};
use core::ptr::null;

use xen9p::errno::Errno;
use xen9p::fs;
use xen9p::transport::xen9pfs::ConnectError;
use xen9p::tree::files::Attempt;
use xen9p::xen::store::StoreError;

/// What a call tries, in words. The caller's paths are read when that is told.
#[derive(Clone, Copy)]
pub(crate) struct Tried {
    operation: &'static str,
    paths: [*const c_char; 2],
}

/// How much of each path is told.
const MAX_TOLD: usize = 256;

impl Tried {
    /// An operation on what has no path.
    pub(crate) fn new(operation: &'static str) -> Tried {
        Tried {
            operation,
            paths: [null(); 2],
        }
    }

    /// An operation on a path, or on the node where that is NULL.
    ///
    /// # Safety
    /// `path` is NULL or a string with a final NUL that lives until the call is over.
    pub(crate) unsafe fn at(operation: &'static str, path: *const c_char) -> Tried {
        Tried {
            operation,
            paths: [path, null()],
        }
    }

    /// An operation on two paths.
    ///
    /// # Safety
    /// Both are as [`Tried::at`] says.
    pub(crate) unsafe fn from_to(
        operation: &'static str,
        from: *const c_char,
        to: *const c_char,
    ) -> Tried {
        Tried {
            operation,
            paths: [from, to],
        }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [path, other] = self.paths.map(|path| {
            // SAFETY: a string that lives, by the promise that `at` and `from_to` ask for.
            let bytes = (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) }.to_bytes());
            bytes.map(|bytes| bytes.get(..MAX_TOLD).unwrap_or(bytes))
        });
        fmt::Display::fmt(&Attempt::new(self.operation, path, other), f)
    }
}

/// The longest text of an error: two paths, all of whose bytes are escaped, and what came of it.
const MAX_TEXT: usize = 2 * 4 * MAX_TOLD + 512;

/// The text of the last error, which takes no memory from the kernel: there may be none.
struct Text {
    bytes: [u8; MAX_TEXT],
    length: usize,
}

struct Last(RefCell<Text>);

// SAFETY: the kernel's lock, or the order that the interface asks for where there is none, keeps threads apart.
unsafe impl Sync for Last {}

static LAST: Last = Last(RefCell::new(Text {
    bytes: [0; MAX_TEXT],
    length: 0,
}));

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        // What is too long is cut.
        let count = text.len().min(room.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.length += count;
        Ok(())
    }
}

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

    /// An error without a text of its own, which needs no memory.
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

    /// Keeps the text, with what was tried in front, and returns the number. Takes no memory.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell(self, tried: Tried) -> i64 {
        if let Ok(mut last) = LAST.0.try_borrow_mut() {
            last.length = 0;
            // No piece of it fails.
            let _ = match self.text.is_empty() {
                true => write!(last, "{tried}: {}", self.errno),
                false => write!(last, "{tried}: {}", self.text),
            };
        }
        -i64::from(self.errno.number())
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
/// `open "/app.conf": No such file or directory (ENOENT)`; of each path the first 256 bytes at most. Copied with a final NUL
/// as far as it fits; returns its whole length.
///
/// # Safety
/// `into` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_last_error(into: *mut c_char, size: usize) -> usize {
    let Ok(last) = LAST.0.try_borrow() else {
        return 0;
    };
    let text = last.bytes.get(..last.length).unwrap_or_default();
    // SAFETY: the caller's promise.
    unsafe { copy_text(text, into.cast(), size) }
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
