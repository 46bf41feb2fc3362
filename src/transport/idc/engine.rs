//! The state of an endpoint, which does no I/O: it is told which bytes came and the time, and says which bytes to send.

use alloc::vec::Vec;
use core::time::Duration;

use super::bulk::Bulk;
use super::event::Fault;
use super::frame::{Frame, HEADER, Hello, frame_len, seal};
use super::limits::Limits;
use super::resources::{Outgoing, Resources};
use crate::time::Instant;

/// How long the other side may take to greet.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an endpoint that was connected stays away before it has disappeared.
pub const ABSENCE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an endpoint that is destroyed waits for the other side to take note.
pub const DESTROY_TIMEOUT: Duration = Duration::from_secs(2);

/// What the program was told of the other endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Away,
    Present,
    Connected,
    /// It was told of the end of the connection, and has not finished it.
    Failing,
    Destroyed,
}

/// What there is of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Down,
    /// The other side has not greeted yet.
    Open,
    Greeted(Hello),
    Up,
    /// All that is waited for is the other side's `Bye`.
    Leaving,
}

/// An endpoint without its stream.
pub struct Engine<B: Bulk> {
    pub(super) bulk: B,
    pub(super) has: Resources<B>,
    pub(super) life: Life,
    pub(super) link: Link,
    /// What both sides can hold, while the link is up.
    pub(super) agreed: Limits,
    /// Which endpoint this is.
    pub(super) incarnation: u64,
    /// Which one the other side is; 0: not known.
    pub(super) known: u64,
    /// How often the two were connected, and how often the program was told so.
    pub(super) connects: u64,
    pub(super) told: u64,
    pub(super) now: Instant,
    pub(super) fault: Fault,
    /// When the other side must have greeted, or taken note of the end.
    pub(super) deadline: Instant,
    /// When the other endpoint, which is away, has disappeared.
    absent_at: Instant,
    /// Bytes of `out` that are on their way, and of `input` that have come.
    sent: usize,
    filled: usize,
    hello_due: bool,
    pub(super) ready_due: bool,
    pub(super) bye_due: bool,
    /// What this side and the other one are ready for; 0: nothing yet.
    pub(super) ready: u64,
    pub(super) peer_ready: u64,
    /// The other endpoint is destroyed.
    pub(super) peer_gone: bool,
    pub(super) destroying: bool,
    /// The other side has taken note of that.
    pub(super) noted: bool,
}

impl<B: Bulk> Engine<B> {
    /// An endpoint that knows of no other. The incarnation tells it from earlier ones in its place: the time is one.
    pub fn new(resources: Resources<B>, bulk: B, now: Instant) -> Self {
        Engine {
            bulk,
            agreed: resources.limits,
            has: resources,
            life: Life::Away,
            link: Link::Down,
            incarnation: now.as_nanos().max(1),
            known: 0,
            connects: 0,
            told: 0,
            now,
            fault: Fault::Closed,
            deadline: Instant::NEVER,
            absent_at: Instant::NEVER,
            sent: 0,
            filled: 0,
            hello_due: false,
            ready_due: false,
            bye_due: false,
            ready: 0,
            peer_ready: 0,
            peer_gone: false,
            destroying: false,
            noted: false,
        }
    }

    /// The memory, for another endpoint, once this one is destroyed.
    pub fn into_resources(self) -> Option<Resources<B>> {
        (self.life == Life::Destroyed).then_some(self.has)
    }

    /// How often the two sides were connected.
    pub fn connects(&self) -> u64 {
        self.connects
    }

    /// Why there is no link, if there was one.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// Whether a stream is wanted: there is none, and the endpoint is not being destroyed.
    pub fn wants_link(&self) -> bool {
        self.link == Link::Down && !self.destroying
    }

    /// Whether there is a stream, as far as this side knows.
    pub fn has_link(&self) -> bool {
        self.link != Link::Down
    }

    /// There is a new stream to the other side.
    pub fn open(&mut self) {
        self.link = Link::Open;
        self.hello_due = true;
        self.deadline = self.now + GREETING_TIMEOUT;
    }

    /// The stream is over. What was under way ends.
    pub fn lost(&mut self, fault: Fault) {
        if self.link == Link::Down {
            return;
        }
        if self.link != Link::Leaving {
            self.fault = fault;
        }
        if self.link != Link::Open && self.life != Life::Away {
            self.absent_at = self.now + ABSENCE_TIMEOUT;
        }
        self.link = Link::Down;
        self.deadline = Instant::NEVER;
        (self.hello_due, self.ready_due, self.bye_due) = (false, false, false);
        (self.ready, self.peer_ready) = (0, 0);
        (self.sent, self.filled) = (0, 0);
        self.has.out.clear();
        self.end_all(fault);
    }

    /// Everything that this connection was about is over.
    pub(super) fn end_all(&mut self, fault: Fault) {
        self.has.queue.clear();
        self.end_traffic(fault);
        self.end_transfers(fault);
        self.end_buffers();
    }

    /// What the time is now.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        if now >= self.deadline {
            self.lost(match self.link {
                Link::Open => Fault::Lost("the other side did not greet in time"),
                _ => Fault::Closed,
            });
        }
        if now >= self.absent_at {
            self.absent_at = Instant::NEVER;
            self.peer_gone = true;
        }
    }

    /// When to call `tick` again.
    pub fn next_wakeup(&self) -> Instant {
        self.deadline.min(self.absent_at)
    }

    /// Where bytes are to be put that come, at least one.
    pub fn space(&mut self) -> &mut [u8] {
        self.has.input.get_mut(self.filled..).unwrap_or(&mut [])
    }

    /// So many bytes have come.
    pub fn received(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.has.input.len());
        let mut input = core::mem::take(&mut self.has.input);
        let mut taken = 0;
        while self.link != Link::Down {
            let rest = input.get(taken..self.filled).unwrap_or(&[]);
            let len = match frame_len(rest, input.len()) {
                Ok(Some(len)) if len <= rest.len() => len,
                Ok(_) => break,
                Err(rule) => {
                    self.lost(Fault::Violation(rule));
                    break;
                }
            };
            let frame = Frame::decode(rest.get(..len).unwrap_or(rest));
            if let Err(rule) = frame.and_then(|frame| self.handle(frame)) {
                self.lost(Fault::Violation(rule));
            }
            taken += len;
        }
        // `lost` has dropped what was not taken.
        if self.filled > 0 {
            input.copy_within(taken..self.filled, 0);
            self.filled -= taken;
        }
        self.has.input = input;
    }

    fn handle(&mut self, frame: Frame<'_>) -> Result<(), &'static str> {
        match (self.link, frame) {
            (Link::Open, Frame::Hello(hello)) => {
                if hello.grants != B::GRANTS {
                    return Err("buffers go in another way on its side");
                }
                self.link = Link::Greeted(hello);
                (self.deadline, self.absent_at) = (Instant::NEVER, Instant::NEVER);
                Ok(())
            }
            (Link::Greeted(_), Frame::Ready { epoch }) if epoch != 0 && self.peer_ready == 0 => {
                self.peer_ready = epoch;
                // Its first message may be right behind.
                self.try_connect();
                Ok(())
            }
            (Link::Leaving, Frame::Bye) => {
                self.noted = true;
                self.lost(Fault::Closed);
                Ok(())
            }
            // Sent before it knew.
            (Link::Leaving, _) => Ok(()),
            (Link::Up, Frame::Bye) => {
                self.fault = Fault::Lost("the other endpoint was destroyed");
                self.end_all(self.fault);
                self.peer_gone = true;
                self.link = Link::Leaving;
                self.bye_due = true;
                self.deadline = self.now + DESTROY_TIMEOUT;
                Ok(())
            }
            (Link::Up, frame) => self.handle_up(frame),
            _ => Err("a frame before both sides are connected"),
        }
    }

    fn handle_up(&mut self, frame: Frame<'_>) -> Result<(), &'static str> {
        match frame {
            Frame::Message { slot, body } => self.take_message(slot, body),
            Frame::Taken { slot } => self.take_taken(slot),
            Frame::Request { slot, parameters } => self.take_request(slot, parameters),
            Frame::Reply {
                slot,
                error,
                status,
            } => self.take_reply(slot, error, status),
            Frame::Register { name, len, refs } => self.take_register(name, len, refs),
            Frame::Unregister { name } => self.take_unregister(name),
            Frame::Forgotten { name } => self.take_forgotten(name),
            Frame::Put {
                slot,
                name,
                offset,
                data,
            } => self.take_put(slot, name, offset, data),
            Frame::Get {
                slot,
                name,
                offset,
                len,
            } => self.take_get(slot, name, offset, len),
            Frame::Answer {
                slot,
                outcome,
                data,
            } => self.take_answer(slot, outcome, data),
            Frame::Hello(_) | Frame::Ready { .. } | Frame::Bye => {
                Err("a greeting in the middle of a connection")
            }
        }
    }

    /// Bytes to be sent, if there are some.
    pub fn output(&mut self) -> Option<&[u8]> {
        if self.sent >= self.has.out.len() {
            let mut out = core::mem::take(&mut self.has.out);
            self.sent = 0;
            out.clear();
            let any = self.next_frame(&mut out);
            self.has.out = out;
            if !any {
                return None;
            }
            debug_assert!(self.has.out.len() >= HEADER);
            seal(&mut self.has.out);
        }
        self.has.out.get(self.sent..)
    }

    /// So many of these bytes are on their way. Returns whether the caller closes the stream now: everything was sent.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        if self.peer_gone && self.link == Link::Leaving && !self.has_output() {
            // Its `Bye` is answered.
            self.lost(Fault::Closed);
        }
    }

    /// Whether there is something to be sent.
    pub fn has_output(&self) -> bool {
        let due = self.hello_due || self.ready_due || self.bye_due || !self.has.queue.is_empty();
        due || self.sent < self.has.out.len()
    }

    fn next_frame(&mut self, out: &mut Vec<u8>) -> bool {
        if core::mem::take(&mut self.hello_due) {
            let hello = Hello {
                incarnation: self.incarnation,
                known: self.known,
                connects: self.connects,
                grants: B::GRANTS,
                limits: self.has.limits,
            };
            Frame::Hello(hello).encode(out);
            return true;
        }
        if core::mem::take(&mut self.ready_due) {
            Frame::Ready { epoch: self.ready }.encode(out);
            return true;
        }
        if core::mem::take(&mut self.bye_due) {
            Frame::Bye.encode(out);
            return true;
        }
        while let Some(next) = self.has.queue.pop_front() {
            if self.encode(next, out) {
                return true;
            }
        }
        false
    }

    fn encode(&mut self, next: Outgoing, out: &mut Vec<u8>) -> bool {
        match next {
            Outgoing::Message(slot) => self.put_message(slot, out),
            Outgoing::Taken(slot) => Frame::Taken { slot }.encode(out),
            Outgoing::Request(slot) => self.put_request(slot, out),
            Outgoing::Reply(slot) => self.put_reply(slot, out),
            Outgoing::Register(slot) => return self.put_register(slot, out),
            Outgoing::Unregister(slot) => return self.put_unregister(slot, out),
            Outgoing::Forgotten(slot) => self.put_forgotten(slot, out),
            Outgoing::Chunk(slot) => return self.put_chunk(slot, out),
            Outgoing::Answer(slot) => self.put_answer(slot, out),
        }
        true
    }
}
