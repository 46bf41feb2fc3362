//! The file system in memory as a tree to be served.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use p9_tree::{Created, HeldLock, Node, OpenFile, Result};
use xen9p::errno::Errno;
use xen9p::p9::wire::*;

use super::locks::{Lock, Locks};
use super::tree::{Content, Entry, Ino, ROOT, Tree};

/// A file system in memory. Clones are the same one.
#[derive(Clone)]
pub struct MemTree(Arc<Mutex<State>>);

struct State {
    tree: Tree,
    locks: Locks,
    /// How many nodes and open files there are of each file.
    held: HashMap<Ino, usize>,
    opened: u32,
    io_limit: usize,
    untyped_entries: bool,
}

impl Default for MemTree {
    fn default() -> Self {
        MemTree::new()
    }
}

impl MemTree {
    /// An empty root directory.
    pub fn new() -> Self {
        MemTree::with(usize::MAX, false)
    }

    /// Moves at most `io_limit` bytes at a time; in directories, may leave out what kind files are of.
    pub fn with(io_limit: usize, untyped_entries: bool) -> Self {
        MemTree(Arc::new(Mutex::new(State {
            tree: Tree::new(),
            locks: Locks::default(),
            held: HashMap::new(),
            opened: 0,
            io_limit,
            untyped_entries,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn root(&self) -> MemNode {
        self.node(ROOT)
    }

    fn node(&self, ino: Ino) -> MemNode {
        let mut state = self.state();
        *state.held.entry(ino).or_default() += 1;
        MemNode {
            tree: self.clone(),
            qid: state.tree.qid(ino),
            ino,
        }
    }

    /// Puts a file with this content at a path from the root, with the directories that it takes.
    pub fn put(&self, path: &str, content: &[u8]) {
        let state = &mut *self.state();
        let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = dirs
            .split('/')
            .filter(|dir| !dir.is_empty())
            .fold(ROOT, |at, dir| {
                let there = state.tree.walk(at, dir.as_bytes());
                there.unwrap_or_else(|_| {
                    let made = state.tree.mkdir(at, dir.as_bytes(), 0o755, 0);
                    made.expect(path)
                })
            });
        let mode = FileKind::REGULAR.bits() | 0o644;
        let file = Content::File(content.to_vec());
        let made = state.tree.create(parent, name.as_bytes(), mode, 0, file);
        made.expect(path);
    }

    /// Writes these bytes to a file that is there, from `offset` on.
    pub fn change(&self, path: &str, offset: u64, bytes: &[u8]) {
        self.state().tree.change(path, offset, bytes);
    }

    /// The content of the file at a path from the root, if there is one.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let mut names = path.split('/').filter(|name| !name.is_empty());
        let ino = names.try_fold(ROOT, |at, name| state.tree.walk(at, name.as_bytes()).ok())?;
        match &state.tree.node(ino).content {
            Content::File(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Nodes and open files that there are: none when all servers of the tree have gone.
    pub fn held(&self) -> usize {
        self.state().held.values().sum()
    }

    /// Ranges that are locked.
    pub fn locks(&self) -> usize {
        self.state().locks.len()
    }
}

/// A file of a [`MemTree`].
pub struct MemNode {
    tree: MemTree,
    ino: Ino,
    qid: Qid,
}

impl Clone for MemNode {
    fn clone(&self) -> Self {
        *self.tree.state().held.entry(self.ino).or_default() += 1;
        MemNode {
            tree: self.tree.clone(),
            ..*self
        }
    }
}

impl Drop for MemNode {
    fn drop(&mut self) {
        let state = &mut *self.tree.state();
        let count = state.held.get_mut(&self.ino).expect("held by this");
        *count -= 1;
        if *count == 0 {
            state.held.remove(&self.ino);
            state.tree.forget_if_unlinked(self.ino);
        }
    }
}

/// An open file of a [`MemTree`].
pub struct MemFile {
    node: MemNode,
    flags: OpenFlags,
    id: Fid,
}

impl Drop for MemFile {
    fn drop(&mut self) {
        self.node.tree.state().locks.drop_fid(self.id);
    }
}

impl MemNode {
    fn state(&self) -> MutexGuard<'_, State> {
        self.tree.state()
    }

    fn make(&self, name: &[u8], mode: u32, gid: u32, content: Content) -> Result<MemNode> {
        let gid = if gid == u32::MAX { 0 } else { gid };
        let made = self.state().tree.create(self.ino, name, mode, gid, content);
        Ok(self.tree.node(made?))
    }

    /// Drops a file that may have lost its last name, if no fid holds it.
    fn forget(&self, ino: Ino) {
        let state = &mut *self.state();
        if !state.held.contains_key(&ino) {
            state.tree.forget_if_unlinked(ino);
        }
    }
}

impl Node for MemNode {
    type File = MemFile;

    fn qid(&self) -> Qid {
        self.qid
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        assert!(p9_tree::is_name(name), "{name:?}");
        let ino = self.state().tree.walk(self.ino, name)?;
        Ok(self.tree.node(ino))
    }

    async fn getattr(&self, _: AttrMask) -> Result<Attr> {
        Ok(self.state().tree.attr(self.ino))
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        Ok(self.state().tree.set_attr(self.ino, attr)?)
    }

    async fn open(&self, flags: OpenFlags) -> Result<MemFile> {
        let state = &mut *self.state();
        let writes =
            flags.intersects(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE | OpenFlags::TRUNCATE);
        match &state.tree.node(self.ino).content {
            Content::Dir { .. } if writes => return Err(Errno::EISDIR.into()),
            Content::Dir { .. } => (),
            _ if flags.contains(OpenFlags::DIRECTORY) => return Err(Errno::ENOTDIR.into()),
            Content::File(_) if flags.contains(OpenFlags::TRUNCATE) => {
                state.tree.set_len(self.ino, 0)?;
            }
            Content::File(_) => (),
            Content::Symlink(_) => return Err(Errno::ELOOP.into()),
            Content::Special { .. } => return Err(Errno::ENXIO.into()),
        }
        state.opened += 1;
        let id = Fid(state.opened);
        *state.held.entry(self.ino).or_default() += 1;
        let node = MemNode {
            tree: self.tree.clone(),
            ..*self
        };
        Ok(MemFile { node, flags, id })
    }

    async fn create(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Created<Self>> {
        assert!(p9_tree::is_name(name), "{name:?}");
        let mode = FileKind::REGULAR.bits() | mode & 0o7777;
        let node = match self.make(name, mode, gid, Content::File(Vec::new())) {
            Err(p9_tree::Error::Errno(Errno::EEXIST)) if !flags.contains(OpenFlags::EXCLUSIVE) => {
                self.walk(name).await?
            }
            made => made?,
        };
        let file = node.open(flags).await?;
        Ok(Created { node, file })
    }

    async fn mkdir(&self, name: &[u8], mode: u32, gid: u32) -> Result<Self> {
        assert!(p9_tree::is_name(name), "{name:?}");
        let gid = if gid == u32::MAX { 0 } else { gid };
        let made = self.state().tree.mkdir(self.ino, name, mode, gid);
        Ok(self.tree.node(made?))
    }

    async fn symlink(&self, name: &[u8], target: &[u8], gid: u32) -> Result<Self> {
        assert!(p9_tree::is_name(name), "{name:?}");
        let mode = FileKind::SYMLINK.bits() | 0o777;
        self.make(name, mode, gid, Content::Symlink(target.to_vec()))
    }

    async fn mknod(
        &self,
        name: &[u8],
        mode: u32,
        major: u32,
        minor: u32,
        gid: u32,
    ) -> Result<Self> {
        assert!(p9_tree::is_name(name), "{name:?}");
        let content = match FileKind::of_mode(mode) {
            FileKind::DIR | FileKind::SYMLINK => return Err(Errno::EINVAL.into()),
            FileKind::REGULAR => Content::File(Vec::new()),
            _ => Content::Special {
                rdev: u64::from(major) << 8 | u64::from(minor),
            },
        };
        self.make(name, mode, gid, content)
    }

    async fn link(&self, original: &Self, name: &[u8]) -> Result<()> {
        assert!(p9_tree::is_name(name), "{name:?}");
        Ok(self.state().tree.link(self.ino, name, original.ino)?)
    }

    async fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        assert!(p9_tree::is_name(name) && p9_tree::is_name(new_name));
        let renamed = self
            .state()
            .tree
            .rename((self.ino, name), (to.ino, new_name));
        if let Some(replaced) = renamed? {
            self.forget(replaced);
        }
        Ok(())
    }

    async fn unlink(&self, name: &[u8], flags: UnlinkFlags) -> Result<()> {
        assert!(p9_tree::is_name(name), "{name:?}");
        let dir = flags.contains(UnlinkFlags::REMOVE_DIR);
        let gone = self.state().tree.unlink(self.ino, name, dir)?;
        self.forget(gone);
        Ok(())
    }

    async fn readlink(&self) -> Result<Vec<u8>> {
        match &self.state().tree.node(self.ino).content {
            Content::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    async fn statfs(&self) -> Result<Statfs> {
        Ok(Statfs {
            kind: 0x0102_1994,
            bsize: 4096,
            blocks: 1 << 16,
            bfree: 1 << 15,
            bavail: 1 << 15,
            files: 1 << 20,
            ffree: 1 << 19,
            fsid: 9,
            namelen: 255,
        })
    }

    async fn xattr(&self, name: &[u8], max: usize) -> Result<Vec<u8>> {
        let state = self.state();
        let value = state.tree.node(self.ino).xattrs.get(name);
        let value = value.ok_or(Errno::ENODATA)?;
        match value.len() <= max {
            true => Ok(value.clone()),
            false => Err(Errno::E2BIG.into()),
        }
    }

    async fn list_xattrs(&self, max: usize) -> Result<Vec<u8>> {
        let state = self.state();
        let names = state.tree.node(self.ino).xattrs.keys();
        let list: Vec<u8> = names.flat_map(|name| [name, &b"\0"[..]].concat()).collect();
        match list.len() <= max {
            true => Ok(list),
            false => Err(Errno::E2BIG.into()),
        }
    }

    async fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        let state = &mut *self.state();
        let xattrs = &mut state.tree.node_mut(self.ino).xattrs;
        let exists = xattrs.contains_key(name);
        if flags.contains(XattrFlags::CREATE) && exists {
            return Err(Errno::EEXIST.into());
        }
        if flags.contains(XattrFlags::REPLACE) && !exists {
            return Err(Errno::ENODATA.into());
        }
        xattrs.insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    async fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        let state = &mut *self.state();
        let removed = state.tree.node_mut(self.ino).xattrs.remove(name);
        removed.map(drop).ok_or(Errno::ENODATA.into())
    }
}

impl OpenFile for MemFile {
    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        let state = self.node.state();
        let count = into.len().min(state.io_limit) as u32;
        let data = state.tree.read(self.node.ino, offset, count)?;
        into[..data.len()].copy_from_slice(data);
        Ok(data.len())
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        let append = self.flags.contains(OpenFlags::APPEND);
        let state = &mut *self.node.state();
        let bytes = from.iter().copied().take(state.io_limit);
        let written = state.tree.write(self.node.ino, offset, bytes, append);
        Ok(written? as usize)
    }

    async fn readdir(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let state = self.node.state();
        for (name, Entry { ino, cookie }) in state.tree.list(self.node.ino, offset)? {
            let mut entry = DirEntry {
                qid: state.tree.qid(ino),
                offset: cookie,
                kind: DirEntryKind::of(FileKind::of_mode(state.tree.node(ino).mode)),
                name,
            };
            if state.untyped_entries {
                (entry.qid.kind, entry.kind) = (QidKind::empty(), DirEntryKind::UNKNOWN);
            }
            if !each(&entry) {
                break;
            }
        }
        Ok(())
    }

    async fn lock(&self, lock: &p9_tree::Lock<'_>, _: LockFlags) -> Result<LockStatus> {
        let wanted = wanted(lock);
        let locks = &mut self.node.state().locks;
        Ok(match locks.conflict(self.node.ino, &wanted) {
            Some(_) if lock.kind != LockKind::UNLOCK => LockStatus::BLOCKED,
            _ => {
                locks.set(self.node.ino, self.id, wanted);
                LockStatus::SUCCESS
            }
        })
    }

    async fn getlock(&self, lock: &p9_tree::Lock<'_>) -> Result<Option<HeldLock>> {
        let state = self.node.state();
        let held = state.locks.conflict(self.node.ino, &wanted(lock));
        Ok(held.map(|held| HeldLock {
            kind: held.kind,
            start: held.start,
            length: held.length(),
            owner: held.proc_id,
            client: held.client_id.clone(),
        }))
    }
}

fn wanted(lock: &p9_tree::Lock<'_>) -> Lock {
    Lock::new(lock.kind, lock.start, lock.length, lock.owner, lock.client)
}
