//! The server's end: what it publishes, and who comes.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroUsize;

use super::address::path;
use super::error::VchanError;
use super::layout::{Orders, live};
use super::ring::{Memory, Ring};
use super::stream::{CHECK_INTERVAL, Link, Owner, Stream};
use crate::hypercall::DomId;
use crate::hypercall::event_channel::Status;
use crate::platform::Platform;
use crate::time::Instant;
use crate::transport::export::Listen;
use crate::xen::Xen;
use crate::xen::event::EventChannel;
use crate::xen::grant::SharedPages;
use crate::xen::shared::SharedMemory;
use crate::xen::store::{Access, Permission, StoreError, XenStore};

/// What tells the client where the vchan is. Dropping it removes the nodes.
pub(super) struct Published<P: Platform> {
    store: XenStore<P>,
    nodes: [String; 2],
    /// Lives as long as the vchan does.
    _busy: Rc<()>,
}

impl<P: Platform> Drop for Published<P> {
    fn drop(&mut self) {
        for node in &self.nodes {
            // A server that is being removed finds them gone.
            let _ = self.store.rm(node);
        }
    }
}

/// A vchan that waits for its client.
struct Offer<P: Platform> {
    ring: Ring,
    channel: EventChannel<P>,
    /// Whether a client was bound to the port.
    met: bool,
    owner: Owner<P>,
}

/// Publishes a vchan for one other domain, and another one each time its client has gone: memory, grants, port and nodes
/// are new for each connection, so that nothing of an earlier one reaches a later.
///
/// One client at a time. Its end is a [`Stream`]; while that exists nothing else is published.
pub struct Listener<P: Platform> {
    xen: Xen<P>,
    client: DomId,
    path: String,
    orders: Orders,
    offer: Option<Offer<P>>,
    busy: Rc<()>,
    /// Called at each event of the client.
    handler: Option<Rc<dyn Fn()>>,
    /// When what can't be published now is tried again, or the port of what is published looked at.
    next_check: Instant,
}

impl<P: Platform> fmt::Debug for Listener<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("client", &self.client)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<P: Platform> Listener<P> {
    /// A vchan of this name for `client`, with rings of these orders. Nothing is published before the first
    /// [`accept`](Self::accept).
    ///
    /// # Errors
    /// A name that is none; [`VchanError::Own`].
    pub fn new(
        xen: &Xen<P>,
        client: DomId,
        name: &str,
        orders: Orders,
    ) -> Result<Self, VchanError> {
        let own = xen.store.read_number("domid")?;
        let own = u16::try_from(own).map_err(|_| VchanError::BadNode("domid"))?;
        if DomId(own) == client {
            return Err(VchanError::Own);
        }
        Ok(Listener {
            path: path(DomId(own), client, name)?,
            xen: xen.clone(),
            client,
            orders,
            offer: None,
            busy: Rc::new(()),
            handler: None,
            next_check: xen.events.now(),
        })
    }

    /// Has `handler` called at each event of a client that comes from now on, wherever the domain waits. It must not own
    /// the listener.
    pub fn on_event(&mut self, handler: Rc<dyn Fn()>) {
        self.handler = Some(handler);
    }

    /// The domain that may connect.
    pub fn client(&self) -> DomId {
        self.client
    }

    /// The directory in xenstore.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// When [`accept`](Self::accept) has something to do again even if no event comes before.
    pub fn next_check(&self) -> Instant {
        self.next_check
    }

    /// The connection of a client that has come. Publishes a vchan if there is none, which waits for xenstore; does not wait
    /// for the client: look again after an event, and at [`next_check`](Self::next_check).
    ///
    /// # Errors
    /// See [`VchanError`]; the next call tries again.
    pub fn accept(&mut self) -> Result<Option<Stream<P>>, VchanError> {
        let now = self.xen.events.now();
        if Rc::strong_count(&self.busy) > 1 + usize::from(self.offer.is_some()) {
            self.next_check = now + CHECK_INTERVAL;
            return Ok(None);
        }
        if self.offer.as_ref().is_some_and(Offer::is_stale) {
            self.offer = None;
        }
        if self.offer.is_none() {
            self.next_check = now + CHECK_INTERVAL;
            match self.publish() {
                Ok(offer) => self.offer = Some(offer),
                // It may be started yet.
                Err(VchanError::NoDomain(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let Some(offer) = &mut self.offer else {
            return Ok(None);
        };
        if offer.ring.peer() != live::HERE {
            if now >= self.next_check {
                self.next_check = now + CHECK_INTERVAL;
                if offer.was_left(self.client) {
                    // It may have written anything to the page: the next one gets another.
                    self.offer = None;
                    self.next_check = now;
                }
            }
            return Ok(None);
        }
        let Ok(Status::Interdomain(domain, port)) = offer.channel.status() else {
            // It has come, and died.
            self.offer = None;
            self.next_check = now;
            return Ok(None);
        };
        debug_assert_eq!(domain, self.client, "Xen lets no other domain bind");
        let Some(Offer {
            ring,
            channel,
            owner,
            ..
        }) = self.offer.take()
        else {
            return Ok(None);
        };
        log::info!("vchan {}: domain {} has connected", self.path, self.client);
        let link = Link {
            ring,
            channel,
            other_port: port,
            node: None,
            owner,
        };
        self.next_check = now + CHECK_INTERVAL;
        Ok(Some(Stream::new(&self.xen.events, self.client, link, None)))
    }

    fn publish(&self) -> Result<Offer<P>, VchanError> {
        let Xen {
            events,
            grants,
            store,
            ..
        } = &self.xen;
        // Xenstore ignores what is permitted to a domain that does not exist, also when it exists later.
        if !events.is_domain(self.client) {
            return Err(VchanError::NoDomain(self.client));
        }
        let share = |pages| grants.share(pages, self.client).map_err(VchanError::Memory);
        let channel = events
            .alloc_unbound(self.client)
            .map_err(VchanError::NoPort)?;
        if let Some(handler) = &self.handler {
            let handler = Rc::clone(handler);
            channel.on_event(move || handler());
        }
        let page = share(NonZeroUsize::MIN)?;
        let rings = NonZeroUsize::new(self.orders.pages())
            .map(share)
            .transpose()?;
        // SAFETY: shared pages stay mapped as long as their handles live, and those live in one place with the ring, which
        // is dropped before them and alone uses them.
        let memory = |pages: &SharedPages<P>| unsafe {
            SharedMemory::<'static>::new(pages.as_ptr(), pages.size())
        };
        let refs = rings.as_ref().map_or(&[][..], |rings| rings.refs());
        let ring_pages = rings.as_ref().map_or(memory(&page).subslice(0, 0), memory);
        let ring = Memory::new(memory(&page), self.orders, ring_pages).serve(refs);
        let reference = page.refs().first().map_or(0, |reference| reference.0);
        let nodes = ["ring-ref", "event-channel"].map(|name| format!("{}/{name}", self.path));
        let published = Published {
            store: store.clone(),
            nodes,
            _busy: Rc::clone(&self.busy),
        };
        self.write(&published.nodes, [reference, channel.port().0])?;
        log::debug!("vchan {}: published for domain {}", self.path, self.client);
        Ok(Offer {
            ring,
            channel,
            met: false,
            owner: Owner {
                _published: Some(published),
                mapped: Vec::new(),
                _shared: rings.into_iter().chain([page]).collect(),
            },
        })
    }

    /// Writes both nodes at once, for the client alone to read.
    fn write(&self, nodes: &[String; 2], values: [u32; 2]) -> Result<(), VchanError> {
        let own = self.xen.store.read_number("domid")?;
        let entry = |domain, access| Permission { domain, access };
        let own = DomId(u16::try_from(own).map_err(|_| VchanError::BadNode("domid"))?);
        let permissions = [entry(own, Access::None), entry(self.client, Access::Read)];
        let written = self.xen.store.transaction(|transaction| {
            for (node, value) in nodes.iter().zip(values) {
                transaction.write(node, format!("{value}").as_bytes())?;
                transaction.set_permissions(node, &permissions)?;
            }
            Ok::<_, StoreError>(())
        });
        written.map_err(VchanError::Store)
    }
}

impl<P: Platform> Listen for Listener<P> {
    type Stream = Stream<P>;
    type Error = VchanError;

    fn client(&self) -> DomId {
        self.client
    }

    fn name(&self) -> &str {
        &self.path
    }

    fn accept(&mut self) -> Result<Option<Stream<P>>, VchanError> {
        Listener::accept(self)
    }

    fn next_check(&self) -> Instant {
        self.next_check
    }
}

impl<P: Platform> Offer<P> {
    /// Whether the domain was resumed elsewhere since: no number of it means anything.
    fn is_stale(&self) -> bool {
        self.channel.is_stale()
    }

    /// Whether a client was bound to the port, and is no more.
    fn was_left(&mut self, client: DomId) -> bool {
        match self.channel.status() {
            Ok(Status::Interdomain(..)) => {
                self.met = true;
                false
            }
            Ok(Status::Unbound(domain)) if domain == client => {
                self.met || self.ring.peer() == live::GONE
            }
            _ => true,
        }
    }
}
