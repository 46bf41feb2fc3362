//! A tree that remembers what was asked of another.

mod file;
mod listings;
mod pages;
mod stamp;
mod store;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use p9_wire::{Attr, AttrMask, OpenFlags, Qid, SetAttr, Statfs, UnlinkFlags, XattrFlags};

use self::store::{Cache, Change, Changing};
use crate::{CleanPath, Created, Driver, Make, NewFiles, Node, Result, Walked};

pub use self::file::CachedFile;

/// A file of a tree that remembers what was asked of the tree below, for programs that ask for the same again and again.
///
/// # What may be old
/// Others may change the tree below, and there is nothing that would tell. What is seen of that is what NFS promises, too:
/// *close to open*. Who opens a file sees at least what others had written and closed by then; while it stays open, data that was read
/// once may be given again. Attributes, and what symbolic links say, are believed for a second, as is the size of an open file.
/// Whether a name is there is asked for each time. A directory that is listed from its beginning shows at least what others had
/// done to its names by then.
///
/// Each time that a regular file is opened to be read, or a directory is listed from its beginning, its attributes are asked for: one
/// request more. Data and listings are kept over that only where size, version, and the times of the last change of content and
/// attributes are what they were. Where the tree does not tell these, as in 9P2000 and 9P2000.u, neither is kept; nor are those of
/// files and directories that say that they are empty, whose content may be made up when it is read.
///
/// # Changes through this tree
/// They go to the tree below at once, are never kept for later, and are seen by all nodes and files of this one. Taking a lock
/// forgets the file's data, so that programs that agree by locks see what the others wrote. A change of a name forgets all
/// listings; a directory that is being listed goes on as it began.
///
/// # Memory
/// Data and listings take no more than the given bytes; data that was of no use for longest goes first. Listings take a quarter
/// of that, and are all forgotten when that is full. Names, with what is known of them, take an eighth on top, and are all
/// forgotten when that is full. [`give_back`](Self::give_back) is for those who run out of
/// memory.
#[derive(Clone)]
pub struct CachedNode<N> {
    inner: N,
    cache: Rc<Cache>,
    /// The way it was walked to.
    path: Rc<CleanPath>,
    /// How often names had changed by then.
    names_seen: u64,
}

impl<N: fmt::Debug> fmt::Debug for CachedNode<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CachedNode").field(&self.inner).finish()
    }
}

impl<N: Node + 'static> CachedNode<N> {
    /// The tree that begins with `root`, with room for so many bytes of data. `clock` tells the time since whenever. With room
    /// for none, nothing is remembered, and nothing more is asked for than without a cache.
    ///
    /// All nodes that come of this one share what is remembered. Two such trees over one do not: each is to the other as any
    /// other program.
    ///
    /// ```
    /// use core::time::Duration;
    /// use xen9p::tree::files::Fs;
    /// use xen9p::tree::trees::{CachedNode, MemTree};
    ///
    /// # fn main() -> xen9p::tree::Result<()> {
    /// let tree = MemTree::new();
    /// let fs = Fs::new(CachedNode::new(tree.root(), 1 << 20, || Duration::ZERO));
    /// fs.write("/a", "content")?;
    /// assert_eq!(fs.read("/a")?, b"content");
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(root: N, bytes: usize, clock: impl Fn() -> Duration + 'static) -> Self {
        let below = root.clone();
        let epoch = Box::new(move || below.epoch());
        CachedNode {
            inner: root,
            cache: Rc::new(Cache::new(bytes, Box::new(clock), epoch)),
            path: Rc::new(CleanPath::root()),
            names_seen: 0,
        }
    }
}

impl<N> CachedNode<N> {
    /// Gives back half of the memory that data takes, and what names and listings take; says whether that was anything. For a program, or an
    /// allocator, that has none left: it may be called at any time, and allocates nothing.
    pub fn give_back(&self) -> bool {
        self.cache.give_back()
    }
}

impl<N: Node> CachedNode<N> {
    fn at(&self, inner: N, path: Rc<CleanPath>, names_seen: u64) -> Self {
        CachedNode {
            inner,
            cache: self.cache.clone(),
            path,
            names_seen,
        }
    }

    fn join(&self, names: &[&[u8]]) -> Result<Rc<CleanPath>> {
        Ok(Rc::new(self.path.join(names)?))
    }

    /// Whether what is below this node is still found by its path, as far as this tree has changed names.
    fn is_in_place(&self, names_seen: u64) -> bool {
        self.path.is_root() || self.names_seen == names_seen
    }

    fn change(&self, what: Change) -> Changing<'_> {
        self.cache.change(what)
    }

    /// The nodes that names lead along to, as those of this tree.
    fn wrap(
        &self,
        names: &[&[u8]],
        below: Vec<N>,
        nodes: &mut Vec<Self>,
        names_seen: u64,
    ) -> Result<()> {
        for (index, inner) in below.into_iter().enumerate() {
            let path = self.join(names.get(..=index).unwrap_or(names))?;
            nodes.push(self.at(inner, path, names_seen));
        }
        Ok(())
    }

    /// A change of this file's data.
    fn data(&self) -> Change {
        Change::Data(Some(self.inner.identity().path))
    }

    async fn opened(&self, file: N::File, flags: OpenFlags) -> CachedFile<N::File> {
        CachedFile::opened(self.cache.clone(), file, flags).await
    }
}

impl<N: Node> Node for CachedNode<N> {
    type File = CachedFile<N::File>;

    fn qid(&self) -> Qid {
        self.inner.qid()
    }

    fn driver(&self) -> &dyn Driver {
        self.inner.driver()
    }

    fn new_files(&self) -> NewFiles {
        self.inner.new_files()
    }

    fn check_flags(&self) -> Result<()> {
        self.inner.check_flags()
    }

    fn has_few_fids(&self) -> bool {
        self.inner.has_few_fids()
    }

    fn is_kept(&self) -> bool {
        self.inner.is_kept()
    }

    fn concurrent(&self) -> Self {
        let inner = self.inner.concurrent();
        self.at(inner, self.path.clone(), self.names_seen)
    }

    fn identity(&self) -> Qid {
        self.inner.identity()
    }

    fn epoch(&self) -> u64 {
        self.inner.epoch()
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        let (path, (_, seen)) = (self.join(&[name])?, self.cache.changes());
        Ok(self.at(self.inner.walk(name).await?, path, seen))
    }

    async fn walk_along(&self, names: &[&[u8]], nodes: &mut Vec<Self>) -> Result<()> {
        let (mut below, (_, seen)) = (Vec::new(), self.cache.changes());
        let walked = self.inner.walk_along(names, &mut below).await;
        self.wrap(names, below, nodes, seen).and(walked)
    }

    async fn look_along(&self, names: &[&[u8]], nodes: &mut Vec<Self>) -> Result<()> {
        let (mut below, (_, seen)) = (Vec::new(), self.cache.changes());
        let walked = self.inner.look_along(names, &mut below).await;
        self.wrap(names, below, nodes, seen).and(walked)
    }

    async fn walk_at(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        let (path, (_, seen)) = (self.join(names)?, self.cache.changes());
        let walked = self.inner.walk_at(names).await?;
        Ok(walked.map(|inner| self.at(inner, path, seen)))
    }

    async fn dir_at(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        let (path, (_, seen)) = (self.join(names)?, self.cache.changes());
        let walked = self.inner.dir_at(names).await?;
        Ok(walked.map(|inner| self.at(inner, path, seen)))
    }

    async fn getattr_at(&self, names: &[&[u8]], mask: AttrMask) -> Result<Walked<Attr>> {
        let (path, (seen, names_seen)) = (self.join(names)?, self.cache.changes());
        if !self.is_in_place(names_seen) {
            return self.inner.getattr_at(names, mask).await;
        }
        let path = path.as_bytes();
        if let Some((attr, qid)) = self.cache.attr(path, mask) {
            return Ok(Walked::Through(attr, qid));
        }
        let found = self.inner.getattr_at(names, mask).await?;
        if let Walked::Through(attr, qid) = found {
            self.cache.keep_attr(path, mask, attr, qid, seen);
        }
        Ok(found)
    }

    async fn open_at(&self, names: &[&[u8]], flags: OpenFlags) -> Result<Walked<Self::File>> {
        if flags.contains(OpenFlags::TRUNCATE) {
            // Whose data is changed has to be known before.
            let walked = self.walk_at(names).await?.stop_at_link(names.len());
            return walked.then(async |node| node.into_open(flags).await).await;
        }
        let opened = self.inner.open_at(names, flags).await?;
        let opened = opened.then(async |file| Ok(self.opened(file, flags).await));
        opened.await
    }

    async fn readlink_at(&self, names: &[&[u8]]) -> Result<Walked<Vec<u8>>> {
        let (path, (seen, names_seen)) = (self.join(names)?, self.cache.changes());
        if !self.is_in_place(names_seen) {
            return self.inner.readlink_at(names).await;
        }
        let path = path.as_bytes();
        if let Some((link, qid)) = self.cache.link(path, None) {
            return Ok(Walked::Through(link, qid));
        }
        let found = self.inner.readlink_at(names).await?;
        if let Walked::Through(link, qid) = &found {
            self.cache.keep_link(path, link, *qid, seen);
        }
        Ok(found)
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        self.inner.getattr(mask).await
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        let _changing = self.change(self.data());
        self.inner.setattr(attr).await
    }

    async fn open(&self, flags: OpenFlags) -> Result<Self::File> {
        let empties = flags.contains(OpenFlags::TRUNCATE);
        let changing = empties.then(|| self.change(self.data()));
        let file = self.inner.open(flags).await?;
        drop(changing);
        Ok(self.opened(file, flags).await)
    }

    async fn into_open(self, flags: OpenFlags) -> Result<Self::File> {
        let CachedNode { inner, cache, .. } = self;
        let data = Change::Data(Some(inner.identity().path));
        let empties = flags.contains(OpenFlags::TRUNCATE);
        let changing = empties.then(|| cache.change(data));
        let file = inner.into_open(flags).await?;
        drop(changing);
        Ok(CachedFile::opened(cache, file, flags).await)
    }

    async fn create(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Created<Self>> {
        let path = self.join(&[name])?;
        let changing = self.change(Change::Names);
        // It may be there, and be emptied.
        let empties = flags & (OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE) == OpenFlags::TRUNCATE;
        let emptying = empties.then(|| self.change(Change::Data(None)));
        let Created { node, file } = self.inner.create(name, flags, mode, gid).await?;
        drop((changing, emptying));
        let (_, seen) = self.cache.changes();
        Ok(Created {
            node: self.at(node, path, seen),
            file: self.opened(file, flags).await,
        })
    }

    async fn into_create(
        self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Self::File> {
        let CachedNode { inner, cache, .. } = self;
        let changing = cache.change(Change::Names);
        let empties = flags & (OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE) == OpenFlags::TRUNCATE;
        let emptying = empties.then(|| cache.change(Change::Data(None)));
        let file = inner.into_create(name, flags, mode, gid).await?;
        drop((changing, emptying));
        Ok(CachedFile::opened(cache, file, flags).await)
    }

    async fn mkdir(&self, name: &[u8], mode: u32, gid: u32) -> Result<Self> {
        let path = self.join(&[name])?;
        let changing = self.change(Change::Names);
        let made = self.inner.mkdir(name, mode, gid).await?;
        drop(changing);
        Ok(self.at(made, path, self.cache.changes().1))
    }

    async fn symlink(&self, name: &[u8], target: &[u8], gid: u32) -> Result<Self> {
        let path = self.join(&[name])?;
        let changing = self.change(Change::Names);
        let made = self.inner.symlink(name, target, gid).await?;
        drop(changing);
        Ok(self.at(made, path, self.cache.changes().1))
    }

    async fn mknod(
        &self,
        name: &[u8],
        mode: u32,
        major: u32,
        minor: u32,
        gid: u32,
    ) -> Result<Self> {
        let path = self.join(&[name])?;
        let changing = self.change(Change::Names);
        let made = self.inner.mknod(name, mode, major, minor, gid).await?;
        drop(changing);
        Ok(self.at(made, path, self.cache.changes().1))
    }

    async fn make(self, name: &[u8], what: Make<'_>, mode: u32, gid: u32) -> Result<()> {
        let CachedNode { inner, cache, .. } = self;
        let _changing = cache.change(Change::Names);
        inner.make(name, what, mode, gid).await
    }

    async fn link(&self, original: &Self, name: &[u8]) -> Result<()> {
        let _changing = self.change(Change::Names);
        self.inner.link(&original.inner, name).await
    }

    async fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        let _changing = self.change(Change::Names);
        self.inner.rename(name, &to.inner, new_name).await
    }

    async fn unlink(&self, name: &[u8], flags: UnlinkFlags) -> Result<()> {
        let _changing = self.change(Change::Names);
        self.inner.unlink(name, flags).await
    }

    async fn remove_all(&self, name: &[u8]) -> Result<()> {
        let _changing = self.change(Change::Names);
        self.inner.remove_all(name).await
    }

    async fn readlink(&self) -> Result<Vec<u8>> {
        let (seen, names_seen) = self.cache.changes();
        let (path, qid) = (self.path.as_bytes(), self.inner.qid());
        if !self.is_in_place(names_seen) {
            return self.inner.readlink().await;
        }
        if let Some((link, _)) = self.cache.link(path, Some(qid)) {
            return Ok(link);
        }
        let link = self.inner.readlink().await?;
        self.cache.keep_link(path, &link, qid, seen);
        Ok(link)
    }

    async fn statfs(&self) -> Result<Statfs> {
        self.inner.statfs().await
    }

    async fn xattr(&self, name: &[u8], max: usize) -> Result<Vec<u8>> {
        self.inner.xattr(name, max).await
    }

    async fn list_xattrs(&self, max: usize) -> Result<Vec<u8>> {
        self.inner.list_xattrs(max).await
    }

    async fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        let _changing = self.change(self.data());
        self.inner.set_xattr(name, value, flags).await
    }

    async fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        let _changing = self.change(self.data());
        self.inner.remove_xattr(name).await
    }
}
