//! Requests on their way out: a slot, a lane with room, the encoding; and the end of a request.

use alloc::vec::Vec;

use super::slot::{RequestInfo, State};
use super::{Engine, Lanes};
use crate::Error;
use crate::transport::{Lane, TransportError};
use p9_wire::{Request, Tag, WireError, kind};
use xen9p_time::Instant;

impl Engine {
    /// Sends a request, on this lane if one is named. `None` when there is no free slot or no room now, and without lanes.
    ///
    /// Without a deadline it has the session's timeout, from the next [`expire_due`](Self::expire_due) on.
    pub(in crate::session) fn submit<L: Lanes + ?Sized>(
        &mut self,
        mut lanes: Option<&mut L>,
        request: &Request<'_>,
        deadline: Option<Instant>,
        lane: Option<Lane>,
    ) -> Result<Option<u16>, Error> {
        // Where tasks take each tag that gets free, fids would stay on the server without end.
        if let Some(lanes) = lanes.as_deref_mut()
            && !matches!(request, Request::Clunk { .. })
        {
            self.send_clunks(lanes, self.window.into());
        }
        self.alive()?;
        if self.lost.is_some() {
            return self.submit_offline(request);
        }
        let info = self.info(request)?;
        let head = self.encode(request)?;
        let payload = request.payload();
        let size = u32::try_from(head + payload.len()).unwrap_or(u32::MAX);
        if size > self.msize {
            return Err(Error::NameTooLong);
        }
        let limit = request.max_reply(self.dialect, self.msize);
        let Some(lanes) = lanes else {
            return Ok(None);
        };
        // Others may wait for each other in a circle that all of the budget is in.
        let budget = match self.for_others && self.holds_replies {
            true => 0,
            false => limit,
        };
        let index = match self.put(lanes, request, head, budget, lane) {
            Ok(Some(index)) => index,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.fail(error.into());
                self.alive()?;
                return self.submit_offline(request);
            }
        };
        self.largest = self.largest.max(limit);
        self.stats.requests += 1;
        self.stats.bytes_sent += u64::from(size);
        let load = size.saturating_add(limit);
        self.changes += u64::from(info.changes);
        for fid in info.fids.into_iter().flatten() {
            self.fids.add_ref(fid);
        }
        if let Some(fid) = info.clunks {
            self.fids.ending(fid);
        }
        if let &Request::Xattrcreate { fid, .. } = request {
            self.fids.mark_unconfirmed(fid);
        }
        let lane = self.lane_of(self.tag(index));
        if let Some(lane) = self.lanes.get_mut(usize::from(lane.0)) {
            lane.load += u64::from(load);
        }
        if let Some(journal) = self.journal {
            let change = (journal.update)(request, &self.fids);
            self.slot(index)?.change = change;
        }
        let grace = self.grace;
        let slot = self.slot(index)?;
        slot.state = State::Waiting;
        slot.info = info;
        (slot.limit, slot.budget) = (limit, budget);
        slot.load = load;
        // Time spent reconnecting does not count towards a request's timeout.
        slot.deadline = deadline.map(|deadline| deadline.max(grace));
        slot.late = false;
        Ok(Some(index))
    }

    /// Makes a request while there is no server: only closing has no need of one.
    fn submit_offline(&mut self, request: &Request<'_>) -> Result<Option<u16>, Error> {
        let &Request::Clunk { fid } = request else {
            return Ok(None);
        };
        if self
            .fids
            .snapshot(fid)
            .is_some_and(|snapshot| snapshot.singular)
        {
            return Err(Error::Stale);
        }
        let Some(index) = self.lanes.iter_mut().find_map(|lane| lane.free.pop()) else {
            return Ok(None);
        };
        self.fids.add_ref(fid);
        self.fids.ended(fid);
        let slot = self.slot(index)?;
        slot.info = RequestInfo::of(request);
        slot.load = 0;
        (slot.limit, slot.budget) = (0, 0);
        slot.answer(kind::RCLUNK);
        Ok(Some(index))
    }

    /// What a request does to fids, and what its loss would mean.
    fn info(&mut self, request: &Request<'_>) -> Result<RequestInfo, Error> {
        let mut info = RequestInfo::of(request);
        info.confirmed = info.is_confirmed(&self.fids);
        if let Some(journal) = self.journal {
            for fid in info.fids.into_iter().flatten() {
                self.fids.check(fid, request)?;
            }
            info.replay = (journal.replay)(request, &self.fids);
        }
        Ok(info)
    }

    /// Encodes all but the payload and the tag into the scratch space.
    fn encode(&mut self, request: &Request<'_>) -> Result<usize, Error> {
        loop {
            match request.encode_head(Tag::NONE, self.dialect, &mut self.scratch) {
                Ok(len) => return Ok(len),
                Err(WireError::Room { needed }) => {
                    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
                    let more = needed.saturating_sub(self.scratch.len()).max(512);
                    self.scratch
                        .try_reserve(more)
                        .map_err(|_| Error::OutOfMemory)?;
                    self.scratch.resize(self.scratch.len() + more, 0);
                }
                Err(WireError::Invalid { .. }) => return Err(Error::NameTooLong),
                Err(_) => {
                    return Err(Error::Unsupported {
                        request: request.kind(),
                        dialect: self.dialect,
                    });
                }
            }
        }
    }

    /// Whether half of the slots are free, and one more.
    pub(in crate::session) fn is_half_free(&self) -> bool {
        self.free_slots().saturating_sub(1) * 2 >= usize::from(self.window)
    }

    fn free_slots(&self) -> usize {
        self.lanes.iter().map(|lane| lane.free.len()).sum()
    }

    /// Whether what is asked for from now on is asked for others. From the first time on the session is used for others, too.
    pub(in crate::session) fn ask_for_others(&mut self, on: bool) {
        self.shared |= on;
        self.for_others = on;
    }

    pub(in crate::session) fn asks_for_others(&self) -> bool {
        self.for_others
    }

    pub(in crate::session) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether what is asked for now, by the program itself, has to wait: half of the slots are for others.
    pub(in crate::session) fn is_kept_for_others(&self) -> bool {
        self.shared && !self.for_others && self.free_slots() * 2 <= usize::from(self.window)
    }

    /// Whether there is no slot, with a connection.
    pub(in crate::session) fn is_used_up(&self) -> bool {
        self.lost.is_none() && self.free_slots() == 0
    }

    /// Puts a request, whose first `head` bytes are encoded, on the least loaded lane that has room, or on the one that is named,
    /// and gives its slot.
    fn put<L: Lanes + ?Sized>(
        &mut self,
        lanes: &mut L,
        request: &Request<'_>,
        head: usize,
        budget: u32,
        named: Option<Lane>,
    ) -> Result<Option<u16>, TransportError> {
        let mut send = |lane: Lane, tag: u16| {
            let head = self.scratch.get_mut(..head).unwrap_or(&mut []);
            if let Some(place) = head.get_mut(5..7) {
                place.copy_from_slice(&tag.to_le_bytes());
            }
            let payload = request.payload();
            lanes.send(lane, &[head, payload.0, payload.1], budget)
        };
        let count = self.lanes.len() as u16;
        if request.kind() == kind::TVERSION {
            let window = self.window;
            let slot = self.slots.get(usize::from(window));
            if slot.is_none_or(|slot| !slot.state.is_free()) {
                return Ok(None);
            }
            let sent = send(Lane(Tag::NONE.0 % count), Tag::NONE.0)?;
            return Ok(sent.then_some(window));
        }
        let (start, choices) = named.map_or((self.next_lane, count), |lane| (lane.0, 1));
        // The lane that was tried last, by its load and its place.
        let mut tried = None;
        loop {
            let mut best = None;
            for step in 0..choices {
                let lane = (start + step) % count;
                let state = self.lanes.get(usize::from(lane));
                let Some(state) = state.filter(|state| !state.free.is_empty()) else {
                    continue;
                };
                let choice = (state.load, step);
                if tried.is_none_or(|tried| tried < choice) && best.is_none_or(|best| choice < best)
                {
                    best = Some(choice);
                }
            }
            let Some((_, step)) = best else {
                return Ok(None);
            };
            let lane = (start + step) % count;
            let free = self.lanes.get(usize::from(lane));
            let Some(&tag) = free.and_then(|lane| lane.free.last()) else {
                return Ok(None);
            };
            if send(Lane(lane), tag)? {
                if let Some(state) = self.lanes.get_mut(usize::from(lane)) {
                    state.free.pop();
                }
                if named.is_none() {
                    self.next_lane = (lane + 1) % count;
                }
                return Ok(Some(tag));
            }
            tried = best;
        }
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
        if slot.state.is_free() {
            return;
        }
        slot.state = State::Free;
        slot.arrived = 0;
        slot.waker = None;
        slot.awaited = false;
        slot.outcome = None;
        slot.change = None;
        slot.spill = Vec::new();
        let (load, limit) = (slot.load, slot.limit);
        let info = slot.info;
        self.changes += u64::from(info.changes);
        if let Some(lane) = self.lanes.get_mut(usize::from(lane.0)) {
            lane.load = lane.load.saturating_sub(u64::from(load));
        }
        for fid in info.fids.into_iter().flatten() {
            self.fids.unref(fid);
        }
        self.give_back(index);
        self.wake_waiting();
        if limit > self.msize {
            let in_flight = self.slots.iter().filter(|slot| !slot.state.is_free());
            self.largest = in_flight.map(|slot| slot.limit).fold(self.msize, u32::max);
        }
    }
}
