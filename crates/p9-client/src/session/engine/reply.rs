//! Replies on their way to their tasks, and requests whose reply is not wanted any more.

use alloc::rc::Rc;
use core::sync::atomic::Ordering;
use core::task::{Poll, Waker};

use super::slot::{Outcome, Place, State};
use super::{Engine, Lanes, RETRYABLE_LOSS, wake_later};
use crate::Error;
use crate::session::request::ReadReply;
use crate::session::violation::{Scope, Violation};
use p9_tree::Span;
use p9_wire::{READ_HEADER_LEN, Reader, Reply};

impl Engine {
    /// Whether the reply to the request in this slot can be taken.
    ///
    /// `away`: the lanes are not to be had now. `nested`: who asks can't wait, see [`Error::WouldBlock`].
    pub(in crate::session) fn poll_reply(
        &mut self,
        index: u16,
        waker: &Waker,
        away: bool,
        nested: bool,
    ) -> Poll<Result<(), Error>> {
        let dead = self.dead;
        let interrupted = self.interrupt.load(Ordering::Relaxed);
        if let Some(slot) = self.slots.get(usize::from(index))
            && slot.state.is_waiting()
            && slot.late
        {
            self.overdue();
        }
        let slot = match self.slot(index) {
            Ok(slot) => slot,
            Err(error) => return Poll::Ready(Err(error)),
        };
        match (slot.state, dead) {
            (State::Ready(Place::Head) | State::Waiting | State::Suspect { .. }, Some(error)) => {
                Poll::Ready(Err(error))
            }
            (State::Ready(place), _) if !away || !matches!(place, Place::Head) => {
                slot.arrived = 0;
                Poll::Ready(Ok(()))
            }
            (State::Lost { again: false }, _) => Poll::Ready(Err(Error::MaybeApplied)),
            (State::Lost { again: true }, None) => Poll::Ready(Err(RETRYABLE_LOSS)),
            (State::Ready(_) | State::Waiting | State::Suspect { wanted: true }, None) => {
                if interrupted && !slot.info.must_finish() {
                    return Poll::Ready(Err(Error::Interrupted));
                }
                if slot.late {
                    return Poll::Ready(Err(Error::TimedOut));
                }
                if nested && away {
                    return Poll::Ready(Err(Error::WouldBlock));
                }
                slot.awaited = true;
                match &mut slot.waker {
                    Some(known) => known.clone_from(waker),
                    none => *none = Some(waker.clone()),
                }
                Poll::Pending
            }
            _ => Poll::Ready(Err(dead.unwrap_or(Error::Closed))),
        }
    }

    /// Hands a reply that [`poll_reply`](Self::poll_reply) announced to `read` and ends the request. What `read` finds wrong with it
    /// ends the session.
    pub(in crate::session) fn take_reply(
        &mut self,
        index: u16,
        read: &mut ReadReply<'_>,
    ) -> Result<(), Error> {
        let dialect = self.dialect;
        let slot = self.slot(index)?;
        let kind = slot.info.kind;
        let result = slot.reply().and_then(|bytes| {
            let (_, reply) =
                Reply::decode(Reader::new(bytes, dialect)).map_err(Error::Malformed)?;
            match reply.errno() {
                Some(errno) => Err(Error::refusal(errno, kind, dialect)),
                None => read(&reply).map_err(Error::from),
            }
        });
        self.retire(index);
        self.judge(result)
    }

    /// Copies the data of an Rread or Rreaddir that [`poll_reply`](Self::poll_reply) announced and
    /// ends the request. `into` has room for as much as was asked for.
    pub(in crate::session) fn take_data<L: Lanes + ?Sized>(
        &mut self,
        lanes: Option<&mut L>,
        index: u16,
        into: &mut [u8],
    ) -> Result<usize, Error> {
        let lane = self.lane_of(index);
        let fits = |into: &mut [u8], count: usize| match into.len() {
            room if room < count => Err(Error::from(Violation::TooMuchData)),
            _ => Ok(count),
        };
        if self.slot(index)?.state.is_at_head() {
            let Some(lanes) = lanes else {
                self.abandon(index);
                return Err(Error::WouldBlock);
            };
            let count = self.bulk_len(lanes, index);
            let count = count.and_then(|count| fits(into, count));
            if let Ok(count) = count {
                let into = into.get_mut(..count).unwrap_or(&mut []);
                lanes.copy_out(lane, READ_HEADER_LEN as u32, into);
            }
            self.drop_head(lanes, index);
            return self.took(count);
        }
        let dialect = self.dialect;
        let data = self.slot(index)?.data(dialect);
        let count = data.and_then(|data| {
            let count = fits(into, data.len())?;
            if let Some(into) = into.get_mut(..count) {
                into.copy_from_slice(data);
            }
            Ok(count)
        });
        self.retire(index);
        self.took(count)
    }

    /// How much data the reply at the head of its lane has. Its header is read for the only time here.
    fn bulk_len<L: Lanes + ?Sized>(&mut self, lanes: &mut L, index: u16) -> Result<usize, Error> {
        let lane = self.lane_of(index);
        let mut head = [0; READ_HEADER_LEN];
        lanes.copy_out(lane, 0, &mut head);
        let slot = self.slot(index)?;
        // The size that was checked when the reply came; the server may have changed it since.
        head[..4].copy_from_slice(&slot.len.to_le_bytes());
        slot.data_len(&head)
    }

    /// Counts the bytes that a read brought.
    fn took(&mut self, result: Result<usize, Error>) -> Result<usize, Error> {
        if let Ok(count) = result {
            self.stats.bytes_read += count as u64;
        }
        self.judge(result)
    }

    /// Ends the connection if the result is a broken rule that costs it.
    fn judge<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Err(error @ (Error::Protocol(_) | Error::Malformed(_))) => {
                Err(self.protocol_error(error))
            }
            other => other,
        }
    }

    /// The server broke a rule, as this error says: ends what that ends, and returns what to say of it.
    pub(in crate::session) fn protocol_error(&mut self, error: Error) -> Error {
        match Violation::scope_of(error) {
            Some(Scope::Operation) => error,
            _ => self.fail(error),
        }
    }

    /// The reply is not wanted any more. What that leaves to do on the lanes is for [`tie_up`](Self::tie_up).
    pub(in crate::session) fn abandon(&mut self, index: u16) {
        let dead = self.dead.is_some();
        let can_flush = self.can_flush;
        let Ok(slot) = self.slot(index) else { return };
        match slot.state {
            State::Ready(Place::Head) if !dead => {
                slot.state = State::UnwantedHead;
                self.unwanted_heads += 1;
            }
            State::Ready(_) => self.retire(index),
            State::Waiting | State::Suspect { .. } if dead => self.retire(index),
            State::Suspect { .. } => slot.state = State::Suspect { wanted: false },
            State::Lost { .. } => self.retire(index),
            State::Waiting if slot.info.must_finish() || !can_flush => {
                slot.state = State::Detached;
                slot.deadline = None;
            }
            State::Waiting => {
                slot.state = State::FlushDue;
                slot.deadline = None;
                self.flushes_due += 1;
            }
            State::Free
            | State::Detached
            | State::FlushDue
            | State::Flushing { .. }
            | State::UnwantedHead => {}
        }
    }

    /// The reply is not wanted any more, and the request is carried through all the same.
    pub(in crate::session) fn detach_or_abandon(&mut self, index: u16) {
        match self.slot(index).map(|slot| slot.state) {
            Ok(State::Waiting) if self.dead.is_none() => self.detach(index, None),
            _ => self.abandon(index),
        }
    }

    /// The request is carried through, and its reply ignored, or noted in `outcome`.
    pub(in crate::session) fn detach(&mut self, index: u16, outcome: Option<Rc<Outcome>>) {
        let Ok(slot) = self.slot(index) else { return };
        if !slot.state.is_waiting() {
            // A Tclunk that met the loss of the connection is done, and no reply will come.
            self.retire(index);
            return;
        }
        slot.state = State::Detached;
        slot.deadline = None;
        slot.outcome = outcome;
    }

    /// The lanes can be lent again: owners of replies that were there can take them now.
    pub(super) fn wake_heads(&mut self) {
        for lane in &self.lanes {
            let slot = lane
                .head
                .and_then(|index| self.slots.get_mut(usize::from(index)));
            if let Some(waker) = slot.and_then(|slot| slot.waker.take()) {
                wake_later(&mut self.woken, Some(waker));
                self.progress += 1;
                self.progress_of_many = self.progress;
            }
        }
    }

    /// Takes the reply at the head of its lane off it, ends its request, and looks what is behind.
    pub(super) fn drop_head<L: Lanes + ?Sized>(&mut self, lanes: &mut L, index: u16) {
        let lane = self.lane_of(index);
        let slot = self.slot(index).map(|slot| (slot.budget, slot.state));
        let (budget, state) = slot.unwrap_or((0, State::Free));
        if matches!(state, State::UnwantedHead) {
            self.unwanted_heads -= 1;
        }
        if let Some(state) = self.lanes.get_mut(usize::from(lane.0)) {
            state.head = None;
            state.seen = 0;
        }
        if self.is_up() {
            lanes.consume(lane, budget);
        }
        self.retire(index);
        self.pump_lane(lanes, lane);
    }

    /// Lends the data of an Rread that [`poll_reply`](Self::poll_reply) announced to `see`, and ends the
    /// request. Returns how many bytes there were.
    pub(in crate::session) fn with_data<L: Lanes + ?Sized>(
        &mut self,
        lanes: Option<&mut L>,
        index: u16,
        see: &mut dyn FnMut(&mut Span<'_>),
    ) -> Result<usize, Error> {
        let lane = self.lane_of(index);
        if self.slot(index)?.state.is_at_head() {
            let Some(lanes) = lanes else {
                self.abandon(index);
                return Err(Error::WouldBlock);
            };
            let count = self.bulk_len(lanes, index);
            if let Ok(len) = count {
                see(&mut Span::new(len, &mut |at, into| {
                    // Smaller than a message.
                    lanes.copy_out(lane, (READ_HEADER_LEN + at) as u32, into);
                }));
            }
            self.drop_head(lanes, index);
            return self.took(count);
        }
        let dialect = self.dialect;
        let slot = self.slot(index)?;
        let count = slot.data(dialect).map(|data| {
            see(&mut Span::new(data.len(), &mut |at, into| {
                if let Some(from) = data.get(at..at + into.len()) {
                    into.copy_from_slice(from);
                }
            }));
            data.len()
        });
        self.retire(index);
        self.took(count)
    }
}
