//! An Argo ring in which anything is written anywhere, while its owner reads it in every way.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use xen9p::xen::argo::Reader;
use xen9p::xen::shared::SharedMemory;

/// The most operations of one run.
const MOST_OPERATIONS: usize = 200;

/// Bytes before the data.
const HEAD: usize = 64;

/// Input: the size; then operations of either side, each with its numbers.
pub fn run(input: &[u8]) {
    let mut bytes = input.iter().copied();
    let Some(shape) = bytes.next() else { return };
    let len = 16 * (3 + usize::from(shape));
    let words: Vec<AtomicU64> = (0..(HEAD + len) / 8).map(|_| AtomicU64::new(0)).collect();
    // SAFETY: the words live until the end of this function, where the reader is dropped before them; they are accessed as
    // atomics alone.
    let memory =
        unsafe { SharedMemory::<'static>::new(NonNull::from(&words[..]).cast(), HEAD + len) };
    let mut reader = Reader::new(memory);
    for _ in 0..MOST_OPERATIONS {
        let Some(operation) = bytes.next() else {
            return;
        };
        let mut number = || {
            let parts = [bytes.next(), bytes.next()].map(|part| part.unwrap_or(0));
            usize::from(u16::from_le_bytes(parts))
        };
        match operation % 6 {
            0 => memory
                .word::<u32>(4)
                .store(number() as u32, Ordering::Release),
            1 => {
                let (at, value) = (number() % ((HEAD + len) / 4), number() as u32);
                memory.word::<u32>(4 * at).store(value, Ordering::Relaxed);
            }
            2 => {
                // A header where the reader is said to be.
                let at = HEAD + number() % (len / 16) * 16;
                memory
                    .word::<u32>(at)
                    .store(number() as u32, Ordering::Relaxed);
            }
            3 => {
                let first = reader.peek();
                if let Ok(Some(message)) = first {
                    assert!(message.len as usize <= len - 16, "it fits into the ring");
                    assert_eq!(reader.peek(), first, "it stays");
                }
            }
            4 => {
                let (offset, count) = (number() as u32, number() % 600);
                let mut into = vec![0xa5; count];
                reader.copy_out(offset, &mut into);
            }
            _ => {
                // What the owner writes is at a slot, whatever was there before.
                let had = matches!(reader.peek(), Ok(Some(_)));
                reader.consume(number() as u32);
                let rx = memory.word::<u32>(0).load(Ordering::Acquire) as usize;
                assert!(!had || (rx < len && rx.is_multiple_of(16)), "{rx}");
            }
        }
    }
}
