//! What can go wrong between a program and its files.

use core::fmt;

use p9_wire::{Dialect, Errno, WireError, kind as message};

/// A text of an error, behind one pointer, so that errors are small; written as `&"…"`.
pub type Text = &'static &'static str;

/// Why a transport can't carry messages any more. All are final: the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// So that `Error` has room for what tells its variants apart next to this.
#[repr(u8)]
#[non_exhaustive]
pub enum TransportError {
    /// The other side has gone or is closing; the text says how that was noticed.
    Lost(Text),
    /// The other side broke the protocol; the text says which rule.
    Violation(Text),
    /// This side closed the connection.
    Closed,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransportError::Lost(how) => write!(f, "connection to the 9P server lost: {how}"),
            TransportError::Violation(rule) => {
                write!(f, "the 9P server broke the transport protocol: {rule}")
            }
            TransportError::Closed => f.write_str("the connection is closed"),
        }
    }
}

impl core::error::Error for TransportError {}

/// Why an operation failed.
///
/// Small, 16 bytes, and `Copy`. [`errno`](Self::errno) gives the nearest Linux error number for programs that
/// think in those; the text is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The server refused; in all dialects its answer has become a Linux error number.
    Errno(Errno),
    /// The connection is over; no operation of this mount will work again.
    Transport(TransportError),
    /// The server's answer broke the 9P protocol; the text says which rule. That ends the operation or, where replies
    /// can't be trusted any more, the connection: the session's table `Violation` says which.
    Protocol(Text),
    /// The server's answer could not be decoded. The connection is over.
    Malformed(WireError),
    /// The server speaks none of the dialects that were offered.
    NoCommonDialect,
    /// The server, or the transport, carries only messages up to this many bytes; 4,096 are needed.
    MessageSize(u32),
    /// No answer within the time limit of the mount. Whether the server still did it is unknown.
    TimedOut,
    /// The interrupt switch of the session was set. Whether the server still did it is
    /// unknown.
    Interrupted,
    /// The server or the dialect has no such operation.
    Unsupported {
        /// The type of the request that it would take.
        request: u8,
        /// The dialect spoken with this server.
        dialect: Dialect,
    },
    /// A directory with more entries than this server can list by messages of the size that was agreed on.
    TooManyEntries,
    /// The server follows symbolic links and does not tell: what is listed may be a link, so that a whole directory can
    /// be neither removed nor copied without the risk of going through one.
    HiddenLinks,
    /// A path that no server is asked about: empty, NUL inside; the text says what.
    InvalidPath(Text),
    /// A path of more than 65,535 bytes, or a name in it of more than 255.
    NameTooLong,
    /// More than 40 symbolic links on the way.
    TooManyLinks,
    /// An argument that makes no sense; the text says what.
    InvalidInput(Text),
    /// Text was asked for, but the bytes are not UTF-8.
    NotUtf8,
    /// The file ended before the buffer was full.
    UnexpectedEof,
    /// The server took no bytes of a write and gave no reason.
    WriteZero,
    /// The connection was lost while the server was asked for a change, and a new connection can't tell
    /// whether it was made. It is not asked for again.
    MaybeApplied,
    /// After the connection was lost and found, the file is not there any more, or another is in its place;
    /// or it had what can't be had again, such as a lock.
    Stale,
    /// The mount, file or fid was closed, or belongs to another mount.
    Closed,
    /// The operation would have to wait for the server, and was asked for from within a wait of the same session: by an
    /// event handler, or by a logger.
    WouldBlock,
    /// No memory for the operation.
    OutOfMemory,
}

const _: () = assert!(size_of::<Error>() == 16 && size_of::<Result<u64, Error>>() == 16);

impl Error {
    /// What a server's refusal of a request of type `kind` means: that it has no such request, or that it had a reason.
    pub fn refusal(errno: Errno, kind: u8, dialect: Dialect) -> Error {
        match errno {
            Errno::EOPNOTSUPP | Errno::ENOSYS => Error::Unsupported {
                request: kind,
                dialect,
            },
            errno => Error::Errno(errno),
        }
    }

    /// The Linux error number that comes nearest.
    pub fn errno(self) -> Errno {
        match self {
            Error::Errno(errno) => errno,
            Error::Transport(TransportError::Violation(_))
            | Error::Protocol(_)
            | Error::Malformed(_)
            | Error::NoCommonDialect
            | Error::MessageSize(_) => Errno::EPROTO,
            Error::Transport(_) | Error::WriteZero | Error::MaybeApplied => Errno::EIO,
            Error::Stale => Errno::ESTALE,
            Error::TimedOut => Errno::ETIMEDOUT,
            Error::Interrupted => Errno::EINTR,
            Error::Unsupported { .. } | Error::TooManyEntries | Error::HiddenLinks => {
                Errno::EOPNOTSUPP
            }
            Error::InvalidPath(&"empty path") => Errno::ENOENT,
            Error::InvalidPath(_) | Error::InvalidInput(_) => Errno::EINVAL,
            Error::NameTooLong => Errno::ENAMETOOLONG,
            Error::TooManyLinks => Errno::ELOOP,
            Error::NotUtf8 => Errno::EILSEQ,
            Error::UnexpectedEof => Errno::ENODATA,
            Error::Closed => Errno::EBADF,
            Error::WouldBlock => Errno::EAGAIN,
            Error::OutOfMemory => Errno::ENOMEM,
        }
    }

    /// Whether it says where a path leads: nowhere, or that the server refuses to tell.
    pub fn is_of_the_path(self) -> bool {
        matches!(
            self,
            Error::Errno(_) | Error::InvalidPath(_) | Error::NameTooLong | Error::TooManyLinks
        )
    }

    /// Whether this says that something does not exist (ENOENT).
    pub fn is_not_found(self) -> bool {
        self == Error::Errno(Errno::ENOENT)
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error::Errno(errno)
    }
}

impl From<TransportError> for Error {
    fn from(error: TransportError) -> Self {
        Error::Transport(error)
    }
}

impl fmt::Display for Error {
    /// What happened, and the name of the error number: "the server did not answer in time (ETIMEDOUT)".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Errno(errno) => return errno.fmt(f),
            Error::Transport(error) => error.fmt(f),
            Error::Protocol(rule) => write!(f, "the server broke the 9P protocol: {rule}"),
            Error::Malformed(error) => write!(f, "the server broke the 9P protocol: {error}"),
            Error::NoCommonDialect => {
                f.write_str("the server speaks none of the 9P dialects that were offered")
            }
            Error::MessageSize(bytes) => write!(
                f,
                "messages are limited to {bytes} bytes on this connection; at least 4096 are needed"
            ),
            Error::TimedOut => f.write_str("the server did not answer in time"),
            Error::Interrupted => f.write_str("interrupted"),
            Error::Unsupported { request, dialect } => write!(
                f,
                "{} is not supported by this server ({dialect})",
                message::name(*request)
            ),
            Error::TooManyEntries => f.write_str(
                "the directory has more entries than this server can list by messages this small",
            ),
            Error::HiddenLinks => f.write_str(
                "this server follows symbolic links and does not tell which entries are links; \
                 share the directory by xen9pd or QEMU for this",
            ),
            Error::InvalidPath(what) => write!(f, "invalid path: {what}"),
            Error::NameTooLong => f.write_str("name or path too long"),
            Error::TooManyLinks => f.write_str("more than 40 symbolic links on the way"),
            Error::InvalidInput(what) => write!(f, "invalid argument: {what}"),
            Error::NotUtf8 => f.write_str("the file's content is not UTF-8 text"),
            Error::UnexpectedEof => f.write_str("the file ended too early"),
            Error::WriteZero => f.write_str("the server took none of the bytes"),
            Error::MaybeApplied => f.write_str(
                "the connection was lost meanwhile; whether the server did it is unknown",
            ),
            Error::Stale => {
                f.write_str("after the connection was lost, this file can't be had again")
            }
            Error::Closed => f.write_str("already closed"),
            Error::WouldBlock => f.write_str(
                "this would have to wait for the server, from within a wait for it (in an event handler or a logger)",
            ),
            Error::OutOfMemory => f.write_str("out of memory"),
        }?;
        match self.errno().name() {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Error::Transport(error) => Some(error),
            Error::Malformed(error) => Some(error),
            _ => None,
        }
    }
}
