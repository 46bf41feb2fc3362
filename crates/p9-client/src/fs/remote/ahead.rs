//! Reading ahead, for files that are read from front to back.
//!
//! What is read ahead, or asked for, is forgotten as soon as anything of the session changes any file, or locks one. What others
//! change on the server meanwhile may be missed, within the bytes read ahead: the same as if the
//! program had asked for them in one piece.

use p9_tree::OpenFile;

use super::RemoteFile;
use crate::fs::Result;
use crate::session::ReadAheadQueue;

/// Whole reads in a row, each where the one before ended, after which reading ahead begins. Streams,
/// which give what they have, do not get there.
const STREAK: u32 = 2;

/// Block that the amount read ahead is a multiple of, in bytes.
const BLOCK: usize = 4096;

/// What was read ahead, and how the file is being read.
#[derive(Default)]
pub(super) struct Ahead {
    queue: ReadAheadQueue,
    /// The session's count of changes when it began.
    changes: u64,
    /// Where the last read ended.
    end: u64,
    streak: u32,
    /// How many bytes to be ahead of the program.
    window: usize,
}

impl Ahead {
    /// Forgets what was read ahead, and begins slowly again.
    fn restart(&mut self, position: u64) {
        self.queue.restart(position);
        self.window = 0;
    }
}

impl RemoteFile {
    /// Reads at `position`, out of what was read ahead or, if that seems to pay, with more than is
    /// asked for. Afterwards requests for what comes next are in flight while the program works.
    pub(super) async fn read_ahead(&self, into: &mut [u8], position: u64) -> Result<usize> {
        let most = self.read_ahead_limit() / BLOCK * BLOCK;
        if into.is_empty() || into.len() > most / 2 {
            return self.read(into, position).await;
        }
        // Taken out, as another read of this file may run before this one ends.
        let mut ahead = self.ahead().take();
        let changes = self.session().changes();
        let goes_on = position == ahead.end;
        if !goes_on || ahead.changes != changes {
            ahead.streak = 0;
            ahead.restart(position);
            ahead.changes = changes;
        }
        let mut count = 0;
        if ahead.streak >= STREAK {
            if ahead.window == 0 {
                ahead.restart(position);
                ahead.window = (into.len() * 4).next_multiple_of(BLOCK).min(most);
            }
            self.ask_ahead(&mut ahead);
            // After an error the server is asked by itself, and tells it again.
            count = ahead.queue.take(into).await.unwrap_or(0);
        }
        if count > 0 {
            if let Some(rest) = into.get_mut(count..).filter(|rest| !rest.is_empty())
                && !ahead.queue.has_ended()
            {
                // No more was asked for. An error is told by the next call.
                count += self.read(rest, position + count as u64).await.unwrap_or(0);
                ahead.queue.restart(position + count as u64);
            }
            if ahead.queue.ahead() <= ahead.window / 2 {
                ahead.window = ahead.window.saturating_mul(2).min(most);
            }
            self.ask_ahead(&mut ahead);
        } else {
            ahead.restart(position);
            count = self.read(into, position).await?;
            // The first read at the beginning of a file goes on from there.
            ahead.streak = match goes_on && count == into.len() {
                true => ahead.streak + 1,
                false => 0,
            };
        }
        ahead.end = position + count as u64;
        self.ahead().replace(ahead);
        Ok(count)
    }

    fn ask_ahead(&self, ahead: &mut Ahead) {
        let size = self.part_len().min(ahead.window / 2);
        ahead.queue.ask(self.fid(), size, ahead.window);
    }
}
