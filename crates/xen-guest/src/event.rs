//! Event channels: ports, handlers, and waiting without losing a wake-up.
//!
//! Nothing here is asynchronous: events only set bits. [`Events::dispatch`] takes the bits and runs
//! the handlers; [`Events::wait`] sleeps until there are bits to take. A caller that waits for something
//! does it in this order, and can't miss it:
//!
//! ```
//! # use xen9p::platform::Platform;
//! # use xen9p::time::Instant;
//! # use xen9p::xen::event::Events;
//! # fn example<P: Platform>(events: &Events<P>, arrived: impl Fn() -> bool, deadline: Instant) -> bool {
//! loop {
//!     let seen = events.generation();
//!     if arrived() {
//!         return true;
//!     }
//!     if events.now() >= deadline {
//!         return false;
//!     }
//!     events.wait(seen, deadline);
//! }
//! # }
//! ```

mod channel;

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::mem;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use crate::hypercall::event_channel;
use crate::hypercall::sched::MAX_POLL_PORTS;
use crate::hypercall::{DomId, XenError};
use crate::platform::Platform;
use xen9p_time::Instant;

pub use channel::EventChannel;
pub use xen_abi::Port;

/// A moment in the history of events, from [`Events::generation`]: later ones differ as soon as an
/// event was taken in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u64);

/// Counters of all event channels of this domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventStats {
    /// Events sent to the other sides.
    pub sent: u64,
    /// Events taken; several that came at once at one port count as one.
    pub received: u64,
    /// Times that the domain went to sleep.
    pub polls: u64,
    /// Those after which there was an event.
    pub wake_ups: u64,
}

/// How long one wait takes at most when there are more ports than Xen can watch at once and they
/// have to be watched in turns.
const TURN_INTERVAL: Duration = Duration::from_millis(1);

/// What runs when a port fires. Counted, so that it can be called with no borrow held.
type Handler = Rc<dyn Fn()>;

/// An open port.
struct Slot {
    port: Port,
    handler: Option<Handler>,
    /// The handler is being run, further down the stack.
    running: bool,
    /// The port fired meanwhile: the handler is due once more.
    due: bool,
}

/// All event channels of this domain that the drivers opened. Clones are the same table.
pub struct Events<P: Platform> {
    table: Rc<Table<P>>,
}

struct Table<P: Platform> {
    platform: P,
    slots: RefCell<Vec<Slot>>,
    generation: Cell<u64>,
    stats: Cell<EventStats>,
    /// Where the next turn begins when ports are watched in turns.
    turn: Cell<usize>,
    /// The list of ports for [`Platform::wait`], kept to spare an allocation each time.
    list: Cell<Vec<Port>>,
    /// See [`Events::due`].
    due: Cell<Instant>,
}

impl<P: Platform> Clone for Events<P> {
    fn clone(&self) -> Self {
        Events {
            table: Rc::clone(&self.table),
        }
    }
}

impl<P: Platform> fmt::Debug for Events<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("open", &self.open_ports())
            .field("generation", &self.table.generation.get())
            .finish()
    }
}

impl<P: Platform> Events<P> {
    /// An empty table. One per domain is enough, since clones are the same table; a second one takes only the events
    /// of ports that were opened through it.
    pub fn new(platform: P) -> Self {
        Events {
            table: Rc::new(Table {
                platform,
                slots: RefCell::new(Vec::new()),
                generation: Cell::new(0),
                stats: Cell::default(),
                turn: Cell::new(0),
                list: Cell::new(Vec::new()),
                due: Cell::new(Instant::NEVER),
            }),
        }
    }

    /// The platform below.
    pub fn platform(&self) -> &P {
        &self.table.platform
    }

    /// The monotonic clock.
    pub fn now(&self) -> Instant {
        self.table.platform.now()
    }

    /// How many ports are open or adopted: a counter that has to be back where it was when a
    /// device has gone.
    pub fn open_ports(&self) -> usize {
        self.table.slots.borrow().len()
    }

    /// Whether there is a domain of this number.
    pub fn is_domain(&self, domain: DomId) -> bool {
        event_channel::is_domain(self.platform(), domain)
    }

    /// Opens a port that `remote` can bind to, if it exists: Xen does not look.
    ///
    /// # Errors
    /// `ENOSPC` when the domain has all the ports it may have; others as Xen says.
    pub fn alloc_unbound(&self, remote: DomId) -> Result<EventChannel<P>, XenError> {
        let port = event_channel::alloc_unbound(self.platform(), remote)?;
        Ok(self.register(port, true))
    }

    /// Opens a port connected to `remote_port` of `remote`, which waits for us. It fires once at
    /// the start.
    ///
    /// # Errors
    /// `EINVAL` when that port does not wait for this domain; others as Xen says.
    pub fn bind_interdomain(
        &self,
        remote: DomId,
        remote_port: Port,
    ) -> Result<EventChannel<P>, XenError> {
        let port = event_channel::bind_interdomain(self.platform(), remote, remote_port)?;
        Ok(self.register(port, true))
    }

    /// Opens a port for virtual interrupt `virq` (`VIRQ_*`) of virtual CPU 0.
    ///
    /// # Errors
    /// `EEXIST` when it is bound already; others as Xen says.
    pub fn bind_virq(&self, virq: u32) -> Result<EventChannel<P>, XenError> {
        let port = event_channel::bind_virq(self.platform(), virq, 0)?;
        Ok(self.register(port, true))
    }

    /// Opens a port that fires here when it is notified here.
    ///
    /// # Errors
    /// As Xen says.
    pub fn bind_ipi(&self) -> Result<EventChannel<P>, XenError> {
        let port = event_channel::bind_ipi(self.platform(), 0)?;
        Ok(self.register(port, true))
    }

    /// Wraps a port that the domain builder opened, for one of its rings.
    /// It stays open when the handle is dropped.
    ///
    /// # Errors
    /// `EEXIST` when there is a handle for this port already.
    pub fn adopt(&self, port: Port) -> Result<EventChannel<P>, XenError> {
        let slots = self.table.slots.borrow();
        let is_open = slots.iter().any(|slot| slot.port == port);
        drop(slots);
        match is_open {
            true => Err(XenError::EEXIST),
            false => Ok(self.register(port, false)),
        }
    }

    /// Forgets all ports: the domain was resumed elsewhere, where none of them is open. The handles of before
    /// [are stale](EventChannel::is_stale) and never use their numbers again, which may be those of other ports by now.
    pub(super) fn forget_all(&self) {
        // Waiters look again.
        self.bump();
        // Handlers may own channels: dropped with no borrow held.
        drop(self.table.slots.take());
    }

    /// How often the domain was resumed elsewhere.
    pub fn resumes(&self) -> u64 {
        self.table.platform.domain_state().resumes()
    }

    fn register(&self, port: Port, close: bool) -> EventChannel<P> {
        if close {
            self.platform().port_opened(port);
        }
        self.table.slots.borrow_mut().push(Slot {
            port,
            handler: None,
            running: false,
            due: false,
        });
        EventChannel::new(self, port, close)
    }

    /// Counters.
    pub fn stats(&self) -> EventStats {
        self.table.stats.get()
    }

    fn count(&self, count: impl FnOnce(&mut EventStats)) {
        let mut stats = self.table.stats.get();
        count(&mut stats);
        self.table.stats.set(stats);
    }

    /// The current moment, to be handed to [`wait`](Self::wait) later.
    pub fn generation(&self) -> Generation {
        Generation(self.table.generation.get())
    }

    /// Takes every event that is pending and runs the handlers of their ports, each once. Handlers
    /// may do anything: open and drop channels, wait, or dispatch again. One that is running is not called again on
    /// top of itself, but by the next dispatch after it has returned. Returns whether there was any event.
    ///
    /// Never blocks. A port that fires all the time costs one handler call per dispatch.
    pub fn dispatch(&self) -> bool {
        let mut fired = false;
        let mut index = 0;
        loop {
            // The table may change while a handler runs: look at it afresh each time. A port that
            // moves to an index behind us keeps its pending bit for the next dispatch.
            let (port, handler, running, due) = match self.table.slots.borrow().get(index) {
                Some(slot) => (slot.port, slot.handler.clone(), slot.running, slot.due),
                None => break,
            };
            index += 1;
            let taken = self.take(port);
            fired |= taken;
            if running {
                self.note(port, |slot| slot.due |= taken);
            } else if let Some(handler) = handler
                && (taken || due)
            {
                fired = true;
                if due {
                    // Its event was taken some time ago: callers that wait for what the handler does look again.
                    self.bump();
                }
                self.note(port, |slot| (slot.running, slot.due) = (true, false));
                handler();
                self.note(port, |slot| slot.running = false);
            }
        }
        fired
    }

    /// Notes something of a port, if it is still open.
    fn note(&self, port: Port, what: impl FnOnce(&mut Slot)) {
        let mut slots = self.table.slots.borrow_mut();
        if let Some(slot) = slots.iter_mut().find(|slot| slot.port == port) {
            what(slot);
        }
    }

    /// Begins a new moment: something happened that is no event of a port.
    pub(super) fn bump(&self) {
        let next = self.table.generation.get().wrapping_add(1);
        self.table.generation.set(next);
    }

    /// Takes the event of one port, if it is pending, without running its handler.
    fn take(&self, port: Port) -> bool {
        let pending = self.table.platform.take_pending(port);
        if pending {
            self.bump();
            self.count(|stats| stats.received += 1);
        }
        pending
    }

    /// Sleeps until an event comes or `deadline` has passed, then dispatches. Returns at once, after
    /// a dispatch, when an event was taken since `seen`; may return early for no reason.
    pub fn wait(&self, seen: Generation, deadline: Instant) {
        self.dispatch();
        if self.generation() != seen {
            return;
        }
        let mut list = self.table.list.take();
        list.clear();
        let mut deadline = deadline;
        {
            let slots = self.table.slots.borrow();
            if slots.len() <= MAX_POLL_PORTS {
                list.extend(slots.iter().map(|slot| slot.port));
            } else {
                let start = self.table.turn.get() % slots.len();
                let turn = slots.iter().cycle().skip(start).take(MAX_POLL_PORTS);
                list.extend(turn.map(|slot| slot.port));
                self.table.turn.set(start + MAX_POLL_PORTS);
                deadline = deadline.min(self.now() + TURN_INTERVAL);
            }
        }
        self.table.platform.wait(&list, deadline);
        self.table.list.set(mem::take(&mut list));
        let woken = self.dispatch();
        self.count(|stats| {
            stats.polls += 1;
            stats.wake_ups += u64::from(woken);
        });
    }

    /// Gives the turn back once: the executor polls again after the next event, and at `until` if none comes.
    pub async fn pause(&self, until: Instant) {
        let mut has_paused = false;
        poll_fn(|_| match mem::replace(&mut has_paused, true) {
            true => Poll::Ready(()),
            false => {
                self.table.due.set(until);
                Poll::Pending
            }
        })
        .await;
    }

    /// When to poll a future again that has just come to a [`pause`](Self::pause), even if no event comes.
    pub fn due(&self) -> Instant {
        self.table.due.get()
    }

    /// Runs a future to its end that gives its turn back by [`pause`](Self::pause) alone.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            let seen = self.generation();
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            self.wait(seen, self.due());
        }
    }

    /// Sleeps until `deadline`, dispatching what comes meanwhile.
    pub fn sleep_until(&self, deadline: Instant) {
        while self.now() < deadline {
            self.wait(self.generation(), deadline);
        }
    }
}
