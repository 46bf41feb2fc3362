//! A simulated Xen, in one thread and with a clock of its own: what a test does comes out the same
//! every time.
//!
//! [`FakeXen`] is the machine. It has domains, real pages, grant tables in the real layout, event
//! channels, a xenstored that serves the real ring protocol, a console reader, and [`Peer`]s:
//! whatever else takes part, such as backends. [`FakeXen::platform`] is a domain seen from inside,
//! for the drivers under test; [`FakeXen::domain`] is a domain seen from outside, for backends.
//!
//! Nothing runs by itself. When a domain waits ([`Platform::wait`](xen9p::platform::Platform)),
//! xenstored, console and peers take turns until an event for it comes; when none of them has anything
//! to do, the clock jumps to the deadline. A wait without deadline that no event will ever end is a
//! panic, not a hang.

mod argo;
mod console;
mod domain;
mod event;
mod grant;
mod host;
mod life;
mod memory;
mod platform;
mod store;
mod window;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::Duration;

use xen9p::hypercall::{DomId, XenError};
use xen9p::platform::{BuilderRing, DomainState, Page};
use xen9p::time::Instant;

use self::console::ConsoleServer;
use self::event::Channels;
use self::memory::Memory;
use self::store::Server;
use self::window::Windows;

pub use argo::Refusal;
pub(crate) use domain::grants;
pub use domain::{DeviceSpec, FakeDomain};
pub use grant::{MapError, MappedGrant};
pub use platform::FakePlatform;
pub use store::StoreFaults;

/// What one look at the clock costs, so that who looks at it in a loop gets to the end.
const TICK: u64 = 100;

/// What one turn of everybody costs.
const TURN: u64 = 10_000;

/// The wall clock when the machine starts.
const EPOCH: u64 = 1_700_000_000_000_000_000;

/// A participant of the simulated world: a backend, a toolstack, a nuisance.
pub trait Peer {
    /// Does what there is to do now, without blocking, and returns whether there was anything.
    /// Called in turn with everybody else, whenever a domain waits.
    fn step(&mut self, xen: &FakeXen) -> bool;

    /// When this peer will do something by itself, if it will.
    fn wakes_at(&self) -> Option<Instant> {
        None
    }
}

/// What a domain holds at the moment: all of it has to be back where it was when its drivers have
/// gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Pages allocated.
    pub pages: usize,
    /// Valid entries in the grant table.
    pub grants: usize,
    /// Open ports, those of the builder included.
    pub ports: usize,
    /// Watches.
    pub watches: usize,
}

/// What a domain's drivers have asked of its platform so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Hypercalls, but those of waits.
    pub hypercalls: u64,
    /// Looks at the clock.
    pub clock_reads: u64,
    /// Waits for events, those that found one at hand included.
    pub waits: u64,
}

struct Domain {
    grant_frames: Vec<NonNull<Page>>,
    max_grant_frames: u32,
    max_pages: usize,
    store_ring: Option<BuilderRing>,
    console_ring: Option<BuilderRing>,
    console: Option<ConsoleServer>,
    shutdown: Option<u32>,
    /// The toolstack lets the next suspend return where it was.
    cancels_suspend: bool,
    hypervisor_log: Vec<u8>,
    /// Its page tables are Xen's business.
    is_pv: bool,
    /// Pages of others that Xen lets it map.
    max_maps: usize,
    /// What the domain's drivers keep.
    drivers: Rc<DomainState>,
    /// Hypercalls that it made, by number and operation.
    hypercalls: BTreeMap<(u32, u32), u64>,
    asked: Asked,
    /// Bytes that Xen copied for it, between grants or into rings of Argo.
    copied_by_xen: u64,
}

/// A hypercall that will fail.
struct PlannedFailure {
    number: u32,
    op: u32,
    after: u32,
    error: XenError,
}

struct World {
    clock: Cell<u64>,
    memory: RefCell<Memory>,
    channels: RefCell<Channels>,
    domains: RefCell<BTreeMap<DomId, Domain>>,
    /// How often each grant is mapped: in all, and for writing.
    maps: RefCell<BTreeMap<(DomId, u32), (usize, usize)>>,
    windows: RefCell<Windows>,
    store: RefCell<Server>,
    peers: RefCell<Vec<Rc<RefCell<dyn Peer>>>>,
    failures: RefCell<Vec<PlannedFailure>>,
    /// Copies that will be refused: so many copies from now, and the `GNTST_*`.
    refused_copies: RefCell<Vec<(u32, i16)>>,
    argo: RefCell<argo::Argo>,
}

impl World {
    fn tick(&self) -> Instant {
        self.clock.set(self.clock.get() + TICK);
        Instant::from_nanos(self.clock.get())
    }

    /// Looks at a domain.
    ///
    /// # Panics
    /// There is no such domain.
    fn with_domain<T>(&self, id: DomId, look: impl FnOnce(&mut Domain) -> T) -> T {
        let mut domains = self.domains.borrow_mut();
        look(domains.get_mut(&id).expect("the domain exists"))
    }

    fn planned_failure(&self, number: u32, op: usize) -> Option<XenError> {
        let mut failures = self.failures.borrow_mut();
        let index = failures
            .iter()
            .position(|failure| failure.number == number && failure.op as usize == op)?;
        if failures[index].after > 0 {
            failures[index].after -= 1;
            return None;
        }
        Some(failures.remove(index).error)
    }

    /// Gives everybody a turn. Returns whether anybody did anything.
    fn step(self: &Rc<Self>) -> bool {
        let xen = FakeXen {
            world: Rc::clone(self),
        };
        let mut busy = store::step(self);
        busy |= console::step(self);
        let peers = self.peers.borrow().clone();
        for peer in peers {
            // One that waits in its turn is not given another on top of it.
            if let Ok(mut peer) = peer.try_borrow_mut() {
                busy |= peer.step(&xen);
            }
        }
        self.clock.set(self.clock.get() + TURN);
        busy
    }

    /// Lets the world run until `done` or `deadline`.
    fn run_until(self: &Rc<Self>, deadline: Instant, done: impl Fn() -> bool) {
        loop {
            if done() || self.clock.get() >= deadline.as_nanos() {
                return;
            }
            if self.step() || done() {
                continue;
            }
            let now = self.clock.get();
            let peers = self.peers.borrow();
            let wakes = peers
                .iter()
                .filter_map(|peer| peer.try_borrow().ok()?.wakes_at());
            let next = wakes
                .map(Instant::as_nanos)
                .filter(|&at| at > now)
                .fold(deadline.as_nanos(), u64::min);
            assert!(
                next != u64::MAX,
                "a domain waits for ever: no participant has anything to do"
            );
            self.clock.set(next.max(now));
        }
    }
}

/// The simulated machine. Clones are the same machine.
#[derive(Clone)]
pub struct FakeXen {
    world: Rc<World>,
}

impl Default for FakeXen {
    fn default() -> Self {
        FakeXen::new()
    }
}

impl fmt::Debug for FakeXen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeXen")
            .field("clock", &self.world.clock.get())
            .finish_non_exhaustive()
    }
}

impl FakeXen {
    /// A machine on which domain 0 runs, with xenstored in it.
    pub fn new() -> Self {
        let xen = FakeXen {
            world: Rc::new(World {
                // Not 0: who takes "now" for "never" is found out.
                clock: Cell::new(1_000_000_000),
                memory: RefCell::default(),
                channels: RefCell::default(),
                domains: RefCell::default(),
                maps: RefCell::default(),
                windows: RefCell::default(),
                store: RefCell::default(),
                peers: RefCell::default(),
                failures: RefCell::default(),
                refused_copies: RefCell::default(),
                argo: RefCell::default(),
            }),
        };
        xen.insert(DomId(0));
        xen
    }

    /// Makes a domain a PV one: Xen keeps its page tables, and shows mapped pages in them by itself.
    pub fn make_pv(&self, id: DomId) {
        self.world.with_domain(id, |domain| domain.is_pv = true);
    }

    /// Sets how many pages of others Xen lets a domain map.
    pub fn limit_maps(&self, id: DomId, pages: usize) {
        self.world.with_domain(id, |domain| domain.max_maps = pages);
    }

    /// A domain as seen from inside.
    pub fn platform(&self, id: DomId) -> FakePlatform {
        FakePlatform::new(Rc::clone(&self.world), id)
    }

    /// A domain as seen from inside by another program, which was loaded over the one before: it knows nothing of that
    /// one's drivers.
    pub fn next_program(&self, id: DomId) -> FakePlatform {
        self.world
            .with_domain(id, |domain| domain.drivers = Rc::default());
        self.platform(id)
    }

    /// Has the domain's next suspend be cancelled: it goes on where it was.
    pub fn cancel_suspend(&self, id: DomId) {
        self.world
            .with_domain(id, |domain| domain.cancels_suspend = true);
    }

    /// A domain as seen from outside: what a backend in it can do.
    pub fn domain(&self, id: DomId) -> FakeDomain {
        FakeDomain::new(Rc::clone(&self.world), id)
    }

    /// Domain 0.
    pub fn dom0(&self) -> FakeDomain {
        self.domain(DomId(0))
    }

    /// Adds a participant.
    pub fn add_peer(&self, peer: impl Peer + 'static) {
        self.share_peer(Rc::new(RefCell::new(peer)));
    }

    /// As [`add_peer`](Self::add_peer), for a peer that the test looks into later.
    pub fn share_peer(&self, peer: Rc<RefCell<impl Peer + 'static>>) {
        self.world.peers.borrow_mut().push(peer);
    }

    /// Sends all peers away.
    pub fn remove_peers(&self) {
        // Dropped with no borrow held: they own mappings of this machine.
        let peers = self.world.peers.take();
        drop(peers);
    }

    /// The time now, which costs nothing to ask for here.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(self.world.clock.get())
    }

    /// Lets the world run for `time` while no domain does anything.
    pub fn run_for(&self, time: Duration) {
        self.world.run_until(self.now() + time, || false);
    }

    /// Lets the world run until no participant has anything to do (for a second at most).
    pub fn settle(&self) {
        let end = self.now() + Duration::from_secs(1);
        while self.now() < end && self.world.step() {}
    }

    /// What a domain holds.
    pub fn usage(&self, id: DomId) -> Usage {
        Usage {
            pages: self.world.memory.borrow().pages(id),
            grants: self.world.active_grants(id).len(),
            ports: self.world.channels.borrow().ports_of(id).len(),
            watches: self.world.store.borrow().watches(id),
        }
    }

    /// Hypercalls that a domain has made so far, by number and operation.
    pub fn hypercalls(&self, id: DomId) -> BTreeMap<(u32, u32), u64> {
        self.world
            .with_domain(id, |domain| domain.hypercalls.clone())
    }

    /// What a domain's drivers have asked of its platform so far.
    pub fn asked(&self, id: DomId) -> Asked {
        self.world.with_domain(id, |domain| domain.asked)
    }

    /// Bytes that Xen has copied so far, between grants or into rings of Argo, because a domain asked for it.
    pub fn copied_by_xen(&self, id: DomId) -> u64 {
        self.world.with_domain(id, |domain| domain.copied_by_xen)
    }

    /// Pages that domains gave back with something in them.
    pub fn dirty_frees(&self) -> usize {
        self.world.memory.borrow().dirty_frees
    }

    /// With which reason (`SHUTDOWN_*`) a domain stopped, if it did.
    pub fn shutdown_reason(&self, id: DomId) -> Option<u32> {
        self.world.with_domain(id, |domain| domain.shutdown)
    }

    /// What a domain wrote to Xen's own console.
    pub fn hypervisor_log(&self, id: DomId) -> Vec<u8> {
        self.world
            .with_domain(id, |domain| domain.hypervisor_log.clone())
    }

    /// Sets how many pages a domain can allocate.
    pub fn limit_pages(&self, id: DomId, pages: usize) {
        self.world
            .with_domain(id, |domain| domain.max_pages = pages);
    }

    /// Sets how many frames a domain's grant table can have.
    pub fn limit_grant_frames(&self, id: DomId, frames: u32) {
        self.world
            .with_domain(id, |domain| domain.max_grant_frames = frames);
    }

    /// Lets operation `op` of hypercall `number` fail once, after `after` more that don't.
    pub fn fail_hypercall(&self, number: u32, op: u32, after: u32, error: XenError) {
        self.world.failures.borrow_mut().push(PlannedFailure {
            number,
            op,
            after,
            error,
        });
    }

    /// Raises virtual interrupt `virq` in a domain.
    pub fn raise_virq(&self, id: DomId, virq: u32) {
        self.world.channels.borrow_mut().raise_virq(id, virq);
    }

    /// Changes what xenstored does wrong.
    pub fn store_faults(&self, change: impl FnOnce(&mut StoreFaults)) {
        change(&mut self.world.store.borrow_mut().faults);
    }

    /// Sends bytes to a domain as if xenstored had said them.
    pub fn inject_store_bytes(&self, id: DomId, bytes: &[u8]) {
        self.world.store.borrow_mut().inject(id, bytes);
    }

    /// Everything that was read from a domain's console so far.
    pub fn console_output(&self, id: DomId) -> Vec<u8> {
        self.with_console(id, |console| console.output.clone())
    }

    /// Types on a domain's console.
    pub fn console_input(&self, id: DomId, bytes: &[u8]) {
        self.with_console(id, |console| console.input.extend(bytes));
    }

    /// Stops or starts the reader of a domain's console.
    pub fn stall_console(&self, id: DomId, stalled: bool) {
        self.with_console(id, |console| console.stalled = stalled);
    }

    fn with_console<T>(&self, id: DomId, look: impl FnOnce(&mut ConsoleServer) -> T) -> T {
        self.world.with_domain(id, |domain| {
            look(domain.console.as_mut().expect("the domain has a console"))
        })
    }
}
