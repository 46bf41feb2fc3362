//! Pages of files, no more than there is room for.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Bound;

use super::store::Ids;
use crate::trees::copy_out;

/// What is kept, or not, as a whole.
pub(super) const PAGE: usize = 4096;

/// What a page takes besides its bytes.
const COST: usize = 64;

struct Page {
    bytes: Vec<u8>,
    /// Whether it was of use since it was last looked at to be dropped.
    is_used: Cell<bool>,
}

/// A file's id, and the number of a page in it.
type Key = (u64, u64);

/// Pages of files. Where there is no more room, one goes that was of no use for a whole round.
#[derive(Default)]
pub(super) struct Pages {
    pages: BTreeMap<Key, Page>,
    used: usize,
    /// Where the round has come to.
    hand: Key,
}

impl Pages {
    /// Bytes that they take.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Copies what is there of a file from `offset` on, up to the first gap.
    pub(super) fn take(&self, ids: Ids, into: &mut [u8], offset: u64) -> usize {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let page = |id| self.pages.get(&(id, at / PAGE as u64));
            let Some(page) = page(ids.lasting).or_else(|| page(ids.early)) else {
                break;
            };
            page.is_used.set(true);
            let count = copy_out(&page.bytes, rest, at % PAGE as u64);
            if count == 0 {
                break;
            }
            done += count;
        }
        done
    }

    /// Keeps a page, which begins at `offset`, unless there is no memory for it.
    pub(super) fn insert(&mut self, id: u64, offset: u64, bytes: &[u8], limit: usize) {
        let cost = COST + bytes.len();
        self.shrink(limit.saturating_sub(cost));
        if self.used + cost > limit {
            return;
        }
        let Ok(bytes) = crate::try_copy(bytes) else {
            self.shrink(self.used / 2);
            return;
        };
        let page = Page {
            bytes,
            is_used: Cell::new(false),
        };
        self.used += cost;
        if let Some(old) = self.pages.insert((id, offset / PAGE as u64), page) {
            self.used -= COST + old.bytes.len();
        }
    }

    /// Drops pages until they take no more than `most`.
    pub(super) fn shrink(&mut self, most: usize) {
        while self.used > most {
            let behind = (Bound::Excluded(self.hand), Bound::Unbounded);
            let next = self.pages.range(behind).next();
            let Some((&key, page)) = next.or_else(|| self.pages.first_key_value()) else {
                return;
            };
            self.hand = key;
            if !page.is_used.replace(false) {
                self.remove(key);
            }
        }
    }

    /// Whether there are any of a file.
    pub(super) fn has(&self, ids: Ids) -> bool {
        self.first(ids.lasting).or(self.first(ids.early)).is_some()
    }

    /// Drops those of a file.
    pub(super) fn forget(&mut self, id: u64) {
        while let Some(key) = self.first(id) {
            self.remove(key);
        }
    }

    fn first(&self, id: u64) -> Option<Key> {
        let all = (id, 0)..=(id, u64::MAX);
        self.pages.range(all).next().map(|(&key, _)| key)
    }

    fn remove(&mut self, key: Key) {
        if let Some(page) = self.pages.remove(&key) {
            self.used -= COST + page.bytes.len();
        }
    }
}
