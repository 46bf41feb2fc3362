//! Byte-range locks with the rules of POSIX: an owner's new lock replaces what it had there.

use std::collections::HashMap;

use xen9p::p9::wire::{Fid, LockKind};

use super::tree::Ino;

/// A lock on `start..end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    pub kind: LockKind,
    pub start: u64,
    pub end: u64,
    pub proc_id: u32,
    pub client_id: Vec<u8>,
}

impl Lock {
    /// A lock as requested: `length` 0 means up to the end.
    pub fn new(kind: LockKind, start: u64, length: u64, proc_id: u32, client_id: &[u8]) -> Self {
        let end = match length {
            0 => u64::MAX,
            _ => start.saturating_add(length),
        };
        Lock {
            kind,
            start,
            end,
            proc_id,
            client_id: client_id.to_vec(),
        }
    }

    /// What `new` was given.
    pub fn length(&self) -> u64 {
        match self.end {
            u64::MAX => 0,
            end => end - self.start,
        }
    }

    fn same_owner(&self, other: &Lock) -> bool {
        (self.proc_id, &self.client_id) == (other.proc_id, &other.client_id)
    }

    fn overlaps(&self, other: &Lock) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// All locks held.
#[derive(Debug, Default)]
pub struct Locks(HashMap<Ino, Vec<(Fid, Lock)>>);

impl Locks {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// The first lock of another owner that stands in the way of `wanted`.
    pub fn conflict(&self, ino: Ino, wanted: &Lock) -> Option<&Lock> {
        let held = self.0.get(&ino)?;
        held.iter().map(|(_, lock)| lock).find(|lock| {
            !lock.same_owner(wanted)
                && lock.overlaps(wanted)
                && (lock.kind == LockKind::WRITE || wanted.kind == LockKind::WRITE)
        })
    }

    /// Takes or releases; nothing is in the way.
    pub fn set(&mut self, ino: Ino, fid: Fid, wanted: Lock) {
        let held = self.0.entry(ino).or_default();
        for (fid, lock) in std::mem::take(held) {
            if !lock.same_owner(&wanted) || !lock.overlaps(&wanted) {
                held.push((fid, lock));
                continue;
            }
            if lock.start < wanted.start {
                held.push((
                    fid,
                    Lock {
                        end: wanted.start,
                        ..lock.clone()
                    },
                ));
            }
            if lock.end > wanted.end {
                held.push((
                    fid,
                    Lock {
                        start: wanted.end,
                        ..lock
                    },
                ));
            }
        }
        if wanted.kind != LockKind::UNLOCK {
            held.push((fid, wanted));
        }
    }

    /// Releases everything taken through `fid`.
    pub fn drop_fid(&mut self, gone: Fid) {
        for held in self.0.values_mut() {
            held.retain(|(fid, _)| *fid != gone);
        }
    }
}
