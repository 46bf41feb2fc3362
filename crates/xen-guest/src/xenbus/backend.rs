//! The backend's half of a device that has rings, without the I/O: what it does next, and what its frontend offers.
//!
//! [`Machine`] is shown the nodes of a device as they are, and says the one thing to do next. It is asked again when that is
//! done, and whenever a node, the worker or the time may have changed. As it goes by what is there, not by what happened,
//! it finds its way from any state that another backend, or this one before a restart, has left behind.
//!
//! A *worker* is what has the rings mapped and serves them: a process of a daemon, or a connection in a guest.
//!
//! ```
//! use xen9p_time::Instant;
//! use xen_guest::xenbus::XenbusState;
//! use xen_guest::xenbus::backend::{Machine, Offer, Step, View};
//!
//! let mut machine = Machine::new();
//! let mut view = View {
//!     present: true,
//!     online: true,
//!     backend: XenbusState::Initialising,
//!     frontend: XenbusState::Initialising,
//!     offer: Err("nothing yet".into()),
//! };
//! let now = Instant::from_nanos(0);
//! assert_eq!(machine.next(&view, now), Step::Invite);
//!
//! // The frontend takes the invitation.
//! let offer = Offer { rings: vec![(8, 3)] };
//! view.backend = XenbusState::InitWait;
//! view.frontend = XenbusState::Initialised;
//! view.offer = Ok(offer.clone());
//! assert_eq!(machine.next(&view, now), Step::Start(offer));
//! ```

use alloc::string::String;
use core::time::Duration;

use super::XenbusState;
use xen9p_time::Instant;

mod offer;
pub mod ring;

pub use offer::Offer;

/// How long a worker may take until it serves.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a worker may take to end when it is told to, before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the frontend may take to follow when the toolstack removes the device. (xl waits 10 s for all of it.)
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How many times a frontend may connect in a row; a longer row is slowed down to one in each [`PAUSE`].
const MAX_ROW: u32 = 20;

/// See [`MAX_ROW`].
const PAUSE: Duration = Duration::from_millis(500);

/// A device as its nodes say.
#[derive(Clone, Debug)]
pub struct View {
    /// Whether the backend's directory is there.
    pub present: bool,
    /// Whether the toolstack wants the device.
    pub online: bool,
    /// The own state.
    pub backend: XenbusState,
    /// The other one.
    pub frontend: XenbusState,
    /// What the frontend offers if it is Initialised, or what is wrong with that.
    pub offer: Result<Offer, String>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write what this backend can do, and InitWait, unless the own state is not the one seen.
    Invite,
    /// Set the own state, unless it is not the one seen.
    Set(XenbusState),
    /// Start a worker with these rings.
    Start(Offer),
    /// Tell the worker to end.
    Stop,
    /// End the worker.
    Kill,
    /// Tell people why the frontend is not served.
    Report(String),
    /// Wait for news, no longer than this.
    Wait(Option<Instant>),
    /// The device is gone.
    Forget,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Worker {
    None,
    Starting {
        offer: Offer,
        until: Instant,
    },
    Serving {
        offer: Offer,
        /// Whether the frontend was seen to be Connected.
        met: bool,
    },
    Stopping {
        until: Instant,
        killed: bool,
    },
}

/// The backend's side of a device.
#[derive(Clone, Debug)]
pub struct Machine {
    worker: Worker,
    /// The offer at hand is not to be tried again.
    refused: bool,
    report: Option<String>,
    /// Since when the toolstack wants the device away.
    leaving: Option<Instant>,
    /// Up to when the frontend has used up its turns: each start takes a [`PAUSE`] of them.
    row: Option<Instant>,
    /// The own state that was written last.
    written: Option<XenbusState>,
}

impl Default for Machine {
    fn default() -> Self {
        Machine::new()
    }
}

impl Machine {
    /// For a device without a worker.
    pub fn new() -> Machine {
        Machine {
            worker: Worker::None,
            refused: false,
            report: None,
            leaving: None,
            row: None,
            written: None,
        }
    }

    /// For a device whose worker is left from before a restart of the daemon: it serves these rings.
    pub fn adopting(offer: Offer) -> Machine {
        let met = false;
        Machine {
            worker: Worker::Serving { offer, met },
            ..Machine::new()
        }
    }

    /// Whether there is a worker.
    pub fn has_worker(&self) -> bool {
        self.worker != Worker::None
    }

    /// Whether the worker serves.
    pub fn is_serving(&self) -> bool {
        matches!(self.worker, Worker::Serving { .. })
    }

    /// The own state was written: an invitation, or what [`Step::Set`] says.
    pub fn has_written(&mut self, state: XenbusState) {
        self.written = Some(state);
    }

    /// The own state that was written last, if any was.
    pub fn written(&self) -> Option<XenbusState> {
        self.written
    }

    /// Corrects what the nodes say of a device in a domain that is not the toolstack's. libxl does not wait there for the
    /// frontend of a guest that it destroys: it writes Closed in the backend's place.
    pub fn correct(&self, view: &mut View) {
        let is_own = self.written.is_none_or(|own| own == XenbusState::Closed);
        if view.backend == XenbusState::Closed && !is_own {
            view.online = false;
            view.frontend = XenbusState::Unknown;
        }
    }

    /// The worker has mapped everything.
    pub fn worker_is_ready(&mut self) {
        if let Worker::Starting { offer, .. } = &self.worker {
            let offer = offer.clone();
            let met = false;
            self.worker = Worker::Serving { offer, met };
        }
    }

    /// The worker has ended, and all that it had mapped is unmapped. `why`: its last words, if it had any.
    pub fn worker_is_gone(&mut self, why: Option<String>) {
        match core::mem::replace(&mut self.worker, Worker::None) {
            Worker::None | Worker::Stopping { killed: false, .. } => {}
            Worker::Stopping { killed: true, .. } => {
                self.report = Some("the worker had to be killed".into());
            }
            Worker::Starting { .. } | Worker::Serving { .. } => {
                self.refused = true;
                self.report = Some(why.unwrap_or_else(|| "the worker died".into()));
            }
        }
    }

    /// The next step.
    pub fn next(&mut self, view: &View, now: Instant) -> Step {
        if let Some(report) = self.report.take() {
            return Step::Report(report);
        }
        if let Worker::Stopping { .. } = self.worker {
            return self.stop(now);
        }
        if !view.present {
            return self.without_worker(now, Step::Forget);
        }
        match view.online {
            true => {
                self.leaving = None;
                self.serve(view, now)
            }
            false => self.leave(view, now),
        }
    }

    /// That step, once there is no worker.
    fn without_worker(&mut self, now: Instant, step: Step) -> Step {
        match self.worker {
            Worker::None => step,
            _ => self.stop(now),
        }
    }

    fn stop(&mut self, now: Instant) -> Step {
        match &mut self.worker {
            Worker::Stopping { until, killed } if now >= *until && !*killed => {
                *killed = true;
                Step::Kill
            }
            Worker::Stopping { killed: true, .. } => Step::Wait(None),
            Worker::Stopping { until, .. } => Step::Wait(Some(*until)),
            _ => {
                self.worker = Worker::Stopping {
                    until: now + STOP_TIMEOUT,
                    killed: false,
                };
                Step::Stop
            }
        }
    }

    /// The toolstack removes the device.
    fn leave(&mut self, view: &View, now: Instant) -> Step {
        use XenbusState::*;

        let until = *self.leaving.get_or_insert(now) + LEAVE_TIMEOUT;
        let closed = match view.backend {
            Closed => Step::Wait(None),
            _ => Step::Set(Closed),
        };
        match view.frontend {
            _ if now >= until => self.without_worker(now, closed),
            // It unmounts, maybe; the worker goes on serving.
            Initialised | Connected | Reconfiguring | Reconfigured if self.has_worker() => {
                match view.backend {
                    Closing => Step::Wait(Some(until)),
                    _ => Step::Set(Closing),
                }
            }
            Closing => {
                let step = match view.backend {
                    Closed => Step::Wait(None),
                    Closing => Step::Wait(Some(until)),
                    _ => Step::Set(Closing),
                };
                self.without_worker(now, step)
            }
            _ => self.without_worker(now, closed),
        }
    }

    fn serve(&mut self, view: &View, now: Instant) -> Step {
        use XenbusState::*;

        if view.frontend != Initialised {
            self.refused = false;
        }
        match (view.backend, view.frontend) {
            // The device is new, or an administrator wants it to begin anew.
            (Initialising, _) => self.without_worker(now, Step::Invite),
            // A directory that is being made, or is none.
            (Unknown, _) => self.without_worker(now, Step::Wait(None)),
            (_, Unknown) => {
                let step = match view.backend {
                    InitWait | Closed => Step::Wait(None),
                    _ => Step::Set(Closed),
                };
                self.without_worker(now, step)
            }
            (_, Initialising | InitWait) => {
                let step = match view.backend {
                    InitWait => Step::Wait(None),
                    // It went without a word: another kernel, maybe.
                    Connected => Step::Set(Closed),
                    _ => Step::Invite,
                };
                self.without_worker(now, step)
            }
            (_, Initialised) => self.connect(view, now),
            (_, Closing) => {
                let step = match view.backend {
                    Closing | Closed => Step::Wait(None),
                    _ => Step::Set(Closing),
                };
                self.without_worker(now, step)
            }
            (_, Closed) => {
                let step = match view.backend {
                    // It may come again.
                    Closed | InitWait => Step::Wait(None),
                    _ => Step::Set(Closed),
                };
                self.without_worker(now, step)
            }
            (_, Connected | Reconfiguring | Reconfigured) => match &mut self.worker {
                Worker::Serving { met, .. } => {
                    *met = true;
                    match view.backend {
                        Connected => Step::Wait(None),
                        _ => Step::Set(Connected),
                    }
                }
                Worker::Starting { until, .. } if now < *until => Step::Wait(Some(*until)),
                Worker::Starting { .. } | Worker::Stopping { .. } => self.stop(now),
                Worker::None => match view.backend {
                    // It has not been connected to this one.
                    InitWait => Step::Wait(None),
                    backend => refuse(backend),
                },
            },
        }
    }

    /// The frontend has offered its rings.
    fn connect(&mut self, view: &View, now: Instant) -> Step {
        use XenbusState::*;

        match &self.worker {
            Worker::Stopping { .. } => self.stop(now),
            Worker::Starting { offer, until } => {
                let until = *until;
                match view.offer.as_ref() == Ok(offer) && now < until {
                    true => Step::Wait(Some(until)),
                    false => self.stop(now),
                }
            }
            // A frontend that was connected already, or has other rings now, begins anew.
            Worker::Serving { offer, met } => {
                match (view.offer.as_ref() == Ok(offer) && !met, view.backend) {
                    (false, _) => self.stop(now),
                    (true, Connected) => Step::Wait(None),
                    (true, _) => Step::Set(Connected),
                }
            }
            Worker::None if self.refused => refuse(view.backend),
            Worker::None => match &view.offer {
                Err(why) => {
                    self.refused = true;
                    Step::Report(why.clone())
                }
                Ok(offer) => match self.turn(now) {
                    Err(later) => Step::Wait(Some(later)),
                    Ok(()) => {
                        let offer = offer.clone();
                        self.worker = Worker::Starting {
                            offer: offer.clone(),
                            until: now + START_TIMEOUT,
                        };
                        Step::Start(offer)
                    }
                },
            },
        }
    }

    /// Takes a turn to connect, or says when there is one.
    fn turn(&mut self, now: Instant) -> Result<(), Instant> {
        let used = self.row.unwrap_or(now).max(now);
        let most = now + PAUSE * MAX_ROW;
        if used + PAUSE > most {
            return Err(now + (used + PAUSE - most));
        }
        self.row = Some(used + PAUSE);
        Ok(())
    }
}

/// The frontend believes in a connection, or wants one, that is not to be had.
fn refuse(backend: XenbusState) -> Step {
    match backend {
        XenbusState::Closed => Step::Wait(None),
        XenbusState::Closing => Step::Set(XenbusState::Closed),
        _ => Step::Set(XenbusState::Closing),
    }
}

#[cfg(test)]
mod tests;
