//! The engine: the state of a session, which does no I/O. It never waits, knows no clock and owns no transport.
//!
//! - Messages go out and come in on [`Lanes`], which its caller lends it for the length of one call: [`Engine::submit`] and
//!   [`Engine::send_due`] write requests there, [`Engine::pump`] takes replies in, [`Engine::take_data`] copies their data to
//!   where the program wants it. Lent, and not handed over as messages of their own, since each byte is copied once.
//! - The time is what its caller says: [`Engine::expire_due`] is told it, [`Engine::next_wakeup`] says when it wants to be told
//!   again.
//! - It calls nothing back. Wakers and errors to be logged wait until its caller has let go of it:
//!   [`Engine::take_deferred`].

mod deadlines;
mod face;
mod lanes;
mod loss;
mod probe;
mod receive;
mod reply;
mod send;
mod slot;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;
use core::time::Duration;

pub(super) use lanes::{Lanes, Shape};
pub(super) use slot::{Outcome, unlocks};

use super::fid_table::FidTable;
use super::journal::Journal;
use super::{Config, Stats};
use crate::transport::{Lane, TransportError};
use crate::{Dialect, Error};
use p9_wire::Tag;
use probe::Probe;
use slot::Slot;
use xen9p_time::Instant;

/// How many pumps a bulk reply may stay at the head of its lane before it is moved out of the way.
const MAX_HEAD_PUMPS: u8 = 8;

/// Of a request in flight when the connection was lost, which may be made again.
pub(super) const RETRYABLE_LOSS: Error = Error::Transport(TransportError::Lost(
    &"it was lost again and again before the server answered",
));

/// The waker of tasks that are polled after each wait, whatever came: by the driver.
pub(super) static POLLED_ANYWAY: &Waker = Waker::noop();

/// Has a task woken as soon as nothing is borrowed, unless it is polled anyway.
fn wake_later(woken: &mut Vec<Waker>, waker: Option<Waker>) {
    woken.extend(waker.filter(|waker| !waker.will_wake(POLLED_ANYWAY)));
}

/// What the session knows of one of the transport's lanes.
#[derive(Debug, Default)]
struct LaneState {
    /// Slots of this lane that are free.
    free: Vec<u16>,
    /// The slot whose reply is at the head, left there for its owner.
    head: Option<u16>,
    /// Pumps that have seen this head.
    seen: u8,
    /// Bytes of requests and replies in flight.
    load: u64,
}

pub(super) struct Engine {
    lanes: Vec<LaneState>,
    /// Whether the server keeps the order of each lane.
    in_order: bool,
    /// Whether the server keeps a reply until there is room for it.
    holds_replies: bool,
    /// Whether the transport waits for what comes behind a reply that lies there.
    waits_for_news: bool,
    /// One for each tag from 0 on, and the last for [`Tag::NONE`]. A slot's request is flushed with
    /// the tag of its own plus [`window`](Self::window), which travels on the same lane.
    slots: Vec<Slot>,
    window: u16,
    fids: FidTable,
    dialect: Dialect,
    msize: u32,
    /// The largest reply that is legal now: msize, or more while a request is in flight that asks for more.
    largest: u32,
    /// What the lanes were told last of [`largest`](Self::largest); 0 before that.
    largest_told: u32,
    timeout: Duration,
    interrupt: Arc<AtomicBool>,
    stats: Stats,
    /// Begins and ends of requests that may change what a file contains.
    changes: u64,
    /// Why the session is over.
    dead: Option<Error>,
    /// The same until it is logged.
    unlogged_error: Option<Error>,
    /// Set if the loss of the connection is not the end of the session.
    journal: Option<&'static Journal>,
    /// Whether its trees have to be the same afterwards.
    same_trees: bool,
    /// Why the connection is lost, until there is a new one.
    lost: Option<Error>,
    /// A new connection is being looked for. An operation that is polled by that search must not wait for its end.
    searching: bool,
    /// No request has to be answered before this.
    grace: Instant,
    /// Whether the server understands Tflush.
    can_flush: bool,
    /// Slots in [`State::FlushDue`](slot::State::FlushDue).
    flushes_due: u16,
    /// Slots in [`State::UnwantedHead`](slot::State::UnwantedHead).
    unwanted_heads: u16,
    /// When the clock was read last, and the earliest deadline of the tasks that waited then.
    last_clock_read: Instant,
    next_deadline: Instant,
    /// Who waits for a free slot or for room, and until when.
    waiting: Vec<(Waker, Instant)>,
    /// Wakers to be called as soon as nothing is borrowed.
    woken: Vec<Waker>,
    /// Whether the operations in flight know that they are interrupted.
    interrupt_told: bool,
    /// Grows whenever an operation may get further if it is polled.
    progress: u64,
    /// What that was when it last grew for another reason than the reply to one request.
    progress_of_many: u64,
    /// What it was when those who poll the operations were told last.
    progress_told: u64,
    /// Whether the end of the session is not to be logged.
    quiet: bool,
    /// Where requests are encoded.
    scratch: Vec<u8>,
    /// Under way where the server may have forgotten the session.
    probe: Option<Probe>,
    /// The lane to begin the next search with.
    next_lane: u16,
    /// Whether the session is used for others, too.
    shared: bool,
    /// What is asked for now is asked for others.
    for_others: bool,
}

impl Engine {
    pub(super) fn new(shape: Shape, config: &Config) -> Result<Engine, Error> {
        let count = shape.lanes;
        let wanted = config.window.clamp(1, super::MAX_WINDOW);
        let window = wanted
            .checked_next_multiple_of(count)
            .filter(|&window| window <= super::MAX_WINDOW)
            .ok_or(Error::InvalidInput(&"more lanes than tags"))?;
        let mut lanes = Vec::new();
        lanes
            .try_reserve_exact(usize::from(count))
            .map_err(|_| Error::OutOfMemory)?;
        for lane in 0..count {
            // The lowest tag on top, so that small tables stay in few cache lines.
            let free = (lane..window).step_by(usize::from(count)).rev().collect();
            lanes.push(LaneState {
                free,
                ..LaneState::default()
            });
        }
        let mut slots = Vec::new();
        slots
            .try_reserve_exact(usize::from(window) + 1)
            .map_err(|_| Error::OutOfMemory)?;
        slots.resize_with(usize::from(window) + 1, Slot::new);
        let most = shape.max_message;
        let msize = config.msize.min(most);
        if config.msize != u32::MAX && config.msize > most {
            log::warn!(
                "9P session: msize {} was asked for; the transport carries {most}",
                config.msize
            );
        }
        Ok(Engine {
            lanes,
            in_order: shape.in_order,
            holds_replies: shape.holds_replies,
            waits_for_news: shape.waits_for_news,
            slots,
            window,
            fids: FidTable::default(),
            dialect: Dialect::Linux,
            msize,
            largest: most,
            largest_told: 0,
            timeout: config.timeout,
            interrupt: Arc::default(),
            stats: Stats::default(),
            changes: 0,
            dead: None,
            unlogged_error: None,
            journal: None,
            same_trees: false,
            lost: None,
            searching: false,
            grace: Instant::from_nanos(0),
            can_flush: true,
            flushes_due: 0,
            unwanted_heads: 0,
            last_clock_read: Instant::from_nanos(0),
            next_deadline: Instant::NEVER,
            waiting: Vec::new(),
            woken: Vec::new(),
            interrupt_told: false,
            progress: 0,
            progress_of_many: 0,
            progress_told: 0,
            quiet: false,
            scratch: Vec::new(),
            probe: None,
            next_lane: 0,
            shared: false,
            for_others: false,
        })
    }

    /// The tag of a slot.
    pub(super) fn tag(&self, index: u16) -> u16 {
        if index == self.window {
            Tag::NONE.0
        } else {
            index
        }
    }

    /// The lane that a tag travels on.
    pub(super) fn lane_of(&self, tag: u16) -> Lane {
        // There are at most 65,535 lanes and at least one.
        Lane(tag % (self.lanes.len() as u16))
    }

    fn slot(&mut self, index: u16) -> Result<&mut Slot, Error> {
        self.slots.get_mut(usize::from(index)).ok_or(Error::Closed)
    }

    /// Gives the connection up: it is lost, if another may be found, and the session over otherwise. Returns
    /// the first reason.
    pub(super) fn fail(&mut self, error: Error) -> Error {
        if let Some(first) = self.dead.or(self.lost) {
            return first;
        }
        match self.journal {
            Some(journal) if self.fids.has_roots() => {
                (journal.break_off)(self, error);
                error
            }
            _ => self.end(error),
        }
    }

    /// Ends the session: every operation from now on fails with `error`, unless an earlier one has
    /// done so already. Returns the reason that counts.
    pub(super) fn end(&mut self, error: Error) -> Error {
        if let Some(first) = self.dead {
            return first;
        }
        self.dead = Some(error);
        self.unlogged_error = Some(error).filter(|_| !self.quiet);
        self.wake_all();
        error
    }

    pub(super) fn alive(&self) -> Result<(), Error> {
        self.dead.map_or(Ok(()), Err)
    }

    /// Whether there is a connection.
    fn is_up(&self) -> bool {
        self.dead.is_none() && self.lost.is_none()
    }

    pub(super) fn wake_all(&mut self) {
        for slot in &mut self.slots {
            wake_later(&mut self.woken, slot.waker.take());
        }
        for (waker, _) in self.waiting.drain(..) {
            wake_later(&mut self.woken, Some(waker));
        }
        self.note_progress();
    }

    /// Lets those who wait for a slot or for room try again.
    fn wake_waiting(&mut self) {
        if !self.waiting.is_empty() {
            self.note_progress();
            for (waker, _) in self.waiting.drain(..) {
                wake_later(&mut self.woken, Some(waker));
            }
        }
    }

    /// Operations may get further, which ones is unknown.
    fn note_progress(&mut self) {
        self.progress += 1;
        self.progress_of_many = self.progress;
    }

    /// Whether an operation may have got further since [`tell_progress`](Self::tell_progress), and has not been polled since
    /// then. Who waits all the same would sleep with a reply at hand.
    pub(super) fn has_untold_progress(&self) -> bool {
        let told = self.progress_told;
        self.progress != told
            && (self.progress_of_many > told || self.slots.iter().any(|slot| slot.arrived > told))
    }

    /// Those who poll the operations are told of all progress that there was.
    pub(super) fn tell_progress(&mut self) {
        self.progress_told = self.progress;
    }

    /// Whether the switch is set.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// Whether requests are in flight, or have to be sent yet.
    pub(super) fn is_busy(&self) -> bool {
        self.fids.to_be_clunked() > 0 || self.slots.iter().any(|slot| !slot.state.is_free())
    }
}
