//! What an endpoint tells its program, and why something did not happen.

use core::fmt;

use crate::transport::TransportError;
use crate::xen::grant::{CopyError, GrantError};

/// Which use of which slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token {
    pub slot: u16,
    pub serial: u32,
}

/// A message that this side has submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OutMessage(pub(super) Token);

/// A message that has come, and is kept until it is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InMessage(pub(super) Token);

/// A transaction that this side has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OutTransaction(pub(super) Token);

/// A transaction that the other side has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InTransaction(pub(super) Token);

/// A transfer to or from a buffer of the other side's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transfer(pub(super) Token);

/// What has happened. Between `Appear` and `Disappear` there are any number of pairs of `Connect` and `Disconnect`; all else
/// happens between these two, or comes between `Disconnect` and the program's answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other endpoint is there.
    Appear,
    /// Both sides are connected, for as many times as the other side is told so. Messages, transactions and transfers can be
    /// submitted.
    Connect,
    /// The connection is over. All that was submitted ends, each with an event of its own; what has come is gone. Then
    /// `finish_disconnect` lets there be a new connection.
    Disconnect(Fault),
    /// The other endpoint is there no more.
    Disappear,
    /// The endpoint that was to be destroyed can be taken apart.
    Destroyed,
    /// A message has come.
    Message(InMessage),
    /// The other side has completed a message, or it was lost, which it may have got all the same.
    Delivered(OutMessage, Result<(), Fault>),
    /// The other side has begun a transaction.
    Transaction(InTransaction),
    /// A transaction is over: with the other side's error code (0 if there is none) and a status, or with an error of the
    /// connection, after which the other side may or may not have done what it was asked for.
    Finished(OutTransaction, Result<u32, Fault>),
    /// A transfer is over.
    Transferred(Transfer, Result<(), BufferError>),
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The other side has gone; the text says how that was noticed.
    Lost(&'static str),
    /// The other side broke the protocol; the text says which rule.
    Violation(&'static str),
    /// This side has ended it.
    Closed,
}

impl From<TransportError> for Fault {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Lost(how) => Fault::Lost(how),
            TransportError::Violation(rule) => Fault::Violation(rule),
            _ => Fault::Closed,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Lost(how) => write!(f, "the connection to the other endpoint is lost: {how}"),
            Fault::Violation(rule) => write!(f, "the other endpoint broke the protocol: {rule}"),
            Fault::Closed => f.write_str("this side has ended the connection"),
        }
    }
}

impl core::error::Error for Fault {}

/// Why something was not submitted. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// There is no connection at the moment.
    NotConnected,
    /// As many as both sides allow are under way: one has to end first.
    Full,
    /// It has more bytes than both sides allow, which is this many.
    TooLong(u32),
    /// It is over, or of a connection that is.
    Stale,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::NotConnected => {
                f.write_str("the endpoint is not connected; wait for its event `Connect`")
            }
            SubmitError::Full => {
                f.write_str("as many as both sides allow are under way; wait until one is over")
            }
            SubmitError::TooLong(most) => {
                write!(f, "it is too long: both sides allow {most} bytes")
            }
            SubmitError::Stale => f.write_str("it is over already, or its connection is"),
        }
    }
}

impl core::error::Error for SubmitError {}

/// Why a buffer was not registered, or its bytes not transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BufferError {
    /// There is no connection at the moment.
    NotConnected,
    /// As many as both sides allow are registered, or under way.
    Full,
    /// The buffer has more pages than both sides allow, which is this many.
    TooLong(u16),
    /// The reference is to a buffer of another endpoint's than the one at the other side: its owner has to register it for
    /// this domain, too.
    Foreign,
    /// The reference is of an earlier connection.
    Stale,
    /// The buffer is not registered any more, or never was.
    Unregistered,
    /// The bytes are not all in the buffer, here or there.
    OutOfBounds,
    /// The other domain has pages of the buffer mapped, and does not let go of them.
    Held,
    /// The buffer could not be granted.
    Grant(GrantError),
    /// Xen did not copy.
    Copy(CopyError),
    /// The connection was over before the transfer was.
    Fault(Fault),
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BufferError::NotConnected => SubmitError::NotConnected.fmt(f),
            BufferError::Full => SubmitError::Full.fmt(f),
            BufferError::TooLong(most) => {
                write!(f, "the buffer is too long: both sides allow {most} pages")
            }
            BufferError::Foreign => f.write_str(
                "the reference is to a buffer of another endpoint; ask its owner to register it for this domain",
            ),
            BufferError::Stale => f.write_str("the reference is of an earlier connection"),
            BufferError::Unregistered => f.write_str("the buffer is not registered"),
            BufferError::OutOfBounds => f.write_str("the bytes are not all in the buffer"),
            BufferError::Held => {
                f.write_str("the other domain has the buffer mapped and does not let go of it")
            }
            BufferError::Grant(error) => write!(f, "the buffer can't be granted: {error}"),
            BufferError::Copy(error) => error.fmt(f),
            BufferError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for BufferError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            BufferError::Grant(error) => Some(error),
            BufferError::Copy(error) => Some(error),
            BufferError::Fault(fault) => Some(fault),
            _ => None,
        }
    }
}
