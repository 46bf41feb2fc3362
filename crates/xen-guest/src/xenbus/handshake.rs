//! The steps of connecting and disconnecting, without the I/O.
//!
//! [`Handshake`] is told what the backend's state is, and says what this side does next. It is the only place that
//! decides about this side's state, and takes no steps but these, whatever the backend does:
//!
//! ```text
//!   1 Initialising -> 3 Initialised -> 4 Connected
//!          ^   \            |             |
//!          |    \           v             |
//!   6 Closed <-- 5 Closing <--------------+
//! ```
//!
//! Each wait has an end. It goes from 5 to 6 when the backend has followed or has had its time, from 6 to 1 only when
//! the backend has let go, and from 3 to 4 only when the backend is there.

use core::time::Duration;

use super::{Ready, XenbusState};
use xen9p_time::Instant;

/// What this side does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sets its state to this.
    Set(XenbusState),
    /// Waits until the backend's state changes, for no longer than this.
    Wait(Instant),
    /// Makes what both sides share and publishes it together with Initialised; then calls
    /// [`Handshake::offered`].
    Offer(Ready),
    /// Nothing: it is connected.
    Connected,
    /// Nothing: it is disconnected.
    Left,
    /// Gives up: the backend went to this state instead of connecting, or while connected.
    Refused(XenbusState),
    /// Gives up: this was waited for in vain, and the backend is in this state.
    Overdue(&'static str, XenbusState),
}

/// How long a backend may take to leave Closed or Closing, once this side is Initialising or has offered its rings.
const REACTION_TIMEOUT: Duration = Duration::from_secs(3);

/// Where it is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    Connected,
    Left,
}

/// Where this side is. But for the first and the last, the state of the same name is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In a state that an earlier frontend has left behind.
    Found(XenbusState, Aim),
    Closing {
        until: Instant,
        aim: Aim,
    },
    Closed {
        until: Instant,
        aim: Aim,
        /// The state that the backend was in when it had had its time.
        late: Option<XenbusState>,
    },
    Initialising {
        until: Instant,
        /// When a backend that is Closed, or Closing, is taken at its word.
        stirs: Instant,
    },
    Offering(Ready),
    Initialised {
        ready: Ready,
        until: Instant,
        /// When a backend that is Closed, or Closing, is taken at its word.
        stirs: Instant,
    },
    Connected,
    /// Nothing is done any more.
    Over(Step),
}

/// One side of a device on its way.
#[derive(Clone, Copy, Debug)]
pub struct Handshake {
    stage: Stage,
    timeout: Duration,
    /// Whether this side was Closed, so that a backend may be told of that at any time.
    was_closed: bool,
}

impl Handshake {
    /// To a connection, from the state that this side is in, for whatever reason. Each step of the backend is
    /// waited for so long.
    pub fn connect(own: XenbusState, timeout: Duration) -> Handshake {
        Handshake {
            stage: Stage::Found(own, Aim::Connected),
            timeout,
            was_closed: false,
        }
    }

    /// To the end of a connection, in good order.
    pub fn leave(own: XenbusState, timeout: Duration) -> Handshake {
        Handshake {
            stage: Stage::Found(own, Aim::Left),
            timeout,
            was_closed: false,
        }
    }

    /// What [`Step::Offer`] asks for is done, and this side Initialised. At any other time this does nothing.
    pub fn offered(&mut self, now: Instant) {
        if let Stage::Offering(ready) = self.stage {
            let until = now + self.timeout;
            let stirs = match self.was_closed {
                true => now + self.timeout.min(REACTION_TIMEOUT),
                false => now,
            };
            self.stage = Stage::Initialised {
                ready,
                until,
                stirs,
            };
        }
    }

    /// The next step, given the backend's state. To be asked for again once it is taken. `online` is called if it
    /// matters whether the toolstack wants the device to be there.
    ///
    /// # Errors
    /// That of `online`.
    pub fn next<E>(
        &mut self,
        now: Instant,
        backend: XenbusState,
        online: impl FnOnce() -> Result<bool, E>,
    ) -> Result<Step, E> {
        use XenbusState::*;

        let until = now + self.timeout;
        let closing = |aim| (Stage::Closing { until, aim }, Step::Set(Closing));
        let closed = |aim, late| (Stage::Closed { until, aim, late }, Step::Set(Closed));
        let initialising = Stage::Initialising {
            until,
            stirs: now + self.timeout.min(REACTION_TIMEOUT),
        };
        let over = |step| (Stage::Over(step), step);
        let stage = self.stage;
        let (stage, step) = match stage {
            Stage::Found(own, Aim::Connected)
                if matches!(own, Unknown | Initialising)
                    && matches!(backend, Unknown | Initialising | InitWait) =>
            {
                self.stage = initialising;
                match own {
                    Initialising => return self.next(now, backend, online),
                    _ => (initialising, Step::Set(Initialising)),
                }
            }
            Stage::Found(Closed, aim) => {
                let late = None;
                self.stage = Stage::Closed { until, aim, late };
                return self.next(now, backend, online);
            }
            Stage::Found(_, aim) => closing(aim),

            // One that waits for a connection, or is about to, is another than the one that we had.
            Stage::Closing { aim, .. }
                if matches!(
                    backend,
                    Closing | Closed | Unknown | Initialising | InitWait
                ) =>
            {
                closed(aim, None)
            }
            Stage::Closing { until, aim } if now >= until => closed(aim, Some(backend)),
            Stage::Closing { until, .. } => (stage, Step::Wait(until)),

            Stage::Closed {
                late: Some(found), ..
            } => over(Step::Overdue("the backend to disconnect", found)),
            Stage::Closed { aim, .. }
                if matches!(backend, Closed | Initialising | InitWait | Unknown) =>
            {
                match aim {
                    Aim::Left => over(Step::Left),
                    Aim::Connected => {
                        self.was_closed = true;
                        (initialising, Step::Set(Initialising))
                    }
                }
            }
            Stage::Closed { until, .. } if now >= until => {
                over(Step::Overdue("the backend to close", backend))
            }
            Stage::Closed { until, .. } => (stage, Step::Wait(until)),

            Stage::Initialising { .. } if backend == InitWait => {
                let ready = Ready::InitWait;
                (Stage::Offering(ready), Step::Offer(ready))
            }
            // xen-9pfsd never leaves Closed, nor Closing if it was late to look and missed our Closed; one that does leave
            // them does so at once.
            Stage::Initialising { stirs, .. }
                if matches!(backend, Closing | Closed) && now < stirs =>
            {
                (stage, Step::Wait(stirs))
            }
            Stage::Initialising { until, .. } => {
                let ready = Ready::StaysClosed;
                if matches!(backend, Closing | Closed) && online()? {
                    (Stage::Offering(ready), Step::Offer(ready))
                } else if now < until {
                    (stage, Step::Wait(until))
                } else {
                    let what = "the backend to offer a connection (InitWait)";
                    over(Step::Overdue(what, backend))
                }
            }
            Stage::Offering(ready) => (stage, Step::Offer(ready)),

            Stage::Initialised {
                ready,
                until,
                stirs,
            } => match backend {
                Connected => (Stage::Connected, Step::Set(Connected)),
                Unknown => over(Step::Refused(backend)),
                // One that has just begun may follow our own states of before, and only then see that there are rings.
                Closing | Closed if ready == Ready::InitWait && now < stirs => {
                    (stage, Step::Wait(stirs))
                }
                // From a backend that was closed all the time that says nothing.
                Closing | Closed if ready == Ready::InitWait => over(Step::Refused(backend)),
                _ if now < until => (stage, Step::Wait(until)),
                _ => {
                    let what = "the backend to accept the rings (Connected)";
                    over(Step::Overdue(what, backend))
                }
            },
            // Whatever it does afterwards: it has let go of what it had from us.
            Stage::Connected if backend != Connected => over(Step::Refused(backend)),
            Stage::Connected => (stage, Step::Connected),
            Stage::Over(step) => (stage, step),
        };
        self.stage = stage;
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use XenbusState::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const STEP_TIMEOUT: Duration = Duration::from_secs(10);

    /// Where this side may go from a state that it has set itself.
    fn legal(from: XenbusState, to: XenbusState) -> bool {
        matches!(
            (from, to),
            (Initialising, Initialised | Closing)
                | (Initialised, Connected | Closing)
                | (Connected, Closing)
                | (Closing, Closed)
                | (Closed, Initialising)
        )
    }

    fn any_state() -> impl Strategy<Value = XenbusState> {
        (0_u32..10).prop_map(XenbusState::from_number)
    }

    /// A backend that does anything, and how much time passes before it is looked at again.
    fn any_backend() -> impl Strategy<Value = Vec<(XenbusState, u64, bool)>> {
        prop::collection::vec((any_state(), 0_u64..12_000, any::<bool>()), 1..60)
    }

    struct Side {
        own: XenbusState,
        handshake: Handshake,
        now: Instant,
        /// States of the backend that were seen since this side was Initialised.
        seen: Vec<XenbusState>,
        /// What is shared with the backend.
        shared: bool,
        waits: u32,
    }

    impl Side {
        fn new(own: XenbusState, handshake: Handshake) -> Side {
            Side {
                own,
                handshake,
                now: Instant::from_nanos(1),
                seen: Vec::new(),
                shared: false,
                waits: 0,
            }
        }

        fn set(&mut self, state: XenbusState, first: bool) -> Result<(), TestCaseError> {
            let found = first && matches!(state, Closing | Initialising);
            prop_assert!(found || legal(self.own, state), "{} to {}", self.own, state);
            self.own = state;
            Ok(())
        }

        /// Goes on until the handshake has come to an end or the backend does no more.
        fn run(
            &mut self,
            backend: &mut impl Iterator<Item = (XenbusState, u64, bool)>,
        ) -> Result<Option<Step>, TestCaseError> {
            let mut first = true;
            for (state, millis, online) in backend {
                self.now = self.now + Duration::from_millis(millis);
                // As often as it has something to do at this moment: not for ever.
                for round in 0.. {
                    prop_assert!(round < 8, "goes round in circles");
                    self.seen.push(state);
                    let Ok(step) = self.handshake.next(self.now, state, || Ok::<_, ()>(online))
                    else {
                        unreachable!()
                    };
                    match step {
                        Step::Set(to) => {
                            if to == Connected {
                                prop_assert!(self.shared && self.seen.contains(&Connected));
                            }
                            self.set(to, first)?;
                            first = false;
                        }
                        Step::Wait(until) => {
                            prop_assert!(self.now < until && until <= self.now + STEP_TIMEOUT);
                            self.waits += 1;
                            break;
                        }
                        Step::Offer(_) => {
                            prop_assert_eq!(self.own, Initialising);
                            self.set(Initialised, false)?;
                            self.shared = true;
                            self.seen.clear();
                            self.handshake.offered(self.now);
                        }
                        Step::Connected => {
                            prop_assert_eq!((self.own, state), (Connected, Connected));
                            break;
                        }
                        Step::Left | Step::Refused(_) | Step::Overdue(..) => {
                            return Ok(Some(step));
                        }
                    }
                }
            }
            Ok(None)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// From whatever state, with whatever backend: only legal steps, connected only with a backend that is, and
        /// disconnected in the end.
        #[test]
        fn no_backend_makes_it_take_an_illegal_step(
            own in any_state(),
            backend in any_backend(),
        ) {
            let mut backend = backend.into_iter();
            let mut side = Side::new(own, Handshake::connect(own, STEP_TIMEOUT));
            let end = side.run(&mut backend)?;
            if let Some(step) = end {
                // It stays over.
                let again = side.handshake.next(side.now, Connected, || Ok::<_, ()>(true));
                prop_assert_eq!(again, Ok(step));
            }
            side.handshake = Handshake::leave(side.own, STEP_TIMEOUT);
            let begun = side.now;
            // One that does not move any more.
            let last = backend.next().map_or(Connected, |(state, ..)| state);
            let still = (0..).map(|round| (last, u64::from(round > 0) * 1000, true));
            let end = side.run(&mut still.take(30))?;
            prop_assert!(matches!(end, Some(Step::Left | Step::Overdue(..))));
            prop_assert_eq!(side.own, Closed);
            prop_assert!(side.now - begun <= STEP_TIMEOUT * 2);
        }

        /// So is xen-9pfsd, which goes to Closing and Closed when it is told of ours, however late that is and whichever of
        /// them it has missed.
        #[test]
        fn a_backend_that_is_late_is_connected(
            late in 0_usize..6,
            follows in prop::sample::select(&[Closing, Closed][..]),
        ) {
            let mut side = Side::new(Closed, Handshake::connect(Closed, STEP_TIMEOUT));
            let mut theirs = Initialising;
            for round in 0..12 {
                let mut once = [(theirs, 1, true)].into_iter();
                prop_assert_eq!(side.run(&mut once)?, None);
                theirs = match side.own {
                    _ if round == late && theirs != Connected => follows,
                    Initialised | Connected => Connected,
                    _ if theirs == Initialising => InitWait,
                    _ => theirs,
                };
            }
            if side.own != Connected {
                // It was so all the time that this side was Initialising: xen-9pfsd takes the rings up nevertheless.
                let mut then = [(theirs, 4000, true), (Connected, 1, true)].into_iter();
                prop_assert_eq!(side.run(&mut then)?, None);
            }
            prop_assert_eq!(side.own, Connected);
        }

        /// A backend that keeps to the protocol is connected, whatever state this side was left in.
        #[test]
        fn an_honest_backend_is_connected(own in any_state(), theirs in any_state()) {
            let mut side = Side::new(own, Handshake::connect(own, STEP_TIMEOUT));
            let mut theirs = theirs;
            for _ in 0..12 {
                let mut once = [(theirs, 1, true)].into_iter();
                prop_assert_eq!(side.run(&mut once)?, None);
                theirs = match (side.own, theirs) {
                    (Closing, _) => Closing,
                    (Closed, _) => Closed,
                    (Initialising, _) => InitWait,
                    (Initialised | Connected, _) => Connected,
                    (_, theirs) => theirs,
                };
            }
            prop_assert_eq!(side.own, Connected);
        }
    }
}
