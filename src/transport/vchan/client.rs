//! The client's end: from two nodes in xenstore to a stream.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::address::path;
use super::error::VchanError;
use super::layout::Orders;
use super::resync::Resync;
use super::ring::{self, Memory, Violation};
use super::stream::{Link, Node, Owner, Stream};
use crate::hypercall::DomId;
use crate::platform::Platform;
use crate::xen::Xen;
use crate::xen::event::Port;
use crate::xen::grant::{GrantRef, MappedPages};
use crate::xen::shared::SharedMemory;
use crate::xen::store::{self, Refusal, StoreError, Watch};

/// How often a server that was found unusable is looked at again, if xenstore says nothing of it.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// How long the page says that no client is there before the next one comes. A server that looks at it meanwhile knows
/// that its client is another.
const ABSENCE_INTERVAL: Duration = Duration::from_millis(150);

/// How long [`connect`] waits for a server unless it is told otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What a server has published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    page: GrantRef,
    port: Port,
}

/// Connects to the vchan with this name that `server` has published for this domain. Waits for it, and for a server that
/// is just done with another client, up to `timeout`.
///
/// Between two of our own no domain but these takes part; xenstore carries two numbers from one to the other.
///
/// # Errors
/// See [`VchanError`]; nothing is left mapped or open.
pub fn connect<P: Platform>(
    xen: &Xen<P>,
    server: DomId,
    name: &str,
    timeout: Duration,
) -> Result<Stream<P>, VchanError> {
    let dialing = connect_async(xen, server, name, timeout);
    xen.events.block_on(dialing)
}

/// [`connect`], which [pauses](crate::xen::event::Events::pause) while the server takes its time. It waits for xenstore.
///
/// # Errors
/// As [`connect`].
pub async fn connect_async<P: Platform>(
    xen: &Xen<P>,
    server: DomId,
    name: &str,
    timeout: Duration,
) -> Result<Stream<P>, VchanError> {
    dial(xen, server, name, timeout, false).await
}

/// As [`connect`], without a wait, and only to what no client has used before, as servers of our own publish it for each one.
/// What is not 9P can't tell what an earlier client has left there.
///
/// # Errors
/// [`VchanError::Used`], and as [`connect`].
#[cfg(feature = "idc")]
pub(in crate::transport) fn connect_new<P: Platform>(
    xen: &Xen<P>,
    server: DomId,
    name: &str,
) -> Result<Stream<P>, VchanError> {
    let dialing = dial(xen, server, name, Duration::ZERO, true);
    xen.events.block_on(dialing)
}

async fn dial<P: Platform>(
    xen: &Xen<P>,
    server: DomId,
    name: &str,
    timeout: Duration,
    unused: bool,
) -> Result<Stream<P>, VchanError> {
    let own = xen.store.read_number("domid")?;
    if own == u32::from(server.0) {
        return Err(VchanError::Own);
    }
    let own = u16::try_from(own).map_err(|_| VchanError::BadNode("domid"))?;
    let dialer = Dialer {
        xen,
        server,
        path: path(server, DomId(own), name)?,
        timeout,
        unused,
    };
    dialer.dial().await
}

/// A link, the reference of its page, and what drops the rest of an earlier session.
type Made<P> = (Link<P>, GrantRef, Option<Resync>);

struct Dialer<'a, P: Platform> {
    xen: &'a Xen<P>,
    server: DomId,
    path: String,
    timeout: Duration,
    /// Connects only to what has had no client.
    unused: bool,
}

impl<P: Platform> Dialer<'_, P> {
    async fn dial(&self) -> Result<Stream<P>, VchanError> {
        let events = &self.xen.events;
        let deadline = events.now() + self.timeout;
        // Exactly this node: xenstored does not tell of its removal to who watches the directory.
        let watch = self.watch()?;
        loop {
            watch.take_all()?;
            let failed = match self.attempt().await {
                Ok(made) => return Ok(self.stream(made, watch)),
                Err(error) => error,
            };
            if !may_pass(&failed) || events.now() >= deadline {
                return Err(failed);
            }
            log::debug!("vchan {}: {failed}; looking again", self.path);
            let until = deadline.min(events.now() + RETRY_INTERVAL);
            while watch.take()?.is_none() && events.now() < until {
                events.pause(until).await;
            }
        }
    }

    fn watch(&self) -> Result<Watch<P>, VchanError> {
        Ok(self.xen.store.watch(&self.node("ring-ref"))?)
    }

    fn node(&self, name: &str) -> String {
        alloc::format!("{}/{name}", self.path)
    }

    /// What the server has published: both nodes as they were at one moment.
    fn find(&self) -> Result<Found, VchanError> {
        let nodes = self.xen.store.transaction(|transaction| {
            let read = |name| transaction.read(&self.node(name));
            Ok::<_, StoreError>((read("ring-ref")?, read("event-channel")?))
        });
        let (page, port) = match nodes {
            Ok(nodes) => nodes,
            // Xenstored says the one or the other of a node that is not there, by whose directory it would be in.
            Err(StoreError::Refused(Refusal::NotFound | Refusal::Access)) => {
                return Err(VchanError::NotPublished(self.timeout));
            }
            Err(error) => return Err(error.into()),
        };
        let number = |value: &[u8], name| {
            let number = store::parse_u32(value).ok().filter(|number| *number > 0);
            number.ok_or(VchanError::BadNode(name))
        };
        Ok(Found {
            page: GrantRef(number(&page, "ring-ref")?),
            port: Port(number(&port, "event-channel")?),
        })
    }

    /// Connects to what is published now.
    async fn attempt(&self) -> Result<Made<P>, VchanError> {
        let Xen { events, grants, .. } = self.xen;
        let found = self.find()?;
        let page = grants.map(self.server, &[found.page])?;
        // SAFETY: mapped pages stay mapped as long as their handles live, and those live in one place with the ring, which
        // is dropped before them and alone uses them.
        let shared = |pages: &MappedPages<P>| unsafe {
            SharedMemory::<'static>::new(pages.as_ptr(), pages.size())
        };
        let memory = shared(&page);
        let orders =
            ring::orders_of(memory).map_err(|(left, right)| VchanError::Orders(left, right))?;
        let rings = self.map_rings(memory, orders)?;
        let pages = rings.as_ref().map_or(memory.subslice(0, 0), shared);
        let memory = Memory::new(memory, orders, pages);
        // Nothing is written before it is known that a server is there.
        let used = ring::is_used(shared(&page));
        if used && self.unused {
            return Err(VchanError::Used);
        }
        let ring = memory
            .attach()
            .map_err(|Violation(rule)| VchanError::BadPage(rule))?;
        let mut ring = ring.ok_or(VchanError::Busy(self.timeout))?;
        let channel = events
            .bind_interdomain(self.server, found.port)
            .map_err(VchanError::Port)?;
        if used {
            let until = events.now() + ABSENCE_INTERVAL;
            while events.now() < until {
                events.pause(until).await;
            }
        }
        // The nodes were read in one transaction, but the server may have begun anew since.
        if self.find()? != found {
            return Err(VchanError::Changed);
        }
        ring.join();
        // Whatever the server has asked for: one that has had other clients has had its event.
        ring.take_event_due();
        channel.notify().map_err(VchanError::Port)?;
        let link = Link {
            ring,
            channel,
            other_port: found.port,
            node: None,
            owner: Owner {
                _published: None,
                mapped: rings.into_iter().chain([page]).collect(),
                _shared: Vec::new(),
            },
        };
        Ok((link, found.page, used.then(Resync::default)))
    }

    /// Maps the rings' pages, whose references are read once.
    fn map_rings(
        &self,
        page: SharedMemory<'_>,
        orders: Orders,
    ) -> Result<Option<MappedPages<P>>, VchanError> {
        let refs: Vec<GrantRef> = ring::refs_of(page, orders).collect();
        if refs.is_empty() {
            return Ok(None);
        }
        if refs.contains(&GrantRef(0)) {
            return Err(VchanError::BadPage("it lists the grant reference 0"));
        }
        Ok(Some(self.xen.grants.map(self.server, &refs)?))
    }

    fn stream(&self, made: Made<P>, watch: Watch<P>) -> Stream<P> {
        let (mut link, page, resync) = made;
        log::info!("vchan {}: connected to domain {}", self.path, self.server);
        link.node = Some(Node {
            watch,
            store: self.xen.store.clone(),
            value: page.0,
        });
        Stream::new(&self.xen.events, self.server, link, resync)
    }
}

/// Whether an attempt may succeed later: a server that is not there yet, or is busy with what was before.
fn may_pass(error: &VchanError) -> bool {
    matches!(
        error,
        VchanError::NotPublished(_)
            | VchanError::BadNode(_)
            | VchanError::Map(crate::xen::grant::MapError::Refused(..))
            | VchanError::Orders(..)
            | VchanError::BadPage(_)
            | VchanError::Port(_)
            | VchanError::Busy(_)
            | VchanError::Changed
    )
}
