//! Requests as futures.

use core::future::poll_fn;
use core::task::{Context, Poll};
use core::time::Duration;

use super::Session;
use crate::p9::Error;
use crate::p9::wire::{Reply, Request};
use crate::time::Instant;

/// A request in flight. Dropping it takes the request back.
#[derive(Debug)]
pub(super) struct Ticket {
    session: Session,
    index: u16,
}

impl Ticket {
    /// The reply, once it is there. Not to be polled again after that.
    pub(super) fn poll_reply<T>(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&Reply<'_>) -> Result<T, Error>,
    ) -> Poll<Result<T, Error>> {
        self.session
            .with(|core| match core.poll_reply(self.index, cx.waker()) {
                Poll::Ready(Ok(())) => Poll::Ready(core.take_reply(self.index, read)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            })
    }

    /// The data of an Rread or Rreaddir, once it is there, copied to the front of `into`, which has
    /// room for as much as was asked for. Not to be polled again after that.
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<Result<usize, Error>> {
        self.session
            .with(|core| match core.poll_reply(self.index, cx.waker()) {
                Poll::Ready(Ok(())) => Poll::Ready(core.take_data(self.index, into)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.session.with(|core| core.abandon(self.index));
    }
}

impl Session {
    /// When a request that is made now has to be answered.
    pub(super) fn deadline(&self) -> Instant {
        self.with(|core| core.transport.now() + core.timeout)
    }

    /// Counts bytes that the server took.
    pub(super) fn wrote(&self, count: usize) {
        self.with(|core| core.stats.bytes_written += count as u64);
    }

    /// A number that grows whenever a request of this session that may change a file's content begins
    /// or ends.
    pub(crate) fn changes(&self) -> u64 {
        self.with(|core| core.changes)
    }

    /// Sends a request as soon as there is a free tag and room for it.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Poll<Result<Ticket, Error>> {
        let sent = self.with(|core| {
            if core.is_interrupted() && !matches!(request, Request::Clunk { .. }) {
                return Err(Error::Interrupted);
            }
            let sent = core.submit(request, deadline)?;
            if sent.is_none() {
                if core.transport.now() >= deadline {
                    return Err(Error::TimedOut);
                }
                core.wait_for_room(cx.waker(), deadline);
            }
            Ok(sent)
        });
        match sent {
            Ok(Some(index)) => Poll::Ready(Ok(Ticket {
                session: self.clone(),
                index,
            })),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or why the session is over.
    pub(crate) async fn sleep(&self, time: Duration) -> Result<(), Error> {
        let until = self.with(|core| core.transport.now()) + time;
        poll_fn(|cx| {
            self.with(|core| {
                if let Err(error) = core.alive() {
                    return Poll::Ready(Err(error));
                }
                if core.is_interrupted() {
                    return Poll::Ready(Err(Error::Interrupted));
                }
                if core.transport.now() >= until {
                    return Poll::Ready(Ok(()));
                }
                core.wait_for_room(cx.waker(), until);
                Poll::Pending
            })
        })
        .await
    }

    /// Makes a request and reads its reply. `read` gives `None` for a reply of another type, which
    /// ends the session.
    pub(super) async fn call<T>(
        &self,
        request: Request<'_>,
        read: impl FnOnce(&Reply<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let deadline = self.deadline();
        let mut ticket = poll_fn(|cx| self.poll_send(cx, &request, deadline)).await?;
        let mut read = Some(read);
        poll_fn(|cx| {
            ticket.poll_reply(cx, |reply| {
                read.take()
                    .and_then(|read| read(reply))
                    .ok_or(Error::Protocol("a reply of another type than its request"))
            })
        })
        .await
    }

    /// Makes a request whose reply says nothing but that it is done.
    pub(super) async fn order(&self, request: Request<'_>) -> Result<(), Error> {
        // The type was checked on arrival.
        self.call(request, |_| Some(())).await
    }

    /// Makes a request whose reply is data, and copies that to the front of `into`.
    pub(super) async fn fetch(
        &self,
        request: Request<'_>,
        into: &mut [u8],
    ) -> Result<usize, Error> {
        let deadline = self.deadline();
        let mut ticket = poll_fn(|cx| self.poll_send(cx, &request, deadline)).await?;
        poll_fn(|cx| ticket.poll_data(cx, into)).await
    }
}
