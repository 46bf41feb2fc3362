//! A small file system in memory, with Linux's rules and errors, as root sees it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use xen9p::errno::Errno;
use xen9p::p9::wire::{Attr, AttrMask, FileKind, Qid, QidKind, SetAttr, SetAttrMask, Time};

pub type Ino = u64;
pub type Result<T> = std::result::Result<T, Errno>;

pub const ROOT: Ino = 1;
const NAME_MAX: usize = 255;
/// Files larger than this are refused, so that a wild offset doesn't eat the machine.
const SIZE_MAX: u64 = 256 << 20;
/// Directory cookies start here and are this far apart: a client must not think that they count bytes.
const COOKIE_STEP: u64 = 1 << 33;

#[derive(Debug)]
pub enum Content {
    Dir {
        entries: BTreeMap<Vec<u8>, Entry>,
        /// The names by their cookies.
        order: BTreeMap<u64, Vec<u8>>,
        parent: Ino,
        next_cookie: u64,
    },
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Special {
        rdev: u64,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub ino: Ino,
    pub cookie: u64,
}

#[derive(Debug)]
pub struct Node {
    pub content: Content,
    pub mode: u32,
    uid: u32,
    gid: u32,
    nlink: u64,
    times: [u64; 3],
    version: u32,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Node {
    pub fn is_dir(&self) -> bool {
        matches!(self.content, Content::Dir { .. })
    }

    fn entries(&self) -> Result<&BTreeMap<Vec<u8>, Entry>> {
        match &self.content {
            Content::Dir { entries, .. } => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }
}

/// The file system.
#[derive(Debug)]
pub struct Tree {
    nodes: HashMap<Ino, Node>,
    next: Ino,
    /// Counts changes; stands in for the clock.
    tick: u64,
}

impl Tree {
    pub fn new() -> Self {
        let mut tree = Tree {
            nodes: HashMap::new(),
            next: ROOT,
            tick: 1_700_000_000,
        };
        let root = tree.add(FileKind::DIR.bits() | 0o755, 0, dir(ROOT));
        tree.node_mut(root).nlink = 2;
        tree
    }

    fn add(&mut self, mode: u32, gid: u32, content: Content) -> Ino {
        let ino = self.next;
        self.next += 1;
        let now = self.now();
        let node = Node {
            content,
            mode,
            uid: 0,
            gid,
            nlink: 0,
            times: [now; 3],
            version: 0,
            xattrs: BTreeMap::new(),
        };
        self.nodes.insert(ino, node);
        ino
    }

    fn now(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// A node that is known to exist: a fid or an entry holds it.
    pub fn node(&self, ino: Ino) -> &Node {
        &self.nodes[&ino]
    }

    pub fn node_mut(&mut self, ino: Ino) -> &mut Node {
        self.nodes.get_mut(&ino).expect("held by a fid or an entry")
    }

    /// Drops a node that has no name; the caller knows that no fid holds it either.
    pub fn forget_if_unlinked(&mut self, ino: Ino) {
        if self.nodes.get(&ino).is_some_and(|node| node.nlink == 0) {
            self.nodes.remove(&ino);
        }
    }

    pub fn qid(&self, ino: Ino) -> Qid {
        let node = self.node(ino);
        let kind = match node.content {
            Content::Dir { .. } => QidKind::DIR,
            Content::Symlink(_) => QidKind::SYMLINK,
            _ => QidKind::empty(),
        };
        Qid {
            kind,
            version: node.version,
            path: ino,
        }
    }

    pub fn walk(&self, from: Ino, name: &[u8]) -> Result<Ino> {
        let node = self.node(from);
        let Content::Dir {
            entries, parent, ..
        } = &node.content
        else {
            return Err(Errno::ENOTDIR);
        };
        match name {
            b"." => Ok(from),
            b".." => Ok(*parent),
            _ if name.is_empty() || name.contains(&b'/') => Err(Errno::ENOENT),
            _ if name.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
            _ => entries
                .get(name)
                .map(|entry| entry.ino)
                .ok_or(Errno::ENOENT),
        }
    }

    /// The entries after `cookie`, in order, "." and ".." first.
    pub fn list(&self, ino: Ino, cookie: u64) -> Result<impl Iterator<Item = (&[u8], Entry)>> {
        let Content::Dir {
            entries,
            order,
            parent,
            ..
        } = &self.node(ino).content
        else {
            return Err(Errno::ENOTDIR);
        };
        let dots = [(".", ino, COOKIE_STEP), ("..", *parent, 2 * COOKIE_STEP)];
        let dots = dots.map(|(name, ino, cookie)| (name.as_bytes(), Entry { ino, cookie }));
        let dots = dots.into_iter().filter(move |(_, dot)| dot.cookie > cookie);
        let rest = order.range((Bound::Excluded(cookie), Bound::Unbounded));
        Ok(dots.chain(rest.map(|(_, name)| (name.as_slice(), entries[name]))))
    }

    /// Gives `ino` a name, which must not exist yet.
    fn enter(&mut self, parent: Ino, name: &[u8], ino: Ino) {
        let now = self.now();
        let is_dir = self.node(ino).is_dir();
        if let Content::Dir { parent: up, .. } = &mut self.node_mut(ino).content {
            *up = parent;
        }
        let child = self.node_mut(ino);
        child.nlink += if is_dir { 2 } else { 1 };
        child.times[2] = now;
        let dir = self.node_mut(parent);
        dir.touch(now);
        dir.nlink += u64::from(is_dir);
        if let Content::Dir {
            entries,
            order,
            next_cookie,
            ..
        } = &mut dir.content
        {
            order.insert(*next_cookie, name.to_vec());
            entries.insert(
                name.to_vec(),
                Entry {
                    ino,
                    cookie: *next_cookie,
                },
            );
            *next_cookie += COOKIE_STEP;
        }
    }

    /// Takes a name away.
    fn leave(&mut self, parent: Ino, name: &[u8]) -> Result<Ino> {
        let ino = self.walk(parent, name)?;
        let now = self.now();
        let is_dir = self.node(ino).is_dir();
        let child = self.node_mut(ino);
        child.nlink -= if is_dir { 2 } else { 1 };
        child.times[2] = now;
        // From a directory that is gone, ".." leads nowhere.
        if let Content::Dir { parent: up, .. } = &mut child.content {
            *up = ino;
        }
        let dir = self.node_mut(parent);
        dir.touch(now);
        dir.nlink -= u64::from(is_dir);
        if let Content::Dir { entries, order, .. } = &mut dir.content
            && let Some(entry) = entries.remove(name)
        {
            order.remove(&entry.cookie);
        }
        Ok(ino)
    }

    /// Refuses names that can't be given in `parent`, or that exist.
    fn check_new(&self, parent: Ino, name: &[u8]) -> Result<()> {
        match self.walk(parent, name) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) if name.is_empty() || name.contains(&b'/') => Err(Errno::ENOENT),
            Err(Errno::ENOENT) if name.contains(&0) => Err(Errno::EINVAL),
            // Only a directory that was removed has no links.
            Err(Errno::ENOENT) if self.node(parent).nlink == 0 => Err(Errno::ENOENT),
            Err(Errno::ENOENT) => Ok(()),
            Err(other) => Err(other),
        }
    }

    pub fn create(
        &mut self,
        parent: Ino,
        name: &[u8],
        mode: u32,
        gid: u32,
        content: Content,
    ) -> Result<Ino> {
        self.check_new(parent, name)?;
        let ino = self.add(mode, gid, content);
        self.enter(parent, name, ino);
        Ok(ino)
    }

    pub fn mkdir(&mut self, parent: Ino, name: &[u8], mode: u32, gid: u32) -> Result<Ino> {
        let mode = FileKind::DIR.bits() | mode & 0o7777;
        self.create(parent, name, mode, gid, dir(parent))
    }

    pub fn link(&mut self, parent: Ino, name: &[u8], ino: Ino) -> Result<()> {
        self.check_new(parent, name)?;
        let node = self.node(ino);
        if node.is_dir() {
            return Err(Errno::EPERM);
        }
        if node.nlink == 0 {
            return Err(Errno::ENOENT);
        }
        self.enter(parent, name, ino);
        Ok(())
    }

    /// Removes a name; returns what it was of.
    pub fn unlink(&mut self, parent: Ino, name: &[u8], wants_dir: bool) -> Result<Ino> {
        match name {
            b"." => return Err(Errno::EINVAL),
            b".." => return Err(Errno::ENOTEMPTY),
            _ => (),
        }
        let node = self.node(self.walk(parent, name)?);
        match (node.entries(), wants_dir) {
            (Ok(_), false) => Err(Errno::EISDIR),
            (Err(_), true) => Err(Errno::ENOTDIR),
            (Ok(entries), true) if !entries.is_empty() => Err(Errno::ENOTEMPTY),
            _ => self.leave(parent, name),
        }
    }

    /// Renames; returns what was replaced.
    pub fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<Option<Ino>> {
        if [from.1, to.1]
            .iter()
            .any(|name| matches!(*name, b"." | b".."))
        {
            return Err(Errno::EBUSY);
        }
        let ino = self.walk(from.0, from.1)?;
        let is_dir = self.node(ino).is_dir();
        if is_dir && self.is_within(to.0, ino) {
            return Err(Errno::EINVAL);
        }
        let replaced = match self.walk(to.0, to.1) {
            Ok(old) if old == ino => return Ok(None),
            Ok(old) => {
                if is_dir && !self.node(old).is_dir() {
                    return Err(Errno::ENOTDIR);
                }
                Some(self.unlink(to.0, to.1, is_dir)?)
            }
            Err(Errno::ENOENT) => {
                self.check_new(to.0, to.1)?;
                None
            }
            Err(other) => return Err(other),
        };
        self.leave(from.0, from.1)?;
        self.enter(to.0, to.1, ino);
        Ok(replaced)
    }

    fn is_within(&self, mut ino: Ino, ancestor: Ino) -> bool {
        loop {
            match &self.node(ino).content {
                _ if ino == ancestor => return true,
                Content::Dir { parent, .. } if *parent != ino => ino = *parent,
                _ => return false,
            }
        }
    }

    /// Whether the directory still exists and has that node under that name.
    pub fn is_at(&self, dir: Ino, name: &[u8], ino: Ino) -> bool {
        self.nodes.contains_key(&dir) && self.walk(dir, name) == Ok(ino)
    }

    /// Some directory and name where the node can be found.
    pub fn name_of(&self, ino: Ino) -> Option<(Ino, Vec<u8>)> {
        self.nodes.iter().find_map(|(parent, node)| {
            let mut entries = node.entries().ok()?.iter();
            let (name, _) = entries.find(|(_, entry)| entry.ino == ino)?;
            Some((*parent, name.clone()))
        })
    }

    pub fn read(&self, ino: Ino, offset: u64, count: u32) -> Result<&[u8]> {
        match &self.node(ino).content {
            Content::File(bytes) => Ok(window(bytes, offset, count)),
            Content::Dir { .. } => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    pub fn write(
        &mut self,
        ino: Ino,
        offset: u64,
        data: impl Iterator<Item = u8>,
        append: bool,
    ) -> Result<u32> {
        let now = self.now();
        let node = self.node_mut(ino);
        let Content::File(bytes) = &mut node.content else {
            return Err(Errno::EINVAL);
        };
        let data: Vec<u8> = data.collect();
        let start = if append { bytes.len() as u64 } else { offset };
        let end = start
            .checked_add(data.len() as u64)
            .filter(|end| i64::try_from(*end).is_ok());
        let end = end.ok_or(Errno::EINVAL)?;
        if end > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        if data.is_empty() {
            return Ok(0);
        }
        let (start, end) = (start as usize, end as usize);
        bytes.resize(bytes.len().max(end), 0);
        bytes[start..end].copy_from_slice(&data);
        node.touch(now);
        Ok(data.len() as u32)
    }

    /// Writes these bytes to the file at a path from the root.
    pub fn change(&mut self, path: &str, offset: u64, bytes: &[u8]) {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        let ino = names.try_fold(ROOT, |at, name| self.walk(at, name.as_bytes()));
        let bytes = bytes.iter().copied();
        let written = ino.and_then(|ino| self.write(ino, offset, bytes, false));
        written.expect(path);
    }

    pub fn set_len(&mut self, ino: Ino, len: u64) -> Result<()> {
        let now = self.now();
        let node = self.node_mut(ino);
        let bytes = match &mut node.content {
            Content::File(bytes) => bytes,
            Content::Dir { .. } => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        };
        if i64::try_from(len).is_err() {
            return Err(Errno::EINVAL);
        }
        if len > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        bytes.resize(len as usize, 0);
        node.touch(now);
        Ok(())
    }

    pub fn attr(&self, ino: Ino) -> Attr {
        let node = self.node(ino);
        let (size, rdev) = match &node.content {
            Content::Dir { .. } => (4096, 0),
            Content::File(bytes) | Content::Symlink(bytes) => (bytes.len() as u64, 0),
            Content::Special { rdev } => (0, *rdev),
        };
        let [atime, mtime, ctime] = node.times.map(|secs| Time { secs, nanos: 0 });
        Attr {
            valid: AttrMask::BASIC,
            qid: self.qid(ino),
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            nlink: node.nlink,
            rdev,
            size,
            blksize: 4096,
            blocks: size.div_ceil(512),
            atime,
            mtime,
            ctime,
            ..Attr::default()
        }
    }

    pub fn set_attr(&mut self, ino: Ino, new: &SetAttr) -> Result<()> {
        let now = self.now();
        let wants = |mask| new.valid.contains(mask);
        let node = self.node_mut(ino);
        if wants(SetAttrMask::MODE) {
            node.mode = node.mode & FileKind::MASK | new.mode & 0o7777;
        }
        let asked = [
            (SetAttrMask::ATIME, SetAttrMask::ATIME_SET, new.atime),
            (SetAttrMask::MTIME, SetAttrMask::MTIME_SET, new.mtime),
        ];
        for (place, (at_all, to_this, time)) in node.times.iter_mut().zip(asked) {
            if wants(at_all) {
                *place = if wants(to_this) { time.secs } else { now };
            }
        }
        if wants(SetAttrMask::UID) {
            node.uid = new.uid;
        }
        if wants(SetAttrMask::GID) {
            node.gid = new.gid;
        }
        node.times[2] = now;
        if wants(SetAttrMask::SIZE) {
            self.set_len(ino, new.size)?;
        }
        Ok(())
    }
}

impl Node {
    /// Notes a change of the content.
    fn touch(&mut self, now: u64) {
        self.times[1] = now;
        self.times[2] = now;
        self.version = self.version.wrapping_add(1);
    }
}

fn dir(parent: Ino) -> Content {
    Content::Dir {
        entries: BTreeMap::new(),
        order: BTreeMap::new(),
        parent,
        next_cookie: 3 * COOKIE_STEP,
    }
}

/// At most `count` bytes from `offset` on.
pub fn window(bytes: &[u8], offset: u64, count: u32) -> &[u8] {
    let start = usize::try_from(offset).map_or(bytes.len(), |start| start.min(bytes.len()));
    let rest = &bytes[start..];
    &rest[..rest.len().min(count as usize)]
}
