//! What becomes of requests in flight when the connection is lost, and a new one.

use alloc::vec::Vec;

use super::slot::{Place, State};
use super::{Engine, LaneState, RETRYABLE_LOSS, Shape};
use crate::Error;
use crate::session::journal::ReplayPolicy;
use xen9p_time::Instant;

impl Engine {
    /// The connection is lost: says of each request in flight what becomes of it.
    pub(in crate::session) fn break_off(&mut self, error: Error) {
        self.lost = Some(error);
        self.stats.losses += 1;
        self.flushes_due = 0;
        self.unwanted_heads = 0;
        self.end_probe();
        for lane in &mut self.lanes {
            lane.head = None;
            lane.seen = 0;
        }
        for index in 0..self.slots.len() as u16 {
            let Ok(slot) = self.slot(index) else { continue };
            slot.change = None;
            let (state, info) = (slot.state, slot.info);
            let again = info.replay == ReplayPolicy::Retry;
            if let Some(fid) = info.clunks
                && !state.is_free()
            {
                self.fids.ended(fid);
            }
            let Ok(slot) = self.slot(index) else { continue };
            match state {
                State::Free
                | State::Lost { .. }
                | State::Ready(Place::Inline | Place::Spilled | Place::Failed(_)) => {}
                State::Waiting if info.replay == ReplayPolicy::AssumeDone => {
                    slot.answer(info.kind + 1);
                }
                State::Waiting | State::Ready(Place::Head) => slot.state = State::Lost { again },
                // It was refused, so it was not done.
                State::Suspect { wanted: true } => slot.state = State::Lost { again: true },
                State::Detached | State::Suspect { wanted: false } => {
                    if let Some(outcome) = slot.outcome.take() {
                        let error = if again {
                            RETRYABLE_LOSS
                        } else {
                            Error::MaybeApplied
                        };
                        outcome.set(Some(Err(error)));
                    }
                    self.retire(index);
                }
                State::FlushDue | State::Flushing { .. } | State::UnwantedHead => {
                    self.retire(index)
                }
            }
        }
        self.fids.go_offline();
        self.wake_all();
    }

    /// It is `now`, and there is another connection, whose server knows the fids.
    pub(in crate::session) fn connected(&mut self, shape: Shape, now: Instant) {
        let count = shape.lanes;
        self.largest = self.msize;
        self.largest_told = 0;
        let mut lanes: Vec<LaneState> = Vec::new();
        lanes.resize_with(usize::from(count), LaneState::default);
        for (index, slot) in (0..self.window).zip(&mut self.slots).rev() {
            slot.load = 0;
            if slot.state.is_free()
                && let Some(lane) = lanes.get_mut(usize::from(index % count))
            {
                lane.free.push(index);
            }
        }
        self.lanes = lanes;
        self.next_lane = 0;
        self.in_order = shape.in_order;
        self.holds_replies = shape.holds_replies;
        self.waits_for_news = shape.waits_for_news;
        self.can_flush = true;
        self.lost = None;
        self.grace = now + self.timeout;
        // Whatever was read ahead may have changed.
        self.changes += 1;
        self.stats.recoveries += 1;
        self.wake_all();
    }
}
