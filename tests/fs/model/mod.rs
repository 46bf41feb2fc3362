//! A model of a tree of files, and random operations that are compared with it; used by `random` and `servers`.

mod operations;

use std::collections::BTreeMap;

use xen9p::errno::Errno;
use xen9p::fs::Error;
use xen9p::tree::Node as TreeNode;
use xen9p::tree::files::{File, Fs};

use xen9p_testing::random::Random;

use operations::one;

/// What a server can do.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    pub symlinks: bool,
    pub hard_links: bool,
    /// Files that are open when their last name goes stay usable.
    pub open_unlinked: bool,
    /// Renames between directories, over existing names, and of directories.
    pub full_rename: bool,
    pub truncate: bool,
}

pub const LINUX: Abilities = Abilities {
    symlinks: true,
    hard_links: true,
    open_unlinked: true,
    full_rename: true,
    truncate: true,
};

#[derive(Debug)]
enum Node {
    Dir(BTreeMap<Vec<u8>, usize>),
    File(Vec<u8>),
    Link(Vec<u8>),
}

struct Handle<F> {
    file: File<F>,
    node: usize,
}

const ROOT: usize = 0;

/// Where a path leads: a node, or a free place for one.
type Place = (usize, Vec<u8>, Option<usize>);

struct Model {
    nodes: Vec<Node>,
}

impl Model {
    fn dir(&self, node: usize) -> std::result::Result<&BTreeMap<Vec<u8>, usize>, Errno> {
        match &self.nodes[node] {
            Node::Dir(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn entries(&mut self, node: usize) -> &mut BTreeMap<Vec<u8>, usize> {
        match &mut self.nodes[node] {
            Node::Dir(entries) => entries,
            other => panic!("not a directory: {other:?}"),
        }
    }

    fn content(&mut self, node: usize) -> &mut Vec<u8> {
        match &mut self.nodes[node] {
            Node::File(content) => content,
            other => panic!("not a file: {other:?}"),
        }
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Resolves an absolute path of at least one name.
    fn place(&self, path: &[u8], follow: bool) -> std::result::Result<Place, Errno> {
        let mut names: Vec<Vec<u8>> = path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
            .rev()
            .map(<[u8]>::to_vec)
            .collect();
        let (mut at, mut links) = (ROOT, 0);
        loop {
            let name = names.pop().expect("at least one name");
            let entry = self.dir(at)?.get(&name).copied();
            let last = names.is_empty();
            match entry.map(|entry| (entry, &self.nodes[entry])) {
                Some((_, Node::Link(target))) if !last || follow => {
                    links += 1;
                    if links > 40 {
                        return Err(Errno::ELOOP);
                    }
                    // Targets in this test are absolute.
                    let target = target.split(|&byte| byte == b'/');
                    let target = target.filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
                    let target: Vec<_> = target.collect();
                    names.extend(target.into_iter().rev());
                    at = ROOT;
                }
                Some((entry, _)) if !last => at = entry,
                None if !last => return Err(Errno::ENOENT),
                _ => return Ok((at, name, entry)),
            }
        }
    }

    fn found(&self, path: &[u8], follow: bool) -> std::result::Result<usize, Errno> {
        self.place(path, follow)?.2.ok_or(Errno::ENOENT)
    }

    fn is_below(&self, node: usize, above: usize) -> bool {
        node == above
            || match &self.nodes[above] {
                Node::Dir(entries) => entries.values().any(|&entry| self.is_below(node, entry)),
                _ => false,
            }
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> std::result::Result<(), Errno> {
        let (old_dir, old_name, old) = self.place(from, false)?;
        let (new_dir, new_name, new) = self.place(to, false)?;
        let old = old.ok_or(Errno::ENOENT)?;
        self.dir(new_dir)?;
        if self.is_below(new_dir, old) {
            return Err(Errno::EINVAL);
        }
        match new.map(|new| (&self.nodes[old], &self.nodes[new])) {
            Some(_) if new == Some(old) => return Ok(()),
            Some((Node::Dir(_), Node::Dir(entries))) if !entries.is_empty() => {
                return Err(Errno::ENOTEMPTY);
            }
            Some((Node::Dir(_), Node::Dir(_))) | None => {}
            Some((Node::Dir(_), _)) => return Err(Errno::ENOTDIR),
            Some((_, Node::Dir(_))) => return Err(Errno::EISDIR),
            Some(_) => {}
        }
        self.entries(old_dir).remove(&old_name);
        self.entries(new_dir).insert(new_name, old);
        Ok(())
    }

    /// Makes or finds the file to be written.
    fn create(&mut self, path: &[u8]) -> std::result::Result<usize, Errno> {
        let (dir, name, entry) = self.place(path, true)?;
        match entry {
            Some(entry) if matches!(self.nodes[entry], Node::Dir(_)) => Err(Errno::EISDIR),
            Some(entry) => Ok(entry),
            None => {
                let node = self.add(Node::File(Vec::new()));
                self.entries(dir).insert(name, node);
                Ok(node)
            }
        }
    }
}

/// Runs `steps` random operations; the seed is in every message.
pub fn run<N: TreeNode>(fs: &Fs<N>, seed: u64, steps: usize, can: Abilities) {
    let mut model = Model {
        nodes: vec![Node::Dir(BTreeMap::new())],
    };
    let mut random = Random::new(seed);
    let mut handles: Vec<Handle<N::File>> = Vec::new();
    for step in 0..steps {
        let path = random_path(&mut random);
        let other = random_path(&mut random);
        let op = random.below(20);
        let what = format!(
            "seed {seed}, step {step}, op {op}, {} {}",
            String::from_utf8_lossy(&path),
            String::from_utf8_lossy(&other)
        );
        one(
            fs,
            &mut model,
            &mut random,
            &mut handles,
            can,
            op,
            &path,
            &other,
            &what,
        );
        if step % 200 == 199 {
            compare(fs, &mut model, ROOT, b"/", &what);
        }
    }
    drop(handles);
    compare(
        fs,
        &mut model,
        ROOT,
        b"/",
        &format!("seed {seed}, at the end"),
    );
}

fn random_path(random: &mut Random) -> Vec<u8> {
    const NAMES: [&str; 5] = ["a", "b b", "c", "\u{e9}t\u{e9}", "e.e"];
    let depth = 1 + random.below(3);
    let mut path = Vec::new();
    for _ in 0..depth {
        path.push(b'/');
        path.extend_from_slice(NAMES[random.below(NAMES.len())].as_bytes());
    }
    path
}

/// Compares a directory and all below it.
fn compare<N: TreeNode>(fs: &Fs<N>, model: &mut Model, node: usize, path: &[u8], what: &str) {
    let listing = fs.read_dir(path).expect(what);
    let mut real: Vec<_> = listing
        .map(|entry| entry.expect(what))
        .map(|entry| (entry.file_name().to_vec(), entry))
        .collect();
    real.sort_by(|a, b| a.0.cmp(&b.0));
    let wanted: Vec<_> = model
        .entries(node)
        .iter()
        .map(|(name, &node)| (name.clone(), node))
        .collect();
    let names = |list: &[(Vec<u8>, usize)]| list.iter().map(|(name, _)| name.clone()).collect();
    let wanted_names: Vec<Vec<u8>> = names(&wanted);
    let real_names: Vec<Vec<u8>> = real.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(real_names, wanted_names, "{what}");
    for ((_, entry), (_, node)) in real.iter().zip(wanted) {
        let path = entry.path();
        let kind = entry.file_type().expect(what);
        match &model.nodes[node] {
            Node::Dir(_) => {
                assert!(kind.is_dir(), "{what}: {path:?} is a {kind:?}");
                compare(fs, model, node, &path, what);
            }
            Node::File(content) => {
                assert!(kind.is_file(), "{what}: {path:?} is a {kind:?}");
                assert!(fs.read(&path).expect(what) == *content, "{what}");
            }
            Node::Link(target) => {
                assert!(kind.is_symlink(), "{what}: {path:?} is a {kind:?}");
                assert_eq!(
                    fs.read_link(&path),
                    Ok::<_, Error>(target.clone()),
                    "{what}"
                );
            }
        }
    }
}
