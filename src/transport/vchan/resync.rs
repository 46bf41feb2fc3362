//! Finding the beginning of a new 9P session in a stream that still carries the rest of an old one.
//!
//! A vchan says nothing of its epochs: a server that has not noticed that its client went and came back goes on with the
//! reply that it was sending. A new session begins with Tversion, so what comes before a well-formed Rversion is the old one's.

use alloc::vec::Vec;

use super::ring::Violation;

/// More bytes of an old session than this are not dropped.
const MAX_DROPPED: usize = 4 << 20;

/// Size, type, tag, msize and the length of the version.
const FIXED: usize = 4 + 1 + 2 + 4 + 2;

/// The longest version that is looked for, in bytes.
const MAX_VERSION: usize = 32;

const RVERSION: u8 = 101;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Resync {
    /// The last bytes, which may be the beginning of an Rversion.
    tail: Vec<u8>,
    dropped: usize,
}

/// What bytes are, seen as an Rversion.
#[derive(Clone, Copy, PartialEq)]
enum Seen {
    Whole,
    /// The beginning of one, perhaps.
    Part,
    Other,
}

fn look(bytes: &[u8]) -> Seen {
    let byte = |at: usize| bytes.get(at).copied();
    let size = bytes
        .first_chunk()
        .map(|size| u32::from_le_bytes(*size) as usize);
    let fits = |at: usize, expected: u8| byte(at).is_none_or(|byte| byte == expected);
    let sane = size.is_none_or(|size| (FIXED..=FIXED + MAX_VERSION).contains(&size));
    if !sane || !fits(4, RVERSION) || !fits(5, 0xff) || !fits(6, 0xff) {
        return Seen::Other;
    }
    let Some(size) = size.filter(|_| bytes.len() >= FIXED) else {
        return Seen::Part;
    };
    let (Some(low), Some(high)) = (byte(FIXED - 2), byte(FIXED - 1)) else {
        return Seen::Part;
    };
    let len = usize::from(u16::from_le_bytes([low, high]));
    let version = bytes.get(FIXED..).unwrap_or(&[]);
    let known: [&[u8]; 2] = [b"9P2000", b"unknown"];
    let begins = |text: &&[u8]| version.iter().zip(*text).all(|(a, b)| a == b);
    if FIXED + len != size || !known.iter().any(begins) {
        return Seen::Other;
    }
    match bytes.len() >= size {
        true => Seen::Whole,
        false => Seen::Part,
    }
}

impl Resync {
    /// Takes the first `count` bytes of `bytes`, which came from the stream. Says how many of the new session are at the
    /// beginning of `bytes` now; 0: none yet.
    ///
    /// # Errors
    /// There is no end to the old session, or no memory.
    pub(super) fn filter(&mut self, bytes: &mut [u8], count: usize) -> Result<usize, Violation> {
        let fresh = bytes.get(..count).unwrap_or(&[]);
        if self.tail.try_reserve(fresh.len()).is_err() {
            return Err(Violation(&"it sends too much of an old session at once"));
        }
        self.tail.extend_from_slice(fresh);
        let seen = |at: usize| look(self.tail.get(at..).unwrap_or(&[]));
        let start = (0..self.tail.len()).find(|at| seen(*at) != Seen::Other);
        let start = start.unwrap_or(self.tail.len());
        let whole = seen(start) == Seen::Whole;
        self.tail.drain(..start);
        self.dropped += start;
        if self.dropped > MAX_DROPPED {
            return Err(Violation(
                &"it goes on with an old session and starts no new one",
            ));
        }
        if !whole {
            return Ok(0);
        }
        match bytes.get_mut(..self.tail.len()) {
            Some(into) => {
                into.copy_from_slice(&self.tail);
                Ok(into.len())
            }
            None => Err(Violation(&"its Rversion is longer than the room for it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rversion() -> Vec<u8> {
        let mut message = [
            &[21, 0, 0, 0, RVERSION, 0xff, 0xff, 0, 0, 1, 0, 8, 0][..],
            b"9P2000.L",
        ];
        let message = message.as_mut_slice().concat();
        assert_eq!(message.len(), 21);
        message
    }

    proptest! {
        /// In whatever pieces it comes, and whatever the old session was about.
        #[test]
        fn what_comes_before_an_rversion_is_dropped(
            old in prop::collection::vec(any::<u8>().prop_map(|byte| byte % 102), 0..200),
            next in prop::collection::vec(any::<u8>(), 0..20),
            piece in 1_usize..40,
        ) {
            let stream = [&old[..], &rversion(), &next].concat();
            let mut resync = Resync::default();
            let mut pieces = stream.chunks(piece);
            let mut found = Vec::new();
            for piece in pieces.by_ref() {
                let mut buffer = [0; 256];
                buffer[..piece.len()].copy_from_slice(piece);
                let count = resync.filter(&mut buffer, piece.len()).unwrap();
                if count > 0 {
                    found = buffer[..count].to_vec();
                    break;
                }
            }
            found.extend(pieces.flatten());
            prop_assert_eq!(found, [&rversion()[..], &next].concat());
        }
    }

    #[test]
    fn there_is_an_end_to_what_is_dropped() {
        let mut resync = Resync::default();
        let mut chunk = [7; 4096];
        let refused = (0..2000).find_map(|_| resync.filter(&mut chunk, 4096).err());
        assert!(refused.is_some());
    }
}
