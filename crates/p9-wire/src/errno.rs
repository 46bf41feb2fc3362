//! Linux error numbers, the common currency of all three dialects of 9P.
//!
//! 9P2000.L sends the number itself, 9P2000.u a text and a number, 9P2000 only a text; [`Errno`] is
//! what all of them become. Numbers are those of Linux's `asm-generic/errno*.h`, on whatever
//! machine this runs.

use core::fmt;

/// A Linux error number, from 1 to 4095.
///
/// Shown as its text and its name: "No such file or directory (ENOENT)".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(u16);

macro_rules! errnos {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Errno {
            $(
                #[doc = concat!($text, ".")]
                #[doc(alias = $text)]
                pub const $name: Errno = Errno($number);
            )*
        }

        /// Number, name and text of every named error, by rising number.
        const NAMED: &[(u16, &str, &str)] = &[$(($number, stringify!($name), $text)),*];
    };
}

errnos! {
    EPERM = 1, "Operation not permitted";
    ENOENT = 2, "No such file or directory";
    ESRCH = 3, "No such process";
    EINTR = 4, "Interrupted system call";
    EIO = 5, "Input/output error";
    ENXIO = 6, "No such device or address";
    E2BIG = 7, "Argument list too long";
    ENOEXEC = 8, "Exec format error";
    EBADF = 9, "Bad file descriptor";
    ECHILD = 10, "No child processes";
    EAGAIN = 11, "Resource temporarily unavailable";
    ENOMEM = 12, "Cannot allocate memory";
    EACCES = 13, "Permission denied";
    EFAULT = 14, "Bad address";
    ENOTBLK = 15, "Block device required";
    EBUSY = 16, "Device or resource busy";
    EEXIST = 17, "File exists";
    EXDEV = 18, "Invalid cross-device link";
    ENODEV = 19, "No such device";
    ENOTDIR = 20, "Not a directory";
    EISDIR = 21, "Is a directory";
    EINVAL = 22, "Invalid argument";
    ENFILE = 23, "Too many open files in system";
    EMFILE = 24, "Too many open files";
    ENOTTY = 25, "Inappropriate ioctl for device";
    ETXTBSY = 26, "Text file busy";
    EFBIG = 27, "File too large";
    ENOSPC = 28, "No space left on device";
    ESPIPE = 29, "Illegal seek";
    EROFS = 30, "Read-only file system";
    EMLINK = 31, "Too many links";
    EPIPE = 32, "Broken pipe";
    EDOM = 33, "Numerical argument out of domain";
    ERANGE = 34, "Numerical result out of range";
    EDEADLK = 35, "Resource deadlock avoided";
    ENAMETOOLONG = 36, "File name too long";
    ENOLCK = 37, "No locks available";
    ENOSYS = 38, "Function not implemented";
    ENOTEMPTY = 39, "Directory not empty";
    ELOOP = 40, "Too many levels of symbolic links";
    ENODATA = 61, "No data available";
    ETIME = 62, "Timer expired";
    EPROTO = 71, "Protocol error";
    EBADMSG = 74, "Bad message";
    EOVERFLOW = 75, "Value too large for defined data type";
    EILSEQ = 84, "Invalid or incomplete multibyte or wide character";
    ERESTART = 85, "Interrupted system call should be restarted";
    EUSERS = 87, "Too many users";
    ENOTSOCK = 88, "Socket operation on non-socket";
    EDESTADDRREQ = 89, "Destination address required";
    EMSGSIZE = 90, "Message too long";
    EPROTOTYPE = 91, "Protocol wrong type for socket";
    ENOPROTOOPT = 92, "Protocol not available";
    EPROTONOSUPPORT = 93, "Protocol not supported";
    ESOCKTNOSUPPORT = 94, "Socket type not supported";
    EOPNOTSUPP = 95, "Operation not supported";
    EPFNOSUPPORT = 96, "Protocol family not supported";
    EAFNOSUPPORT = 97, "Address family not supported by protocol";
    EADDRINUSE = 98, "Address already in use";
    EADDRNOTAVAIL = 99, "Cannot assign requested address";
    ENETDOWN = 100, "Network is down";
    ENETUNREACH = 101, "Network is unreachable";
    ENETRESET = 102, "Network dropped connection on reset";
    ECONNABORTED = 103, "Software caused connection abort";
    ECONNRESET = 104, "Connection reset by peer";
    ENOBUFS = 105, "No buffer space available";
    EISCONN = 106, "Transport endpoint is already connected";
    ENOTCONN = 107, "Transport endpoint is not connected";
    ESHUTDOWN = 108, "Cannot send after transport endpoint shutdown";
    ETIMEDOUT = 110, "Connection timed out";
    ECONNREFUSED = 111, "Connection refused";
    EHOSTDOWN = 112, "Host is down";
    EHOSTUNREACH = 113, "No route to host";
    EALREADY = 114, "Operation already in progress";
    EINPROGRESS = 115, "Operation now in progress";
    ESTALE = 116, "Stale file handle";
    EUCLEAN = 117, "Structure needs cleaning";
    EREMOTEIO = 121, "Remote I/O error";
    EDQUOT = 122, "Disk quota exceeded";
    ENOMEDIUM = 123, "No medium found";
    EMEDIUMTYPE = 124, "Wrong medium type";
    ECANCELED = 125, "Operation canceled";
    ENOKEY = 126, "Required key not available";
    EKEYEXPIRED = 127, "Key has expired";
    EKEYREVOKED = 128, "Key has been revoked";
    EKEYREJECTED = 129, "Key was rejected by service";
    EOWNERDEAD = 130, "Owner died";
    ENOTRECOVERABLE = 131, "State not recoverable";
}

/// How servers without numbers put it: the end of the text, in lower case, and what it means.
///
/// From Plan 9's kernel and file servers (`/sys/src/9/port/error.h`, lib9p), u9fs, libixp and the
/// crate `ninep`. Linux's own texts, which u9fs also sends, are in [`NAMED`].
const PHRASES: &[(&str, Errno)] = &[
    ("does not exist", Errno::ENOENT),
    ("file not found", Errno::ENOENT),
    ("unknown file", Errno::ENOENT),
    ("unknown root directory", Errno::ENOENT),
    ("directory entry not found", Errno::ENOENT),
    ("file has been removed", Errno::ENOENT),
    ("no such file", Errno::ENOENT),
    ("wstat prohibited", Errno::EPERM),
    (
        "wstat can't convert between files and directories",
        Errno::EPERM,
    ),
    ("not owner", Errno::EPERM),
    ("only owner can change group in wstat", Errno::EPERM),
    ("create prohibited", Errno::EPERM),
    ("remove prohibited", Errno::EPERM),
    ("file already exists", Errno::EEXIST),
    ("file or directory already exists", Errno::EEXIST),
    ("file in use", Errno::EBUSY),
    ("device or object already in use", Errno::EBUSY),
    ("file already open for i/o", Errno::EBUSY),
    ("exclusive use file already open", Errno::EBUSY),
    ("exclusive file already open", Errno::EBUSY),
    ("open/create -- file is locked", Errno::EBUSY),
    ("file is in use", Errno::EBUSY),
    ("read-only file", Errno::EROFS),
    ("file system read only", Errno::EROFS),
    ("read only file system", Errno::EROFS),
    ("walk in non-directory", Errno::ENOTDIR),
    ("walk -- in a non-directory", Errno::ENOTDIR),
    ("create in non-directory", Errno::ENOTDIR),
    ("create -- in a non-directory", Errno::ENOTDIR),
    ("directory is not empty", Errno::ENOTEMPTY),
    ("name too long", Errno::ENAMETOOLONG),
    ("file name syntax", Errno::EINVAL),
    ("illegal name", Errno::EINVAL),
    ("illegal mode", Errno::EINVAL),
    ("illegal offset", Errno::EINVAL),
    ("bad offset in directory read", Errno::EINVAL),
    ("bad process or channel control request", Errno::EINVAL),
    ("bad arg in system call", Errno::EINVAL),
    ("open/create -- unknown mode", Errno::EINVAL),
    ("wstat -- unknown bits in qid.type/mode", Errno::EINVAL),
    ("read/write -- offset negative", Errno::EINVAL),
    ("negative i/o offset", Errno::EINVAL),
    ("too many names in walk", Errno::EINVAL),
    ("too many walk elements", Errno::EINVAL),
    ("cannot clone open fid", Errno::EINVAL),
    ("invalid offset for read on directory", Errno::EINVAL),
    (
        "creating files named '.' or '..' is not allowed",
        Errno::EEXIST,
    ),
    ("wstat qid does not match target", Errno::EINVAL),
    ("illegal write to directory", Errno::EISDIR),
    ("i/o count too large", Errno::EMSGSIZE),
    ("read/write -- count too big", Errno::EMSGSIZE),
    ("unknown fid", Errno::EBADF),
    ("fid unknown or out of range", Errno::EBADF),
    ("bad use of fid", Errno::EBADF),
    ("bad fid", Errno::EBADF),
    ("fid not in use", Errno::EBADF),
    ("fid already in use", Errno::EBADF),
    ("duplicate fid", Errno::EBADF),
    ("fd out of range or not open", Errno::EBADF),
    ("inappropriate use of fd", Errno::EBADF),
    ("file not open", Errno::EBADF),
    ("i/o error", Errno::EIO),
    ("no free blocks", Errno::ENOSPC),
    ("file system full", Errno::ENOSPC),
    ("no space", Errno::ENOSPC),
    ("no free devices", Errno::ENODEV),
    ("out of memory", Errno::ENOMEM),
    ("no memory", Errno::ENOMEM),
    ("interrupted", Errno::EINTR),
    ("hungup channel", Errno::EPIPE),
    ("authentication failed", Errno::EACCES),
    ("authentication not required", Errno::ENOENT),
    ("no authentication required", Errno::ENOENT),
    ("unsupported call", Errno::EOPNOTSUPP),
    ("unknown message", Errno::EOPNOTSUPP),
    ("bad 9p2000 message", Errno::EPROTO),
    ("not implemented", Errno::ENOSYS),
    ("not supported", Errno::EOPNOTSUPP),
];

impl Errno {
    /// The error with this number as a peer sent it. What is not an error number (0, or beyond
    /// 4095) becomes [`EPROTO`](Self::EPROTO): an error it stays, never a success.
    pub const fn from_wire(number: u32) -> Errno {
        match number {
            1..=4095 => Errno(number as u16),
            _ => Errno::EPROTO,
        }
    }

    /// The error that a server of 9P2000 or 9P2000.u described in words.
    ///
    /// Knows Linux's texts and those of Plan 9 and its heirs; case doesn't matter, and a text may
    /// stand after others, as in `'/tmp/x' file does not exist`. A number at the end counts more, as
    /// in Rust's `No such file or directory (os error 2)`. `None` for words it doesn't know.
    pub fn from_text(text: &[u8]) -> Option<Errno> {
        let text = text.trim_ascii();
        if let Some(errno) = os_error(text) {
            return Some(errno);
        }
        let named = NAMED.iter().map(|&(number, _, text)| (text, Errno(number)));
        let known = || PHRASES.iter().copied().chain(named.clone());
        known()
            .find(|(phrase, _)| text.eq_ignore_ascii_case(phrase.as_bytes()))
            .or_else(|| known().find(|(phrase, _)| ends_with_words(text, phrase.as_bytes())))
            .map(|(_, errno)| errno)
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The name, such as "ENOENT", if the number has one here.
    pub fn name(self) -> Option<&'static str> {
        self.named().map(|&(_, name, _)| name)
    }

    /// What it means, in the words of `strerror(3)`.
    pub fn text(self) -> &'static str {
        self.named().map_or("Unknown error", |&(_, _, text)| text)
    }

    fn named(self) -> Option<&'static (u16, &'static str, &'static str)> {
        let at = NAMED.binary_search_by_key(&self.0, |&(number, _, _)| number);
        at.ok().and_then(|at| NAMED.get(at))
    }
}

/// The number in a text that ends with Rust's "(os error NUMBER)".
fn os_error(text: &[u8]) -> Option<Errno> {
    let text = text.strip_suffix(b")")?;
    let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let (before, number) = text.split_at_checked(text.len() - digits.count())?;
    let number = str::from_utf8(number).ok()?.parse().ok()?;
    (before.ends_with(b"(os error ")).then_some(Errno::from_wire(number))
}

/// Whether `text` ends with `phrase` as whole words, letters' case aside.
fn ends_with_words(text: &[u8], phrase: &[u8]) -> bool {
    let Some(before) = text.len().checked_sub(phrase.len()) else {
        return false;
    };
    let (front, end) = text.split_at(before);
    end.eq_ignore_ascii_case(phrase) && front.last().is_none_or(|&byte| byte == b' ')
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.named() {
            Some((_, name, text)) => write!(f, "{text} ({name})"),
            None => write!(f, "Unknown error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(NAMED.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn shown_as_text_and_name() {
        assert_eq!(
            Errno::ENOENT.to_string(),
            "No such file or directory (ENOENT)"
        );
        assert_eq!(Errno::from_wire(2000).to_string(), "Unknown error 2000");
    }

    #[test]
    fn a_number_that_is_none_is_still_an_error() {
        for number in [0, 4096, u32::MAX, -2i32 as u32] {
            assert_eq!(Errno::from_wire(number), Errno::EPROTO);
        }
        assert_eq!(Errno::from_wire(4095).number(), 4095);
    }

    #[test]
    fn texts_are_understood() {
        let cases: [(&[u8], Option<Errno>); 11] = [
            (b"No such file or directory", Some(Errno::ENOENT)),
            (b"file does not exist", Some(Errno::ENOENT)),
            (b"'/adm/x' file does not exist", Some(Errno::ENOENT)),
            (b"Permission denied\n", Some(Errno::EACCES)),
            (b"fid unknown or out of range", Some(Errno::EBADF)),
            (b"hungup channel", Some(Errno::EPIPE)),
            (b"Operation not permitted", Some(Errno::EPERM)),
            (b"Is a directory (os error 21)", Some(Errno::EISDIR)),
            (b"odd (os error x)", None),
            (b"", None),
            (b"\xff\xfe what", None),
        ];
        for (text, errno) in cases {
            assert_eq!(Errno::from_text(text), errno);
        }
    }

    #[test]
    fn every_text_of_linux_finds_its_own_number() {
        for &(number, _, text) in NAMED {
            assert_eq!(
                Errno::from_text(text.as_bytes()),
                Some(Errno(number)),
                "{text}"
            );
        }
    }

    #[test]
    fn words_match_whole() {
        assert_eq!(Errno::from_text(b"uninterrupted"), None);
        assert_eq!(Errno::from_text(b"read interrupted"), Some(Errno::EINTR));
    }
}
