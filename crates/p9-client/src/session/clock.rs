//! The session's dealings with time: who waits until when, and waiting for the transport. (Only closing a session and finding a
//! server again have waits of their own, each with a deadline.)

use core::task::Waker;
use core::time::Duration;

use super::core::Core;
use super::slot::State;
use crate::transport::TransportError;
use xen9p_time::Instant;

/// How long the clock need not be looked at while answers come; and so how much longer than its time a request may
/// wait.
const GLANCE: Duration = Duration::from_millis(100);

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

    /// Looks at the clock, which may be among the dearest things about a small request: where the time-stamp counter
    /// is emulated each look leaves the domain. So the session looks when nothing has come for a [`GLANCE`], and the
    /// time of requests sent since the last look begins with this one.
    ///
    /// Lets those whose time is over see it. A server that does not even answer what nobody waits for, a Tflush above
    /// all, is given up. Returns the time, and when that of another is over.
    pub(super) fn look(&mut self) -> (Instant, Instant) {
        let now = self.transport.now();
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
                self.news = true;
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
        (now, earliest)
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
        waiting.fold(self.over.min(self.looked + GLANCE), Instant::min)
    }

    /// Waits for the transport, and takes in what has come. Whether there was anything.
    pub(super) fn wait(&mut self, until: Instant) -> bool {
        self.stats.waits += 1;
        match self.transport.wait(until) {
            Ok(()) => self.pump(),
            Err(error) => {
                self.fail(error.into());
            }
        }
        let came = self.news || !self.is_up();
        // There may be room now, even if no reply came.
        self.wake_waiting();
        came
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
