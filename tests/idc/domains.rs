//! Two endpoints in two domains of a simulated Xen, with buffers by grant copy.

use std::time::Duration;

use xen9p::hypercall::DomId;
use xen9p::time::Instant;
use xen9p::transport::TransportError;
use xen9p::transport::idc::{
    ByGrants, Connector, Dialer, Endpoint, Limits, OwnPages, Publisher, Resources,
};
use xen9p::transport::vchan::{self, Orders, VchanError};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p_testing::fake::{FakePlatform, FakeXen};

use crate::common::Bed;
use crate::fused::{Fuse, Fused};

/// The drivers of a domain.
pub type Drivers = Xen<FakePlatform>;

/// A new domain, with the permission to write below its own `data`, as xl makes it.
pub fn domain(fake: &FakeXen, id: DomId) -> Drivers {
    let platform = fake.add_domain(id);
    fake.dom0().make_home(id);
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
        Ok(stream.map(|stream| Fused::new(stream, fuse)))
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
        Dialer::tend(fused.stream_mut(), write)
    }

    fn next_tend(fused: &Self::Stream) -> Instant {
        Dialer::next_tend(fused.stream())
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
