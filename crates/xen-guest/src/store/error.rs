//! What can go wrong with xenstore.

use core::fmt;

use crate::platform::InUse;

/// Why xenstore refused a request. Xenstored sends these as names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// `EINVAL`: it did not like the path or the request.
    Invalid,
    /// `EACCES`: this domain may not.
    Access,
    /// `EEXIST`: exists already.
    Exists,
    /// `EISDIR`: a directory.
    IsDirectory,
    /// `ENOENT`: no such node.
    NotFound,
    /// `ENOMEM`: xenstored is out of memory.
    NoMemory,
    /// `ENOSPC`: a quota is used up.
    NoSpace,
    /// `EIO`: xenstored has trouble of its own.
    Io,
    /// `ENOTEMPTY`: not empty.
    NotEmpty,
    /// `ENOSYS`: it does not know the request.
    NotSupported,
    /// `EROFS`: not now.
    ReadOnly,
    /// `EBUSY`: too many transactions.
    Busy,
    /// `EAGAIN`: the transaction met another.
    Again,
    /// `EISCONN`: connected already.
    Connected,
    /// `E2BIG`: the answer or the request is too long.
    TooBig,
    /// `EPERM`: not permitted.
    NotPermitted,
    /// `EQUOTA`: a quota is used up (oxenstored).
    Quota,
    /// A name that is in no list.
    Unknown,
}

/// Names on the wire. Those of Xen's io/xs_wire.h, and one that only oxenstored sends.
const NAMES: [(&str, Refusal); 17] = [
    ("EINVAL", Refusal::Invalid),
    ("EACCES", Refusal::Access),
    ("EEXIST", Refusal::Exists),
    ("EISDIR", Refusal::IsDirectory),
    ("ENOENT", Refusal::NotFound),
    ("ENOMEM", Refusal::NoMemory),
    ("ENOSPC", Refusal::NoSpace),
    ("EIO", Refusal::Io),
    ("ENOTEMPTY", Refusal::NotEmpty),
    ("ENOSYS", Refusal::NotSupported),
    ("EROFS", Refusal::ReadOnly),
    ("EBUSY", Refusal::Busy),
    ("EAGAIN", Refusal::Again),
    ("EISCONN", Refusal::Connected),
    ("E2BIG", Refusal::TooBig),
    ("EPERM", Refusal::NotPermitted),
    ("EQUOTA", Refusal::Quota),
];

impl Refusal {
    /// The refusal with this name on the wire (without the NUL behind it).
    pub fn from_name(name: &[u8]) -> Self {
        NAMES
            .iter()
            .find(|(known, _)| known.as_bytes() == name)
            .map_or(Refusal::Unknown, |&(_, refusal)| refusal)
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, refusal)| *refusal == self)
            .map_or("unknown error", |(name, _)| name)
    }
}

/// Why a request to xenstore failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// Xenstore refused it.
    Refused(Refusal),
    /// No answer in time. A later one is dropped; the connection stays usable.
    Timeout,
    /// Xenstored broke the protocol; the text says how. The connection is over.
    Broken(&'static str),
    /// The request can't be sent; the text says what is wrong with it.
    Invalid(&'static str),
    /// The answer makes no sense; the text says what was expected.
    BadAnswer(&'static str),
    /// A transaction met others again and again.
    Conflict,
    /// Too many requests wait for a xenstored that does not take them.
    Backlog,
    /// This domain has no xenstore.
    Missing,
    /// The domain's xenstore ring, or what else a new driver needs, has a driver already.
    InUse(InUse),
}

impl From<InUse> for StoreError {
    fn from(error: InUse) -> Self {
        StoreError::InUse(error)
    }
}

impl StoreError {
    /// Whether the error means that there is no such node.
    pub fn is_not_found(self) -> bool {
        self == StoreError::Refused(Refusal::NotFound)
    }

    /// Whether the error says nothing about the node, because xenstore did not answer at all.
    pub fn is_connection_error(self) -> bool {
        matches!(
            self,
            StoreError::Broken(_) | StoreError::Timeout | StoreError::Backlog
        )
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Refused(refusal) => write!(f, "xenstore says {}", refusal.name()),
            StoreError::Timeout => f.write_str("xenstore did not answer in time"),
            StoreError::Broken(how) => write!(f, "the connection to xenstore is broken: {how}"),
            StoreError::Invalid(what) => write!(f, "not a request for xenstore: {what}"),
            StoreError::BadAnswer(expected) => {
                write!(f, "xenstore's answer makes no sense: expected {expected}")
            }
            StoreError::Conflict => {
                f.write_str("a xenstore transaction met others too often to succeed")
            }
            StoreError::Backlog => f.write_str("xenstore does not take requests any more"),
            StoreError::Missing => f.write_str("this domain has no xenstore"),
            StoreError::InUse(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            StoreError::InUse(error) => Some(error),
            _ => None,
        }
    }
}
