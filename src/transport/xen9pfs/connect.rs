//! From a device in xenstore to rings that a backend serves.
//!
//! The states and nodes are those of docs/misc/9pfs.pandoc and xen/interface/io/9pfs.h.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use core::num::NonZeroUsize;
use core::time::Duration;

use super::config::Config;
use super::endpoint::{RingChannel, Xen9pfs};
use super::error::ConnectError;
use super::monitor::{ConnectionState, Monitor};
use super::ring::{Order, Ring};
use crate::platform::Platform;
use crate::xen::Xen;
use crate::xen::grant::GrantError;
use crate::xen::shared::SharedMemory;
use crate::xen::store::{self, StoreError, Values};
use crate::xen::xenbus::{self, BackendState, Device};

/// The node by which a backend says that it keeps a reply until there is room for it: "1". Of this project only. Without it a
/// frontend has to see to that room before it asks, or QEMU ends the connection.
pub(super) const HOLDS_REPLIES: &str = "feature-holds-replies";

/// How long each step of a disconnect may take.
pub(super) const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// All 9pfs devices of this domain, in the order of their numbers; [`Device::tag`] tells them apart.
///
/// # Errors
/// [`ConnectError::Store`]. A device whose nodes make no sense is left out.
pub fn devices<P: Platform>(xen: &Xen<P>) -> Result<Vec<Device<P>>, ConnectError> {
    Ok(xenbus::enumerate(&xen.store, "9pfs")?)
}

/// The 9pfs device with this tag, or the first one. Of several with one tag it is the one with the lowest number; a warning in
/// the log names the others.
///
/// # Errors
/// [`ConnectError::NoDevice`], [`ConnectError::NoSuchTag`], [`ConnectError::Store`].
pub fn device<P: Platform>(xen: &Xen<P>, tag: Option<&str>) -> Result<Device<P>, ConnectError> {
    let mut devices = devices(xen)?;
    let place = devices
        .iter()
        .position(|device| tag.is_none() || device.tag() == tag);
    let Some(place) = place else {
        return Err(none_of(&devices));
    };
    let taken = devices.remove(place);
    if let Some(tag) = tag {
        for other in devices.iter().filter(|other| other.tag() == Some(tag)) {
            log::warn!(
                "two 9pfs devices have the tag '{tag}': number {} is taken; number {} needs a tag of its own in the xl config",
                taken.id(),
                other.id()
            );
        }
    }
    Ok(taken)
}

/// That the device in question is none of these.
fn none_of<P: Platform>(devices: &[Device<P>]) -> ConnectError {
    if devices.is_empty() {
        return ConnectError::NoDevice;
    }
    let mut tags = String::new();
    for tag in devices.iter().filter_map(Device::tag) {
        if !tags.is_empty() {
            tags.push_str(", ");
        }
        tags.push_str(tag);
    }
    ConnectError::NoSuchTag(tags)
}

/// Connects: brings back a device that was left in some other state, agrees on rings, shares them
/// with the backend, and waits until it serves them. Blocks, but for no longer than
/// [`Config::timeout`] at each of these steps.
///
/// One connection per device at a time: a second one is refused until the first is closed. QEMU before version 10 dies
/// when a device is connected for a second time even then: a program keeps the connection that it has.
///
/// # Errors
/// See [`ConnectError`]; the device is left as closed as the backend lets it.
pub fn connect<P: Platform>(
    xen: &Xen<P>,
    device: Device<P>,
    config: &Config,
) -> Result<Xen9pfs<P>, ConnectError> {
    let events = xen.events.clone();
    events.block_on(connect_as(xen, device, config, Rc::default()))
}

/// [`connect()`], which [pauses](crate::xen::event::Events::pause) while the backend takes its time, and notes in `connection` how
/// the connection ends. A future that is dropped disconnects what it has offered, as dropping a connection does.
pub(super) async fn connect_as<P: Platform>(
    xen: &Xen<P>,
    device: Device<P>,
    config: &Config,
    connection: Rc<ConnectionState>,
) -> Result<Xen9pfs<P>, ConnectError> {
    let with_timeout = |error| match error {
        ConnectError::Waited { what, found, .. } => ConnectError::Waited {
            what,
            found,
            timeout: config.timeout,
        },
        error => error,
    };
    let claim = device.claim().ok_or(ConnectError::InUse)?;
    connection.claim.set(Some(claim));
    let (state, offer) = device.watch_offer(OFFER)?;
    device
        .reset_async(&state, config.timeout)
        .await
        .map_err(|error| with_timeout(error.into()))?;
    let offer = offer.unwrap_or_else(|| device.read_offer(OFFER));
    let (max_rings, max_order, holds_replies) = limits(offer)?;
    log::debug!(
        "9pfs {}: the backend offers {max_rings} rings of order {max_order}",
        name(&device)
    );
    let (rings, order) = config.geometry(max_rings, max_order);
    let (rings, order) = share(xen, &device, rings, order)?;
    log::debug!(
        "9pfs {}: {} rings of order {} are shared",
        name(&device),
        rings.len(),
        order.get()
    );
    let mut offer = Offer {
        device: &device,
        state: &state,
        rings,
    };
    if let Err(error) = announce(&device, &state, &offer.rings).await {
        // A backend that did not connect need not disconnect either: one error is enough.
        if !offer.is_stale()
            && let Err(error) = device.leave_async(&state, DISCONNECT_TIMEOUT).await
        {
            log::debug!("9pfs {}: not closed in good order: {error}", name(&device));
        }
        offer.rings.clear();
        return Err(with_timeout(error));
    }
    let rings = mem::take(&mut offer.rings);
    drop(offer);
    log::info!(
        "9pfs {}: {} rings of {} KiB each way, served by domain {}",
        name(&device),
        rings.len(),
        order.bytes() >> 10,
        device.backend_id().0
    );
    let channels = rings.iter().map(|ring| &ring.channel);
    let monitor = Monitor::new(device, state, connection, channels);
    Ok(Xen9pfs::new(xen, monitor, order, rings, holds_replies))
}

/// What a backend was told of, and has not accepted. Dropping it takes it back.
struct Offer<'a, P: Platform> {
    device: &'a Device<P>,
    state: &'a BackendState<P>,
    /// Empty once another is responsible for them.
    rings: Vec<RingChannel<P>>,
}

impl<P: Platform> Offer<'_, P> {
    /// Whether the domain was resumed elsewhere since: the device of this name is another one now.
    fn is_stale(&self) -> bool {
        self.rings.iter().any(|ring| ring.channel.is_stale())
    }
}

impl<P: Platform> Drop for Offer<'_, P> {
    fn drop(&mut self) {
        let is_stale = self.is_stale();
        let rings = mem::take(&mut self.rings);
        if !rings.is_empty() && !is_stale {
            leave(self.device, self.state, rings);
        }
    }
}

/// Disconnects in good order, without waiting for ever for the backend, and lets go of the rings.
/// What the backend does not let go of stays in quarantine.
pub(super) fn leave<P: Platform>(
    device: &Device<P>,
    state: &BackendState<P>,
    rings: Vec<RingChannel<P>>,
) {
    if let Err(error) = device.leave(state, DISCONNECT_TIMEOUT) {
        log::warn!("9pfs {}: not closed in good order: {error}", name(device));
    }
    drop(rings);
}

/// How a device is called in messages.
pub(super) fn name<P: Platform>(device: &Device<P>) -> &str {
    device.tag().unwrap_or(device.frontend())
}

/// What a backend says before it is connected to.
const OFFER: [&str; 4] = [
    "versions",
    "max-rings",
    "max-ring-page-order",
    HOLDS_REPLIES,
];

/// What the backend allows: number of rings, and page order; and whether it [holds replies](HOLDS_REPLIES).
fn limits(offer: Values<4>) -> Result<(u32, u32, bool), ConnectError> {
    let [versions, rings, order, holds_replies] = offer;
    let versions = versions.map_err(|error| xenbus::map_enoent(error, "versions"))?;
    if !versions
        .split(|&byte| byte == b',')
        .any(|version| version.trim_ascii() == b"1")
    {
        return Err(ConnectError::Version);
    }
    let at_least_1 = |value: Result<Vec<u8>, StoreError>, node| {
        let number = value.and_then(|value| store::parse_u32(&value));
        match number.map_err(|error| xenbus::map_enoent(error, node))? {
            0 => Err(ConnectError::NoRing(node)),
            number => Ok(number),
        }
    };
    let rings = at_least_1(rings, "max-rings")?;
    match at_least_1(order, "max-ring-page-order")? {
        order if order < Order::MIN.get().into() => Err(ConnectError::SmallRings),
        order => {
            let holds_replies = holds_replies.is_ok_and(|value| value == b"1");
            Ok((rings, order, holds_replies))
        }
    }
}

/// Makes the rings, or smaller and then fewer ones where memory or grants are short: one small ring is slow, but it
/// works.
fn share<P: Platform>(
    xen: &Xen<P>,
    device: &Device<P>,
    mut rings: u16,
    mut order: Order,
) -> Result<(Vec<RingChannel<P>>, Order), ConnectError> {
    loop {
        let error = match share_exactly(xen, device, rings, order) {
            Ok(rings) => return Ok((rings, order)),
            Err(error) => error,
        };
        let short = matches!(
            error,
            ConnectError::Memory(
                GrantError::NoMemory | GrantError::Limit(_) | GrantError::Table(_)
            )
        );
        match Order::new(order.get() - 1) {
            Some(smaller) if short => order = smaller,
            None if short && rings > 1 => rings /= 2,
            _ => return Err(error),
        }
        log::warn!(
            "9pfs {}: {error}; trying {rings} rings of order {}",
            name(device),
            order.get()
        );
    }
}

fn share_exactly<P: Platform>(
    xen: &Xen<P>,
    device: &Device<P>,
    rings: u16,
    order: Order,
) -> Result<Vec<RingChannel<P>>, ConnectError> {
    let share = |pages| {
        xen.grants
            .share(pages, device.backend_id())
            .map_err(ConnectError::Memory)
    };
    let mut made = Vec::new();
    for _ in 0..rings {
        let interface = share(NonZeroUsize::MIN)?;
        let data = share(order.pages())?;
        let channel = xen
            .events
            .alloc_unbound(device.backend_id())
            .map_err(ConnectError::Port)?;
        // SAFETY: shared pages stay mapped as long as their handles live, and those live in one place with the ring, which is
        // dropped before them and alone uses them.
        let [page, pages] = [&interface, &data]
            .map(|shared| unsafe { SharedMemory::<'static>::new(shared.as_ptr(), shared.size()) });
        let ring = Ring::new(page, pages, order, 0);
        for (index, grant_ref) in data.refs().iter().enumerate() {
            ring.set_grant_ref(index, *grant_ref);
        }
        made.push(RingChannel {
            ring,
            channel: Rc::new(channel),
            interface,
            _data: data,
        });
    }
    Ok(made)
}

/// Tells the backend of the rings and waits until it serves them.
async fn announce<P: Platform>(
    device: &Device<P>,
    state: &BackendState<P>,
    rings: &[RingChannel<P>],
) -> Result<(), ConnectError> {
    let mut nodes: Vec<(String, String)> = Vec::new();
    let mut add = |node: String, value: u32| nodes.push((node, format!("{value}")));
    add("version".into(), 1);
    add("num-rings".into(), rings.len() as u32);
    for (index, ring) in rings.iter().enumerate() {
        // One without a dash and one with: so it is.
        add(format!("ring-ref{index}"), ring.interface.refs()[0].0);
        add(format!("event-channel-{index}"), ring.channel.port().0);
    }
    let nodes: Vec<_> = nodes
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    log::debug!("9pfs {}: waiting for the backend to map them", name(device));
    Ok(device.establish_async(state, &nodes).await?)
}
