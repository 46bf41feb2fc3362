//! A small xenstored: the real protocol over the real rings, and faults on demand.

mod change;
mod requests;
mod tree;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ptr::NonNull;
use std::rc::Rc;

use xen9p::hypercall::DomId;
use xen9p::platform::Page;
use xen9p::xen::store::wire::{Header, Kind};
use xen9p::xen::store::{Access, Permission};

use self::change::Change;
use self::tree::{Refused, Tree};
use super::World;
use super::console::RingPage;

const RING_SIZE: u32 = 1024;
const REQUESTS: (usize, u32) = (0, RING_SIZE);
const ANSWERS: (usize, u32) = (1024, RING_SIZE);
const REQ: (usize, usize) = (2048, 2052);
const RSP: (usize, usize) = (2056, 2060);

/// Watches that a domain may have.
const WATCHES_MAX: usize = 128;

/// What xenstored does wrong, or at least in an unusual way.
#[derive(Clone, Debug)]
pub struct StoreFaults {
    /// Bytes moved per direction and turn.
    pub chunk: usize,
    /// Commits of guests that will meet another transaction.
    pub conflicts: u32,
    /// Listings that will change while they are read.
    pub listing_changes: u32,
    /// Don't serve anybody.
    pub mute: bool,
    /// Send the first event of a watch before the answer to the request, not after it.
    pub events_first: bool,
    /// Send this many events that no change caused before each answer to a domain with a watch.
    pub spurious_events: usize,
    /// Refuse requests of these kinds with these names.
    pub refuse: BTreeMap<Kind, &'static str>,
}

impl Default for StoreFaults {
    fn default() -> Self {
        StoreFaults {
            chunk: usize::MAX,
            conflicts: 0,
            listing_changes: 0,
            mute: false,
            events_first: false,
            spurious_events: 0,
            refuse: BTreeMap::new(),
        }
    }
}

struct Transaction {
    /// The tree as it was at the start.
    original: Tree,
    /// The tree as the transaction sees it.
    tree: Tree,
    looked_at: BTreeSet<String>,
    changes: Vec<Change>,
}

struct Watch {
    path: String,
    relative: bool,
    token: Vec<u8>,
}

/// A domain's connection.
struct Connection {
    page: RingPage,
    port: u32,
    awake: bool,
    input: Vec<u8>,
    output: VecDeque<u8>,
    watches: Vec<Watch>,
    transactions: BTreeMap<u32, Transaction>,
    last_transaction: u32,
}

/// A message as it goes over the ring.
fn message(kind: Kind, (request, transaction): (u32, u32), payload: &[u8]) -> Vec<u8> {
    let header = Header {
        kind,
        request,
        transaction,
        length: payload.len() as u32,
    };
    [&header.encode()[..], payload].concat()
}

impl Connection {
    fn say(&mut self, kind: Kind, to: (u32, u32), payload: &[u8]) {
        self.output.extend(message(kind, to, payload));
    }

    /// Says that `path` may have changed, as the watch wants to hear it; unless an event that says the same has not left yet, as
    /// xenstored of Xen 4.17 does (`send_event` in xenstored_core.c).
    fn event(&mut self, index: usize, path: &str, home: &str) {
        let watch = &self.watches[index];
        let path = match path.strip_prefix(home) {
            Some(relative) if watch.relative => relative.trim_start_matches('/'),
            _ => path,
        };
        let payload = [path.as_bytes(), b"\0", &watch.token, b"\0"].concat();
        let event = message(Kind::WATCH_EVENT, (0, 0), &payload);
        let waiting = self.output.make_contiguous();
        if !waiting.windows(event.len()).any(|it| it == event) {
            self.output.extend(event);
        }
    }
}

/// Xenstored.
#[derive(Default)]
pub(super) struct Server {
    tree: Tree,
    connections: BTreeMap<DomId, Connection>,
    pub(super) faults: StoreFaults,
}

fn home(who: DomId) -> String {
    format!("/local/domain/{who}")
}

fn absolute(who: DomId, path: &str) -> String {
    if path.starts_with('/') || path.starts_with('@') {
        path.into()
    } else {
        format!("{}/{path}", home(who))
    }
}

/// Whether `path` is `above` or below it.
fn is_below(path: &str, above: &str) -> bool {
    above == "/"
        || path
            .strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a program in a domain does directly.
impl Server {
    pub(super) fn read(&mut self, who: DomId, path: &str) -> Option<Vec<u8>> {
        self.tree.read(who, &absolute(who, path)).ok()
    }

    pub(super) fn list(&mut self, who: DomId, path: &str) -> Vec<String> {
        let listed = self.tree.list(who, &absolute(who, path));
        listed.map(|(names, _)| names).unwrap_or_default()
    }

    pub(super) fn write(&mut self, who: DomId, path: &str, value: &[u8]) -> Result<(), Refused> {
        self.change(who, Change::Write(absolute(who, path), value.into()))
    }

    pub(super) fn rm(&mut self, who: DomId, path: &str) -> Result<(), Refused> {
        self.change(who, Change::Rm(absolute(who, path)))
    }

    pub(super) fn set_permissions(
        &mut self,
        who: DomId,
        path: &str,
        list: &[Permission],
    ) -> Result<(), Refused> {
        self.change(who, Change::Permissions(absolute(who, path), list.into()))
    }

    pub(super) fn generation(&self) -> u64 {
        self.tree.generation
    }

    pub(super) fn watches(&self, who: DomId) -> usize {
        self.connections
            .get(&who)
            .map_or(0, |connection| connection.watches.len())
    }

    /// Begins to serve a new domain, and makes the nodes that the toolstack would.
    pub(super) fn introduce(&mut self, id: DomId, page: NonNull<Page>, port: u32) {
        let connection = Connection {
            page: RingPage::new(page),
            port,
            awake: true,
            input: Vec::new(),
            output: VecDeque::new(),
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            last_transaction: 0,
        };
        self.connections.insert(id, connection);
        self.tree.domains.insert(id);
        let entry = |domain, access| Permission { domain, access };
        let toolstack = [entry(DomId(0), Access::None), entry(id, Access::Read)];
        let guest = [entry(id, Access::None)];
        let nodes: [(&str, &str, &[Permission]); 11] = [
            ("", "", &toolstack),
            ("/domid", &id.to_string(), &toolstack),
            ("/name", "guest", &toolstack),
            ("/control", "", &toolstack),
            ("/control/shutdown", "", &guest),
            ("/control/feature-poweroff", "", &guest),
            ("/control/feature-reboot", "", &guest),
            ("/control/feature-suspend", "", &guest),
            (
                "/control/platform-feature-xs_reset_watches",
                "1",
                &toolstack,
            ),
            ("/data", "", &guest),
            ("/error", "", &guest),
        ];
        for (name, value, permissions) in nodes {
            let path = format!("{}{name}", home(id));
            for change in [
                Change::Write(path.clone(), value.into()),
                Change::Permissions(path, permissions.into()),
            ] {
                self.change(DomId(0), change)
                    .expect("the toolstack may do anything");
            }
        }
    }

    /// Forgets a domain and its nodes; returns domain 0's end of its port.
    pub(super) fn forget(&mut self, id: DomId) -> u32 {
        let gone = self.connections.remove(&id);
        let gone = gone.expect("the domain has a xenstore");
        self.tree.domains.remove(&id);
        self.change(DomId(0), Change::Rm(home(id)))
            .expect("the toolstack may do anything");
        gone.port
    }

    /// Sends bytes to a domain as they are.
    pub(super) fn inject(&mut self, id: DomId, bytes: &[u8]) {
        let connection = self.connections.get_mut(&id);
        let connection = connection.expect("the domain has a xenstore");
        connection.output.extend(bytes);
        connection.awake = true;
    }
}

/// Serves all domains. Like the real one, it looks at a ring only when it was told to, or has
/// something to say.
pub(super) fn step(world: &Rc<World>) -> bool {
    let mut server = world.store.borrow_mut();
    if server.faults.mute {
        return false;
    }
    let chunk = server.faults.chunk;
    let ids: Vec<DomId> = server.connections.keys().copied().collect();
    let mut busy = false;
    for id in ids {
        let connection = server.connection(id);
        connection.awake |= world
            .channels
            .borrow_mut()
            .take_pending(DomId(0), connection.port);
        if !connection.awake {
            continue;
        }
        let input = connection.page.take(REQUESTS, REQ, chunk);
        connection.input.extend_from_slice(&input);
        server.handle_input(id);
        let connection = server.connection(id);
        let said = connection
            .page
            .put(ANSWERS, RSP, &mut connection.output, chunk);
        // With more to say and no room for it, it sleeps until it is told that there is room.
        let stuck = connection.page.is_full(RING_SIZE, RSP) && !connection.output.is_empty();
        connection.awake = !input.is_empty() || (said > 0 && !stuck);
        if !input.is_empty() || said > 0 {
            // Fails when the domain is gone, which is no concern of xenstored's.
            let _ = world.channels.borrow_mut().send(DomId(0), connection.port);
            busy = true;
        }
    }
    busy
}
