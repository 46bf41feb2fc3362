//! Reading ahead: requests for what a program that reads from front to back will want next.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::future::poll_fn;

use crate::Error;
use crate::session::Fid;
use crate::session::request::PendingRequest;
use p9_wire::Request;

/// A request for bytes of the file.
struct Piece {
    pending: PendingRequest,
    len: usize,
}

/// Bytes of one open file that were asked for before the program did: those that have come, and behind them requests in
/// flight. Dropping it takes the requests back.
#[derive(Default)]
pub(crate) struct ReadAheadQueue {
    /// What has come of the first request, as the program wants it in smaller pieces.
    bytes: Vec<u8>,
    /// How many of them the program has had.
    taken: usize,
    /// Where the bytes that it has not had begin.
    start: u64,
    pieces: VecDeque<Piece>,
    /// What the requests in flight ask for, in bytes.
    asked: usize,
    /// Whether an answer was short: at the end of the file, or where the server has no more for now.
    ended: bool,
}

impl ReadAheadQueue {
    /// Forgets everything; what comes next begins at `start`.
    pub(crate) fn restart(&mut self, start: u64) {
        self.bytes.clear();
        self.taken = 0;
        self.start = start;
        self.pieces.clear();
        self.asked = 0;
        self.ended = false;
    }

    fn held(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or(&[])
    }

    /// How many bytes are ahead of the program, here or asked for.
    pub(crate) fn ahead(&self) -> usize {
        self.held().len() + self.asked
    }

    /// Whether an answer was short.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Asks for more, in requests of `size` bytes at most, as long as no more than `most` bytes are ahead of the program, and
    /// others have half of the requests that may be in flight for themselves.
    pub(crate) fn ask(&mut self, fid: &Fid, size: usize, most: usize) {
        let session = fid.session();
        let mut sent = false;
        loop {
            let ahead = self.ahead();
            let len = size.min(most.saturating_sub(ahead));
            // What is less than others is not worth a request.
            if self.ended
                || len == 0
                || (len < size && ahead > 0)
                || self.pieces.try_reserve(1).is_err()
            {
                break;
            }
            let request = Request::Read {
                fid: fid.number(),
                offset: self.start + ahead as u64,
                // No larger than msize.
                count: len as u32,
            };
            // An error is that of the next request as well, which tells it.
            let Ok(Some(pending)) = session.try_send(&request) else {
                break;
            };
            self.pieces.push_back(Piece { pending, len });
            self.asked += len;
            sent = true;
        }
        if sent {
            // The program may not poll for long, and the server should begin.
            session.run_once();
        }
    }

    /// Gives the program the next bytes: all that it wants, or fewer where fewer were asked for, or the file seems to
    /// [end](Self::has_ended).
    ///
    /// # Errors
    /// Those of the request. The caller [forgets](Self::restart) everything then.
    pub(crate) async fn take(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let mut done = self.hand_over(into);
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(first) = self.pieces.front_mut() else {
                break;
            };
            let len = first.len;
            poll_fn(|cx| first.pending.poll(cx)).await?;
            let count = if len <= rest.len() {
                // Without a copy in between.
                let count = first.pending.take_data(rest)?;
                self.start += count as u64;
                done += count;
                count
            } else {
                self.taken = 0;
                self.bytes.clear();
                let room = self.bytes.try_reserve_exact(len);
                room.map_err(|_| Error::OutOfMemory)?;
                self.bytes.resize(len, 0);
                let count = first.pending.take_data(&mut self.bytes)?;
                self.bytes.truncate(count);
                done += self.hand_over(rest);
                count
            };
            self.pieces.pop_front();
            self.asked -= len;
            if count < len {
                // What was asked for behind it lies elsewhere.
                self.pieces.clear();
                self.asked = 0;
                self.ended = true;
                break;
            }
        }
        Ok(done)
    }

    /// Gives the program bytes that are here.
    fn hand_over(&mut self, into: &mut [u8]) -> usize {
        let held = self.held();
        let count = held.len().min(into.len());
        if let (Some(into), Some(held)) = (into.get_mut(..count), held.get(..count)) {
            into.copy_from_slice(held);
        }
        self.taken += count;
        self.start += count as u64;
        count
    }
}
