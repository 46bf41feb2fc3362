//! A ring at work: requests come in, replies go out.
//!
//! The thread of a ring has its requests to itself. Its replies are behind a lock, because a request that another ring is done
//! with may be what a Tflush of this one waits for.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::Timespec;

use super::counters::{Counter, Counters};
use crate::xen::evtchn::Events;
use crate::xen::ring::{Lie, Replies, Requests};
use crate::xen::span::Sink;

/// How long a frontend may take to make room for a reply. One that is paused by an administrator takes none.
const ROOM_TIMEOUT: Duration = Duration::from_secs(600);

/// Bytes of replies after which the frontend is told in the middle of a batch, so that it works on them meanwhile.
const BATCH: u64 = 64 << 10;

/// Why a connection ends.
#[derive(Debug)]
pub enum Broken {
    /// The frontend lies.
    Lie(Lie),
    /// The frontend sends what is no 9P.
    Protocol(p9_server::Violation),
    /// It does not take its replies.
    Stuck,
    /// The own machine fails.
    Machine(io::Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Lie(lie) => lie.fmt(f),
            Broken::Protocol(violation) => violation.fmt(f),
            Broken::Stuck => write!(
                f,
                "the frontend has made no room for a reply for {} s",
                ROOM_TIMEOUT.as_secs()
            ),
            Broken::Machine(error) => write!(f, "waiting for events: {error}"),
        }
    }
}

impl From<Lie> for Broken {
    fn from(lie: Lie) -> Self {
        Broken::Lie(lie)
    }
}

impl From<p9_server::Violation> for Broken {
    fn from(violation: p9_server::Violation) -> Self {
        Broken::Protocol(violation)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Broken::Machine(error)
    }
}

/// What all threads know of a ring.
pub struct Lane {
    out: Mutex<Out>,
    /// The frontend has taken replies.
    taken: Condvar,
    /// Replies for this ring that other threads have made, whole messages.
    backlog: Mutex<Vec<Vec<u8>>>,
    channel: Box<dyn Events>,
    counters: Arc<Counters>,
}

/// The sending side, for the thread that has it.
pub struct Out {
    replies: Replies,
    /// Bytes that were published or consumed since the frontend was told; `None` if there are none.
    untold: Option<u64>,
    /// Threads that wait for [`Lane::taken`]: waking none of them would be a system call, too.
    waiting: usize,
}

impl Lane {
    /// A ring whose requests another has.
    pub fn new(replies: Replies, channel: Box<dyn Events>, counters: Arc<Counters>) -> Lane {
        Lane {
            out: Mutex::new(Out {
                replies,
                untold: None,
                waiting: 0,
            }),
            taken: Condvar::new(),
            backlog: Mutex::default(),
            channel,
            counters,
        }
    }

    /// The sending side.
    pub fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn backlog(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `size` bytes fit. The frontend is told first of what it has got.
    ///
    /// # Errors
    /// It lies, or takes nothing.
    pub fn make_room(&self, out: &mut Out, size: u32) -> Result<(), Broken> {
        if out.replies.room()? >= size {
            return Ok(());
        }
        self.counters.add(Counter::Stalls, 1);
        let deadline = Instant::now() + ROOM_TIMEOUT;
        loop {
            self.tell(out);
            // An event that came before this look is of no use, one that comes after it ends the wait.
            self.channel.unmask()?;
            if out.replies.room()? >= size {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Broken::Stuck);
            }
            self.channel
                .wait(Some(Timespec::try_from(left).unwrap_or_default()))?;
            self.wake_waiting(out);
            self.counters.add(Counter::Waits, 1);
        }
    }

    /// The sending side, once `size` bytes fit: for a thread that does not have the ring's requests. The one that has them
    /// gets the events of both.
    ///
    /// # Errors
    /// The frontend lies, or takes nothing.
    pub fn await_room(&self, size: u32) -> Result<MutexGuard<'_, Out>, Broken> {
        let mut out = self.out();
        let deadline = Instant::now() + ROOM_TIMEOUT;
        while out.replies.room()? < size {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Broken::Stuck);
            }
            out.waiting += 1;
            let woken = self.taken.wait_timeout(out, left);
            (out, _) = woken.unwrap_or_else(PoisonError::into_inner);
            out.waiting -= 1;
        }
        Ok(out)
    }

    /// The frontend may have taken replies.
    fn wake_waiting(&self, out: &Out) {
        if out.waiting > 0 {
            self.taken.notify_all();
        }
    }

    /// Sends what other threads have left, so that a frontend which goes on asking and takes no replies makes no heap of
    /// them.
    ///
    /// # Errors
    /// It lies, or takes nothing.
    pub fn send_left(&self) -> Result<(), Broken> {
        loop {
            let Some(size) = self.backlog().first().map(Vec::len) else {
                return Ok(());
            };
            let mut out = self.out();
            self.make_room(&mut out, size as u32)?;
            self.send_backlog(&mut out)?;
        }
    }

    /// Puts a reply into the ring: `head`, and `moved` bytes that are there already behind it. There has to be room.
    pub fn send(&self, out: &mut Out, head: &[u8], moved: usize) {
        let size = head.len() + moved;
        out.replies.copy_in(0, head);
        out.replies.publish(size as u32);
        self.counters.add(Counter::BytesOut, size as u64);
        out.untold = Some(out.untold.unwrap_or(0) + size as u64);
        if out.untold >= Some(BATCH) {
            self.tell(out);
        }
    }

    /// Where a reply's data goes, `offset` behind its beginning.
    pub fn sink<'o>(&self, out: &'o mut Out, offset: u32, len: u32) -> Sink<'o> {
        out.replies.sink(offset, len as usize)
    }

    /// The frontend has room for requests again, which it may wait for.
    pub fn consumed(&self, out: &mut Out) {
        out.untold.get_or_insert(0);
    }

    /// Sends an event if there is something that the frontend was not told of.
    pub fn tell(&self, out: &mut Out) {
        if out.untold.take().is_some() {
            // First, so that what a frontend has got is counted already.
            self.counters.add(Counter::Notifications, 1);
            self.channel.notify();
        }
    }

    /// Leaves a reply, a whole message, to be sent by whichever thread is free to.
    pub fn leave(&self, reply: &[u8]) {
        self.backlog().push(reply.to_vec());
    }

    /// Sends what was left, unless the ring's own thread is at it, which then does it. Where there is no room, that thread
    /// gets an event once there is.
    pub fn nudge(&self) {
        if let Ok(mut out) = self.out.try_lock() {
            // The own thread meets the lie, too.
            let _ = self.send_backlog(&mut out);
            self.tell(&mut out);
        }
    }

    /// Sends what was left, as far as there is room; returns whether that is all.
    fn send_backlog(&self, out: &mut Out) -> Result<bool, Broken> {
        loop {
            let mut backlog = self.backlog();
            let Some(reply) = backlog.first() else {
                return Ok(true);
            };
            if (out.replies.room()? as usize) < reply.len() {
                return Ok(false);
            }
            let reply = backlog.remove(0);
            drop(backlog);
            self.send(out, &reply, 0);
        }
    }

    /// Has the frontend told of everything, and waits for a request or an event. The ring was found empty.
    ///
    /// # Errors
    /// It lies, or the machine fails.
    pub fn rest(&self, requests: &mut Requests) -> Result<(), Broken> {
        loop {
            let mut out = self.out();
            let all = self.send_backlog(&mut out)?;
            self.tell(&mut out);
            drop(out);
            // Another thread may have left something while this one had the lock.
            if !all || self.backlog().is_empty() {
                break;
            }
        }
        // What came while it was told costs no sleep. To go on looking for longer pays only where a PV guest has many requests
        // in flight: 200 us made these a seventh faster, and most else, with many guests above all, a twentieth slower.
        if requests.front()?.is_none() {
            // Events that came since the last one was taken come now.
            self.channel.unmask()?;
            self.channel.wait(None)?;
            self.counters.add(Counter::Waits, 1);
        }
        // One that has just found no room waits by now, or finds it.
        self.wake_waiting(&self.out());
        Ok(())
    }
}
