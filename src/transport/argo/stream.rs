//! A connection: 9P messages in both directions, until one side goes.

use alloc::rc::Rc;
use core::cell::RefCell;
use core::fmt;
use core::time::Duration;

use super::{END, MESSAGE};
use crate::hypercall::XenError;
use crate::platform::Platform;
use crate::time::Instant;
use crate::transport::TransportError;
use crate::transport::export::Connection;
use crate::transport::stream::ByteStream;
use crate::xen::argo::{Address, Argo, Message, Ring, Violation};
use crate::xen::event::Generation;

/// How often it is asked whether the other side is there: a domain that dies says nothing.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long after a message was refused because too many wait it is tried again: no event will come.
const CROWDED_INTERVAL: Duration = Duration::from_millis(10);

/// Bytes of the size in front of each 9P message.
const SIZE: usize = 4;

/// The shortest 9P message, in bytes.
const HEADER: u32 = 7;

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The ring is for this connection alone.
    Client,
    /// The ring is the listener's, and has the messages of the next connection, too.
    Server,
}

/// A connection to another domain.
///
/// What is written has to begin with a 9P message, of which one is sent for each [`write`](ByteStream::write); what is read
/// are 9P messages, one behind the other.
///
/// No method blocks but [`wait`](ByteStream::wait). Dropping it tells the other side that the connection is over, if there
/// is room for that.
pub struct Stream<P: Platform> {
    argo: Argo<P>,
    /// Where messages come. Gone once the connection is over.
    ring: Option<Rc<RefCell<Ring<P>>>>,
    own_port: u32,
    peer: Address,
    side: Side,
    max_message: u32,
    /// Bytes of the message at hand that were read.
    taken: u32,
    /// Others may wait for room that was made.
    due: bool,
    fault: Option<TransportError>,
    seen: Generation,
    next_check: Instant,
    /// When a message is tried again that was refused because too many wait.
    retry: Option<Instant>,
}

impl<P: Platform> fmt::Debug for Stream<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("peer", &self.peer)
            .field("side", &self.side)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

impl<P: Platform> Stream<P> {
    pub(super) fn new(
        argo: &Argo<P>,
        ring: Rc<RefCell<Ring<P>>>,
        peer: Address,
        side: Side,
        max_message: u32,
    ) -> Self {
        let events = &argo.xen().events;
        let own_port = ring.borrow().port();
        Stream {
            argo: argo.clone(),
            ring: Some(ring),
            own_port,
            peer,
            side,
            max_message,
            taken: 0,
            due: false,
            fault: None,
            seen: events.generation(),
            next_check: events.now() + CHECK_INTERVAL,
            retry: None,
        }
    }

    /// The other end.
    pub fn peer(&self) -> Address {
        self.peer
    }

    /// The largest 9P message that both rings take, in bytes.
    pub fn max_message(&self) -> u32 {
        self.max_message
    }

    /// Why the connection is over, if it is.
    pub fn fault(&self) -> Option<TransportError> {
        self.fault
    }

    /// Ends the connection for good, for this reason unless there is an earlier one.
    fn fail(&mut self, fault: TransportError) -> TransportError {
        *self.fault.get_or_insert(fault)
    }

    /// Lets go of the ring, and tells the other side, if it is there to be told.
    fn release(&mut self) {
        let Some(ring) = self.ring.take() else { return };
        // What is left of a message that was read in part is no message.
        if self.taken > 0 {
            ring.borrow_mut().consume(self.max_message);
        }
        if !ring.borrow().is_stale() && !matches!(self.fault, Some(TransportError::Lost(_))) {
            // One that has no room learns it by what it sends next.
            let _ = self.argo.send(self.own_port, self.peer, &[&[0]], END);
        }
    }

    /// The next message of this connection's, if there is one.
    fn next(&mut self) -> Result<Option<Message>, TransportError> {
        loop {
            let Some(ring) = &self.ring else {
                return Err(self.fault.unwrap_or(TransportError::Closed));
            };
            if ring.borrow().is_stale() {
                let how = &"this domain was saved, and its Argo ring is gone";
                return Err(self.fail(TransportError::Lost(how)));
            }
            let next = ring.borrow_mut().peek();
            let message = match next {
                Ok(None) => return self.fault.map_or(Ok(None), Err),
                Ok(Some(message)) => message,
                Err(Violation(rule)) => return Err(self.fail(TransportError::Violation(rule))),
            };
            if message.source != self.peer {
                if self.side == Side::Server && message.source.domain == self.peer.domain {
                    if message.kind == MESSAGE {
                        let how = &"the client has begun another connection";
                        return Err(self.fail(TransportError::Lost(how)));
                    }
                    // The end of one that was before.
                    self.due |= ring.borrow_mut().consume(self.max_message);
                    continue;
                }
                let rule = &"a message from another port than the server's";
                return Err(self.fail(TransportError::Violation(rule)));
            }
            if message.kind == END {
                self.due |= ring.borrow_mut().consume(self.max_message);
                let how = &"the other side has closed the connection";
                return Err(self.fail(TransportError::Lost(how)));
            }
            if self.taken == 0 {
                let mut size = [0; SIZE];
                ring.borrow().copy_out(0, &mut size);
                let is_whole = u32::from_le_bytes(size) == message.len;
                if message.kind != MESSAGE || !is_whole || message.len < HEADER {
                    // It does not stand before others any more.
                    self.due |= ring.borrow_mut().consume(self.max_message);
                    let rule = &"a message of Argo's that is not one of 9P";
                    return Err(self.fail(TransportError::Violation(rule)));
                }
            }
            return Ok(Some(message));
        }
    }

    /// Sends one message. `false`: there is no room.
    fn send(&mut self, message: &[u8]) -> Result<bool, TransportError> {
        let lost = match self
            .argo
            .send(self.own_port, self.peer, &[message], MESSAGE)
        {
            Ok(()) => return Ok(true),
            Err(XenError::EAGAIN) => return Ok(false),
            Err(XenError::EBUSY) => {
                self.retry = Some(self.argo.xen().events.now() + CROWDED_INTERVAL);
                return Ok(false);
            }
            Err(XenError::ECONNREFUSED) => TransportError::Lost(
                &"the other side's Argo ring is gone: it has closed the connection, or died",
            ),
            Err(XenError::ESRCH) => TransportError::Lost(&"the other domain is gone"),
            Err(XenError::EMSGSIZE) => {
                TransportError::Lost(&"the message does not fit into the other side's Argo ring")
            }
            Err(XenError::ENOSYS | XenError::EOPNOTSUPP | XenError::ENODEV) => {
                TransportError::Lost(&"this Xen has no Argo (any more)")
            }
            Err(_) => TransportError::Lost(&"Xen refuses to send by Argo"),
        };
        Err(self.fail(lost))
    }

    /// When to try, or look, again if no event comes.
    fn due_at(&self) -> Instant {
        self.retry
            .map_or(self.next_check, |at| at.min(self.next_check))
    }
}

impl<P: Platform> Connection for Stream<P> {
    fn check(&mut self) -> Result<(), TransportError> {
        let now = self.argo.xen().events.now();
        if self.retry.is_some_and(|at| now >= at) {
            self.retry = None;
        }
        if now >= self.next_check && self.fault.is_none() {
            self.next_check = now + CHECK_INTERVAL;
            // A sender that was forgotten waits no longer than this.
            self.due = true;
            let found = self.argo.query(self.peer);
            if !matches!(found, Ok(Some(_))) {
                let how = &"the other side has died (its Argo ring is gone)";
                self.fail(TransportError::Lost(how));
            }
            self.flush()?;
        }
        self.fault.map_or(Ok(()), Err)
    }

    fn next_check(&self) -> Instant {
        self.due_at()
    }

    fn is_readable(&mut self) -> bool {
        !matches!(self.next(), Ok(None))
    }

    /// A message that was refused is told of by an event when there is room: Xen has noted it.
    fn is_writable(&mut self) -> Result<bool, TransportError> {
        self.fault.map_or(Ok(false), Err)
    }
}

impl<P: Platform> ByteStream for Stream<P> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        let Some(message) = self.next()? else {
            return Ok(0);
        };
        let Some(ring) = &self.ring else {
            return Ok(0);
        };
        let mut ring = ring.borrow_mut();
        let count = into.len().min((message.len - self.taken) as usize);
        ring.copy_out(self.taken, into.get_mut(..count).unwrap_or(&mut []));
        self.taken += count as u32;
        if self.taken == message.len {
            self.taken = 0;
            self.due |= ring.consume(self.max_message);
        }
        Ok(count)
    }

    fn write(&mut self, from: &[u8]) -> Result<usize, TransportError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let size = from
            .first_chunk::<SIZE>()
            .map(|size| u32::from_le_bytes(*size));
        let message = size.and_then(|size| from.get(..size as usize));
        let Some(message) = message.filter(|message| message.len() >= SIZE) else {
            return Err(self.fail(TransportError::Lost(
                &"what was to be sent is not a 9P message",
            )));
        };
        match self.send(message)? {
            true => Ok(message.len()),
            false => Ok(0),
        }
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        if core::mem::take(&mut self.due) && self.argo.wake_senders().is_err() {
            return Err(self.fail(TransportError::Lost(&"Xen has no Argo any more")));
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.argo.xen().events.now()
    }

    /// Also runs what waits for other events of the domain, and looks after the other side.
    fn wait(&mut self, _: bool, deadline: Instant) -> Result<(), TransportError> {
        let events = self.argo.xen().events.clone();
        match self.is_readable() {
            true => {
                events.dispatch();
            }
            false => events.wait(self.seen, deadline.min(self.due_at())),
        }
        self.seen = events.generation();
        match self.check() {
            // What came before can be read yet.
            Err(_) if matches!(self.next(), Ok(Some(_))) => Ok(()),
            checked => checked,
        }
    }

    fn close(&mut self) {
        self.fail(TransportError::Closed);
        self.release();
    }
}

impl<P: Platform> Drop for Stream<P> {
    fn drop(&mut self) {
        self.release();
    }
}
