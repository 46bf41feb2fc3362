//! Noticing that a connection is lost: for its transport, and for who follows the device.

use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::time::Duration;

use super::connect::name;
use crate::hypercall::event_channel::Status;
use crate::platform::Platform;
use crate::time::Instant;
use crate::transport::{Text, TransportError};
use crate::xen::event::{EventChannel, Port};
use crate::xen::xenbus::{BackendState, Device, DeviceClaim, XenbusState};

/// How often the event channels are looked at while nothing happens: a backend that was killed
/// changes nothing else.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What is left of a connection when all else is gone: which it was, and why it ended.
#[derive(Default)]
pub(super) struct ConnectionState {
    /// Its number among those of the device, from 1 on.
    pub(super) number: u64,
    pub(super) fault: Cell<Option<TransportError>>,
    /// The device's state is another connection's business by now.
    pub(super) superseded: Cell<bool>,
    /// Until the device is let go of.
    pub(super) claim: Cell<Option<DeviceClaim>>,
}

impl fmt::Debug for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ConnectionState");
        out.field("number", &self.number)
            .field("fault", &self.fault);
        out.finish_non_exhaustive()
    }
}

/// What tells whether a connection is still there.
#[derive(Debug)]
pub(super) struct Monitor<P: Platform> {
    pub(super) device: Device<P>,
    pub(super) state: BackendState<P>,
    pub(super) connection: Rc<ConnectionState>,
    /// Each with the port that the backend had bound to it when it said that it was connected.
    channels: Vec<(Weak<EventChannel<P>>, Option<Port>)>,
    /// When they are looked at next.
    pulse: Cell<Instant>,
    /// How often the domain had been resumed elsewhere when the connection was made.
    resumes: u64,
}

impl<P: Platform> Monitor<P> {
    pub(super) fn new<'a>(
        device: Device<P>,
        state: BackendState<P>,
        connection: Rc<ConnectionState>,
        channels: impl Iterator<Item = &'a Rc<EventChannel<P>>>,
    ) -> Self {
        let events = device.store().events();
        let (now, resumes) = (events.now(), events.resumes());
        Monitor {
            channels: channels
                .map(|channel| (Rc::downgrade(channel), other_end(channel, &device)))
                .collect(),
            device,
            state,
            connection,
            pulse: Cell::new(now + CHECK_INTERVAL),
            resumes,
        }
    }

    /// Whether the domain is another one since the connection was made: then the backend, the device's directory and
    /// all numbers of ports and grants are not ours any more.
    pub(super) fn is_stale(&self) -> bool {
        self.resumes != self.device.store().events().resumes()
    }

    /// Why the connection is over, if it is.
    pub(super) fn fault(&self) -> Option<TransportError> {
        let fault = self.connection.fault.get();
        if fault.is_none() && self.is_stale() {
            let how = &"the domain was saved and restored, and has another backend";
            return Some(self.fail(TransportError::Lost(how)));
        }
        fault
    }

    /// Ends the connection for good, for this reason unless there is an earlier one.
    pub(super) fn fail(&self, fault: TransportError) -> TransportError {
        if let Some(first) = self.connection.fault.get() {
            return first;
        }
        self.connection.fault.set(Some(fault));
        if fault != TransportError::Closed {
            log::warn!("9pfs {}: {fault}", name(&self.device));
        }
        fault
    }

    /// When the event channels are looked at next.
    pub(super) fn pulse(&self) -> Instant {
        self.pulse.get()
    }

    /// Takes in what xenstore has sent. Asks for the backend's state if that may have changed, and looks after the
    /// event channels then and once a second. `now` may be a while ago.
    pub(super) fn check(&self, now: Instant) -> Result<(), TransportError> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        let (state, written) = match self.state.look() {
            Ok(found) => found,
            Err(_) => return self.lost(&"xenstore does not answer"),
        };
        match state {
            XenbusState::Connected => {}
            XenbusState::Closing | XenbusState::Closed => {
                return self.lost(&"the backend has closed the device");
            }
            XenbusState::Unknown => return self.lost(&"the device was removed"),
            _ => return self.lost(&"the backend was restarted"),
        }
        // Connected again, and in between something else that we did not get to see?
        if written || now >= self.pulse.get() {
            self.pulse.set(now + CHECK_INTERVAL);
            return self.check_channels();
        }
        Ok(())
    }

    fn lost(&self, how: Text) -> Result<(), TransportError> {
        Err(self.fail(TransportError::Lost(how)))
    }

    /// Whether the one who was bound to the other ends of our event channels still is.
    fn check_channels(&self) -> Result<(), TransportError> {
        for (channel, port) in &self.channels {
            let now = channel
                .upgrade()
                .and_then(|it| other_end(&it, &self.device));
            match (now, port) {
                (None, _) => {
                    return self.lost(&"the backend has died (its event channel is gone)");
                }
                (now, before) if now != *before => {
                    return self.lost(&"the backend was restarted (its event channel is another)");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The backend's port that is bound to this one.
fn other_end<P: Platform>(channel: &EventChannel<P>, device: &Device<P>) -> Option<Port> {
    match channel.status() {
        Ok(Status::Interdomain(domain, port)) if domain == device.backend_id() => Some(port),
        _ => None,
    }
}
