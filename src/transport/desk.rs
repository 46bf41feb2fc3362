//! A peer that is served by workers: a request that waits keeps none of those behind it from being served.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, ready};

use crate::p9::wire::HEADER_LEN;
use crate::server::{Done, Frames, Job, Limits, Policy, ServeError, Server};

/// How often at most what has come is read in one poll: a client that never stops asking does not keep this side from what
/// else it does.
pub(super) const ROUNDS: u32 = 64;

/// A buffer for replies before the size of messages is agreed, and the least at any time.
const FIRST_BUFFER: usize = 4096;

/// A way on which requests come and their replies go: a stream, or a ring. Where it is pending an event will come.
pub(super) trait Line {
    /// Why there is no going on.
    type Error;

    /// Takes bytes that have come, at least one.
    fn read(&self, into: &mut [u8]) -> Poll<Result<usize, Self::Error>>;

    /// Whether a message of this size can be sent at once. One line alone need not look: what it sends goes in order.
    fn room(&self, _size: usize) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    /// Sends what there is room for, and takes it off `from`; ready when nothing is left.
    fn write(&self, from: &mut &[u8]) -> Poll<Result<(), Self::Error>>;
}

/// A line, and what its workers have in common.
struct Lane<E> {
    line: Rc<dyn Line<Error = E>>,
    /// What has come already, for the worker that reads on.
    rest: RefCell<Vec<u8>>,
    /// A worker reads, or serves what it has read and has not had to wait yet.
    is_read: Cell<bool>,
    /// The places in the queue of those that send: how many were given, and how many are done with.
    places: [Cell<u64>; 2],
}

impl<E> Lane<E> {
    fn new(line: Rc<dyn Line<Error = E>>) -> Self {
        Lane {
            line,
            rest: RefCell::default(),
            is_read: Cell::new(false),
            places: Default::default(),
        }
    }

    /// Has another worker read on, from these bytes on.
    fn hand_on(&self, behind: &[u8]) -> Result<(), ServeError<E>> {
        let mut rest = self.rest.borrow_mut();
        let reserved = rest.try_reserve(behind.len());
        reserved.map_err(|_| ServeError::OutOfMemory)?;
        // Before what this worker has left there.
        rest.extend_from_slice(behind);
        rest.rotate_right(behind.len());
        self.is_read.set(false);
        Ok(())
    }

    fn take_rest(&self, into: &mut [u8]) -> usize {
        let mut rest = self.rest.borrow_mut();
        let count = rest.len().min(into.len());
        for (to, from) in into.iter_mut().zip(rest.drain(..count)) {
            *to = from;
        }
        count
    }

    /// Waits until what was queued before has gone, and until there is room for so much.
    async fn begin_to_send(&self, size: usize) -> Result<(), ServeError<E>> {
        let [given, done] = &self.places;
        let place = given.replace(given.get() + 1);
        poll_fn(|_| match done.get() == place {
            true => self.line.room(size),
            false => Poll::Pending,
        })
        .await
        .map_err(ServeError::Stream)
    }
}

/// What a worker needs for requests and for replies.
type Memory = (Frames, Vec<u8>);

/// A worker up to a request that has had to wait; then its memory serves another one.
type Worker<E> = Pin<Box<dyn Future<Output = Result<Memory, ServeError<E>>>>>;

/// Those that are at work, in the order in which their requests came, and memory of one that is not.
struct Workers<E> {
    all: Vec<Worker<E>>,
    spare: Option<Memory>,
}

/// The end of a session, which may wait for the tree.
pub(super) type Close = Pin<Box<dyn Future<Output = ()>>>;

/// A peer that is served by workers. On each line one reads, and serves what it has read; where that has to wait, another
/// one reads on.
pub(super) struct Desk<E, Q: Policy> {
    server: Rc<RefCell<Server<Q>>>,
    lanes: Vec<Lane<E>>,
    /// How often may still be read.
    rounds: Rc<Cell<u32>>,
    /// Grows whenever something is over that another worker may wait for.
    done: Cell<u64>,
}

/// Makes a buffer at least so large.
fn grow<E>(buffer: &mut Vec<u8>, size: usize) -> Result<(), ServeError<E>> {
    if buffer.len() < size {
        let reserved = buffer.try_reserve_exact(size - buffer.len());
        reserved.map_err(|_| ServeError::OutOfMemory)?;
        buffer.resize(size, 0);
    }
    Ok(())
}

impl<E: 'static, Q: Policy + 'static> Desk<E, Q> {
    /// Nothing is read yet, and never more often than `rounds` says.
    pub(super) fn new(
        lines: impl IntoIterator<Item = Rc<dyn Line<Error = E>>>,
        policy: Q,
        limits: Limits,
        rounds: &Rc<Cell<u32>>,
    ) -> Rc<Self> {
        Rc::new(Desk {
            server: Rc::new(RefCell::new(Server::new(policy, limits))),
            lanes: lines.into_iter().map(Lane::new).collect(),
            rounds: Rc::clone(rounds),
            done: Cell::new(0),
        })
    }

    /// Serves for as long as the lines last. Returns why they do not.
    pub(super) async fn serve(self: Rc<Self>) -> ServeError<E> {
        let mut workers = Workers {
            all: Vec::new(),
            spare: None,
        };
        poll_fn(|cx| self.poll(&mut workers, cx)).await
    }

    /// Closes the session, when nothing is served any more. The lines are not needed for that.
    pub(super) fn close(&self) -> Close {
        let server = Rc::clone(&self.server);
        Box::pin(async move {
            let job = server.borrow_mut().close();
            let done = job.run(&mut []).await;
            let _ = server.borrow_mut().complete(done, &mut []);
        })
    }

    fn poll(
        self: &Rc<Self>,
        workers: &mut Workers<E>,
        cx: &mut Context<'_>,
    ) -> Poll<ServeError<E>> {
        loop {
            let before = self.done.get();
            for (index, lane) in (0..).zip(&self.lanes) {
                if !lane.is_read.replace(true) {
                    let memory = workers.spare.take().unwrap_or_default();
                    let worker = Rc::clone(self).work(index, memory);
                    workers.all.push(Box::pin(worker));
                }
            }
            let mut ended = None;
            workers
                .all
                .retain_mut(|worker| match worker.as_mut().poll(cx) {
                    Poll::Pending => true,
                    Poll::Ready(Ok(memory)) => {
                        workers.spare = Some(memory);
                        false
                    }
                    Poll::Ready(Err(error)) => {
                        ended.get_or_insert(error);
                        false
                    }
                });
            if let Some(error) = ended {
                return Poll::Ready(error);
            }
            let are_read = self.lanes.iter().all(|lane| lane.is_read.get());
            if are_read && self.done.get() == before {
                return Poll::Pending;
            }
        }
    }

    /// Reads requests and serves them, up to one that has had to wait.
    async fn work(self: Rc<Self>, index: u32, memory: Memory) -> Result<Memory, ServeError<E>> {
        let (mut frames, mut buffer) = memory;
        while let Some(lane) = self.lanes.get(index as usize) {
            let msize = self.server.borrow().msize();
            let Some(message) = frames.next(msize)? else {
                let read = self.read(lane, frames.space(msize)?).await;
                frames.filled(read.map_err(ServeError::Stream)?);
                continue;
            };
            let job = self.server.borrow_mut().accept(index, message)?;
            let size = job.largest_reply(msize) as usize;
            grow(&mut buffer, size.max(FIRST_BUFFER))?;
            let (done, has_waited) = {
                let mut run = pin!(self.run(job, &mut buffer));
                match poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await {
                    Poll::Ready(done) => (done, false),
                    Poll::Pending => {
                        lane.hand_on(frames.behind())?;
                        (run.await, true)
                    }
                }
            };
            self.answer(lane, done, size, &mut buffer).await?;
            if has_waited {
                frames.clear();
                break;
            }
            frames.done();
        }
        Ok((frames, buffer))
    }

    /// Bytes that have come, at least one.
    async fn read(&self, lane: &Lane<E>, into: &mut [u8]) -> Result<usize, E> {
        poll_fn(|_| {
            let count = lane.take_rest(into);
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            let Some(left) = self.rounds.get().checked_sub(1) else {
                return Poll::Pending;
            };
            let read = ready!(lane.line.read(into));
            self.rounds.set(left);
            Poll::Ready(read)
        })
        .await
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

    /// Sends what came of a request, of at most `size` bytes, and the Rflush that waited for it.
    async fn answer(
        &self,
        lane: &Lane<E>,
        done: Option<Done<'_, Q::Node>>,
        size: usize,
        buffer: &mut [u8],
    ) -> Result<(), ServeError<E>> {
        if let Some(done) = done {
            lane.begin_to_send(size).await?;
            // From here to the reply in its line nothing is waited for that would let an Rflush pass by on another one.
            let len = self.server.borrow_mut().complete(done, buffer).len();
            self.send(lane, buffer.get(..len).unwrap_or_default())
                .await?;
        }
        loop {
            let flush = self.server.borrow_mut().next_flush(buffer);
            let Some(flush) = flush else { break };
            let Some(lane) = self.lanes.get(flush.lane as usize) else {
                continue;
            };
            lane.begin_to_send(HEADER_LEN).await?;
            self.send(lane, buffer.get(..flush.len).unwrap_or_default())
                .await?;
        }
        self.done.set(self.done.get() + 1);
        Ok(())
    }

    /// Sends a message when its turn has come, and gives the turn to the next.
    async fn send(&self, lane: &Lane<E>, mut message: &[u8]) -> Result<(), ServeError<E>> {
        if !message.is_empty() {
            let sent = poll_fn(|_| lane.line.write(&mut message)).await;
            sent.map_err(ServeError::Stream)?;
        }
        let [_, done] = &lane.places;
        done.set(done.get() + 1);
        self.done.set(self.done.get() + 1);
        Ok(())
    }
}

// The simulators bring this library a second time, and `rt` has symbols of which there is one.
#[cfg(all(test, not(feature = "rt")))]
mod tests;
