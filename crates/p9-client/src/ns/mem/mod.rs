//! Trees in memory.

mod node;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

pub(super) use self::node::copy_out;
use self::node::{Body, Clock, MemFile, NODE_COST, Node, Shared};
use super::synthetic::Synthetic;
use super::{Entries, Entry, OpenFile, Tree};
use crate::fs::{
    Error, FileTimes, Metadata, OpenOptions, Permissions, Probe, Result, StatFs, SystemTime,
};
use p9_tree::CleanPath;
use p9_wire::{Errno, Statfs};

/// A tree of files in memory, empty to begin with. Clones are cheap and mean the same tree.
///
/// Content, names and links count against a limit, 16 MiB unless [`with_limit`](Self::with_limit) says
/// otherwise: beyond it is ENOSPC. It has files, directories, symbolic links and
/// [synthetic files](Synthetic), no hard links and no devices; everybody may do everything that the
/// options of an open file allow. Files that were removed live until they are closed.
#[derive(Clone)]
pub struct MemTree {
    root: Rc<Node>,
    shared: Rc<Shared>,
}

impl fmt::Debug for MemTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemTree")
            .field("limit", &self.shared.limit)
            .field("used", &self.shared.used.get())
            .finish_non_exhaustive()
    }
}

impl Default for MemTree {
    fn default() -> Self {
        Self::new()
    }
}

impl MemTree {
    /// An empty tree with room for 16 MiB.
    pub fn new() -> Self {
        Self::with_limit(16 << 20)
    }

    /// An empty tree with room for `bytes`, of which each file, directory and link takes 512 besides its
    /// content. Its files are of the year 1970.
    pub fn with_limit(bytes: usize) -> Self {
        Self::build(bytes, None)
    }

    /// As [`with_limit`](Self::with_limit), with a clock that tells the times of files.
    pub fn with_clock(bytes: usize, now: impl Fn() -> SystemTime + 'static) -> Self {
        Self::build(bytes, Some(Box::new(now)))
    }

    fn build(limit: usize, clock: Option<Clock>) -> Self {
        let shared = Rc::new(Shared {
            limit,
            // The root is free.
            used: Cell::new(0),
            last_ino: Cell::new(0),
            clock,
        });
        // Two trees never give two files one number: each counts from where it lies in memory.
        let first = (Rc::as_ptr(&shared).addr() as u64) << 16;
        shared.last_ino.set(first);
        let now = shared.now();
        let root = Rc::new(Node {
            ino: first,
            permissions: Cell::new(0o755),
            owner: Cell::new((0, 0)),
            accessed: Cell::new(now),
            modified: Cell::new(now),
            body: Body::Dir(RefCell::default()),
            shared: shared.clone(),
        });
        MemTree { root, shared }
    }

    /// Makes a file with this content, mode 0644, and the directories on its way.
    ///
    /// # Errors
    /// EEXIST when the name is taken, ENOTDIR when something else than a directory is on the way, ENOSPC.
    pub fn put(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Result<()> {
        let content = Body::File(RefCell::new(content.as_ref().to_vec()));
        self.put_node(path.as_ref(), 0o644, content)
    }

    /// Makes a file that functions stand behind, and the directories on its way.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_synthetic(&self, path: impl AsRef<[u8]>, file: Synthetic) -> Result<()> {
        let permissions = file.permissions();
        self.put_node(path.as_ref(), permissions, Body::Synthetic(Rc::new(file)))
    }

    fn put_node(&self, path: &[u8], permissions: u32, body: Body) -> Result<()> {
        let path = CleanPath::new(path)?;
        let name = path.file_name().ok_or(Errno::EEXIST)?;
        let mut dir = self.root.clone();
        for name in path.parent().names() {
            let next = dir.entries()?.borrow().get(name).cloned();
            dir = match next {
                Some(next) => next,
                None => self.insert(&dir, name, 0o755, Body::Dir(RefCell::default()))?,
            };
        }
        self.insert(&dir, name, permissions, body).map(drop)
    }

    /// How far a path leads: to a node, to a link, or to the index of a name that is missing.
    fn walk(&self, path: &CleanPath) -> Result<(Rc<Node>, usize)> {
        let mut node = self.root.clone();
        let mut at = 0;
        for name in path.names() {
            let next = match &node.body {
                Body::Dir(entries) => entries.borrow().get(name).cloned(),
                Body::Link(_) => break,
                Body::File(_) | Body::Synthetic(_) => return Err(Errno::ENOTDIR.into()),
            };
            let Some(next) = next else { break };
            node = next;
            at += 1;
        }
        Ok((node, at))
    }

    fn node(&self, path: &[u8]) -> Result<Rc<Node>> {
        self.node_at(&CleanPath::new(path)?)
    }

    fn node_at(&self, path: &CleanPath) -> Result<Rc<Node>> {
        let (node, at) = self.walk(path)?;
        match at == path.names().count() {
            true => Ok(node),
            // A link on the way is none of ours to follow: the name space has done that.
            false => Err(Errno::ENOENT.into()),
        }
    }

    /// The directory of what a path names, and the name.
    fn parent(&self, path: &[u8], at_root: Errno) -> Result<(Rc<Node>, Vec<u8>)> {
        let path = CleanPath::new(path)?;
        let name = path.file_name().ok_or(at_root)?.to_vec();
        let parent = self.node_at(&path.parent())?;
        parent.entries()?;
        Ok((parent, name))
    }

    fn add(&self, path: &[u8], permissions: u32, body: Body) -> Result<Rc<Node>> {
        let (parent, name) = self.parent(path, Errno::EEXIST)?;
        self.insert(&parent, &name, permissions, body)
    }

    fn insert(&self, dir: &Node, name: &[u8], permissions: u32, body: Body) -> Result<Rc<Node>> {
        let entries = dir.entries()?;
        if entries.borrow().contains_key(name) {
            return Err(Errno::EEXIST.into());
        }
        let node = Node::new(&self.shared, permissions, body)?;
        entries.borrow_mut().insert(name.to_vec(), node.clone());
        dir.touch();
        Ok(node)
    }

    /// Takes a name away if the node passes the check.
    fn take(&self, path: &[u8], at_root: Errno, check: impl Fn(&Node) -> Result<()>) -> Result<()> {
        let (parent, name) = self.parent(path, at_root)?;
        let node = parent.entries()?.borrow().get(&name).cloned();
        check(&*node.ok_or(Errno::ENOENT)?)?;
        // Dropped with nothing borrowed: a synthetic file may take with it what uses this tree.
        let gone = parent.entries()?.borrow_mut().remove(&name);
        parent.touch();
        drop(gone);
        Ok(())
    }
}

fn check_empty(node: &Node) -> Result<()> {
    match node.entries()?.borrow().is_empty() {
        true => Ok(()),
        false => Err(Errno::ENOTEMPTY.into()),
    }
}

impl Tree for MemTree {
    fn probe(&self, path: &[u8]) -> Result<Probe> {
        let path = CleanPath::new(path)?;
        let (node, at) = self.walk(&path)?;
        Ok(match &node.body {
            Body::Link(target) => Probe::Link {
                at: at.saturating_sub(1),
                target: target.clone(),
            },
            _ if at < path.names().count() => Probe::Missing { at },
            _ => Probe::Found {
                is_dir: node.is_dir(),
            },
        })
    }

    fn open(&self, path: &[u8], options: &OpenOptions) -> Result<Box<dyn OpenFile>> {
        options.check()?;
        let node = match self.node(path) {
            Ok(_) if options.is_create_new() => return Err(Errno::EEXIST.into()),
            Err(error) if error.is_not_found() && options.is_create() => {
                // As with a mount's usual umask.
                let mode = options.new_mode() & !0o022;
                self.add(path, mode, Body::File(RefCell::default()))?
            }
            found => found?,
        };
        match &node.body {
            Body::Dir(_) if options.is_write() => return Err(Errno::EISDIR.into()),
            Body::Link(_) => return Err(Errno::ELOOP.into()),
            Body::File(_) | Body::Synthetic(_) if options.is_directory() => {
                return Err(Errno::ENOTDIR.into());
            }
            Body::Synthetic(file) => {
                let handle = Synthetic::open(file.clone(), node.metadata(), options)?;
                return Ok(Box::new(handle));
            }
            Body::File(_) if options.is_truncate() => node.set_len(0)?,
            Body::Dir(_) | Body::File(_) => {}
        }
        Ok(Box::new(MemFile {
            node,
            options: *options,
        }))
    }

    fn metadata(&self, path: &[u8]) -> Result<Metadata> {
        Ok(self.node(path)?.metadata())
    }

    fn read_dir(&self, path: &[u8]) -> Result<Entries> {
        let node = self.node(path)?;
        // A snapshot, so that the directory may change meanwhile.
        let entries: Vec<Result<Entry>> = node
            .entries()?
            .borrow()
            .iter()
            .map(|(name, node)| {
                Ok(Entry {
                    name: name.clone(),
                    kind: Some(node.metadata().file_type()),
                    ino: node.ino,
                    metadata: None,
                })
            })
            .collect();
        Ok(Box::new(entries.into_iter()))
    }

    fn create_dir(&self, path: &[u8]) -> Result<()> {
        self.add(path, 0o755, Body::Dir(RefCell::default()))
            .map(drop)
    }

    fn remove_file(&self, path: &[u8]) -> Result<()> {
        self.take(path, Errno::EISDIR, |node| match node.is_dir() {
            true => Err(Errno::EISDIR.into()),
            false => Ok(()),
        })
    }

    fn remove_dir(&self, path: &[u8]) -> Result<()> {
        self.take(path, Errno::EBUSY, check_empty)
    }

    fn remove_dir_all(&self, path: &[u8]) -> Result<()> {
        self.take(path, Errno::EBUSY, |node| node.entries().map(drop))
    }

    fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let (old_dir, old_name) = self.parent(from, Errno::EBUSY)?;
        let (new_dir, new_name) = self.parent(to, Errno::EBUSY)?;
        let old = old_dir.entries()?.borrow().get(&old_name).cloned();
        let old = old.ok_or(Errno::ENOENT)?;
        let (from, to) = (CleanPath::new(from)?, CleanPath::new(to)?);
        if old.is_dir() && to.below(&from).is_some_and(|rest| !rest.is_empty()) {
            return Err(Errno::EINVAL.into());
        }
        let new = new_dir.entries()?.borrow().get(&new_name).cloned();
        match &new {
            Some(new) if Rc::ptr_eq(&old, new) => return Ok(()),
            Some(new) if old.is_dir() => check_empty(new)?,
            Some(new) if new.is_dir() => return Err(Errno::EISDIR.into()),
            _ => {}
        }
        old_dir.entries()?.borrow_mut().remove(&old_name);
        let gone = new_dir.entries()?.borrow_mut().insert(new_name, old);
        old_dir.touch();
        new_dir.touch();
        drop((gone, new));
        Ok(())
    }

    fn hard_link(&self, _original: &[u8], _link: &[u8]) -> Result<()> {
        Err(Errno::EPERM.into())
    }

    fn symlink(&self, target: &[u8], link: &[u8]) -> Result<()> {
        if target.is_empty() {
            return Err(Error::InvalidPath("empty path"));
        }
        if target.contains(&0) {
            return Err(Error::InvalidPath("NUL in a path"));
        }
        self.add(link, 0o777, Body::Link(target.to_vec())).map(drop)
    }

    fn mknod(&self, _path: &[u8], _mode: u32, _major: u32, _minor: u32) -> Result<()> {
        Err(Errno::EPERM.into())
    }

    fn set_permissions(&self, path: &[u8], permissions: Permissions) -> Result<()> {
        self.node(path)?.permissions.set(permissions.mode());
        Ok(())
    }

    fn set_times(&self, path: &[u8], times: FileTimes) -> Result<()> {
        self.node(path)?.set_times(times);
        Ok(())
    }

    fn chown(&self, path: &[u8], uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let node = self.node(path)?;
        let (old_uid, old_gid) = node.owner.get();
        node.owner
            .set((uid.unwrap_or(old_uid), gid.unwrap_or(old_gid)));
        Ok(())
    }

    fn truncate(&self, path: &[u8], size: u64) -> Result<()> {
        self.node(path)?.set_len(size)
    }

    fn set_xattr(&self, _path: &[u8], _name: &[u8], _value: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn remove_xattr(&self, _path: &[u8], _name: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP.into())
    }

    fn statfs(&self, _path: &[u8]) -> Result<StatFs> {
        const BLOCK: usize = 512;
        let free = self.shared.limit.saturating_sub(self.shared.used.get());
        let free_blocks = (free / BLOCK) as u64;
        Ok(StatFs::from(&Statfs {
            kind: 0x0102_1994,
            bsize: BLOCK as u32,
            blocks: (self.shared.limit / BLOCK) as u64,
            bfree: free_blocks,
            bavail: free_blocks,
            files: (self.shared.limit / NODE_COST) as u64,
            ffree: (free / NODE_COST) as u64,
            fsid: 0,
            namelen: 255,
        }))
    }
}
