//! Xenstore's messages (public/io/xs_wire.h, docs/misc/xenstore.txt): encoding and decoding, with
//! no ring and no machine behind them.
//!
//! Nothing here panics, whatever the bytes.
//!
//! ```
//! use xen_guest::store::StoreError;
//! use xen_guest::store::wire::{Decoder, Header, Kind};
//!
//! let header = Header { kind: Kind::READ, request: 1, transaction: 0, length: 5 };
//! let mut bytes = header.encode().to_vec();
//! bytes.extend(b"name\0");
//!
//! // Bytes come in pieces of any size.
//! let mut decoder = Decoder::default();
//! let (mut first, mut rest) = bytes.split_at(9);
//! assert_eq!(decoder.feed(&mut first)?, None);
//! let message = decoder.feed(&mut rest)?.expect("the rest of it");
//! assert_eq!((message.header, &message.payload[..]), (header, &b"name\0"[..]));
//! # Ok::<(), StoreError>(())
//! ```

use alloc::string::String;
use alloc::vec::Vec;

use super::error::{Refusal, StoreError};
use crate::hypercall::DomId;
use xen_abi as sys;

/// Size of a message's header in bytes.
pub const HEADER_SIZE: usize = size_of::<sys::xsd_sockmsg>();

/// The longest payload in bytes; xenstored drops who sends more.
pub const PAYLOAD_MAX: usize = sys::XENSTORE_PAYLOAD_MAX as usize;

/// The longest path in bytes, for one that begins with `/` and for one that does not.
const PATH_MAX: (usize, usize) = (
    sys::XENSTORE_ABS_PATH_MAX as usize,
    sys::XENSTORE_REL_PATH_MAX as usize,
);

/// What a message is about; the number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u32);

#[allow(missing_docs)] // The names are the protocol's.
impl Kind {
    pub const DIRECTORY: Kind = Kind(sys::XS_DIRECTORY);
    pub const READ: Kind = Kind(sys::XS_READ);
    pub const GET_PERMS: Kind = Kind(sys::XS_GET_PERMS);
    pub const WATCH: Kind = Kind(sys::XS_WATCH);
    pub const UNWATCH: Kind = Kind(sys::XS_UNWATCH);
    pub const TRANSACTION_START: Kind = Kind(sys::XS_TRANSACTION_START);
    pub const TRANSACTION_END: Kind = Kind(sys::XS_TRANSACTION_END);
    pub const WRITE: Kind = Kind(sys::XS_WRITE);
    pub const MKDIR: Kind = Kind(sys::XS_MKDIR);
    pub const RM: Kind = Kind(sys::XS_RM);
    pub const SET_PERMS: Kind = Kind(sys::XS_SET_PERMS);
    pub const WATCH_EVENT: Kind = Kind(sys::XS_WATCH_EVENT);
    pub const ERROR: Kind = Kind(sys::XS_ERROR);
    pub const RESET_WATCHES: Kind = Kind(sys::XS_RESET_WATCHES);
    pub const DIRECTORY_PART: Kind = Kind(sys::XS_DIRECTORY_PART);
}

/// A message's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is about.
    pub kind: Kind,
    /// Which request: the answer repeats it.
    pub request: u32,
    /// In which transaction; 0 is none.
    pub transaction: u32,
    /// Bytes of payload.
    pub length: u32,
}

impl Header {
    /// The header on the wire.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let words = [self.kind.0, self.request, self.transaction, self.length];
        let mut bytes = [0; HEADER_SIZE];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The header in `bytes`.
    pub fn decode(bytes: &[u8; HEADER_SIZE]) -> Self {
        let mut words = [0; 4];
        for (word, place) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_le_bytes(*place);
        }
        let [kind, request, transaction, length] = words;
        Header {
            kind: Kind(kind),
            request,
            transaction,
            length,
        }
    }
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its header.
    pub header: Header,
    /// Its payload, `header.length` bytes.
    pub payload: Vec<u8>,
}

/// Puts messages together from a stream of bytes that arrive in pieces of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    header: [u8; HEADER_SIZE],
    have: usize,
    payload: Vec<u8>,
}

impl Decoder {
    /// Takes bytes from the front of `input`, up to the end of a message at most, and returns the
    /// message if that completed it.
    ///
    /// # Errors
    /// [`StoreError::Broken`] when a header promises more than [`PAYLOAD_MAX`]; where the next
    /// message starts is unknown then.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Message>, StoreError> {
        if self.have < HEADER_SIZE {
            let count = input.len().min(HEADER_SIZE - self.have);
            let (now, later) = input.split_at(count);
            self.header[self.have..self.have + count].copy_from_slice(now);
            self.have += count;
            *input = later;
            if self.have < HEADER_SIZE {
                return Ok(None);
            }
        }
        let header = Header::decode(&self.header);
        let length = header.length as usize;
        if length > PAYLOAD_MAX {
            return Err(StoreError::Broken(
                "a message claims to be longer than messages can be",
            ));
        }
        let count = input.len().min(length - self.payload.len());
        let (now, later) = input.split_at(count);
        self.payload.extend_from_slice(now);
        *input = later;
        if self.payload.len() < length {
            return Ok(None);
        }
        self.have = 0;
        Ok(Some(Message {
            header,
            payload: core::mem::take(&mut self.payload),
        }))
    }
}

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// Read it.
    Read,
    /// Write it.
    Write,
    /// Read and write it.
    Both,
}

/// An entry in a node's list of permissions. The first one names the owner, who may do anything,
/// and says what domains that are not listed may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The domain that has the permission.
    pub domain: DomId,
    /// What.
    pub access: Access,
}

impl Permission {
    /// The permission in the form `r5`.
    ///
    /// # Errors
    /// [`StoreError::BadAnswer`] when it has another form.
    pub fn decode(text: &[u8]) -> Result<Self, StoreError> {
        let bad = StoreError::BadAnswer("permissions");
        let (&letter, number) = text.split_first().ok_or(bad)?;
        let access = match letter {
            b'n' => Access::None,
            b'r' => Access::Read,
            b'w' => Access::Write,
            b'b' => Access::Both,
            _ => return Err(bad),
        };
        let number = decimal(number)
            .and_then(|n| u16::try_from(n).ok())
            .ok_or(bad)?;
        Ok(Permission {
            domain: DomId(number),
            access,
        })
    }

    /// The form on the wire, without the NUL.
    pub fn encode(&self) -> String {
        let letter = match self.access {
            Access::None => 'n',
            Access::Read => 'r',
            Access::Write => 'w',
            Access::Both => 'b',
        };
        alloc::format!("{letter}{}", self.domain)
    }
}

/// A number in decimal digits, nothing else around it; `None` if it is none or passes 64 bits.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |sum, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// The text in `bytes`.
///
/// # Errors
/// [`StoreError::BadAnswer`] when it is not UTF-8.
pub fn text(bytes: &[u8]) -> Result<String, StoreError> {
    core::str::from_utf8(bytes)
        .map(String::from)
        .map_err(|_| StoreError::BadAnswer("text in UTF-8"))
}

/// The strings in a payload of strings that each end with NUL. What follows the last NUL counts as
/// one more.
pub fn strings(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let payload = payload.strip_suffix(b"\0").unwrap_or(payload);
    let empty = payload.is_empty();
    payload.split(|&byte| byte == 0).filter(move |_| !empty)
}

/// Adds the strings in such a payload to `names`.
///
/// # Errors
/// As [`text`].
pub(super) fn add_names(payload: &[u8], names: &mut Vec<String>) -> Result<(), StoreError> {
    for name in strings(payload) {
        names.push(text(name)?);
    }
    Ok(())
}

/// The path and the token of a watch event.
pub fn watch_event(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = strings(payload);
    Some((parts.next()?, parts.next()?))
}

/// The number in the answer to the beginning of a transaction; `None` if it is none, or that of no transaction.
pub fn transaction(payload: &[u8]) -> Option<u32> {
    let number = decimal(payload.strip_suffix(b"\0").unwrap_or(payload))?;
    u32::try_from(number).ok().filter(|&number| number != 0)
}

/// The refusal in the payload of an error.
pub fn refusal(payload: &[u8]) -> Refusal {
    Refusal::from_name(payload.strip_suffix(b"\0").unwrap_or(payload))
}

/// Checks a path before it is sent, so that a bad one gives a clear error and does not cost the
/// connection.
///
/// # Errors
/// [`StoreError::Invalid`].
pub fn check_path(path: &str) -> Result<(), StoreError> {
    let limit = if path.starts_with('/') {
        PATH_MAX.0
    } else {
        PATH_MAX.1
    };
    if path.is_empty() {
        return Err(StoreError::Invalid("the path is empty"));
    }
    if path.len() > limit {
        return Err(StoreError::Invalid("the path is too long"));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-/_@".contains(&b);
    if !path.bytes().all(allowed) {
        return Err(StoreError::Invalid(
            "the path has characters other than letters, digits and -/_@",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn headers_survive_the_wire() {
        let header = Header {
            kind: Kind::WATCH_EVENT,
            request: 0x0102_0304,
            transaction: u32::MAX,
            length: 17,
        };
        let bytes = header.encode();
        assert_eq!(bytes[..8], [15, 0, 0, 0, 4, 3, 2, 1]);
        assert_eq!(Header::decode(&bytes), header);
    }

    #[test]
    fn payloads_split_into_strings() {
        let parts = |payload| strings(payload).collect::<Vec<_>>();
        assert_eq!(parts(b""), Vec::<&[u8]>::new());
        assert_eq!(parts(b"\0"), Vec::<&[u8]>::new());
        assert_eq!(parts(b"a\0bc\0"), vec![&b"a"[..], b"bc"]);
        assert_eq!(parts(b"a\0\0"), vec![&b"a"[..], b""]);
        assert_eq!(parts(b"a\0b"), vec![&b"a"[..], b"b"]);
        assert_eq!(watch_event(b"a/b\0tok\0"), Some((&b"a/b"[..], &b"tok"[..])));
        assert_eq!(watch_event(b"a/b\0"), None);
    }

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            &b""[..],
            b"+4",
            b"-1",
            b"4x",
            b" 4",
            b"18446744073709551616",
        ] {
            assert_eq!(decimal(bad), None);
        }
    }

    #[test]
    fn permissions_survive_the_wire_and_nonsense_does_not() {
        for text in ["n0", "r5", "w12", "b65535"] {
            assert_eq!(Permission::decode(text.as_bytes()).unwrap().encode(), text);
        }
        for bad in ["", "r", "x5", "r65536", "r-1"] {
            assert!(Permission::decode(bad.as_bytes()).is_err());
        }
    }

    #[test]
    fn every_refusal_has_a_name_of_its_own_and_foreign_names_are_unknown() {
        assert_eq!(refusal(b"ENOENT\0"), Refusal::NotFound);
        assert_eq!(refusal(b"EQUOTA"), Refusal::Quota);
        assert_eq!(refusal(b"EWHATEVER\0"), Refusal::Unknown);
        assert_eq!(refusal(b"\xff\0\0"), Refusal::Unknown);
    }
}
