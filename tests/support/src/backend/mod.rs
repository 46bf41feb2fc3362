//! 9pfs backends, simulated: what the frontend's ring and handshake are tested against.
//!
//! [`Qemu`] and [`Daemon`] (xen-9pfsd) keep the exact rules of the two real backends, with all
//! their edges; both serve any 9P server, given as a [`Handler`], and both advance in small steps
//! so that a test can interleave them with the frontend in every order. What a frontend must never
//! let happen is not papered over: the backend then behaves as the real one would (hangs, overwrites,
//! disconnects) and writes a [`Trouble`] down. [`Lies`] turn either into a hostile backend.
//!
//! [`PlainRing`] is a ring without a Xen around it; [`Share`] is a whole backend program with a device, xenbus and
//! all. It reaches the machine through [`Machine`]: the simulated Xen here, the devices of a Linux dom0 in
//! `tests/backend`, whose program is this one. What it does wrong there can be told in a small language: [`Faults`]
//! are parsed from it.

mod canary;
mod daemon;
pub mod echo;
mod lies;
mod machine;
mod memory;
mod qemu;
mod script;
mod share;

pub use daemon::Daemon;
pub use lies::{Deed, Lie, Lies, Trick, When};
pub use machine::{Machine, MappedPage};
pub use memory::{PlainRing, RingView};
pub use qemu::Qemu;
pub use script::BadScript;
pub use share::{Faults, Program, Share};

/// A 9P server: one request in, its reply out. An empty reply means that the request could not be
/// decoded.
pub type Handler = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

/// What one step of a backend did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do; only an event changes that.
    Idle,
    /// Something, unseen from outside or visible in the ring.
    Progress,
    /// As `Progress`, and the frontend was sent an event.
    Event,
}

/// Something that a correct frontend never lets happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A header was visible without its body, or the request was longer than the ring: QEMU never
    /// looks at the ring again.
    Wedged,
    /// A request came on another ring than its tag says: QEMU answers on the wrong one.
    Misrouted,
    /// A reply other than Rread found no room: QEMU disconnects.
    NoRoom,
    /// The ring was full to the last byte, QEMU took it for empty and overwrote unread replies.
    Overwrite,
    /// The server could not make sense of the request: QEMU disconnects.
    Undecodable,
    /// A request shorter than a header or longer than msize: xen-9pfsd ignores the ring from now on.
    Ignored,
    /// In the shared pages is something that is neither zero nor has gone over the wire.
    Leak,
}

/// A backend that serves rings.
pub trait Backend {
    /// Number of rings.
    fn rings(&self) -> usize;
    /// The frontend sent an event for `ring`.
    fn event(&mut self, ring: usize);
    /// Lets `ring` advance by one step.
    fn step(&mut self, ring: usize) -> Step;
    /// Whether the backend still serves; it has gone to Closing otherwise.
    fn serving(&self) -> bool;
    /// What went wrong so far.
    fn troubles(&self) -> &[Trouble];
    /// How often a reply waited for room so far.
    fn waits_for_room(&self) -> usize;
    /// The memory of a ring.
    fn view(&self, ring: usize) -> &RingView;
    /// The frontend was sent an event for `ring`: whatever lie goes on then does.
    fn told(&mut self, ring: usize);
    /// What the script wants done besides, since this was last asked.
    fn take_deeds(&mut self) -> Vec<Deed>;

    /// All that decides what `ring` does next, but for what is in its memory.
    fn inner_state(&self, ring: usize) -> String;

    /// Lets all rings advance until nothing moves, at most `limit` steps (a hostile backend may
    /// never rest); returns which rings sent the frontend an event.
    fn run(&mut self, limit: usize) -> Vec<usize> {
        let mut events = Vec::new();
        let mut steps = 0;
        loop {
            let mut moved = false;
            for ring in 0..self.rings() {
                match self.step(ring) {
                    Step::Idle => continue,
                    Step::Progress => {}
                    Step::Event if events.contains(&ring) => {}
                    Step::Event => events.push(ring),
                }
                moved = true;
                steps += 1;
            }
            if !moved || steps >= limit {
                return events;
            }
        }
    }
}
