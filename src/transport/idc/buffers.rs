//! Buffers that this side has registered, and those that the other one has.

use alloc::vec::Vec;

use super::bulk::{Bulk, LocalBuffer, RemoteBuffer};
use super::engine::Engine;
use super::event::BufferError;
use super::frame::{Frame, Name};
use super::resources::Outgoing;
use crate::platform::PAGE_SIZE;
use crate::xen::grant::GrantRef;

/// A slot for a registered buffer of this side's.
pub(super) struct Ours<B: Bulk> {
    generation: u64,
    state: OurState<B>,
}

enum OurState<B: Bulk> {
    Free,
    /// The other side was told of it, or not yet.
    Live(B::Buffer, B::Lent, bool),
    /// It can't be reached, but the other side may not know.
    Leaving(B::Retired),
}

impl<B: Bulk> Default for Ours<B> {
    fn default() -> Self {
        Ours {
            generation: 0,
            state: OurState::Free,
        }
    }
}

/// A slot for a buffer that the other side has registered.
#[derive(Clone, Copy, Default)]
pub(super) struct Theirs {
    generation: u64,
    len: u64,
    state: TheirState,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum TheirState {
    #[default]
    Free,
    Live,
    /// It is gone, which this side has not confirmed yet.
    Leaving,
}

/// The references of a buffer of so many bytes that the other side has registered in that slot.
pub(super) fn refs_of(refs: &[GrantRef], pages: u16, id: u16, len: u64) -> &[GrantRef] {
    let start = usize::from(id) * usize::from(pages);
    let count = usize::try_from(len).map_or(0, |len| len.div_ceil(PAGE_SIZE));
    refs.get(start..start + count).unwrap_or(&[])
}

impl<B: Bulk> Engine<B> {
    /// Lets the other side, and no other, transfer bytes to and from a buffer, for as long as this connection lasts.
    ///
    /// # Errors
    /// See [`BufferError`].
    pub fn register(&mut self, buffer: &B::Buffer) -> Result<RemoteBuffer, BufferError> {
        if !self.is_connected() {
            return Err(BufferError::NotConnected);
        }
        let most = self.agreed.pages;
        if buffer.size().div_ceil(PAGE_SIZE) > usize::from(most) {
            return Err(BufferError::TooLong(most));
        }
        let ours = (0..self.agreed.buffers).zip(self.has.ours.iter_mut());
        let (id, slot) = ours
            .into_iter()
            .find(|(_, slot)| matches!(slot.state, OurState::Free))
            .ok_or(BufferError::Full)?;
        let lent = self.bulk.lend(buffer)?;
        slot.generation += 1;
        slot.state = OurState::Live(buffer.clone(), lent, false);
        let remote = RemoteBuffer {
            owner: self.incarnation,
            epoch: self.connects,
            id,
            generation: slot.generation,
            len: buffer.size() as u64,
        };
        self.has.queue.push_back(Outgoing::Register(id));
        Ok(remote)
    }

    /// Ends that. Every transfer that comes later fails; this waits for nothing.
    ///
    /// # Errors
    /// [`BufferError::Unregistered`]: it is not registered here, or not any more.
    pub fn unregister(&mut self, buffer: &RemoteBuffer) -> Result<(), BufferError> {
        let slot = self.our_slot(buffer).ok_or(BufferError::Unregistered)?;
        let OurState::Live(_, lent, told) = core::mem::replace(&mut slot.state, OurState::Free)
        else {
            return Err(BufferError::Unregistered);
        };
        let retired = self.bulk.end(lent);
        if told {
            if let Some(slot) = self.has.ours.get_mut(usize::from(buffer.id)) {
                slot.state = OurState::Leaving(retired);
            }
            self.has.queue.push_back(Outgoing::Unregister(buffer.id));
        } else {
            // The other side knows of none of it.
            self.bulk.forgotten(retired);
            let same = |next: &Outgoing| matches!(next, Outgoing::Register(id) if *id == buffer.id);
            self.has.queue.retain(|next| !same(next));
        }
        Ok(())
    }

    /// The buffer that is registered here by this reference, to be registered for another domain as well.
    pub fn registered(&mut self, buffer: &RemoteBuffer) -> Option<B::Buffer> {
        match &self.our_slot(buffer)?.state {
            OurState::Live(buffer, ..) => Some(buffer.clone()),
            _ => None,
        }
    }

    fn our_slot(&mut self, buffer: &RemoteBuffer) -> Option<&mut Ours<B>> {
        let same = buffer.owner == self.incarnation && buffer.epoch == self.connects;
        self.live(buffer.name()).filter(|_| same)
    }

    fn live(&mut self, name: Name) -> Option<&mut Ours<B>> {
        let slot = self.has.ours.get_mut(usize::from(name.id))?;
        let live = matches!(slot.state, OurState::Live(..));
        (live && slot.generation == name.generation).then_some(slot)
    }

    /// The buffer that is registered by this name.
    pub(super) fn live_buffer(&mut self, name: Name) -> Option<&B::Buffer> {
        match &self.live(name)?.state {
            OurState::Live(buffer, ..) => Some(buffer),
            _ => None,
        }
    }

    /// The size of a buffer that the other side has registered.
    pub(super) fn len_of(&self, name: Name) -> Option<u64> {
        let theirs = self.has.theirs.get(usize::from(name.id))?;
        let live = theirs.state == TheirState::Live && theirs.generation == name.generation;
        live.then_some(theirs.len)
    }

    /// The other side has registered a buffer.
    pub(super) fn take_register(
        &mut self,
        name: Name,
        len: u64,
        refs: &[u8],
    ) -> Result<(), &'static str> {
        let (index, pages) = (usize::from(name.id), usize::from(self.has.limits.pages));
        let count = usize::try_from(len).map_or(usize::MAX, |len| len.div_ceil(PAGE_SIZE));
        let theirs = self.has.theirs.get_mut(index);
        let theirs = theirs.filter(|theirs| theirs.state == TheirState::Free);
        let theirs = theirs.ok_or("it registers a buffer in a slot that is not free")?;
        let named = if B::GRANTS { count } else { 0 };
        if count > pages || refs.len() != named * size_of::<u32>() {
            return Err("a buffer of a size that is not allowed");
        }
        *theirs = Theirs {
            generation: name.generation,
            len,
            state: TheirState::Live,
        };
        let start = index * pages;
        let into = self.has.refs.get_mut(start..).unwrap_or(&mut []);
        for (into, reference) in into.iter_mut().zip(refs.as_chunks().0) {
            *into = GrantRef(u32::from_le_bytes(*reference));
        }
        Ok(())
    }

    pub(super) fn take_unregister(&mut self, name: Name) -> Result<(), &'static str> {
        let theirs = self.has.theirs.get_mut(usize::from(name.id));
        let theirs = theirs.filter(|theirs| {
            theirs.state == TheirState::Live && theirs.generation == name.generation
        });
        let theirs = theirs.ok_or("it unregisters a buffer that is not registered")?;
        theirs.state = TheirState::Leaving;
        self.has.queue.push_back(Outgoing::Forgotten(name.id));
        Ok(())
    }

    pub(super) fn take_forgotten(&mut self, name: Name) -> Result<(), &'static str> {
        let ours = self.has.ours.get_mut(usize::from(name.id));
        let ours = ours.filter(|ours| {
            matches!(ours.state, OurState::Leaving(_)) && ours.generation == name.generation
        });
        let ours = ours.ok_or("it forgets a buffer that is none")?;
        if let OurState::Leaving(retired) = core::mem::replace(&mut ours.state, OurState::Free) {
            self.bulk.forgotten(retired);
        }
        Ok(())
    }

    pub(super) fn put_register(&mut self, id: u16, out: &mut Vec<u8>) -> bool {
        let Some(Ours { generation, state }) = self.has.ours.get_mut(usize::from(id)) else {
            return false;
        };
        let OurState::Live(buffer, lent, told) = state else {
            return false;
        };
        *told = true;
        let name = Name {
            id,
            generation: *generation,
        };
        let register = Frame::Register {
            name,
            len: buffer.size() as u64,
            refs: &[],
        };
        register.encode(out);
        for reference in B::refs(lent) {
            out.extend_from_slice(&reference.0.to_le_bytes());
        }
        true
    }

    pub(super) fn put_unregister(&mut self, id: u16, out: &mut Vec<u8>) -> bool {
        let Some(ours) = self.has.ours.get(usize::from(id)) else {
            return false;
        };
        let name = Name {
            id,
            generation: ours.generation,
        };
        Frame::Unregister { name }.encode(out);
        true
    }

    pub(super) fn put_forgotten(&mut self, id: u16, out: &mut Vec<u8>) {
        let Some(theirs) = self.has.theirs.get_mut(usize::from(id)) else {
            return;
        };
        theirs.state = TheirState::Free;
        let name = Name {
            id,
            generation: theirs.generation,
        };
        Frame::Forgotten { name }.encode(out);
    }

    /// No buffer of either side is registered any more.
    pub(super) fn end_buffers(&mut self) {
        self.has.theirs.fill(Theirs::default());
        for ours in &mut self.has.ours {
            match core::mem::replace(&mut ours.state, OurState::Free) {
                OurState::Live(_, lent, _) => {
                    ours.state = OurState::Leaving(self.bulk.end(lent));
                }
                other => ours.state = other,
            }
        }
    }

    /// The other side has forgotten all buffers of before, or is not going to say so.
    pub(super) fn forget_all(&mut self, forgotten: bool) {
        for ours in &mut self.has.ours {
            match core::mem::replace(&mut ours.state, OurState::Free) {
                OurState::Leaving(retired) if forgotten => self.bulk.forgotten(retired),
                OurState::Leaving(retired) => drop(retired),
                other => ours.state = other,
            }
        }
    }
}
