//! Listings: from any place on, while entries come and go.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use p9_tree::Node;
use p9_wire::{DirEntryKind, FileKind, OpenFlags};

use super::*;

#[test]
fn what_was_not_taken_comes_next() {
    let share = default_share();
    for number in 0..500 {
        std::fs::write(share.path(&format!("{number}")), "").unwrap();
    }
    let dir = now(share.root.open(OpenFlags::DIRECTORY)).unwrap();
    let all = list(&dir, 0, usize::MAX).unwrap();
    assert_eq!(all.len(), 502);
    for piece in [1, 2, 7, 499, 1000] {
        let mut pieces = Vec::new();
        loop {
            let offset = pieces.last().map_or(0, |&(_, _, offset)| offset);
            let more = list(&dir, offset, piece).unwrap();
            if more.is_empty() {
                break;
            }
            pieces.extend(more);
        }
        assert_eq!(pieces, all, "{piece} at a time");
    }
    // Back to any place, more than once.
    for at in [400, 3, 250, 250] {
        let rest = list(&dir, all[at].2, usize::MAX).unwrap();
        assert_eq!(rest, all[at + 1..], "behind {at}");
    }
    // A caller that takes nothing gets the same again.
    assert!(list(&dir, all[9].2, 0).unwrap().is_empty());
    assert_eq!(list(&dir, all[9].2, 1).unwrap(), all[10..11]);
}

#[test]
fn nonsense_for_an_offset_is_an_error_or_nothing() {
    let share = default_share();
    share.make("file", b"");
    let dir = now(share.root.open(OpenFlags::DIRECTORY)).unwrap();
    for offset in [u64::MAX, 1 << 63, (1 << 63) - 1, 12345] {
        if let Ok(entries) = list(&dir, offset, usize::MAX) {
            assert!(entries.len() <= 3);
        }
    }
    assert_eq!(list(&dir, 0, usize::MAX).unwrap().len(), 3);
}

#[test]
fn entries_say_what_they_are() {
    let share = default_share();
    std::fs::create_dir(share.path("dir")).unwrap();
    std::fs::write(share.path("file"), "").unwrap();
    std::os::unix::fs::symlink("x", share.path("link")).unwrap();
    now(share.root.mknod(b"pipe", 0o10600, 0, 0, NO_GROUP)).unwrap();
    let dir = now(share.root.open(OpenFlags::DIRECTORY)).unwrap();
    let mut all: Vec<_> = list(&dir, 0, usize::MAX)
        .unwrap()
        .into_iter()
        .map(|(name, kind, _)| (name, kind))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        (".", FileKind::DIR),
        ("..", FileKind::DIR),
        ("dir", FileKind::DIR),
        ("file", FileKind::REGULAR),
        ("link", FileKind::SYMLINK),
        ("pipe", FileKind::FIFO),
    ]
    .map(|(name, kind)| (name.to_owned(), DirEntryKind::of(kind)));
    assert_eq!(all, expected);
}

/// 20,000 files stay while thousands of others come and go during the listing, seven entries at a time: each of those
/// that stay is listed, once.
#[test]
fn nothing_that_stays_is_lost_or_repeated() {
    let share = default_share();
    std::fs::create_dir(share.path("many")).unwrap();
    let stay: HashSet<String> = (0..20_000).map(|n| format!("stays{n}")).collect();
    for name in &stay {
        std::fs::write(share.path("many").join(name), "").unwrap();
    }
    let stop = AtomicBool::new(false);
    let changes = AtomicU64::new(0);
    let many = share.path("many");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let name = many.join(format!("goes{number}"));
                std::fs::write(&name, "").unwrap();
                std::fs::rename(&name, many.join(format!("renamed{number}"))).unwrap();
                if number >= 100 {
                    std::fs::remove_file(many.join(format!("renamed{}", number - 100))).unwrap();
                }
                number += 1;
                changes.store(number, Ordering::Relaxed);
            }
        });
        let _stop = Stop(&stop);
        let node = share.node("many").unwrap();
        for _ in 0..2 {
            let before = changes.load(Ordering::Relaxed);
            let dir = now(node.open(OpenFlags::DIRECTORY)).unwrap();
            let (mut seen, mut offset) = (HashSet::new(), 0);
            loop {
                let more = list(&dir, offset, 7).unwrap();
                let Some(last) = more.last() else { break };
                offset = last.2;
                // Something has to change in the middle, however busy this machine is.
                while changes.load(Ordering::Relaxed) == before {
                    thread::yield_now();
                }
                for (name, _, _) in more {
                    if stay.contains(&name) {
                        assert!(seen.insert(name.clone()), "{name} twice");
                    }
                }
            }
            assert_eq!(seen.len(), stay.len());
        }
    });
}
