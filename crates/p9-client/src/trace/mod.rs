//! Transports that tell what passes through them: to people as lines of the log, to tshark as a capture.

mod lines;
mod pcap;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::transport::{Header, Lane, Stats, Transport, TransportError};
use p9_wire::kind;
use xen9p_time::Instant;

pub use lines::Lines;
pub use pcap::{Capture, Connection};

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Reply,
}

/// A message that passes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Seen<'a> {
    /// Which way it goes.
    pub direction: Direction,
    /// Its header.
    pub header: Header,
    /// As many of its first bytes, those of the header included, as [`Watch::wants`] asked for; of a message that is
    /// shorter, all.
    pub front: &'a [u8],
    /// When it was handed over, by the transport's clock.
    pub at: Instant,
}

/// Who is told of the messages that pass through a [`Traced`] transport.
pub trait Watch {
    /// How many bytes of a message it wants to see; `None`: not to be told of it.
    fn wants(&self, header: &Header) -> Option<usize>;

    /// A message passes.
    fn see(&mut self, message: Seen<'_>);
}

/// Passes everything on to another transport, and tells a [`Watch`] of each message. With the feature `trace` every
/// share of an image goes through one that writes [`Lines`], which `log=p9=trace` on the command line shows; with
/// `trace=pcap` there, each goes through one that keeps a [`Capture`].
///
/// Costs a copy of what the watch wants to see.
pub struct Traced<W = Lines> {
    inner: Box<dyn Transport>,
    watch: W,
    /// Lanes whose first reply was told already.
    told: Vec<bool>,
}

impl Traced {
    /// Tells what passes through `inner` from now on as lines of the log.
    pub fn new(inner: Box<dyn Transport>) -> Self {
        Self::with(inner, Lines::new())
    }
}

impl<W: Watch> Traced<W> {
    /// Tells `watch` what passes through `inner` from now on.
    pub fn with(inner: Box<dyn Transport>, watch: W) -> Self {
        let told = (0..inner.lanes()).map(|_| false).collect();
        Traced { inner, watch, told }
    }
}

impl<W> fmt::Debug for Traced<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traced").finish_non_exhaustive()
    }
}

/// The header of a request that is sent in parts, if these are a message.
fn header(parts: &[&[u8]]) -> Option<Header> {
    let mut bytes = parts.iter().copied().flatten().copied();
    let mut next = || bytes.next();
    let size = u32::from_le_bytes([next()?, next()?, next()?, next()?]);
    let kind = next()?;
    let tag = u16::from_le_bytes([next()?, next()?]);
    Some(Header { size, kind, tag })
}

impl<W: Watch> Transport for Traced<W> {
    fn lanes(&self) -> u16 {
        self.inner.lanes()
    }

    fn in_order(&self) -> bool {
        self.inner.in_order()
    }

    fn holds_replies(&self) -> bool {
        self.inner.holds_replies()
    }

    fn waits_for_news(&self) -> bool {
        self.inner.waits_for_news()
    }

    fn max_message(&self) -> u32 {
        self.inner.max_message()
    }

    fn set_max_message(&mut self, bytes: u32) {
        self.inner.set_max_message(bytes);
    }

    fn has_room(&mut self, lane: Lane, request: u32, reply: u32) -> Result<bool, TransportError> {
        self.inner.has_room(lane, request, reply)
    }

    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError> {
        let sent = self.inner.send(lane, parts, reply)?;
        if sent
            && let Some(header) = header(parts)
            && let Some(most) = self.watch.wants(&header)
        {
            let mut front = Vec::new();
            for part in parts {
                let left = most.saturating_sub(front.len());
                front.extend_from_slice(part.get(..left).unwrap_or(part));
            }
            self.watch.see(Seen {
                direction: Direction::Request,
                header,
                front: &front,
                at: self.inner.now(),
            });
        }
        Ok(sent)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.inner.flush()
    }

    fn peek(&mut self, lane: Lane) -> Result<Option<Header>, TransportError> {
        let found = self.inner.peek(lane)?;
        if let (Some(header), Some(told @ false)) = (found, self.told.get_mut(usize::from(lane.0)))
            && let Some(most) = self.watch.wants(&header)
        {
            *told = true;
            let mut front = alloc::vec![0; most.min(header.size as usize)];
            self.inner.copy_out(lane, 0, &mut front);
            self.watch.see(Seen {
                direction: Direction::Reply,
                header,
                front: &front,
                at: self.inner.now(),
            });
        }
        Ok(found)
    }

    fn copy_out(&mut self, lane: Lane, offset: u32, into: &mut [u8]) {
        self.inner.copy_out(lane, offset, into);
    }

    fn consume(&mut self, lane: Lane) {
        if let Some(told) = self.told.get_mut(usize::from(lane.0)) {
            *told = false;
        }
        self.inner.consume(lane);
    }

    fn release(&mut self, lane: Lane, reply: u32) {
        self.inner.release(lane, reply);
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn wait(&mut self, deadline: Instant) -> Result<(), TransportError> {
        self.inner.wait(deadline)
    }

    fn settle(&mut self) -> Result<Option<Instant>, TransportError> {
        self.inner.settle()
    }

    fn close(&mut self) {
        self.inner.close();
    }
}
