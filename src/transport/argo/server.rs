//! The server's end: a ring, and who sends to it.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;
use core::fmt;

use super::client::own;
use super::error::DialError;
use super::stream::{CHECK_INTERVAL, Side, Stream};
use super::{MESSAGE, ring_size};
use crate::hypercall::{DomId, XenError};
use crate::platform::Platform;
use crate::time::Instant;
use crate::transport::export::Listen;
use crate::xen::argo::{Argo, ArgoError, Ring, Violation};

/// Has a ring at a port for one other domain. A message from a port of the client's that has no connection begins one.
///
/// One connection at a time: that of the port that spoke last.
pub struct Listener<P: Platform> {
    argo: Argo<P>,
    client: DomId,
    port: u32,
    name: String,
    max_message: u32,
    ring: Option<Rc<RefCell<Ring<P>>>>,
    next_check: Instant,
}

impl<P: Platform> fmt::Debug for Listener<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("client", &self.client)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl<P: Platform> Listener<P> {
    /// A ring for `client` at `port`, for 9P messages of at most `max_message` bytes. It is registered by the first
    /// [`accept`](Listen::accept), once there is such a domain.
    ///
    /// # Errors
    /// [`DialError::Own`].
    pub fn new(
        argo: &Argo<P>,
        client: DomId,
        port: u32,
        max_message: u32,
    ) -> Result<Self, DialError> {
        if own(argo)? == client {
            return Err(DialError::Own);
        }
        Ok(Listener {
            client,
            port,
            name: format!("argo!{client}!{port}"),
            max_message,
            ring: None,
            next_check: argo.xen().events.now(),
            argo: argo.clone(),
        })
    }

    /// Whether a connection uses the ring.
    fn is_busy(&self) -> bool {
        let ring = self.ring.as_ref();
        ring.is_some_and(|ring| Rc::strong_count(ring) > 1)
    }

    /// The ring; `None`: there is no such domain yet.
    fn register(&self) -> Result<Option<Ring<P>>, DialError> {
        match self
            .argo
            .register(self.port, self.client, ring_size(self.max_message))
        {
            Ok(ring) => Ok(Some(ring)),
            Err(ArgoError::Xen(XenError::ESRCH | XenError::ECONNREFUSED)) => Ok(None),
            Err(ArgoError::Xen(XenError::EEXIST)) => Err(DialError::Taken(self.port)),
            Err(error) => Err(DialError::Argo(error)),
        }
    }
}

impl<P: Platform> Listen for Listener<P> {
    type Stream = Stream<P>;
    type Error = DialError;

    fn client(&self) -> DomId {
        self.client
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn accept(&mut self) -> Result<Option<Stream<P>>, DialError> {
        if self.is_busy() {
            return Ok(None);
        }
        let events = &self.argo.xen().events;
        let now = events.now();
        let is_due = now >= self.next_check;
        if is_due {
            self.next_check = now + CHECK_INTERVAL;
        }
        let is_gone = |ring: &Rc<RefCell<Ring<P>>>| {
            // With its client Xen has taken the ring away, and says nothing.
            ring.borrow().is_stale() || (is_due && !events.is_domain(self.client))
        };
        if self.ring.as_ref().is_some_and(is_gone) {
            self.ring = None;
        }
        if self.ring.is_none() {
            if !is_due {
                return Ok(None);
            }
            self.ring = self.register()?.map(|ring| Rc::new(RefCell::new(ring)));
        }
        let Some(ring) = &self.ring else {
            return Ok(None);
        };
        loop {
            let next = ring.borrow_mut().peek();
            match next {
                Ok(None) => return Ok(None),
                Ok(Some(message)) if message.kind == MESSAGE => {
                    let (port, peer) = (message.source.port, message.source);
                    log::info!("{}: port {port} has connected", self.name);
                    let ring = Rc::clone(ring);
                    let max = self.max_message;
                    let stream = Stream::new(&self.argo, ring, peer, Side::Server, max);
                    return Ok(Some(stream));
                }
                // The end of a connection that is over.
                Ok(Some(_)) => {
                    if ring.borrow_mut().consume(self.max_message) {
                        self.argo.wake_senders().map_err(DialError::Xen)?;
                    }
                }
                Err(Violation(rule)) => {
                    // The next one gets another.
                    self.ring = None;
                    return Err(DialError::BadRing(rule));
                }
            }
        }
    }

    fn next_check(&self) -> Instant {
        self.next_check
    }
}
