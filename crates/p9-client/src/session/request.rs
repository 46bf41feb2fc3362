//! Requests as futures.

use alloc::rc::Rc;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;

use super::Span;
use super::engine::{Engine, RETRYABLE_LOSS};
use super::engine::{Outcome, unlocks};
use super::violation::Violation;
use super::{Deferred, Session};
use crate::Error;
use p9_wire::{Errno, Reply, Request};
use xen9p_time::Instant;

/// Reads a reply, or finds something wrong with it.
pub(super) type ReadReply<'a> = dyn FnMut(&Reply<'_>) -> Result<(), Violation> + 'a;

/// Reads what `read` finds in a reply into `found`. One in which it finds nothing is of a wrong type.
pub(super) fn into<T>(
    found: &mut Option<T>,
    mut read: impl FnMut(&Reply<'_>) -> Option<T>,
) -> impl FnMut(&Reply<'_>) -> Result<(), Violation> {
    move |reply| {
        *found = read(reply);
        match found {
            Some(_) => Ok(()),
            None => Err(Violation::WrongType),
        }
    }
}

/// A request in flight. Dropping it takes the request back.
#[derive(Debug)]
pub(super) struct PendingRequest {
    session: Session,
    /// The slot, until the reply is taken: from then on it may be another request's.
    index: Option<u16>,
}

impl PendingRequest {
    /// Whether the reply is there to be taken. After an error it never will be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let nested = self.session.is_nested();
        self.session.with_link_or(
            Poll::Ready(Err(Error::WouldBlock)),
            |engine, link| match self.index {
                Some(index) => engine.poll_reply(index, cx.waker(), link.is_away(), nested),
                None => Poll::Ready(Err(Error::Closed)),
            },
        )
    }

    /// Lets `read` see the reply that [`poll`](Self::poll) announced.
    #[inline(never)]
    pub(super) fn take(&mut self, read: &mut ReadReply<'_>) -> Result<(), Error> {
        let index = self.index.ok_or(Error::Closed)?;
        self.session.with_or(Err(Error::WouldBlock), |engine| {
            self.index = None;
            engine.take_reply(index, read)
        })
    }

    /// Copies the data of the Rread or Rreaddir that [`poll`](Self::poll) announced to the front of
    /// `into`, which has room for as much as was asked for.
    pub(super) fn take_data(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let index = self.index.ok_or(Error::Closed)?;
        self.session
            .with_link_or(Err(Error::WouldBlock), |engine, link| {
                self.index = None;
                engine.take_data(link.transport(), index, into)
            })
    }

    /// Lends the data of the Rread that [`poll`](Self::poll) announced.
    pub(super) fn with_data(&mut self, see: &mut dyn FnMut(&mut Span<'_>)) -> Result<usize, Error> {
        let index = self.index.ok_or(Error::Closed)?;
        self.session
            .with_link_or(Err(Error::WouldBlock), |engine, link| {
                self.index = None;
                engine.with_data(link.transport(), index, see)
            })
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            self.session.with_or_later(Deferred::Abandon(index));
        }
    }
}

/// Requests that depend on one another travel back to back on one lane, whose server takes them in order:
/// none waits for the answer to the one before it. If that fails, those behind it have to fail by
/// themselves, without having done anything.
impl PendingRequest {
    /// Sends a request right behind this one. `None` if that can't be done now: the transport promises no
    /// order, or there is no room. Send it when this one is answered then.
    ///
    /// Where the connection is lost and found again, the fid that this one makes may be gone: an answer to the second that is
    /// [lost](Retries::again) has both to be made again.
    pub(super) fn send_pipelined(
        &self,
        request: &Request<'_>,
    ) -> Result<Option<PendingRequest>, Error> {
        let Some(first) = self.index else {
            return Ok(None);
        };
        let index = self.session.with_link_or(Ok(None), |engine, link| {
            if !engine.is_in_order() {
                return Ok(None);
            }
            let lane = engine.lane_of(engine.tag(first));
            engine.submit(link.transport(), request, None, Some(lane))
        })?;
        Ok(index.map(|index| PendingRequest {
            session: self.session.clone(),
            index: Some(index),
        }))
    }

    /// Lets the request be carried through though no task waits for its answer.
    pub(super) fn detach(mut self) {
        if let Some(index) = self.index.take() {
            self.session.with_or_later(Deferred::Detach(index));
        }
    }

    /// Waits for the reply to `request`, and makes it again if it is lost with a connection.
    pub(super) async fn arrive(&mut self, request: &Request<'_>) -> Result<(), Error> {
        let mut retries = Retries::default();
        loop {
            match poll_fn(|cx| self.poll(cx)).await {
                Err(error) if retries.again(error) => {
                    *self = self.session.clone().send(request).await?
                }
                result => return result,
            }
        }
    }

    /// Waits for the reply and lets `read` see it.
    pub(super) async fn answer(&mut self, read: &mut ReadReply<'_>) -> Result<(), Error> {
        poll_fn(|cx| self.poll(cx)).await?;
        self.take(read)
    }
}

/// A request on its way out and back. All requests but those of large transfers share this one state
/// machine, whatever they ask for: an image has dozens of places that make one.
struct RequestFuture<'a> {
    session: &'a Session,
    request: Request<'a>,
    /// When it has to be answered; set when there is no room for it at first.
    deadline: Option<Instant>,
    pending: Option<PendingRequest>,
    /// How often it was lost with a connection.
    retries: Retries,
}

/// How often the same request was lost with a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retries(u8);

impl Retries {
    /// Whether `error` asks for another try: the request was lost, and not too often yet.
    pub(super) fn again(&mut self, error: Error) -> bool {
        const MAX_RETRIES: u8 = 3;

        self.0 = self.0.saturating_add(1);
        error == RETRYABLE_LOSS && self.0 <= MAX_RETRIES
    }
}

impl<'a> RequestFuture<'a> {
    fn new(session: &'a Session, request: Request<'a>) -> Self {
        RequestFuture {
            session,
            request,
            deadline: None,
            pending: None,
            retries: Retries::default(),
        }
    }

    /// The request in flight, once the reply is there to be taken.
    #[inline(never)]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<&mut PendingRequest, Error>> {
        let session = self.session;
        loop {
            let pending = match &mut self.pending {
                Some(pending) => pending,
                none => none.insert(ready!(session.poll_send(
                    cx,
                    &self.request,
                    &mut self.deadline
                ))?),
            };
            match ready!(pending.poll(cx)) {
                Err(error) if self.retries.again(error) => {
                    self.pending = None;
                    self.deadline = None;
                }
                Err(error) => return Poll::Ready(Err(error)),
                Ok(()) => break,
            }
        }
        self.pending
            .as_mut()
            .map_or(Poll::Pending, |pending| Poll::Ready(Ok(pending)))
    }

    /// Lets `read` see the reply once it is there.
    fn poll_reply(
        &mut self,
        cx: &mut Context<'_>,
        read: &mut ReadReply<'_>,
    ) -> Poll<Result<(), Error>> {
        let pending = ready!(self.poll(cx))?;
        Poll::Ready(pending.take(read))
    }
}

/// The future of a request whose reply is read by `F`.
#[must_use = "futures do nothing unless they are polled"]
pub(super) struct ReplyFuture<'a, F> {
    request: RequestFuture<'a>,
    read: F,
}

// Nothing in it is ever pinned.
impl<F> Unpin for ReplyFuture<'_, F> {}

impl<T, F: FnMut(&Reply<'_>) -> Option<T>> Future for ReplyFuture<'_, F> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        let ReplyFuture { request, read } = &mut *self;
        let mut found = None;
        ready!(request.poll_reply(cx, &mut into(&mut found, read)))?;
        Poll::Ready(found.ok_or(Error::Closed))
    }
}

/// The future of a request whose reply is data.
#[must_use = "futures do nothing unless they are polled"]
pub(super) struct ReadFuture<'a> {
    request: RequestFuture<'a>,
    into: &'a mut [u8],
}

impl Future for ReadFuture<'_> {
    type Output = Result<usize, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        let ReadFuture { request, into } = &mut *self;
        let pending = ready!(request.poll(cx))?;
        Poll::Ready(pending.take_data(into))
    }
}

impl Session {
    /// When a request that is made now has to be answered.
    pub(super) fn deadline(&self) -> Instant {
        self.now() + self.timeout()
    }

    /// Whether what is asked for from now on is asked for others, which wait for the answers: set it while a server is
    /// polled whose tree leads here, and take it back after that.
    ///
    /// Such a request never waits for a tag: the others may wait for one another in a circle that leads through this session, and
    /// all tags be those of the circle. It fails with EAGAIN then. Nor does it wait for room for its reply, if the server
    /// [keeps replies](crate::transport::Transport::holds_replies). From the first call on what the program asks
    /// for itself leaves half of the [window](super::Config::window) to others.
    pub fn ask_for_others(&self, on: bool) {
        self.with_or((), |engine| engine.ask_for_others(on));
    }

    /// Counts bytes that the server took.
    pub(super) fn wrote(&self, count: usize) {
        self.with_or((), |engine| engine.count_written(count));
    }

    /// A number that grows whenever a request of this session that may change a file's content begins
    /// or ends.
    pub(crate) fn changes(&self) -> u64 {
        // Unlike any that was seen before, where that can't be asked.
        self.with_or(u64::MAX, |engine| engine.changes())
    }

    /// Whether the connection is found again when it is lost.
    pub(super) fn recovers(&self) -> bool {
        self.with_or(false, |engine| engine.recovers())
    }

    /// A number that is another one after each loss of the connection, and after its last.
    pub(crate) fn epoch(&self) -> u64 {
        self.with_or(u64::MAX, |engine| {
            2 * engine.stats().losses + u64::from(engine.error().is_some())
        })
    }

    /// Sends a request as soon as there is a free tag and room for it.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        request: &Request<'_>,
        deadline: &mut Option<Instant>,
    ) -> Poll<Result<PendingRequest, Error>> {
        let index = ready!(self.poll_submit(cx, request, deadline))?;
        Poll::Ready(Ok(PendingRequest {
            session: self.clone(),
            index: Some(index),
        }))
    }

    /// Sends a request if there is room for it now, and half of the tags are free: no task waits for its answer yet.
    pub(super) fn try_send(&self, request: &Request<'_>) -> Result<Option<PendingRequest>, Error> {
        let sent = self.with_link_or(Ok(None), |engine, link| match engine.is_half_free() {
            _ if engine.is_kept_for_others() => Ok(None),
            true => engine.submit(link.transport(), request, None, None),
            false => Ok(None),
        });
        Ok(sent?.map(|index| PendingRequest {
            session: self.clone(),
            index: Some(index),
        }))
    }

    /// Sends a request as soon as there is a free tag and room for it, and does not wait for the answer.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<PendingRequest, Error> {
        let mut deadline = None;
        poll_fn(|cx| self.poll_send(cx, request, &mut deadline)).await
    }

    /// Sends a detached write; its result is stored in `outcome` when it arrives.
    pub(super) fn poll_post(
        &self,
        cx: &mut Context<'_>,
        request: &Request<'_>,
        deadline: &mut Option<Instant>,
        outcome: &Rc<Outcome>,
    ) -> Poll<Result<(), Error>> {
        let index = ready!(self.poll_submit(cx, request, deadline))?;
        self.with_or((), |engine| engine.detach(index, Some(outcome.clone())));
        Poll::Ready(Ok(()))
    }

    /// Takes the outcome of a write that [`poll_post`](Self::poll_post) sent, once there is one.
    pub(super) fn poll_outcome(
        &self,
        cx: &mut Context<'_>,
        outcome: &Outcome,
        deadline: Instant,
    ) -> Poll<Result<u32, Error>> {
        if let Some(result) = outcome.take() {
            return Poll::Ready(result);
        }
        ready!(self.poll_until(cx, deadline))?;
        // The program may have done something else for so long, and the reply have come in time.
        self.run_once();
        if let Some(result) = outcome.take() {
            return Poll::Ready(result);
        }
        self.with_or((), Engine::overdue);
        Poll::Ready(outcome.take().unwrap_or(Err(Error::TimedOut)))
    }

    /// The deadline, if there is none yet, begins with the first time that there is no room.
    #[inline(never)]
    fn poll_submit(
        &self,
        cx: &mut Context<'_>,
        request: &Request<'_>,
        deadline: &mut Option<Instant>,
    ) -> Poll<Result<u16, Error>> {
        let nested = self.is_nested();
        let sent = self.with_link_or(Err(Error::WouldBlock), |engine, link| {
            // What is given up is given up anyway where there is no server.
            let ends = matches!(request, Request::Clunk { .. }) || unlocks(request);
            let must = ends && engine.lost().is_none();
            if engine.is_interrupted() && !must {
                return Err(Error::Interrupted);
            }
            let sent = match !ends && engine.is_kept_for_others() {
                true => None,
                false => engine.submit(link.transport(), request, *deadline, None)?,
            };
            if sent.is_none() {
                if engine.asks_for_others() && engine.is_used_up() {
                    return Err(Errno::EAGAIN.into());
                }
                if nested && let Some(lost) = engine.lost_in_search() {
                    return Err(lost);
                }
                if nested && link.is_away() {
                    return Err(Error::WouldBlock);
                }
                let now = link.now();
                if engine.has_due(now)
                    && let Some(transport) = link.transport()
                {
                    // The same for those that no task waits for: what has come counts, and may make room.
                    let seen = engine.progress();
                    engine.wait_for_room(cx.waker(), now + engine.timeout());
                    engine.exchange(transport);
                    if engine.progress() != seen {
                        return Ok(None);
                    }
                }
                engine.expire_due(now);
                engine.alive()?;
                if engine.lost().is_some() {
                    // What had no room was not the new server's fault.
                    *deadline = None;
                }
                let deadline = *deadline.get_or_insert(now + engine.timeout());
                if now >= deadline {
                    return Err(Error::TimedOut);
                }
                engine.wait_for_room(cx.waker(), deadline);
            }
            Ok(sent)
        });
        match sent {
            Ok(Some(index)) => Poll::Ready(Ok(index)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or why the session is over.
    pub(crate) async fn sleep(&self, time: Duration) -> Result<(), Error> {
        let until = self.now() + time;
        poll_fn(|cx| self.poll_until(cx, until)).await
    }

    /// Ready when the time has come; polled again whenever a request is over.
    fn poll_until(&self, cx: &mut Context<'_>, until: Instant) -> Poll<Result<(), Error>> {
        let nested = self.is_nested();
        self.with_link_or(Poll::Ready(Err(Error::WouldBlock)), |engine, link| {
            engine.alive()?;
            if engine.is_interrupted() {
                return Poll::Ready(Err(Error::Interrupted));
            }
            if link.now() >= until {
                return Poll::Ready(Ok(()));
            }
            if nested && (link.is_away() || engine.lost_in_search().is_some()) {
                return Poll::Ready(Err(Error::WouldBlock));
            }
            engine.wait_for_room(cx.waker(), until);
            Poll::Pending
        })
    }

    /// Makes a request and reads its reply. `read` gives `None` for a reply of another type, which
    /// ends the session.
    pub(super) fn call<'a, T, F: FnMut(&Reply<'_>) -> Option<T>>(
        &'a self,
        request: Request<'a>,
        read: F,
    ) -> ReplyFuture<'a, F> {
        ReplyFuture {
            request: RequestFuture::new(self, request),
            read,
        }
    }

    /// Makes a request whose reply says nothing but that it is done.
    pub(super) fn call_unit<'a>(
        &'a self,
        request: Request<'a>,
    ) -> ReplyFuture<'a, impl FnMut(&Reply<'_>) -> Option<()>> {
        // The type was checked on arrival.
        self.call(request, |_| Some(()))
    }

    /// Makes a request whose reply is data, and copies that to the front of `into`.
    pub(super) fn fetch<'a>(&'a self, request: Request<'a>, into: &'a mut [u8]) -> ReadFuture<'a> {
        ReadFuture {
            request: RequestFuture::new(self, request),
            into,
        }
    }
}
