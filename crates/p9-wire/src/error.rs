//! What can be wrong with a message.

use core::fmt;

use super::message::kind;
use super::types::Dialect;

/// Why a message could not be encoded or decoded. Counts that 32 bits do not hold are given as 2³² − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// The message ends within the named field.
    Truncated {
        /// Message type.
        kind: u8,
        /// The number of the field, from 0 on, in [`Request`](super::Request) or [`Reply`](super::Reply);
        /// [`kind::field`](super::kind::field) has its name.
        field: u8,
    },
    /// The named field has a value that the protocol rules out, such as 17 names in a walk; or, when
    /// encoding, one that the field can't express, such as a string of 64 KiB.
    Invalid {
        /// Message type.
        kind: u8,
        /// The number of the field, from 0 on, in [`Request`](super::Request) or [`Reply`](super::Reply);
        /// [`kind::field`](super::kind::field) has its name.
        field: u8,
    },
    /// There are bytes after the last field.
    Trailing {
        /// Message type.
        kind: u8,
        /// How many.
        bytes: u32,
    },
    /// The size field does not say how many bytes there are.
    Size {
        /// What it says.
        said: u32,
        /// How many there are.
        got: u32,
    },
    /// No request or no reply, whichever was expected, has this type in this dialect.
    Kind {
        /// Message type.
        kind: u8,
        /// The dialect spoken.
        dialect: Dialect,
    },
    /// The buffer to encode into is too small.
    Room {
        /// The size that would be enough.
        needed: u32,
    },
    /// A string crosses the seam of a message in two pieces, and the scratch space given to
    /// [`Reader::split`](super::Reader::split) can't hold it.
    Seam {
        /// Message type.
        kind: u8,
        /// The number of the field, from 0 on, in [`Request`](super::Request) or [`Reply`](super::Reply);
        /// [`kind::field`](super::kind::field) has its name.
        field: u8,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            WireError::Truncated { kind, field } => {
                write!(
                    f,
                    "{} ends within its field {}",
                    kind::name(kind),
                    kind::field(kind, field)
                )
            }
            WireError::Invalid { kind, field } => {
                write!(
                    f,
                    "{}: bad value for field {}",
                    kind::name(kind),
                    kind::field(kind, field)
                )
            }
            WireError::Trailing { kind, bytes } => {
                write!(f, "{} has {bytes} bytes too many", kind::name(kind))
            }
            WireError::Size { said, got } => {
                write!(f, "9P message of {got} bytes says that it has {said}")
            }
            WireError::Kind { kind, dialect } => write!(
                f,
                "unexpected message type {kind} ({}) in {dialect}",
                kind::name(kind)
            ),
            WireError::Room { needed } => {
                write!(f, "9P message needs {needed} bytes, the buffer has fewer")
            }
            WireError::Seam { kind, field } => write!(
                f,
                "{}: no scratch space to join the two pieces of field {}",
                kind::name(kind),
                kind::field(kind, field)
            ),
        }
    }
}

impl core::error::Error for WireError {}
