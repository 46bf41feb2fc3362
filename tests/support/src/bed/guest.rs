//! A guest with a 9pfs device on the simulated Xen, for the ring tests.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::backend::{Handler, Program, Share, echo};
use crate::fake::{FakePlatform, FakeXen, Usage};
use crate::server::mem::{MemOptions, MemServer};
use xen9p::hypercall::{DomId, sched};
use xen9p::p9::session::Redial;
use xen9p::platform::Frame;
use xen9p::transport::xen9pfs::{self, Config, ConnectError, Xen9pfs};
use xen9p::transport::{Lane, Transport, TransportError};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p::xen::suspend::SuspendReturn;

pub const GUEST: DomId = DomId(5);
pub const PROGRAMS: [Program; 2] = [Program::Qemu, Program::Daemon];

/// A guest and the one share that it has. Clones mean the same.
#[derive(Clone)]
pub struct Bed {
    pub fake: FakeXen,
    pub xen: Xen<FakePlatform>,
    pub share: Rc<RefCell<Share>>,
    pub before: Usage,
    program: Program,
}

pub fn bed_with(program: Program, bend: impl FnOnce(Share) -> Share) -> Bed {
    bed_of(program, echo::handler(), bend)
}

pub fn bed(program: Program) -> Bed {
    bed_with(program, |share| share)
}

/// A guest with a share of this server's files.
pub fn bed_serving(program: Program, handler: Handler) -> Bed {
    bed_of(program, handler, |share| share)
}

/// A guest with a share of files in memory, and their server.
pub fn bed_with_files(program: Program) -> (Bed, Rc<RefCell<MemServer>>) {
    let server = Rc::new(RefCell::new(MemServer::new(MemOptions::default())));
    let serving = server.clone();
    let handler = move |request: &[u8]| serving.borrow_mut().handle(request);
    (bed_serving(program, Box::new(handler)), server)
}

fn bed_of(program: Program, handler: Handler, bend: impl FnOnce(Share) -> Share) -> Bed {
    let fake = FakeXen::new();
    let platform = fake.add_domain(GUEST);
    let share = bend(share(&fake, program, handler));
    let share = Rc::new(RefCell::new(share));
    fake.share_peer(share.clone());
    let xen = Xen::new(Events::new(platform)).expect("xenstore answers");
    let before = fake.usage(GUEST);
    Bed {
        fake,
        xen,
        share,
        before,
        program,
    }
}

fn share(fake: &FakeXen, program: Program, handler: Handler) -> Share {
    Share::new(&fake.dom0(), GUEST, 0, "share", program, handler)
}

pub fn config() -> Config {
    let mut config = Config::for_memory(8 << 20);
    config.timeout = Duration::from_secs(7);
    config
}

impl Bed {
    pub fn connect(&self) -> Result<Xen9pfs<FakePlatform>, ConnectError> {
        self.connect_with(&config())
    }

    pub fn connect_with(&self, config: &Config) -> Result<Xen9pfs<FakePlatform>, ConnectError> {
        let start = self.fake.now();
        let device = xen9pfs::device(&self.xen, Some("share"))?;
        let result = xen9pfs::connect(&self.xen, device, config);
        let took = self.fake.now() - start;
        assert!(took < Duration::from_secs(60), "took {took:?}");
        result
    }

    /// Finds the share's backend again, each time after `prepare`.
    pub fn redial(&self, mut prepare: impl FnMut(&Bed) + 'static) -> impl Redial + 'static {
        let bed = self.clone();
        move || {
            prepare(&bed);
            let device = xen9pfs::device(&bed.xen, Some("share"));
            match device.and_then(|device| xen9pfs::connect(&bed.xen, device, &config())) {
                Ok(transport) => {
                    let transport: Box<dyn Transport> = Box::new(transport);
                    Ok(Some(transport))
                }
                Err(_) => {
                    bed.fake.run_for(Duration::from_millis(100));
                    Ok(None)
                }
            }
        }
    }

    /// Restores the guest, with a new backend of this server's files.
    pub fn restore(&self, clears_rings: bool, handler: Handler) -> SuspendReturn {
        let returned = self.restore_without_share(clears_rings);
        *self.share.borrow_mut() = share(&self.fake, self.program, handler);
        self.fake.share_peer(self.share.clone());
        returned
    }

    /// Makes the hypercall that suspends the guest.
    pub fn suspend(&self) -> SuspendReturn {
        // SAFETY: the return goes to `Xen::suspend` of the same domain, and nothing is used before.
        let returned = unsafe { sched::suspend(&self.xen.platform, Frame(0)) };
        returned.expect("Xen suspends every domain")
    }

    pub fn restore_without_share(&self, clears_rings: bool) -> SuspendReturn {
        let returned = self.suspend();
        self.share.borrow_mut().kill();
        self.share.borrow_mut().unmap();
        self.fake.remove_peers();
        let back = self.share.borrow().back().to_owned();
        self.fake.restore(GUEST, clears_rings);
        self.fake.dom0().rm(&back);
        returned
    }

    /// Connecting fails so; afterwards nothing is left, and a person can read why.
    pub fn refused(&self) -> ConnectError {
        let error = self.connect().map(drop).unwrap_err();
        self.flat();
        let text = error.to_string();
        assert!(text.len() > 20 && !text.contains('\n'), "{text}");
        error
    }

    /// All that was taken is back.
    pub fn flat(&self) {
        self.fake.settle();
        self.xen.store.poll().unwrap();
        self.fake.settle();
        self.xen.grants.drain();
        let now = self.fake.usage(GUEST);
        assert_eq!(
            (now.pages, now.grants, now.ports, now.watches),
            (
                self.before.pages,
                self.before.grants,
                self.before.ports,
                self.before.watches
            ),
            "pages, grants, ports, watches"
        );
        assert_eq!(self.xen.grants.counters().used_refs, 0);
        assert_eq!(self.fake.dirty_frees(), 0);
    }

    pub fn set_back_state(&self, state: &str) {
        let path = format!("{}/state", self.share.borrow().back());
        self.fake.dom0().write(&path, state);
    }
}

/// Sends a request on every lane, and takes the replies as they come.
pub fn exchange(transport: &mut impl Transport, seed: u32) -> Result<(), TransportError> {
    let lanes = transport.lanes();
    for lane in 0..lanes {
        let request = echo::request(3000, echo::PATIENT, lane, 4000, seed);
        let (header, body) = request.split_at(7);
        assert!(transport.send(Lane(lane), &[header, body], 4000)?);
    }
    transport.flush()?;
    let deadline = transport.now() + Duration::from_secs(30);
    let mut left = lanes;
    while left > 0 {
        for lane in 0..lanes {
            while let Some(header) = transport.peek(Lane(lane))? {
                assert_eq!(header, echo::header(4000, echo::PATIENT, lane));
                let mut bytes = vec![0; 4000];
                transport.copy_out(Lane(lane), 0, &mut bytes);
                assert!(bytes == echo::reply(4000, echo::PATIENT, lane, seed));
                transport.consume(Lane(lane));
                transport.release(Lane(lane), 4000);
                left -= 1;
            }
        }
        if left > 0 {
            assert!(transport.now() < deadline, "no reply");
            transport.wait(deadline)?;
        }
    }
    Ok(())
}

/// Waits until the connection is lost, and says why and how long that took.
pub fn loss(bed: &Bed, transport: &mut impl Transport) -> (TransportError, Duration) {
    let start = bed.fake.now();
    let deadline = start + Duration::from_secs(30);
    loop {
        if let Err(error) = transport.wait(deadline) {
            for lane in 0..transport.lanes() {
                assert_eq!(transport.peek(Lane(lane)), Err(error), "it stays lost");
                assert_eq!(transport.send(Lane(lane), &[&[0; 7]], 7), Err(error));
            }
            assert_eq!(transport.flush(), Err(error));
            return (error, bed.fake.now() - start);
        }
        assert!(transport.now() < deadline, "not noticed");
    }
}
