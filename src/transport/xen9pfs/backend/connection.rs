//! Rings of a frontend that are mapped, and the server behind them.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker, ready};

use crate::hypercall::event_channel::Status;
use crate::hypercall::{DomId, XenError};
use crate::platform::Platform;
use crate::server::{Limits, Policy, ServeError};
pub(super) use crate::transport::desk::Close;
use crate::transport::desk::{Desk, Line, ROUNDS};
use crate::xen::Xen;
use crate::xen::event::{EventChannel, Port};
use crate::xen::grant::{GrantRef, MapError, MappedPages};
use crate::xen::shared::SharedMemory;
use crate::xen::xenbus::backend::Offer;
use crate::xen::xenbus::backend::ring::{self, Lie, MAX_ORDER, Replies, Requests};

/// Bytes of replies after which the frontend is told in the middle of a batch, so that it works on them meanwhile.
const BATCH: u32 = 64 << 10;

/// Why a connection does not come about, or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The index page of the ring can't be mapped.
    Interface(usize, MapError),
    /// Its order is none.
    Order(usize, u32),
    /// Its pages of data can't be mapped.
    Data(usize, MapError),
    /// Its event channel can't be bound.
    Channel(usize, XenError),
    /// The frontend breaks the rules of the ring, or those of 9P, or there is no memory for its messages.
    Served(ServeError<Lie>),
    /// The frontend's end of an event channel is gone.
    Died,
    /// This domain serves it no more.
    Ended,
    /// This domain was saved, and has nothing mapped any more.
    Saved,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Interface(ring, error) => {
                write!(f, "ring {ring}: cannot map its index page: {error}")
            }
            Broken::Order(ring, order) => write!(
                f,
                "ring {ring}: its index page says that it has 2^{order} pages, which are none or more than are offered"
            ),
            Broken::Data(ring, error) => {
                write!(f, "ring {ring}: cannot map its pages of data: {error}")
            }
            Broken::Channel(ring, error) => {
                write!(f, "ring {ring}: cannot bind its event channel: {error}")
            }
            Broken::Served(error) => error.fmt(f),
            Broken::Died => f.write_str("the frontend has died (its event channel is gone)"),
            Broken::Ended => f.write_str("this domain serves it no more"),
            Broken::Saved => f.write_str("this domain was saved, and its connections are gone"),
        }
    }
}

/// A ring. Fields are dropped in order: both directions, the port, and only then the memory.
struct Ring<P: Platform> {
    requests: RefCell<In>,
    replies: RefCell<Out>,
    channel: EventChannel<P>,
    /// The port of the frontend that is bound to ours.
    other_port: Port,
    pages: [MappedPages<P>; 2],
}

/// The receiving side of a ring.
struct In {
    requests: Requests<'static>,
    /// Bytes of the request at the front that were taken.
    taken: u32,
}

impl In {
    /// Takes bytes of the request at the front, once all of it is there; no byte of it before that.
    fn take(&mut self, into: &mut [u8]) -> Result<usize, Lie> {
        let Some(size) = self.requests.front()? else {
            return Ok(0);
        };
        let count = into.len().min((size - self.taken) as usize);
        let into = into.get_mut(..count).unwrap_or_default();
        self.requests.copy_out(self.taken, into);
        self.taken += count as u32;
        if self.taken == size {
            self.requests.consume();
            self.taken = 0;
        }
        Ok(count)
    }
}

/// The sending side of a ring.
struct Out {
    replies: Replies<'static>,
    /// Bytes that were published or consumed since the frontend was told; `None` if there are none.
    untold: Option<u32>,
}

impl<P: Platform> Line for Ring<P> {
    type Error = Lie;

    fn read(&self, into: &mut [u8]) -> Poll<Result<usize, Lie>> {
        // Found wrong even where nothing is sent.
        self.replies.borrow().replies.room()?;
        match self.requests.borrow_mut().take(into)? {
            0 => Poll::Pending,
            count => {
                // The frontend may wait for that room.
                self.replies.borrow_mut().untold.get_or_insert(0);
                Poll::Ready(Ok(count))
            }
        }
    }

    fn room(&self, size: usize) -> Poll<Result<(), Lie>> {
        match self.replies.borrow().replies.room()? as usize >= size {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Puts a message into the ring, all of it by one store.
    fn write(&self, from: &mut &[u8]) -> Poll<Result<(), Lie>> {
        ready!(self.room(from.len()))?;
        let message = core::mem::take(from);
        let mut out = self.replies.borrow_mut();
        out.replies.copy_in(0, message);
        out.replies.publish(message.len() as u32);
        let untold = out.untold.unwrap_or(0);
        let untold = untold.saturating_add(message.len() as u32);
        out.untold = Some(untold);
        drop(out);
        if untold >= BATCH {
            self.tell();
        }
        Poll::Ready(Ok(()))
    }
}

impl<P: Platform> Ring<P> {
    fn new(
        xen: &Xen<P>,
        peer: DomId,
        index: usize,
        (page, port): (u32, u32),
        max_order: u32,
    ) -> Result<Self, Broken> {
        let map = |refs: &[GrantRef]| xen.grants.map(peer, refs);
        // SAFETY: mapped pages stay mapped as long as their handles live, and those live in one place with the ring, which is
        // dropped before them and alone uses them.
        let memory = |pages: &MappedPages<P>| unsafe {
            SharedMemory::<'static>::new(pages.as_ptr(), pages.size())
        };
        let interface = map(&[GrantRef(page)]).map_err(|error| Broken::Interface(index, error))?;
        let refs = ring::references(memory(&interface), max_order.min(MAX_ORDER))
            .map_err(|order| Broken::Order(index, order))?;
        let data = map(&refs).map_err(|error| Broken::Data(index, error))?;
        let other_port = Port(port);
        let channel = xen
            .events
            .bind_interdomain(peer, other_port)
            .map_err(|error| Broken::Channel(index, error))?;
        let (requests, replies) = ring::split(memory(&interface), memory(&data));
        Ok(Ring {
            requests: RefCell::new(In { requests, taken: 0 }),
            replies: RefCell::new(Out {
                replies,
                untold: None,
            }),
            channel,
            other_port,
            pages: [interface, data],
        })
    }

    /// Sends an event if there is something that the frontend was not told of.
    fn tell(&self) {
        if self.replies.borrow_mut().untold.take().is_some() {
            // Refused only where the port is gone, which is found by its status.
            let _ = self.channel.notify();
        }
    }

    /// What there is to say against going on with the ring.
    fn check(&self, peer: DomId) -> Result<(), Broken> {
        if self.channel.is_stale() || self.pages.iter().any(MappedPages::is_lost) {
            return Err(Broken::Saved);
        }
        match self.channel.status() {
            Ok(Status::Interdomain(domain, port)) if (domain, port) == (peer, self.other_port) => {
                Ok(())
            }
            _ => Err(Broken::Died),
        }
    }
}

/// A connection that is served, whatever its tree.
pub(super) struct Connection<P: Platform> {
    peer: DomId,
    rings: Vec<Rc<Ring<P>>>,
    served: Pin<Box<dyn Future<Output = ServeError<Lie>>>>,
    close: Box<dyn FnOnce() -> Close>,
    /// How often may still be read in this poll.
    rounds: Rc<Cell<u32>>,
}

impl<P: Platform> Connection<P> {
    /// Maps what a frontend offers, and begins to serve it what `policy` gives.
    ///
    /// # Errors
    /// Nothing is mapped or bound then.
    pub(super) fn new<Q: Policy + 'static>(
        xen: &Xen<P>,
        peer: DomId,
        offer: &Offer,
        max_order: u32,
        policy: Q,
        mut limits: Limits,
        on_event: Option<&Rc<dyn Fn()>>,
    ) -> Result<Self, Broken> {
        let mut rings = Vec::new();
        for (index, offered) in offer.rings.iter().enumerate() {
            let ring = Ring::new(xen, peer, index, *offered, max_order)?;
            // Each message has to fit into each ring.
            let capacity = ring.requests.borrow().requests.capacity();
            limits.msize = limits.msize.min(capacity);
            rings.push(Rc::new(ring));
        }
        if let Some(handler) = on_event {
            for ring in &rings {
                let handler = Rc::clone(handler);
                ring.channel.on_event(move || handler());
            }
        }
        let lines = rings.iter().map(Rc::clone);
        let lines = lines.map(|ring| ring as Rc<dyn Line<Error = Lie>>);
        let rounds = Rc::default();
        let desk = Desk::new(lines, policy, limits, &rounds);
        Ok(Connection {
            peer,
            rings,
            served: Box::pin(Rc::clone(&desk).serve()),
            close: Box::new(move || desk.close()),
            rounds,
        })
    }

    /// Takes requests and sends replies, as far as there are any, up to a limit; returns whether there may be more to do
    /// at once.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(super) fn poll(&mut self) -> Result<bool, Broken> {
        self.rounds.set(ROUNDS);
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(error) = self.served.as_mut().poll(&mut cx) {
            return Err(Broken::Served(error));
        }
        self.rings.iter().for_each(|ring| ring.tell());
        Ok(self.rounds.get() == 0)
    }

    /// Looks whether the frontend is still there. One that is destroyed sends no event.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn check(&self) -> Result<(), Broken> {
        let mut rings = self.rings.iter();
        rings.try_for_each(|ring| ring.check(self.peer))
    }

    /// Lets go of the rings. The end of the session is left to be waited for.
    pub(super) fn close(self) -> Close {
        drop(self.served);
        (self.close)()
    }
}
