//! Taking replies in, and sending what waits to be sent.

use super::probe::{FORGOTTEN, is_forgotten};
use super::slot::{INLINE, Place, Slot, State};
use super::{Engine, Lanes, MAX_HEAD_PUMPS, wake_later};
use crate::session::journal::identify;
use crate::session::violation::Violation;
use crate::transport::{Header, Lane};
use crate::{Dialect, Error};
use p9_wire::{Fid, Reader, Reply, Request, Tag, kind};
use xen9p_time::Instant;

impl Engine {
    /// Sends what is due, and takes in what has come.
    pub(in crate::session) fn exchange<L: Lanes + ?Sized>(&mut self, lanes: &mut L) {
        self.send_due(lanes);
        self.pump(lanes);
    }

    /// Takes in all replies that have arrived.
    pub(in crate::session) fn pump<L: Lanes + ?Sized>(&mut self, lanes: &mut L) {
        for lane in 0..self.lanes.len() as u16 {
            if let Some(state) = self.lanes.get_mut(usize::from(lane))
                && state.head.is_some()
            {
                state.seen = state.seen.saturating_add(1);
                if state.seen > MAX_HEAD_PUMPS {
                    self.spill(lanes, Lane(lane));
                }
            }
            self.pump_lane(lanes, Lane(lane));
        }
        self.tell_interrupted();
    }

    /// Takes in the replies on one lane, up to a bulk reply that its owner has to fetch.
    pub(super) fn pump_lane<L: Lanes + ?Sized>(&mut self, lanes: &mut L, lane: Lane) {
        if self.largest_told != self.largest {
            self.largest_told = self.largest;
            lanes.set_max_message(self.largest);
        }
        while self.is_up() {
            if self
                .lanes
                .get(usize::from(lane.0))
                .is_none_or(|state| state.head.is_some())
            {
                return;
            }
            match lanes.peek(lane) {
                Ok(None) => return,
                Ok(Some(header)) => {
                    self.stats.replies += 1;
                    self.stats.bytes_received += u64::from(header.size);
                    if let Err(error) = self.arrived(lanes, lane, header) {
                        self.fail(error);
                    }
                }
                Err(error) => {
                    self.fail(error.into());
                }
            }
        }
    }

    /// Judges one reply and puts it where its owner finds it.
    fn arrived<L: Lanes + ?Sized>(
        &mut self,
        lanes: &mut L,
        lane: Lane,
        header: Header,
    ) -> Result<(), Error> {
        let window = self.window;
        let (index, is_flush) = match header.tag {
            tag if tag == Tag::NONE.0 => (window, false),
            tag if tag < window => (tag, false),
            tag if tag - window < window => (tag - window, true),
            _ => return Err(Error::from(Violation::UnknownTag)),
        };
        if self.lane_of(header.tag) != lane {
            return Err(Error::from(Violation::WrongLane));
        }
        if header.kind == kind::RERROR && self.dialect == Dialect::Linux && index != window {
            // In this dialect errors are Rlerror. QEMU says Rerror before anybody has asked it for a dialect: when it
            // was restarted and has mapped the rings of the one before it.
            return Err(FORGOTTEN.into());
        }
        if is_flush {
            return self.flush_answered(lanes, lane, index, header);
        }
        let is_error = matches!(header.kind, kind::RLERROR | kind::RERROR);
        let slot = self
            .slots
            .get_mut(usize::from(index))
            .ok_or(Error::Closed)?;
        let wanted = match slot.state {
            State::Waiting => true,
            State::Detached | State::FlushDue | State::Flushing { replied: false } => false,
            _ => return Err(Error::from(Violation::AnsweredTwice)),
        };
        if header.kind != slot.info.kind + 1 && !is_error {
            return Err(Error::from(Violation::WrongType));
        }
        let too_large = header.size > slot.limit;
        let by_server = header.kind == kind::RERROR || slot.info.is_sized_by_server();
        if too_large && !by_server {
            return Err(Error::from(Violation::TooLarge));
        }
        slot.len = header.size;
        let size = header.size as usize;
        if wanted && !is_error && slot.info.is_bulk() && size > INLINE {
            slot.state = State::Ready(Place::Head);
            wake_later(&mut self.woken, slot.waker.take());
            self.progress += 1;
            slot.arrived = self.progress;
            if let Some(state) = self.lanes.get_mut(usize::from(lane.0)) {
                state.head = Some(index);
                state.seen = 0;
            }
            return Ok(());
        }
        let mut place = Place::Inline;
        if too_large {
            place = Place::Failed(Violation::NoRoom.into());
        } else if let Some(into) = slot.inline.get_mut(..size) {
            lanes.copy_out(lane, 0, into);
            keep_header(into, header.size, header.kind);
        } else if wanted {
            place = Place::Spilled;
            if fill(&mut slot.spill, size) {
                lanes.copy_out(lane, 0, &mut slot.spill);
                keep_header(&mut slot.spill, header.size, header.kind);
            } else {
                place = Place::Failed(Error::OutOfMemory);
            }
        }
        lanes.consume(lane, slot.budget);
        if self
            .probe
            .as_ref()
            .is_some_and(|probe| probe.slot == Some(index))
        {
            return self.probe_answered(index, place, is_error);
        }
        if is_error
            && matches!(place, Place::Inline)
            && matches!(slot.state, State::Waiting | State::Detached)
            && is_forgotten(slot, &self.fids, self.dialect)
        {
            return self.suspect(lanes, index);
        }
        if let Some(opened) = self.conclude(index, place, is_error)?
            && self.dialect == Dialect::Linux
            && let Some(index) =
                self.submit(Some(lanes), &identify(opened), Some(Instant::NEVER), None)?
        {
            self.detach(index, None);
        }
        Ok(())
    }

    /// The reply to the request in slot `index` is here: does what it means for fids, and tells its owner. Gives the fid that
    /// was opened or attached, if the session needs to know which file that is.
    pub(super) fn conclude(
        &mut self,
        index: u16,
        place: Place,
        is_error: bool,
    ) -> Result<Option<Fid>, Error> {
        let slot = self
            .slots
            .get_mut(usize::from(index))
            .ok_or(Error::Closed)?;
        if let Some(fid) = slot.info.clunks {
            if is_error && slot.info.kind == kind::TREMOVE {
                // Gone by the book, but not where the server has no such request. A clunk settles it.
                self.fids.still_bound(fid);
            } else {
                self.fids.ended(fid);
            }
        }
        // After a walk that stopped half way too: diod keeps the new fid even then.
        if let Some(fid) = slot.info.new_fid
            && !is_error
        {
            self.fids.bound(fid);
            let confirmed = match slot.info.kind {
                kind::TWALK => slot.has_walked(),
                kind::TXATTRWALK => false,
                _ => true,
            };
            if confirmed {
                self.fids.known(fid);
            }
            if slot.info.kind == kind::TATTACH {
                self.fids.attached(fid);
            }
        }
        let mut opened = None;
        if let Some(journal) = self.journal
            && let Some(change) = slot.change.take()
            && !is_error
            && matches!(place, Place::Inline)
        {
            let bytes = slot.inline.get(..slot.len as usize).unwrap_or(&[]);
            let (_, reply) =
                Reply::decode(Reader::new(bytes, self.dialect)).map_err(Error::Malformed)?;
            let root = slot.info.kind == kind::TATTACH;
            let known = (journal.apply)(change, &reply, &mut self.fids);
            opened = known.filter(|_| self.same_trees || !root);
        }
        match slot.state {
            State::Waiting | State::Suspect { wanted: true } => {
                slot.state = State::Ready(place);
                wake_later(&mut self.woken, slot.waker.take());
                self.progress += 1;
                slot.arrived = self.progress;
            }
            State::Flushing { .. } => slot.state = State::Flushing { replied: true },
            State::FlushDue => {
                self.flushes_due -= 1;
                self.retire(index);
            }
            _ => {
                slot.note(place, self.dialect)?;
                self.retire(index);
            }
        }
        Ok(opened)
    }

    /// The server has answered the Tflush of the request in slot `index`.
    fn flush_answered<L: Lanes + ?Sized>(
        &mut self,
        lanes: &mut L,
        lane: Lane,
        index: u16,
        header: Header,
    ) -> Result<(), Error> {
        let flush = Request::Flush { oldtag: Tag(index) };
        let budget = flush.max_reply(self.dialect, self.msize);
        let slot = self
            .slots
            .get_mut(usize::from(index))
            .ok_or(Error::Closed)?;
        let State::Flushing { replied } = slot.state else {
            return Err(Error::from(Violation::UnknownFlush));
        };
        let refused = match header.kind {
            kind::RFLUSH => false,
            kind::RLERROR | kind::RERROR => true,
            _ => return Err(Error::from(Violation::WrongType)),
        };
        if header.size > budget {
            return Err(Error::from(Violation::TooLarge));
        }
        // With the Rflush, the reply that will not come is over too.
        let over = if refused || replied { 0 } else { slot.budget };
        lanes.consume(lane, budget.saturating_add(over));
        if refused {
            self.can_flush = false;
            if !replied {
                slot.state = State::Detached;
                slot.deadline = None;
                return Ok(());
            }
        } else if !replied {
            // Whether it happened is unknown: a clunk settles it either way.
            if let Some(fid) = slot.info.new_fid {
                self.fids.bound(fid);
            }
        }
        self.retire(index);
        Ok(())
    }

    /// Sends the Tflush that a slot waits for, if there is room.
    fn send_flush<L: Lanes + ?Sized>(&mut self, lanes: &mut L, index: u16) {
        let flush = Request::Flush { oldtag: Tag(index) };
        let mut bytes = [0; 16];
        let tag = index + self.window;
        let lane = self.lane_of(tag);
        let budget = flush.max_reply(self.dialect, self.msize);
        let Ok(len) = flush.encode(Tag(tag), self.dialect, &mut bytes) else {
            return;
        };
        let bytes = bytes.get(..len).unwrap_or(&[]);
        match lanes.send(lane, &[bytes], budget) {
            Ok(true) => {
                self.stats.requests += 1;
                self.stats.flushes += 1;
                self.flushes_due -= 1;
                if let Ok(slot) = self.slot(index) {
                    slot.state = State::Flushing { replied: false };
                }
            }
            Ok(false) => {}
            Err(error) => {
                self.fail(error.into());
            }
        }
    }

    /// Whether an abandoned request has left something to do on the lanes.
    pub(in crate::session) fn has_loose_ends(&self) -> bool {
        (self.flushes_due > 0 || self.unwanted_heads > 0) && self.is_up()
    }

    /// Takes abandoned requests back, and their replies off the lanes.
    pub(in crate::session) fn tie_up<L: Lanes + ?Sized>(&mut self, lanes: &mut L) {
        for index in 0..self.window {
            if !self.has_loose_ends() {
                return;
            }
            match self.slot(index).map(|slot| slot.state) {
                Ok(State::FlushDue) => self.send_flush(lanes, index),
                Ok(State::UnwantedHead) => self.drop_head(lanes, index),
                _ => {}
            }
        }
    }

    /// Sends everything that no task waits for, and tells the server of all that was sent.
    pub(in crate::session) fn send_due<L: Lanes + ?Sized>(&mut self, lanes: &mut L) {
        self.tie_up(lanes);
        self.send_probe(lanes);
        self.send_clunks(lanes, 0);
        if self.is_up()
            && let Err(error) = lanes.flush()
        {
            self.fail(error.into());
        }
    }

    /// Sends Tclunks until no more than `keep` fids are left that no task has.
    pub(super) fn send_clunks<L: Lanes + ?Sized>(&mut self, lanes: &mut L, keep: usize) {
        while self.is_up() && self.fids.to_be_clunked() > keep {
            let Some(fid) = self.fids.next_to_clunk() else {
                break;
            };
            match self.submit(
                Some(&mut *lanes),
                &Request::Clunk { fid },
                Some(Instant::NEVER),
                None,
            ) {
                Ok(Some(index)) => self.detach(index, None),
                // Gone with the server.
                Err(_) if !self.is_up() => {
                    self.fids.ended(fid);
                    self.fids.unref(fid);
                }
                Ok(None) | Err(_) => {
                    self.fids.clunk_later(fid);
                    break;
                }
            }
        }
    }

    /// Moves the bulk replies at the heads of lanes out of the way of others: their owners do not come, and
    /// the tasks that wait for the replies behind them must not wait for them.
    pub(in crate::session) fn spill_heads<L: Lanes + ?Sized>(&mut self, lanes: &mut L) {
        self.tie_up(lanes);
        for lane in 0..self.lanes.len() as u16 {
            self.spill(lanes, Lane(lane));
            self.pump_lane(lanes, Lane(lane));
        }
    }

    fn spill<L: Lanes + ?Sized>(&mut self, lanes: &mut L, lane: Lane) {
        if !self.is_up() {
            return;
        }
        let Some(index) = self
            .lanes
            .get(usize::from(lane.0))
            .and_then(|state| state.head)
        else {
            return;
        };
        let blocks_others = self.blocks_others(lane);
        let Some(state) = self.lanes.get_mut(usize::from(lane.0)) else {
            return;
        };
        state.seen = 0;
        let Some(slot) = self.slots.get_mut(usize::from(index)) else {
            return;
        };
        if !slot.state.is_at_head() || !blocks_others {
            return;
        }
        let size = slot.len as usize;
        let place = match fill(&mut slot.spill, size) {
            true => Place::Spilled,
            // No task waits for it, so none comes to make room: it was read ahead, and can be asked for again.
            false if !slot.awaited => Place::Failed(Error::OutOfMemory),
            false => return,
        };
        lanes.copy_out(lane, 0, &mut slot.spill);
        keep_header(&mut slot.spill, slot.len, slot.info.kind + 1);
        lanes.consume(lane, slot.budget);
        slot.state = State::Ready(place);
        state.head = None;
        self.stats.spills += 1;
        // There is room for others now.
        self.wake_waiting();
    }

    /// Whether the reply at the head of its lane has to be moved. What was read ahead may stay there, so that its owner copies it
    /// once, as long as only more of that is behind it, nothing waits for room, and the transport can wait for what comes next.
    fn blocks_others(&self, lane: Lane) -> bool {
        let is_blocked = |(index, slot): (usize, &Slot)| match slot.state {
            State::Free | State::Lost { .. } => false,
            State::FlushDue | State::Suspect { .. } => true,
            _ if self.lane_of(index as u16) != lane => false,
            State::Waiting | State::Ready(Place::Head) => slot.awaited,
            State::Ready(_) => false,
            State::Detached | State::Flushing { .. } | State::UnwantedHead => true,
        };
        !self.waits_for_news
            || !self.waiting.is_empty()
            || self.fids.to_be_clunked() > 0
            || self.slots.iter().enumerate().any(is_blocked)
    }
}

/// Makes size and type in a copy of a reply what they were when they were checked; a hostile server may
/// have changed them in the transport's memory since.
fn keep_header(bytes: &mut [u8], size: u32, kind: u8) {
    if let Some((place, rest)) = bytes.split_first_chunk_mut() {
        *place = size.to_le_bytes();
        if let Some(place) = rest.first_mut() {
            *place = kind;
        }
    }
}

/// Makes the vector `size` bytes long; `false` when memory is short.
fn fill(bytes: &mut alloc::vec::Vec<u8>, size: usize) -> bool {
    bytes.clear();
    let enough = bytes.try_reserve_exact(size).is_ok();
    if enough {
        bytes.resize(size, 0);
    }
    enough
}
