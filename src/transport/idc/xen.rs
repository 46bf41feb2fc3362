//! Endpoints between two domains of one machine: vchans carry the frames, and Xen copies the buffers.

use alloc::string::String;
use core::num::NonZeroUsize;
use core::ops::Range;
use core::time::Duration;

use super::bulk::{Bulk, LocalBuffer, Way, range};
use super::endpoint::Connector;
use super::event::BufferError;
use crate::hypercall::DomId;
use crate::platform::{PAGE_SIZE, Platform};
use crate::time::Instant;
use crate::transport::TransportError;
use crate::transport::vchan::{self, Listener, Orders, Stream, VchanError};
use crate::xen::Xen;
use crate::xen::event::Generation;
use crate::xen::grant::{GrantRef, Grants, Lent, OwnPages, Remote, Retired};

/// How often a domain that has published no vchan is looked at again.
const DIAL_INTERVAL: Duration = Duration::from_millis(200);

/// The end that connects to what another domain has published.
pub struct Dialer<P: Platform> {
    xen: Xen<P>,
    server: DomId,
    name: String,
    next: Instant,
}

impl<P: Platform> Dialer<P> {
    /// Connects to `vchan!SERVER!NAME`.
    pub fn new(xen: &Xen<P>, server: DomId, name: &str) -> Self {
        Dialer {
            xen: xen.clone(),
            server,
            name: name.into(),
            next: xen.events.now(),
        }
    }
}

impl<P: Platform> core::fmt::Debug for Dialer<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Dialer(vchan!{}!{})", self.server, self.name)
    }
}

/// What either end does with its stream.
fn tend<P: Platform>(stream: &mut Stream<P>, write: bool) -> Result<bool, TransportError> {
    stream.check()?;
    Ok(stream.ask(write))
}

impl<P: Platform> Connector for Dialer<P> {
    type Stream = Stream<P>;
    type Error = VchanError;

    /// Waits for xenstore.
    fn connect(&mut self) -> Result<Option<Stream<P>>, VchanError> {
        let now = self.now();
        if now < self.next {
            return Ok(None);
        }
        self.next = now + DIAL_INTERVAL;
        vchan::connect_new(&self.xen, self.server, &self.name).map(Some)
    }

    fn now(&self) -> Instant {
        self.xen.events.now()
    }

    fn next_check(&self) -> Instant {
        self.next
    }

    fn wait(&mut self, deadline: Instant) {
        self.xen.events.sleep_until(deadline);
    }

    fn tend(stream: &mut Stream<P>, write: bool) -> Result<bool, TransportError> {
        tend(stream, write)
    }

    fn next_tend(stream: &Stream<P>) -> Instant {
        stream.next_check()
    }
}

/// The end that publishes a vchan for another domain.
#[derive(Debug)]
pub struct Publisher<P: Platform> {
    xen: Xen<P>,
    listener: Listener<P>,
    seen: Generation,
}

impl<P: Platform> Publisher<P> {
    /// Publishes `vchan!THIS!NAME` for `client`.
    ///
    /// # Errors
    /// A name that is none; [`VchanError::Own`].
    pub fn new(
        xen: &Xen<P>,
        client: DomId,
        name: &str,
        orders: Orders,
    ) -> Result<Self, VchanError> {
        Ok(Publisher {
            listener: Listener::new(xen, client, name, orders)?,
            seen: xen.events.generation(),
            xen: xen.clone(),
        })
    }
}

impl<P: Platform> Connector for Publisher<P> {
    type Stream = Stream<P>;
    type Error = VchanError;

    fn connect(&mut self) -> Result<Option<Stream<P>>, VchanError> {
        self.seen = self.xen.events.generation();
        self.listener.accept()
    }

    fn now(&self) -> Instant {
        self.xen.events.now()
    }

    fn next_check(&self) -> Instant {
        self.listener.next_check()
    }

    fn wait(&mut self, deadline: Instant) {
        self.xen.events.wait(self.seen, deadline);
    }

    fn tend(stream: &mut Stream<P>, write: bool) -> Result<bool, TransportError> {
        tend(stream, write)
    }

    fn next_tend(stream: &Stream<P>) -> Instant {
        stream.next_check()
    }
}

impl<P: Platform> LocalBuffer for OwnPages<P> {
    fn size(&self) -> usize {
        OwnPages::size(self)
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), BufferError> {
        let end = range(offset, into.len())?.end;
        if end > self.size() {
            return Err(BufferError::OutOfBounds);
        }
        self.memory().copy_out(offset, into);
        Ok(())
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<(), BufferError> {
        let end = range(offset, from.len())?.end;
        if end > self.size() {
            return Err(BufferError::OutOfBounds);
        }
        self.memory().copy_in(offset, from);
        Ok(())
    }
}

/// Xen copies the bytes of buffers between this domain and one other: no byte of them goes through a ring, and no page is
/// mapped.
#[derive(Debug)]
pub struct ByGrants<P: Platform> {
    grants: Grants<P>,
    other: DomId,
}

impl<P: Platform> Clone for ByGrants<P> {
    fn clone(&self) -> Self {
        ByGrants {
            grants: self.grants.clone(),
            other: self.other,
        }
    }
}

impl<P: Platform> ByGrants<P> {
    /// Copies between this domain and the one at the other side of the stream.
    pub fn new(grants: &Grants<P>, other: DomId) -> Self {
        ByGrants {
            grants: grants.clone(),
            other,
        }
    }

    /// A zeroed buffer of at least `size` bytes, that is of whole pages.
    ///
    /// # Errors
    /// [`BufferError::Grant`].
    pub fn buffer(&self, size: usize) -> Result<OwnPages<P>, BufferError> {
        let pages = NonZeroUsize::new(size.div_ceil(PAGE_SIZE)).unwrap_or(NonZeroUsize::MIN);
        self.grants.own_pages(pages).map_err(BufferError::Grant)
    }
}

impl<P: Platform> Bulk for ByGrants<P> {
    type Buffer = OwnPages<P>;
    type Lent = Lent<P>;
    type Retired = Retired<P>;

    const GRANTS: bool = true;

    fn lend(&mut self, buffer: &OwnPages<P>) -> Result<Lent<P>, BufferError> {
        if buffer.is_held() {
            return Err(BufferError::Held);
        }
        buffer.lend(self.other).map_err(BufferError::Grant)
    }

    fn refs(lent: &Lent<P>) -> &[GrantRef] {
        lent.refs()
    }

    fn end(&mut self, lent: Lent<P>) -> Retired<P> {
        lent.end()
    }

    fn forgotten(&mut self, retired: Retired<P>) {
        retired.forgotten();
    }

    fn copy(
        &mut self,
        way: Way,
        refs: &[GrantRef],
        offset: usize,
        buffer: &OwnPages<P>,
        range: Range<usize>,
    ) -> Option<Result<(), BufferError>> {
        let domain = self.other;
        let remote = Remote {
            domain,
            refs,
            offset,
        };
        let copied = match way {
            Way::Send => buffer.copy_to(range, remote),
            Way::Receive => buffer.copy_from(range, remote),
        };
        Some(copied.map_err(BufferError::Copy))
    }
}
