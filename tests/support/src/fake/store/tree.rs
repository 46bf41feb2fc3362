//! The tree of nodes, with permissions, as xenstored keeps it.

use std::collections::{BTreeMap, BTreeSet};

use xen9p::hypercall::DomId;
use xen9p::xen::store::{Access, Permission};

/// What a request is refused with: the name on the wire.
pub(super) type Refused = &'static str;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    value: Vec<u8>,
    permissions: Vec<Permission>,
    /// Those of them whose domain did not exist when they were set, which have no effect ever.
    ignored: BTreeSet<DomId>,
    /// The tree's generation when the node, or the list of its children, last changed.
    generation: u64,
}

/// All nodes. Domain 0 may do anything.
#[derive(Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
    /// The domains that there are.
    pub(super) domains: BTreeSet<DomId>,
    pub(super) generation: u64,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node {
            value: Vec::new(),
            permissions: vec![Permission {
                domain: DomId(0),
                access: Access::None,
            }],
            ignored: BTreeSet::new(),
            generation: 0,
        };
        Tree {
            nodes: BTreeMap::from([("/".into(), root)]),
            domains: BTreeSet::from([DomId(0)]),
            generation: 0,
        }
    }
}

/// The path above; `/` is above itself.
fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}

impl Node {
    fn allows(&self, who: DomId, write: bool) -> bool {
        let Some((owner, others)) = self.permissions.split_first() else {
            return who == DomId(0);
        };
        let listed = others
            .iter()
            .find(|entry| entry.domain == who && !self.ignored.contains(&who));
        let access = listed.unwrap_or(owner).access;
        who == DomId(0)
            || owner.domain == who
            || access == Access::Both
            || access == if write { Access::Write } else { Access::Read }
    }
}

impl Tree {
    fn get(&self, who: DomId, path: &str, write: bool) -> Result<&Node, Refused> {
        let node = self.nodes.get(path).ok_or_else(|| {
            // Whether a node exists is told only to those who may read what is above it.
            let mut above = parent(path);
            while !self.nodes.contains_key(above) {
                above = parent(above);
            }
            if self.nodes[above].allows(who, false) {
                "ENOENT"
            } else {
                "EACCES"
            }
        })?;
        if node.allows(who, write) {
            Ok(node)
        } else {
            Err("EACCES")
        }
    }

    pub(super) fn read(&self, who: DomId, path: &str) -> Result<Vec<u8>, Refused> {
        self.get(who, path, false).map(|node| node.value.clone())
    }

    pub(super) fn permissions(&self, who: DomId, path: &str) -> Result<Vec<Permission>, Refused> {
        self.get(who, path, false)
            .map(|node| node.permissions.clone())
    }

    /// The names below a node, and the generation they are from.
    pub(super) fn list(&self, who: DomId, path: &str) -> Result<(Vec<String>, u64), Refused> {
        let generation = self.get(who, path, false)?.generation;
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let below = self
            .nodes
            .range(prefix.clone()..)
            .map_while(|(key, _)| key.strip_prefix(&prefix));
        let names = below.filter(|name| !name.is_empty() && !name.contains('/'));
        Ok((names.map(String::from).collect(), generation))
    }

    /// When a node last changed; `None` when it is not there.
    pub(super) fn generation_of(&self, path: &str) -> Option<u64> {
        self.nodes.get(path).map(|node| node.generation)
    }

    /// Marks a node as changed.
    pub(super) fn touch(&mut self, path: &str) {
        self.generation += 1;
        let generation = self.generation;
        if let Some(node) = self.nodes.get_mut(path) {
            node.generation = generation;
        }
    }

    /// Makes a node and those above it, as far as they don't exist.
    fn make(&mut self, who: DomId, path: &str) -> Result<(), Refused> {
        if self.nodes.contains_key(path) {
            return Ok(());
        }
        let above = parent(path).to_string();
        if !self.nodes.contains_key(&above) {
            self.make(who, &above)?;
        } else if !self.nodes[&above].allows(who, true) {
            return Err("EACCES");
        }
        let Node {
            mut permissions,
            ignored,
            ..
        } = self.nodes[&above].clone();
        if who != DomId(0) {
            permissions[0].domain = who;
        }
        self.touch(&above);
        let node = Node {
            value: Vec::new(),
            permissions,
            ignored,
            generation: self.generation,
        };
        self.nodes.insert(path.into(), node);
        Ok(())
    }

    pub(super) fn write(&mut self, who: DomId, path: &str, value: &[u8]) -> Result<(), Refused> {
        if value.len() > 2048 {
            return Err("ENOSPC");
        }
        self.make(who, path)?;
        self.get(who, path, true)?;
        self.touch(path);
        self.nodes.get_mut(path).expect("made above").value = value.to_vec();
        Ok(())
    }

    /// Makes a node; returns whether it is new.
    pub(super) fn mkdir(&mut self, who: DomId, path: &str) -> Result<bool, Refused> {
        let new = !self.nodes.contains_key(path);
        self.make(who, path)?;
        Ok(new)
    }

    /// Removes a node and what is below it; returns whether it was there.
    pub(super) fn rm(&mut self, who: DomId, path: &str) -> Result<bool, Refused> {
        if path == "/" {
            return Err("EINVAL");
        }
        if !self.nodes.contains_key(path) {
            // No error as long as the node above it is there.
            let above = self.nodes.contains_key(parent(path));
            return if above { Ok(false) } else { Err("ENOENT") };
        }
        self.get(who, path, true)?;
        let prefix = format!("{path}/");
        self.nodes
            .retain(|key, _| key != path && !key.starts_with(&prefix));
        self.touch(parent(path));
        Ok(true)
    }

    pub(super) fn set_permissions(
        &mut self,
        who: DomId,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), Refused> {
        let node = self.get(who, path, true)?;
        if who != DomId(0) && node.permissions[0].domain != who {
            return Err("EACCES");
        }
        if permissions.is_empty() {
            return Err("EINVAL");
        }
        self.touch(path);
        let node = self.nodes.get_mut(path).expect("looked at above");
        node.permissions = permissions.to_vec();
        let named = permissions.iter().map(|entry| entry.domain);
        node.ignored = named.filter(|id| !self.domains.contains(id)).collect();
        Ok(())
    }
}
