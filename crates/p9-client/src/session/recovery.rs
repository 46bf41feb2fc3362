//! Going on after the connection is lost: a new one, the same fids, and what was in flight.
//!
//! A session that [recovers](Recovery) keeps, for each fid, what it takes to get it again: where it was
//! attached, the names from there, how it was opened. When the connection is lost, for whatever reason,
//!
//! 1. each request in flight ends in one of three ways: made again on the new connection, if that
//!    changes nothing or the same once more; [`Error::MaybeApplied`], if twice would be wrong; done, for a
//!    Tclunk;
//! 2. the old transport is closed, and [`Redial`] asked for a new one until it has it, gives up, or the
//!    timeout is over;
//! 3. the new server is asked for the same dialect and message size, the same trees, and each file that
//!    is in use, by its path. Whether it is the same file is told by its qid and, where the server
//!    has such a thing, its inode's generation. What can't be had again is [`Error::Stale`] from then on, and
//!    only that.
//!
//! Nothing of the old connection reaches the new one: another transport, with other memory and other event
//! channels, and every tag that was in flight is over.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;
use core::time::Duration;

use super::Session;
use super::engine::{Engine, Shape};
use super::journal::Journal;
use super::link::Link;
use super::reattach::Reattach;
use crate::Error;
use crate::transport::{Transport, TransportError};
use xen9p_time::Instant;

/// Finds a server again.
pub trait Redial {
    /// Tries once to connect again. The old transport is closed by now.
    ///
    /// Blocks, for a bounded time, and where nothing else takes time long enough that asking again makes sense:
    /// it is called again at once. `None` means not yet.
    ///
    /// Once it returns a transport, the server does nothing any more that it was asked for on an
    /// earlier one: a write could be done a second time otherwise, over a later one.
    ///
    /// # Errors
    /// There will never be a connection again.
    fn redial(&mut self) -> Result<Option<Box<dyn Transport>>, TransportError>;
}

impl<F: FnMut() -> Result<Option<Box<dyn Transport>>, TransportError>> Redial for F {
    fn redial(&mut self) -> Result<Option<Box<dyn Transport>>, TransportError> {
        self()
    }
}

/// Several ways to one tree, tried one after the other.
struct Ways {
    ways: Vec<Box<dyn Redial>>,
    /// The one that was tried last. The first connection is the first one's.
    last: usize,
}

impl Redial for Ways {
    fn redial(&mut self) -> Result<Option<Box<dyn Transport>>, TransportError> {
        let next = self.last + 1;
        self.last = if next < self.ways.len() { next } else { 0 };
        let way = self.ways.get_mut(self.last).ok_or(TransportError::Closed)?;
        match way.redial() {
            // There are the others.
            Err(error) if self.ways.len() > 1 => {
                log::warn!("9P session: {error}; this way is not tried again");
                self.ways.remove(self.last);
                self.last = self.last.checked_sub(1).unwrap_or(self.ways.len() - 1);
                Ok(None)
            }
            tried => tried,
        }
    }
}

/// Configures reconnecting after the connection is lost.
///
/// A request that was in flight is made again where that changes nothing or the same once more; where twice would be wrong
/// it ends as [`Error::MaybeApplied`]. A file in use is had again by its path, without creating or truncating, if it is the
/// same file, and is [`Error::Stale`] from then on if not.
///
/// A server's machine that goes down may lose what was written and not synced, and 9P has no way to tell: a sync on the new
/// connection can't speak for the old one. [`Stats::recoveries`](super::Stats::recoveries) says that there was a loss.
pub struct Recovery {
    redial: Box<dyn Redial>,
    timeout: Duration,
    /// Whether a server whose trees are others is no server to go on with.
    same_trees: bool,
    /// [`Session::go_on`]. Called by way of this alone: a program that makes no `Recovery` has no code for it.
    go_on: fn(&Session, Recovery, Error),
    /// The same for what the engine does.
    journal: &'static Journal,
}

impl Recovery {
    /// Looks for a server with `redial`, for at most so long each time; a last try may take longer, by the
    /// session's time for one answer.
    pub fn new(redial: impl Redial + 'static, timeout: Duration) -> Recovery {
        Recovery {
            redial: Box::new(redial),
            timeout,
            same_trees: false,
            go_on: Session::go_on,
            journal: Journal::KEPT,
        }
    }

    /// Looks for a server at several addresses of the same tree, one after the other, beginning with the one behind that of
    /// the connection that was lost; the session's first connection is the first one's.
    ///
    /// A server whose root is not the one that was attached to, by its qid and, where the server tells it, its inode's
    /// generation, serves another tree: it is left at once, nothing is opened or changed there, and the search goes on. If it ends
    /// with such a server, the session is over with [`Error::Stale`].
    pub fn among(ways: Vec<Box<dyn Redial>>, timeout: Duration) -> Recovery {
        Recovery {
            same_trees: true,
            ..Recovery::new(Ways { ways, last: 0 }, timeout)
        }
    }
}

impl core::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Recovery")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Has the session go on after losses of its connection. To be called before anything is
    /// attached. From then on [`pump`](Self::pump), [`wait`](Self::wait) and
    /// [`block_on`](Self::block_on) block while they look for a server, a request that is not
    /// answered in time is a loss of the connection too, and a server that wants
    /// [authentication](Self::auth) is refused.
    pub fn set_recovery(&self, recovery: Recovery) {
        let (journal, same_trees) = (recovery.journal, recovery.same_trees);
        self.with_or((), |engine| engine.set_recovers(journal, same_trees));
        *self.shared.recovery.borrow_mut() = Some(recovery);
    }

    /// Looks for a server, if the connection is lost.
    pub(super) fn recover(&self) {
        let lost = self.with_or(None, |engine| engine.lost());
        let Some(lost) = lost else { return };
        if self.is_waiting() {
            return;
        }
        // Nothing if this is called from within itself, by the idle hook.
        let recovery = self.shared.recovery.borrow_mut().take();
        if let Some(recovery) = recovery {
            (recovery.go_on)(self, recovery, lost);
        }
    }

    /// Looks for a server and goes on with it, after the connection was lost for this reason.
    fn go_on(&self, mut recovery: Recovery, lost: Error) {
        log::warn!("9P session: {lost}; looking for a server");
        let begun = self.now();
        self.with_or((), |engine| engine.set_searching(true));
        let outcome = self.find_server(&mut recovery, lost);
        *self.shared.recovery.borrow_mut() = Some(recovery);
        self.with_or((), |engine| engine.set_searching(false));
        self.shared.nested.set(false);
        match outcome {
            Some(Ok(())) => {
                let took = self.now() - begun;
                log::warn!("9P session: goes on after {} ms", took.as_millis() as u64);
            }
            Some(Err(error)) => self.with_or((), |engine| {
                engine.end(error);
            }),
            // Those who wait see it; later ones look again.
            None => self.with_or((), Engine::wake_all),
        }
    }

    /// Looks for a server; `None` when that was interrupted.
    fn find_server(&self, recovery: &mut Recovery, lost: Error) -> Option<Result<(), Error>> {
        let until = self.now() + recovery.timeout;
        self.close_transport();
        let mut why = lost;
        loop {
            self.call_hook();
            if self.with_or(false, |engine| {
                engine.is_interrupted() || engine.error().is_some()
            }) {
                return None;
            }
            match self.try_again(recovery, until) {
                Ok(true) => return Some(Ok(())),
                Ok(false) => {}
                Err(Error::Stale) => why = Error::Stale,
                Err(error) => return Some(Err(error)),
            }
            if self.now() >= until {
                return Some(Err(why));
            }
        }
    }

    /// One try. Whether there is a connection again. The timeout is over at `until`.
    ///
    /// # Errors
    /// [`Error::Stale`]: there is a server of other trees. After all others no try makes sense.
    fn try_again(&self, recovery: &mut Recovery, until: Instant) -> Result<bool, Error> {
        let Some(mut transport) = recovery.redial.redial()? else {
            return Ok(false);
        };
        if let Err(error) = self.fits(&*transport) {
            transport.close();
            return Err(error);
        }
        let timeout = self.timeout();
        let until = until.max(transport.now()) + timeout;
        let reattach = Reattach::new(transport, self.dialect(), self.msize(), timeout, until)?;
        let files = self.with_or(Vec::new(), |engine| engine.fids().hold_for_revival());
        let answer = reattach.run(&files, recovery.same_trees);
        let found = answer.as_deref().ok();
        let fids = files.iter().map(|&(fid, _)| fid);
        self.with_or((), |engine| engine.reopened(fids, found));
        match answer {
            Ok(_) => {
                let transport = reattach.into_transport().ok_or(Error::Closed)?;
                let old = self.with_link_or(None, |engine, link| {
                    engine.connected(Shape::of(&*transport), transport.now());
                    Some(mem::replace(link, Link::new(transport)))
                });
                // With nothing borrowed: it may wait for xenstore, and other threads come in meanwhile.
                drop(old);
                Ok(true)
            }
            // This one is lost as well, or makes no sense; perhaps the next one does.
            Err(
                error @ (Error::Transport(_)
                | Error::TimedOut
                | Error::Protocol(_)
                | Error::Malformed(_)),
            ) => {
                log::warn!("9P session: {error}");
                Ok(false)
            }
            Err(error @ Error::Stale) => {
                log::warn!("9P session: the server has another tree; looking on");
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses a transport that what was agreed on with the last one does not fit.
    fn fits(&self, transport: &dyn Transport) -> Result<(), Error> {
        let count = transport.lanes();
        let window: u16 = self.with_or(0, |engine| engine.window());
        if count == 0 || !window.is_multiple_of(count) {
            return Err(Error::InvalidInput(
                &"the new connection has another number of lanes, which this one's tags don't fit",
            ));
        }
        match transport.max_message() {
            most if most < self.msize() => Err(Error::MessageSize(most)),
            _ => Ok(()),
        }
    }
}
