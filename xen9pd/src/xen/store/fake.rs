//! A xenstored for tests: nodes in memory, one connection, no permissions. It sends no events.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use super::Store;
use super::wire::{Header, Kind};

/// What it knows. Clones are the same.
#[derive(Clone, Default)]
pub struct World(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    nodes: BTreeMap<String, Vec<u8>>,
    domains: BTreeSet<u16>,
    /// Requests until now.
    questions: usize,
}

impl Known {
    /// The nodes above are there from then on, too.
    fn write(&mut self, path: &str, value: &str) {
        for (end, _) in path.match_indices('/').filter(|(end, _)| *end > 0) {
            self.nodes.entry(path[..end].into()).or_default();
        }
        self.nodes.insert(path.into(), value.into());
    }

    fn names(&self, path: &str) -> Option<Vec<u8>> {
        self.nodes.get(path)?;
        let below = format!("{path}/");
        let nodes = self
            .nodes
            .keys()
            .filter_map(|name| name.strip_prefix(&below));
        let names = nodes.filter(|name| !name.contains('/'));
        Some(
            names
                .flat_map(|name| [name.as_bytes(), b"\0"].concat())
                .collect(),
        )
    }

    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        let gone = |name: &String| name == path || name.starts_with(&below);
        self.nodes.retain(|name, _| !gone(name));
    }
}

impl World {
    /// A connection to it.
    pub fn connect(&self) -> Store {
        let (own, mut theirs) = UnixStream::pair().unwrap();
        let world = self.clone();
        thread::spawn(move || {
            let mut header = [0; 16];
            while theirs.read_exact(&mut header).is_ok() {
                let mut header = Header::decode(&header);
                let mut payload = vec![0; header.length as usize];
                theirs.read_exact(&mut payload).unwrap();
                let answer = world.answer(header.kind, &payload).unwrap_or_else(|| {
                    header.kind = Kind::ERROR;
                    b"ENOENT\0".to_vec()
                });
                header.length = answer.len() as u32;
                let message = [&header.encode()[..], &answer].concat();
                theirs.write_all(&message).unwrap();
            }
        });
        Store::on(File::from(OwnedFd::from(own)), "")
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }

    /// Writes a node.
    pub fn write(&self, path: &str, value: &str) {
        self.known().write(path, value);
    }

    /// Removes a node with all below it.
    pub fn remove(&self, path: &str) {
        self.known().remove(path);
    }

    /// The value of a node.
    pub fn text(&self, path: &str) -> Option<String> {
        let value = self.known().nodes.get(path).cloned();
        value.map(|value| String::from_utf8(value).unwrap())
    }

    /// How many requests there were.
    pub fn questions(&self) -> usize {
        self.known().questions
    }

    /// Says whether a domain is there.
    pub fn set_alive(&self, domain: u16, alive: bool) {
        let domains = &mut self.known().domains;
        match alive {
            true => domains.insert(domain),
            false => domains.remove(&domain),
        };
    }

    fn answer(&self, kind: Kind, payload: &[u8]) -> Option<Vec<u8>> {
        let text = String::from_utf8(payload.to_vec()).unwrap();
        let (path, value) = text.split_once('\0').unwrap_or((&text, ""));
        let mut known = self.known();
        known.questions += 1;
        match kind {
            Kind::DIRECTORY => known.names(path),
            Kind::READ => known.nodes.get(path).cloned(),
            Kind::WRITE => {
                known.write(path, value);
                Some(b"OK\0".to_vec())
            }
            Kind::RM => {
                known.remove(path);
                Some(b"OK\0".to_vec())
            }
            Kind::TRANSACTION_START => Some(b"1\0".to_vec()),
            Kind::TRANSACTION_END | Kind::WATCH | Kind::UNWATCH => Some(b"OK\0".to_vec()),
            Kind(xen_abi::XS_IS_DOMAIN_INTRODUCED) => {
                let is_there = known.domains.contains(&path.parse().unwrap());
                Some(if is_there { b"T\0" } else { b"F\0" }.to_vec())
            }
            other => panic!("this xenstored does not know {other:?}"),
        }
    }
}
