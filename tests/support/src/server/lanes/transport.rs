//! The client's end as a transport: strict about what a client must not do, and about nothing else.

use xen9p::p9::wire::{kind, parse_header};
use xen9p::time::Instant;
use xen9p::transport::{Header, Lane, Transport, TransportError};

use super::Lanes;

impl Transport for Lanes {
    fn lanes(&self) -> u16 {
        self.0.borrow().options.lanes
    }

    fn in_order(&self) -> bool {
        self.0.borrow().options.in_order
    }

    fn waits_for_news(&self) -> bool {
        true
    }

    fn max_message(&self) -> u32 {
        self.0.borrow().options.capacity / 2
    }

    fn set_max_message(&mut self, bytes: u32) {
        self.0.borrow_mut().max_message = bytes;
    }

    fn has_room(&mut self, lane: Lane, request: u32, reply: u32) -> Result<bool, TransportError> {
        self.0.borrow_mut().has_room(lane, request, reply)
    }

    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError> {
        let shared = &mut *self.0.borrow_mut();
        let request = parts.concat();
        let header = parse_header(request.first_chunk().expect("a request has a header"));
        assert_eq!(
            header.size as usize,
            request.len(),
            "size field of {}",
            kind::name(header.kind)
        );
        assert_eq!(
            header.tag % shared.options.lanes,
            lane.0,
            "tag {} on lane {}",
            header.tag,
            lane.0
        );
        assert!(
            request.len() <= shared.max_message as usize,
            "request beyond msize"
        );
        if !shared.has_room(lane, header.size, reply)? {
            return Ok(false);
        }
        let lane = shared.lane(lane)?;
        lane.requests += header.size;
        lane.budget += reply;
        lane.unflushed.push((request, reply));
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        let mut shared = self.0.borrow_mut();
        shared.flush();
        shared.failure.map_or(Ok(()), Err)
    }

    fn peek(&mut self, lane: Lane) -> Result<Option<Header>, TransportError> {
        let mut shared = self.0.borrow_mut();
        let limit = shared.max_message;
        let lane = shared.lane(lane)?;
        let Some(header) = lane.header() else {
            return Ok(None);
        };
        let arrived = lane.replies.len() >= header.size as usize;
        match header.size {
            0..7 => shared.fail(&"a message of less than 7 bytes"),
            size if size > limit => shared.fail(&"a message larger than msize"),
            _ => Ok(arrived.then_some(header)),
        }
    }

    fn copy_out(&mut self, lane: Lane, offset: u32, into: &mut [u8]) {
        let shared = self.0.borrow();
        let lane = &shared.lanes[usize::from(lane.0)];
        let size = lane.size();
        let there = size.saturating_sub(offset).min(into.len() as u32);
        let (there, beyond) = into.split_at_mut(there as usize);
        lane.copy(offset as usize, there);
        beyond.fill(0);
    }

    fn consume(&mut self, lane: Lane) {
        let mut shared = self.0.borrow_mut();
        let lane = &mut shared.lanes[usize::from(lane.0)];
        let size = lane.size();
        lane.replies.drain(..size as usize);
    }

    fn release(&mut self, lane: Lane, reply: u32) {
        let mut shared = self.0.borrow_mut();
        let lane = &mut shared.lanes[usize::from(lane.0)];
        lane.budget = lane
            .budget
            .checked_sub(reply)
            .expect("more given back than taken");
    }

    fn now(&self) -> Instant {
        let shared = self.0.borrow();
        shared.looks.set(shared.looks.get() + 1);
        shared.now()
    }

    fn wait(&mut self, deadline: Instant) -> Result<(), TransportError> {
        let mut shared = self.0.borrow_mut();
        if let Some(failure) = shared.failure {
            return Err(failure);
        }
        if !std::mem::take(&mut shared.news) {
            let next = shared.next_job().map(|job| shared.jobs[job].at);
            let until = next.map_or(deadline, |at| at.min(deadline));
            assert_ne!(
                until,
                Instant::NEVER,
                "waits for ever with nothing under way"
            );
            let now = shared.now().max(until);
            shared.options.clock.0.set(now);
            shared.serve_due();
            shared.news = false;
        }
        Ok(())
    }

    fn close(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.closed = true;
        shared.failure.get_or_insert(TransportError::Closed);
    }
}
