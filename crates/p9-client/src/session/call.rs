//! Requests as futures.

use alloc::rc::Rc;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;

use super::core::{AGAIN, Core};
use super::lent::Span;
use super::slot::{Outcome, unlocks};
use super::violation::Violation;
use super::{Deferred, Session};
use crate::Error;
use p9_wire::{Reply, Request};
use xen9p_time::Instant;

/// A request in flight. Dropping it takes the request back.
#[derive(Debug)]
pub(super) struct Ticket {
    session: Session,
    /// The slot, until the reply is taken: from then on it may be another request's.
    index: Option<u16>,
}

impl Ticket {
    /// Whether the reply is there to be taken. After an error it never will be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let nested = self.session.is_nested();
        self.session
            .with_or(Poll::Ready(Err(Error::WouldBlock)), |core| {
                match self.index {
                    Some(index) => core.poll_reply(index, cx.waker(), nested),
                    None => Poll::Ready(Err(Error::Closed)),
                }
            })
    }

    /// Lets `read` see the reply that [`poll`](Self::poll) announced.
    #[inline(never)]
    pub(super) fn take(
        &mut self,
        read: &mut dyn FnMut(&Reply<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let index = self.index.ok_or(Error::Closed)?;
        self.session.with_or(Err(Error::WouldBlock), |core| {
            self.index = None;
            core.take_reply(index, read)
        })
    }

    /// Copies the data of the Rread or Rreaddir that [`poll`](Self::poll) announced to the front of
    /// `into`, which has room for as much as was asked for.
    pub(super) fn take_data(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let index = self.index.ok_or(Error::Closed)?;
        self.session.with_or(Err(Error::WouldBlock), |core| {
            self.index = None;
            core.take_data(index, into)
        })
    }

    /// Lends the data of the Rread that [`poll`](Self::poll) announced.
    pub(super) fn lend_data(&mut self, see: &mut dyn FnMut(&mut Span<'_>)) -> Result<usize, Error> {
        let index = self.index.ok_or(Error::Closed)?;
        self.session.with_or(Err(Error::WouldBlock), |core| {
            self.index = None;
            core.lend_data(index, see)
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            self.session.with_or_later(Deferred::Abandon(index));
        }
    }
}

/// Requests that depend on one another travel back to back on one lane, whose server takes them in order:
/// none waits for the answer to the one before it. If that fails, those behind it have to fail by
/// themselves, without having done anything.
impl Ticket {
    /// Sends a request right behind this one. `None` if that can't be done now: the transport promises no
    /// order, the connection may be found again when it is lost, or there is no room. It is to be sent when this one is answered then.
    pub(super) fn behind(&self, request: &Request<'_>) -> Result<Option<Ticket>, Error> {
        let Some(first) = self.index else {
            return Ok(None);
        };
        let index = self.session.with_or(Ok(None), |core| {
            // After a loss it would be unknown what the first one had made of the second.
            if core.recovers || !core.device.in_order() {
                return Ok(None);
            }
            let lane = core.lane_of(core.tag(first));
            core.submit(request, None, Some(lane))
        })?;
        Ok(index.map(|index| Ticket {
            session: self.session.clone(),
            index: Some(index),
        }))
    }

    /// Lets the request be carried through with nobody waiting for its answer.
    pub(super) fn let_go(mut self) {
        if let Some(index) = self.index.take() {
            self.session.with_or_later(Deferred::LetGo(index));
        }
    }

    /// Waits for the reply to `request`, and makes it again if it is lost with a connection.
    pub(super) async fn arrive(&mut self, request: &Request<'_>) -> Result<(), Error> {
        let mut losses = Losses::default();
        loop {
            match poll_fn(|cx| self.poll(cx)).await {
                Err(error) if losses.again(error) => {
                    *self = self.session.clone().send(request).await?
                }
                result => return result,
            }
        }
    }

    /// Waits for the reply and reads it; `None` from `read` for one of another type ends the session.
    pub(super) async fn answer<T>(
        &mut self,
        read: impl FnOnce(&Reply<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        poll_fn(|cx| self.poll(cx)).await?;
        take(self, &mut Some(read))
    }
}

/// Reads the reply that has come.
fn take<T>(
    ticket: &mut Ticket,
    read: &mut Option<impl FnOnce(&Reply<'_>) -> Option<T>>,
) -> Result<T, Error> {
    let wrong = Error::from(Violation::WrongType);
    let mut found = None;
    ticket.take(&mut |reply| {
        found = read.take().and_then(|read| read(reply));
        found.is_some().then_some(()).ok_or(wrong)
    })?;
    found.ok_or(wrong)
}

/// A request on its way out and back. All requests but those of large transfers share this one state
/// machine, whatever they ask for: an image has dozens of places that make one.
struct Exchange<'a> {
    session: &'a Session,
    request: Request<'a>,
    /// When it has to be answered; set when there is no room for it at first.
    deadline: Option<Instant>,
    ticket: Option<Ticket>,
    /// How often it was lost with a connection.
    losses: Losses,
}

/// How often the same request was lost with a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses(u8);

impl Losses {
    /// Whether `error` means that the request is to be made again: it was lost, and not too often yet.
    pub(super) fn again(&mut self, error: Error) -> bool {
        const MOST: u8 = 3;

        self.0 = self.0.saturating_add(1);
        error == AGAIN && self.0 <= MOST
    }
}

impl<'a> Exchange<'a> {
    fn new(session: &'a Session, request: Request<'a>) -> Self {
        Exchange {
            session,
            request,
            deadline: None,
            ticket: None,
            losses: Losses::default(),
        }
    }

    /// The ticket, once the reply is there to be taken.
    #[inline(never)]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<&mut Ticket, Error>> {
        let session = self.session;
        loop {
            let ticket = match &mut self.ticket {
                Some(ticket) => ticket,
                none => none.insert(ready!(session.poll_send(
                    cx,
                    &self.request,
                    &mut self.deadline
                ))?),
            };
            match ready!(ticket.poll(cx)) {
                Err(error) if self.losses.again(error) => {
                    self.ticket = None;
                    self.deadline = None;
                }
                Err(error) => return Poll::Ready(Err(error)),
                Ok(()) => break,
            }
        }
        self.ticket
            .as_mut()
            .map_or(Poll::Pending, |ticket| Poll::Ready(Ok(ticket)))
    }
}

/// The future of a request whose reply is read by `F`.
#[must_use = "futures do nothing unless they are polled"]
pub(super) struct Call<'a, F> {
    exchange: Exchange<'a>,
    read: Option<F>,
}

// Nothing in it is ever pinned.
impl<F> Unpin for Call<'_, F> {}

impl<T, F: FnOnce(&Reply<'_>) -> Option<T>> Future for Call<'_, F> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        let Call { exchange, read } = &mut *self;
        let ticket = ready!(exchange.poll(cx))?;
        Poll::Ready(take(ticket, read))
    }
}

/// The future of a request whose reply is data.
#[must_use = "futures do nothing unless they are polled"]
pub(super) struct Fetch<'a> {
    exchange: Exchange<'a>,
    into: &'a mut [u8],
}

impl Future for Fetch<'_> {
    type Output = Result<usize, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        let Fetch { exchange, into } = &mut *self;
        let ticket = ready!(exchange.poll(cx))?;
        Poll::Ready(ticket.take_data(into))
    }
}

impl Session {
    /// When a request that is made now has to be answered.
    pub(super) fn deadline(&self) -> Instant {
        self.now() + self.timeout()
    }

    /// Counts bytes that the server took.
    pub(super) fn wrote(&self, count: usize) {
        self.with_or((), |core| core.stats.bytes_written += count as u64);
    }

    /// A number that grows whenever a request of this session that may change a file's content begins
    /// or ends.
    pub(crate) fn changes(&self) -> u64 {
        // Unlike any that was seen before, where that can't be asked.
        self.with_or(u64::MAX, |core| core.changes)
    }

    /// Sends a request as soon as there is a free tag and room for it.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        request: &Request<'_>,
        deadline: &mut Option<Instant>,
    ) -> Poll<Result<Ticket, Error>> {
        let index = ready!(self.poll_submit(cx, request, deadline))?;
        Poll::Ready(Ok(Ticket {
            session: self.clone(),
            index: Some(index),
        }))
    }

    /// Sends a request as soon as there is a free tag and room for it, and does not wait for the answer.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Ticket, Error> {
        let mut deadline = None;
        poll_fn(|cx| self.poll_send(cx, request, &mut deadline)).await
    }

    /// Sends a write that nobody waits for; `outcome` tells one day.
    pub(super) fn poll_post(
        &self,
        cx: &mut Context<'_>,
        request: &Request<'_>,
        deadline: &mut Option<Instant>,
        outcome: &Rc<Outcome>,
    ) -> Poll<Result<(), Error>> {
        let index = ready!(self.poll_submit(cx, request, deadline))?;
        self.with_or((), |core| core.detach(index, Some(outcome.clone())));
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
        self.with_or((), Core::overdue);
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
        let sent = self.with_or(Err(Error::WouldBlock), |core| {
            // What is given up is given up anyway where there is no server.
            let ends = matches!(request, Request::Clunk { .. }) || unlocks(request);
            let must = ends && core.lost.is_none();
            if core.is_interrupted() && !must {
                return Err(Error::Interrupted);
            }
            let sent = core.submit(request, *deadline, None)?;
            if sent.is_none() {
                if nested && core.device.is_away() {
                    return Err(Error::WouldBlock);
                }
                let now = core.device.now();
                core.expire_due(now);
                core.alive()?;
                if core.lost.is_some() {
                    // What had no room was not the new server's fault.
                    *deadline = None;
                }
                let deadline = *deadline.get_or_insert(now + core.timeout);
                if now >= deadline {
                    return Err(Error::TimedOut);
                }
                core.wait_for_room(cx.waker(), deadline);
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
        self.with_or(Poll::Ready(Err(Error::WouldBlock)), |core| {
            core.alive()?;
            if core.is_interrupted() {
                return Poll::Ready(Err(Error::Interrupted));
            }
            if core.device.now() >= until {
                return Poll::Ready(Ok(()));
            }
            if nested && core.device.is_away() {
                return Poll::Ready(Err(Error::WouldBlock));
            }
            core.wait_for_room(cx.waker(), until);
            Poll::Pending
        })
    }

    /// Makes a request and reads its reply. `read` gives `None` for a reply of another type, which
    /// ends the session.
    pub(super) fn call<'a, T, F: FnOnce(&Reply<'_>) -> Option<T>>(
        &'a self,
        request: Request<'a>,
        read: F,
    ) -> Call<'a, F> {
        Call {
            exchange: Exchange::new(self, request),
            read: Some(read),
        }
    }

    /// Makes a request whose reply says nothing but that it is done.
    pub(super) fn order<'a>(
        &'a self,
        request: Request<'a>,
    ) -> Call<'a, impl FnOnce(&Reply<'_>) -> Option<()>> {
        // The type was checked on arrival.
        self.call(request, |_| Some(()))
    }

    /// Makes a request whose reply is data, and copies that to the front of `into`.
    pub(super) fn fetch<'a>(&'a self, request: Request<'a>, into: &'a mut [u8]) -> Fetch<'a> {
        Fetch {
            exchange: Exchange::new(self, request),
            into,
        }
    }
}
