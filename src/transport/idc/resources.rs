//! The memory of an endpoint.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use super::buffers::{Ours, Theirs};
use super::bulk::Bulk;
use super::event::Event;
use super::frame::MAX_HEAD;
use super::limits::{Limits, Pool};
use super::transfer::{Active, Served};
use crate::xen::grant::GrantRef;

/// What waits for its turn to be sent.
#[derive(Clone, Copy)]
pub(super) enum Outgoing {
    Message(u16),
    Taken(u16),
    Request(u16),
    Reply(u16),
    Register(u16),
    Unregister(u16),
    Forgotten(u16),
    Chunk(u16),
    Answer(u16),
}

/// All the memory of an endpoint.
pub struct Resources<B: Bulk> {
    pub(super) limits: Limits,
    pub(super) out_messages: Pool,
    pub(super) in_messages: Pool,
    pub(super) out_transactions: Pool,
    pub(super) in_transactions: Pool,
    /// Error codes: of the transactions of the other side that are answered, by slot.
    pub(super) errors: Box<[u32]>,
    pub(super) ours: Box<[Ours<B>]>,
    pub(super) theirs: Box<[Theirs]>,
    pub(super) refs: Box<[GrantRef]>,
    pub(super) transfers: Box<[Active<B>]>,
    pub(super) served: Box<[Served]>,
    pub(super) queue: VecDeque<Outgoing>,
    pub(super) events: VecDeque<Event>,
    pub(super) out: Vec<u8>,
    pub(super) input: Box<[u8]>,
}

impl<B: Bulk> core::fmt::Debug for Resources<B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Resources").field(&self.limits).finish()
    }
}

impl<B: Bulk> Resources<B> {
    /// Allocates what an endpoint with these limits needs.
    pub fn new(limits: Limits) -> Self {
        let Limits {
            body,
            messages,
            transactions,
            buffers,
            pages,
            transfers,
            chunk,
        } = limits;
        let many = usize::from;
        let refs = if B::GRANTS { many(pages) } else { 0 };
        // At most one event or frame of each slot waits; of a buffer of ours both frames.
        let slots = 2 * (many(messages) + many(transactions) + many(transfers));
        let largest = (body.max(chunk) as usize).max(refs * size_of::<GrantRef>());
        Resources {
            limits,
            out_messages: Pool::new(messages, body),
            in_messages: Pool::new(messages, body),
            out_transactions: Pool::new(transactions, body),
            in_transactions: Pool::new(transactions, body),
            errors: vec![0; many(transactions)].into(),
            ours: (0..buffers).map(|_| Ours::default()).collect(),
            theirs: vec![Theirs::default(); many(buffers)].into(),
            refs: vec![GrantRef(0); refs * many(buffers)].into(),
            transfers: (0..transfers).map(|_| Active::default()).collect(),
            served: vec![Served::default(); many(transfers)].into(),
            queue: VecDeque::with_capacity(slots + 3 * many(buffers)),
            events: VecDeque::with_capacity(slots),
            out: Vec::with_capacity(MAX_HEAD + largest),
            input: vec![0; MAX_HEAD + largest].into(),
        }
    }
}
