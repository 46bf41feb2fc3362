//! A model of a tree of files, and random operations that are compared with it; used by `random` and `servers`.

use std::collections::BTreeMap;

use xen9p::errno::Errno;
use xen9p::fs::{Error, OpenOptions, Result};
use xen9p::tree::files::{File, Fs};
use xen9p::tree::{Node as TreeNode, OpenFile};

use xen9p_testing::random::Random;

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

fn put(content: &mut Vec<u8>, at: usize, data: &[u8]) {
    if !data.is_empty() {
        content.resize(content.len().max(at + data.len()), 0);
        content[at..at + data.len()].copy_from_slice(data);
    }
}

/// Both failed with the same error, or both went well.
#[track_caller]
fn same<T>(what: &str, real: Result<T>, model: std::result::Result<(), Errno>) -> Option<T> {
    let got = real.as_ref().map(drop).map_err(|error| error.errno());
    assert_eq!(got, model, "{what}");
    real.ok()
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

fn random_data(random: &mut Random) -> Vec<u8> {
    let len = match random.below(10) {
        0 => 0,
        1..=6 => random.below(300),
        7 | 8 => random.below(9000),
        _ => random.below(150_000),
    };
    random.bytes(len)
}

#[expect(clippy::too_many_arguments, reason = "the state of a test run")]
fn one<N: TreeNode>(
    fs: &Fs<N>,
    model: &mut Model,
    random: &mut Random,
    handles: &mut Vec<Handle<N::File>>,
    can: Abilities,
    op: usize,
    path: &[u8],
    other: &[u8],
    what: &str,
) {
    match op {
        0..=2 => {
            let data = random_data(random);
            let made = model.create(path);
            if let Ok(node) = made {
                *model.content(node) = data.clone();
            }
            same(what, fs.write(path, &data), made.map(drop));
        }
        3 => {
            let data = random_data(random);
            let made = model.create(path);
            if let Ok(node) = made {
                model.content(node).extend_from_slice(&data);
            }
            let mut options = OpenOptions::new();
            let file = options.append(true).create(true).open(fs, path);
            if let Some(file) = same(what, file, made.map(drop)) {
                file.write_all(&data).expect(what);
            }
        }
        4 => {
            let found = model.found(path, true);
            let found = found.and_then(|node| match &model.nodes[node] {
                Node::Dir(_) => Err(Errno::EISDIR),
                _ => Ok(node),
            });
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).open(fs, path);
            if let Some(file) = same(what, file, found.map(drop)) {
                handles.push(Handle {
                    file,
                    node: found.unwrap(),
                });
            }
            if handles.len() > 8 {
                let gone = handles.swap_remove(random.below(handles.len()));
                gone.file.close().expect(what);
            }
        }
        5..=8 => on_handle(model, random, handles, can, op, what),
        9 => {
            let made = model.place(path, false).and_then(|(dir, name, entry)| {
                if entry.is_some() {
                    return Err(Errno::EEXIST);
                }
                let node = model.add(Node::Dir(BTreeMap::new()));
                model.entries(dir).insert(name, node);
                Ok(())
            });
            same(what, fs.create_dir(path), made);
        }
        10 | 11 => remove(fs, model, handles, can, path, what),
        12 => {
            let removed = model.place(path, false).and_then(|(dir, name, entry)| {
                let entries = model.dir(entry.ok_or(Errno::ENOENT)?)?;
                if !entries.is_empty() {
                    return Err(Errno::ENOTEMPTY);
                }
                model.entries(dir).remove(&name);
                Ok(())
            });
            same(what, fs.remove_dir(path), removed);
        }
        13 | 14 => rename(fs, model, handles, can, path, other, what),
        15 if can.symlinks => {
            let made = model.place(path, false).and_then(|(dir, name, entry)| {
                if entry.is_some() {
                    return Err(Errno::EEXIST);
                }
                let node = model.add(Node::Link(other.to_vec()));
                model.entries(dir).insert(name, node);
                Ok(())
            });
            same(what, fs.symlink(other, path), made);
        }
        16 if can.hard_links => {
            let node = match model.found(path, false) {
                // Whether a link can be linked to is up to the server.
                Ok(node) if matches!(model.nodes[node], Node::Link(_)) => return,
                Ok(node) if matches!(model.nodes[node], Node::Dir(_)) => return,
                found => found,
            };
            let made = node.and_then(|node| {
                let (dir, name, entry) = model.place(other, false)?;
                if entry.is_some() {
                    return Err(Errno::EEXIST);
                }
                model.entries(dir).insert(name, node);
                Ok(())
            });
            same(what, fs.hard_link(path, other), made);
        }
        17 => {
            let found = model.found(path, true);
            let metadata = same(what, fs.metadata(path), found.map(drop));
            if let (Some(metadata), Ok(node)) = (metadata, found) {
                match &model.nodes[node] {
                    Node::File(content) => assert_eq!(metadata.len(), content.len() as u64),
                    _ => assert!(metadata.is_dir(), "{what}"),
                }
            }
        }
        18 => {
            let made = create_dirs(model, path);
            same(what, fs.create_dir_all(path), made);
        }
        _ => {
            let from = model.found(path, true);
            let content = from.and_then(|node| match &model.nodes[node] {
                Node::File(content) => Ok(content.clone()),
                _ => Err(Errno::EISDIR),
            });
            let to = content.and_then(|content| {
                // Onto itself is where std and this library truncate first.
                if model.found(other, true) == from {
                    return Err(Errno::ENOTTY);
                }
                let node = model.create(other)?;
                *model.content(node) = content;
                Ok(())
            });
            if to != Err(Errno::ENOTTY) {
                same(what, fs.copy(path, other).map(drop), to);
            }
        }
    }
}

fn create_dirs(model: &mut Model, path: &[u8]) -> std::result::Result<(), Errno> {
    for end in (1..=path.len()).filter(|&end| end == path.len() || path[end] == b'/') {
        let last = end == path.len();
        let path = &path[..end];
        match model.place(path, false)? {
            // A link to a directory is as good as one.
            (_, _, Some(_)) => match model.found(path, true) {
                Ok(node) if model.dir(node).is_ok() => {}
                Ok(_) if !last => return Err(Errno::ENOTDIR),
                Err(errno) if !last && errno != Errno::ENOENT => return Err(errno),
                _ => return Err(Errno::EEXIST),
            },
            (dir, name, None) => {
                let node = model.add(Node::Dir(BTreeMap::new()));
                model.entries(dir).insert(name, node);
            }
        }
    }
    Ok(())
}

/// Something with a file that is open.
fn on_handle<F: OpenFile>(
    model: &mut Model,
    random: &mut Random,
    handles: &[Handle<F>],
    can: Abilities,
    op: usize,
    what: &str,
) {
    if handles.is_empty() {
        return;
    }
    let Handle { file, node } = &handles[random.below(handles.len())];
    let content = model.content(*node);
    match op {
        5 => {
            let at = random.below(content.len() + 200);
            let data = random_data(random);
            file.write_all_at(&data, at as u64).expect(what);
            put(content, at, &data);
        }
        6 if can.truncate => {
            let size = random.below(content.len() * 2 + 10);
            file.set_len(size as u64).expect(what);
            content.resize(size, 0);
        }
        7 if random.below(2) == 0 => {
            // In small pieces, from wherever the position is.
            let mut buffer = [0; 100];
            for _ in 0..random.below(200) {
                let at = file.stream_position().expect(what) as usize;
                let count = file.read(&mut buffer).expect(what);
                let from = content.get(at..).unwrap_or(&[]);
                assert_eq!(count == 0, from.is_empty(), "{what}");
                assert!(buffer[..count] == from[..count], "{what}, at {at}");
            }
        }
        7 => {
            let at = random.below(content.len() + 10);
            let mut buffer = vec![0; random.below(5000) + 1];
            let mut done = 0;
            loop {
                let count = file
                    .read_at(&mut buffer[done..], (at + done) as u64)
                    .expect(what);
                done += count;
                if count == 0 || done == buffer.len() {
                    break;
                }
            }
            let from = content.get(at..).unwrap_or(&[]);
            let wanted = &from[..from.len().min(buffer.len())];
            assert!(buffer[..done] == *wanted, "{what}");
        }
        _ => {
            let mut all = Vec::new();
            file.rewind().expect(what);
            file.read_to_end(&mut all).expect(what);
            assert!(all == *content, "{what}");
        }
    }
}

fn remove<N: TreeNode>(
    fs: &Fs<N>,
    model: &mut Model,
    handles: &[Handle<N::File>],
    can: Abilities,
    path: &[u8],
    what: &str,
) {
    let place = model.place(path, false);
    if let Ok((_, _, Some(entry))) = place
        && !can.open_unlinked
        && handles.iter().any(|handle| handle.node == entry)
    {
        return;
    }
    let removed = place.and_then(|(dir, name, entry)| {
        let entry = entry.ok_or(Errno::ENOENT)?;
        if matches!(model.nodes[entry], Node::Dir(_)) {
            return Err(Errno::EISDIR);
        }
        model.entries(dir).remove(&name);
        Ok(())
    });
    same(what, fs.remove_file(path), removed);
}

fn rename<N: TreeNode>(
    fs: &Fs<N>,
    model: &mut Model,
    handles: &[Handle<N::File>],
    can: Abilities,
    path: &[u8],
    other: &[u8],
    what: &str,
) {
    let replaced = model.found(other, false).ok();
    if !can.full_rename
        && (replaced.is_some()
            || path.rsplitn(2, |&byte| byte == b'/').nth(1)
                != other.rsplitn(2, |&byte| byte == b'/').nth(1))
    {
        return;
    }
    let open = |node| handles.iter().any(|handle| handle.node == node);
    if !can.open_unlinked && (replaced.is_some_and(open) || !handles.is_empty()) {
        return;
    }
    let renamed = model.rename(path, other);
    let real = fs.rename(path, other);
    // Which of several reasons a server names is up to it.
    assert_eq!(
        real.is_ok(),
        renamed.is_ok(),
        "{what}: {real:?}, {renamed:?}"
    );
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
