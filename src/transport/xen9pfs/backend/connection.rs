//! Rings of a frontend that are mapped, and the server behind them.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::convert::Infallible;
use core::fmt;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use crate::hypercall::event_channel::Status;
use crate::hypercall::{DomId, XenError};
use crate::platform::Platform;
use crate::server::{Done, Job, Limits, Policy, Server, Violation};
use crate::xen::Xen;
use crate::xen::event::{EventChannel, Port};
use crate::xen::grant::{GrantRef, MapError, MappedPages};
use crate::xen::shared::SharedMemory;
use crate::xen::xenbus::backend::Offer;
use crate::xen::xenbus::backend::ring::{self, Lie, MAX_ORDER, Replies, Requests};

/// Bytes of replies after which the frontend is told in the middle of a batch, so that it works on them meanwhile.
const BATCH: u32 = 64 << 10;

/// Requests of a connection before the rest of the domain has its turn: a frontend on another processor may send them as
/// fast as they are done.
const TURN: u32 = 64;

/// A buffer for replies before the size of messages is agreed.
const FIRST_BUFFER: usize = 4096;

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
    /// The frontend breaks the rules of the ring.
    Lie(Lie),
    /// It sends what is no 9P.
    Protocol(Violation),
    /// No memory for messages of the agreed size.
    NoMemory,
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
            Broken::Lie(lie) => lie.fmt(f),
            Broken::Protocol(violation) => violation.fmt(f),
            Broken::NoMemory => f.write_str("no memory for messages of the agreed size"),
            Broken::Died => f.write_str("the frontend has died (its event channel is gone)"),
            Broken::Ended => f.write_str("this domain serves it no more"),
            Broken::Saved => f.write_str("this domain was saved, and its connections are gone"),
        }
    }
}

impl From<Lie> for Broken {
    fn from(lie: Lie) -> Self {
        Broken::Lie(lie)
    }
}

impl From<Violation> for Broken {
    fn from(violation: Violation) -> Self {
        Broken::Protocol(violation)
    }
}

/// A ring. Fields are dropped in order: both directions, the port, and only then the memory.
struct Lane<P: Platform> {
    requests: RefCell<Requests<'static>>,
    out: RefCell<Out>,
    channel: EventChannel<P>,
    /// The port of the frontend that is bound to ours.
    other_port: Port,
    pages: [MappedPages<P>; 2],
}

/// The sending side of a ring.
struct Out {
    replies: Replies<'static>,
    /// Whole messages, sent as soon as there is room.
    backlog: Vec<u8>,
    /// Bytes that were published or consumed since the frontend was told; `None` if there are none.
    untold: Option<u32>,
}

impl Out {
    /// Puts a message into the ring, where there is room for it.
    fn put(&mut self, message: &[u8]) {
        self.replies.copy_in(0, message);
        self.replies.publish(message.len() as u32);
        let untold = self.untold.unwrap_or(0);
        self.untold = Some(untold.saturating_add(message.len() as u32));
    }

    /// Sends a message now or, if there is no room, as soon as there is.
    fn send(&mut self, message: &[u8]) -> Result<(), Broken> {
        if self.backlog.is_empty() && self.replies.room()? as usize >= message.len() {
            self.put(message);
            return Ok(());
        }
        let reserved = self.backlog.try_reserve(message.len());
        reserved.map_err(|_| Broken::NoMemory)?;
        self.backlog.extend_from_slice(message);
        Ok(())
    }

    /// Sends what was left, as far as there is room; returns the room behind it, if that is all.
    fn send_backlog(&mut self) -> Result<Option<u32>, Lie> {
        loop {
            let room = self.replies.room()?;
            let Some(size) = self.backlog.first_chunk().copied() else {
                return Ok(Some(room));
            };
            let size = u32::from_le_bytes(size);
            if size > room {
                return Ok(None);
            }
            let rest = self.backlog.split_off(size as usize);
            let message = core::mem::replace(&mut self.backlog, rest);
            self.put(&message);
        }
    }
}

impl<P: Platform> Lane<P> {
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
        Ok(Lane {
            requests: RefCell::new(requests),
            out: RefCell::new(Out {
                replies,
                backlog: Vec::new(),
                untold: None,
            }),
            channel,
            other_port,
            pages: [interface, data],
        })
    }

    /// Sends an event if there is something that the frontend was not told of.
    fn tell(&self) {
        if self.out.borrow_mut().untold.take().is_some() {
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

/// What the futures of all rings have in common.
struct Shared<P: Platform, Q: Policy> {
    server: Rc<RefCell<Server<Q>>>,
    lanes: Vec<Lane<P>>,
    /// Requests that may begin in this turn.
    left: Cell<u32>,
    /// Requests that were completed, at all.
    completed: Cell<u64>,
}

/// The end of a session, which may wait for the tree.
pub(super) type Close = Pin<Box<dyn Future<Output = ()>>>;

/// A connection that is served, whatever its tree.
pub(super) struct Connection<P: Platform> {
    peer: DomId,
    // Before what they use.
    lanes: Vec<Pin<Box<dyn Future<Output = Broken>>>>,
    rings: Rc<dyn Rings<P>>,
}

/// What a connection is asked for besides its futures.
trait Rings<P: Platform> {
    fn lanes(&self) -> &[Lane<P>];
    fn left(&self) -> &Cell<u32>;
    fn completed(&self) -> u64;
    fn close(&self) -> Close;
}

impl<P: Platform, Q: Policy + 'static> Rings<P> for Shared<P, Q> {
    fn lanes(&self) -> &[Lane<P>] {
        &self.lanes
    }

    fn left(&self) -> &Cell<u32> {
        &self.left
    }

    fn completed(&self) -> u64 {
        self.completed.get()
    }

    fn close(&self) -> Close {
        let server = Rc::clone(&self.server);
        Box::pin(async move {
            let job = server.borrow_mut().close();
            let done = job.run(&mut []).await;
            let _ = server.borrow_mut().complete(done, &mut []);
        })
    }
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
        let mut lanes = Vec::new();
        for (index, ring) in offer.rings.iter().enumerate() {
            let lane = Lane::new(xen, peer, index, *ring, max_order)?;
            // Each message has to fit into each ring.
            limits.msize = limits.msize.min(lane.requests.borrow().capacity());
            lanes.push(lane);
        }
        if let Some(handler) = on_event {
            for lane in &lanes {
                let handler = Rc::clone(handler);
                lane.channel.on_event(move || handler());
            }
        }
        let shared = Rc::new(Shared {
            server: Rc::new(RefCell::new(Server::new(policy, limits))),
            lanes,
            left: Cell::new(0),
            completed: Cell::new(0),
        });
        let lanes = (0..shared.lanes.len()).map(|index| {
            let shared = Rc::clone(&shared);
            let serve = async move {
                match shared.serve(index).await {
                    Err(broken) => broken,
                    Ok(never) => match never {},
                }
            };
            Box::pin(serve) as Pin<Box<dyn Future<Output = Broken>>>
        });
        Ok(Connection {
            peer,
            lanes: lanes.collect(),
            rings: shared,
        })
    }

    /// Takes requests and sends replies, as far as there are any, up to a limit; returns whether there may be more to do
    /// at once.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(super) fn poll(&mut self) -> Result<bool, Broken> {
        self.rings.left().set(TURN);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let before = self.rings.completed();
            for lane in &mut self.lanes {
                if let Poll::Ready(broken) = lane.as_mut().poll(&mut cx) {
                    return Err(broken);
                }
            }
            let left = self.rings.left().get();
            // What one ring has done another may have waited for.
            if left == 0 || self.rings.completed() == before {
                self.rings.lanes().iter().for_each(Lane::tell);
                return Ok(left == 0);
            }
        }
    }

    /// Looks whether the frontend is still there. One that is destroyed sends no event.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn check(&self) -> Result<(), Broken> {
        let mut lanes = self.rings.lanes().iter();
        lanes.try_for_each(|lane| lane.check(self.peer))
    }

    /// Lets go of the rings. The end of the session is left to be waited for.
    pub(super) fn close(self) -> Close {
        self.rings.close()
    }
}

/// Makes a buffer at least so large.
fn grow(buffer: &mut Vec<u8>, size: usize) -> Result<(), Broken> {
    if buffer.len() < size {
        let reserved = buffer.try_reserve_exact(size - buffer.len());
        reserved.map_err(|_| Broken::NoMemory)?;
        buffer.resize(size, 0);
    }
    Ok(())
}

impl<P: Platform, Q: Policy> Shared<P, Q> {
    /// The work of a ring.
    async fn serve(&self, index: usize) -> Result<Infallible, Broken> {
        let Some(lane) = self.lanes.get(index) else {
            return Err(Broken::Saved);
        };
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        loop {
            let size = self.next(lane).await?;
            let (msize, agreed) = {
                let server = self.server.borrow();
                (server.msize(), server.dialect().is_some())
            };
            if size > msize {
                return Err(Violation::TooLarge.into());
            }
            grow(&mut requests, size as usize)?;
            let message = requests.get_mut(..size as usize).unwrap_or_default();
            {
                let mut ring = lane.requests.borrow_mut();
                ring.copy_out(0, message);
                ring.consume();
            }
            // It may wait for that room.
            lane.out.borrow_mut().untold.get_or_insert(0);
            let room = if agreed { msize as usize } else { FIRST_BUFFER };
            grow(&mut replies, room)?;
            let job = self.server.borrow_mut().accept(index as u32, message)?;
            if let Some(job) = self.ready(job).await {
                let need = job.largest_reply(msize);
                let done = job.run(&mut replies).await;
                self.room(lane, need).await?;
                self.complete(lane, done, &mut replies)?;
            }
            self.completed.set(self.completed.get() + 1);
        }
    }

    /// The size of the next request, once it is there and its turn has come.
    async fn next(&self, lane: &Lane<P>) -> Result<u32, Broken> {
        poll_fn(|_| {
            lane.out.borrow_mut().send_backlog()?;
            // Found wrong even where there is no turn.
            let Some(size) = lane.requests.borrow_mut().front()? else {
                return Poll::Pending;
            };
            match self.left.get().checked_sub(1) {
                Some(left) => {
                    self.left.set(left);
                    Poll::Ready(Ok(size))
                }
                None => Poll::Pending,
            }
        })
        .await
    }

    /// The job, once the requests are done that it depends on; `None`: it was taken back.
    async fn ready<'m>(&self, job: Job<'m, Q::Node>) -> Option<Job<'m, Q::Node>> {
        let mut held = Some(job);
        poll_fn(|_| {
            let job = match held.take() {
                Some(job) if job.is_waiting() => self.server.borrow_mut().retry(job),
                job => job,
            };
            match job {
                Some(job) if job.is_waiting() => {
                    held = Some(job);
                    Poll::Pending
                }
                job => Poll::Ready(job),
            }
        })
        .await
    }

    /// Waits until a reply of `size` bytes fits. The frontend is told first of what it has got.
    async fn room(&self, lane: &Lane<P>, size: u32) -> Result<(), Broken> {
        poll_fn(|_| {
            let room = lane.out.borrow_mut().send_backlog()?;
            match room {
                Some(room) if room >= size => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// Sends what came of a request, and the Rflush that waited for it.
    fn complete(
        &self,
        lane: &Lane<P>,
        done: Done<'_, Q::Node>,
        buffer: &mut [u8],
    ) -> Result<(), Broken> {
        let mut server = self.server.borrow_mut();
        let len = server.complete(done, buffer).len();
        if len > 0 {
            let reply = buffer.get(..len).unwrap_or_default();
            lane.out.borrow_mut().send(reply)?;
        }
        while let Some(flush) = server.next_flush(buffer) {
            if let Some(to) = self.lanes.get(flush.lane as usize) {
                let reply = buffer.get(..flush.len).unwrap_or_default();
                to.out.borrow_mut().send(reply)?;
            }
        }
        drop(server);
        if lane.out.borrow().untold >= Some(BATCH) {
            lane.tell();
        }
        Ok(())
    }
}
