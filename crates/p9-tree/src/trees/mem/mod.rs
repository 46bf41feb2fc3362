//! Trees in memory.

mod file;
mod inode;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

use p9_wire::{
    Attr, AttrMask, Errno, FileKind, OpenFlags, Qid, QidKind, SetAttr, Statfs, UnlinkFlags,
    XattrFlags,
};

pub use self::file::MemFile;
use self::inode::{Body, Clock, Inode, NODE_COST, Shared};
use super::synthetic::Synthetic;
use super::writes;
use crate::{CleanPath, Created, Error, MAX_NAME, Node, Result, SystemTime};

/// A tree of files in memory, empty to begin with. Clones are cheap and mean the same tree.
///
/// Content, names and links count against a limit, 16 MiB unless [`with_limit`](Self::with_limit) says
/// otherwise: beyond it is ENOSPC. It has files, directories, symbolic links and
/// [synthetic files](Synthetic), no hard links and no devices; everybody may do everything that the
/// options of an open file allow. Files that were removed live until they are closed.
#[derive(Clone)]
pub struct MemTree {
    root: Rc<Inode>,
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

    /// As [`with_limit`](Self::with_limit), with a clock that tells the times of files. The time at which the tree is made
    /// is the generation of its files.
    pub fn with_clock(bytes: usize, now: impl Fn() -> SystemTime + 'static) -> Self {
        Self::build(bytes, Some(Box::new(now)))
    }

    fn build(limit: usize, clock: Option<Clock>) -> Self {
        let made = clock.as_ref().and_then(|now| now().since_epoch());
        let shared = Rc::new(Shared {
            made: made.map_or(0, |made| made.as_nanos() as u64),
            limit,
            // The root is free.
            used: Cell::new(0),
            last_ino: Cell::new(0),
            clock,
        });
        let root = Inode::build(&shared, 0o755, Body::dir());
        MemTree { root, shared }
    }

    /// The root of the tree.
    pub fn root(&self) -> MemNode {
        MemNode(self.root.clone())
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
        for name in path.parent()?.names() {
            let next = dir.entries()?.borrow().get(name).cloned();
            dir = match next {
                Some(next) => next,
                None => dir.make(name, 0o755, 0, Body::dir())?,
            };
        }
        dir.make(name, permissions, 0, body).map(drop)
    }
}

/// A file, directory or symbolic link of a [`MemTree`].
#[derive(Clone)]
pub struct MemNode(Rc<Inode>);

impl fmt::Debug for MemNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemNode").field(&self.0.ino).finish()
    }
}

impl MemNode {
    fn child(&self, name: &[u8]) -> Result<Rc<Inode>> {
        let child = self.0.entries()?.borrow().get(name).cloned();
        child.ok_or(Errno::ENOENT.into())
    }

    fn is_of_tree(&self, other: &MemNode) -> Result<()> {
        match Rc::ptr_eq(&self.0.shared, &other.0.shared) {
            true => Ok(()),
            false => Err(Errno::EXDEV.into()),
        }
    }
}

impl Node for MemNode {
    type File = MemFile;

    fn qid(&self) -> Qid {
        self.0.qid()
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        self.child(name).map(MemNode)
    }

    async fn getattr(&self, _mask: AttrMask) -> Result<Attr> {
        Ok(self.0.attr())
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.0.setattr(attr)
    }

    async fn open(&self, flags: OpenFlags) -> Result<MemFile> {
        let is_dir = self.0.is_dir();
        match &self.0.body {
            Body::Dir(_) if writes(flags) || flags.contains(OpenFlags::TRUNCATE) => {
                return Err(Errno::EISDIR.into());
            }
            Body::Link(_) => return Err(Errno::ELOOP.into()),
            _ if flags.contains(OpenFlags::DIRECTORY) && !is_dir => {
                return Err(Errno::ENOTDIR.into());
            }
            Body::Synthetic(file) => {
                let handle = Synthetic::open(file.clone(), flags)?;
                return Ok(MemFile::new(self.0.clone(), flags, Some(handle)));
            }
            Body::File(_) if flags.contains(OpenFlags::TRUNCATE) => self.0.set_len(0)?,
            Body::Dir(_) | Body::File(_) => {}
        }
        Ok(MemFile::new(self.0.clone(), flags, None))
    }

    async fn create(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Created<Self>> {
        let node = match self.child(name) {
            Ok(_) if flags.contains(OpenFlags::EXCLUSIVE) => return Err(Errno::EEXIST.into()),
            Ok(there) => MemNode(there),
            Err(error) if error.is_not_found() => {
                let body = Body::File(RefCell::default());
                MemNode(self.0.make(name, mode, gid, body)?)
            }
            Err(error) => return Err(error),
        };
        let file = node.open(flags).await?;
        Ok(Created { node, file })
    }

    async fn mkdir(&self, name: &[u8], mode: u32, gid: u32) -> Result<Self> {
        self.0.make(name, mode, gid, Body::dir()).map(MemNode)
    }

    async fn symlink(&self, name: &[u8], target: &[u8], gid: u32) -> Result<Self> {
        if target.is_empty() {
            return Err(Error::InvalidPath(&"empty path"));
        }
        if target.contains(&0) {
            return Err(Error::InvalidPath(&"NUL in a path"));
        }
        let body = Body::Link(target.to_vec());
        self.0.make(name, 0o777, gid, body).map(MemNode)
    }

    async fn mknod(
        &self,
        name: &[u8],
        mode: u32,
        _major: u32,
        _minor: u32,
        gid: u32,
    ) -> Result<Self> {
        let kind = FileKind::of_mode(mode);
        if kind.bits() != 0 && kind != FileKind::REGULAR {
            return Err(Errno::EPERM.into());
        }
        let body = Body::File(RefCell::default());
        self.0.make(name, mode, gid, body).map(MemNode)
    }

    async fn link(&self, _original: &Self, _name: &[u8]) -> Result<()> {
        Err(Errno::EPERM.into())
    }

    async fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        self.is_of_tree(to)?;
        let old = self.child(name)?;
        if to.0.is_removed() {
            return Err(Errno::ENOENT.into());
        }
        if old.is_dir() && to.0.is_within(&old) {
            return Err(Errno::EINVAL.into());
        }
        let new = to.0.entries()?.borrow().get(new_name).cloned();
        match &new {
            Some(new) if Rc::ptr_eq(&old, new) => return Ok(()),
            Some(new) if old.is_dir() => new.check_empty()?,
            Some(new) if new.is_dir() => return Err(Errno::EISDIR.into()),
            _ => {}
        }
        let gone = self.0.entries()?.borrow_mut().remove(name);
        old.move_to(&to.0);
        let replaced = to.0.entries()?.borrow_mut().insert(new_name.to_vec(), old);
        if let Some(replaced) = &replaced {
            replaced.removed();
        }
        self.0.touch();
        to.0.touch();
        // Dropped with nothing borrowed: a synthetic file may take with it what uses this tree.
        drop((gone, replaced, new));
        Ok(())
    }

    async fn unlink(&self, name: &[u8], flags: UnlinkFlags) -> Result<()> {
        let node = self.child(name)?;
        if flags.contains(UnlinkFlags::REMOVE_DIR) {
            node.check_empty()?;
        } else if node.is_dir() {
            return Err(Errno::EISDIR.into());
        }
        let gone = self.0.entries()?.borrow_mut().remove(name);
        node.removed();
        self.0.touch();
        // As above.
        drop((gone, node));
        Ok(())
    }

    async fn readlink(&self) -> Result<Vec<u8>> {
        match &self.0.body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    async fn statfs(&self) -> Result<Statfs> {
        const BLOCK: usize = 512;
        let shared = &self.0.shared;
        let free = shared.limit.saturating_sub(shared.used.get());
        let free_blocks = (free / BLOCK) as u64;
        Ok(Statfs {
            // TMPFS_MAGIC.
            kind: 0x0102_1994,
            bsize: BLOCK as u32,
            blocks: (shared.limit / BLOCK) as u64,
            bfree: free_blocks,
            bavail: free_blocks,
            files: (shared.limit / NODE_COST) as u64,
            ffree: (free / NODE_COST) as u64,
            fsid: 0,
            namelen: MAX_NAME as u32,
        })
    }

    async fn set_xattr(&self, _name: &[u8], _value: &[u8], _flags: XattrFlags) -> Result<()> {
        Err(Errno::EOPNOTSUPP.into())
    }
}

/// The kind in a qid for what a mode says.
fn qid_kind(kind: FileKind) -> QidKind {
    match kind {
        FileKind::DIR => QidKind::DIR,
        FileKind::SYMLINK => QidKind::SYMLINK,
        _ => QidKind::empty(),
    }
}
