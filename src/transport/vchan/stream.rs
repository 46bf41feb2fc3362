//! A connected vchan: a stream of bytes in both directions, until one side goes.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::layout::live;
use super::resync::Resync;
use super::ring::{Ring, Violation};
use super::server::Published;
use crate::hypercall::DomId;
use crate::hypercall::event_channel::Status;
use crate::platform::Platform;
use crate::time::Instant;
use crate::transport::TransportError;
use crate::transport::export::Connection;
use crate::transport::stream::ByteStream;
use crate::xen::event::{EventChannel, Events, Generation, Port};
use crate::xen::grant::{MappedPages, SharedPages};
use crate::xen::store::Watch;

/// How often the event channel is looked at while nothing happens: a domain that dies says nothing.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What a ring's memory lives by: the shared page, and the pages of the rings, of one domain or the other.
pub(super) struct Owner<P: Platform> {
    pub(super) _published: Option<Published<P>>,
    pub(super) mapped: Vec<MappedPages<P>>,
    pub(super) _shared: Vec<SharedPages<P>>,
}

impl<P: Platform> Owner<P> {
    /// Whether the other domain's pages were taken away by a suspend.
    fn is_lost(&self) -> bool {
        self.mapped.iter().any(MappedPages::is_lost)
    }
}

/// The client's way to notice that the server withdraws the vchan.
pub(super) struct Node<P: Platform> {
    pub(super) watch: Watch<P>,
    pub(super) store: crate::xen::store::XenStore<P>,
    /// What was in it.
    pub(super) value: u32,
}

impl<P: Platform> Node<P> {
    /// Whether the node is as it was, as far as xenstore tells.
    fn is_there(&self) -> bool {
        match self.watch.take_all() {
            // Xenstore does not answer: that says nothing about the server.
            Err(_) => true,
            Ok(events) if events.is_empty() => true,
            Ok(_) => match self.store.read_number(self.watch.path()) {
                Ok(value) => value == self.value,
                Err(error) => error.is_connection_error(),
            },
        }
    }
}

/// What a connection holds. Fields are dropped in order: the ring, the port, and only then the memory.
pub(super) struct Link<P: Platform> {
    pub(super) ring: Ring,
    pub(super) channel: EventChannel<P>,
    /// The port of the other side that is bound to ours.
    pub(super) other_port: Port,
    pub(super) node: Option<Node<P>>,
    pub(super) owner: Owner<P>,
}

/// A connection to another domain.
///
/// No method blocks but [`wait`](ByteStream::wait). Dropping it closes it, at once: the other side is told, the other
/// domain's pages are unmapped, and this one's are taken back, or wait in quarantine for the other side to let go.
pub struct Stream<P: Platform> {
    events: Events<P>,
    peer: DomId,
    /// Gone once the connection is over and all is read.
    link: Option<Link<P>>,
    /// Why it is over. Bytes of before may be there still.
    fault: Option<TransportError>,
    /// The moment when the ring was looked at last.
    seen: Generation,
    next_check: Instant,
    /// Drops what the server still had for an earlier client.
    resync: Option<Resync>,
}

impl<P: Platform> fmt::Debug for Stream<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("peer", &self.peer)
            .field("ring", &self.link.as_ref().map(|link| &link.ring))
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

impl<P: Platform> Stream<P> {
    pub(super) fn new(
        events: &Events<P>,
        peer: DomId,
        link: Link<P>,
        resync: Option<Resync>,
    ) -> Self {
        Stream {
            events: events.clone(),
            peer,
            link: Some(link),
            fault: None,
            seen: events.generation(),
            next_check: events.now() + CHECK_INTERVAL,
            resync,
        }
    }

    /// The other domain.
    pub fn peer(&self) -> DomId {
        self.peer
    }

    /// Why the connection is over, if it is. Bytes that came before may still be there to be read.
    pub fn fault(&self) -> Option<TransportError> {
        self.fault
    }

    /// Ends the connection for good, for this reason unless there is an earlier one.
    fn fail(&mut self, fault: TransportError) -> TransportError {
        let fault = *self.fault.get_or_insert(fault);
        if matches!(fault, TransportError::Violation(_) | TransportError::Closed) {
            self.release();
        }
        fault
    }

    /// Lets go of everything. The other side is told that this one has gone, if it is there to be told.
    fn release(&mut self) {
        if let Some(link) = self.link.take() {
            link.ring.leave();
            // Refused only where the port is gone.
            let _ = link.channel.notify();
        }
    }

    /// What the ring gives, or why there is none.
    fn on<T>(
        &mut self,
        act: impl FnOnce(&mut Ring) -> Result<T, Violation>,
    ) -> Result<T, TransportError> {
        let Some(link) = &mut self.link else {
            return Err(self.fault.unwrap_or(TransportError::Closed));
        };
        if link.channel.is_stale() || link.owner.is_lost() {
            let how = &"this domain was saved, and its vchan is gone";
            let fault = self.fail(TransportError::Lost(how));
            self.release();
            return Err(fault);
        }
        act(&mut link.ring).map_err(|Violation(rule)| self.fail(TransportError::Violation(rule)))
    }

    /// Reads from the ring; the end of the connection is an error once all is read.
    fn take(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        let count = self.on(|ring| ring.read(into))?;
        if count > 0 || into.is_empty() {
            return Ok(count);
        }
        if self.fault.is_none() && self.on(|ring| Ok(ring.peer()))? != live::GONE {
            return Ok(0);
        }
        // It may have written between that look and the end.
        let count = self.on(|ring| ring.read(into))?;
        if count > 0 {
            return Ok(count);
        }
        let fault = self.fail(TransportError::Lost(&"the other side has closed the vchan"));
        self.release();
        Err(fault)
    }

    /// Whether the other side is still bound to our port.
    fn check_channel(&mut self) {
        let Some(link) = &self.link else { return };
        let bound = Ok(Status::Interdomain(self.peer, link.other_port));
        if link.channel.status() != bound {
            self.fail(TransportError::Lost(
                &"the other side of the vchan has died (its event channel is gone)",
            ));
            return;
        }
        // vchan-socket-proxy goes to sleep without a look at the ring when a client comes and writes at once: both events
        // are one to it.
        if matches!(self.on(Ring::is_unread), Ok(true))
            && let Some(link) = &self.link
        {
            let _ = link.channel.notify();
        }
    }

    /// Looks after the other side: at what xenstore says of it, and at the event channel once a second. Never blocks for
    /// longer than xenstore takes to answer.
    ///
    /// # Errors
    /// The connection is over. Bytes that came before may still be there to be read.
    pub fn check(&mut self) -> Result<(), TransportError> {
        self.on(|_| Ok(()))?;
        let node = self.link.as_ref().and_then(|link| link.node.as_ref());
        if !node.is_none_or(Node::is_there) {
            self.fail(TransportError::Lost(&"the server has withdrawn the vchan"));
        }
        let now = self.events.now();
        if now >= self.next_check {
            self.next_check = now + CHECK_INTERVAL;
            self.check_channel();
        }
        self.fault.map_or(Ok(()), Err)
    }

    /// When [`check`](Self::check) has something to look at again if nothing happens before.
    pub fn next_check(&self) -> Instant {
        self.next_check
    }

    /// Asks the other side for an event when there is something to read or, if `write`, room to write; and says whether there
    /// is by now, or the connection is over. If not, an event will come.
    pub fn ask(&mut self, write: bool) -> bool {
        if self.fault.is_some() {
            return true;
        }
        let ready = |ring: &mut Ring| Ok(ring.is_ready(write)? || ring.peer() == live::GONE);
        let asked = self.on(|ring| {
            if ready(ring)? {
                return Ok(true);
            }
            ring.ask(write);
            ready(ring)
        });
        asked.unwrap_or(true)
    }
}

impl<P: Platform> Connection for Stream<P> {
    fn check(&mut self) -> Result<(), TransportError> {
        Stream::check(self)
    }

    fn next_check(&self) -> Instant {
        self.next_check
    }

    fn is_readable(&mut self) -> bool {
        self.ask(false)
    }

    fn is_writable(&mut self) -> Result<bool, TransportError> {
        let look = |ring: &mut Ring| Ok(ring.has_room()? || ring.peer() == live::GONE);
        self.on(|ring| {
            if look(ring)? {
                return Ok(true);
            }
            ring.ask(true);
            look(ring)
        })
    }
}

impl<P: Platform> ByteStream for Stream<P> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        loop {
            let count = self.take(into)?;
            let Some(resync) = &mut self.resync else {
                return Ok(count);
            };
            if count == 0 {
                return Ok(0);
            }
            match resync.filter(into, count) {
                Ok(0) => {}
                Ok(count) => {
                    self.resync = None;
                    return Ok(count);
                }
                Err(Violation(rule)) => return Err(self.fail(TransportError::Violation(rule))),
            }
        }
    }

    fn write(&mut self, from: &[u8]) -> Result<usize, TransportError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.on(|ring| Ok(ring.peer()))? == live::GONE {
            // What it wrote before can still be read.
            return Err(self.fail(TransportError::Lost(&"the other side has closed the vchan")));
        }
        self.on(|ring| ring.write(from))
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.on(|ring| Ok(ring.take_event_due()))?
            && let Some(link) = &self.link
            && link.channel.notify().is_err()
        {
            return Err(self.fail(TransportError::Lost(&"the event channel is closed")));
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.events.now()
    }

    /// Also runs what waits for other events of the domain, and [looks after](Self::check) the other side.
    fn wait(&mut self, write: bool, deadline: Instant) -> Result<(), TransportError> {
        match self.ask(write) {
            true => {
                self.events.dispatch();
            }
            false => self.events.wait(self.seen, deadline.min(self.next_check)),
        }
        self.seen = self.events.generation();
        self.check()
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
