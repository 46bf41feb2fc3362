//! The session's state. What is done to it stands beside this: `submit`, `pump` and `answer` for requests and replies,
//! `clock` for time. Nothing there calls out, or holds a borrow that a callback could meet.

mod deadlines;
mod device;
mod face;
mod loss;
mod probe;
mod receive;
mod reply;
mod send;
mod slot;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;
use core::time::Duration;

pub(super) use slot::{Outcome, unlocks};

use super::fid_table::FidTable;
use super::{Config, Stats};
use crate::transport::{Lane, Transport, TransportError};
use crate::{Dialect, Error};
use device::Device;
use p9_wire::Tag;
use probe::Probe;
use slot::{Slot, State};
use xen9p_time::Instant;

/// How many pumps a bulk reply may stay at the head of its lane before it is moved out of the way.
const MAX_HEAD_PUMPS: u8 = 8;

/// Of a request in flight when the connection was lost, which may be made again.
pub(super) const RETRYABLE_LOSS: Error = Error::Transport(TransportError::Lost(
    "it was lost again and again before the server answered",
));

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
    device: Device,
    lanes: Vec<LaneState>,
    /// One for each tag from 0 on, and the last for [`Tag::NONE`]. A slot's request is flushed with
    /// the tag of its own plus [`window`](Self::window), which travels on the same lane.
    slots: Vec<Slot>,
    window: u16,
    fids: FidTable,
    dialect: Dialect,
    msize: u32,
    /// The largest reply that the transport takes now: msize, or more while a request is in flight that asks for more.
    largest: u32,
    timeout: Duration,
    interrupt: Arc<AtomicBool>,
    stats: Stats,
    /// Begins and ends of requests that may change what a file contains.
    changes: u64,
    /// Why the session is over.
    dead: Option<Error>,
    /// The same until it is logged.
    unlogged_error: Option<Error>,
    /// Whether the loss of the connection is not the end of the session.
    recovers: bool,
    /// Why the connection is lost, until there is a new one.
    lost: Option<Error>,
    /// A new one is being last_clock_read for: who asks for something from within that must not wait for its end.
    searching: bool,
    /// No request has to be answered before this.
    grace: Instant,
    /// Whether the server understands Tflush.
    can_flush: bool,
    /// Slots in [`State::FlushDue`].
    flushes_due: u16,
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
    /// Whether the end of the session is not to be logged.
    quiet: bool,
    /// Where requests are encoded.
    scratch: Vec<u8>,
    /// Under way where the server may have forgotten the session.
    probe: Option<Probe>,
    /// The lane to begin the next search with.
    next_lane: u16,
}

impl Engine {
    pub(super) fn new(transport: Box<dyn Transport>, config: &Config) -> Result<Engine, Error> {
        let count = transport.lanes().max(1);
        let wanted = config.window.clamp(1, super::MAX_WINDOW);
        let window = wanted
            .checked_next_multiple_of(count)
            .filter(|&window| window <= super::MAX_WINDOW)
            .ok_or(Error::InvalidInput("more lanes than tags"))?;
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
        let most = transport.max_message();
        let msize = config.msize.min(most);
        if config.msize != u32::MAX && config.msize > most {
            log::warn!(
                "9P session: msize {} was asked for; the transport carries {most}",
                config.msize
            );
        }
        Ok(Engine {
            device: Device::new(transport),
            lanes,
            slots,
            window,
            fids: FidTable::default(),
            dialect: Dialect::Linux,
            msize,
            largest: most,
            timeout: config.timeout,
            interrupt: Arc::default(),
            stats: Stats::default(),
            changes: 0,
            dead: None,
            unlogged_error: None,
            recovers: false,
            lost: None,
            searching: false,
            grace: Instant::from_nanos(0),
            can_flush: true,
            flushes_due: 0,
            last_clock_read: Instant::from_nanos(0),
            next_deadline: Instant::NEVER,
            waiting: Vec::new(),
            woken: Vec::new(),
            interrupt_told: false,
            progress: 0,
            progress_of_many: 0,
            quiet: false,
            scratch: Vec::new(),
            probe: None,
            next_lane: 0,
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
        if self.recovers && self.fids.has_roots() {
            self.break_off(error);
            return error;
        }
        self.end(error)
    }

    /// Marks the connection as lost. With recovery, pending requests stay pending.
    fn broken<T>(&mut self, error: Error) -> Result<Option<T>, Error> {
        self.fail(error);
        self.alive().map(|()| None)
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
        let wakers = self.slots.iter_mut().filter_map(|slot| slot.waker.take());
        self.woken.extend(wakers);
        self.woken
            .extend(self.waiting.drain(..).map(|(waker, _)| waker));
        self.note_progress();
    }

    /// Lets those who wait for a slot or for room try again.
    fn wake_waiting(&mut self) {
        if !self.waiting.is_empty() {
            self.note_progress();
            self.woken
                .extend(self.waiting.drain(..).map(|(waker, _)| waker));
        }
    }

    /// Operations may get further, which ones is unknown.
    fn note_progress(&mut self) {
        self.progress += 1;
        self.progress_of_many = self.progress;
    }

    /// Whether an operation may have got further after `reported` and has not been polled since.
    pub(super) fn has_unseen_progress(&self, reported: u64) -> bool {
        self.progress != reported
            && (self.progress_of_many > reported
                || self.slots.iter().any(|slot| slot.arrived > reported))
    }

    /// Whether the switch is set.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// Whether a bulk reply has been at the head of its lane for too long.
    fn is_stuck(lane: &mut LaneState) -> bool {
        lane.seen = lane.seen.saturating_add(1);
        lane.seen > MAX_HEAD_PUMPS
    }

    /// Whether requests are in flight, or have to be sent yet.
    pub(super) fn is_busy(&self) -> bool {
        self.fids.has_to_clunk() || self.slots.iter().any(|slot| slot.state != State::Free)
    }
}
