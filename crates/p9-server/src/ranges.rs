//! How many ranges of a file are locked through a fid.
//!
//! The tree does the locking; this only follows it, so that what a peer holds can be counted and bounded.

use alloc::vec::Vec;

use p9_tree::Lock;
use p9_wire::LockKind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    owner: u64,
    start: u64,
    /// Exclusive.
    end: u64,
}

/// The ranges that are locked through one fid.
#[derive(Debug, Default)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    pub const fn new() -> Self {
        Ranges(Vec::new())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Notes a lock that was taken or given back, with the rules of POSIX: it replaces what its owner has there.
    pub fn note(&mut self, lock: &Lock<'_>) {
        // A range in the middle of another splits it. Without memory for that the count is too low.
        if self.0.try_reserve(2).is_err() {
            return;
        }
        let owner = owner(lock);
        let start = lock.start;
        let end = match lock.length {
            0 => u64::MAX,
            length => start.saturating_add(length),
        };
        let mut index = 0;
        while let Some(range) = self.0.get(index).copied() {
            if range.owner != owner || range.end <= start || end <= range.start {
                index += 1;
                continue;
            }
            self.0.swap_remove(index);
            let rest = [(range.start, start), (end, range.end)];
            for (start, end) in rest {
                if start < end && self.0.len() < self.0.capacity() {
                    self.0.push(Range { owner, start, end });
                }
            }
        }
        if lock.kind != LockKind::UNLOCK && self.0.len() < self.0.capacity() {
            self.0.push(Range { owner, start, end });
        }
    }
}

/// A number for the process and machine (FNV-1a). Two that share one are counted as one.
fn owner(lock: &Lock<'_>) -> u64 {
    let bytes = lock.client.iter().copied().chain(lock.owner.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(kind: LockKind, start: u64, length: u64, owner: u32) -> Lock<'static> {
        let client = b"host";
        Lock {
            kind,
            start,
            length,
            owner,
            client,
        }
    }

    #[test]
    fn ranges_are_split_joined_and_given_back() {
        let mut ranges = Ranges::new();
        ranges.note(&lock(LockKind::WRITE, 0, 100, 1));
        ranges.note(&lock(LockKind::READ, 0, 100, 2));
        assert_eq!(ranges.len(), 2);
        ranges.note(&lock(LockKind::UNLOCK, 40, 20, 1));
        assert_eq!(ranges.len(), 3);
        ranges.note(&lock(LockKind::READ, 10, 10, 1));
        assert_eq!(ranges.len(), 5);
        ranges.note(&lock(LockKind::WRITE, 0, 0, 1));
        assert_eq!(ranges.len(), 2);
        ranges.note(&lock(LockKind::UNLOCK, 0, 0, 1));
        ranges.note(&lock(LockKind::UNLOCK, 0, 0, 2));
        assert_eq!(ranges.len(), 0);
    }
}
