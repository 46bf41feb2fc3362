//! Lanes in memory between a client and a function that serves, on a simulated clock.
//!
//! [`lanes`] gives the client's end, a [`Transport`](xen9p::transport::Transport), and a [`Control`] over what happens between
//! the ends: how long answers take and in which order they come, which requests hang, and what
//! becomes of replies on the way. Nothing sleeps: waiting moves the clock.
//!
//! An event is never lost, but it comes once: who waits without having looked at all lanes until
//! they were empty may wait in vain. The lanes are as strict as QEMU's rings: a request on the wrong lane, one that was sent without
//! room for its reply, or a reply that is larger than what was kept free for it, panics, for it is a
//! bug of the client's that would cost it the connection.

mod transport;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use xen9p::p9::wire::{HEADER_LEN, kind, parse_header};
use xen9p::time::Instant;
use xen9p::transport::{Header, Lane, Text, TransportError};

/// How lanes behave.
#[derive(Clone, Debug)]
pub struct LaneOptions {
    /// How many.
    pub lanes: u16,
    /// Bytes of requests, and likewise of replies, that one lane holds.
    pub capacity: u32,
    /// A request is served between these times after it was sent.
    pub latency: (Duration, Duration),
    /// Whether requests of one lane are served in order, as rings do. Those of different lanes
    /// never are, if latency varies.
    pub in_order: bool,
    /// Whether Tflush cancels a request that has not been served, or has it served first.
    pub flush_cancels: bool,
    /// Where chance starts.
    pub seed: u64,
    /// What time it is. Clones of these options share it, as all do that happens to one client.
    pub clock: Clock,
}

/// A clock that stands still until a caller waits. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct Clock(Rc<Cell<Instant>>);

impl Default for Clock {
    /// A clock that shows one second.
    fn default() -> Self {
        Clock(Rc::new(Cell::new(Instant::from_nanos(1_000_000_000))))
    }
}

impl Default for LaneOptions {
    fn default() -> Self {
        LaneOptions {
            lanes: 1,
            capacity: 1 << 20,
            latency: (Duration::ZERO, Duration::ZERO),
            in_order: true,
            flush_cancels: true,
            seed: 1,
            clock: Clock::default(),
        }
    }
}

/// A request on its way to the server.
struct Job {
    at: Instant,
    lane: usize,
    request: Vec<u8>,
    /// Bytes kept free for its reply.
    reserved: u32,
}

impl Job {
    fn header(&self) -> Header {
        parse_header(self.request.first_chunk().expect("checked when sent"))
    }
}

#[derive(Default)]
struct LaneState {
    /// Sent, but the server wasn't told yet; and the bytes kept free for the reply.
    unflushed: Vec<(Vec<u8>, u32)>,
    /// Bytes of requests that are not served yet.
    requests: u32,
    /// Bytes kept free for replies.
    budget: u32,
    /// Bytes that came back.
    replies: VecDeque<u8>,
    /// When the latest request will be served.
    last: Option<Instant>,
}

impl LaneState {
    /// The header at the front, complete or not.
    fn header(&self) -> Option<Header> {
        let mut header = [0; HEADER_LEN];
        (self.replies.len() >= HEADER_LEN).then(|| {
            self.copy(0, &mut header);
            parse_header(&header)
        })
    }

    /// Copies bytes that have come back, from `offset` of the front on.
    fn copy(&self, offset: usize, into: &mut [u8]) {
        let (front, back) = self.replies.as_slices();
        let split = front.len();
        let front = &front[offset.min(split)..];
        let (first, second) = into.split_at_mut(front.len().min(into.len()));
        first.copy_from_slice(&front[..first.len()]);
        let back = &back[offset.saturating_sub(split).min(back.len())..];
        second.copy_from_slice(&back[..second.len()]);
    }

    /// The size of the message that was peeked at.
    fn size(&self) -> u32 {
        self.header()
            .expect("only after peek showed a message")
            .size
    }
}

type Server = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

/// Makes replies, none or many, of a request and its honest reply.
type Tamper = Box<dyn FnMut(&[u8], Vec<u8>) -> Vec<Vec<u8>>>;

struct Shared {
    options: LaneOptions,
    lanes: Vec<LaneState>,
    jobs: Vec<Job>,
    server: Server,
    tamper: Option<Tamper>,
    holds: Vec<u8>,
    max_message: u32,
    /// When the server goes away.
    doom: Option<Doom>,
    /// Something came back since the last wait: as an event that is pending.
    news: bool,
    failure: Option<TransportError>,
    closed: bool,
    /// Whether a reply may take more than what was kept free for it.
    lenient: bool,
    served: Vec<(u8, u16)>,
    most_in_flight: usize,
    /// How often the client looked at the clock.
    looks: Cell<u64>,
    chance: u64,
}

/// After so many more requests of these types (none named: of any), the server goes away.
struct Doom {
    kinds: Vec<u8>,
    after: usize,
    /// Whether the last of them is still carried out; its reply never comes.
    done: bool,
}

/// The client's end.
pub struct Lanes(Rc<RefCell<Shared>>);

/// The strings in the background.
#[derive(Clone)]
pub struct Control(Rc<RefCell<Shared>>);

/// Lanes to `server`, which gives one reply (or, empty, none) to each request.
pub fn lanes(
    options: LaneOptions,
    server: impl FnMut(&[u8]) -> Vec<u8> + 'static,
) -> (Lanes, Control) {
    let shared = Rc::new(RefCell::new(Shared {
        lanes: (0..options.lanes).map(|_| LaneState::default()).collect(),
        jobs: Vec::new(),
        server: Box::new(server),
        tamper: None,
        holds: Vec::new(),
        doom: None,
        max_message: options.capacity / 2,
        news: false,
        failure: None,
        closed: false,
        lenient: false,
        served: Vec::new(),
        most_in_flight: 0,
        looks: Cell::new(0),
        chance: options.seed | 1,
        options,
    }));
    (Lanes(shared.clone()), Control(shared))
}

impl Control {
    /// From now on lets `tamper` make the replies, none or many, of a request and its honest reply.
    pub fn tamper(&self, tamper: impl FnMut(&[u8], Vec<u8>) -> Vec<Vec<u8>> + 'static) {
        self.0.borrow_mut().tamper = Some(Box::new(tamper));
    }

    /// From now on passes replies on as they are.
    pub fn behave(&self) {
        self.0.borrow_mut().tamper = None;
    }

    /// From now on replies may take more than what was kept free for them, as over a socket.
    pub fn lenient(&self) {
        self.0.borrow_mut().lenient = true;
    }

    /// Requests of these types hang, until [`release`](Self::release) or a Tflush that cancels. In a
    /// lane that is served in order everything behind them hangs too, that Tflush included.
    pub fn hold(&self, kinds: &[u8]) {
        self.0.borrow_mut().holds = kinds.to_vec();
    }

    /// Lets go what hangs.
    pub fn release(&self) {
        let mut shared = self.0.borrow_mut();
        shared.holds.clear();
        shared.serve_due();
    }

    /// Puts bytes into a lane as if the server had sent them.
    pub fn inject(&self, lane: Lane, bytes: &[u8]) {
        let mut shared = self.0.borrow_mut();
        shared.lanes[usize::from(lane.0)].replies.extend(bytes);
        shared.news = true;
    }

    /// The server goes away.
    pub fn lose(&self, how: Text) {
        self.0
            .borrow_mut()
            .failure
            .get_or_insert(TransportError::Lost(how));
    }

    /// The server goes away at the next request of these types (none named: of any) after so many, and carries it
    /// out before that or not; either way there is no reply.
    pub fn lose_at(&self, kinds: &[u8], after: usize, done: bool) {
        self.0.borrow_mut().doom = Some(Doom {
            kinds: kinds.to_vec(),
            after,
            done,
        });
    }

    /// The time on the clock.
    pub fn now(&self) -> Instant {
        self.0.borrow().now()
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let mut shared = self.0.borrow_mut();
        shared.options.clock.0.set(shared.now() + by);
        shared.serve_due();
    }

    /// Type and tag of every request served so far, in the order in which they were.
    pub fn served(&self) -> Vec<(u8, u16)> {
        self.0.borrow().served.clone()
    }

    /// How many requests of a type were served so far.
    pub fn count(&self, kind: u8) -> usize {
        self.0
            .borrow()
            .served
            .iter()
            .filter(|(served, _)| *served == kind)
            .count()
    }

    /// The most requests that were waiting at the same time.
    pub fn most_in_flight(&self) -> usize {
        self.0.borrow().most_in_flight
    }

    /// How often the client looked at the clock.
    pub fn looks(&self) -> u64 {
        self.0.borrow().looks.get()
    }

    /// Bytes still kept free for replies on all lanes: 0 after a client that gives everything back.
    pub fn reserved(&self) -> u32 {
        self.0.borrow().lanes.iter().map(|lane| lane.budget).sum()
    }

    /// Whether the client closed its end.
    pub fn is_closed(&self) -> bool {
        self.0.borrow().closed
    }
}

impl Shared {
    fn now(&self) -> Instant {
        self.options.clock.0.get()
    }

    /// A number below `end`, from a multiplicative generator that is good enough for disorder.
    fn below(&mut self, end: u64) -> u64 {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % end.max(1)
    }

    /// The server learns of what was sent.
    fn flush(&mut self) {
        for lane in 0..self.lanes.len() {
            for (request, reserved) in std::mem::take(&mut self.lanes[lane].unflushed) {
                let (least, most) = self.options.latency;
                let spread = (most - least).as_nanos() as u64;
                let mut at = self.now() + least + Duration::from_nanos(self.below(spread + 1));
                if self.options.in_order {
                    at = self.lanes[lane].last.map_or(at, |last| last.max(at));
                    self.lanes[lane].last = Some(at);
                }
                self.jobs.push(Job {
                    at,
                    lane,
                    request,
                    reserved,
                });
            }
        }
        self.most_in_flight = self.most_in_flight.max(self.jobs.len());
        self.serve_due();
    }

    /// Serves what the time has come for. What hangs blocks its lane if that is served in order.
    fn serve_due(&mut self) {
        while let Some(next) = self.next_job() {
            if self.jobs[next].at > self.now() || self.failure.is_some() {
                break;
            }
            let job = self.jobs.remove(next);
            self.serve(job);
        }
    }

    /// The job to be served next, by time and then in the order sent.
    fn next_job(&self) -> Option<usize> {
        let hangs = |job: &Job| self.holds.contains(&job.header().kind);
        let blocked = |at: usize| {
            let earlier = &self.jobs[..at];
            let lane = self.jobs[at].lane;
            self.options.in_order && earlier.iter().any(|job| job.lane == lane && hangs(job))
        };
        (0..self.jobs.len())
            .filter(|&at| !hangs(&self.jobs[at]) && !blocked(at))
            .min_by_key(|&at| (self.jobs[at].at, at))
    }

    fn serve(&mut self, job: Job) {
        let header = job.header();
        if header.kind == kind::TFLUSH {
            let oldtag = job.request.last_chunk().map(|tag| u16::from_le_bytes(*tag));
            let old = self
                .jobs
                .iter()
                .position(|job| Some(job.header().tag) == oldtag);
            if let Some(old) = old {
                let old = self.jobs.remove(old);
                if self.options.flush_cancels {
                    self.lanes[old.lane].requests -= old.request.len() as u32;
                } else {
                    self.serve(old);
                }
            }
        }
        let doomed = self.doom.as_mut().and_then(|doom| {
            let named = doom.kinds.is_empty() || doom.kinds.contains(&header.kind);
            let now = named && doom.after == 0;
            doom.after -= usize::from(named && !now);
            now.then_some(doom.done)
        });
        if let Some(done) = doomed {
            if done {
                (self.server)(&job.request);
            }
            self.failure
                .get_or_insert(TransportError::Lost(&"the server went away"));
            return;
        }
        self.served.push((header.kind, header.tag));
        self.lanes[job.lane].requests -= job.request.len() as u32;
        let reply = (self.server)(&job.request);
        assert!(
            self.lenient || reply.len() <= job.reserved as usize,
            "{} was sent with {} bytes kept free for a reply that takes {}",
            kind::name(header.kind),
            job.reserved,
            reply.len()
        );
        let replies = match &mut self.tamper {
            Some(tamper) => tamper(&job.request, reply),
            None => vec![reply],
        };
        for reply in replies {
            self.lanes[job.lane].replies.extend(reply);
        }
        self.news = true;
    }

    fn lane(&mut self, lane: Lane) -> Result<&mut LaneState, TransportError> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(&mut self.lanes[usize::from(lane.0)]),
        }
    }

    fn has_room(&mut self, lane: Lane, request: u32, reply: u32) -> Result<bool, TransportError> {
        let capacity = self.options.capacity;
        let lane = self.lane(lane)?;
        Ok(lane.requests + request <= capacity && lane.budget + reply < capacity)
    }

    fn fail<T>(&mut self, rule: Text) -> Result<T, TransportError> {
        Err(*self.failure.get_or_insert(TransportError::Violation(rule)))
    }
}
