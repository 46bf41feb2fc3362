//! Two endpoints that take turns, whatever is between them.

use std::time::Duration;

use xen9p::transport::idc::{Bulk, Connector, Endpoint, Event, Limits, LocalBuffer};

use crate::fused::Fuse;

/// Runs each of the tests on both beds.
macro_rules! on_both {
    ($($test:ident)*) => {
        mod socket {
            $(#[test] fn $test() { super::$test::<crate::sockets::Sockets>(); })*
        }
        mod domains {
            $(#[test] fn $test() { super::$test::<crate::domains::Domains>(); })*
        }
    };
}
pub(crate) use on_both;

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
