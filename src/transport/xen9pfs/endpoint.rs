//! A connected device: its rings as a [`Transport`].

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use super::connect::leave;
use super::monitor::Monitor;
use super::ring::{Order, Ring, Violation};
use crate::platform::Platform;
use crate::time::Instant;
use crate::transport::{Header, Lane, Stats, Transport, TransportError};
use crate::xen::Xen;
use crate::xen::event::{EventChannel, Events, Generation};
use crate::xen::grant::SharedPages;
use crate::xen::xenbus::Device;

/// What the two sides take for the header of a read or a write (IOHDRSZ), in bytes.
const IO_HEADER: u32 = 24;

/// A ring with all that belongs to it.
pub(super) struct RingChannel<P: Platform> {
    pub(super) ring: Ring,
    /// It has no other owner: it is closed with this.
    pub(super) channel: Rc<EventChannel<P>>,
    /// The ring's memory. Behind the channel, since fields are dropped in order: the backend is
    /// told first.
    pub(super) interface: SharedPages<P>,
    pub(super) _data: SharedPages<P>,
}

impl<P: Platform> fmt::Debug for RingChannel<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RingChannel").field(&self.ring).finish()
    }
}

/// A connection to a 9pfs backend; see the [module](super).
///
/// Dropping it closes it, which takes a bounded time.
#[derive(Debug)]
pub struct Xen9pfs<P: Platform> {
    events: Events<P>,
    monitor: Rc<Monitor<P>>,
    order: Order,
    lanes: u16,
    holds_replies: bool,
    /// Empty once closed.
    rings: Vec<RingChannel<P>>,
    /// When the rings were looked at last.
    seen: Generation,
    /// What the clock showed when it was last asked. Asking may be dear, and who waits has done so a moment ago.
    clock: Cell<Instant>,
    stats: Stats,
}

impl<P: Platform> Xen9pfs<P> {
    pub(super) fn new(
        xen: &Xen<P>,
        monitor: Monitor<P>,
        order: Order,
        rings: Vec<RingChannel<P>>,
        holds_replies: bool,
    ) -> Self {
        let events = xen.events.clone();
        let now = events.now();
        Xen9pfs {
            seen: events.generation(),
            clock: Cell::new(now),
            events,
            monitor: Rc::new(monitor),
            order,
            lanes: rings.len() as u16,
            holds_replies,
            rings,
            stats: Stats::default(),
        }
    }

    /// The device.
    pub fn device(&self) -> &Device<P> {
        &self.monitor.device
    }

    pub(super) fn monitor(&self) -> &Rc<Monitor<P>> {
        &self.monitor
    }

    /// The page order of every ring.
    pub fn order(&self) -> Order {
        self.order
    }

    fn sound(&self) -> Result<(), TransportError> {
        self.monitor.fault().map_or(Ok(()), Err)
    }

    /// Ends the connection for good, for this reason unless there is an earlier one.
    fn fail(&self, fault: TransportError) -> TransportError {
        self.monitor.fail(fault)
    }

    /// The ring of a lane, until the connection is closed.
    fn ring(&mut self, lane: Lane) -> Option<&mut Ring> {
        let ring_channel = self.rings.get_mut(usize::from(lane.0))?;
        Some(&mut ring_channel.ring)
    }

    /// Uses a ring; what the backend did wrong there breaks the whole connection.
    fn with_ring<T>(
        &mut self,
        lane: Lane,
        act: impl FnOnce(&mut Ring) -> Result<T, Violation>,
    ) -> Result<T, TransportError> {
        self.sound()?;
        let ring = self.ring(lane).ok_or(TransportError::Closed)?;
        act(ring).map_err(|Violation(rule)| self.fail(TransportError::Violation(rule)))
    }

    /// Waits for an event, no longer than `until`; whether there was nothing.
    fn sleep(&mut self, until: Instant) -> Result<bool, TransportError> {
        self.flush()?;
        // All of them: each is only told once of what has moved.
        let any_new = self
            .rings
            .iter_mut()
            .fold(false, |any_new, lane| lane.ring.has_new_replies() | any_new);
        if any_new {
            self.stats.sleeps_avoided += 1;
            self.events.dispatch();
        } else {
            self.events.wait(self.seen, until);
        }
        // Before the session looks at the rings: what comes later is noticed by the next wait.
        let generation = self.events.generation();
        let quiet = generation == self.seen;
        self.seen = generation;
        Ok(quiet && !any_new)
    }
}

impl<P: Platform> Transport for Xen9pfs<P> {
    fn lanes(&self) -> u16 {
        self.lanes
    }

    /// QEMU takes the next request off a ring when the one before it is answered, xen-9pfsd has one thread per ring, and a
    /// server of ours holds a request back until what it needs is there.
    fn in_order(&self) -> bool {
        true
    }

    fn holds_replies(&self) -> bool {
        self.holds_replies
    }

    fn waits_for_news(&self) -> bool {
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
        for lane in &mut self.rings {
            lane.ring.set_max_message(bytes);
        }
    }

    fn has_room(&mut self, lane: Lane, request: u32, reply: u32) -> Result<bool, TransportError> {
        self.with_ring(lane, |ring| ring.has_room(request, reply))
    }

    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError> {
        let sent = self.with_ring(lane, |ring| ring.send(parts, reply))?;
        if sent {
            let len: usize = parts.iter().map(|part| part.len()).sum();
            self.stats.copied_in += len as u64;
        }
        Ok(sent)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.sound()?;
        let mut told = Ok(());
        for lane in &mut self.rings {
            if lane.ring.take_event_due() {
                self.stats.announced += 1;
                told = told.and(lane.channel.notify());
            }
        }
        told.map_err(|_| {
            self.fail(TransportError::Lost(
                &"the event channel is closed (the domain was resumed?)",
            ))
        })
    }

    fn peek(&mut self, lane: Lane) -> Result<Option<Header>, TransportError> {
        self.with_ring(lane, Ring::peek)
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
        let now = match self.sleep(deadline.min(self.monitor.pulse()))? {
            true => self.now(),
            false => self.clock.get(),
        };
        self.monitor.check(now)
    }

    /// Looks at the clock no more than [`flush`](Self::flush) does: the backend is looked after by the time that
    /// [`now`](Self::now) showed last.
    fn settle(&mut self) -> Result<Option<Instant>, TransportError> {
        // The session has looked at the rings after each event that was taken by now.
        self.seen = self.events.generation();
        let quiet = self.sleep(Instant::from_nanos(0))?;
        self.monitor.check(self.clock.get())?;
        Ok(quiet.then(|| self.monitor.pulse()))
    }

    fn close(&mut self) {
        let rings = core::mem::take(&mut self.rings);
        if rings.is_empty() {
            return;
        }
        if self.monitor.is_stale() {
            // The device of this name is another one now. Those that follow it are told all the same.
            let _ = self.sound();
        } else {
            self.fail(TransportError::Closed);
            if !self.monitor.connection.superseded.get() {
                leave(&self.monitor.device, &self.monitor.state, rings);
            }
        }
        drop(self.monitor.connection.claim.take());
    }
}

impl<P: Platform> Drop for Xen9pfs<P> {
    fn drop(&mut self) {
        self.close();
    }
}
