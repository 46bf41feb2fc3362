use super::*;
use alloc::boxed::Box;
use alloc::vec;
use core::ptr::NonNull;
use proptest::prelude::*;

const SIZE: u32 = 4096;

#[repr(C, align(4096))]
struct Pages([u8; 3 * PAGE_SIZE]);

/// The memory of a ring of one page in each direction, whose indices all begin at `start`.
fn memory(start: u32) -> [SharedMemory<'static>; 2] {
    let place = NonNull::from(Box::leak(Box::new(Pages([0; 3 * PAGE_SIZE]))));
    // SAFETY: never freed, and used here alone.
    let memory = unsafe { SharedMemory::new(place.cast(), 3 * PAGE_SIZE) };
    for offset in [0, 4, 64, 68] {
        memory.word::<u32>(offset).store(start, Ordering::Relaxed);
    }
    [
        memory.subslice(0, PAGE_SIZE),
        memory.subslice(PAGE_SIZE, 2 * PAGE_SIZE),
    ]
}

proptest! {
    /// Whatever is in the index page, the backend finds a lie or stays within the ring.
    #[test]
    fn no_indices_lead_out_of_the_ring(start: u32, words: [u32; 4], size: u32) {
        let [interface, data] = memory(start);
        let (mut requests, replies) = split(interface, data);
        let at = (start & (SIZE - 1)) as usize;
        data.subslice(SIZE as usize, SIZE as usize).copy_in_around(at, &size.to_le_bytes());
        for (offset, word) in [0, 4, 64, 68].into_iter().zip(words) {
            interface.word::<u32>(offset).store(word, Ordering::Relaxed);
        }
        let queued = words[3].wrapping_sub(start);
        match requests.front() {
            Ok(Some(found)) => {
                prop_assert_eq!(found, size);
                prop_assert!((HEADER_SIZE..=SIZE).contains(&size) && size <= queued);
                requests.copy_out(0, &mut vec![0; size as usize]);
                requests.consume();
            }
            Ok(None) => prop_assert!(queued <= SIZE),
            Err(Lie::Sent(count)) => prop_assert!(count == queued && count > SIZE),
            Err(lie) => prop_assert!(lie == Lie::Size(size) && !(HEADER_SIZE..=SIZE).contains(&size)),
        }
        let left = start.wrapping_sub(words[0]);
        prop_assert_eq!(replies.room(), SIZE.checked_sub(left).ok_or(Lie::Taken(left)));
    }
}

#[test]
fn a_size_that_changes_after_it_was_read_is_not_seen() {
    let [interface, data] = memory(0);
    let (mut requests, _replies) = split(interface, data);
    let ring = data.subslice(SIZE as usize, SIZE as usize);
    ring.copy_in(0, &[20, 0, 0, 0, 1, 2, 3]);
    let sent = interface.word::<u32>(68);
    sent.store(7, Ordering::Release);
    assert_eq!(requests.front(), Ok(None));
    ring.copy_in(0, &[0xff; 4]);
    sent.store(20, Ordering::Release);
    assert_eq!(requests.front(), Ok(Some(20)));
    let mut header = [0; 7];
    requests.copy_out(0, &mut header);
    assert_eq!(header, [20, 0, 0, 0, 1, 2, 3]);
}
