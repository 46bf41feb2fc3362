//! Two endpoints over a socket, with buffers in frames.

use std::cell::{Cell, RefCell};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use p9_client::transport::socket::SocketStream;
use xen9p::time::Instant;
use xen9p::transport::idc::{Bytes, Connector, Endpoint, InFrames, Limits, Resources};

use crate::common::Bed;
use crate::fused::{Fuse, Fused};

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
        Ok(Some(Fused::new(SocketStream::new(stream, ()), &self.fuse)))
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
