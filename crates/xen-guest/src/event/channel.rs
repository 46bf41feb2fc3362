//! The handle of an open port.

use alloc::rc::Rc;
use core::fmt;

use super::{Events, Port};
use crate::hypercall::XenError;
use crate::hypercall::event_channel::{self, Status};
use crate::platform::Platform;

/// An open event channel. Dropping it closes the port (not if it was adopted) and drops its
/// handler.
#[must_use = "dropping the handle closes the port"]
pub struct EventChannel<P: Platform> {
    events: Events<P>,
    port: Port,
    close: bool,
    /// How often the domain had been resumed when it was opened.
    resumes: u64,
}

impl<P: Platform> EventChannel<P> {
    /// The handle of a port that is in the table. `close`: it closes the port.
    pub(super) fn new(events: &Events<P>, port: Port, close: bool) -> Self {
        EventChannel {
            events: events.clone(),
            port,
            close,
            resumes: events.resumes(),
        }
    }

    /// The port, to be told to the other side.
    pub fn port(&self) -> Port {
        self.port
    }

    /// The table this channel belongs to.
    pub fn events(&self) -> &Events<P> {
        &self.events
    }

    /// Makes `handler` run in [`Events::dispatch`] each time the port has fired, instead of an
    /// earlier one. It is dropped with the channel; it must not own the channel.
    pub fn on_event(&self, handler: impl Fn() + 'static) {
        if self.is_stale() {
            return;
        }
        let replaced = {
            let mut slots = self.events.table.slots.borrow_mut();
            slots
                .iter_mut()
                .find(|slot| slot.port == self.port)
                .and_then(|slot| slot.handler.replace(Rc::new(handler)))
        };
        // Dropped here, with no borrow held: it may own other channels.
        drop(replaced);
    }

    /// Takes the port's event if it is pending, without running the handler. What waits in
    /// [`Events::wait`] still notices.
    pub fn take_pending(&self) -> bool {
        !self.is_stale() && self.events.take(self.port)
    }

    /// Whether the port is gone because the domain was saved and resumed elsewhere since it was opened. Then
    /// it never fires again, and nothing reaches the other side.
    pub fn is_stale(&self) -> bool {
        self.resumes != self.events.resumes()
    }

    fn current(&self) -> Result<(), XenError> {
        match self.is_stale() {
            true => Err(XenError::EINVAL),
            false => Ok(()),
        }
    }

    /// Tells the other side. Nothing happens when no domain is bound there.
    ///
    /// # Errors
    /// `EINVAL` when the port [is stale](Self::is_stale).
    pub fn notify(&self) -> Result<(), XenError> {
        self.current()?;
        self.events.count(|stats| stats.sent += 1);
        event_channel::send(self.events.platform(), self.port)
    }

    /// What the port is connected to now. A peer that died has left it [`Status::Unbound`].
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    pub fn status(&self) -> Result<Status, XenError> {
        self.current()?;
        event_channel::status(self.events.platform(), self.port)
    }

    /// Whether a domain is connected at the other end.
    pub fn is_connected(&self) -> bool {
        matches!(self.status(), Ok(Status::Interdomain(..)))
    }
}

impl<P: Platform> Drop for EventChannel<P> {
    fn drop(&mut self) {
        if self.is_stale() {
            // The number may be that of another owner's port.
            return;
        }
        let slot = {
            let mut slots = self.events.table.slots.borrow_mut();
            slots
                .iter()
                .position(|slot| slot.port == self.port)
                .map(|index| slots.remove(index))
        };
        // The handler may own other channels: drop it with no borrow held.
        drop(slot);
        if self.close {
            self.events.platform().port_closed(self.port);
            // Closing fails only for a port that is not open, which this one is.
            let _ = event_channel::close(self.events.platform(), self.port);
            // The next owner of the number must not take an event of this one for its own: Xen forgets it with the port, but
            // a platform that is driven by interrupts has noted it.
            self.events.platform().take_pending(self.port);
        }
    }
}

impl<P: Platform> fmt::Debug for EventChannel<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventChannel")
            .field("port", &self.port)
            .finish()
    }
}
