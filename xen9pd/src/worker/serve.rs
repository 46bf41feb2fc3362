//! Serves a connection: a thread for each ring, one engine for all of them, and more threads for requests that take long.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use p9_server::{Done, Job, Limits, Node, Policy, Server, Transfer, may_take_long};
use p9_wire::{Dialect, Payload, READ_HEADER_LEN, WRITE_HEADER_LEN, kind};

use super::connect::Ring;
use super::counters::{Counter, Counters};
use super::direct::Direct;
use super::lane::{Broken, Lane, Out};
use crate::crew::Crew;
use crate::xen::ring::Requests;

/// The largest message that is agreed to, however large the rings are: each has a buffer for one.
const MAX_MSIZE: u32 = 1 << 20;

/// How long a request that waits for another is left alone.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Requests that may take long and are done apart, for each connection.
const MAX_APART: usize = 8;

/// What the threads have in common.
struct Shared<P: Policy> {
    server: Mutex<Server<P>>,
    /// Something was completed.
    completed: Condvar,
    /// Threads that wait for that: waking none of them would be a system call for each request. Changes under the lock of
    /// the server.
    waiting: AtomicUsize,
    lanes: Vec<Lane>,
    /// Rings by number, with their requests.
    crew: Crew<(usize, Requests)>,
    ends: Sender<(usize, Broken)>,
    msize: u32,
    counters: Arc<Counters>,
}

/// A connection that is served.
pub struct Connection<P: Policy> {
    shared: Arc<Shared<P>>,
}

/// Says why a connection ends: the number of a ring, and why there is no going on with it.
pub type Ends = Receiver<(usize, Broken)>;

impl<P> Connection<P>
where
    P: Policy + 'static,
    P::Node: Send,
    <P::Node as Node>::File: Direct,
    Server<P>: Send,
{
    /// Starts to serve.
    pub fn new(
        policy: P,
        mut limits: Limits,
        rings: Vec<Ring>,
        counters: &Arc<Counters>,
    ) -> (Connection<P>, Ends) {
        let mut lanes = Vec::new();
        let mut all = Vec::new();
        for ring in rings {
            let (requests, replies) = ring.memory.split();
            // Each message has to fit into each ring.
            limits.msize = limits.msize.min(requests.capacity()).min(MAX_MSIZE);
            all.push(requests);
            lanes.push(Lane::new(replies, ring.channel, Arc::clone(counters)));
        }
        let msize = limits.msize;
        let (sender, ends) = mpsc::channel();
        let shared = Arc::new(Shared {
            server: Mutex::new(Server::new(policy, limits)),
            completed: Condvar::new(),
            waiting: AtomicUsize::new(0),
            crew: Crew::new(lanes.len() + MAX_APART),
            lanes,
            ends: sender,
            msize,
            counters: Arc::clone(counters),
        });
        for ring in all.into_iter().enumerate() {
            if let Err((index, _)) = Shared::hand_over(&shared, ring) {
                let error = io::Error::from(io::ErrorKind::OutOfMemory);
                let _ = shared.ends.send((index, error.into()));
            }
        }
        (Connection { shared }, ends)
    }

    /// Takes all fids back: files that go with their fid are removed.
    pub fn close(&self) {
        let job = self.shared.server().close();
        let done = block_on(job.run(&mut []));
        drop(done);
    }
}

impl<P> Shared<P>
where
    P: Policy + 'static,
    <P::Node as Node>::File: Direct,
    Server<P>: Send,
{
    /// Leaves a ring to another thread, if there is one for it.
    fn hand_over(self: &Arc<Self>, ring: (usize, Requests)) -> Result<(), (usize, Requests)> {
        self.crew.hand_over(ring, || {
            let shared = Arc::clone(self);
            thread::Builder::new().spawn(move || {
                while let Some((index, requests)) = shared.crew.next() {
                    if let Err(broken) = shared.serve(index, requests) {
                        // Where there is none to hear it, the process is about to end.
                        let _ = shared.ends.send((index, broken));
                    }
                }
            })?;
            Ok(())
        })
    }

    fn server(&self) -> MutexGuard<'_, Server<P>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The work of a ring's thread, until it has left the ring to another.
    fn serve(self: &Arc<Self>, index: usize, mut requests: Requests) -> Result<(), Broken> {
        let lane = &self.lanes[index];
        let mut message = Vec::new();
        let mut buffer = vec![0; self.msize as usize];
        loop {
            while let Some(size) = requests.front()? {
                lane.send_left()?;
                self.counters.add(Counter::Requests, 1);
                self.counters.add(Counter::BytesIn, size.into());
                let mut head = [0; WRITE_HEADER_LEN];
                let len = head.len().min(size as usize);
                requests.copy_out(0, &mut head[..len]);
                match head[4] == kind::TWRITE && len == head.len() {
                    true => self.write(index, &mut requests, &head, &mut message, &mut buffer)?,
                    false => {
                        message.resize(size as usize, 0);
                        requests.copy_out(0, &mut message);
                        requests.consume();
                        lane.consumed(&mut lane.out());
                        let mut job = self.server().accept(index as u32, &message)?;
                        job.foresee(|n| requests.ahead(n));
                        if may_take_long(&message) {
                            match self.hand_over((index, requests)) {
                                Ok(()) => return self.work_apart(index, job, &mut buffer),
                                Err((_, own)) => requests = own,
                            }
                        }
                        if let Some(job) = self.ready(job) {
                            self.work(index, job, &mut buffer)?;
                        }
                    }
                }
            }
            lane.rest(&mut requests)?;
        }
    }

    /// A request whose ring another thread has by now: that one is woken when there is room for a reply.
    fn work_apart(
        &self,
        index: usize,
        job: Job<'_, P::Node>,
        buffer: &mut [u8],
    ) -> Result<(), Broken> {
        let lane = &self.lanes[index];
        let need = self.largest_reply(&job);
        let done = block_on(job.run(buffer));
        let out = lane.await_room(need)?;
        self.complete(index, done, out, buffer);
        lane.tell(&mut lane.out());
        Ok(())
    }

    /// Waits until the requests are done that this one depends on; `None`: it was taken back.
    fn ready<'m>(&self, mut job: Job<'m, P::Node>) -> Option<Job<'m, P::Node>> {
        if job.is_waiting() {
            let mut server = self.server();
            loop {
                job = server.retry(job)?;
                if !job.is_waiting() {
                    break;
                }
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let woken = self.completed.wait_timeout(server, RETRY_INTERVAL);
                (server, _) = woken.unwrap_or_else(PoisonError::into_inner);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Some(job)
    }

    /// A Twrite: its data goes from the ring to the file.
    fn write(
        &self,
        index: usize,
        requests: &mut Requests,
        head: &[u8; WRITE_HEADER_LEN],
        message: &mut Vec<u8>,
        buffer: &mut [u8],
    ) -> Result<(), Broken> {
        let lane = &self.lanes[index];
        let job = self.server().accept_write(index as u32, head)?;
        let need = self.largest_reply(&job);
        let Some(job) = self.ready(job) else {
            requests.consume();
            return Ok(());
        };
        let size = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let count = size - WRITE_HEADER_LEN as u32;
        let data = WRITE_HEADER_LEN as u32;
        let moved = match job.transfer() {
            Some(Transfer::Write { file, offset, .. }) => {
                Some(file.write_from(&requests.source(data, count as usize), offset))
            }
            _ => None,
        };
        let done = match moved {
            Some(moved) => {
                requests.consume();
                job.transferred(moved.map_err(p9_tree::Error::errno))
            }
            None => {
                message.resize(count as usize, 0);
                requests.copy_out(data, message);
                requests.consume();
                let job = match job.needs_data() {
                    true => job.with_data(Payload(message, &[])),
                    false => job,
                };
                block_on(job.run(buffer))
            }
        };
        let mut out = lane.out();
        lane.consumed(&mut out);
        lane.make_room(&mut out, need)?;
        self.complete(index, done, out, buffer);
        Ok(())
    }

    /// Any other request.
    fn work(&self, index: usize, job: Job<'_, P::Node>, buffer: &mut [u8]) -> Result<(), Broken> {
        let lane = &self.lanes[index];
        let need = self.largest_reply(&job);
        let (done, out) = match job.transfer() {
            // The data goes from the file to the ring.
            Some(Transfer::Read {
                file,
                offset,
                count,
            }) => {
                let head = READ_HEADER_LEN as u32;
                let mut out = lane.out();
                lane.make_room(&mut out, need)?;
                let mut sink = lane.sink(&mut out, head, count.min(need.saturating_sub(head)));
                let read = file.read_to(&mut sink, offset);
                (job.transferred(read.map_err(p9_tree::Error::errno)), out)
            }
            _ => {
                let done = block_on(job.run(buffer));
                let mut out = lane.out();
                lane.make_room(&mut out, need)?;
                (done, out)
            }
        };
        self.complete(index, done, out, buffer);
        Ok(())
    }

    fn largest_reply(&self, job: &Job<'_, P::Node>) -> u32 {
        let dialect = Dialect::Unix;
        let known = job
            .request()
            .map(|request| request.max_reply(dialect, self.msize));
        known.unwrap_or(self.msize.min(512)).min(self.msize)
    }

    /// Sends what came of a request, and the Rflush that waited for it.
    fn complete(
        &self,
        index: usize,
        done: Done<'_, P::Node>,
        mut out: MutexGuard<'_, Out>,
        buffer: &mut [u8],
    ) {
        let lane = &self.lanes[index];
        let mut flushed = Vec::new();
        let mut server = self.server();
        let completion = server.complete(done, buffer);
        if !completion.is_empty() {
            if matches!(buffer[4], kind::RLERROR | kind::RERROR) {
                self.counters.add(Counter::Errors, 1);
            }
            lane.send(&mut out, &buffer[..completion.len()], completion.moved());
        }
        while let Some(flush) = server.next_flush(buffer) {
            let to = flush.lane as usize;
            self.lanes[to].leave(&buffer[..flush.len]);
            flushed.push(to);
        }
        let usage = server.usage();
        let is_awaited = self.waiting.load(Ordering::Relaxed) > 0;
        drop(server);
        drop(out);
        self.counters.set(Counter::Fids, usage.fids as u64);
        self.counters
            .set(Counter::OpenFiles, usage.open_files as u64);
        self.counters.set(Counter::Locks, usage.locks as u64);
        self.counters.set(Counter::Limited, usage.refused);
        if is_awaited {
            self.completed.notify_all();
        }
        for to in flushed {
            if to != index {
                self.lanes[to].nudge();
            }
        }
    }
}

/// Waits for a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = pin!(future);
    // Trees of this machine never wait.
    if let Poll::Ready(output) = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        return output;
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests;
