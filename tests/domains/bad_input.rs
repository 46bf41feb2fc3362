//! A server that goes or changes while a client connects, a policy that refuses, a page that is written over: one error each, in
//! bounded time, and no other domain is the worse for it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions};
use xen9p::hypercall::{DomId, XenError};
use xen9p::ns::MemTree;
use xen9p::server::Rights;
use xen9p::sys;
use xen9p::time::Instant;
use xen9p::transport::serving::{Client, Serving};
use xen9p::transport::vchan::{self, VchanError};
use xen9p::transport::xen9pfs::{self, Config};
use xen9p::xen::store::{Access, Permission};
use xen9p_testing::fake::{DeviceSpec, FakePlatform, FakeXen, Peer};
use xen9p_testing::random::Random;

use crate::common::{CLIENT, Drivers, OTHER, SERVER, TIMEOUT, domain, mount, server};

/// Where the server publishes what is for the client.
const PUBLISHED: &str = "/local/domain/2/data/vchan/5/t";

/// The server, and a second client, which is connected.
struct Bed {
    fake: FakeXen,
    serving: Rc<Serving<FakePlatform>>,
    client: Drivers,
    beside: Fs,
}

impl Bed {
    fn new() -> Bed {
        let fake = FakeXen::new();
        let serving = server(&fake);
        let (client, other) = (domain(&fake, CLIENT), domain(&fake, OTHER));
        let bed = Bed {
            beside: {
                serve(&serving, "vchan!6!t").unwrap();
                mount(&other, "t").unwrap()
            },
            fake,
            serving,
            client,
        };
        bed.beside.write("/file", "beside").unwrap();
        bed
    }

    /// What is known of the client.
    fn known(&self) -> Client {
        let all = self.serving.list().into_iter();
        let mut clients = all.flat_map(|export| export.clients);
        clients.find(|client| client.domain == CLIENT).unwrap()
    }

    /// The second client works as before, and nothing of the first is left.
    fn is_unharmed(&self, ports: usize) {
        assert_eq!(self.beside.read_to_string("/file").unwrap(), "beside");
        assert_eq!(self.client.grants.counters().mapped_pages, 0);
        assert_eq!(self.fake.usage(CLIENT).ports, ports);
    }

    fn runs(&self, seconds: u64) {
        self.fake.run_for(Duration::from_secs(seconds));
    }
}

/// A new tree for devices, or for one domain.
fn serve(
    serving: &Serving<FakePlatform>,
    target: &str,
) -> Result<(), xen9p::transport::serving::ExportError> {
    let tree = MemTree::new();
    serving.serve("/srv", &tree, &target.parse().unwrap(), Rights::ReadWrite)
}

/// Does something when the client has mapped what it found, and once more 100 ms later if it says so.
struct Rug<F> {
    client: Drivers,
    pull: F,
    pulled: bool,
    again: Option<Instant>,
}

impl<F: FnMut(&FakeXen) -> bool> Rug<F> {
    fn new(client: &Drivers, pull: F) -> Self {
        Rug {
            client: client.clone(),
            pull,
            pulled: false,
            again: None,
        }
    }
}

impl<F: FnMut(&FakeXen) -> bool> Peer for Rug<F> {
    fn step(&mut self, fake: &FakeXen) -> bool {
        let is_mapped = self.client.grants.counters().mapped_pages > 0;
        let pulls = match self.again {
            Some(again) => fake.now() >= again,
            None => is_mapped && !self.pulled,
        };
        self.pulled = is_mapped;
        if pulls {
            let again = (self.pull)(fake);
            self.again = again.then(|| fake.now() + Duration::from_millis(100));
        }
        pulls
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.again
    }
}

/// Connects while that is done between its two looks at the nodes; how often it was.
fn connect_over(
    bed: &Bed,
    mut pull: impl FnMut(&FakeXen) -> bool + 'static,
) -> (Result<(), VchanError>, usize) {
    let count = Rc::new(RefCell::new(0));
    let counted = Rc::clone(&count);
    let ports = bed.fake.usage(CLIENT).ports;
    bed.fake
        .add_peer(Rug::new(&bed.client, move |fake: &FakeXen| {
            *counted.borrow_mut() += 1;
            pull(fake)
        }));
    let begun = bed.fake.now();
    let connected = vchan::connect(&bed.client, SERVER, "t", TIMEOUT).map(drop);
    let took = bed.fake.now() - begun;
    assert!(took < TIMEOUT + Duration::from_secs(2), "it took {took:?}");
    bed.is_unharmed(ports);
    let count = *count.borrow();
    (connected, count)
}

#[test]
fn nodes_that_go_between_two_looks_at_them_are_no_server() {
    let bed = Bed::new();
    serve(&bed.serving, "vchan!5!t").unwrap();
    let (connected, count) = connect_over(&bed, |fake| {
        fake.dom0().rm(PUBLISHED);
        false
    });
    assert_eq!(connected, Err(VchanError::NotPublished(TIMEOUT)));
    assert_eq!(count, 1);
}

#[test]
fn nodes_that_change_between_two_looks_at_them_are_looked_at_anew() {
    let bed = Bed::new();
    serve(&bed.serving, "vchan!5!t").unwrap();
    let mut moved = 100;
    let node = format!("{PUBLISHED}/event-channel");
    let (connected, count) = connect_over(&bed, move |fake| {
        // There, and back.
        let value: i32 = fake.dom0().read_text(&node).unwrap().parse().unwrap();
        fake.dom0().write(&node, (value + moved).to_string());
        moved = if moved > 0 { -moved } else { 0 };
        moved < 0
    });
    assert_eq!(connected, Ok(()));
    assert_eq!(count, 3, "there, back, and when it was connected");
}

#[test]
fn a_server_that_dies_between_two_looks_at_its_nodes_is_let_go_of() {
    let fake = FakeXen::new();
    let serving = server(&fake);
    let client = domain(&fake, CLIENT);
    serve(&serving, "vchan!5!t").unwrap();
    fake.settle();
    fake.remove_peers();
    let gone = Rc::new(RefCell::new(Some(serving)));
    fake.add_peer(Rug::new(&client, move |fake: &FakeXen| {
        std::mem::forget(gone.borrow_mut().take());
        fake.destroy(SERVER);
        false
    }));
    let begun = fake.now();
    let failed = vchan::connect(&client, SERVER, "t", TIMEOUT).map(drop);
    assert!(
        matches!(
            failed,
            Err(VchanError::NotPublished(_) | VchanError::Port(_))
        ),
        "{failed:?}"
    );
    assert!(fake.now() - begun < TIMEOUT + Duration::from_secs(2));
    assert_eq!(client.grants.counters().mapped_pages, 0);
    assert!(!fake.is_zombie(SERVER));
}

#[test]
fn what_a_policy_refuses_to_a_server_of_vchans_is_told_and_tried_again() {
    let bed = Bed::new();
    let (number, op) = (
        sys::__HYPERVISOR_event_channel_op,
        sys::EVTCHNOP_alloc_unbound,
    );
    bed.fake.fail_hypercall(number, op, 0, XenError::EPERM);
    serve(&bed.serving, "vchan!5!t").unwrap();
    let told = bed.known();
    assert!(!told.is_connected);
    let why = told.error.unwrap();
    assert!(
        why.starts_with("no event channel for the client: "),
        "{why}"
    );
    bed.is_unharmed(bed.fake.usage(CLIENT).ports);
    bed.runs(2);
    drop(mount(&bed.client, "t").unwrap());

    let bed = Bed::new();
    let dom0 = bed.fake.dom0();
    let owned_by = |domain| {
        let access = Access::None;
        dom0.set_permissions("/local/domain/2/data", &[Permission { domain, access }]);
        dom0.set_permissions(
            "/local/domain/2/data/vchan",
            &[Permission { domain, access }],
        );
    };
    owned_by(DomId(0));
    serve(&bed.serving, "vchan!5!t").unwrap();
    let why = bed.known().error.unwrap();
    assert!(why.starts_with("xenstore"), "{why}");
    bed.is_unharmed(bed.fake.usage(CLIENT).ports);
    owned_by(SERVER);
    bed.runs(2);
    drop(mount(&bed.client, "t").unwrap());
}

#[test]
fn what_a_policy_refuses_to_a_backend_is_told_and_the_frontend_may_come_again() {
    for (number, op, words) in [
        (
            sys::__HYPERVISOR_event_channel_op,
            sys::EVTCHNOP_bind_interdomain,
            "ring 0: cannot bind its event channel: ",
        ),
        (
            sys::__HYPERVISOR_grant_table_op,
            sys::GNTTABOP_map_grant_ref,
            "ring 0: cannot map its index page: ",
        ),
    ] {
        let bed = Bed::new();
        serve(&bed.serving, "9pfs").unwrap();
        let spec = DeviceSpec {
            kind: "9pfs",
            backend_kind: "9pfs",
            frontend: CLIENT,
            id: 0,
        };
        let nodes = [("path", "/srv"), ("security_model", "none")];
        let backend = bed.fake.domain(SERVER);
        backend.add_device(&spec, &[("tag", "share")], &nodes);
        let ports = bed.fake.usage(CLIENT).ports;
        bed.fake.fail_hypercall(number, op, 0, XenError::EPERM);
        let connect = || {
            let device = xen9pfs::device(&bed.client, None).unwrap();
            xen9pfs::connect(&bed.client, device, &Config::default())
        };
        let begun = bed.fake.now();
        assert!(connect().is_err());
        assert!(bed.fake.now() - begun < Duration::from_secs(30));
        let why = bed.known().error.unwrap();
        assert!(why.starts_with(words), "{why}");
        bed.is_unharmed(ports);
        bed.runs(2);
        let fs = Fs::mount(connect().unwrap(), &MountOptions::new()).unwrap();
        fs.write("/file", "text").unwrap();
        assert!(bed.known().is_connected);
    }
}

/// Orders, references, and the bytes by which either side says what it wants: whatever a client writes there while it is served,
/// it is served, and another client, too.
#[test]
fn a_client_that_writes_over_its_page_is_served_all_the_same() {
    let bed = Bed::new();
    serve(&bed.serving, "vchan!5!t").unwrap();
    bed.fake.settle();
    let node = format!("{PUBLISHED}/ring-ref");
    let page = bed.fake.dom0().read_text(&node).unwrap().parse().unwrap();
    let fs = mount(&bed.client, "t").unwrap();
    let page = bed.fake.domain(CLIENT).map_grant(SERVER, page, true);
    let page = page.unwrap();
    let mut random = Random::new(14);
    for round in 0..100 {
        page.store(16, random.below(1 << 32) as u32);
        // Both sides are there, and want anything.
        page.store(20, 0x0101 | (random.below(65_536) as u32) << 16);
        for at in (24..64).step_by(4) {
            page.store(at, random.below(1 << 20) as u32);
        }
        let name = format!("/{}", round % 7);
        fs.write(&name, format!("{round}")).unwrap();
        assert_eq!(fs.read_to_string(&name).unwrap(), format!("{round}"));
        assert_eq!(bed.beside.read_to_string("/file").unwrap(), "beside");
    }
    assert!(bed.known().is_connected);
    assert_eq!(bed.known().error, None);
}
