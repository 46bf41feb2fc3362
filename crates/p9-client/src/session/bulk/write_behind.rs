//! Writing behind: bytes that a program has written, and that the server gets later.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::mem;
use core::task::{Context, Poll, ready};

use crate::Error;
use crate::session::Fid;
use crate::session::engine::Outcome;
use crate::session::request::Retries;
use crate::session::violation::Violation;
use p9_wire::{Payload, Request};
use xen9p_time::Instant;

/// The most pieces kept, however small the server wants them: each takes memory of its own.
const MAX_PIECES: usize = 256;

/// Bytes for one request.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    /// Where the first of them goes.
    offset: u64,
    /// What became of it; the session keeps the other end while the request is in flight.
    outcome: Rc<Outcome>,
    sent: bool,
    /// When it has to be sent, or if it is, answered.
    deadline: Option<Instant>,
    retries: Retries,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// Sends it as soon as there is a free tag and room for it.
    fn poll_send(&mut self, cx: &mut Context<'_>, fid: &Fid) -> Poll<Result<(), Error>> {
        let session = fid.session();
        let request = Request::Write {
            fid: fid.number(),
            offset: self.offset,
            data: Payload(&self.bytes, &[]),
        };
        ready!(session.poll_post(cx, &request, &mut self.deadline, &self.outcome))?;
        self.sent = true;
        self.deadline = Some(session.deadline());
        // The program may not poll for long, and the server should begin.
        session.run_once();
        Poll::Ready(Ok(()))
    }

    /// Ready when the server has all of it. What a server leaves over is sent again.
    fn poll_done(&mut self, cx: &mut Context<'_>, fid: &Fid) -> Poll<Result<(), Error>> {
        let session = fid.session();
        while !self.bytes.is_empty() {
            if !self.sent {
                ready!(self.poll_send(cx, fid))?;
            }
            let deadline = self.deadline.unwrap_or(Instant::NEVER);
            let count = match ready!(session.poll_outcome(cx, &self.outcome, deadline)) {
                Err(Error::Interrupted) => return Poll::Ready(Err(Error::Interrupted)),
                answer => {
                    self.sent = false;
                    self.deadline = None;
                    match answer {
                        Err(error) if self.retries.again(error) => continue,
                        answer => answer? as usize,
                    }
                }
            };
            if count == 0 {
                return Poll::Ready(Err(Error::WriteZero));
            }
            if count > self.bytes.len() {
                return Poll::Ready(Err(session.protocol_error(Violation::TooMuchWritten)));
            }
            session.wrote(count);
            // What is sent next is another request, and often other bytes.
            self.retries = Retries::default();
            self.bytes.drain(..count);
            self.offset += count as u64;
        }
        Poll::Ready(Ok(()))
    }
}

/// Bytes on their way to one open file, in pieces of which all but the last are in flight.
///
/// The answers are noted as they come, whether or not anyone waits: an idle file keeps no tags. Pieces
/// never overlap, so the order in which the server takes them does not matter.
pub(crate) struct WriteBehindQueue {
    /// Size of a piece.
    size: usize,
    /// The most pieces kept.
    most: usize,
    sent: VecDeque<Piece>,
    /// The piece being filled. Where it ends, the next write has to begin.
    last: Piece,
    /// Empty pieces, to be used again.
    spare: Vec<Piece>,
    /// What went wrong, until [`told`](Self::told).
    error: Option<Error>,
}

impl WriteBehindQueue {
    /// Keeps at most `limit` bytes, 2 or more, and sends `chunk` at once if that is no more than half
    /// of it.
    pub(crate) fn new(limit: usize, chunk: usize) -> Self {
        let size = chunk.min(limit / 2).max(1);
        WriteBehindQueue {
            size,
            most: (limit / size).min(MAX_PIECES),
            sent: VecDeque::new(),
            last: Piece::default(),
            spare: Vec::new(),
            error: None,
        }
    }

    /// Takes some of the bytes, of which there is at least one and which belong at `offset`; waits
    /// while there is no room for any.
    ///
    /// # Errors
    /// What went wrong with earlier ones. What the server had not got by then is given up, except when
    /// the operation was interrupted.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        fid: &Fid,
        offset: u64,
        from: &[u8],
    ) -> Poll<Result<usize, Error>> {
        if offset
            .checked_add(from.len() as u64)
            .is_none_or(|end| end > i64::MAX as u64)
        {
            return Poll::Ready(Err(Error::InvalidInput(&"file offset beyond 2^63 - 1")));
        }
        if self.last.end() != offset {
            ready!(self.poll_settle(cx, fid))?;
            self.last.offset = offset;
        }
        ready!(self.poll_over(cx, fid))?;
        while self
            .sent
            .front()
            .is_some_and(|first| first.outcome.get().is_some())
        {
            ready!(self.poll_first(cx, fid))?;
        }
        if self.last.bytes.len() == self.size {
            ready!(self.poll_send_last(cx, fid))?;
        }
        let last = &mut self.last.bytes;
        let room = self.size - last.len();
        last.try_reserve_exact(room)
            .map_err(|_| Error::OutOfMemory)?;
        let count = from.len().min(room);
        last.extend_from_slice(from.get(..count).unwrap_or(&[]));
        if count == room {
            // Later, if there is no room now. An error is told later too: these bytes were taken.
            let _ = self.poll_send_last(cx, fid);
        }
        Poll::Ready(Ok(count))
    }

    /// Ready when the server has all that was written.
    ///
    /// # Errors
    /// As [`poll_write`](Self::poll_write).
    pub(crate) fn poll_settle(
        &mut self,
        cx: &mut Context<'_>,
        fid: &Fid,
    ) -> Poll<Result<(), Error>> {
        ready!(self.poll_over(cx, fid))?;
        if !self.last.bytes.is_empty() {
            ready!(self.poll_send_last(cx, fid))?;
        }
        while !self.sent.is_empty() {
            ready!(self.poll_first(cx, fid))?;
        }
        Poll::Ready(Ok(()))
    }

    /// The program knows of this error: if it is the one that was kept, the file is usable again.
    pub(crate) fn told(&mut self, error: Error) {
        if self.error == Some(error) {
            self.error = None;
        }
    }

    /// Sends the piece being filled, once there are few enough in flight.
    fn poll_send_last(&mut self, cx: &mut Context<'_>, fid: &Fid) -> Poll<Result<(), Error>> {
        while self.sent.len() + 1 >= self.most {
            ready!(self.poll_first(cx, fid))?;
        }
        if let Err(error) = ready!(self.last.poll_send(cx, fid)) {
            return self.poll_failed(cx, fid, error);
        }
        let mut next = self.spare.pop().unwrap_or_default();
        next.offset = self.last.end();
        self.sent.push_back(mem::replace(&mut self.last, next));
        Poll::Ready(Ok(()))
    }

    /// Waits for the first of those in flight.
    fn poll_first(&mut self, cx: &mut Context<'_>, fid: &Fid) -> Poll<Result<(), Error>> {
        let Some(first) = self.sent.front_mut() else {
            return Poll::Ready(Ok(()));
        };
        if let Err(error) = ready!(first.poll_done(cx, fid)) {
            return self.poll_failed(cx, fid, error);
        }
        self.spare.extend(self.sent.pop_front());
        Poll::Ready(Ok(()))
    }

    /// Gives up what is not sent after an error, except one that passes.
    fn poll_failed(
        &mut self,
        cx: &mut Context<'_>,
        fid: &Fid,
        error: Error,
    ) -> Poll<Result<(), Error>> {
        if error == Error::Interrupted {
            return Poll::Ready(Err(error));
        }
        self.error.get_or_insert(error);
        self.last.bytes.clear();
        self.last.deadline = None;
        self.sent.retain(|piece| piece.sent);
        self.poll_over(cx, fid)
    }

    /// If something went wrong, waits until nothing is in flight any more: what the program writes
    /// when it knows must not be overtaken by it.
    fn poll_over(&mut self, cx: &mut Context<'_>, fid: &Fid) -> Poll<Result<(), Error>> {
        let Some(error) = self.error else {
            return Poll::Ready(Ok(()));
        };
        while let Some(first) = self.sent.front() {
            let deadline = first.deadline.unwrap_or(Instant::NEVER);
            let session = fid.session();
            // Whatever the answer, this error is the one to be told.
            if let Err(Error::Interrupted) =
                ready!(session.poll_outcome(cx, &first.outcome, deadline))
            {
                return Poll::Ready(Err(Error::Interrupted));
            }
            self.sent.pop_front();
        }
        Poll::Ready(Err(error))
    }

    /// Bytes that the server has not confirmed.
    fn unconfirmed(&self) -> usize {
        let sent = self.sent.iter().map(|piece| match piece.outcome.get() {
            Some(Ok(count)) => piece.bytes.len().saturating_sub(count as usize),
            _ => piece.bytes.len(),
        });
        sent.sum::<usize>() + self.last.bytes.len()
    }
}

impl Drop for WriteBehindQueue {
    fn drop(&mut self) {
        if let Some(error) = self.error {
            log::warn!(
                "a file was dropped that had bytes to be written behind; they are lost: {error}"
            );
        }
        let count = self.unconfirmed();
        if count > 0 {
            log::warn!(
                "a file was dropped, not closed, with {count} bytes to be written behind; they may be lost"
            );
        }
    }
}
