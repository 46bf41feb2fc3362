//! What the engine sees of a transport.

use crate::transport::{Header, Lane, Transport, TransportError};

/// Lanes that requests go out and replies come in on; see [`Transport`], whose methods these are. What they have not: waiting,
/// and the time.
pub(in crate::session) trait Lanes {
    fn set_max_message(&mut self, bytes: u32);
    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError>;
    fn flush(&mut self) -> Result<(), TransportError>;
    fn peek(&mut self, lane: Lane) -> Result<Option<Header>, TransportError>;
    fn copy_out(&mut self, lane: Lane, offset: u32, into: &mut [u8]);
    /// Drops the reply that [`peek`](Self::peek) showed, and gives back so many bytes of the lane's reply budget.
    fn consume(&mut self, lane: Lane, budget: u32);
}

impl Lanes for dyn Transport {
    fn set_max_message(&mut self, bytes: u32) {
        Transport::set_max_message(self, bytes);
    }

    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError> {
        Transport::send(self, lane, parts, reply)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        Transport::flush(self)
    }

    fn peek(&mut self, lane: Lane) -> Result<Option<Header>, TransportError> {
        Transport::peek(self, lane)
    }

    fn copy_out(&mut self, lane: Lane, offset: u32, into: &mut [u8]) {
        Transport::copy_out(self, lane, offset, into);
    }

    fn consume(&mut self, lane: Lane, budget: u32) {
        Transport::consume(self, lane);
        Transport::release(self, lane, budget);
    }
}

/// What a transport is like, for as long as it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::session) struct Shape {
    /// At least one.
    pub(in crate::session) lanes: u16,
    pub(in crate::session) max_message: u32,
    pub(in crate::session) in_order: bool,
    pub(in crate::session) holds_replies: bool,
    pub(in crate::session) waits_for_news: bool,
}

impl Shape {
    pub(in crate::session) fn of(transport: &dyn Transport) -> Self {
        Shape {
            lanes: transport.lanes().max(1),
            max_message: transport.max_message(),
            in_order: transport.in_order(),
            holds_replies: transport.holds_replies(),
            waits_for_news: transport.waits_for_news(),
        }
    }
}
