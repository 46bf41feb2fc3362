//! A grant entry, while Xen maps its page for the peer and the owner takes the page back.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use loom::thread;

const PERMIT_ACCESS: u16 = 1;
const READING: u16 = 8;
const WRITING: u16 = 16;
const IN_USE: u16 = READING | WRITING;

/// Times that the owner tries (`REVOKE_TRIES`).
const TRIES: usize = 3;

struct Entry {
    flags: AtomicU16,
    page: UnsafeCell<u32>,
}

// SAFETY: the threads of a model run one at a time, and loom fails where two accesses of the page are not ordered.
unsafe impl Sync for Entry {}

/// The peer maps the page through Xen, writes to it, and lets go of it. Xen changes the flags by locked instructions.
fn peer(entry: &Entry) {
    let flags = entry.flags.load(Ordering::Acquire);
    if flags & PERMIT_ACCESS == 0 {
        return;
    }
    let mapped =
        entry
            .flags
            .compare_exchange(flags, flags | IN_USE, Ordering::SeqCst, Ordering::Acquire);
    if mapped.is_ok() {
        entry.page.with_mut(|page| {
            // SAFETY: loom checks that nothing else accesses the page meanwhile.
            unsafe { *page = 7 }
        });
        entry.flags.fetch_and(!IN_USE, Ordering::SeqCst);
    }
}

/// As `Grants::revoke`.
fn revoke(entry: &Entry, load: Ordering, success: Ordering, failure: Ordering) -> bool {
    let mut current = entry.flags.load(load);
    for _ in 0..TRIES {
        if current & IN_USE != 0 {
            return false;
        }
        match entry.flags.compare_exchange(current, 0, success, failure) {
            Ok(_) => return true,
            Err(changed) => current = changed,
        }
    }
    false
}

fn reuse(revoke: fn(&Entry) -> bool) {
    loom::model(move || {
        let entry = Arc::new(Entry {
            flags: AtomicU16::new(PERMIT_ACCESS),
            page: UnsafeCell::new(0),
        });
        let mapper = {
            let entry = entry.clone();
            thread::spawn(move || peer(&entry))
        };
        if revoke(&entry) {
            // No other domain's page any more: zeroed, and given to the next user.
            entry.page.with_mut(|page| {
                // SAFETY: as in `peer`.
                unsafe { *page = 0 }
            });
        }
        mapper.join().unwrap();
    });
}

#[test]
fn a_page_that_is_taken_back_is_the_owners_alone() {
    reuse(|entry| {
        revoke(
            entry,
            Ordering::Acquire,
            Ordering::SeqCst,
            Ordering::Acquire,
        )
    });
}

#[test]
#[should_panic(expected = "Concurrent")]
fn flags_that_are_looked_at_and_then_cleared_take_back_a_mapped_page() {
    reuse(|entry| {
        let free = entry.flags.load(Ordering::SeqCst) & IN_USE == 0;
        if free {
            entry.flags.store(0, Ordering::SeqCst);
        }
        free
    });
}

#[test]
#[should_panic(expected = "Concurrent")]
fn without_ordering_the_peers_last_write_comes_after_the_reuse() {
    reuse(|entry| {
        revoke(
            entry,
            Ordering::Relaxed,
            Ordering::Relaxed,
            Ordering::Relaxed,
        )
    });
}

/// The entry's reference was used before: `Grants::activate` fills in the new frame, then makes the entry valid.
fn activate(order: Ordering) {
    const OLD: u32 = 1;
    const NEW: u32 = 2;
    loom::model(move || {
        let flags = Arc::new(AtomicU16::new(0));
        let frame = Arc::new(AtomicU32::new(OLD));
        let xen = {
            let (flags, frame) = (flags.clone(), frame.clone());
            thread::spawn(move || {
                if flags.load(Ordering::Acquire) & PERMIT_ACCESS != 0 {
                    let mapped = frame.load(Ordering::Relaxed);
                    assert_eq!(mapped, NEW, "the frame of an earlier grant was mapped");
                }
            })
        };
        frame.store(NEW, Ordering::Relaxed);
        flags.store(PERMIT_ACCESS, order);
        xen.join().unwrap();
    });
}

#[test]
fn a_valid_entry_has_its_frame() {
    activate(Ordering::Release);
}

#[test]
#[should_panic(expected = "the frame of an earlier grant was mapped")]
fn flags_that_are_stored_without_release_grant_an_old_frame() {
    activate(Ordering::Relaxed);
}
