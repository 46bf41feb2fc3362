//! What an endpoint can hold, which is allocated once, before there is an endpoint.

use alloc::boxed::Box;
use alloc::vec;

use super::event::Token;

/// How much an endpoint can have under way, in either direction. The smaller of both sides' counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the largest message, and of the largest parameters and status of a transaction.
    pub body: u32,
    /// Messages that the other side has not completed.
    pub messages: u16,
    /// Transactions that are not over.
    pub transactions: u16,
    /// Buffers that are registered.
    pub buffers: u16,
    /// Pages of the largest buffer that is registered.
    pub pages: u16,
    /// Transfers to and from buffers of the other side.
    pub transfers: u16,
    /// Bytes of a buffer that go in one frame, where they go in frames; at least one.
    pub chunk: u32,
}

impl Default for Limits {
    /// 16 messages and transactions of 256 bytes, 16 buffers of 1 MiB, and 8 transfers in pieces of 16 KiB.
    fn default() -> Self {
        Limits {
            body: 256,
            messages: 16,
            transactions: 16,
            buffers: 16,
            pages: 256,
            transfers: 8,
            chunk: 16 << 10,
        }
    }
}

impl Limits {
    /// The smaller one of each.
    pub(super) fn min(self, other: Limits) -> Limits {
        Limits {
            body: self.body.min(other.body),
            messages: self.messages.min(other.messages),
            transactions: self.transactions.min(other.transactions),
            buffers: self.buffers.min(other.buffers),
            pages: self.pages.min(other.pages),
            transfers: self.transfers.min(other.transfers),
            chunk: self.chunk.min(other.chunk),
        }
    }
}

/// What becomes of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    /// Waits for its turn to be sent.
    Queued,
    /// The other side has it.
    Sent,
    /// Its event waits for the program, or the program has it.
    Here,
}

#[derive(Clone, Copy)]
struct Slot {
    state: State,
    serial: u32,
    len: u32,
}

/// A fixed number of bodies of a fixed size.
pub(super) struct Pool {
    slots: Box<[Slot]>,
    bytes: Box<[u8]>,
    size: usize,
}

impl Pool {
    pub fn new(count: u16, size: u32) -> Self {
        let (count, size) = (usize::from(count), size as usize);
        let free = Slot {
            state: State::Free,
            serial: 0,
            len: 0,
        };
        Pool {
            slots: vec![free; count].into(),
            bytes: vec![0; count * size].into(),
            size,
        }
    }

    /// The number of every slot.
    pub fn slots(&self) -> core::ops::Range<u16> {
        // As many as `new` was told.
        0..self.slots.len() as u16
    }

    /// The state of a slot; of one that does not exist, `None`.
    pub fn state(&self, slot: u16) -> Option<State> {
        Some(self.slots.get(usize::from(slot))?.state)
    }

    pub fn set(&mut self, slot: u16, state: State) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            slot.state = state;
        }
    }

    pub fn token(&self, slot: u16) -> Token {
        let serial = self.slots.get(usize::from(slot)).map_or(0, |s| s.serial);
        Token { slot, serial }
    }

    /// The slot of a token, if it is still the one that the token was made for and in this state.
    pub fn find(&self, token: Token, state: State) -> Option<u16> {
        let slot = self.slots.get(usize::from(token.slot))?;
        (slot.serial == token.serial && slot.state == state).then_some(token.slot)
    }

    /// A free slot among the first `count`.
    pub fn free_slot(&self, count: u16) -> Option<u16> {
        (0..count).find(|&slot| self.state(slot) == Some(State::Free))
    }

    /// Puts a body into a slot. `false` if the body is too large or there is no such slot.
    #[must_use]
    pub fn put(&mut self, slot: u16, body: &[u8], state: State) -> bool {
        let start = usize::from(slot) * self.size;
        let room = self.bytes.get_mut(start..start + self.size);
        let Some(into) = room.and_then(|room| room.get_mut(..body.len())) else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(usize::from(slot)) else {
            return false;
        };
        into.copy_from_slice(body);
        // At most `size`, which was a u32.
        slot.len = body.len() as u32;
        slot.state = state;
        true
    }

    pub fn body(&self, slot: u16) -> &[u8] {
        let len = self
            .slots
            .get(usize::from(slot))
            .map_or(0, |s| s.len as usize);
        let start = usize::from(slot) * self.size;
        self.bytes.get(start..start + len).unwrap_or(&[])
    }

    /// Tokens of the slot mean nothing any more.
    pub fn free(&mut self, slot: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            slot.state = State::Free;
            slot.serial = slot.serial.wrapping_add(1);
        }
    }
}
