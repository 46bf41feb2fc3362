//! A connection: requests come in on one thread, and those that may take long are done on others.

use std::io::{self, Read, Write};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, Scope};

use p9_server::{Frames, Job, Limits, Policy, Server, may_take_long};

use super::Stream;
use crate::crew::Crew;

/// Requests that may take long and are done apart, for each connection.
const MAX_APART: usize = 8;

/// What comes from the peer.
struct Incoming {
    stream: Stream,
    frames: Frames,
}

struct Connection<P: Policy> {
    server: Mutex<Server<P>>,
    /// Taken before the server is: replies are sent in the order in which they are made.
    out: Mutex<Stream>,
    crew: Crew<Incoming>,
    ended: Mutex<io::Result<()>>,
}

/// Serves a connection until the peer ends it and its requests are done.
///
/// # Errors
/// Those of the socket, and bytes that are no 9P.
pub(super) fn serve<P>(stream: Stream, policy: P) -> io::Result<()>
where
    P: Policy,
    Server<P>: Send,
{
    let incoming = Incoming {
        stream: stream.try_clone()?,
        frames: Frames::new(),
    };
    let connection = Connection {
        server: Mutex::new(Server::new(policy, Limits::default())),
        out: Mutex::new(stream),
        crew: Crew::new(MAX_APART),
        ended: Mutex::new(Ok(())),
    };
    thread::scope(|scope| {
        connection.read(scope, incoming);
        connection.work(scope);
    });
    // Files that go with their fid are removed.
    let close = lock(&connection.server).close();
    drop(now(close.run(&mut [])));
    let ended = connection.ended.into_inner();
    ended.unwrap_or_else(PoisonError::into_inner)
}

impl<P> Connection<P>
where
    P: Policy,
    Server<P>: Send,
{
    /// The work of a thread: it reads when no other does.
    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        while let Some(incoming) = self.crew.next() {
            self.read(scope, incoming);
        }
    }

    /// Reads and answers requests until one takes long, or the connection ends.
    fn read<'s>(&'s self, scope: &'s Scope<'s, '_>, incoming: Incoming) {
        match self.exchange(scope, incoming) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                // The thread that reads has to notice.
                lock(&self.out).shut_down();
                *lock(&self.ended) = Err(error);
            }
        }
        self.crew.end();
    }

    /// The same; says whether another thread reads now.
    fn exchange<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        mut incoming: Incoming,
    ) -> io::Result<bool> {
        let mut buffer = vec![0; lock(&self.server).msize() as usize];
        loop {
            let mut msize = lock(&self.server).msize();
            while let Some(message) = incoming.frames.next(msize).map_err(io::Error::other)? {
                if may_take_long(message) {
                    let message = message.to_vec();
                    incoming.frames.done();
                    let job = self.accept(&message)?;
                    let start = || {
                        let work = move || self.work(scope);
                        thread::Builder::new().spawn_scoped(scope, work).map(drop)
                    };
                    match self.crew.hand_over(incoming, start) {
                        Ok(()) => return self.answer(job, &mut buffer).map(|()| true),
                        Err(own) => incoming = own,
                    }
                    self.answer(job, &mut buffer)?;
                } else {
                    let mut job = self.accept(message)?;
                    job.foresee(|n| incoming.frames.ahead(n));
                    self.answer(job, &mut buffer)?;
                    incoming.frames.done();
                }
                msize = lock(&self.server).msize();
            }
            let Incoming { stream, frames } = &mut incoming;
            match stream.read(frames.space(msize).map_err(io::Error::other)?) {
                Ok(0) => return Ok(false),
                Ok(count) => frames.filled(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn accept<'m>(&self, message: &'m [u8]) -> io::Result<Job<'m, P::Node>> {
        let job = lock(&self.server).accept(0, message);
        job.map_err(io::Error::other)
    }

    /// Does what a request asks for, and answers it and those who have flushed it.
    fn answer(&self, job: Job<'_, P::Node>, buffer: &mut [u8]) -> io::Result<()> {
        let done = now(job.run(buffer));
        let mut out = lock(&self.out);
        let mut server = lock(&self.server);
        let reply = server.complete(done, buffer);
        if !reply.is_empty() {
            drop(server);
            out.write_all(buffer.get(..reply.len()).unwrap_or_default())?;
            server = lock(&self.server);
        }
        while let Some(flushed) = server.next_flush(buffer) {
            drop(server);
            out.write_all(buffer.get(..flushed.len).unwrap_or_default())?;
            server = lock(&self.server);
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What comes of a future of a tree that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests;
