//! What the kernel calls by number and the client by path.

use std::collections::HashMap;

/// The number that the kernel knows a file by. Ours, not the server's: a server may use a number
/// again while the kernel still holds the file that had it before.
pub type NodeId = u64;

/// The mount's root, by FUSE's rules.
pub const ROOT: NodeId = 1;

/// A name in a directory.
type Entry = (NodeId, Vec<u8>);

#[derive(Default)]
struct Node {
    /// The server's number.
    ino: u64,
    /// How many times the kernel was told of it, less how many of these it forgot.
    lookups: u64,
    /// All its names that were ever looked up and are still there.
    names: Vec<Entry>,
}

/// All files that the kernel knows.
pub struct Nodes {
    nodes: HashMap<NodeId, Node>,
    by_name: HashMap<Entry, NodeId>,
    by_ino: HashMap<u64, NodeId>,
    last: NodeId,
}

impl Nodes {
    /// Only the root.
    pub fn new() -> Self {
        Nodes {
            nodes: HashMap::from([(ROOT, Node::default())]),
            by_name: HashMap::new(),
            by_ino: HashMap::new(),
            last: ROOT,
        }
    }

    /// The path of a file, by one of its names; `None` when it has lost them all.
    pub fn path(&self, id: NodeId) -> Option<Vec<u8>> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut id = id;
        while id != ROOT {
            let (parent, name) = self.nodes.get(&id)?.names.first()?;
            names.push(name);
            id = *parent;
        }
        names.push(b"");
        names.reverse();
        Some(match names.join(&b'/') {
            root if root.is_empty() => b"/".to_vec(),
            path => path,
        })
    }

    /// The path of a name in a directory.
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<Vec<u8>> {
        let mut path = self.path(parent)?;
        if path != b"/" {
            path.push(b'/');
        }
        path.extend(name);
        Some(path)
    }

    /// Notes that the server's file `ino` was found under this name, and that the kernel will be
    /// told.
    pub fn found(&mut self, parent: NodeId, name: &[u8], ino: u64) -> NodeId {
        let entry = (parent, name.to_vec());
        let id = *self.by_ino.entry(ino).or_insert_with(|| {
            self.last += 1;
            self.last
        });
        if self.by_name.get(&entry) != Some(&id) {
            self.remove_name(&entry);
            self.by_name.insert(entry.clone(), id);
            self.nodes.entry(id).or_default().names.push(entry);
        }
        let node = self.nodes.entry(id).or_default();
        node.ino = ino;
        node.lookups += 1;
        id
    }

    /// The number for a directory listing: the kernel's, if it has one.
    pub fn listed(&self, ino: u64) -> NodeId {
        self.by_ino.get(&ino).copied().unwrap_or(ino)
    }

    /// The kernel has forgotten that many lookups of a file.
    pub fn forget(&mut self, id: NodeId, lookups: u64) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.lookups = node.lookups.saturating_sub(lookups);
        if node.lookups > 0 || id == ROOT {
            return;
        }
        if let Some(node) = self.nodes.remove(&id) {
            self.release_ino(node.ino, id);
            for entry in node.names {
                self.by_name.remove(&entry);
            }
        }
    }

    /// A name was removed; with `last`, the file has no other.
    pub fn removed(&mut self, parent: NodeId, name: &[u8], last: bool) {
        let id = self.remove_name(&(parent, name.to_vec()));
        if let Some((id, node)) = id.and_then(|id| Some((id, self.nodes.get(&id)?)))
            && last
        {
            self.release_ino(node.ino, id);
        }
    }

    /// A name became another. What had the other name has lost it before, by
    /// [`removed`](Self::removed).
    pub fn renamed(&mut self, from: (NodeId, &[u8]), to: (NodeId, &[u8])) {
        let to = (to.0, to.1.to_vec());
        if let Some(id) = self.remove_name(&(from.0, from.1.to_vec())) {
            self.by_name.insert(to.clone(), id);
            self.nodes.entry(id).or_default().names.push(to);
        }
    }

    fn remove_name(&mut self, entry: &Entry) -> Option<NodeId> {
        let id = self.by_name.remove(entry)?;
        if let Some(node) = self.nodes.get_mut(&id) {
            node.names.retain(|name| name != entry);
        }
        Some(id)
    }

    fn release_ino(&mut self, ino: u64, id: NodeId) {
        if self.by_ino.get(&ino) == Some(&id) {
            self.by_ino.remove(&ino);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_renamed_directory_moves_with_it() {
        let mut nodes = Nodes::new();
        let dir = nodes.found(ROOT, b"a", 10);
        let file = nodes.found(dir, b"f", 11);
        assert_eq!(nodes.path(ROOT).as_deref(), Some(&b"/"[..]));
        assert_eq!(nodes.path(file).as_deref(), Some(&b"/a/f"[..]));
        nodes.renamed((ROOT, b"a"), (ROOT, b"b"));
        assert_eq!(nodes.path(file).as_deref(), Some(&b"/b/f"[..]));
        assert_eq!(nodes.child(dir, b"g").as_deref(), Some(&b"/b/g"[..]));
    }

    #[test]
    fn a_hard_link_survives_the_loss_of_the_other_name() {
        let mut nodes = Nodes::new();
        let file = nodes.found(ROOT, b"a", 10);
        assert_eq!(nodes.found(ROOT, b"b", 10), file);
        nodes.removed(ROOT, b"a", false);
        assert_eq!(nodes.path(file).as_deref(), Some(&b"/b"[..]));
        nodes.removed(ROOT, b"b", true);
        assert_eq!(nodes.path(file), None);
        assert_ne!(
            nodes.found(ROOT, b"c", 10),
            file,
            "the server uses the number again"
        );
    }

    #[test]
    fn the_kernel_forgets() {
        let mut nodes = Nodes::new();
        let file = nodes.found(ROOT, b"a", 10);
        nodes.found(ROOT, b"a", 10);
        nodes.forget(file, 1);
        assert!(nodes.path(file).is_some());
        nodes.forget(file, 1);
        assert_eq!(nodes.path(file), None);
        assert_ne!(nodes.found(ROOT, b"a", 10), file);
    }
}
