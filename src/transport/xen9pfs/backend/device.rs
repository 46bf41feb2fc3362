//! A device: does what the state machine says.

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use super::connection::{Broken, Close, Connection};
use super::nodes::{self, Key};
use super::{CHECK_INTERVAL, Connect, DeviceInfo, Request, Rings};
use crate::platform::Platform;
use crate::time::Instant;
use crate::xen::Xen;
use crate::xen::store::{StoreError, Watch};
use crate::xen::xenbus::XenbusState;
use crate::xen::xenbus::backend::{Machine, Offer, Step, View};

/// Steps at a device before others have their turn. None takes more than a few.
const MAX_STEPS: u32 = 32;

/// How long a device stays closed before another frontend is waited for. xl removes a device by setting the backend's state
/// to Closed, which shows only where it was something else; it does so 2 s after the guest has stopped.
const LINGER: Duration = Duration::from_secs(1);

/// A device of another domain that this one serves.
pub(super) struct Device<P: Platform> {
    key: Key,
    made: Option<Made<P>>,
    machine: Machine,
    connection: Option<Connection<P>>,
    /// Why the connection is of no more use.
    broken: Option<Broken>,
    /// Its nodes may have changed since they were looked at.
    changed: bool,
    /// When to look at them in any case.
    until: Option<Instant>,
    /// Since when it is closed.
    closed: Option<Instant>,
    /// Why the frontend was not served, the last time that it was not.
    error: Option<String>,
    /// Whether xenbus was told of that.
    reported: bool,
}

/// What is known of a device once the toolstack has made it.
struct Made<P: Platform> {
    frontend: String,
    request: Request,
    /// On the frontend's state.
    watch: Watch<P>,
}

/// What comes of a device's turn.
pub(super) struct Turn {
    /// A session that is over, and is still to be ended.
    pub(super) closed: Option<Close>,
    /// When the next turn is due if nothing happens.
    pub(super) again: Instant,
    /// The device is no more.
    pub(super) gone: bool,
}

impl<P: Platform> Device<P> {
    pub(super) fn key(&self) -> Key {
        self.key
    }

    pub(super) fn new(key: Key) -> Self {
        Device {
            key,
            made: None,
            machine: Machine::new(),
            connection: None,
            broken: None,
            changed: true,
            until: None,
            closed: None,
            error: None,
            reported: false,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// What is known of it, once the toolstack has made it.
    pub(super) fn info(&self) -> Option<DeviceInfo<'_>> {
        Some(DeviceInfo {
            request: &self.made.as_ref()?.request,
            is_connected: self.is_connected(),
            error: self.error.as_deref(),
        })
    }

    /// Ends the connection, if there is one.
    pub(super) fn disconnect(&mut self) {
        if self.is_connected() {
            self.broken.get_or_insert(Broken::Ended);
        }
    }

    /// Its nodes may have changed.
    pub(super) fn changed(&mut self) {
        self.changed = true;
    }

    /// Looks whether the frontend is still there.
    pub(super) fn check(&mut self) {
        let checked = self.connection.as_ref().map(Connection::check);
        if let Some(Err(broken)) = checked {
            self.broken.get_or_insert(broken);
        }
    }

    /// Does what there is to do.
    pub(super) fn turn(&mut self, xen: &Xen<P>, rings: Rings, connect: &Connect<P>) -> Turn {
        let now = xen.events.now();
        let mut turn = Turn {
            closed: None,
            again: Instant::NEVER,
            gone: false,
        };
        if let (Some(connection), None) = (&mut self.connection, self.broken) {
            match connection.poll() {
                Ok(true) => turn.again = now,
                Ok(false) => {}
                Err(broken) => self.broken = Some(broken),
            }
        }
        if let Some(broken) = self.broken.take() {
            turn.closed = self.connection.take().map(Connection::close);
            self.machine.worker_is_gone(Some(broken.to_string()));
            self.changed = true;
        }
        let watch = self.made.as_ref().map(|made| &made.watch);
        // Where xenstore fails, the frontend is served all the same.
        let fired = watch.is_some_and(|watch| watch.take_all().is_ok_and(|seen| !seen.is_empty()));
        let due = self.until.is_some_and(|until| now >= until);
        if core::mem::take(&mut self.changed) | fired | due {
            self.until = None;
            match self.steps(xen, rings, connect, &mut turn) {
                Ok(gone) => turn.gone = gone,
                Err(error) => {
                    log::warn!("9pfs backend {}: {error}", self.key.back());
                    self.until = Some(now + CHECK_INTERVAL);
                }
            }
        }
        turn.again = turn.again.min(self.until.unwrap_or(Instant::NEVER));
        turn
    }

    /// Takes the next steps; returns whether the device is no more.
    fn steps(
        &mut self,
        xen: &Xen<P>,
        rings: Rings,
        connect: &Connect<P>,
        turn: &mut Turn,
    ) -> Result<bool, StoreError> {
        let store = &xen.store;
        if self.made.is_none() && !self.read(xen)? {
            return Ok(true);
        }
        let Some(Made { frontend, .. }) = &self.made else {
            return Ok(false);
        };
        let frontend = frontend.clone();
        for _ in 0..MAX_STEPS {
            let view = self.look(xen, &frontend, rings)?;
            let now = xen.events.now();
            match self.machine.next(&view, now) {
                Step::Invite => self.invite(xen, view.backend, rings)?,
                Step::Set(state) => {
                    if nodes::set(store, self.key, view.backend, state)? {
                        self.machine.has_written(state);
                        self.mention(state);
                    }
                }
                Step::Start(offer) => self.start(xen, &offer, connect),
                Step::Stop | Step::Kill => {
                    turn.closed = self.connection.take().map(Connection::close);
                    self.machine.worker_is_gone(None);
                }
                Step::Report(why) => self.report(xen, &why),
                Step::Wait(None) if self.is_over(xen, &view, &frontend)? => {
                    store.rm(&self.key.back())?;
                }
                Step::Wait(None) if self.may_come_again(&view, now) => {
                    self.invite(xen, view.backend, rings)?;
                }
                Step::Wait(until) => {
                    let again = self.closed.map(|closed| closed + LINGER);
                    self.until = until.into_iter().chain(again).min();
                    return Ok(false);
                }
                Step::Forget => {
                    self.forget(xen);
                    return Ok(true);
                }
            }
        }
        // Its nodes are written without end: the other devices first.
        self.changed = true;
        turn.again = xen.events.now();
        Ok(false)
    }

    /// Reads what the toolstack has written; returns whether there is anything.
    fn read(&mut self, xen: &Xen<P>) -> Result<bool, StoreError> {
        match nodes::read(&xen.store, self.key)? {
            None => Ok(false),
            Some(Err(why)) => {
                log::warn!("9pfs backend {}: refused: {why}", self.key.back());
                Ok(true)
            }
            Some(Ok((frontend, request))) => {
                let watch = xen.store.watch(&format!("{frontend}/state"))?;
                log::info!(
                    "9pfs backend: domain {} is to have {}",
                    request.domain,
                    request.path
                );
                self.made = Some(Made {
                    frontend,
                    request,
                    watch,
                });
                Ok(true)
            }
        }
    }

    /// How the device stands.
    fn look(&self, xen: &Xen<P>, frontend: &str, rings: Rings) -> Result<View, StoreError> {
        let mut view = nodes::look(&xen.store, self.key, frontend, rings)?;
        self.machine.correct(&mut view);
        Ok(view)
    }

    fn invite(&mut self, xen: &Xen<P>, seen: XenbusState, rings: Rings) -> Result<(), StoreError> {
        if nodes::invite(&xen.store, self.key, seen, rings)? {
            self.machine.has_written(XenbusState::InitWait);
            self.closed = None;
        }
        Ok(())
    }

    /// Whether the device's directory is for this domain to remove: the toolstack waits for that.
    fn is_over(&self, xen: &Xen<P>, view: &View, frontend: &str) -> Result<bool, StoreError> {
        if !view.present || self.connection.is_some() {
            return Ok(false);
        }
        let is_closed = view.backend == XenbusState::Closed;
        if !view.online && is_closed {
            return Ok(true);
        }
        Ok(view.frontend == XenbusState::Unknown && nodes::is_frontend_gone(&xen.store, frontend)?)
    }

    /// Whether it was closed long enough by both sides.
    fn may_come_again(&mut self, view: &View, now: Instant) -> bool {
        use XenbusState::Closed;

        let both = view.online && (view.backend, view.frontend) == (Closed, Closed);
        if !both {
            self.closed = None;
            return false;
        }
        now >= *self.closed.get_or_insert(now) + LINGER
    }

    fn start(&mut self, xen: &Xen<P>, offer: &Offer, connect: &Connect<P>) {
        let Some(Made { request, .. }) = &self.made else {
            return;
        };
        match connect(xen, request, offer) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.machine.worker_is_ready();
                // What the frontend sent before it had an event channel.
                self.until = Some(xen.events.now());
            }
            Err(refused) => self.machine.worker_is_gone(Some(refused.to_string())),
        }
    }

    fn mention(&self, state: XenbusState) {
        match state {
            XenbusState::Connected => log::info!("9pfs backend {}: connected", self.key.back()),
            XenbusState::Closed => log::info!("9pfs backend {}: closed", self.key.back()),
            _ => {}
        }
    }

    /// Says why the frontend is not served, in the log and where xenbus has such things.
    fn report(&mut self, xen: &Xen<P>, why: &str) {
        log::warn!("9pfs backend {}: {why}", self.key.back());
        let node = format!("{}/error", nodes::report(self.key));
        self.reported = xen.store.write(&node, why.as_bytes()).is_ok();
        self.error = Some(why.into());
    }

    fn forget(&mut self, xen: &Xen<P>) {
        if self.reported {
            let _ = xen.store.rm(&nodes::report(self.key));
        }
        log::info!("9pfs backend {}: gone", self.key.back());
    }

    /// For the end of the backend: lets go of the rings, and then tells the frontend.
    pub(super) fn leave(&mut self, xen: &Xen<P>) {
        drop(self.connection.take());
        if let Some(seen) = self.machine.written() {
            // The toolstack finds the rest.
            let _ = nodes::set(&xen.store, self.key, seen, XenbusState::Closed);
        }
    }
}
