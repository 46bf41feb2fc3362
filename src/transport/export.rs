//! Trees of files, served to another domain, by whatever the two are connected.
//!
//! ```
//! use xen9p::platform::Platform;
//! use xen9p::transport::vchan;
//! use xen9p::xen::Xen;
//!
//! /// Serves for ever: a poll after each event, and whenever something has to be looked at again.
//! fn serve<P: Platform>(xen: &Xen<P>, mut exports: Vec<vchan::Export<P>>) {
//!     loop {
//!         let seen = xen.events.generation();
//!         for export in &mut exports {
//!             export.poll();
//!         }
//!         let checks = exports.iter().map(|export| export.next_check());
//!         if let Some(next) = checks.min() {
//!             xen.events.wait(seen, next);
//!         }
//!     }
//! }
//! ```

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use super::desk::{Desk, Line, ROUNDS};
use crate::hypercall::DomId;
use crate::server::{Limits, Policy, ServeError};
use crate::time::Instant;
use crate::transport::TransportError;
use crate::transport::stream::ByteStream;

/// Waits for one client after the other.
pub trait Listen {
    /// A client's connection.
    type Stream: Connection + 'static;
    /// Why no client can come.
    type Error: fmt::Display + Copy;

    /// The domain that may connect.
    fn client(&self) -> DomId;

    /// What it is known by, for people.
    fn name(&self) -> &str;

    /// The connection of a client that has come. Does not wait for one: to be asked again after an event, and at
    /// [`next_check`](Self::next_check).
    ///
    /// # Errors
    /// No client can come. The next call tries again.
    fn accept(&mut self) -> Result<Option<Self::Stream>, Self::Error>;

    /// When [`accept`](Self::accept) has something to do again even if no event comes before.
    fn next_check(&self) -> Instant;
}

/// A connection to another domain, to be served on.
pub trait Connection: ByteStream {
    /// Looks after the other side, which may have died.
    ///
    /// # Errors
    /// The connection is over. Bytes that came before may still be there to be read.
    fn check(&mut self) -> Result<(), TransportError>;

    /// When [`check`](Self::check) has something to look at again if nothing happens before.
    fn next_check(&self) -> Instant;

    /// Whether there is something to read, or the connection is over. If not, an event will come.
    fn is_readable(&mut self) -> bool;

    /// Whether there is room to write. If not, an event will come.
    ///
    /// # Errors
    /// The connection is over.
    fn is_writable(&mut self) -> Result<bool, TransportError>;
}

impl<S: Connection> Line for RefCell<S> {
    type Error = TransportError;

    fn read(&self, into: &mut [u8]) -> Poll<Result<usize, TransportError>> {
        let mut stream = self.borrow_mut();
        loop {
            match stream.read(into) {
                Ok(0) => {
                    // It may wait for the room that was made.
                    stream.flush()?;
                    if !stream.is_readable() {
                        return Poll::Pending;
                    }
                }
                done => return Poll::Ready(done),
            }
        }
    }

    fn write(&self, from: &mut &[u8]) -> Poll<Result<(), TransportError>> {
        let mut stream = self.borrow_mut();
        while !from.is_empty() {
            let count = stream.write(from)?;
            *from = from.get(count..).unwrap_or_default();
            if count == 0 {
                stream.flush()?;
                if !stream.is_writable()? {
                    return Poll::Pending;
                }
            }
        }
        stream.flush()?;
        Poll::Ready(Ok(()))
    }
}

type Served = Pin<Box<dyn Future<Output = ServeError<TransportError>>>>;

/// What makes that of a connection.
type Serve<S> = Box<dyn Fn(Rc<RefCell<S>>) -> Served>;

/// Serves trees to the client of a listener, one connection after the other, whenever it is [polled](Self::poll).
///
/// The tree may wait for something, even for another domain: nothing blocks here but xenstore, when a vchan is published.
pub struct Export<L: Listen> {
    listener: L,
    /// What each client gets.
    serve: Serve<L::Stream>,
    session: Option<Session<L::Stream>>,
    /// How often may still be read in this poll.
    rounds: Rc<Cell<u32>>,
    /// Why no client could come when it was tried last.
    error: Option<L::Error>,
    /// What went wrong last, with a client or without.
    last_error: Option<String>,
    /// It is being polled, further down the stack.
    polled: bool,
}

struct Session<S> {
    // Dropped first: it has the stream, too.
    future: Served,
    stream: Rc<RefCell<S>>,
}

impl<L: Listen> fmt::Debug for Export<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("listener", &self.listener.name())
            .field("connected", &self.session.is_some())
            .finish_non_exhaustive()
    }
}

impl<L: Listen> Export<L> {
    /// Serves to the listener's client what `policy` gives for each connection.
    ///
    /// A request that waits for something, such as a file of another domain's, keeps none of those behind it from being served.
    /// As many as `limits.requests` may wait; beyond, requests are refused with EAGAIN, and none waits for another's place. So two
    /// domains that wait for each other, in however large a circle, are told so and do not wait for ever.
    pub fn new<Q: Policy + 'static>(
        listener: L,
        policy: impl Fn() -> Q + 'static,
        limits: Limits,
    ) -> Self {
        let rounds = Rc::<Cell<u32>>::default();
        let left = Rc::clone(&rounds);
        let serve = move |stream: Rc<RefCell<L::Stream>>| -> Served {
            let lines = [stream as Rc<dyn Line<Error = TransportError>>];
            let desk = Desk::new(lines, policy(), limits.clone(), &left);
            Box::pin(async move {
                let over = Rc::clone(&desk).serve().await;
                desk.close().await;
                over
            })
        };
        Export {
            listener,
            serve: Box::new(serve),
            session: None,
            rounds,
            error: None,
            last_error: None,
            polled: false,
        }
    }

    /// The domain that is served.
    pub fn client(&self) -> DomId {
        self.listener.client()
    }

    /// What it is known by: the directory of a vchan in xenstore, the port of an Argo ring.
    pub fn path(&self) -> &str {
        self.listener.name()
    }

    /// Whether a client is connected.
    pub fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    /// Why no client could come when that was tried last, such as that nothing could be published. It is tried again.
    pub fn error(&self) -> Option<L::Error> {
        self.error
    }

    /// What went wrong last, whatever came after it: no client could come, or one broke a rule.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// When to [poll](Self::poll) even if no event comes before; at once, if the client had more to ask than one poll answers.
    pub fn next_check(&self) -> Instant {
        match &self.session {
            Some(_) if self.rounds.get() == 0 => Instant::from_nanos(0),
            Some(session) => session.stream.borrow().next_check(),
            None => self.listener.next_check(),
        }
    }

    /// Does what there is to do: looks for a client, takes its requests, sends replies, and looks after a client that may have
    /// died. To be called after each event of the domain, and at [`next_check`](Self::next_check). Returns at once when
    /// it is called by what it does itself.
    pub fn poll(&mut self) {
        if core::mem::replace(&mut self.polled, true) {
            return;
        }
        // The next client may have come already.
        if self.turn() {
            self.turn();
        }
        self.polled = false;
    }

    /// Whether a connection has ended.
    fn turn(&mut self) -> bool {
        self.rounds.set(ROUNDS);
        if self.session.is_none() {
            let accepted = self.listener.accept();
            self.error = accepted.as_ref().err().copied();
            match accepted {
                Ok(None) => return false,
                Ok(Some(stream)) => {
                    let stream = Rc::new(RefCell::new(stream));
                    let future = (self.serve)(Rc::clone(&stream));
                    self.session = Some(Session { future, stream });
                }
                Err(error) => {
                    self.fail(&error);
                    return false;
                }
            }
        }
        let Some(session) = &mut self.session else {
            return false;
        };
        // What is wrong is told by the stream itself when it is read from next.
        let _ = session.stream.borrow_mut().check();
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(over) = session.future.as_mut().poll(&mut cx) {
            match over {
                ServeError::Stream(TransportError::Lost(_)) => {
                    log::info!("{}: the client has gone", self.listener.name());
                }
                error => self.fail(&error),
            }
            self.session = None;
            return true;
        }
        false
    }

    fn fail(&mut self, error: &dyn fmt::Display) {
        log::warn!("{}: {error}", self.listener.name());
        self.last_error = Some(format!("{error}"));
    }
}
