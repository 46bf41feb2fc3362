//! What the rest of the session sees of the engine's state.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::AtomicBool;
use core::task::Waker;
use core::time::Duration;

use super::{Engine, Lanes};
use crate::session::Stats;
use crate::session::fid_table::{FidStatus, FidTable};
use crate::session::journal::Journal;
use crate::transport::TransportError;
use crate::{Dialect, Error};
use xen9p_time::Instant;

/// What was agreed on with the server.
impl Engine {
    pub(in crate::session) fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(in crate::session) fn msize(&self) -> u32 {
        self.msize
    }

    /// The dialect and message size are agreed on.
    pub(in crate::session) fn agree(&mut self, dialect: Dialect, msize: u32) {
        self.dialect = dialect;
        self.msize = msize;
        self.largest = msize;
    }

    /// Will agree on nothing but this dialect, and leaves it to others to log errors: for a reattach.
    pub(in crate::session) fn prepare_reattach(&mut self, dialect: Dialect) {
        self.dialect = dialect;
        self.quiet = true;
    }

    pub(in crate::session) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(in crate::session) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// The number of tags.
    pub(in crate::session) fn window(&self) -> u16 {
        self.window
    }

    pub(in crate::session) fn interrupt(&self) -> Arc<AtomicBool> {
        self.interrupt.clone()
    }

    pub(in crate::session) fn fids(&mut self) -> &mut FidTable {
        &mut self.fids
    }
}

/// Whether there is a connection.
impl Engine {
    /// Why the session is over.
    pub(in crate::session) fn error(&self) -> Option<Error> {
        self.dead
    }

    /// Whether the server keeps the order of each lane.
    pub(in crate::session) fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// Why the connection is lost, while another one may be found.
    pub(in crate::session) fn lost(&self) -> Option<Error> {
        self.lost.filter(|_| self.dead.is_none())
    }

    /// Whether the loss of the connection is not the end of the session.
    pub(in crate::session) fn recovers(&self) -> bool {
        self.journal.is_some()
    }

    /// The loss of the connection is not the end of the session; whether its trees have to be the same afterwards.
    pub(in crate::session) fn set_recovers(&mut self, journal: &'static Journal, same_trees: bool) {
        self.journal = Some(journal);
        self.same_trees = same_trees;
    }

    /// A new connection is being looked for, or no longer.
    pub(in crate::session) fn set_searching(&mut self, searching: bool) {
        self.searching = searching;
    }

    /// Why the connection was lost, while a server is looked for: for those who ask from within that, and can't wait.
    pub(in crate::session) fn lost_in_search(&self) -> Option<Error> {
        self.lost.filter(|_| self.searching)
    }

    /// A new server was asked for these fids, and `found` says what has become of each, if it answered.
    pub(in crate::session) fn reopened(
        &mut self,
        fids: impl Iterator<Item = p9_wire::Fid>,
        found: Option<&[FidStatus]>,
    ) {
        if found.is_some() {
            // It knows them from here on: those dropped meanwhile are clunked there.
            self.fids.go_online();
        }
        for (index, fid) in fids.enumerate() {
            let status = found.and_then(|found| found.get(index).copied());
            let status = status.unwrap_or_default();
            self.stats.stale += u64::from(status == FidStatus::Stale);
            self.fids.revived(fid, status);
        }
    }
}

/// Counters.
impl Engine {
    /// All but those of the transport.
    pub(in crate::session) fn stats(&self) -> Stats {
        self.stats
    }

    /// An operation is waited for.
    pub(in crate::session) fn count_wait(&mut self) {
        self.stats.waits += 1;
    }

    /// The server took so many bytes.
    pub(in crate::session) fn count_written(&mut self, bytes: usize) {
        self.stats.bytes_written += bytes as u64;
    }

    /// Begins and ends of requests that may change what a file contains.
    pub(in crate::session) fn changes(&self) -> u64 {
        self.changes
    }

    /// Grows whenever an operation may get further if it is polled.
    pub(in crate::session) fn progress(&self) -> u64 {
        self.progress
    }

    /// Whether there was no progress since it was `seen`, and there is a connection to wait for some.
    pub(in crate::session) fn is_quiet(&self, seen: u64) -> bool {
        self.progress == seen && self.is_up()
    }
}

/// Before a wait in the transport, and after it.
impl Engine {
    /// Does what can be done now. Then, unless operations may have got further than `seen`, says until when one can wait for
    /// something to come without knowing the time.
    pub(in crate::session) fn settle<L: Lanes + ?Sized>(
        &mut self,
        lanes: &mut L,
        seen: u64,
    ) -> Option<Instant> {
        self.exchange(lanes);
        if self.progress == seen {
            // No task has taken these, and none will before there is something new.
            self.spill_heads(lanes);
        }
        self.is_quiet(seen).then(|| self.next_wakeup())
    }

    /// The wait in the transport is over, with this result, or a look at it that has not `blocked`. Takes in what has come;
    /// whether there was anything.
    pub(in crate::session) fn end_wait<L: Lanes + ?Sized>(
        &mut self,
        lanes: &mut L,
        result: Result<(), TransportError>,
        blocked: bool,
    ) -> bool {
        let before = self.progress;
        self.wake_heads();
        match result {
            Ok(()) => self.pump(lanes),
            Err(error) => {
                self.fail(error.into());
            }
        }
        let came = self.progress != before || !self.is_up();
        if blocked {
            // There may be room now, even if no reply came.
            self.wake_waiting();
        }
        came
    }
}

/// What waits until nothing is borrowed.
impl Engine {
    /// Whether there are wakers to be called, or an error to be logged.
    pub(in crate::session) fn has_deferred(&self) -> bool {
        !self.woken.is_empty() || self.unlogged_error.is_some()
    }

    pub(in crate::session) fn take_deferred(&mut self) -> (Vec<Waker>, Option<Error>) {
        (mem::take(&mut self.woken), self.unlogged_error.take())
    }

    /// Gives an empty list back, for its allocation.
    pub(in crate::session) fn reuse(&mut self, wakers: Vec<Waker>) {
        if self.woken.is_empty() {
            self.woken = wakers;
        }
    }
}
