//! A connected device: its rings as a [`Transport`].

use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::time::Duration;

use super::connect::{leave, name};
use super::ring::{Order, Ring, Violation};
use crate::platform::Platform;
use crate::time::Instant;
use crate::transport::{Header, Lane, Stats, Transport, TransportError};
use crate::xen::Xen;
use crate::xen::event::{EventChannel, Events, Generation};
use crate::xen::grant::SharedPages;
use crate::xen::xenbus::{BackendState, Device, XenbusState};

/// What the two sides take for the header of a read or a write (IOHDRSZ), in bytes.
const IO_HEADER: u32 = 24;

/// How often the event channels are looked at while nothing happens: a backend that was killed
/// changes nothing else.
const PULSE: Duration = Duration::from_secs(1);

/// A ring with all that belongs to it.
pub(super) struct Line<P: Platform> {
    pub(super) ring: Ring,
    pub(super) channel: EventChannel<P>,
    /// The ring's memory. Behind the channel, since fields are dropped in order: the backend is
    /// told first.
    pub(super) interface: SharedPages<P>,
    pub(super) _data: SharedPages<P>,
}

impl<P: Platform> fmt::Debug for Line<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Line").field(&self.ring).finish()
    }
}

/// A connection to a 9pfs backend; see the [module](super).
///
/// Dropping it closes it, which takes a bounded time.
#[derive(Debug)]
pub struct Xen9pfs<P: Platform> {
    events: Events<P>,
    device: Device<P>,
    state: BackendState<P>,
    order: Order,
    lanes: u16,
    /// Empty once closed.
    lines: Vec<Line<P>>,
    /// The moment since which nobody has looked at the rings.
    seen: Generation,
    /// When the event channels are looked at next.
    pulse: Instant,
    /// What the clock showed when it was last asked. Asking may be dear, and who waits has just done so.
    clock: Cell<Instant>,
    fault: Option<TransportError>,
    stats: Stats,
}

impl<P: Platform> Xen9pfs<P> {
    pub(super) fn new(
        xen: &Xen<P>,
        device: Device<P>,
        state: BackendState<P>,
        order: Order,
        lines: Vec<Line<P>>,
    ) -> Self {
        let events = xen.events.clone();
        let now = events.now();
        Xen9pfs {
            seen: events.generation(),
            pulse: now + PULSE,
            clock: Cell::new(now),
            events,
            device,
            state,
            order,
            lanes: lines.len() as u16,
            lines,
            fault: None,
            stats: Stats::default(),
        }
    }

    /// The device.
    pub fn device(&self) -> &Device<P> {
        &self.device
    }

    /// The page order of every ring.
    pub fn order(&self) -> Order {
        self.order
    }

    fn sound(&self) -> Result<(), TransportError> {
        self.fault.map_or(Ok(()), Err)
    }

    /// Ends the connection for good, for this reason unless there is an earlier one.
    fn fail(&mut self, fault: TransportError) -> TransportError {
        let first = self.fault.get_or_insert(fault);
        if *first == fault {
            log::warn!("9pfs {}: {fault}", name(&self.device));
        }
        *first
    }

    /// The ring of a lane, until the connection is closed.
    fn ring(&mut self, lane: Lane) -> Option<&mut Ring> {
        let line = self.lines.get_mut(usize::from(lane.0))?;
        Some(&mut line.ring)
    }

    /// Uses a ring; what the backend did wrong there breaks the whole connection.
    fn on<T>(
        &mut self,
        lane: Lane,
        act: impl FnOnce(&mut Ring) -> Result<T, Violation>,
    ) -> Result<T, TransportError> {
        self.sound()?;
        let ring = self.ring(lane).ok_or(TransportError::Closed)?;
        act(ring).map_err(|Violation(rule)| self.fail(TransportError::Violation(rule)))
    }

    /// Takes in what xenstore has sent, and if the backend's state may have changed, looks whether
    /// it is still connected.
    fn check_state(&mut self) -> Result<(), TransportError> {
        let how = match self.state.get() {
            Ok(XenbusState::Connected) => return Ok(()),
            Ok(XenbusState::Closing | XenbusState::Closed) => "the backend has closed the device",
            Ok(XenbusState::Unknown) => "the device was removed",
            Ok(_) => "the backend was restarted",
            Err(_) => "xenstore does not answer",
        };
        Err(self.fail(TransportError::Lost(how)))
    }

    /// Whether somebody is still bound to the other end of our event channels.
    fn check_channels(&mut self) -> Result<(), TransportError> {
        if self.lines.iter().all(|line| line.channel.is_connected()) {
            return Ok(());
        }
        Err(self.fail(TransportError::Lost(
            "the backend has died (its event channel is gone)",
        )))
    }
}

impl<P: Platform> Transport for Xen9pfs<P> {
    fn lanes(&self) -> u16 {
        self.lanes
    }

    /// QEMU takes the next request off a ring when the one before it is answered, and xen-9pfsd has one
    /// thread per ring.
    fn in_order(&self) -> bool {
        true
    }

    fn max_message(&self) -> u32 {
        match self.lanes {
            // The next request of a bulk transfer waits in the ring behind the one being served.
            ..=1 => self.order.max_message(),
            // Or in the next ring, to which QEMU, one thread for all rings, turns then. So a message may carry
            // half a ring of data and its header: 1 MiB takes two requests instead of three.
            _ => self.order.max_message() + IO_HEADER,
        }
    }

    fn set_max_message(&mut self, bytes: u32) {
        for line in &mut self.lines {
            line.ring.set_max_message(bytes);
        }
    }

    fn has_room(&mut self, lane: Lane, request: u32, reply: u32) -> Result<bool, TransportError> {
        self.on(lane, |ring| ring.has_room(request, reply))
    }

    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError> {
        let sent = self.on(lane, |ring| ring.send(parts, reply))?;
        if sent {
            let len: usize = parts.iter().map(|part| part.len()).sum();
            self.stats.copied_in += len as u64;
        }
        Ok(sent)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.sound()?;
        let mut told = Ok(());
        for line in &mut self.lines {
            if line.ring.take_event_due() {
                self.stats.announced += 1;
                told = told.and(line.channel.notify());
            }
        }
        told.map_err(|_| {
            self.fail(TransportError::Lost(
                "the event channel is closed (the domain was resumed?)",
            ))
        })
    }

    fn peek(&mut self, lane: Lane) -> Result<Option<Header>, TransportError> {
        self.on(lane, Ring::peek)
    }

    fn copy_out(&mut self, lane: Lane, offset: u32, into: &mut [u8]) {
        self.stats.copied_out += into.len() as u64;
        match self.ring(lane) {
            Some(ring) => ring.copy_out(offset, into),
            None => into.fill(0),
        }
    }

    fn consume(&mut self, lane: Lane) {
        if let Some(ring) = self.ring(lane) {
            ring.consume();
        }
    }

    fn release(&mut self, lane: Lane, reply: u32) {
        if let Some(ring) = self.ring(lane) {
            ring.release(reply);
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn now(&self) -> Instant {
        let now = self.events.now();
        self.clock.set(now);
        now
    }

    /// Also flushes, runs what waits for other events of the domain, takes in what xenstore has to
    /// say, and looks after the backend: its state and, once a second, its event channels. The
    /// handlers of other event channels run in here, and must not use this transport.
    fn wait(&mut self, deadline: Instant) -> Result<(), TransportError> {
        self.flush()?;
        // All of them: each is only told once of what has moved.
        let stirred = self
            .lines
            .iter_mut()
            .fold(false, |stirred, line| line.ring.stirred() | stirred);
        if stirred {
            self.stats.spared += 1;
            self.events.dispatch();
        } else {
            self.events.wait(self.seen, deadline.min(self.pulse));
        }
        // Before the session looks at the rings: what comes later is noticed by the next wait.
        let generation = self.events.generation();
        let quiet = generation == self.seen;
        self.seen = generation;
        self.check_state()?;
        let now = match quiet && !stirred {
            true => self.now(),
            false => self.clock.get(),
        };
        if now >= self.pulse {
            self.pulse = now + PULSE;
            self.check_channels()?;
        }
        Ok(())
    }

    fn close(&mut self) {
        if self.fault == Some(TransportError::Closed) {
            return;
        }
        self.fault = Some(TransportError::Closed);
        let lines = core::mem::take(&mut self.lines);
        leave(&self.device, &self.state, lines);
    }
}

impl<P: Platform> Drop for Xen9pfs<P> {
    fn drop(&mut self) {
        self.close();
    }
}
