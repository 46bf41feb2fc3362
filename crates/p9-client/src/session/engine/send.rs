//! Requests on their way out: a slot, a lane with room, the encoding; and the end of a request.

use alloc::vec::Vec;

use super::Engine;
use super::slot::{RequestInfo, State};
use crate::Error;
use crate::session::journal::{FidUpdate, ReplayPolicy};
use crate::transport::Lane;
use p9_wire::{Request, Tag, WireError, kind};
use xen9p_time::Instant;

impl Engine {
    /// Sends a request, on this lane if one is named. `None` when there is no free slot or no room now.
    ///
    /// Without a deadline it has the session's timeout, from when the clock is [last_clock_read at](Self::look) next.
    pub(in crate::session) fn submit(
        &mut self,
        request: &Request<'_>,
        deadline: Option<Instant>,
        lane: Option<Lane>,
    ) -> Result<Option<u16>, Error> {
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
        let Some(index) = self.pick(request.kind(), size, limit, lane)? else {
            return match self.lost {
                Some(_) => self.submit_offline(request),
                None => Ok(None),
            };
        };
        let tag = self.tag(index);
        let lane = self.lane_of(tag);
        if limit > self.largest {
            self.allow_replies_of(limit);
        }
        if let Some(place) = self.scratch.get_mut(5..7) {
            place.copy_from_slice(&tag.to_le_bytes());
        }
        let head = self.scratch.get(..head).unwrap_or(&[]);
        match self.device.send(lane, &[head, payload.0, payload.1], limit) {
            Ok(true) => {}
            Ok(false) => {
                self.give_back(index);
                return Ok(None);
            }
            Err(error) => {
                self.give_back(index);
                self.broken::<u16>(error.into())?;
                return self.submit_offline(request);
            }
        }
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
        if let Some(lane) = self.lanes.get_mut(usize::from(lane.0)) {
            lane.load += u64::from(load);
        }
        let grace = self.grace;
        let change = self.recovers.then(|| FidUpdate::of(request, &self.fids));
        let slot = self.slot(index)?;
        slot.state = State::Waiting;
        slot.info = info;
        slot.change = change.flatten();
        slot.limit = limit;
        slot.load = load;
        // Time spent reconnecting does not count towards a request's timeout.
        slot.deadline = deadline.map(|deadline| deadline.max(grace));
        slot.late = false;
        Ok(Some(index))
    }

    /// Makes a request while there is no server: only closing has no need of one.
    fn submit_offline(&mut self, request: &Request<'_>) -> Result<Option<u16>, Error> {
        let &Request::Clunk { fid } = request else {
            let lost = self.lost.filter(|_| self.searching);
            return lost.map_or(Ok(None), Err);
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
        slot.limit = 0;
        slot.answer(kind::RCLUNK);
        Ok(Some(index))
    }

    /// What a request does to fids, and what its loss would mean.
    fn info(&mut self, request: &Request<'_>) -> Result<RequestInfo, Error> {
        let mut info = RequestInfo::of(request);
        info.confirmed = info.is_confirmed(&self.fids);
        if self.recovers {
            for fid in info.fids.into_iter().flatten() {
                self.fids.check(fid, request)?;
            }
            info.replay = ReplayPolicy::of(request, &self.fids);
        }
        Ok(info)
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

    /// Whether half of the slots are free, and one more.
    pub(in crate::session) fn is_half_free(&self) -> bool {
        let free: usize = self.lanes.iter().map(|lane| lane.free.len()).sum();
        free.saturating_sub(1) * 2 >= usize::from(self.window)
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
        let (start, choices) = named.map_or((self.next_lane, count), |lane| (lane.0, 1));
        for step in 0..choices {
            let lane = (start + step) % count;
            let Some(state) = self.lanes.get(usize::from(lane)) else {
                continue;
            };
            if state.free.is_empty() || best.is_some_and(|(load, _)| load <= state.load) {
                continue;
            }
            match self.device.has_room(Lane(lane), size, limit) {
                Ok(true) => best = Some((state.load, lane)),
                Ok(false) => {}
                Err(error) => return self.broken(error.into()),
            }
        }
        let Some((_, lane)) = best else {
            return Ok(None);
        };
        if named.is_none() {
            self.next_lane = (lane + 1) % count;
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
        slot.arrived = 0;
        slot.waker = None;
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
        if limit > self.msize && self.is_up() {
            let in_flight = self.slots.iter().filter(|slot| slot.state != State::Free);
            let largest = in_flight.map(|slot| slot.limit).fold(self.msize, u32::max);
            self.allow_replies_of(largest);
        }
    }

    /// Has the transport take replies of so many bytes. Those whose size a file decides may be larger than msize:
    /// servers do not look.
    fn allow_replies_of(&mut self, bytes: u32) {
        self.largest = bytes;
        self.device.set_max_message(bytes);
    }
}
