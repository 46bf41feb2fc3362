//! The session's state and what can be done to it. Nothing here waits, calls out, or holds a borrow
//! that a callback could meet.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Poll, Waker};
use core::time::Duration;

use super::fids::Fids;
use super::record::{Change, Fate};
use super::slot::{Effects, Outcome, Place, Slot, State};
use super::{Config, Stats};
use crate::p9::wire::{READ_HEADER_LEN, Reply, Request, Tag, WireError};
use crate::p9::wire::{Reader, kind};
use crate::p9::{Dialect, Error};
use crate::time::Instant;
use crate::transport::{Lane, Transport, TransportError};

/// How many pumps a bulk reply may stay at the head of its lane before it is moved out of the way.
const HEAD_PATIENCE: u8 = 8;

/// How long the clock need not be looked at while answers come; and so how much longer than its time a request may
/// wait.
const GLANCE: Duration = Duration::from_millis(100);

/// Of a request in flight when the connection was lost, which may be made again.
pub(super) const AGAIN: Error = Error::Transport(TransportError::Lost(
    "it was lost again and again before the server answered",
));

/// Why a server that has stopped answering is left.
const SILENT: TransportError =
    TransportError::Lost("the server answers neither requests nor that they are taken back");

/// What the session knows of one of the transport's lanes.
#[derive(Debug, Default)]
pub(super) struct LaneState {
    /// Slots of this lane that are free.
    pub(super) free: Vec<u16>,
    /// The slot whose reply is at the head, left there for its owner.
    pub(super) head: Option<u16>,
    /// Pumps that have seen this head.
    pub(super) seen: u8,
    /// Bytes of requests and replies in flight.
    pub(super) load: u64,
}

pub(super) struct Core {
    pub(super) transport: Box<dyn Transport>,
    pub(super) lanes: Vec<LaneState>,
    /// One for each tag from 0 on, and the last for [`Tag::NONE`]. A slot's request is flushed with
    /// the tag of its own plus [`window`](Self::window), which travels on the same lane.
    pub(super) slots: Vec<Slot>,
    pub(super) window: u16,
    pub(super) fids: Fids,
    pub(super) dialect: Dialect,
    pub(super) msize: u32,
    pub(super) timeout: Duration,
    pub(super) interrupt: Arc<AtomicBool>,
    pub(super) stats: Stats,
    /// Begins and ends of requests that may change what a file contains.
    pub(super) changes: u64,
    /// Why the session is over.
    pub(super) dead: Option<Error>,
    /// The same until it is logged.
    pub(super) untold: Option<Error>,
    /// Whether the loss of the connection is not the end of the session.
    pub(super) recovers: bool,
    /// Why the connection is lost, until there is a new one.
    pub(super) lost: Option<Error>,
    /// A new one is being looked for: who asks for something from within that must not wait for its end.
    pub(super) searching: bool,
    /// No request has to be answered before this.
    pub(super) grace: Instant,
    /// Whether the server understands Tflush.
    pub(super) can_flush: bool,
    /// Slots in [`State::FlushDue`].
    pub(super) flushes_due: u16,
    /// When the clock was looked at last, and when the time of somebody who was waiting then is over.
    looked: Instant,
    over: Instant,
    /// Who waits for a free slot or for room, and until when.
    waiting: Vec<(Waker, Instant)>,
    /// Wakers to be called as soon as nothing is borrowed.
    pub(super) woken: Vec<Waker>,
    /// Whether the operations in flight know that they are interrupted.
    interrupt_told: bool,
    /// Whether an operation may get further if it is polled now.
    pub(super) news: bool,
    /// Where requests are encoded.
    scratch: Vec<u8>,
    /// The lane to begin the next search with.
    pub(super) turn: u16,
}

impl Core {
    pub(super) fn new(transport: Box<dyn Transport>, config: &Config) -> Result<Core, Error> {
        let count = transport.lanes().max(1);
        let wanted = config.window.clamp(1, super::MAX_WINDOW);
        let window = wanted
            .checked_next_multiple_of(count)
            .filter(|&window| window <= super::MAX_WINDOW)
            .ok_or(Error::InvalidInput("more lanes than tags"))?;
        let mut lanes = Vec::new();
        lanes
            .try_reserve_exact(usize::from(count))
            .map_err(|_| Error::OutOfMemory)?;
        for lane in 0..count {
            // The lowest tag on top, so that small tables stay in few cache lines.
            let free = (lane..window).step_by(usize::from(count)).rev().collect();
            lanes.push(LaneState {
                free,
                ..LaneState::default()
            });
        }
        let mut slots = Vec::new();
        slots
            .try_reserve_exact(usize::from(window) + 1)
            .map_err(|_| Error::OutOfMemory)?;
        slots.resize_with(usize::from(window) + 1, Slot::new);
        let most = transport.max_message();
        let msize = config.msize.min(most);
        if config.msize != u32::MAX && config.msize > most {
            log::warn!(
                "9P session: msize {} was asked for; the transport carries {most}",
                config.msize
            );
        }
        Ok(Core {
            transport,
            lanes,
            slots,
            window,
            fids: Fids::default(),
            dialect: Dialect::Linux,
            msize,
            timeout: config.timeout,
            interrupt: Arc::default(),
            stats: Stats::default(),
            changes: 0,
            dead: None,
            untold: None,
            recovers: false,
            lost: None,
            searching: false,
            grace: Instant::from_nanos(0),
            can_flush: true,
            flushes_due: 0,
            looked: Instant::from_nanos(0),
            over: Instant::NEVER,
            waiting: Vec::new(),
            woken: Vec::new(),
            interrupt_told: false,
            news: false,
            scratch: Vec::new(),
            turn: 0,
        })
    }

    /// The tag of a slot.
    pub(super) fn tag(&self, index: u16) -> u16 {
        if index == self.window {
            Tag::NONE.0
        } else {
            index
        }
    }

    /// The lane that a tag travels on.
    pub(super) fn lane_of(&self, tag: u16) -> Lane {
        // There are at most 65,535 lanes and at least one.
        Lane(tag % (self.lanes.len() as u16))
    }

    pub(super) fn slot(&mut self, index: u16) -> Result<&mut Slot, Error> {
        self.slots.get_mut(usize::from(index)).ok_or(Error::Closed)
    }

    /// Gives the connection up: it is lost, if another may be found, and the session over otherwise. Returns
    /// the first reason.
    pub(super) fn fail(&mut self, error: Error) -> Error {
        if let Some(first) = self.dead.or(self.lost) {
            return first;
        }
        if self.recovers && self.fids.has_roots() {
            self.break_off(error);
            return error;
        }
        self.end(error)
    }

    /// Gives the connection up. Without a session that is over there is nothing to be told of it: whatever
    /// waits goes on waiting.
    fn broken<T>(&mut self, error: Error) -> Result<Option<T>, Error> {
        self.fail(error);
        self.alive().map(|()| None)
    }

    /// Ends the session: every operation from now on fails with `error`, unless an earlier one has
    /// done so already. Returns the reason that counts.
    pub(super) fn end(&mut self, error: Error) -> Error {
        if let Some(first) = self.dead {
            return first;
        }
        self.dead = Some(error);
        self.untold = Some(error);
        self.wake_all();
        error
    }

    pub(super) fn alive(&self) -> Result<(), Error> {
        self.dead.map_or(Ok(()), Err)
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.dead.is_none() && self.lost.is_none()
    }

    pub(super) fn wake_all(&mut self) {
        let wakers = self.slots.iter_mut().filter_map(|slot| slot.waker.take());
        self.woken.extend(wakers);
        self.woken
            .extend(self.waiting.drain(..).map(|(waker, _)| waker));
        self.news = true;
    }

    /// Sends a request, on this lane if one is named. `None` when there is no free slot or no room now.
    ///
    /// Without a deadline it has the session's timeout, from when the clock is [looked at](Self::look) next.
    pub(super) fn submit(
        &mut self,
        request: &Request<'_>,
        deadline: Option<Instant>,
        lane: Option<Lane>,
    ) -> Result<Option<u16>, Error> {
        self.alive()?;
        if self.lost.is_some() {
            return self.submit_to_nobody(request);
        }
        let effects = self.effects(request)?;
        let head = self.encode(request)?;
        let payload = request.payload();
        let size = u32::try_from(head + payload.len()).unwrap_or(u32::MAX);
        if size > self.msize {
            return Err(Error::NameTooLong);
        }
        let limit = request.max_reply(self.dialect, self.msize);
        let Some(index) = self.pick(request.kind(), size, limit, lane)? else {
            return match self.lost {
                Some(_) => self.submit_to_nobody(request),
                None => Ok(None),
            };
        };
        let tag = self.tag(index);
        let lane = self.lane_of(tag);
        if let Some(place) = self.scratch.get_mut(5..7) {
            place.copy_from_slice(&tag.to_le_bytes());
        }
        let head = self.scratch.get(..head).unwrap_or(&[]);
        match self
            .transport
            .send(lane, &[head, payload.0, payload.1], limit)
        {
            Ok(true) => {}
            Ok(false) => {
                self.give_back(index);
                return Ok(None);
            }
            Err(error) => {
                self.give_back(index);
                self.broken::<u16>(error.into())?;
                return self.submit_to_nobody(request);
            }
        }
        self.stats.requests += 1;
        self.stats.bytes_sent += u64::from(size);
        let load = size.saturating_add(limit);
        self.changes += u64::from(effects.changes);
        for fid in effects.names.into_iter().flatten() {
            self.fids.hold(fid);
        }
        if let Some(fid) = effects.ends {
            self.fids.ending(fid);
        }
        if let &Request::Xattrcreate { fid, .. } = request {
            self.fids.doubt(fid);
        }
        if let Some(lane) = self.lanes.get_mut(usize::from(lane.0)) {
            lane.load += u64::from(load);
        }
        let grace = self.grace;
        let change = self.recovers.then(|| Change::of(request, &self.fids));
        let slot = self.slot(index)?;
        slot.state = State::Waiting;
        slot.effects = effects;
        slot.change = change.flatten();
        slot.limit = limit;
        slot.load = load;
        // Who waited for a new connection has waited for nothing the server did.
        slot.deadline = deadline.map(|deadline| deadline.max(grace));
        slot.late = false;
        Ok(Some(index))
    }

    /// Makes a request while there is no server: only closing has no need of one.
    fn submit_to_nobody(&mut self, request: &Request<'_>) -> Result<Option<u16>, Error> {
        let &Request::Clunk { fid } = request else {
            let lost = self.lost.filter(|_| self.searching);
            return lost.map_or(Ok(None), Err);
        };
        if self.fids.record(fid).is_some_and(|record| record.singular) {
            return Err(Error::Stale);
        }
        let Some(index) = self.lanes.iter_mut().find_map(|lane| lane.free.pop()) else {
            return Ok(None);
        };
        self.fids.hold(fid);
        self.fids.ended(fid);
        let slot = self.slot(index)?;
        slot.effects = Effects::of(request);
        slot.load = 0;
        slot.answer(kind::RCLUNK);
        Ok(Some(index))
    }

    /// What a request does to fids, and what its loss would mean.
    fn effects(&mut self, request: &Request<'_>) -> Result<Effects, Error> {
        let mut effects = Effects::of(request);
        effects.sure = effects.is_sure(&self.fids);
        if self.recovers {
            for fid in effects.names.into_iter().flatten() {
                self.fids.check(fid, request)?;
            }
            effects.fate = Fate::of(request, &self.fids);
        }
        Ok(effects)
    }

    /// Encodes all but the payload and the tag into the scratch space.
    fn encode(&mut self, request: &Request<'_>) -> Result<usize, Error> {
        loop {
            match request.encode_head(Tag::NONE, self.dialect, &mut self.scratch) {
                Ok(len) => return Ok(len),
                Err(WireError::Room { needed }) => {
                    let more = needed.saturating_sub(self.scratch.len()).max(512);
                    self.scratch
                        .try_reserve(more)
                        .map_err(|_| Error::OutOfMemory)?;
                    self.scratch.resize(self.scratch.len() + more, 0);
                }
                Err(WireError::Invalid { .. }) => return Err(Error::NameTooLong),
                Err(_) => {
                    return Err(Error::Unsupported {
                        op: kind::name(request.kind()),
                        dialect: self.dialect,
                    });
                }
            }
        }
    }

    /// Takes a free slot on the least loaded lane that has room, or on the one that is named.
    fn pick(
        &mut self,
        kind: u8,
        size: u32,
        limit: u32,
        named: Option<Lane>,
    ) -> Result<Option<u16>, Error> {
        if kind == kind::TVERSION {
            let free = self.slot(self.window)?.state == State::Free;
            return Ok(free.then_some(self.window));
        }
        let count = self.lanes.len() as u16;
        let mut best: Option<(u64, u16)> = None;
        let (start, choices) = named.map_or((self.turn, count), |lane| (lane.0, 1));
        for step in 0..choices {
            let lane = (start + step) % count;
            let Some(state) = self.lanes.get(usize::from(lane)) else {
                continue;
            };
            if state.free.is_empty() || best.is_some_and(|(load, _)| load <= state.load) {
                continue;
            }
            match self.transport.has_room(Lane(lane), size, limit) {
                Ok(true) => best = Some((state.load, lane)),
                Ok(false) => {}
                Err(error) => return self.broken(error.into()),
            }
        }
        let Some((_, lane)) = best else {
            return Ok(None);
        };
        if named.is_none() {
            self.turn = (lane + 1) % count;
        }
        Ok(self
            .lanes
            .get_mut(usize::from(lane))
            .and_then(|lane| lane.free.pop()))
    }

    fn give_back(&mut self, index: u16) {
        if index == self.window {
            return;
        }
        let lane = self.lane_of(index);
        if let Some(lane) = self.lanes.get_mut(usize::from(lane.0)) {
            lane.free.push(index);
        }
    }

    /// The request in this slot is over in every respect; its reply budget is given back already.
    pub(super) fn retire(&mut self, index: u16) {
        let lane = self.lane_of(self.tag(index));
        let Ok(slot) = self.slot(index) else { return };
        if slot.state == State::Free {
            return;
        }
        slot.state = State::Free;
        slot.waker = None;
        slot.outcome = None;
        slot.change = None;
        slot.spill = Vec::new();
        let load = slot.load;
        let effects = slot.effects;
        self.changes += u64::from(effects.changes);
        if let Some(lane) = self.lanes.get_mut(usize::from(lane.0)) {
            lane.load = lane.load.saturating_sub(u64::from(load));
        }
        for fid in effects.names.into_iter().flatten() {
            self.fids.let_go(fid);
        }
        self.give_back(index);
        self.wake_waiting();
    }

    /// Lets those who wait for a slot or for room try again.
    pub(super) fn wake_waiting(&mut self) {
        if !self.waiting.is_empty() {
            self.news = true;
            self.woken
                .extend(self.waiting.drain(..).map(|(waker, _)| waker));
        }
    }

    /// Remembers who waits for a free slot, for room, or just for time to pass.
    pub(super) fn wait_for_room(&mut self, waker: &Waker, deadline: Instant) {
        let mut known = self.waiting.iter_mut();
        match known.find(|(known, _)| known.will_wake(waker)) {
            Some((_, earliest)) => *earliest = deadline.min(*earliest),
            None => self.waiting.push((waker.clone(), deadline)),
        }
    }

    /// Whether the reply to the request in this slot can be taken.
    pub(super) fn poll_reply(&mut self, index: u16, waker: &Waker) -> Poll<Result<(), Error>> {
        let dead = self.dead;
        let interrupted = self.interrupt.load(Ordering::Relaxed);
        if self.recovers
            && self.is_up()
            && let Some(slot) = self.slots.get(usize::from(index))
            && slot.state == State::Waiting
            && slot.late
        {
            self.fail(TransportError::Lost("the server did not answer in time").into());
        }
        let slot = match self.slot(index) {
            Ok(slot) => slot,
            Err(error) => return Poll::Ready(Err(error)),
        };
        match (slot.state, dead) {
            (State::Ready(Place::Head), Some(error)) | (State::Waiting, Some(error)) => {
                Poll::Ready(Err(error))
            }
            (State::Ready(_), _) => Poll::Ready(Ok(())),
            (State::Lost { again: false }, _) => Poll::Ready(Err(Error::MaybeApplied)),
            (State::Lost { again: true }, None) => Poll::Ready(Err(AGAIN)),
            (State::Waiting, None) => {
                if interrupted && !slot.effects.must_finish() {
                    return Poll::Ready(Err(Error::Interrupted));
                }
                if slot.late {
                    return Poll::Ready(Err(Error::TimedOut));
                }
                match &mut slot.waker {
                    Some(known) => known.clone_from(waker),
                    none => *none = Some(waker.clone()),
                }
                Poll::Pending
            }
            _ => Poll::Ready(Err(dead.unwrap_or(Error::Closed))),
        }
    }

    /// Hands a reply that [`poll_reply`](Self::poll_reply) announced to `read` and ends the request.
    pub(super) fn take_reply(
        &mut self,
        index: u16,
        read: &mut dyn FnMut(&Reply<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let dialect = self.dialect;
        let slot = self.slot(index)?;
        let kind = slot.effects.kind;
        let result = slot.reply().and_then(|bytes| {
            let (_, reply) =
                Reply::decode(Reader::new(bytes, dialect)).map_err(Error::Malformed)?;
            match reply.errno() {
                Some(errno) => Err(Error::refusal(errno, kind, dialect)),
                None => read(&reply),
            }
        });
        self.retire(index);
        self.judge(result)
    }

    /// Copies the data of an Rread or Rreaddir that [`poll_reply`](Self::poll_reply) announced and
    /// ends the request. `into` has room for as much as was asked for.
    pub(super) fn take_data(&mut self, index: u16, into: &mut [u8]) -> Result<usize, Error> {
        let lane = self.lane_of(index);
        let fits = |into: &mut [u8], count: usize| match into.len() {
            room if room < count => Err(Error::Protocol("more data than was asked for")),
            _ => Ok(count),
        };
        if self.slot(index)?.state == State::Ready(Place::Head) {
            let count = self.bulk_len(index).and_then(|count| fits(into, count));
            if let Ok(count) = count {
                let into = into.get_mut(..count).unwrap_or(&mut []);
                self.transport.copy_out(lane, READ_HEADER_LEN as u32, into);
            }
            self.drop_head(index);
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
    pub(super) fn bulk_len(&mut self, index: u16) -> Result<usize, Error> {
        let lane = self.lane_of(index);
        let mut head = [0; READ_HEADER_LEN];
        self.transport.copy_out(lane, 0, &mut head);
        let slot = self.slot(index)?;
        // The size that was checked when the reply came; the server may have changed it since.
        head[..4].copy_from_slice(&slot.len.to_le_bytes());
        slot.data_len(&head)
    }

    /// Counts the bytes that a read brought.
    pub(super) fn took(&mut self, result: Result<usize, Error>) -> Result<usize, Error> {
        if let Ok(count) = result {
            self.stats.bytes_read += count as u64;
        }
        self.judge(result)
    }

    /// Ends the session if the result is a broken rule.
    fn judge<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Err(error @ (Error::Protocol(_) | Error::Malformed(_))) => Err(self.fail(error)),
            other => other,
        }
    }

    /// Nobody wants the reply any more.
    pub(super) fn abandon(&mut self, index: u16) {
        let dead = self.dead.is_some();
        let can_flush = self.can_flush;
        let Ok(slot) = self.slot(index) else { return };
        match slot.state {
            State::Ready(Place::Head) => self.drop_head(index),
            State::Ready(_) => self.retire(index),
            State::Waiting if dead => self.retire(index),
            State::Lost { .. } => self.retire(index),
            State::Waiting if slot.effects.must_finish() || !can_flush => {
                slot.state = State::Detached;
                slot.deadline = None;
            }
            State::Waiting => {
                slot.state = State::FlushDue;
                slot.deadline = None;
                self.flushes_due += 1;
                self.send_flush(index);
            }
            State::Free | State::Detached | State::FlushDue | State::Flushing { .. } => {}
        }
    }

    /// Nobody wants the reply any more, and the request is carried through all the same.
    pub(super) fn let_go(&mut self, index: u16) {
        match self.slot(index).map(|slot| slot.state) {
            Ok(State::Waiting) if self.dead.is_none() => self.detach(index, None),
            _ => self.abandon(index),
        }
    }

    /// The request is carried through, and its reply ignored, or noted in `outcome`.
    pub(super) fn detach(&mut self, index: u16, outcome: Option<Rc<Outcome>>) {
        let Ok(slot) = self.slot(index) else { return };
        if slot.state != State::Waiting {
            // A Tclunk that met the loss of the connection is done, and no reply will come.
            self.retire(index);
            return;
        }
        slot.state = State::Detached;
        slot.deadline = None;
        slot.outcome = outcome;
    }

    /// Takes the reply at the head of its lane off it, ends its request, and looks what is behind.
    pub(super) fn drop_head(&mut self, index: u16) {
        let lane = self.lane_of(index);
        let limit = self.slot(index).map_or(0, |slot| slot.limit);
        if let Some(state) = self.lanes.get_mut(usize::from(lane.0)) {
            state.head = None;
            state.seen = 0;
        }
        if self.is_up() {
            self.transport.consume(lane);
            self.transport.release(lane, limit);
        }
        self.retire(index);
        self.pump_lane(lane);
    }

    /// Looks at the clock, which may be among the dearest things about a small request: where the time-stamp counter
    /// is emulated each look leaves the domain. So the session looks when nothing has come for a [`GLANCE`], and the
    /// time of requests sent since the last look begins with this one.
    ///
    /// Lets those whose time is over see it. A server that does not even answer what nobody waits for, a Tflush above
    /// all, is given up. Returns the time, and when that of another is over.
    pub(super) fn look(&mut self) -> (Instant, Instant) {
        let now = self.transport.now();
        let mut earliest = Instant::NEVER;
        let mut silent = false;
        for slot in &mut self.slots {
            let patience = match slot.state {
                State::Waiting if slot.late => continue,
                // Who waits for its outcome gives the request up first, and then the server is.
                State::Detached if !self.recovers => 2 * self.timeout,
                state if state == State::Waiting || state.is_unattended() => self.timeout,
                _ => continue,
            };
            let deadline = *slot.deadline.get_or_insert(now + patience);
            if now < deadline {
                // Whoever does not poll has no interest in it now, as in what was read ahead.
                if slot.state != State::Waiting || slot.waker.is_some() {
                    earliest = earliest.min(deadline);
                }
                continue;
            }
            silent |= slot.state.is_unattended();
            slot.late = true;
            if let Some(waker) = slot.waker.take() {
                self.woken.push(waker);
                self.news = true;
            }
        }
        if silent && self.is_up() {
            self.fail(SILENT.into());
        }
        let waiting = self.waiting.iter().map(|&(_, deadline)| deadline).min();
        match waiting {
            Some(deadline) if now >= deadline => self.wake_waiting(),
            Some(deadline) => earliest = earliest.min(deadline),
            None => {}
        }
        self.looked = now;
        self.over = earliest;
        (now, earliest)
    }

    /// Until when one can wait without knowing the time.
    pub(super) fn soon(&self) -> Instant {
        let waiting = self.waiting.iter().map(|&(_, deadline)| deadline);
        waiting.fold(self.over.min(self.looked + GLANCE), Instant::min)
    }

    /// Waits for the transport, and takes in what has come. Whether there was anything.
    pub(super) fn wait(&mut self, until: Instant) -> bool {
        self.stats.waits += 1;
        match self.transport.wait(until) {
            Ok(()) => self.pump(),
            Err(error) => {
                self.fail(error.into());
            }
        }
        let came = self.news || !self.is_up();
        // There may be room now, even if no reply came.
        self.wake_waiting();
        came
    }

    /// Lets those in flight see that they are interrupted.
    pub(super) fn tell_interrupted(&mut self) {
        let interrupted = self.is_interrupted();
        if interrupted && !self.interrupt_told {
            self.wake_all();
        }
        self.interrupt_told = interrupted;
    }

    /// Whether the switch is set.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// Whether a bulk reply has been at the head of its lane for too long.
    pub(super) fn is_stuck(lane: &mut LaneState) -> bool {
        lane.seen = lane.seen.saturating_add(1);
        lane.seen > HEAD_PATIENCE
    }

    /// Whether requests are in flight, or have to be sent yet.
    pub(super) fn is_busy(&self) -> bool {
        self.fids.has_to_clunk() || self.slots.iter().any(|slot| slot.state != State::Free)
    }
}
