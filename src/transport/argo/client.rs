//! The client's end.

use alloc::rc::Rc;
use core::cell::RefCell;
use core::time::Duration;

use super::error::DialError;
use super::ring_size;
use super::stream::{Side, Stream};
use crate::hypercall::{DomId, XenError};
use crate::platform::Platform;
use crate::xen::argo::{Address, Argo, ArgoError, Ring};

/// How often it is looked for a ring that was not there: Xen tells no one that one has come.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// How long [`connect`] waits for a server unless it is told otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Ports that are tried.
const ATTEMPTS: u32 = 16;

/// The smallest message that a ring has to take.
const MIN_MESSAGE: u32 = 4096;

/// The number of this domain.
pub(super) fn own<P: Platform>(argo: &Argo<P>) -> Result<DomId, DialError> {
    let number = argo.xen().store.read_number("domid");
    let number = number.map_err(DialError::Store)?;
    u16::try_from(number)
        .map(DomId)
        .map_err(|_| DialError::Xen(XenError::EINVAL))
}

/// Connects to what `server` serves to this domain at `port`, for 9P messages of at most `max_message` bytes. Waits up to
/// `timeout` for the server's ring to be there. The server hears of it with the first message.
///
/// # Errors
/// See [`DialError`].
pub fn connect<P: Platform>(
    argo: &Argo<P>,
    server: DomId,
    port: u32,
    max_message: u32,
    timeout: Duration,
) -> Result<Stream<P>, DialError> {
    if own(argo)? == server {
        return Err(DialError::Own);
    }
    let events = &argo.xen().events;
    let deadline = events.now() + timeout;
    let peer = Address {
        domain: server,
        port,
    };
    let found = loop {
        match argo.query(peer).map_err(DialError::Xen)? {
            Some(found) => break found,
            None if events.now() >= deadline => return Err(DialError::NotThere(timeout)),
            None => events.sleep_until(deadline.min(events.now() + RETRY_INTERVAL)),
        }
    };
    // One that is on its way and one that is being taken in have room together.
    let most = (found.max_message / 2).min(max_message);
    if most < MIN_MESSAGE {
        return Err(DialError::Small(found.max_message));
    }
    let ring = register(argo, server, most)?;
    log::info!("argo!{server}!{port}: connects from port {}", ring.port());
    let ring = Rc::new(RefCell::new(ring));
    Ok(Stream::new(argo, ring, peer, Side::Client, most))
}

/// A ring at a port of which the server does not know yet, as far as one can tell: another number each time.
fn register<P: Platform>(
    argo: &Argo<P>,
    server: DomId,
    max_message: u32,
) -> Result<Ring<P>, DialError> {
    // The upper half of the numbers: servers have small ones.
    let start = (argo.xen().events.now().as_nanos() >> 10) as u32 | 1 << 31;
    for attempt in 0..ATTEMPTS {
        let port = start.wrapping_add(attempt) | 1 << 31;
        match argo.register(port, server, ring_size(max_message)) {
            Err(ArgoError::Xen(XenError::EEXIST)) => {}
            Err(ArgoError::Xen(XenError::ESRCH | XenError::ECONNREFUSED)) => {
                return Err(DialError::NoDomain(server));
            }
            done => return done.map_err(DialError::Argo),
        }
    }
    Err(DialError::Taken(start))
}
