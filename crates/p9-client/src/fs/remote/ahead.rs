//! Reading ahead, for files that are read from front to back in small pieces.
//!
//! What is read ahead is forgotten as soon as anything of the session changes any file. What others
//! change on the server meanwhile may be missed, within the bytes read ahead: the same as if the
//! program had asked for them in one piece.

use alloc::vec::Vec;

use p9_tree::OpenFile;

use super::RemoteFile;
use crate::fs::{Error, Result};

/// Whole reads in a row, each where the one before ended, after which reading ahead begins. Streams,
/// which give what they have, do not get there.
const STREAK: u32 = 2;

/// Block that the amount read ahead is a multiple of, in bytes.
const BLOCK: usize = 4096;

/// What was read ahead, and how the file is being read.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    bytes: Vec<u8>,
    /// Where the first of them lies in the file.
    start: u64,
    /// The session's count of changes when they were asked for.
    changes: u64,
    /// Where the last read ended.
    end: u64,
    streak: u32,
}

impl Ahead {
    /// The bytes read ahead from `position` on; none when that is not known, or may be old.
    fn at(&self, position: u64, changes: u64) -> &[u8] {
        if self.changes != changes {
            return &[];
        }
        position
            .checked_sub(self.start)
            .and_then(|skip| self.bytes.get(usize::try_from(skip).ok()?..))
            .unwrap_or(&[])
    }
}

impl RemoteFile {
    /// Reads at `position`, out of what was read ahead or, if that seems to pay, with more than is
    /// asked for.
    pub(super) async fn read_ahead(&self, into: &mut [u8], position: u64) -> Result<usize> {
        let most = self.read_ahead_limit() / BLOCK * BLOCK;
        if into.is_empty() || into.len() > most / 2 {
            return self.read(into, position).await;
        }
        // Taken out, as another read of this file may run before this one ends.
        let mut ahead = self.ahead.take();
        let changes = self.session().changes();
        let mut found = ahead.at(position, changes);
        if found.is_empty() {
            let whole = position == ahead.end && ahead.streak >= STREAK;
            if !whole {
                let count = self.read(into, position).await?;
                let goes_on = position == ahead.end && count == into.len();
                ahead.streak = if goes_on { ahead.streak + 1 } else { 0 };
                ahead.end = position + count as u64;
                self.ahead.replace(ahead);
                return Ok(count);
            }
            let more = (ahead.bytes.len() * 2).max(into.len() * 4);
            let more = more.next_multiple_of(BLOCK).min(most);
            ahead.bytes.clear();
            ahead
                .bytes
                .try_reserve_exact(more)
                .map_err(|_| Error::OutOfMemory)?;
            ahead.bytes.resize(more, 0);
            ahead.start = position;
            ahead.changes = changes;
            let count = self.read(&mut ahead.bytes, position).await?;
            ahead.bytes.truncate(count);
            found = &ahead.bytes;
        }
        let count = found.len().min(into.len());
        if let (Some(into), Some(found)) = (into.get_mut(..count), found.get(..count)) {
            into.copy_from_slice(found);
        }
        ahead.end = position + count as u64;
        self.ahead.replace(ahead);
        Ok(count)
    }
}
