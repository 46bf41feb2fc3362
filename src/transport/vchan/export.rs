//! A tree of files, served to another domain.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use super::VchanError;
use super::server::Listener;
use super::stream::Stream;
use crate::hypercall::DomId;
use crate::platform::Platform;
use crate::server::{self, Limits, Policy, ServeError, Server};
use crate::time::Instant;
use crate::transport::TransportError;
use crate::transport::stream::ByteStream;

/// How often at most what has come is read in one poll: a client that never stops asking does not keep this side from what
/// else it does.
const ROUNDS: u32 = 64;

type Served = Pin<Box<dyn Future<Output = Result<(), ServeError<TransportError>>>>>;

/// What makes that of a connection.
type Serve<P> = Box<dyn Fn(Rc<RefCell<Stream<P>>>) -> Served>;

/// How often may still be read in this poll.
type Rounds = Rc<Cell<u32>>;

/// Serves trees to the client of a [`Listener`], one connection after the other, whenever it is [polled](Self::poll).
///
/// The tree may wait for something, even for another domain: nothing blocks here but xenstore, when a vchan is published.
pub struct Export<P: Platform> {
    listener: Listener<P>,
    /// What each client gets.
    serve: Serve<P>,
    session: Option<Session<P>>,
    rounds: Rounds,
    /// Why nothing could be published when it was tried last.
    error: Option<VchanError>,
    /// It is being polled, further down the stack.
    polled: bool,
}

struct Session<P: Platform> {
    // Dropped first: it has the stream, too.
    future: Served,
    stream: Rc<RefCell<Stream<P>>>,
}

impl<P: Platform> fmt::Debug for Export<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("listener", &self.listener)
            .field("connected", &self.session.is_some())
            .finish_non_exhaustive()
    }
}

/// Bytes that have come, at least one.
async fn read<P: Platform>(
    stream: &RefCell<Stream<P>>,
    rounds: &Cell<u32>,
    into: &mut [u8],
) -> Result<usize, TransportError> {
    poll_fn(|_| {
        let Some(left) = rounds.get().checked_sub(1) else {
            return Poll::Pending;
        };
        rounds.set(left);
        let mut stream = stream.borrow_mut();
        loop {
            match stream.read(into) {
                Ok(0) => {
                    // It may wait for the room that was made.
                    stream.flush()?;
                    if !stream.ask(false) {
                        return Poll::Pending;
                    }
                }
                done => return Poll::Ready(done),
            }
        }
    })
    .await
}

/// Sends all bytes.
async fn write<P: Platform>(
    stream: &RefCell<Stream<P>>,
    mut from: &[u8],
) -> Result<(), TransportError> {
    poll_fn(|_| {
        let mut stream = stream.borrow_mut();
        while !from.is_empty() {
            let count = stream.write(from)?;
            from = from.get(count..).unwrap_or(&[]);
            if count == 0 && !wait_for_room(&mut stream)? {
                return Poll::Pending;
            }
        }
        stream.flush()?;
        Poll::Ready(Ok(()))
    })
    .await
}

/// Asks for an event when there is room; says whether there is by now.
fn wait_for_room<P: Platform>(stream: &mut Stream<P>) -> Result<bool, TransportError> {
    stream.flush()?;
    stream.ask_for_room()
}

impl<P: Platform> Export<P> {
    /// Serves to the listener's client what `policy` gives for each connection.
    pub fn new<Q: Policy + 'static>(
        listener: Listener<P>,
        policy: impl Fn() -> Q + 'static,
        limits: Limits,
    ) -> Self {
        let rounds = Rounds::default();
        let left = Rc::clone(&rounds);
        let serve = move |stream: Rc<RefCell<Stream<P>>>| -> Served {
            let mut server = Server::new(policy(), limits.clone());
            let left = Rc::clone(&left);
            Box::pin(async move {
                server::serve(
                    &mut server,
                    async |into: &mut [u8]| read(&stream, &left, into).await,
                    async |from: &[u8]| write(&stream, from).await,
                )
                .await
            })
        };
        Export {
            listener,
            serve: Box::new(serve),
            session: None,
            rounds,
            error: None,
            polled: false,
        }
    }

    /// The domain that is served.
    pub fn client(&self) -> DomId {
        self.listener.client()
    }

    /// The directory of the vchan in xenstore.
    pub fn path(&self) -> &str {
        self.listener.path()
    }

    /// Whether a client is connected.
    pub fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    /// Why no vchan could be published when that was tried last. It is tried again.
    pub fn error(&self) -> Option<VchanError> {
        self.error
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
        self.turn();
        self.polled = false;
    }

    fn turn(&mut self) {
        self.rounds.set(ROUNDS);
        if self.session.is_none() {
            let accepted = self.listener.accept();
            self.error = accepted.as_ref().err().copied();
            match accepted {
                Ok(None) => return,
                Ok(Some(stream)) => {
                    let stream = Rc::new(RefCell::new(stream));
                    let future = (self.serve)(Rc::clone(&stream));
                    self.session = Some(Session { future, stream });
                }
                Err(error) => {
                    log::warn!("vchan {}: {error}", self.listener.path());
                    return;
                }
            }
        }
        let Some(session) = &mut self.session else {
            return;
        };
        // What is wrong is told by the stream itself when it is read from next.
        let _ = session.stream.borrow_mut().check();
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(ended) = session.future.as_mut().poll(&mut cx) {
            match ended {
                Ok(()) | Err(ServeError::Stream(TransportError::Lost(_))) => {
                    log::info!("vchan {}: the client has gone", self.listener.path());
                }
                Err(error) => log::warn!("vchan {}: {error}", self.listener.path()),
            }
            self.session = None;
        }
    }
}
