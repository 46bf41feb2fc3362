//! The client session: any number of requests in flight over one [`Transport`].
//!
//! A [`Session`] gives out tags and fids, sends requests, pairs replies with them, watches
//! deadlines, takes back abandoned requests (Tflush), and believes the server nothing:
//! a reply without a request, on the wrong lane, of the wrong type or larger than what was asked
//! for ends the session with one clear error, and nothing a server sends makes it panic or wait for
//! ever.
//!
//! # Who drives it
//! Operations are `async` functions that use nothing but `core::task`. [`Session::block_on`] runs
//! one to its end, waiting in the transport meanwhile. Under another executor the host's idle loop
//! calls [`Session::pump`] when something may have arrived and [`Session::wait`] when there is
//! nothing else to do.
//!
//! One driver waits in the transport, and holds nothing of the session meanwhile: event handlers, loggers, the idle hook and wakers
//! may use the session, drop files and futures. What they ask for can't wait, though: an operation that would have to is
//! [`Error::WouldBlock`].
//!
//! # Copies
//! Small replies are copied into private memory when they arrive. The data of a read stays in the
//! transport until the operation that asked for it is polled, which copies it straight to where it is
//! wanted: a buffer lent to a future is written by that future alone. Requests leave in one copy too.
//! Nothing is allocated per request.
//!
//! # Lanes
//! Requests with tag T travel on lane T % lanes (see [`crate::transport`]). Each takes a tag on the
//! lane with the fewest bytes in flight, so that small requests pass by bulk data on other lanes.

mod bulk;
mod driver;
mod engine;
mod fid;
mod fid_table;
mod journal;
mod link;
mod negotiate;
mod reattach;
mod recovery;
mod request;
mod violation;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::mem;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use super::{Dialect, Error};
use crate::transport::{Transport, TransportError};
use engine::{Engine, Shape};
use link::Link;
use p9_wire as wire;
use xen9p_time::Instant;

pub(crate) use bulk::{ReadAheadQueue, WriteBehindQueue};
pub use fid::{Fid, Walk};
pub use p9_tree::Span;
pub use recovery::{Recovery, Redial};
pub use violation::{Scope, Violation};

/// The most requests in flight.
pub const MAX_WINDOW: u16 = 16_384;

/// The smallest msize that is worked with.
pub const MIN_MSIZE: u32 = 4096;

/// What a session allows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The largest message to agree on, in bytes; the transport may allow less.
    pub msize: u32,
    /// How many requests may be in flight at once, from 1 to [`MAX_WINDOW`]; rounded up to a multiple
    /// of the transport's lanes.
    pub window: u16,
    /// How long to wait for the answer to each request.
    pub timeout: Duration,
}

impl Default for Config {
    /// The largest message the transport carries, 64 requests in flight, 30 s for each.
    fn default() -> Self {
        Config {
            msize: u32::MAX,
            window: 64,
            timeout: Duration::from_secs(30),
        }
    }
}

/// Counters of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests sent, Tflush included.
    pub requests: u64,
    /// Replies received.
    pub replies: u64,
    /// Bytes of all requests.
    pub bytes_sent: u64,
    /// Bytes of all replies.
    pub bytes_received: u64,
    /// Bytes of data that reads brought.
    pub bytes_read: u64,
    /// Bytes of data that the server took.
    pub bytes_written: u64,
    /// Requests taken back.
    pub flushes: u64,
    /// Replies copied twice, because their owner did not come for them in time.
    pub spills: u64,
    /// Times that a blocking operation waited.
    pub waits: u64,
    /// Times that the connection was lost and another one was looked for.
    pub losses: u64,
    /// Times that one was found.
    pub recoveries: u64,
    /// Files that could not be had again.
    pub stale: u64,
    /// Of the transport.
    pub transport: crate::transport::Stats,
}

/// The switch that ends waiting operations. Clones mean the same switch; it may be set from
/// anywhere, an interrupt handler included.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Ends all operations that wait, and those to come, with [`Error::Interrupted`]. Only closing
    /// and unlocking go on. One that sleeps sees it when it wakes up: at its next reply, at its deadline, or
    /// within 100 ms if an idle hook is set.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Lets operations work again.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A 9P session.
///
/// ```
/// use xen9p::p9::session::{Config, Session};
/// use xen9p::p9::{Dialect, Error};
/// use xen9p::transport::Transport;
///
/// /// Reads the beginning of a file, request by request.
/// async fn beginning(session: &Session, into: &mut [u8]) -> Result<usize, Error> {
///     session.negotiate(&Dialect::ALL).await?;
///     let (root, _) = session.attach(None, b"root", 0, b"").await?;
///     let (file, walk) = root.walk(&[b"etc", b"motd"]).await?;
///     if walk.names < 2 {
///         return Ok(0);
///     }
///     file.lopen(Default::default()).await?;
///     file.read_at(0, into, 0).await
/// }
/// ```
///
/// Clones mean the same session; it ends, and closes its transport, with the last
/// clone and the last [`Fid`].
#[derive(Clone)]
pub struct Session {
    shared: Rc<Shared>,
}

struct Shared {
    state: RefCell<State>,
    hook: RefCell<Option<Box<dyn FnMut()>>>,
    recovery: RefCell<Option<Recovery>>,
    /// What was done while the state was borrowed, by a logger that the transport called.
    later: RefCell<Vec<Deferred>>,
    is_later: Cell<bool>,
    /// Who asks for something now can't wait for it, see [`Error::WouldBlock`].
    nested: Cell<bool>,
    dialect: Cell<Dialect>,
    msize: Cell<u32>,
    timeout: Cell<Duration>,
    /// When the clock was read last.
    clock: Cell<Instant>,
    interrupt: Interrupt,
}

/// The engine, which does no I/O, and the transport.
struct State {
    engine: Engine,
    link: Link,
}

/// Something to be done as soon as the engine is free.
#[derive(Clone, Copy, Debug)]
enum Deferred {
    DropFid(wire::Fid),
    Abandon(u16),
    Detach(u16),
}

impl Deferred {
    fn run(self, engine: &mut Engine) {
        match self {
            Deferred::DropFid(fid) => engine.fids().dropped(fid),
            Deferred::Abandon(index) => engine.abandon(index),
            Deferred::Detach(index) => engine.detach_or_abandon(index),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Session");
        if let Ok(state) = self.shared.state.try_borrow() {
            let engine = &state.engine;
            out.field("dialect", &engine.dialect())
                .field("msize", &engine.msize())
                .field("dead", &engine.error());
        }
        out.finish_non_exhaustive()
    }
}

impl Session {
    /// A session that has not spoken yet; [`negotiate`](Self::negotiate) comes next.
    ///
    /// # Errors
    /// [`Error::MessageSize`] when the transport can't carry 4,096 bytes, [`Error::OutOfMemory`].
    pub fn new(transport: Box<dyn Transport>, config: &Config) -> Result<Session, Error> {
        let engine = Engine::new(Shape::of(&*transport), config)?;
        if engine.msize() < MIN_MSIZE {
            return Err(Error::MessageSize(engine.msize()));
        }
        Ok(Session {
            shared: Rc::new(Shared {
                hook: RefCell::new(None),
                recovery: RefCell::new(None),
                later: RefCell::new(Vec::new()),
                is_later: Cell::new(false),
                nested: Cell::new(false),
                dialect: Cell::new(engine.dialect()),
                msize: Cell::new(engine.msize()),
                timeout: Cell::new(engine.timeout()),
                clock: Cell::new(Instant::from_nanos(0)),
                interrupt: Interrupt(engine.interrupt()),
                state: RefCell::new(State {
                    engine,
                    link: Link::new(transport),
                }),
            }),
        })
    }

    /// The dialect agreed on.
    pub fn dialect(&self) -> Dialect {
        self.shared.dialect.get()
    }

    /// The largest message agreed on, in bytes.
    pub fn msize(&self) -> u32 {
        self.shared.msize.get()
    }

    /// The transport's monotonic clock. As it was read last, while the transport is waited in.
    pub fn now(&self) -> Instant {
        let last = self.shared.clock.get();
        let now = self.with_link_or(last, |_, link| link.now());
        self.shared.clock.set(now);
        now
    }

    /// How long each request may take.
    pub fn timeout(&self) -> Duration {
        self.shared.timeout.get()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.with_link_or(Stats::default(), |engine, link| Stats {
            transport: link.stats(),
            ..engine.stats()
        })
    }

    /// Why the session is over; `None` while it is not.
    pub fn error(&self) -> Option<Error> {
        self.with_or(None, |engine| engine.error())
    }

    /// How many fids are in use, those included whose clunk is not answered yet.
    pub fn fids_in_use(&self) -> usize {
        self.with_or(0, |engine| engine.fids().in_use())
    }

    /// The switch that ends waiting operations.
    pub fn interrupt(&self) -> Interrupt {
        self.shared.interrupt.clone()
    }

    /// Has `hook` called each time [`block_on`](Self::block_on) is about to wait, and in between at
    /// least every 100 ms. Nothing is borrowed meanwhile, so it may use this session; it is not
    /// called from within itself.
    pub fn set_idle_hook(&self, hook: Option<Box<dyn FnMut()>>) {
        let old = mem::replace(&mut *self.shared.hook.borrow_mut(), hook);
        drop(old);
    }

    /// Ends the session: everything that waits, and whatever comes, fails with
    /// [`TransportError::Closed`].
    pub fn abort(&self) {
        self.with_or((), |engine| {
            engine.end(TransportError::Closed.into());
        });
    }
}
