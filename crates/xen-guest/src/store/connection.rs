//! The connection to xenstored: requests out, answers and watch events in, nothing that waits.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use super::error::StoreError;
use super::numbered::Numbered;
use super::watch::Queue;
use super::wire::{self, Decoder, HEADER_SIZE, Header, Kind, Message, PAYLOAD_MAX};
use crate::ring::{Consumer, InvalidIndex, Producer};
use crate::shared::{SharedMemory, SharedWord};
use xen_abi::{XENSTORE_CONNECTED, XENSTORE_RING_SIZE, xenstore_domain_interface};

/// Bytes of requests that may wait for room in the ring: some of the longest ones.
const BACKLOG: usize = 8 * (HEADER_SIZE + PAYLOAD_MAX);

/// Abandoned requests, whose answers may still come. More than xenstored
/// lets a domain have outstanding.
const ABANDONED_MAX: usize = 256;

/// What became of a request.
enum Pending {
    /// Its answer has not come.
    Waiting,
    /// It was answered.
    Answered(Message),
    /// It was given up: its answer is dropped.
    Abandoned,
}

/// One domain's connection to xenstored.
pub(super) struct Connection {
    /// `None` where the kernel has a driver of its own, by which everything goes at once.
    ring: Option<Ring>,
    decoder: Decoder,
    /// Bytes of requests that are not in the ring yet.
    backlog: VecDeque<u8>,
    pending: Numbered<Pending>,
    watches: Numbered<Rc<Queue>>,
    last_request: u32,
    /// One of our requests was answered: xenstored, which answers in order, has none of an earlier driver's left.
    answered: bool,
    last_token: u32,
    broken: Option<&'static str>,
}

impl Connection {
    /// Takes over the ring where it stands. Requests are numbered after `last_request`, the last of an earlier driver of
    /// this ring, which may have left some unanswered.
    pub(super) fn new(page: Option<SharedMemory<'static>>, last_request: u32) -> Self {
        Connection {
            ring: page.map(Ring::new),
            decoder: Decoder::default(),
            backlog: VecDeque::new(),
            pending: Numbered::new(),
            watches: Numbered::new(),
            last_request,
            answered: false,
            last_token: 0,
            broken: None,
        }
    }

    /// Begins anew in a domain that was resumed elsewhere, with the watches that there were, of which xenstored
    /// there knows nothing yet: returns their paths and tokens. Requests that wait for an answer wait in vain.
    pub(super) fn restart(&mut self, page: Option<SharedMemory<'static>>) -> Vec<(String, u32)> {
        self.ring = page.map(Ring::new);
        // What is left over of the old connection, if the toolstack left it in the ring. A lie about how
        // much that is comes up again at once.
        let _ = self.ring.as_mut().map(|ring| ring.answers.skip());
        self.decoder = Decoder::default();
        self.backlog.clear();
        self.pending.clear();
        self.answered = false;
        self.broken = None;
        let watches = self.watches.iter();
        watches
            .map(|(token, queue)| (queue.path().into(), *token))
            .collect()
    }

    /// Whether nothing is under way: no request, no answer, no part of a message.
    pub(super) fn is_quiet(&self) -> bool {
        self.backlog.is_empty()
            && (self.pending.iter()).all(|(_, pending)| matches!(pending, Pending::Answered(_)))
            && (self.ring.as_ref()).is_none_or(|it| it.requests.room() == Ok(XENSTORE_RING_SIZE))
    }

    /// Whether xenstored serves the ring; not so while it starts or reconnects.
    pub(super) fn is_connected(&self) -> bool {
        (self.ring.as_ref())
            .is_none_or(|ring| ring.connection.load(Ordering::Acquire) == XENSTORE_CONNECTED)
    }

    /// The error that ended the connection, if one did.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.broken
            .map_or(Ok(()), |how| Err(StoreError::Broken(how)))
    }

    /// Ends the connection.
    fn fail(&mut self, how: &'static str) {
        self.broken.get_or_insert(how);
        self.backlog.clear();
    }

    /// Queues a request and returns its number.
    pub(super) fn submit(
        &mut self,
        kind: Kind,
        transaction: u32,
        payload: &[&[u8]],
    ) -> Result<u32, StoreError> {
        self.check()?;
        let length: usize = payload.iter().map(|part| part.len()).sum();
        if length > PAYLOAD_MAX {
            return Err(StoreError::Invalid("path and value are too long together"));
        }
        // What ends something is taken nevertheless, or it would never end. There is no more of it than was begun.
        let ends = matches!(kind, Kind::UNWATCH | Kind::TRANSACTION_END);
        let full = self.backlog.len() + HEADER_SIZE + length > BACKLOG
            || self.abandoned() >= ABANDONED_MAX;
        if full && !ends {
            return Err(StoreError::Backlog);
        }
        let request = self.free_number();
        let header = Header {
            kind,
            request,
            transaction,
            length: length as u32,
        };
        self.backlog.extend(header.encode());
        for part in payload {
            self.backlog.extend(*part);
        }
        self.pending.insert(request, Pending::Waiting);
        Ok(request)
    }

    /// Notes the answer to a request that the kernel's driver made, and returns the number by which it is had.
    pub(super) fn answered(&mut self, kind: Kind, transaction: u32, payload: Vec<u8>) -> u32 {
        let request = self.free_number();
        let header = Header {
            kind,
            request,
            transaction,
            length: payload.len() as u32,
        };
        let message = Message { header, payload };
        self.pending.insert(request, Pending::Answered(message));
        request
    }

    /// The number of the last request.
    pub(super) fn last_request(&self) -> u32 {
        self.last_request
    }

    /// A request number that is not in use; never 0, which watch events have.
    fn free_number(&mut self) -> u32 {
        loop {
            self.last_request = self.last_request.wrapping_add(1).max(1);
            let number = self.last_request;
            if !self.pending.contains(number) {
                return number;
            }
        }
    }

    /// The answer to a request, if it has come.
    pub(super) fn take_answer(&mut self, request: u32) -> Option<Message> {
        match self.pending.get(request)? {
            Pending::Answered(_) => match self.pending.remove(request)? {
                Pending::Answered(message) => Some(message),
                _ => None,
            },
            _ => None,
        }
    }

    /// Gives a request up: its answer is dropped when it comes.
    pub(super) fn abandon(&mut self, request: u32) {
        match self.pending.get_mut(request) {
            Some(pending @ Pending::Waiting) => *pending = Pending::Abandoned,
            Some(Pending::Answered(_)) => drop(self.pending.remove(request)),
            Some(Pending::Abandoned) | None => {}
        }
    }

    /// How many requests are given up whose answers have not come.
    fn abandoned(&self) -> usize {
        let pending = self.pending.iter();
        pending
            .filter(|(_, pending)| matches!(pending, Pending::Abandoned))
            .count()
    }

    /// Adds a watch and returns the number that is its token.
    pub(super) fn add_watch(&mut self, queue: Rc<Queue>) -> u32 {
        loop {
            self.last_token = self.last_token.wrapping_add(1);
            if !self.watches.contains(self.last_token) {
                self.watches.insert(self.last_token, queue);
                return self.last_token;
            }
        }
    }

    /// Forgets a watch: its events are dropped from now on.
    pub(super) fn remove_watch(&mut self, token: u32) {
        self.watches.remove(token);
    }

    /// How many watches there are.
    pub(super) fn watches(&self) -> usize {
        self.watches.len()
    }

    /// Moves bytes: requests into the ring as far as there is room, answers out of it as far as
    /// they were there at the start. Returns whether xenstored has to be told.
    pub(super) fn pump(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        match self.exchange() {
            Ok(moved) => moved,
            Err(InvalidIndex) => {
                self.fail("an index of the ring is where it can't be");
                false
            }
        }
    }

    fn exchange(&mut self) -> Result<bool, InvalidIndex> {
        let Some(ring) = &mut self.ring else {
            return Ok(false);
        };
        let mut piece = [0; XENSTORE_RING_SIZE as usize];
        let count = ring.answers.pull(&mut piece)?;
        let has_failed = ring.error.load(Ordering::Acquire) != 0;
        let mut input = &piece[..count];
        while !input.is_empty() && self.broken.is_none() {
            match self.decoder.feed(&mut input) {
                Ok(Some(message)) => self.receive(message),
                Ok(None) => {}
                Err(_) => self.fail("a message claims to be longer than messages can be"),
            }
        }
        if has_failed {
            self.fail("xenstored reports an error in our use of the ring");
        }
        // Last, since an answer may have led to a request.
        let sent = self.send()?;
        Ok(sent || count > 0)
    }

    /// Moves the backlog into the ring as far as there is room.
    fn send(&mut self) -> Result<bool, InvalidIndex> {
        let mut sent = false;
        let Some(ring) = &mut self.ring else {
            return Ok(false);
        };
        while !self.backlog.is_empty() {
            let count = ring.requests.push(self.backlog.as_slices().0)?;
            if count == 0 {
                break;
            }
            self.backlog.drain(..count);
            sent = true;
        }
        Ok(sent)
    }

    /// Hands a message to its receiver.
    fn receive(&mut self, message: Message) {
        if message.header.kind == Kind::WATCH_EVENT {
            return self.receive_event(&message.payload);
        }
        let request = message.header.request;
        match self.pending.get_mut(request) {
            Some(pending @ Pending::Waiting) => {
                *pending = Pending::Answered(message);
                self.answered = true;
            }
            Some(Pending::Answered(_)) => self.fail("a request was answered twice"),
            Some(Pending::Abandoned) => {
                self.pending.remove(request);
                self.undo(&message);
            }
            None if !self.answered => {}
            None => self.fail("an answer to a request that was never made"),
        }
    }

    /// Ends what an abandoned request has begun: xenstored lets a domain have few transactions.
    fn undo(&mut self, answer: &Message) {
        if answer.header.kind == Kind::TRANSACTION_START
            && let Some(transaction) = wire::transaction(&answer.payload)
            && let Ok(request) = self.submit(Kind::TRANSACTION_END, transaction, &[b"F\0"])
        {
            self.abandon(request);
        }
    }

    /// Files a watch event. One for a watch that is gone was on its way while it went.
    fn receive_event(&mut self, payload: &[u8]) {
        let Some((path, token)) = wire::watch_event(payload) else {
            return self.fail("a watch event without path or token");
        };
        let token = wire::decimal(token).and_then(|token| u32::try_from(token).ok());
        if let Some(token) = token {
            self.fired(path, token);
        }
    }

    /// Files that a watch fired, if it is still there.
    pub(super) fn fired(&self, path: &[u8], token: u32) {
        if let Some(queue) = self.watches.get(token) {
            queue.add(path);
        }
    }
}

/// The page of public/io/xs_wire.h.
struct Ring {
    requests: Producer<'static>,
    answers: Consumer<'static>,
    connection: SharedWord<'static, u32>,
    error: SharedWord<'static, u32>,
}

impl Ring {
    /// Both directions where they stand.
    fn new(page: SharedMemory<'static>) -> Self {
        /// The offset of a field.
        macro_rules! at {
            ($field:ident) => {
                offset_of!(xenstore_domain_interface, $field)
            };
        }
        let bytes = |offset| page.subslice(offset, XENSTORE_RING_SIZE as usize);
        Ring {
            requests: Producer::new(
                bytes(at!(req)),
                page.word(at!(req_prod)),
                page.word(at!(req_cons)),
            ),
            answers: Consumer::new(
                bytes(at!(rsp)),
                page.word(at!(rsp_cons)),
                page.word(at!(rsp_prod)),
            ),
            connection: page.word(at!(connection)),
            error: page.word(at!(error)),
        }
    }
}
