//! A server for ring tests: every request says how long a reply it wants, and both carry a pattern
//! that shows any byte that got lost, doubled or misplaced.
//!
//! Request: header, reply length u32, seed u32, pattern. Reply: header, seed u32, pattern; a reply
//! shorter than 11 bytes is cut off there.

use xen9p::transport::Header;

use super::Handler;

/// Length of the shortest request.
pub const MIN_REQUEST: u32 = 15;
/// Length of the shortest reply.
pub const MIN_REPLY: u32 = 7;
/// A request type whose reply QEMU holds back for want of room (Tread).
pub const PATIENT: u8 = 116;
/// A request type whose reply makes QEMU disconnect for want of room (Twalk).
pub const IMPATIENT: u8 = 110;

fn message(len: u32, kind: u8, tag: u16, fields: &[u32], seed: u32) -> Vec<u8> {
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend(tag.to_le_bytes());
    for field in fields {
        bytes.extend(field.to_le_bytes());
    }
    let pattern = (bytes.len() as u32..).map(|i| (seed ^ i.wrapping_mul(0x9E37_79B1) >> 16) as u8);
    let missing = (len as usize).saturating_sub(bytes.len());
    bytes.extend(pattern.take(missing));
    bytes.truncate(len as usize);
    bytes
}

/// A request of `len` bytes that asks for a reply of `reply` bytes.
pub fn request(len: u32, kind: u8, tag: u16, reply: u32, seed: u32) -> Vec<u8> {
    assert!(len >= MIN_REQUEST && reply >= MIN_REPLY);
    message(len, kind, tag, &[reply, seed], seed)
}

/// The reply that [`request`] gets.
pub fn reply(len: u32, kind: u8, tag: u16, seed: u32) -> Vec<u8> {
    message(len, kind + 1, tag, &[seed], !seed)
}

/// The header of that reply.
pub fn header(len: u32, kind: u8, tag: u16) -> Header {
    Header {
        size: len,
        kind: kind + 1,
        tag,
    }
}

/// The server. A request that is not exactly as [`request`] made it counts as undecodable.
pub fn handler() -> Handler {
    Box::new(|bytes| {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (kind, tag) = (bytes[4], u16::from_le_bytes([bytes[5], bytes[6]]));
        if bytes.len() < MIN_REQUEST as usize
            || word(7) < MIN_REPLY
            || bytes != request(bytes.len() as u32, kind, tag, word(7), word(11))
        {
            return Vec::new();
        }
        reply(word(7), kind, tag, word(11))
    })
}
