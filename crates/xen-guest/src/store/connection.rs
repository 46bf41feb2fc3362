//! The connection to xenstored: requests out, answers and watch events in, nothing that waits.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use super::error::StoreError;
use super::watch::Queue;
use super::wire::{self, Decoder, HEADER_SIZE, Header, Kind, Message, PAYLOAD_MAX};
use crate::platform::Page;
use crate::ring::{Consumer, IndexLie, Producer};
use xen_abi::{XENSTORE_CONNECTED, XENSTORE_RING_SIZE, xenstore_domain_interface};

/// Bytes of requests that may wait for room in the ring: some of the longest ones.
const BACKLOG: usize = 8 * (HEADER_SIZE + PAYLOAD_MAX);

/// Requests whose answers nobody waits for any more, and which may still come. More than xenstored
/// lets a domain have outstanding.
const ABANDONED_MAX: usize = 256;

/// What became of a request.
enum Pending {
    /// Its answer has not come.
    Waiting,
    /// It was answered.
    Answered(Message),
}

/// One domain's connection to xenstored.
pub(super) struct Connection {
    page: NonNull<xenstore_domain_interface>,
    requests: Producer,
    answers: Consumer,
    decoder: Decoder,
    /// Bytes of requests that are not in the ring yet.
    backlog: VecDeque<u8>,
    pending: BTreeMap<u32, Pending>,
    /// Requests that were given up; their answers are dropped.
    abandoned: BTreeSet<u32>,
    watches: BTreeMap<u32, Rc<Queue>>,
    last_request: u32,
    /// One of our requests was answered: xenstored, which answers in order, has none of an earlier driver's left.
    answered: bool,
    last_token: u32,
    broken: Option<&'static str>,
}

impl Connection {
    /// Takes over the ring where it stands. Requests are numbered after `last_request`, the last of an earlier driver of
    /// this ring, which may have left some unanswered.
    ///
    /// # Safety
    /// `page` is xenstore's ring page, mapped for as long as the connection lives, and nobody else
    /// in this domain uses it.
    pub(super) unsafe fn new(page: NonNull<Page>, last_request: u32) -> Self {
        // SAFETY: the caller's promise.
        let (page, requests, answers) = unsafe { ends(page) };
        Connection {
            page,
            requests,
            answers,
            decoder: Decoder::default(),
            backlog: VecDeque::new(),
            pending: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            watches: BTreeMap::new(),
            last_request,
            answered: false,
            last_token: 0,
            broken: None,
        }
    }

    /// Begins anew in a domain that was resumed elsewhere, with the watches that there were, of which nobody
    /// there knows yet: returns their paths and tokens. Requests that wait for an answer wait in vain.
    ///
    /// # Safety
    /// As [`new`](Self::new).
    pub(super) unsafe fn restart(&mut self, page: NonNull<Page>) -> Vec<(String, u32)> {
        // SAFETY: the caller's promise.
        (self.page, self.requests, self.answers) = unsafe { ends(page) };
        // What is left over of the old connection, if the toolstack left it in the ring. A lie about how
        // much that is comes up again at once.
        let _ = self.answers.skip();
        self.decoder = Decoder::default();
        self.backlog.clear();
        self.pending.clear();
        self.abandoned.clear();
        self.answered = false;
        self.broken = None;
        let watches = self.watches.iter();
        watches
            .map(|(&token, queue)| (queue.path().into(), token))
            .collect()
    }

    /// Whether nothing is under way: no request, no answer, no part of a message.
    pub(super) fn is_quiet(&self) -> bool {
        self.backlog.is_empty()
            && self.abandoned.is_empty()
            && !self.pending.values().any(|p| matches!(p, Pending::Waiting))
            && self.requests.room() == Ok(XENSTORE_RING_SIZE)
    }

    /// A word of the page that xenstored writes.
    fn word(&self, field: *mut u32) -> u32 {
        // SAFETY: `field` is an aligned word inside the mapped page, accessed atomically.
        unsafe { AtomicU32::from_ptr(field) }.load(Ordering::Acquire)
    }

    /// Whether xenstored serves the ring; not so while it starts or reconnects.
    pub(super) fn is_connected(&self) -> bool {
        // SAFETY: takes the address of a field inside the page.
        let field = unsafe { &raw mut (*self.page.as_ptr()).connection };
        self.word(field) == XENSTORE_CONNECTED
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
            || self.abandoned.len() >= ABANDONED_MAX;
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

    /// The number of the last request.
    pub(super) fn last_request(&self) -> u32 {
        self.last_request
    }

    /// A request number that is not in use; never 0, which watch events have.
    fn free_number(&mut self) -> u32 {
        loop {
            self.last_request = self.last_request.wrapping_add(1).max(1);
            let number = self.last_request;
            if !self.pending.contains_key(&number) && !self.abandoned.contains(&number) {
                return number;
            }
        }
    }

    /// The answer to a request, if it has come.
    pub(super) fn take_answer(&mut self, request: u32) -> Option<Message> {
        match self.pending.remove(&request)? {
            Pending::Answered(message) => Some(message),
            Pending::Waiting => {
                self.pending.insert(request, Pending::Waiting);
                None
            }
        }
    }

    /// Gives a request up: its answer is dropped when it comes.
    pub(super) fn abandon(&mut self, request: u32) {
        if let Some(Pending::Waiting) = self.pending.remove(&request) {
            self.abandoned.insert(request);
        }
    }

    /// Adds a watch and returns the number that is its token.
    pub(super) fn add_watch(&mut self, queue: Rc<Queue>) -> u32 {
        loop {
            self.last_token = self.last_token.wrapping_add(1);
            if !self.watches.contains_key(&self.last_token) {
                self.watches.insert(self.last_token, queue);
                return self.last_token;
            }
        }
    }

    /// Forgets a watch: its events are dropped from now on.
    pub(super) fn remove_watch(&mut self, token: u32) {
        self.watches.remove(&token);
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
            Err(IndexLie) => {
                self.fail("an index of the ring is where it can't be");
                false
            }
        }
    }

    fn exchange(&mut self) -> Result<bool, IndexLie> {
        let mut piece = [0; XENSTORE_RING_SIZE as usize];
        let count = self.answers.pull(&mut piece)?;
        let mut input = &piece[..count];
        while !input.is_empty() && self.broken.is_none() {
            match self.decoder.feed(&mut input) {
                Ok(Some(message)) => self.receive(message),
                Ok(None) => {}
                Err(_) => self.fail("a message claims to be longer than messages can be"),
            }
        }
        // SAFETY: takes the address of a field inside the page.
        let field = unsafe { &raw mut (*self.page.as_ptr()).error };
        if self.word(field) != 0 {
            self.fail("xenstored reports an error in our use of the ring");
        }
        // Last, since an answer may have led to a request.
        let sent = self.send()?;
        Ok(sent || count > 0)
    }

    /// Moves the backlog into the ring as far as there is room.
    fn send(&mut self) -> Result<bool, IndexLie> {
        let mut sent = false;
        while !self.backlog.is_empty() {
            let count = self.requests.push(self.backlog.as_slices().0)?;
            if count == 0 {
                break;
            }
            self.backlog.drain(..count);
            sent = true;
        }
        Ok(sent)
    }

    /// Hands a message to whom it is for.
    fn receive(&mut self, message: Message) {
        if message.header.kind == Kind::WATCH_EVENT {
            return self.receive_event(&message.payload);
        }
        let request = message.header.request;
        match self.pending.get_mut(&request) {
            Some(pending @ Pending::Waiting) => {
                *pending = Pending::Answered(message);
                self.answered = true;
            }
            Some(Pending::Answered(_)) => self.fail("a request was answered twice"),
            None if self.abandoned.remove(&request) => self.undo(&message),
            None if !self.answered => {}
            None => self.fail("an answer to a request that was never made"),
        }
    }

    /// Ends what a request has begun that nobody waits for any more: xenstored lets a domain have few transactions.
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
        if let Some(queue) = token.and_then(|token| self.watches.get(&token)) {
            queue.add(path);
        }
    }
}

/// The page and the two directions of the ring in it, where they stand.
///
/// # Safety
/// See [`Connection::new`].
unsafe fn ends(page: NonNull<Page>) -> (NonNull<xenstore_domain_interface>, Producer, Consumer) {
    let page = page.cast::<xenstore_domain_interface>();
    let at = page.as_ptr();
    // SAFETY: the fields lie in the mapped page, which is aligned for them.
    let (req, rsp, req_prod, req_cons, rsp_prod, rsp_cons) = unsafe {
        (
            NonNull::new_unchecked((&raw mut (*at).req).cast::<u8>()),
            NonNull::new_unchecked((&raw mut (*at).rsp).cast::<u8>()),
            NonNull::new_unchecked(&raw mut (*at).req_prod),
            NonNull::new_unchecked(&raw mut (*at).req_cons),
            NonNull::new_unchecked(&raw mut (*at).rsp_prod),
            NonNull::new_unchecked(&raw mut (*at).rsp_cons),
        )
    };
    // SAFETY: ring bytes and indices as public/io/xs_wire.h lays them out; the caller vouches that
    // they stay mapped and that only xenstored uses them besides.
    unsafe {
        (
            page,
            Producer::new(req, XENSTORE_RING_SIZE, req_prod, req_cons),
            Consumer::new(rsp, XENSTORE_RING_SIZE, rsp_cons, rsp_prod),
        )
    }
}
