//! Messages and transactions.

use alloc::vec::Vec;

use super::bulk::Bulk;
use super::engine::{Engine, Life, Link};
use super::event::{
    Event, Fault, InMessage, InTransaction, OutMessage, OutTransaction, SubmitError,
};
use super::frame::Frame;
use super::limits::{Pool, State};
use super::resources::Outgoing;

const NO_SLOT: &str = "it uses a slot that is not free, or does not exist";

impl<B: Bulk> Engine<B> {
    /// # Errors
    /// There is no connection.
    fn check_up(&self) -> Result<(), SubmitError> {
        match (self.life, self.link) {
            (Life::Connected, Link::Up) if self.told == self.connects => Ok(()),
            _ => Err(SubmitError::NotConnected),
        }
    }

    /// Whether things can be submitted.
    pub fn is_connected(&self) -> bool {
        self.check_up().is_ok()
    }

    fn check_len(&self, body: &[u8]) -> Result<(), SubmitError> {
        let most = self.agreed.body;
        match body.len() > most as usize {
            true => Err(SubmitError::TooLong(most)),
            false => Ok(()),
        }
    }

    /// Takes a message to be sent.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit_message(&mut self, body: &[u8]) -> Result<OutMessage, SubmitError> {
        self.check_up()?;
        self.check_len(body)?;
        let pool = &mut self.has.out_messages;
        let slot = pool.free_slot(self.agreed.messages);
        let slot = slot.ok_or(SubmitError::Full)?;
        let most = SubmitError::TooLong(self.agreed.body);
        pool.put(slot, body, State::Queued)
            .then_some(())
            .ok_or(most)?;
        self.has.queue.push_back(Outgoing::Message(slot));
        Ok(OutMessage(self.has.out_messages.token(slot)))
    }

    /// Takes a transaction's parameters to be sent.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit_transaction(&mut self, parameters: &[u8]) -> Result<OutTransaction, SubmitError> {
        self.check_up()?;
        self.check_len(parameters)?;
        let pool = &mut self.has.out_transactions;
        let slot = pool.free_slot(self.agreed.transactions);
        let slot = slot.ok_or(SubmitError::Full)?;
        let most = SubmitError::TooLong(self.agreed.body);
        pool.put(slot, parameters, State::Queued)
            .then_some(())
            .ok_or(most)?;
        self.has.queue.push_back(Outgoing::Request(slot));
        Ok(OutTransaction(self.has.out_transactions.token(slot)))
    }

    /// The body of a message that has come and is not completed.
    pub fn message(&self, message: InMessage) -> Option<&[u8]> {
        let slot = self.has.in_messages.find(message.0, State::Here)?;
        Some(self.has.in_messages.body(slot))
    }

    /// The program is done with a message.
    ///
    /// # Errors
    /// [`SubmitError::Stale`].
    pub fn complete_message(&mut self, message: InMessage) -> Result<(), SubmitError> {
        let slot = self.has.in_messages.find(message.0, State::Here);
        let slot = slot.ok_or(SubmitError::Stale)?;
        self.has.in_messages.free(slot);
        self.has.queue.push_back(Outgoing::Taken(slot));
        Ok(())
    }

    /// The parameters of a transaction of the other side that is not completed.
    pub fn parameters(&self, transaction: InTransaction) -> Option<&[u8]> {
        let slot = self.has.in_transactions.find(transaction.0, State::Here)?;
        Some(self.has.in_transactions.body(slot))
    }

    /// Answers a transaction.
    ///
    /// # Errors
    /// [`SubmitError::Stale`], [`SubmitError::TooLong`].
    pub fn complete_transaction(
        &mut self,
        transaction: InTransaction,
        error: u32,
        status: &[u8],
    ) -> Result<(), SubmitError> {
        let pool = &mut self.has.in_transactions;
        let slot = pool.find(transaction.0, State::Here);
        let slot = slot.ok_or(SubmitError::Stale)?;
        self.check_len(status)?;
        let most = SubmitError::TooLong(self.agreed.body);
        let pool = &mut self.has.in_transactions;
        pool.put(slot, status, State::Queued)
            .then_some(())
            .ok_or(most)?;
        if let Some(into) = self.has.errors.get_mut(usize::from(slot)) {
            *into = error;
        }
        self.has.queue.push_back(Outgoing::Reply(slot));
        Ok(())
    }

    /// The status of a transaction that is over without an error of the connection, and was not released.
    pub fn status(&self, transaction: OutTransaction) -> Option<&[u8]> {
        let slot = self.has.out_transactions.find(transaction.0, State::Here)?;
        Some(self.has.out_transactions.body(slot))
    }

    /// The program is done with the status of a transaction.
    ///
    /// # Errors
    /// [`SubmitError::Stale`].
    pub fn release(&mut self, transaction: OutTransaction) -> Result<(), SubmitError> {
        let slot = self.has.out_transactions.find(transaction.0, State::Here);
        self.has
            .out_transactions
            .free(slot.ok_or(SubmitError::Stale)?);
        Ok(())
    }

    /// The program was told of this: what has no more to it is over.
    pub(super) fn told_of(&mut self, event: Event) {
        match event {
            Event::Delivered(message, _) => self.has.out_messages.free(message.0.slot),
            Event::Finished(transaction, Err(_)) => {
                self.has.out_transactions.free(transaction.0.slot);
            }
            Event::Transferred(transfer, _) => self.free_transfer(transfer),
            _ => {}
        }
    }

    pub(super) fn take_message(&mut self, slot: u16, body: &[u8]) -> Result<(), &'static str> {
        arrive(&mut self.has.in_messages, slot, body)?;
        let message = InMessage(self.has.in_messages.token(slot));
        self.has.events.push_back(Event::Message(message));
        Ok(())
    }

    pub(super) fn take_request(&mut self, slot: u16, body: &[u8]) -> Result<(), &'static str> {
        arrive(&mut self.has.in_transactions, slot, body)?;
        let transaction = InTransaction(self.has.in_transactions.token(slot));
        self.has.events.push_back(Event::Transaction(transaction));
        Ok(())
    }

    pub(super) fn take_taken(&mut self, slot: u16) -> Result<(), &'static str> {
        let pool = &mut self.has.out_messages;
        if pool.state(slot) != Some(State::Sent) {
            return Err("it completes a message that it has not got");
        }
        pool.set(slot, State::Here);
        let message = OutMessage(pool.token(slot));
        self.has.events.push_back(Event::Delivered(message, Ok(())));
        Ok(())
    }

    pub(super) fn take_reply(
        &mut self,
        slot: u16,
        error: u32,
        status: &[u8],
    ) -> Result<(), &'static str> {
        let pool = &mut self.has.out_transactions;
        if pool.state(slot) != Some(State::Sent) {
            return Err("it completes a transaction that it has not got");
        }
        if !pool.put(slot, status, State::Here) {
            return Err("a status that is too long");
        }
        let transaction = OutTransaction(pool.token(slot));
        let finished = Event::Finished(transaction, Ok(error));
        self.has.events.push_back(finished);
        Ok(())
    }

    pub(super) fn put_message(&mut self, slot: u16, out: &mut Vec<u8>) {
        let pool = &mut self.has.out_messages;
        let body = pool.body(slot);
        Frame::Message { slot, body }.encode(out);
        pool.set(slot, State::Sent);
    }

    pub(super) fn put_request(&mut self, slot: u16, out: &mut Vec<u8>) {
        let pool = &mut self.has.out_transactions;
        let parameters = pool.body(slot);
        Frame::Request { slot, parameters }.encode(out);
        pool.set(slot, State::Sent);
    }

    pub(super) fn put_reply(&mut self, slot: u16, out: &mut Vec<u8>) {
        let error = self.has.errors.get(usize::from(slot)).copied();
        let pool = &mut self.has.in_transactions;
        let reply = Frame::Reply {
            slot,
            error: error.unwrap_or(0),
            status: pool.body(slot),
        };
        reply.encode(out);
        pool.free(slot);
    }

    /// All messages and transactions are over.
    pub(super) fn end_traffic(&mut self, fault: Fault) {
        let has = &mut self.has;
        has.events
            .retain(|event| !matches!(event, Event::Message(_) | Event::Transaction(_)));
        for pool in [&mut has.in_messages, &mut has.in_transactions] {
            pool.slots().for_each(|slot| pool.free(slot));
        }
        let under_way = |state| matches!(state, Some(State::Queued | State::Sent));
        let pool = &mut has.out_messages;
        for slot in pool.slots().filter(|&slot| under_way(pool.state(slot))) {
            let message = OutMessage(pool.token(slot));
            has.events.push_back(Event::Delivered(message, Err(fault)));
        }
        let pool = &mut has.out_transactions;
        for slot in pool.slots().filter(|&slot| under_way(pool.state(slot))) {
            let transaction = OutTransaction(pool.token(slot));
            let finished = Event::Finished(transaction, Err(fault));
            has.events.push_back(finished);
        }
        for pool in [&mut has.out_messages, &mut has.out_transactions] {
            for slot in pool.slots() {
                if under_way(pool.state(slot)) {
                    pool.set(slot, State::Here);
                }
            }
        }
    }

    /// The program has seen the end of everything.
    pub(super) fn free_all(&mut self) {
        let pool = &mut self.has.out_transactions;
        for slot in pool.slots() {
            if pool.state(slot) != Some(State::Free) {
                pool.free(slot);
            }
        }
    }
}

/// Keeps what has come.
fn arrive(pool: &mut Pool, slot: u16, body: &[u8]) -> Result<(), &'static str> {
    if pool.state(slot) != Some(State::Free) {
        return Err(NO_SLOT);
    }
    match pool.put(slot, body, State::Here) {
        true => Ok(()),
        false => Err("a body that is too long"),
    }
}
