//! The session's end of its transport, while that is here: the driver takes it away to wait in it.
//!
//! While it is away nothing arrives and there is no room, so the engine needs no other rules then. What can't be put
//! off, taking data out of the transport, asks [`Device::is_away`] first.

use alloc::boxed::Box;

use crate::transport::{Header, Lane, Stats, Transport, TransportError};
use xen9p_time::Instant;

pub(super) struct Device {
    transport: Option<Box<dyn Transport>>,
    /// Whether the server keeps the order of each lane.
    in_order: bool,
    /// When the clock was read last.
    clock: Instant,
    /// Counters as they were when the transport was taken away.
    stats: Stats,
    /// To be told to the transport when it is back.
    max_message: Option<u32>,
}

impl Device {
    pub(super) fn new(transport: Box<dyn Transport>) -> Self {
        Device {
            in_order: transport.in_order(),
            clock: transport.now(),
            stats: Stats::default(),
            max_message: None,
            transport: Some(transport),
        }
    }

    /// Whether the transport is somewhere else: someone waits in it, or it has been given up.
    pub(super) fn is_away(&self) -> bool {
        self.transport.is_none()
    }

    /// Takes the transport away.
    pub(super) fn take(&mut self) -> Option<Box<dyn Transport>> {
        let transport = self.transport.take()?;
        self.stats = transport.stats();
        Some(transport)
    }

    /// Brings the transport back.
    pub(super) fn put_back(&mut self, mut transport: Box<dyn Transport>) {
        if let Some(bytes) = self.max_message.take() {
            transport.set_max_message(bytes);
        }
        self.transport = Some(transport);
    }

    /// The transport itself, if it is here.
    pub(super) fn get(&mut self) -> Option<&mut dyn Transport> {
        match &mut self.transport {
            Some(transport) => Some(&mut **transport),
            None => None,
        }
    }

    pub(super) fn in_order(&self) -> bool {
        self.in_order
    }

    pub(super) fn set_max_message(&mut self, bytes: u32) {
        match &mut self.transport {
            Some(transport) => transport.set_max_message(bytes),
            None => self.max_message = Some(bytes),
        }
    }

    pub(super) fn has_room(
        &mut self,
        lane: Lane,
        request: u32,
        reply: u32,
    ) -> Result<bool, TransportError> {
        match &mut self.transport {
            Some(transport) => transport.has_room(lane, request, reply),
            None => Ok(false),
        }
    }

    pub(super) fn send(
        &mut self,
        lane: Lane,
        parts: &[&[u8]],
        reply: u32,
    ) -> Result<bool, TransportError> {
        match &mut self.transport {
            Some(transport) => transport.send(lane, parts, reply),
            None => Ok(false),
        }
    }

    pub(super) fn flush(&mut self) -> Result<(), TransportError> {
        self.transport
            .as_mut()
            .map_or(Ok(()), |transport| transport.flush())
    }

    pub(super) fn peek(&mut self, lane: Lane) -> Result<Option<Header>, TransportError> {
        match &mut self.transport {
            Some(transport) => transport.peek(lane),
            None => Ok(None),
        }
    }

    /// Only for a message that [`peek`](Self::peek) showed since the transport was away last.
    pub(super) fn copy_out(&mut self, lane: Lane, offset: u32, into: &mut [u8]) {
        match &mut self.transport {
            Some(transport) => transport.copy_out(lane, offset, into),
            None => into.fill(0),
        }
    }

    /// As [`copy_out`](Self::copy_out).
    pub(super) fn consume(&mut self, lane: Lane) {
        if let Some(transport) = &mut self.transport {
            transport.consume(lane);
        }
    }

    /// As [`copy_out`](Self::copy_out).
    pub(super) fn release(&mut self, lane: Lane, reply: u32) {
        if let Some(transport) = &mut self.transport {
            transport.release(lane, reply);
        }
    }

    pub(super) fn stats(&self) -> Stats {
        self.transport
            .as_ref()
            .map_or(self.stats, |transport| transport.stats())
    }

    /// The transport's clock; as it was last, while the transport is away.
    pub(super) fn now(&mut self) -> Instant {
        if let Some(transport) = &self.transport {
            self.clock = transport.now();
        }
        self.clock
    }
}
