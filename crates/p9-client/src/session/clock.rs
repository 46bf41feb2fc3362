//! The deadlines of requests and of those who wait for room.

use core::task::Waker;
use core::time::Duration;

use super::core::Core;
use super::slot::State;
use crate::transport::TransportError;
use xen9p_time::Instant;

/// How long the clock need not be looked at while answers come; and so how much longer than its time a request may
/// wait.
const CLOCK_READ_INTERVAL: Duration = Duration::from_millis(100);

/// Why a server that has stopped answering is left.
const SILENT: TransportError =
    TransportError::Lost("the server answers neither requests nor that they are taken back");

/// Why a server that does not answer a request is left.
const LATE: TransportError = TransportError::Lost("the server did not answer in time");

impl Core {
    /// Remembers who waits for a free slot, for room, or just for time to pass.
    pub(super) fn wait_for_room(&mut self, waker: &Waker, deadline: Instant) {
        let mut known = self.waiting.iter_mut();
        match known.find(|(known, _)| known.will_wake(waker)) {
            Some((_, earliest)) => *earliest = deadline.min(*earliest),
            None => self.waiting.push((waker.clone(), deadline)),
        }
    }

    /// It is `now`: lets operations whose time is over see it, and gives up a server that does not even answer what
    /// nobody waits for, a Tflush above all. Returns when the next of them is due.
    ///
    /// Reading the clock may be among the dearest things about a small request: where the time-stamp counter is emulated
    /// each read leaves the domain. So the driver reads it when nothing has come for a [`CLOCK_READ_INTERVAL`], and the time
    /// of requests sent since the last read begins with this one.
    pub(super) fn expire_due(&mut self, now: Instant) -> Instant {
        let mut earliest = Instant::NEVER;
        let mut silent = false;
        for slot in &mut self.slots {
            let patience = match slot.state {
                State::Waiting | State::Suspect { .. } if slot.late => continue,
                // Who waits for its outcome gives the request up first, and then the server is.
                State::Detached if !self.recovers => 2 * self.timeout,
                State::Suspect { wanted: true } => self.timeout,
                state if state == State::Waiting || state.is_unattended() => self.timeout,
                _ => continue,
            };
            let deadline = *slot.deadline.get_or_insert(now + patience);
            if now < deadline {
                // Whoever does not poll has no interest in it now, as in what was read ahead.
                if slot.state != State::Waiting || slot.waker.is_some() {
                    earliest = earliest.min(deadline);
                }
                continue;
            }
            silent |= slot.state.is_unattended();
            slot.late = true;
            if let Some(waker) = slot.waker.take() {
                self.woken.push(waker);
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
        self.looked = now;
        self.over = earliest;
        earliest
    }

    /// A request was not answered in time. That is its own misfortune, or with recovery a loss of the connection.
    pub(super) fn overdue(&mut self) {
        if self.recovers && self.is_up() {
            self.fail(LATE.into());
        }
    }

    /// Until when one can wait without knowing the time.
    pub(super) fn soon(&self) -> Instant {
        let waiting = self.waiting.iter().map(|&(_, deadline)| deadline);
        waiting.fold(
            self.over.min(self.looked + CLOCK_READ_INTERVAL),
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
