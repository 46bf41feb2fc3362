//! Copies between private and shared memory.
//!
//! Eight-byte accesses have to be aligned, and the shared side is the one that is: the copies begin with single bytes
//! until it is, and the private side takes the words at any alignment.
//!
//! Bulk is taken 64 bytes at a time, eight words read and then eight written, by code without a loop inside: built for
//! size, the compiler makes one word per turn of a loop from anything else. docs/speed.md has what that is worth beside
//! SSE and `rep movs`.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

const WORD: usize = size_of::<u64>();
/// Bytes that one turn of the loop takes.
const BLOCK: usize = 8 * WORD;
/// Half of that, of which a message without data has one at the most.
const HALF: usize = 4 * WORD;

/// Reads the byte at `from`.
///
/// # Safety
/// `from` is valid for reads, and all accesses to it are atomic or ordered with this one.
unsafe fn load_byte(from: *const u8) -> u8 {
    // SAFETY: valid by the caller's contract, and a byte is always aligned; the reference lives for
    // this one access only, and `AtomicU8` is a type whose referent may change at any time.
    unsafe { AtomicU8::from_ptr(from.cast_mut()) }.load(Relaxed)
}

/// Reads the eight bytes at `from`.
///
/// # Safety
/// As [`load_byte`], for eight bytes; `from` is aligned to 8.
unsafe fn load_word(from: *const u8) -> [u8; WORD] {
    // SAFETY: as in `load_byte`, aligned by the caller's contract.
    unsafe { AtomicU64::from_ptr(from.cast_mut().cast()) }
        .load(Relaxed)
        .to_ne_bytes()
}

/// Writes the byte at `to`.
///
/// # Safety
/// As [`load_byte`], for writes.
unsafe fn store_byte(to: *mut u8, byte: u8) {
    // SAFETY: as in `load_byte`.
    unsafe { AtomicU8::from_ptr(to) }.store(byte, Relaxed);
}

/// Writes the eight bytes at `to`.
///
/// # Safety
/// As [`load_word`], for writes.
unsafe fn store_word(to: *mut u8, word: [u8; WORD]) {
    // SAFETY: as in `load_word`.
    unsafe { AtomicU64::from_ptr(to.cast()) }.store(u64::from_ne_bytes(word), Relaxed);
}

/// Reads the 32 bytes at `from`.
///
/// # Safety
/// As [`load_word`], for 32 bytes.
#[inline(always)]
unsafe fn load_half(from: *const u8) -> [[u8; WORD]; HALF / WORD] {
    // SAFETY: within the 32 bytes, and aligned, being multiples of 8 away.
    let word = |index: usize| unsafe { load_word(from.add(index * WORD)) };
    [word(0), word(1), word(2), word(3)]
}

/// Writes the 32 bytes at `to`.
///
/// # Safety
/// As [`load_word`], for writes of 32 bytes.
#[inline(always)]
unsafe fn store_half(to: *mut u8, half: [[u8; WORD]; HALF / WORD]) {
    // SAFETY: within the 32 bytes, and aligned, being multiples of 8 away.
    let word = |index: usize, word| unsafe { store_word(to.add(index * WORD), word) };
    let [a, b, c, d] = half;
    word(0, a);
    word(1, b);
    word(2, c);
    word(3, d);
}

/// Reads the 64 bytes at `from`.
///
/// # Safety
/// As [`load_word`], for 64 bytes.
#[inline(always)]
unsafe fn load_block(from: *const u8) -> [[u8; WORD]; BLOCK / WORD] {
    // SAFETY: within the 64 bytes, and aligned, being multiples of 8 away.
    let word = |index: usize| unsafe { load_word(from.add(index * WORD)) };
    [
        word(0),
        word(1),
        word(2),
        word(3),
        word(4),
        word(5),
        word(6),
        word(7),
    ]
}

/// Writes the 64 bytes at `to`.
///
/// # Safety
/// As [`load_word`], for writes of 64 bytes.
#[inline(always)]
unsafe fn store_block(to: *mut u8, block: [[u8; WORD]; BLOCK / WORD]) {
    // SAFETY: within the 64 bytes, and aligned, being multiples of 8 away.
    let word = |index: usize, word| unsafe { store_word(to.add(index * WORD), word) };
    let [a, b, c, d, e, f, g, h] = block;
    word(0, a);
    word(1, b);
    word(2, c);
    word(3, d);
    word(4, e);
    word(5, f);
    word(6, g);
    word(7, h);
}

/// Copies `into.len()` bytes out of shared memory at `shared`, reading each byte exactly once.
///
/// # Safety
/// `shared` is valid for reads of `into.len()` bytes during the call, and this domain accesses those bytes meanwhile by
/// atomic accesses only. If another domain writes to them, the bytes may be any mixture of old and new, each still read
/// once.
#[inline(never)]
pub unsafe fn copy_from_shared(shared: NonNull<u8>, into: &mut [u8]) {
    let mut from = shared.as_ptr().cast_const();
    let head = from.align_offset(WORD).min(into.len());
    let (head, rest) = into.split_at_mut(head);
    for byte in head {
        // SAFETY: within the `into.len()` bytes, since each step of `from` goes with one byte of it.
        unsafe {
            *byte = load_byte(from);
            from = from.add(1);
        }
    }
    let (blocks, rest) = rest.as_chunks_mut::<BLOCK>();
    for block in blocks {
        // SAFETY: within bounds as above; aligned, since `head` ended at a multiple of 8 (were it cut
        // short, there would be no block) and all steps since then were of 64 bytes.
        unsafe {
            block.as_chunks_mut().0.copy_from_slice(&load_block(from));
            from = from.add(BLOCK);
        }
    }
    let rest = match rest.split_first_chunk_mut::<HALF>() {
        Some((half, rest)) => {
            // SAFETY: as for the blocks.
            unsafe {
                half.as_chunks_mut().0.copy_from_slice(&load_half(from));
                from = from.add(HALF);
            }
            rest
        }
        None => rest,
    };
    let (words, tail) = rest.as_chunks_mut::<WORD>();
    for word in words {
        // SAFETY: as for the blocks.
        unsafe {
            *word = load_word(from);
            from = from.add(WORD);
        }
    }
    for byte in tail {
        // SAFETY: as for `head`.
        unsafe {
            *byte = load_byte(from);
            from = from.add(1);
        }
    }
}

/// Copies `from` into shared memory at `shared`, writing each byte exactly once.
///
/// # Safety
/// As [`copy_from_shared`], for writes.
#[inline(never)]
pub unsafe fn copy_to_shared(from: &[u8], shared: NonNull<u8>) {
    let mut to = shared.as_ptr();
    let (head, rest) = from.split_at(to.align_offset(WORD).min(from.len()));
    for byte in head {
        // SAFETY: within bounds, since each step of `to` goes with one byte of `from`.
        unsafe {
            store_byte(to, *byte);
            to = to.add(1);
        }
    }
    let (blocks, rest) = rest.as_chunks::<BLOCK>();
    for block in blocks {
        let mut words = [[0; WORD]; BLOCK / WORD];
        words.copy_from_slice(block.as_chunks().0);
        // SAFETY: within bounds as above, aligned as in `copy_from_shared`.
        unsafe {
            store_block(to, words);
            to = to.add(BLOCK);
        }
    }
    let rest = match rest.split_first_chunk::<HALF>() {
        Some((half, rest)) => {
            let mut words = [[0; WORD]; HALF / WORD];
            words.copy_from_slice(half.as_chunks().0);
            // SAFETY: as for the blocks.
            unsafe {
                store_half(to, words);
                to = to.add(HALF);
            }
            rest
        }
        None => rest,
    };
    let (words, tail) = rest.as_chunks::<WORD>();
    for word in words {
        // SAFETY: as for the blocks.
        unsafe {
            store_word(to, *word);
            to = to.add(WORD);
        }
    }
    for byte in tail {
        // SAFETY: as for `head`.
        unsafe {
            store_byte(to, *byte);
            to = to.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    /// Every alignment of both sides with every length around the word and block sizes, with a
    /// guard byte on either side that must stay as it was.
    #[test]
    fn copies_are_exact_at_every_alignment_and_length() {
        for shared_offset in 1..=9 {
            for private_offset in 0..8 {
                for len in (0..=2 * BLOCK + 9).chain([1000, 4095]) {
                    let data: Vec<u8> = (0..len).map(|i| (i * 7 + 3) as u8).collect();
                    let mut shared = vec![0xEEu8; shared_offset + len + 1];
                    let mut source = vec![0u8; private_offset];
                    source.extend_from_slice(&data);
                    let mut back = vec![0xDDu8; private_offset + len + 1];
                    let area = NonNull::new(shared.as_mut_ptr()).unwrap();
                    // SAFETY: `shared` has `len` bytes from `shared_offset` on, and no other code
                    // uses it.
                    unsafe {
                        let area = area.add(shared_offset);
                        copy_to_shared(&source[private_offset..], area);
                        copy_from_shared(area, &mut back[private_offset..private_offset + len]);
                    }
                    assert_eq!(back[private_offset..private_offset + len], data[..]);
                    assert_eq!(back[private_offset + len], 0xDD);
                    assert_eq!(shared[shared_offset - 1], 0xEE);
                    assert_eq!(shared[shared_offset + len], 0xEE);
                }
            }
        }
    }
}
