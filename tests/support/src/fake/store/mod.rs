//! A small xenstored: the real protocol over the real rings, and faults on demand.

mod change;
mod tree;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ptr::NonNull;
use std::rc::Rc;

use xen9p::hypercall::DomId;
use xen9p::platform::Page;
use xen9p::xen::store::wire::{HEADER_SIZE, Header, Kind, PAYLOAD_MAX, decimal, strings};
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

impl Connection {
    fn say(&mut self, kind: Kind, (request, transaction): (u32, u32), payload: &[u8]) {
        let header = Header {
            kind,
            request,
            transaction,
            length: payload.len() as u32,
        };
        self.output.extend(header.encode());
        self.output.extend(payload);
    }

    /// Says that `path` may have changed, as the watch wants to hear it.
    fn event(&mut self, index: usize, path: &str, home: &str) {
        let watch = &self.watches[index];
        let path = match path.strip_prefix(home) {
            Some(relative) if watch.relative => relative.trim_start_matches('/'),
            _ => path,
        };
        let payload = [path.as_bytes(), b"\0", &watch.token, b"\0"].concat();
        self.say(Kind::WATCH_EVENT, (0, 0), &payload);
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

/// What comes over the rings.
impl Server {
    /// Changes the tree and tells those who watch.
    fn change(&mut self, who: DomId, change: Change) -> Result<(), Refused> {
        if change.apply(&mut self.tree, who)? {
            let removed = matches!(change, Change::Rm(_));
            self.tell(change.path(), removed);
        }
        Ok(())
    }

    fn tell(&mut self, path: &str, removed: bool) {
        for (&id, connection) in &mut self.connections {
            for index in 0..connection.watches.len() {
                let watched = connection.watches[index].path.clone();
                if is_below(path, &watched) {
                    connection.event(index, path, &home(id));
                } else if removed && is_below(&watched, path) {
                    connection.event(index, &watched, &home(id));
                } else {
                    continue;
                }
                connection.awake = true;
            }
        }
    }

    /// Handles whole requests in a connection's input.
    fn handle_input(&mut self, id: DomId) {
        loop {
            let connection = self.connections.get_mut(&id).expect("being served");
            let Some(head) = connection.input.first_chunk::<HEADER_SIZE>() else {
                return;
            };
            let header = Header::decode(head);
            let length = header.length as usize;
            assert!(length <= PAYLOAD_MAX, "xenstored drops who sends this");
            if connection.input.len() < HEADER_SIZE + length {
                return;
            }
            let mut message: Vec<u8> = connection.input.drain(..HEADER_SIZE + length).collect();
            let payload = message.split_off(HEADER_SIZE);
            for _ in 0..self.faults.spurious_events {
                if let Some(watch) = connection.watches.first() {
                    let path = watch.path.clone();
                    connection.event(0, &path, &home(id));
                }
            }
            let answer = match self.faults.refuse.get(&header.kind) {
                Some(name) => Err(*name),
                None => self.handle(id, header, &payload),
            };
            let connection = self.connections.get_mut(&id).expect("being served");
            let ids = (header.request, header.transaction);
            match answer {
                Ok(payload) => connection.say(header.kind, ids, &payload),
                Err(name) => {
                    connection.say(Kind::ERROR, ids, &[name.as_bytes(), b"\0"].concat());
                }
            }
            if header.kind == Kind::WATCH && !self.faults.events_first && answer_is_ok(connection) {
                self.first_event(id);
            }
        }
    }

    /// The event that each new watch gets at once.
    fn first_event(&mut self, id: DomId) {
        let connection = self.connections.get_mut(&id).expect("being served");
        if let Some(index) = connection.watches.len().checked_sub(1) {
            let path = connection.watches[index].path.clone();
            connection.event(index, &path, &home(id));
        }
    }

    fn handle(&mut self, id: DomId, header: Header, payload: &[u8]) -> Result<Vec<u8>, Refused> {
        let ok = b"OK\0".to_vec();
        let args: Vec<&[u8]> = strings(payload).collect();
        let text = |index: usize| -> Result<String, Refused> {
            let bytes = args.get(index).ok_or("EINVAL")?;
            String::from_utf8(bytes.to_vec()).map_err(|_| "EINVAL")
        };
        let path = |index| text(index).map(|path| absolute(id, &path));
        match header.kind {
            Kind::READ => self.look(id, header, &path(0)?)?.read(id, &path(0)?),
            Kind::DIRECTORY => {
                let (names, _) = self.look(id, header, &path(0)?)?.list(id, &path(0)?)?;
                let listing = listing(&names);
                if listing.len() > PAYLOAD_MAX {
                    return Err("E2BIG");
                }
                Ok(listing)
            }
            Kind::DIRECTORY_PART => self.directory_part(id, header, &path(0)?, &text(1)?),
            Kind::GET_PERMS => {
                let list = self
                    .look(id, header, &path(0)?)?
                    .permissions(id, &path(0)?)?;
                let names: Vec<String> = list.iter().map(Permission::encode).collect();
                Ok(listing(&names))
            }
            Kind::WRITE => {
                let end = payload.iter().position(|&byte| byte == 0).ok_or("EINVAL")?;
                let change = Change::Write(path(0)?, payload[end + 1..].into());
                self.change_in(id, header, change).map(|()| ok)
            }
            Kind::MKDIR => {
                let change = Change::Mkdir(path(0)?);
                self.change_in(id, header, change).map(|()| ok)
            }
            Kind::RM => {
                let change = Change::Rm(path(0)?);
                self.change_in(id, header, change).map(|()| ok)
            }
            Kind::SET_PERMS => {
                let list: Result<Vec<Permission>, _> = args[1..]
                    .iter()
                    .map(|text| Permission::decode(text))
                    .collect();
                let change = Change::Permissions(path(0)?, list.map_err(|_| "EINVAL")?);
                self.change_in(id, header, change).map(|()| ok)
            }
            Kind::WATCH => {
                let watch = Watch {
                    path: path(0)?,
                    relative: !text(0)?.starts_with('/'),
                    token: args.get(1).ok_or("EINVAL")?.to_vec(),
                };
                self.watch(id, watch).map(|()| ok)
            }
            Kind::UNWATCH => {
                let path = path(0)?;
                let token = args.get(1).ok_or("EINVAL")?;
                let watches = &mut self.connection(id).watches;
                let found = watches
                    .iter()
                    .position(|watch| watch.path == path && watch.token == *token);
                watches.remove(found.ok_or("ENOENT")?);
                Ok(ok)
            }
            Kind::RESET_WATCHES => {
                let connection = self.connection(id);
                connection.watches.clear();
                connection.transactions.clear();
                Ok(ok)
            }
            Kind::TRANSACTION_START => self.start(id),
            Kind::TRANSACTION_END => {
                let commit = match payload {
                    b"T\0" => true,
                    b"F\0" => false,
                    _ => return Err("EINVAL"),
                };
                self.end(id, header.transaction, commit).map(|()| ok)
            }
            _ => Err("ENOSYS"),
        }
    }

    fn connection(&mut self, id: DomId) -> &mut Connection {
        self.connections.get_mut(&id).expect("being served")
    }

    fn watch(&mut self, id: DomId, watch: Watch) -> Result<(), Refused> {
        let watches = &mut self.connection(id).watches;
        if watches.len() >= WATCHES_MAX {
            return Err("E2BIG");
        }
        if watches
            .iter()
            .any(|other| other.path == watch.path && other.token == watch.token)
        {
            return Err("EEXIST");
        }
        watches.push(watch);
        if self.faults.events_first {
            self.first_event(id);
        }
        Ok(())
    }

    /// The tree that a request sees, with a note that it looked at `path`.
    fn look(&mut self, id: DomId, header: Header, path: &str) -> Result<&Tree, Refused> {
        if header.transaction == 0 {
            return Ok(&self.tree);
        }
        let transactions = &mut self.connection(id).transactions;
        let transaction = transactions.get_mut(&header.transaction).ok_or("ENOENT")?;
        transaction.looked_at.insert(path.into());
        Ok(&transaction.tree)
    }

    fn change_in(&mut self, id: DomId, header: Header, change: Change) -> Result<(), Refused> {
        if header.transaction == 0 {
            return self.change(id, change);
        }
        let transactions = &mut self.connection(id).transactions;
        let transaction = transactions.get_mut(&header.transaction).ok_or("ENOENT")?;
        change.apply(&mut transaction.tree, id)?;
        transaction.looked_at.insert(change.path().into());
        transaction.changes.push(change);
        Ok(())
    }

    fn start(&mut self, id: DomId) -> Result<Vec<u8>, Refused> {
        let tree = self.tree.clone();
        let connection = self.connection(id);
        if connection.transactions.len() >= 10 {
            return Err("ENOSPC");
        }
        connection.last_transaction += 1;
        let number = connection.last_transaction;
        connection.transactions.insert(
            number,
            Transaction {
                original: tree.clone(),
                tree,
                looked_at: BTreeSet::new(),
                changes: Vec::new(),
            },
        );
        Ok(format!("{number}\0").into_bytes())
    }

    fn end(&mut self, id: DomId, number: u32, commit: bool) -> Result<(), Refused> {
        let transactions = &mut self.connection(id).transactions;
        let transaction = transactions.remove(&number).ok_or("ENOENT")?;
        if !commit {
            return Ok(());
        }
        if self.faults.conflicts > 0 {
            self.faults.conflicts -= 1;
            return Err("EAGAIN");
        }
        let Transaction {
            original,
            looked_at,
            changes,
            ..
        } = transaction;
        let changed = |path: &String| self.tree.generation_of(path) != original.generation_of(path);
        if looked_at.iter().any(changed) {
            return Err("EAGAIN");
        }
        for change in changes {
            self.change(id, change)?;
        }
        Ok(())
    }

    fn directory_part(
        &mut self,
        id: DomId,
        header: Header,
        path: &str,
        offset: &str,
    ) -> Result<Vec<u8>, Refused> {
        let offset = decimal(offset.as_bytes()).ok_or("EINVAL")? as usize;
        if offset > 0 && self.faults.listing_changes > 0 {
            self.faults.listing_changes -= 1;
            self.tree.touch(path);
        }
        let (names, generation) = self.look(id, header, path)?.list(id, path)?;
        let all = listing(&names);
        let mut part = format!("{generation}\0").into_bytes();
        let mut rest = all.get(offset..).ok_or("EINVAL")?;
        while let Some(end) = rest.iter().position(|&byte| byte == 0) {
            if part.len() + end + 2 > PAYLOAD_MAX {
                return Ok(part);
            }
            part.extend_from_slice(&rest[..=end]);
            rest = &rest[end + 1..];
        }
        part.push(0);
        Ok(part)
    }
}

/// Whether what was said last is no error.
fn answer_is_ok(connection: &Connection) -> bool {
    let ok: VecDeque<u8> = b"OK\0".iter().copied().collect();
    connection.output.len() >= ok.len()
        && connection
            .output
            .iter()
            .skip(connection.output.len() - ok.len())
            .eq(ok.iter())
}

/// Strings that each end with NUL.
fn listing(names: &[String]) -> Vec<u8> {
    names
        .iter()
        .flat_map(|name| name.bytes().chain([0]))
        .collect()
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
