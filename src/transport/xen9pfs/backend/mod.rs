//! The other half: this domain serves the 9pfs devices of others.
//!
//! The toolstack makes a device whose backend is this domain, such as xl with `p9=["tag=…,path=…,backend=NAME"]`; a
//! [`Backend`] finds it in xenstore, maps the rings of its frontend, and serves a tree. Linux, Unikraft and a [frontend of
//! ours](super::connect()) may be at the other end.
//!
//! # What a frontend can do
//! It can write to the rings, and to its nodes, at any moment. Orders, references and indices are read once, into locals that
//! are judged; our own indices are private. A lie ends that connection, and no other. What a frontend can have of this
//! domain's memory is bounded by [`Limits`] and by [`Rings`].
//!
//! # How a dead frontend shows
//! A domain that is destroyed sends no event. Its end of the event channels is gone, though, at which the backend looks once a
//! second, and xenstore tells that its nodes are gone. Its pages are unmapped then: until they are it can't be freed.
//!
//! # Example
//! ```
//! use xen9p::ns::MemTree;
//! use xen9p::platform::Platform;
//! use xen9p::server::{Exports, Limits, Rights};
//! use xen9p::transport::xen9pfs::backend::{Backend, Request, Rings};
//! use xen9p::xen::Xen;
//! use xen9p::xen::store::StoreError;
//!
//! /// Serves `path=/motd` from memory, and nothing else.
//! fn serve<P: Platform>(xen: &Xen<P>, tree: &MemTree) -> Result<(), StoreError> {
//!     let root = tree.root();
//!     let policy = move |request: &Request| {
//!         match request.path.as_str() {
//!             "/motd" => Ok(Exports::new(root.clone(), Rights::ReadOnly)),
//!             other => Err(format!("there is no {other}")),
//!         }
//!     };
//!     let mut backend = Backend::new(xen, Rings::default(), Limits::default(), policy, None)?;
//!     loop {
//!         let seen = xen.events.generation();
//!         backend.poll();
//!         xen.events.wait(seen, backend.next_check());
//!     }
//! }
//! ```

mod connection;
mod device;
mod nodes;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::task::{Context, Waker};
use core::time::Duration;

use self::connection::{Broken, Close, Connection};
use self::device::Device;
use self::nodes::Key;
use crate::hypercall::DomId;
use crate::platform::Platform;
use crate::server::{Limits, Policy};
use crate::time::Instant;
use crate::xen::Xen;
use crate::xen::store::{StoreError, Watch, WatchEvent};
use crate::xen::xenbus::backend::Offer;

/// How often frontends are looked at while nothing happens: a domain that dies says nothing.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What a frontend is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    count: u32,
    order: u32,
}

impl Rings {
    /// At most `count` rings of 2^`order` pages each, half of them for each direction. Linux takes two rings, and nothing
    /// less.
    ///
    /// `None`: there are no such rings. It is from 1 to 8, and of orders from 1 to 9.
    pub const fn new(count: u32, order: u32) -> Option<Rings> {
        match (count, order) {
            (1..=8, 1..=9) => Some(Rings { count, order }),
            _ => None,
        }
    }

    /// How many.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// Their order.
    pub const fn order(self) -> u32 {
        self.order
    }
}

impl Default for Rings {
    /// Four rings of order 6, through which messages of 128 KiB go.
    fn default() -> Self {
        Rings { count: 4, order: 6 }
    }
}

/// A device that the toolstack has made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The domain that has the frontend.
    pub domain: DomId,
    /// What the toolstack was told to share, `path=` for xl: free text.
    pub path: String,
}

/// What is known of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo<'b> {
    /// Whose it is, and what it is to have.
    pub request: &'b Request,
    /// Whether its frontend is connected.
    pub is_connected: bool,
    /// Why its frontend was not served, the last time that it was not.
    pub error: Option<&'b str>,
}

/// What makes a connection, with the trees that its frontend gets.
type Connect<P> = Box<dyn Fn(&Xen<P>, &Request, &Offer) -> Result<Connection<P>, Refused>>;

/// Why a frontend is not connected.
enum Refused {
    /// By the policy, for this reason.
    Policy(String),
    Broken(Broken),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Policy(why) => f.write_str(why),
            Refused::Broken(broken) => broken.fmt(f),
        }
    }
}

/// Serves the 9pfs devices whose backend is this domain, whenever it is [polled](Self::poll).
///
/// The trees may wait for something, even for another domain: nothing blocks here but xenstore, when a device comes or
/// goes or changes its state. A request that waits keeps none of those behind it from being served; as many as
/// [`Limits::requests`] may, and what goes beyond is refused with EAGAIN.
pub struct Backend<P: Platform> {
    xen: Xen<P>,
    rings: Rings,
    connect: Connect<P>,
    watch: Watch<P>,
    /// In the order of their keys.
    devices: Vec<Device<P>>,
    /// Sessions that are over and still have something to do.
    closing: Vec<Close>,
    next_check: Instant,
    /// It is being polled, further down the stack.
    polled: bool,
}

impl<P: Platform> fmt::Debug for Backend<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("rings", &self.rings)
            .field("devices", &self.devices.len())
            .finish_non_exhaustive()
    }
}

impl<P: Platform> Backend<P> {
    /// Serves each frontend what `policy` gives for its device; where that is an error, the text says why not, and the
    /// device is closed. `on_event` is called at each event of a frontend, wherever the domain waits; it must not own
    /// the backend.
    ///
    /// # Errors
    /// Xenstore does not let this domain watch its own directory.
    pub fn new<Q: Policy + 'static>(
        xen: &Xen<P>,
        rings: Rings,
        limits: Limits,
        policy: impl Fn(&Request) -> Result<Q, String> + 'static,
        on_event: Option<Rc<dyn Fn()>>,
    ) -> Result<Self, StoreError> {
        let connect = move |xen: &Xen<P>, request: &Request, offer: &Offer| {
            let policy = policy(request).map_err(Refused::Policy)?;
            let connection = Connection::new(
                xen,
                request.domain,
                offer,
                rings.order,
                policy,
                limits.clone(),
                on_event.as_ref(),
            );
            connection.map_err(Refused::Broken)
        };
        Ok(Backend {
            watch: xen.store.watch(nodes::DIRECTORY)?,
            xen: xen.clone(),
            rings,
            connect: Box::new(connect),
            devices: Vec::new(),
            closing: Vec::new(),
            next_check: xen.events.now(),
            polled: false,
        })
    }

    /// How many frontends are connected.
    pub fn connections(&self) -> usize {
        let devices = self.devices.iter();
        devices.filter(|device| device.is_connected()).count()
    }

    /// How many devices there are.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// The devices.
    pub fn each(&self) -> impl Iterator<Item = DeviceInfo<'_>> {
        self.devices.iter().filter_map(Device::info)
    }

    /// Ends the connections of these devices, at the next [poll](Self::poll). Their frontends may come again, and are asked about
    /// again.
    pub fn disconnect(&mut self, which: impl Fn(&Request) -> bool) {
        for device in &mut self.devices {
            if device.info().is_some_and(|info| which(info.request)) {
                device.disconnect();
            }
        }
    }

    /// When to [poll](Self::poll) even if no event comes before.
    pub fn next_check(&self) -> Instant {
        self.next_check
    }

    /// Does what there is to do: finds devices, takes requests and sends replies, and looks after frontends that may have died.
    /// To be called after each event of the domain, and at [`next_check`](Self::next_check). Returns at once when it is
    /// called by what it does itself.
    pub fn poll(&mut self) {
        if core::mem::replace(&mut self.polled, true) {
            return;
        }
        self.find();
        let now = self.xen.events.now();
        let looks = now >= self.next_check;
        let mut next = if looks || self.devices.is_empty() {
            now + CHECK_INTERVAL
        } else {
            self.next_check
        };
        self.devices.retain_mut(|device| {
            if looks {
                device.check();
            }
            let turn = device.turn(&self.xen, self.rings, &self.connect);
            self.closing.extend(turn.closed);
            next = next.min(turn.again);
            !turn.gone
        });
        let mut cx = Context::from_waker(Waker::noop());
        self.closing
            .retain_mut(|close| close.as_mut().poll(&mut cx).is_pending());
        self.next_check = next;
        self.polled = false;
    }

    /// Finds devices that are new, and those whose nodes may have changed.
    fn find(&mut self) {
        // Where xenstore fails, frontends are served all the same.
        let events = self.watch.take_all().unwrap_or_default();
        let mut all = false;
        for event in events {
            let key = match &event {
                WatchEvent::Changed(path) => Key::from_path(path),
                WatchEvent::Overflow => None,
            };
            match key.map(|key| self.place(key)) {
                Some(Ok(place)) => self.devices[place].changed(),
                _ => all = true,
            }
        }
        if !all {
            return;
        }
        for device in &mut self.devices {
            device.changed();
        }
        match nodes::devices(&self.xen.store) {
            Ok(keys) => {
                for key in keys {
                    if let Err(place) = self.place(key) {
                        self.devices.insert(place, Device::new(key));
                    }
                }
            }
            Err(error) => log::warn!("9pfs backend: {error}"),
        }
    }

    /// Where the device with this key is, or would be.
    fn place(&self, key: Key) -> Result<usize, usize> {
        self.devices
            .binary_search_by_key(&key, |device| device.key())
    }
}

impl<P: Platform> Drop for Backend<P> {
    fn drop(&mut self) {
        for device in &mut self.devices {
            device.leave(&self.xen);
        }
    }
}
