//! Two endpoints that take turns: over a socket, with buffers in frames, and between two domains of a simulated Xen, with
//! buffers by grant copy. Either stream can be cut at any byte.

use std::cell::{Cell, RefCell};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use p9_client::transport::socket::SocketStream;
use xen9p::hypercall::DomId;
use xen9p::time::Instant;
use xen9p::transport::TransportError;
use xen9p::transport::idc::{
    Bulk, ByGrants, Bytes, Connector, Dialer, Endpoint, Event, InFrames, Limits, LocalBuffer,
    OwnPages, Publisher, Resources,
};
use xen9p::transport::stream::ByteStream;
use xen9p::transport::vchan::{self, Orders, VchanError};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p::xen::store::{Access, Permission};
use xen9p_testing::fake::{FakePlatform, FakeXen};

/// Runs each of the tests on both beds.
macro_rules! on_both {
    ($($test:ident)*) => {
        mod socket {
            $(#[test] fn $test() { super::$test::<crate::common::Sockets>(); })*
        }
        mod domains {
            $(#[test] fn $test() { super::$test::<crate::common::Domains>(); })*
        }
    };
}
pub(crate) use on_both;

/// The drivers of a domain.
pub type Drivers = Xen<FakePlatform>;

/// How many bytes still go over the streams of one side before the one that there is breaks.
pub type Fuse = Rc<Cell<Option<usize>>>;

/// A stream that breaks when its fuse is burnt.
pub struct Fused<S> {
    stream: S,
    fuse: Fuse,
    dead: bool,
    /// Bytes read and written.
    pub bytes: u64,
}

const CUT: TransportError = TransportError::Lost(&"the test has cut it");

impl<S: ByteStream> Fused<S> {
    /// How many of so many bytes may go.
    fn allowed(&mut self, wanted: usize) -> Result<usize, TransportError> {
        let left = self.fuse.get();
        if left == Some(0) {
            self.fuse.set(None);
            self.dead = true;
            self.stream.close();
        }
        match self.dead {
            true => Err(CUT),
            false => Ok(left.map_or(wanted, |left| wanted.min(left))),
        }
    }

    fn went(&mut self, count: usize) -> usize {
        if let Some(left) = self.fuse.get() {
            self.fuse.set(Some(left - count));
        }
        self.bytes += count as u64;
        count
    }
}

impl<S: ByteStream> ByteStream for Fused<S> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        let most = self.allowed(into.len())?;
        let count = self.stream.read(&mut into[..most])?;
        Ok(self.went(count))
    }

    fn write(&mut self, from: &[u8]) -> Result<usize, TransportError> {
        let most = self.allowed(from.len())?;
        let count = self.stream.write(&from[..most])?;
        Ok(self.went(count))
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.stream.flush()
    }

    fn now(&self) -> Instant {
        self.stream.now()
    }

    fn wait(&mut self, write: bool, deadline: Instant) -> Result<(), TransportError> {
        self.stream.wait(write, deadline)
    }

    fn close(&mut self) {
        self.stream.close();
    }
}

/// Two endpoints on something.
pub trait Bed: Sized {
    type Connector: Connector;
    type Bulk: Bulk;

    fn new(limits: [Limits; 2]) -> Self;

    /// The address and the buffers of a side.
    fn ends(&self, side: usize) -> (Self::Connector, Self::Bulk);

    fn buffer(&self, side: usize, size: usize) -> <Self::Bulk as Bulk>::Buffer;

    /// Lets time pass.
    fn pass(&self, time: Duration);

    /// The fuse of a side.
    fn fuse(&self, side: usize) -> &Fuse;

    fn endpoints(&mut self) -> &mut [Endpoint<Self::Connector, Self::Bulk>; 2];
}

/// The program of one side: it notes what happens, and answers the end of a connection.
#[derive(Default)]
pub struct Notes {
    pub events: Vec<Event>,
    /// Connections told.
    pub connects: u64,
}

/// Two endpoints and their programs.
pub struct Pair<B: Bed> {
    pub bed: B,
    pub notes: [Notes; 2],
}

impl<B: Bed> Pair<B> {
    pub fn new() -> Self {
        Pair::with(Limits::default(), Limits::default())
    }

    pub fn with(first: Limits, second: Limits) -> Self {
        Pair {
            bed: B::new([first, second]),
            notes: Default::default(),
        }
    }

    /// Two sides that are connected, with nothing noted of it.
    pub fn connected() -> Self {
        let mut pair = Pair::new();
        pair.connect();
        pair
    }

    pub fn connect(&mut self) {
        self.until("both are connected", |pair| {
            [0, 1].iter().all(|&side| pair.end(side).is_connected())
        });
        for notes in &mut self.notes {
            notes.events.clear();
        }
    }

    pub fn end(&mut self, side: usize) -> &mut Endpoint<B::Connector, B::Bulk> {
        &mut self.bed.endpoints()[side]
    }

    /// One side does what it can.
    pub fn poll(&mut self, side: usize) {
        let notes = &mut self.notes[side];
        let end = &mut self.bed.endpoints()[side];
        end.poll();
        let mut failing = false;
        while let Some(event) = end.next_event() {
            failing |= matches!(event, Event::Disconnect(_));
            notes.connects += u64::from(event == Event::Connect);
            notes.events.push(event);
            if failing && end.finish_disconnect() {
                failing = false;
            }
        }
        if failing {
            assert!(end.finish_disconnect(), "all of it is told");
        }
    }

    pub fn turn(&mut self) {
        self.poll(0);
        self.poll(1);
        self.bed.pass(Duration::from_millis(20));
    }

    /// Both take turns until something is so.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..5000 {
            if is_so(self) {
                return;
            }
            self.turn();
        }
        panic!("it never came about that {what}");
    }

    /// The next event of a side; both take turns until it comes.
    #[track_caller]
    pub fn event(&mut self, side: usize) -> Event {
        self.until("there is an event", |pair| {
            !pair.notes[side].events.is_empty()
        });
        self.notes[side].events.remove(0)
    }

    pub fn buffer(&self, side: usize, content: &[u8]) -> <B::Bulk as Bulk>::Buffer {
        let buffer = self.bed.buffer(side, content.len());
        buffer.write(0, content).unwrap();
        buffer
    }

    /// Breaks the connection, and says what each side was told before it is connected again.
    pub fn cut(&mut self) {
        self.bed.fuse(0).set(Some(0));
        self.until("both have noticed", |pair| {
            pair.notes.iter().all(|notes| {
                notes
                    .events
                    .iter()
                    .any(|event| matches!(event, Event::Disconnect(_)))
            })
        });
    }
}

/// What is in a buffer.
pub fn content_of(buffer: &impl LocalBuffer) -> Vec<u8> {
    let mut bytes = vec![0; buffer.size()];
    buffer.read(0, &mut bytes).unwrap();
    bytes
}

/// A clock that a test turns on.
#[derive(Clone, Default)]
pub struct Clock(Rc<Cell<u64>>);

impl Clock {
    pub fn now(&self) -> Instant {
        self.0.set(self.0.get() + 1);
        Instant::from_nanos(self.0.get())
    }

    pub fn pass(&self, time: Duration) {
        self.0.set(self.0.get() + time.as_nanos() as u64);
    }
}

type Plugs = Rc<RefCell<[Option<UnixStream>; 2]>>;

/// Connects to the other side by a pair of sockets, which the one makes that comes first.
pub struct Plug {
    side: usize,
    plugs: Plugs,
    clock: Clock,
    fuse: Fuse,
}

impl Connector for Plug {
    type Stream = Fused<SocketStream>;
    type Error = std::io::Error;

    fn connect(&mut self) -> std::io::Result<Option<Fused<SocketStream>>> {
        let mut plugs = self.plugs.borrow_mut();
        let stream = match plugs[self.side].take() {
            Some(stream) => stream,
            None => {
                let (ours, theirs) = UnixStream::pair()?;
                plugs[1 - self.side] = Some(theirs);
                ours
            }
        };
        stream.set_nonblocking(true)?;
        Ok(Some(Fused {
            stream: SocketStream::new(stream, ()),
            fuse: self.fuse.clone(),
            dead: false,
            bytes: 0,
        }))
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn next_check(&self) -> Instant {
        self.clock.now()
    }

    fn wait(&mut self, deadline: Instant) {
        let now = self.clock.now();
        self.clock.pass(deadline - now);
    }
}

pub struct Sockets {
    ends: [Endpoint<Plug, InFrames>; 2],
    plugs: Plugs,
    pub clock: Clock,
    fuses: [Fuse; 2],
}

impl Bed for Sockets {
    type Connector = Plug;
    type Bulk = InFrames;

    fn new(limits: [Limits; 2]) -> Self {
        let (plugs, clock) = (Plugs::default(), Clock::default());
        let fuses = [Fuse::default(), Fuse::default()];
        let end = |side: usize| {
            let plug = plug(side, &plugs, &clock, &fuses[side]);
            Endpoint::new(Resources::new(limits[side]), plug, InFrames)
        };
        Sockets {
            ends: [end(0), end(1)],
            plugs,
            clock,
            fuses,
        }
    }

    fn ends(&self, side: usize) -> (Plug, InFrames) {
        (
            plug(side, &self.plugs, &self.clock, &self.fuses[side]),
            InFrames,
        )
    }

    fn buffer(&self, _: usize, size: usize) -> Bytes {
        Bytes::zeroed(size)
    }

    fn pass(&self, time: Duration) {
        self.clock.pass(time);
    }

    fn fuse(&self, side: usize) -> &Fuse {
        &self.fuses[side]
    }

    fn endpoints(&mut self) -> &mut [Endpoint<Plug, InFrames>; 2] {
        &mut self.ends
    }
}

fn plug(side: usize, plugs: &Plugs, clock: &Clock, fuse: &Fuse) -> Plug {
    Plug {
        side,
        plugs: plugs.clone(),
        clock: clock.clone(),
        fuse: fuse.clone(),
    }
}

/// A new domain, with the permission to write below its own `data`, as xl makes it.
pub fn domain(fake: &FakeXen, id: DomId) -> Drivers {
    let platform = fake.add_domain(id);
    let dom0 = fake.dom0();
    let home = format!("/local/domain/{id}");
    dom0.write(&format!("{home}/domid"), id.to_string());
    dom0.write(&format!("{home}/data"), "");
    let owner = Permission {
        domain: id,
        access: Access::None,
    };
    dom0.set_permissions(&format!("{home}/data"), &[owner]);
    Xen::new(Events::new(platform)).unwrap()
}

/// Either end of a vchan.
pub enum Vchan {
    Dialer(Dialer<FakePlatform>, Fuse),
    Publisher(Box<Publisher<FakePlatform>>, Fuse),
}

impl Connector for Vchan {
    type Stream = Fused<vchan::Stream<FakePlatform>>;
    type Error = VchanError;

    fn connect(&mut self) -> Result<Option<Self::Stream>, VchanError> {
        let (stream, fuse) = match self {
            Vchan::Dialer(dialer, fuse) => (dialer.connect()?, fuse),
            Vchan::Publisher(publisher, fuse) => (publisher.connect()?, fuse),
        };
        Ok(stream.map(|stream| Fused {
            stream,
            fuse: fuse.clone(),
            dead: false,
            bytes: 0,
        }))
    }

    fn now(&self) -> Instant {
        match self {
            Vchan::Dialer(dialer, _) => dialer.now(),
            Vchan::Publisher(publisher, _) => publisher.now(),
        }
    }

    fn next_check(&self) -> Instant {
        match self {
            Vchan::Dialer(dialer, _) => dialer.next_check(),
            Vchan::Publisher(publisher, _) => publisher.next_check(),
        }
    }

    fn wait(&mut self, deadline: Instant) {
        match self {
            Vchan::Dialer(dialer, _) => dialer.wait(deadline),
            Vchan::Publisher(publisher, _) => publisher.wait(deadline),
        }
    }

    fn tend(fused: &mut Self::Stream, write: bool) -> Result<bool, TransportError> {
        Dialer::tend(&mut fused.stream, write)
    }

    fn next_tend(fused: &Self::Stream) -> Instant {
        Dialer::next_tend(&fused.stream)
    }
}

/// The domain of a side, which dials the one of the next number, or is dialled by the one before.
pub const DOMAINS: [DomId; 2] = [DomId(1), DomId(2)];

pub struct Domains {
    ends: [Endpoint<Vchan, ByGrants<FakePlatform>>; 2],
    pub fake: FakeXen,
    pub xen: [Drivers; 2],
    fuses: [Fuse; 2],
}

/// The dialling end of an endpoint of `from` with `to`, and the publishing end of the other one.
pub fn vchan(
    from: &Drivers,
    to: &Drivers,
    domains: [DomId; 2],
    fuses: &[Fuse; 2],
    name: &str,
) -> [Vchan; 2] {
    let dialer = Dialer::new(from, domains[1], name);
    let orders = Orders::new(12, 12).unwrap();
    let publisher = Publisher::new(to, domains[0], name, orders).unwrap();
    [
        Vchan::Dialer(dialer, fuses[0].clone()),
        Vchan::Publisher(Box::new(publisher), fuses[1].clone()),
    ]
}

impl Bed for Domains {
    type Connector = Vchan;
    type Bulk = ByGrants<FakePlatform>;

    fn new(limits: [Limits; 2]) -> Self {
        let fake = FakeXen::new();
        let xen = DOMAINS.map(|id| domain(&fake, id));
        fake.make_pv(DOMAINS[1]);
        let fuses = [Fuse::default(), Fuse::default()];
        let [dialer, publisher] = vchan(&xen[0], &xen[1], DOMAINS, &fuses, "idc");
        let bulk = |side: usize| ByGrants::new(&xen[side].grants, DOMAINS[1 - side]);
        let [first, second] = limits.map(Resources::new);
        Domains {
            ends: [
                Endpoint::new(first, dialer, bulk(0)),
                Endpoint::new(second, publisher, bulk(1)),
            ],
            fake,
            xen,
            fuses,
        }
    }

    fn ends(&self, side: usize) -> (Vchan, ByGrants<FakePlatform>) {
        let [dialer, publisher] = vchan(&self.xen[0], &self.xen[1], DOMAINS, &self.fuses, "idc");
        let vchan = if side == 0 { dialer } else { publisher };
        let bulk = ByGrants::new(&self.xen[side].grants, DOMAINS[1 - side]);
        (vchan, bulk)
    }

    fn buffer(&self, side: usize, size: usize) -> OwnPages<FakePlatform> {
        let bulk = ByGrants::new(&self.xen[side].grants, DOMAINS[1 - side]);
        bulk.buffer(size).unwrap()
    }

    fn pass(&self, time: Duration) {
        self.fake.run_for(time);
    }

    fn fuse(&self, side: usize) -> &Fuse {
        &self.fuses[side]
    }

    fn endpoints(&mut self) -> &mut [Endpoint<Vchan, ByGrants<FakePlatform>>; 2] {
        &mut self.ends
    }
}
