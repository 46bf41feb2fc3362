//! The deadlines of requests and of those who wait for room.

use core::task::Waker;
use core::time::Duration;

use super::slot::{Slot, State};
use super::{Engine, wake_later};
use crate::transport::TransportError;
use xen9p_time::Instant;

/// Minimum interval between reads of the clock while replies arrive. A request may overrun its timeout by this much.
const CLOCK_READ_INTERVAL: Duration = Duration::from_millis(100);

/// Why a server that has stopped answering is left.
const SILENT: TransportError =
    TransportError::Lost(&"the server answers neither requests nor that they are taken back");

/// Why a server that does not answer a request is left.
const LATE: TransportError = TransportError::Lost(&"the server did not answer in time");

impl Engine {
    /// Remembers who waits for a free slot, for room, or just for time to pass.
    pub(in crate::session) fn wait_for_room(&mut self, waker: &Waker, deadline: Instant) {
        let mut known = self.waiting.iter_mut();
        match known.find(|(known, _)| known.will_wake(waker)) {
            Some((_, earliest)) => *earliest = deadline.min(*earliest),
            None => self.waiting.push((waker.clone(), deadline)),
        }
    }

    /// It is `now`: lets operations whose time is over see it, and gives up a server that does not even answer what
    /// no task waits for, a Tflush above all. Returns when the next of them is due.
    ///
    /// Reading the clock may be among the dearest things about a small request: where the time-stamp counter is emulated
    /// each read leaves the domain. So the driver reads it when nothing has come for a [`CLOCK_READ_INTERVAL`], and the time
    /// of requests sent since the last read begins with this one.
    pub(in crate::session) fn expire_due(&mut self, now: Instant) -> Instant {
        let mut earliest = Instant::NEVER;
        let mut silent = false;
        for slot in &mut self.slots {
            let timeout = match slot.state {
                State::Waiting | State::Suspect { .. } if slot.late => continue,
                // Who waits for its outcome gives the request up first, and then the server is.
                State::Detached if self.journal.is_none() => 2 * self.timeout,
                State::Suspect { wanted: true } => self.timeout,
                state if state.is_waiting() || state.is_unattended() => self.timeout,
                _ => continue,
            };
            let deadline = *slot.deadline.get_or_insert(now + timeout);
            if now < deadline {
                // A request that no task polls (read-ahead) is not timed out.
                if !slot.state.is_waiting() || slot.waker.is_some() {
                    earliest = earliest.min(deadline);
                }
                continue;
            }
            silent |= slot.state.is_unattended();
            slot.late = true;
            if let Some(waker) = slot.waker.take() {
                wake_later(&mut self.woken, Some(waker));
                self.progress += 1;
                self.progress_of_many = self.progress;
            }
        }
        if silent && self.is_up() {
            self.fail(SILENT.into());
        }
        let waiting = self.waiting.iter().map(|&(_, deadline)| deadline).min();
        match waiting {
            Some(deadline) if now >= deadline => self.wake_waiting(),
            Some(deadline) => earliest = earliest.min(deadline),
            None => {}
        }
        self.last_clock_read = now;
        self.next_deadline = earliest;
        earliest
    }

    /// Whether the time of a request is over, as far as is known without a look at what has come.
    pub(in crate::session) fn has_due(&self, now: Instant) -> bool {
        let is_due = |slot: &Slot| {
            !slot.state.is_free() && !slot.late && slot.deadline.is_some_and(|it| now >= it)
        };
        self.slots.iter().any(is_due)
    }

    /// A request was not answered in time. That is its own misfortune, or with recovery a loss of the connection.
    pub(in crate::session) fn overdue(&mut self) {
        if self.journal.is_some() && self.is_up() {
            self.fail(LATE.into());
        }
    }

    /// Until when one can wait without knowing the time.
    pub(in crate::session) fn next_wakeup(&self) -> Instant {
        let waiting = self.waiting.iter().map(|&(_, deadline)| deadline);
        waiting.fold(
            self.next_deadline
                .min(self.last_clock_read + CLOCK_READ_INTERVAL),
            Instant::min,
        )
    }

    /// Lets those in flight see that they are interrupted.
    pub(super) fn tell_interrupted(&mut self) {
        let interrupted = self.is_interrupted();
        if interrupted && !self.interrupt_told {
            self.wake_all();
        }
        self.interrupt_told = interrupted;
    }
}
