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
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

use crate::hypercall::DomId;
use crate::server::{Done, Frames, Job, Limits, Policy, ServeError, Server};
use crate::time::Instant;
use crate::transport::TransportError;
use crate::transport::stream::ByteStream;

/// How often at most what has come is read in one poll: a client that never stops asking does not keep this side from what
/// else it does.
const ROUNDS: u32 = 64;

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

type Served = Pin<Box<dyn Future<Output = Result<(), ServeError<TransportError>>>>>;

/// What makes that of a connection.
type Serve<S> = Box<dyn Fn(Rc<RefCell<S>>) -> Served>;

/// How often may still be read in this poll.
type Rounds = Rc<Cell<u32>>;

/// Serves trees to the client of a listener, one connection after the other, whenever it is [polled](Self::poll).
///
/// The tree may wait for something, even for another domain: nothing blocks here but xenstore, when a vchan is published.
pub struct Export<L: Listen> {
    listener: L,
    /// What each client gets.
    serve: Serve<L::Stream>,
    session: Option<Session<L::Stream>>,
    rounds: Rounds,
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

/// Bytes that have come, at least one.
async fn read(
    stream: &RefCell<impl Connection>,
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
                    if !stream.is_readable() {
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
async fn write(stream: &RefCell<impl Connection>, mut from: &[u8]) -> Result<(), TransportError> {
    poll_fn(|_| {
        let mut stream = stream.borrow_mut();
        while !from.is_empty() {
            let count = stream.write(from)?;
            from = from.get(count..).unwrap_or(&[]);
            if count == 0 && !wait_for_room(&mut *stream)? {
                return Poll::Pending;
            }
        }
        stream.flush()?;
        Poll::Ready(Ok(()))
    })
    .await
}

/// Asks for an event when there is room; says whether there is by now.
fn wait_for_room(stream: &mut impl Connection) -> Result<bool, TransportError> {
    stream.flush()?;
    stream.is_writable()
}

/// How a worker's time ends.
enum Over {
    /// Another one reads on.
    Worker,
    /// The stream has ended.
    Stream,
}

type Worker = Pin<Box<dyn Future<Output = Result<Over, ServeError<TransportError>>>>>;

/// A buffer for replies before the size of messages is agreed, and the least at any time.
const FIRST_BUFFER: usize = 4096;

/// A connection that is served by workers. One reads, and serves what it has read; where that has to wait, the next one
/// reads on.
struct Desk<S, Q: Policy> {
    stream: Rc<RefCell<S>>,
    server: RefCell<Server<Q>>,
    rounds: Rounds,
    /// What has come already, for the worker that reads on.
    rest: RefCell<Option<Frames>>,
    /// A worker is sending its reply.
    sending: Cell<bool>,
    /// Requests that are over.
    done: Cell<u64>,
}

impl<S: Connection + 'static, Q: Policy + 'static> Desk<S, Q> {
    /// Serves until the stream ends, and closes the session.
    async fn serve(self: Rc<Self>) -> Result<(), ServeError<TransportError>> {
        let mut workers = Vec::new();
        let served = poll_fn(|cx| self.poll(&mut workers, cx)).await;
        drop(workers);
        let close = self.server.borrow_mut().close();
        let done = close.run(&mut []).await;
        let _ = self.server.borrow_mut().complete(done, &mut []);
        served
    }

    fn poll(
        self: &Rc<Self>,
        workers: &mut Vec<Worker>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ServeError<TransportError>>> {
        loop {
            let before = self.done.get();
            if let Some(rest) = self.rest.take() {
                workers.push(Box::pin(Rc::clone(self).work(rest)));
            }
            let mut ended = None;
            workers.retain_mut(|worker| match worker.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(Over::Worker)) => false,
                Poll::Ready(Ok(Over::Stream)) => {
                    ended = Some(Ok(()));
                    false
                }
                Poll::Ready(Err(error)) => {
                    ended = Some(Err(error));
                    false
                }
            });
            if let Some(ended) = ended {
                return Poll::Ready(ended);
            }
            // What one has done another may have waited for.
            if self.done.get() == before && self.rest.borrow().is_none() {
                return Poll::Pending;
            }
        }
    }

    /// Reads requests and serves them, until one has to wait.
    async fn work(self: Rc<Self>, mut frames: Frames) -> Result<Over, ServeError<TransportError>> {
        let mut buffer = Vec::new();
        loop {
            let msize = self.server.borrow().msize();
            let Some(message) = frames.next(msize)? else {
                let space = frames.space(msize)?;
                let read = read(&self.stream, &self.rounds, space).await;
                match read.map_err(ServeError::Stream)? {
                    0 => return Ok(Over::Stream),
                    count => frames.filled(count),
                }
                continue;
            };
            let job = self.server.borrow_mut().accept(0, message)?;
            let size = (job.largest_reply(msize) as usize).max(FIRST_BUFFER);
            if buffer.len() < size {
                let reserved = buffer.try_reserve_exact(size - buffer.len());
                reserved.map_err(|_| ServeError::OutOfMemory)?;
                buffer.resize(size, 0);
            }
            let (done, waited) = {
                let mut run = pin!(self.run(job, &mut buffer));
                match poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await {
                    Poll::Ready(done) => (done, false),
                    Poll::Pending => {
                        self.rest.replace(Some(frames.behind()?));
                        (run.await, true)
                    }
                }
            };
            self.answer(done, &mut buffer).await?;
            if waited {
                return Ok(Over::Worker);
            }
            frames.done();
        }
    }

    /// Does a job, once the requests are done that it depends on; `None`: it was taken back.
    async fn run<'m>(&self, job: Job<'m, Q::Node>, buffer: &mut [u8]) -> Option<Done<'m, Q::Node>> {
        let mut held = Some(job);
        let job = poll_fn(|_| {
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
        });
        let job = job.await?;
        let ticket = job.ticket();
        let done = {
            let mut run = pin!(job.run(buffer));
            poll_fn(|cx| match run.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending => {
                    let flushed = ticket.map(|ticket| self.server.borrow().is_flushed(ticket));
                    match flushed {
                        Some(true) => Poll::Ready(None),
                        _ => Poll::Pending,
                    }
                }
            })
            .await
        };
        if let (None, Some(ticket)) = (&done, ticket) {
            self.server.borrow_mut().abandon(ticket);
        }
        done
    }

    /// Sends what came of a request, and the Rflush that waited for it.
    async fn answer(
        &self,
        done: Option<Done<'_, Q::Node>>,
        buffer: &mut [u8],
    ) -> Result<(), ServeError<TransportError>> {
        if let Some(done) = done {
            let len = self.server.borrow_mut().complete(done, buffer).len();
            self.send(buffer.get(..len).unwrap_or_default()).await?;
        }
        loop {
            let flush = self.server.borrow_mut().next_flush(buffer);
            let Some(flush) = flush else { break };
            self.send(buffer.get(..flush.len).unwrap_or_default())
                .await?;
        }
        self.done.set(self.done.get() + 1);
        Ok(())
    }

    /// Sends a message when those that are being sent have gone.
    async fn send(&self, message: &[u8]) -> Result<(), ServeError<TransportError>> {
        if message.is_empty() {
            return Ok(());
        }
        poll_fn(|_| match self.sending.replace(true) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
        let sent = write(&self.stream, message).await;
        self.sending.set(false);
        // Another one may wait for that.
        self.done.set(self.done.get() + 1);
        sent.map_err(ServeError::Stream)
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
        let rounds = Rounds::default();
        let left = Rc::clone(&rounds);
        let serve = move |stream: Rc<RefCell<L::Stream>>| -> Served {
            let desk = Desk {
                stream,
                server: RefCell::new(Server::new(policy(), limits.clone())),
                rounds: Rc::clone(&left),
                rest: RefCell::new(Some(Frames::new())),
                sending: Cell::new(false),
                done: Cell::new(0),
            };
            Box::pin(Rc::new(desk).serve())
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
        if let Poll::Ready(ended) = session.future.as_mut().poll(&mut cx) {
            match ended {
                Ok(()) | Err(ServeError::Stream(TransportError::Lost(_))) => {
                    log::info!("{}: the client has gone", self.listener.name());
                }
                Err(error) => self.fail(&error),
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
