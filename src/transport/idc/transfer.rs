//! Transfers to and from buffers of the other side, and the other side's to and from those of this one.

use alloc::vec::Vec;
use core::ops::Range;

use super::buffers::refs_of;
use super::bulk::{Bulk, LocalBuffer, RemoteBuffer, Way};
use super::engine::Engine;
use super::event::{BufferError, Event, Fault, Token, Transfer};
use super::frame::{Frame, Name};
use super::resources::Outgoing;

/// A slot for a transfer of this side's.
pub(super) struct Active<B: Bulk> {
    serial: u32,
    job: Option<Job<B>>,
}

impl<B: Bulk> Default for Active<B> {
    fn default() -> Self {
        Active {
            serial: 0,
            job: None,
        }
    }
}

struct Job<B: Bulk> {
    way: Way,
    name: Name,
    /// Where in the other side's buffer the bytes are that are not transferred yet.
    offset: u64,
    buffer: B::Buffer,
    /// Those bytes here.
    rest: Range<usize>,
    /// How many of them are under way.
    chunk: usize,
    over: bool,
}

/// A slot for a transfer of the other side's.
#[derive(Clone, Copy, Default)]
pub(super) struct Served {
    busy: bool,
    outcome: u32,
    /// What it wants to have.
    get: Option<(Name, u64, u32)>,
}

const DONE: u32 = 0;
const UNREGISTERED: u32 = 1;
const OUT_OF_BOUNDS: u32 = 2;

fn to_usize(number: u64) -> Result<usize, BufferError> {
    usize::try_from(number).map_err(|_| BufferError::OutOfBounds)
}

impl<B: Bulk> Engine<B> {
    /// Begins to transfer as many bytes as are in `range` of a buffer here, between there and `offset` of a buffer of the
    /// other side's. The end is an event. The bytes may be written before that, and some of them where it is an error; to
    /// do it again does no harm.
    ///
    /// # Errors
    /// See [`BufferError`]; then nothing is transferred, and no event comes.
    pub fn transfer(
        &mut self,
        way: Way,
        remote: &RemoteBuffer,
        offset: u64,
        buffer: &B::Buffer,
        range: Range<usize>,
    ) -> Result<Transfer, BufferError> {
        if !self.is_connected() {
            return Err(BufferError::NotConnected);
        }
        if remote.owner != self.known {
            return Err(BufferError::Foreign);
        }
        if remote.epoch != self.connects {
            return Err(BufferError::Stale);
        }
        let len = self.len_of(remote.name());
        let len = len.ok_or(BufferError::Unregistered)?;
        let end = offset.checked_add(range.len() as u64);
        let here = range.start <= range.end && range.end <= buffer.size();
        if !here || end.is_none_or(|end| end > len) {
            return Err(BufferError::OutOfBounds);
        }
        let free = self
            .has
            .transfers
            .iter()
            .position(|slot| slot.job.is_none());
        let slot = free
            .and_then(|slot| u16::try_from(slot).ok())
            .filter(|&slot| slot < self.agreed.transfers)
            .ok_or(BufferError::Full)?;
        let refs = refs_of(&self.has.refs, self.has.limits.pages, remote.id, len);
        let at = to_usize(offset)?;
        let copied = self.bulk.copy(way, refs, at, buffer, range.clone());
        let Some(active) = self.has.transfers.get_mut(usize::from(slot)) else {
            return Err(BufferError::Full);
        };
        active.job = Some(Job {
            way,
            name: remote.name(),
            offset,
            buffer: buffer.clone(),
            rest: range,
            chunk: 0,
            over: copied.is_some(),
        });
        let transfer = Transfer(Token {
            slot,
            serial: active.serial,
        });
        match copied {
            Some(outcome) => {
                let transferred = Event::Transferred(transfer, outcome);
                self.has.events.push_back(transferred);
            }
            None => self.has.queue.push_back(Outgoing::Chunk(slot)),
        }
        Ok(transfer)
    }

    pub(super) fn free_transfer(&mut self, transfer: Transfer) {
        if let Some(slot) = self.has.transfers.get_mut(usize::from(transfer.0.slot)) {
            slot.job = None;
            slot.serial = slot.serial.wrapping_add(1);
        }
    }

    /// A slot for what the other side wants.
    fn serve(&mut self, slot: u16) -> Result<&mut Served, &'static str> {
        let served = self.has.served.get_mut(usize::from(slot));
        let served = served.filter(|served| !served.busy);
        let served = served.ok_or("it transfers by a slot that is not free")?;
        *served = Served {
            busy: true,
            outcome: DONE,
            get: None,
        };
        self.has.queue.push_back(Outgoing::Answer(slot));
        Ok(served)
    }

    pub(super) fn take_put(
        &mut self,
        slot: u16,
        name: Name,
        offset: u64,
        data: &[u8],
    ) -> Result<(), &'static str> {
        let outcome = match self.live_buffer(name) {
            Some(buffer) => {
                let written = to_usize(offset).and_then(|offset| buffer.write(offset, data));
                written.map_or(OUT_OF_BOUNDS, |()| DONE)
            }
            None => UNREGISTERED,
        };
        self.serve(slot)?.outcome = outcome;
        Ok(())
    }

    pub(super) fn take_get(
        &mut self,
        slot: u16,
        name: Name,
        offset: u64,
        len: u32,
    ) -> Result<(), &'static str> {
        if len > self.has.limits.chunk {
            return Err("it asks for more bytes than go in a frame");
        }
        self.serve(slot)?.get = Some((name, offset, len));
        Ok(())
    }

    pub(super) fn put_answer(&mut self, slot: u16, out: &mut Vec<u8>) {
        let served = self.has.served.get_mut(usize::from(slot));
        let served = served.map(core::mem::take).unwrap_or_default();
        let answer = |outcome, out: &mut Vec<u8>| {
            Frame::Answer {
                slot,
                outcome,
                data: &[],
            }
            .encode(out);
        };
        let Some((name, offset, len)) = served.get else {
            return answer(served.outcome, out);
        };
        answer(DONE, out);
        let start = out.len();
        out.resize(start + len as usize, 0);
        let into = out.get_mut(start..).unwrap_or(&mut []);
        let outcome = match self.live_buffer(name) {
            Some(buffer) => {
                let read = to_usize(offset).and_then(|offset| buffer.read(offset, into));
                read.map_or(OUT_OF_BOUNDS, |()| DONE)
            }
            None => UNREGISTERED,
        };
        if outcome != DONE {
            answer(outcome, out);
        }
    }

    pub(super) fn put_chunk(&mut self, slot: u16, out: &mut Vec<u8>) -> bool {
        let most = self.agreed.chunk as usize;
        let active = self.has.transfers.get_mut(usize::from(slot));
        let Some(job) = active.and_then(|active| active.job.as_mut()) else {
            return false;
        };
        job.chunk = job.rest.len().min(most);
        let (name, offset) = (job.name, job.offset);
        match job.way {
            Way::Send => {
                let put = Frame::Put {
                    slot,
                    name,
                    offset,
                    data: &[],
                };
                put.encode(out);
                let start = out.len();
                out.resize(start + job.chunk, 0);
                let into = out.get_mut(start..).unwrap_or(&mut []);
                // Inside, as was checked when the transfer began.
                let _ = job.buffer.read(job.rest.start, into);
            }
            Way::Receive => {
                let get = Frame::Get {
                    slot,
                    name,
                    offset,
                    // At most the agreed chunk, a u32.
                    len: job.chunk as u32,
                };
                get.encode(out);
            }
        }
        true
    }

    pub(super) fn take_answer(
        &mut self,
        slot: u16,
        outcome: u32,
        data: &[u8],
    ) -> Result<(), &'static str> {
        let active = self.has.transfers.get_mut(usize::from(slot));
        let waits = |other: &Outgoing| matches!(other, Outgoing::Chunk(other) if *other == slot);
        let queued = self.has.queue.iter().any(waits);
        let active = active.filter(|_| !queued);
        let transfer = active.as_ref().map(|active| Token {
            slot,
            serial: active.serial,
        });
        let job = active.and_then(|active| active.job.as_mut());
        let (Some(job), Some(token)) = (job.filter(|job| !job.over), transfer) else {
            return Err("it answers a transfer that is none");
        };
        let expected = match (outcome, job.way) {
            (DONE, Way::Receive) => job.chunk,
            _ => 0,
        };
        if data.len() != expected {
            return Err("an answer of another length than was asked for");
        }
        let result = match outcome {
            DONE => match job.way {
                Way::Receive => job.buffer.write(job.rest.start, data),
                Way::Send => Ok(()),
            },
            UNREGISTERED => Err(BufferError::Unregistered),
            OUT_OF_BOUNDS => Err(BufferError::OutOfBounds),
            _ => return Err("an answer that makes no sense"),
        };
        job.rest.start += job.chunk;
        job.offset += job.chunk as u64;
        if result.is_ok() && !job.rest.is_empty() {
            self.has.queue.push_back(Outgoing::Chunk(slot));
            return Ok(());
        }
        job.over = true;
        let transferred = Event::Transferred(Transfer(token), result);
        self.has.events.push_back(transferred);
        Ok(())
    }

    /// All transfers are over.
    pub(super) fn end_transfers(&mut self, fault: Fault) {
        for (slot, active) in (0..).zip(self.has.transfers.iter_mut()) {
            let Some(job) = active.job.as_mut().filter(|job| !job.over) else {
                continue;
            };
            job.over = true;
            let serial = active.serial;
            let transfer = Transfer(Token { slot, serial });
            let lost = Err(BufferError::Fault(fault));
            let transferred = Event::Transferred(transfer, lost);
            self.has.events.push_back(transferred);
        }
        self.has.served.fill(Served::default());
    }
}
