//! Following the devices of a domain while it runs.

use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, RefCell};
use core::fmt;

use super::config::Config;
use super::connect::{connect_as, name};
use super::endpoint::Xen9pfs;
use super::error::ConnectError;
use super::lifecycle::{Change, DeviceLifecycle, Stage};
use super::monitor::{CHECK_INTERVAL, ConnectionState, Monitor};
use crate::platform::Platform;
use crate::time::Instant;
use crate::transport::TransportError;
use crate::xen::Xen;
use crate::xen::store::{Watch, WatchEvent};
use crate::xen::xenbus::{self, BackendState, Device, XenbusError, XenbusState};

/// Where 9pfs devices are.
const DIRECTORY: &str = "device/9pfs";

/// A step in the lifecycle of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointEvent {
    /// Number of the device: the last part of its directory.
    pub id: String,
    /// Its tag, if it has one.
    pub tag: Option<String>,
    /// The step.
    pub change: Change,
    /// Of [`Change::Disconnected`]: why. [`TransportError::Closed`] if this side wished it.
    pub why: Option<TransportError>,
}

impl fmt::Display for EndpointEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = self.tag.as_deref().unwrap_or("");
        write!(f, "{} {tag}: ", self.id)?;
        match self.change {
            Change::Appeared => f.write_str("appeared"),
            Change::Connected(number) => write!(f, "connected ({number})"),
            Change::Disconnected(number) => write!(f, "disconnected ({number})"),
            Change::Disappeared => f.write_str("disappeared"),
        }?;
        self.why.map_or(Ok(()), |why| write!(f, ": {why}"))
    }
}

/// The 9pfs devices of a domain: tells when one appears, is connected, disconnected, or disappears.
///
/// Nothing is told twice, left open or out of order: each device goes through `Appeared (Connected Disconnected)*
/// Disappeared`. What has come and gone between two looks is not told; xenstore does not tell it either.
/// A device with another tag is another one, even if it has the number of the one before it.
///
/// Looking is noticing, too: a connection made with [`connect`](Self::connect) whose backend is found gone here ends
/// as if its transport had noticed. Clones are the same.
///
/// ```
/// # use xen9p::platform::Platform;
/// # use xen9p::time::Instant;
/// # use xen9p::transport::xen9pfs::{Change, Config, ConnectError, Endpoints, device};
/// # use xen9p::xen::Xen;
/// # fn example<P: Platform>(xen: &Xen<P>, deadline: Instant) -> Result<(), ConnectError> {
/// let endpoints = Endpoints::new(xen);
/// while let Some(event) = endpoints.wait(deadline)? {
///     if event.change == Change::Appeared && event.tag.as_deref() == Some("data") {
///         let transport = endpoints.connect(device(xen, Some("data"))?, &Config::default())?;
///         # drop(transport);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Endpoints<P: Platform> {
    inner: Rc<Inner<P>>,
}

struct Inner<P: Platform> {
    xen: Xen<P>,
    /// From the first look on: a program that never looks need not be told.
    watch: OnceCell<Watch<P>>,
    known: RefCell<Vec<TrackedDevice<P>>>,
    /// Something that was told to have changed could not be looked into: xenstore did not answer.
    unsure: Cell<bool>,
}

/// One device that was seen.
struct TrackedDevice<P: Platform> {
    id: String,
    tag: Option<String>,
    /// The tag under which it was told of.
    shown: Option<String>,
    /// While its directory is there.
    device: Option<(Device<P>, BackendState<P>)>,
    /// Whether it could be connected, or is.
    present: bool,
    /// Its backend's state has changed, and what that means is not known yet.
    unsure: bool,
    /// What was told of it.
    lifecycle: DeviceLifecycle,
    /// The latest connection, and the one that was told of.
    connection: Rc<ConnectionState>,
    told: Rc<ConnectionState>,
    monitor: Weak<Monitor<P>>,
}

impl<P: Platform> Clone for Endpoints<P> {
    fn clone(&self) -> Self {
        Endpoints {
            inner: Rc::clone(&self.inner),
        }
    }
}

impl<P: Platform> fmt::Debug for Endpoints<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_map();
        if let Ok(known) = self.inner.known.try_borrow() {
            out.entries(
                known
                    .iter()
                    .map(|known| (&known.id, known.lifecycle.stage())),
            );
        }
        out.finish()
    }
}

impl<P: Platform> Endpoints<P> {
    /// Follows the devices. Those that are there already appear first.
    pub fn new(xen: &Xen<P>) -> Self {
        Endpoints {
            inner: Rc::new(Inner {
                xen: xen.clone(),
                watch: OnceCell::new(),
                known: RefCell::default(),
                unsure: Cell::new(true),
            }),
        }
    }

    /// The next event, if there is one. Waits for nothing but answers of xenstore, if something has changed there.
    ///
    /// # Errors
    /// [`ConnectError::Store`].
    pub fn next(&self) -> Result<Option<EndpointEvent>, ConnectError> {
        // Nothing, if this is called from within itself, by the handler of another event.
        let Ok(mut known) = self.inner.known.try_borrow_mut() else {
            return Ok(None);
        };
        self.inner.look(&mut known)?;
        let event = known.iter_mut().find_map(TrackedDevice::tell);
        known.retain(|known| known.device.is_some() || known.lifecycle.stage() != Stage::Absent);
        Ok(event)
    }

    /// Waits for the next event until `deadline`; `None` when that has passed.
    ///
    /// # Errors
    /// [`ConnectError::Store`].
    pub fn wait(&self, deadline: Instant) -> Result<Option<EndpointEvent>, ConnectError> {
        let events = &self.inner.xen.events;
        loop {
            let seen = events.generation();
            if let Some(event) = self.next()? {
                return Ok(Some(event));
            }
            let now = events.now();
            if now >= deadline {
                return Ok(None);
            }
            // A backend that is killed makes no event.
            events.wait(seen, deadline.min(now + CHECK_INTERVAL));
        }
    }

    /// As [`connect`](super::connect()), and follows the connection. An earlier one of the same device is over then.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(&self, device: Device<P>, config: &Config) -> Result<Xen9pfs<P>, ConnectError> {
        let events = &self.inner.xen.events;
        events.block_on(self.connect_async(device, config))
    }

    /// [`connect`](Self::connect), which [pauses](crate::xen::event::Events::pause) while the backend takes its time. It waits for
    /// xenstore. Dropped before its end it disconnects what the backend was offered, which takes a bounded time.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_async(
        &self,
        device: Device<P>,
        config: &Config,
    ) -> Result<Xen9pfs<P>, ConnectError> {
        let Inner { xen, known, .. } = &*self.inner;
        let id = String::from(device.id());
        let former = known.try_borrow().ok().and_then(|known| {
            let known = known.iter().find(|known| known.id == id)?;
            if let Some(former) = known.monitor.upgrade() {
                former.fail(TransportError::Lost(&"the device was connected anew"));
                former.connection.superseded.set(true);
                drop(former.connection.claim.take());
            }
            Some(Rc::clone(&known.connection))
        });
        let connection = Rc::new(ConnectionState {
            number: former.as_ref().map_or(0, |former| former.number) + 1,
            ..ConnectionState::default()
        });
        let connected = connect_as(xen, device, config, Rc::clone(&connection)).await;
        let transport = connected.inspect_err(|_| {
            // There is no other that the device would be the business of.
            if let Some(former) = &former {
                former.superseded.set(false);
            }
        })?;
        if let Ok(mut known) = known.try_borrow_mut() {
            let index = known.iter().position(|known| known.id == id);
            let index = index.unwrap_or_else(|| {
                known.push(TrackedDevice::new(id));
                known.len() - 1
            });
            if let Some(known) = known.get_mut(index) {
                known.connection = connection;
                known.monitor = Rc::downgrade(transport.monitor());
            }
        }
        Ok(transport)
    }
}

impl<P: Platform> Inner<P> {
    /// Takes in what has changed.
    fn look(&self, known: &mut Vec<TrackedDevice<P>>) -> Result<(), ConnectError> {
        let mut ids: Vec<String> = Vec::new();
        // Until all of it is done.
        let mut everything = self.unsure.replace(true);
        let watch = match self.watch.get() {
            Some(watch) => watch,
            None => {
                let fresh = self.xen.store.watch(DIRECTORY);
                let fresh = fresh.map_err(ConnectError::Store)?;
                self.watch.get_or_init(|| fresh)
            }
        };
        for event in watch.take_all().map_err(ConnectError::Store)? {
            match event {
                WatchEvent::Changed(path) => match device_of(&path) {
                    Some((id, node)) => {
                        // What else changes there is what this side writes itself.
                        if matches!(node, "" | "backend" | "backend-id" | "tag")
                            && !ids.iter().any(|known| known == id)
                        {
                            ids.push(id.into());
                        }
                    }
                    None => everything = true,
                },
                WatchEvent::Overflow => everything = true,
            }
        }
        if everything {
            ids = xenbus::numbers(&self.xen.store, "9pfs").map_err(ConnectError::Store)?;
            let gone = known.iter().filter(|known| !ids.contains(&known.id));
            let gone: Vec<String> = gone.map(|known| known.id.clone()).collect();
            ids.extend(gone);
        }
        for id in ids {
            let device = match Device::open(&self.xen.store, "9pfs", &id) {
                Ok(device) => Some(device),
                Err(XenbusError::Store(error)) if error.is_connection_error() => {
                    return Err(ConnectError::Store(error));
                }
                // Not there any more, or not all of it there yet.
                Err(_) => None,
            };
            let index = known.iter().position(|known| known.id == id);
            match (index.and_then(|index| known.get_mut(index)), device) {
                (Some(known), device) => known.update(device)?,
                (None, Some(device)) => {
                    let mut fresh = TrackedDevice::new(id);
                    fresh.update(Some(device))?;
                    known.push(fresh);
                }
                (None, None) => {}
            }
        }
        known.iter_mut().try_for_each(TrackedDevice::check)?;
        self.unsure.set(false);
        Ok(())
    }
}

/// The device that a node belongs to, and the node's name; `None` if it is not that of one device.
fn device_of(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix(DIRECTORY)?.strip_prefix('/')?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

impl<P: Platform> TrackedDevice<P> {
    fn new(id: String) -> Self {
        let none = Rc::new(ConnectionState::default());
        TrackedDevice {
            id,
            tag: None,
            shown: None,
            device: None,
            present: false,
            unsure: false,
            lifecycle: DeviceLifecycle::default(),
            connection: Rc::clone(&none),
            told: none,
            monitor: Weak::new(),
        }
    }

    /// Its directory says this now.
    fn update(&mut self, device: Option<Device<P>>) -> Result<(), ConnectError> {
        let Some(device) = device else {
            self.device = None;
            return Ok(());
        };
        self.tag = device.tag().map(String::from);
        let same = self.device.as_ref().is_some_and(|(known, _)| {
            (known.backend(), known.backend_id()) == (device.backend(), device.backend_id())
        });
        if !same {
            self.present = false;
            self.unsure = true;
            self.device = match device.watch_backend() {
                Ok(state) => Some((device, state)),
                Err(XenbusError::Store(error)) if !error.is_connection_error() => {
                    // The others are followed all the same.
                    log::warn!("9pfs {}: can't be followed: {error}", name(&device));
                    None
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(())
    }

    /// Looks whether it is there, and whether it is still connected.
    fn check(&mut self) -> Result<(), ConnectError> {
        match &self.device {
            None => self.present = false,
            Some((device, state)) => {
                let (state, written) = state.look()?;
                self.unsure |= written;
                if self.unsure {
                    self.present = match state {
                        XenbusState::Unknown => false,
                        XenbusState::Closing | XenbusState::Closed => device.is_online()?,
                        _ => true,
                    };
                    self.unsure = false;
                }
            }
        }
        if let Some(monitor) = self.monitor.upgrade() {
            if self.present {
                let _ = monitor.check(monitor.device.store().events().now());
            } else {
                monitor.fail(TransportError::Lost(&"the device was removed"));
            }
        }
        Ok(())
    }

    /// The next step that was not told yet.
    fn tell(&mut self) -> Option<EndpointEvent> {
        let goal = match (
            self.present,
            self.connection.number,
            self.connection.fault.get(),
        ) {
            (false, ..) => Stage::Absent,
            (true, number @ 1.., None) => Stage::Connected(number),
            _ => Stage::Present,
        };
        // One with another tag is another device, which has come in the place of the one that was told of.
        let goal = match self.lifecycle.stage() {
            Stage::Absent => {
                self.shown.clone_from(&self.tag);
                goal
            }
            Stage::Connected(_) if self.lifecycle.stage() == goal => goal,
            _ if self.shown != self.tag => Stage::Absent,
            _ => goal,
        };
        let change = self.lifecycle.toward(goal)?;
        let why = match change {
            Change::Disconnected(_) => self.told.fault.get(),
            _ => None,
        };
        if let Change::Connected(_) = change {
            self.told = Rc::clone(&self.connection);
        }
        Some(EndpointEvent {
            id: self.id.clone(),
            tag: self.shown.clone(),
            change,
            why,
        })
    }
}
