//! How xenstored answers what comes over the rings, which watches it tells of changes, and its transactions.

use std::collections::{BTreeSet, VecDeque};

use xen9p::hypercall::DomId;
use xen9p::xen::store::Permission;
use xen9p::xen::store::wire::{HEADER_SIZE, Header, Kind, PAYLOAD_MAX, decimal, strings};

use super::change::Change;
use super::tree::{Refused, Tree};
use super::{Connection, Server, Transaction, WATCHES_MAX, Watch, absolute, home, is_below};

/// What comes over the rings.
impl Server {
    /// Changes the tree and tells those who watch.
    pub(super) fn change(&mut self, who: DomId, change: Change) -> Result<(), Refused> {
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
    pub(super) fn handle_input(&mut self, id: DomId) {
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

    pub(super) fn connection(&mut self, id: DomId) -> &mut Connection {
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
