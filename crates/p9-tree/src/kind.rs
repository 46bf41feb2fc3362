//! Kinds of errors, in the terms of `std`.

use p9_wire::Errno;

use crate::{Error, TransportError};

/// What kind of error it is: the kinds of `std::io::ErrorKind` that files have, with their meaning there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something does not exist.
    NotFound,
    /// The user may not do that.
    PermissionDenied,
    /// Something exists that must not.
    AlreadyExists,
    /// The operation would have to wait, and may not.
    WouldBlock,
    /// A name on the way is no directory.
    NotADirectory,
    /// It is a directory.
    IsADirectory,
    /// The directory is not empty.
    DirectoryNotEmpty,
    /// Nothing can be changed there.
    ReadOnlyFilesystem,
    /// The handle means a file that can't be had again.
    StaleNetworkFileHandle,
    /// An argument makes no sense.
    InvalidInput,
    /// Bytes make no sense: no UTF-8, no 9P.
    InvalidData,
    /// No answer in time.
    TimedOut,
    /// A write took no bytes.
    WriteZero,
    /// No room for more.
    StorageFull,
    /// A limit of the user is reached.
    QuotaExceeded,
    /// The position can't be moved there.
    NotSeekable,
    /// A file would be too large.
    FileTooLarge,
    /// It is in use.
    ResourceBusy,
    /// Two would wait for each other.
    Deadlock,
    /// What is in different trees can't be renamed or linked.
    CrossesDevices,
    /// Too many names of one file.
    TooManyLinks,
    /// A name that can't be one.
    InvalidFilename,
    /// It was interrupted.
    Interrupted,
    /// The server or the dialect has no such operation.
    Unsupported,
    /// The end came too early.
    UnexpectedEof,
    /// No memory.
    OutOfMemory,
    /// The connection to the server is lost.
    ConnectionAborted,
    /// The connection, or the file, was closed before.
    NotConnected,
    /// Symbolic links that lead in a circle.
    FilesystemLoop,
    /// Any other.
    Other,
}

impl Error {
    /// What kind of error it is, in the terms of `std`.
    ///
    /// ```
    /// use xen9p::tree::ErrorKind;
    /// use xen9p::tree::files::Fs;
    /// use xen9p::tree::trees::MemTree;
    ///
    /// let fs = Fs::new(MemTree::new().root());
    /// let text = match fs.read_to_string("/settings") {
    ///     Err(error) if error.kind() == ErrorKind::NotFound => String::from("default"),
    ///     other => other?,
    /// };
    /// assert_eq!(text, "default");
    /// # Ok::<(), xen9p::tree::Error>(())
    /// ```
    pub fn kind(self) -> ErrorKind {
        match self {
            Error::Transport(TransportError::Lost(_)) => ErrorKind::ConnectionAborted,
            Error::Transport(TransportError::Closed) => ErrorKind::NotConnected,
            Error::UnexpectedEof => ErrorKind::UnexpectedEof,
            Error::WriteZero => ErrorKind::WriteZero,
            Error::NameTooLong => ErrorKind::InvalidFilename,
            other => {
                let errno = other.errno();
                let known = ERRNOS.iter().find(|(known, _)| *known == errno);
                known.map_or(ErrorKind::Other, |(_, kind)| *kind)
            }
        }
    }
}

impl From<ErrorKind> for Error {
    /// The error number that stands for this kind; EIO for those that have none of their own.
    fn from(kind: ErrorKind) -> Error {
        match kind {
            ErrorKind::UnexpectedEof => Error::UnexpectedEof,
            ErrorKind::WriteZero => Error::WriteZero,
            ErrorKind::NotConnected => Error::Closed,
            kind => {
                let named = ERRNOS.iter().find(|(_, named)| *named == kind);
                Error::Errno(named.map_or(Errno::EIO, |(errno, _)| *errno))
            }
        }
    }
}

/// Which error numbers are of which kind; the first of a kind stands for it.
#[rustfmt::skip]
const ERRNOS: &[(Errno, ErrorKind)] = &[
    (Errno::ENOENT, ErrorKind::NotFound),
    (Errno::EPERM, ErrorKind::PermissionDenied),
    (Errno::EACCES, ErrorKind::PermissionDenied),
    (Errno::EEXIST, ErrorKind::AlreadyExists),
    (Errno::EAGAIN, ErrorKind::WouldBlock),
    (Errno::ENOTDIR, ErrorKind::NotADirectory),
    (Errno::EISDIR, ErrorKind::IsADirectory),
    (Errno::ENOTEMPTY, ErrorKind::DirectoryNotEmpty),
    (Errno::EROFS, ErrorKind::ReadOnlyFilesystem),
    (Errno::ESTALE, ErrorKind::StaleNetworkFileHandle),
    (Errno::EINVAL, ErrorKind::InvalidInput),
    (Errno::EILSEQ, ErrorKind::InvalidData),
    (Errno::EPROTO, ErrorKind::InvalidData),
    (Errno::ETIMEDOUT, ErrorKind::TimedOut),
    (Errno::ENOSPC, ErrorKind::StorageFull),
    (Errno::EDQUOT, ErrorKind::QuotaExceeded),
    (Errno::ESPIPE, ErrorKind::NotSeekable),
    (Errno::EFBIG, ErrorKind::FileTooLarge),
    (Errno::EBUSY, ErrorKind::ResourceBusy),
    (Errno::EDEADLK, ErrorKind::Deadlock),
    (Errno::EXDEV, ErrorKind::CrossesDevices),
    (Errno::EMLINK, ErrorKind::TooManyLinks),
    (Errno::ENAMETOOLONG, ErrorKind::InvalidFilename),
    (Errno::EINTR, ErrorKind::Interrupted),
    (Errno::EOPNOTSUPP, ErrorKind::Unsupported),
    (Errno::ENOSYS, ErrorKind::Unsupported),
    (Errno::ENOMEM, ErrorKind::OutOfMemory),
    (Errno::ELOOP, ErrorKind::FilesystemLoop),
];

#[cfg(feature = "embedded-io")]
impl From<ErrorKind> for embedded_io::ErrorKind {
    fn from(kind: ErrorKind) -> Self {
        use embedded_io::ErrorKind as Kind;

        match kind {
            ErrorKind::NotFound => Kind::NotFound,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Kind::PermissionDenied,
            ErrorKind::AlreadyExists => Kind::AlreadyExists,
            ErrorKind::InvalidInput | ErrorKind::InvalidFilename => Kind::InvalidInput,
            ErrorKind::InvalidData => Kind::InvalidData,
            ErrorKind::TimedOut => Kind::TimedOut,
            ErrorKind::WriteZero => Kind::WriteZero,
            ErrorKind::Interrupted => Kind::Interrupted,
            ErrorKind::Unsupported => Kind::Unsupported,
            ErrorKind::OutOfMemory => Kind::OutOfMemory,
            ErrorKind::ConnectionAborted => Kind::ConnectionAborted,
            ErrorKind::NotConnected => Kind::NotConnected,
            _ => Kind::Other,
        }
    }
}

#[cfg(feature = "embedded-io")]
impl embedded_io::Error for Error {
    fn kind(&self) -> embedded_io::ErrorKind {
        Error::kind(*self).into()
    }
}
