//! A domain that serves to others whenever it is let, on the simulated Xen.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::hypercall::DomId;
use xen9p::time::Instant;
use xen9p::transport::serving::{Serving, Sizes};
use xen9p::transport::vchan::{self, VchanError};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p_testing::fake::{FakePlatform, FakeXen, Peer};

pub const SERVER: DomId = DomId(2);
pub const CLIENT: DomId = DomId(5);
pub const OTHER: DomId = DomId(6);

/// How long a client waits for its server here, of the simulated time.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The drivers of a domain.
pub type Drivers = Xen<FakePlatform>;

/// A new domain, with the permission to write below its own `data`, as xl makes it.
pub fn domain(fake: &FakeXen, id: DomId) -> Drivers {
    let platform = fake.add_domain(id);
    fake.dom0().make_home(id);
    Xen::new(Events::new(platform)).unwrap()
}

/// The program in the server's domain while it waits.
struct Waiting {
    xen: Drivers,
    serving: Rc<Serving<FakePlatform>>,
}

impl Peer for Waiting {
    fn step(&mut self, fake: &FakeXen) -> bool {
        let progressed = self.xen.events.dispatch();
        self.serving.poll();
        progressed || self.serving.next_check() <= fake.now()
    }

    fn wakes_at(&self) -> Option<Instant> {
        Some(self.serving.next_check())
    }
}

/// A domain that serves, and nothing yet.
pub fn server(fake: &FakeXen) -> Rc<Serving<FakePlatform>> {
    let xen = domain(fake, SERVER);
    let serving = Rc::new(Serving::new(&xen, Sizes::default(), None));
    let waiting = Waiting {
        xen,
        serving: Rc::clone(&serving),
    };
    fake.share_peer(Rc::new(RefCell::new(waiting)));
    serving
}

/// What the server has for a domain by the vchan of that name.
pub fn mount(xen: &Drivers, name: &str) -> Result<Fs, VchanError> {
    let stream = vchan::connect(xen, SERVER, name, TIMEOUT)?;
    let transport = vchan::framed(stream, vchan::DEFAULT_MESSAGE);
    let options = MountOptions::new().timeout(Duration::from_secs(20));
    Ok(Fs::mount(transport, &options).unwrap())
}
