//! A name space as a tree of nodes.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use p9_wire::{
    Attr, AttrMask, DirEntry, DirEntryKind, Errno, FileKind, LockFlags, LockStatus, OpenFlags, Qid,
    QidKind, SetAttr, Statfs, UnlinkFlags, XattrFlags,
};

use super::element::{Element, Mounted, Wait};
use super::resolve::{Place, View};
use super::table::creator;
use super::{Namespace, Tree};
use crate::trees::{Listed, Snapshot, hand_out};
use crate::{CleanPath, Created, DynFile, DynNode, HeldLock, Lock, Make, Node, OpenFile, Result};

/// What tells the numbers of the files of one tree from those of another.
const OTHER_TREE: u64 = 0xd6e8_feb8_6659_fd93;

/// The most entries of a directory that is made of several.
const MOST_ENTRIES: usize = 1 << 17;

/// A file as a [`Namespace`] shows it, by the rules of that; given out by [`Namespace::node`].
///
/// It is a node of the tree that the file was found in and stays with it. Mount points below a directory are found by the
/// path that it was walked to by. The numbers of files are those of their trees, each tree's mixed in another way.
#[derive(Clone)]
pub struct NsNode {
    view: View,
    seen: Rc<Seen>,
}

struct Seen {
    path: CleanPath,
    /// As in [`Found`](super::resolve::Found).
    elements: Vec<Element>,
    /// The node of the first element; `None` if there is none.
    node: Option<DynNode>,
    qid: Qid,
}

impl fmt::Debug for NsNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = String::from_utf8_lossy(self.seen.path.as_bytes());
        f.debug_tuple("NsNode").field(&path).finish()
    }
}

impl Tree for Namespace {
    fn root(&self) -> DynNode {
        DynNode::new(NsNode::root(self.view(Wait::Here)))
    }
}

/// The identity of a tree's file in the name space.
fn qid_in(tree: &Mounted, qid: Qid) -> Qid {
    Qid {
        path: qid.path ^ tree.number.wrapping_mul(OTHER_TREE),
        ..qid
    }
}

/// The identity of a directory that only leads to mount points, by its path (FNV-1a).
fn qid_of(path: &CleanPath) -> Qid {
    let hash = path
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    Qid {
        kind: QidKind::DIR,
        version: 0,
        path: hash,
    }
}

impl NsNode {
    pub(super) fn root(view: View) -> Self {
        let path = CleanPath::root();
        let nearest = view.table.borrow().nearest(&path);
        let first = nearest.elements.first();
        // What is bound over the root from within a tree is walked to when it is needed.
        let node = first
            .filter(|first| first.at.is_root())
            .map(|first| first.tree.root.clone());
        let qid = match (first, &node) {
            (Some(first), Some(node)) => qid_in(&first.tree, node.qid()),
            _ => qid_of(&path),
        };
        let elements = nearest.elements;
        let seen = Rc::new(Seen {
            path,
            elements,
            node,
            qid,
        });
        NsNode { view, seen }
    }

    /// What is at a path, as its elements and the node of the first.
    fn at(&self, path: CleanPath, elements: Vec<Element>, node: Option<DynNode>) -> Self {
        let qid = match (elements.first(), &node) {
            (Some(first), Some(node)) => qid_in(&first.tree, node.qid()),
            _ => qid_of(&path),
        };
        NsNode {
            view: self.view.clone(),
            seen: Rc::new(Seen {
                path,
                elements,
                node,
                qid,
            }),
        }
    }

    fn is_dir(&self) -> bool {
        self.seen.qid.kind.contains(QidKind::DIR)
    }

    fn path_of(&self, name: &[u8]) -> Result<CleanPath> {
        let mut path = self.seen.path.clone();
        path.push(name)?;
        Ok(path)
    }

    /// The first element and its node.
    ///
    /// # Errors
    /// EROFS for a directory that only leads to mount points.
    async fn real(&self) -> Result<(&Element, DynNode)> {
        let first = self.seen.elements.first().ok_or(Errno::EROFS)?;
        match &self.seen.node {
            Some(node) => Ok((first, node.clone())),
            None => Ok((first, first.node(self.view.wait).await?)),
        }
    }

    /// Does something with the node of the first element.
    async fn on<T>(&self, work: impl AsyncFnOnce(&DynNode) -> Result<T>) -> Result<T> {
        let (element, node) = self.real().await?;
        element
            .tree
            .wait(self.view.wait, Box::pin(work(&node)))
            .await
    }

    /// The node of an element of this directory.
    async fn node_of(&self, element: &Element) -> Result<DynNode> {
        match (&self.seen.node, self.seen.elements.first()) {
            (Some(node), Some(first)) if first.is(element) => Ok(node.clone()),
            _ => element.node(self.view.wait).await,
        }
    }

    /// The directory that takes what is made in this one.
    async fn taker(&self) -> Result<(Element, DynNode)> {
        if !self.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        let taker = creator(&self.seen.elements).ok_or(Errno::EROFS)?;
        Ok((taker.clone(), self.node_of(taker).await?))
    }

    /// The same for a name that is free.
    async fn vacant(&self, name: &[u8]) -> Result<(Element, DynNode)> {
        match self.walk(name).await {
            Ok(_) => Err(Errno::EEXIST.into()),
            Err(error) if error.is_not_found() => self.taker().await,
            Err(error) => Err(error),
        }
    }

    /// What was made by this name in that element.
    fn made(&self, dir: &Element, name: &[u8], node: DynNode) -> Result<Self> {
        let element = dir.join(name)?;
        Ok(self.at(self.path_of(name)?, vec![element], Some(node)))
    }

    /// The element that has this name in this directory, to be removed or renamed: its directory there, and its name.
    async fn movable(&self, name: &[u8]) -> Result<Place> {
        let path = self.path_of(name)?;
        if self.view.table.borrow().holds(&path) {
            return Err(Errno::EBUSY.into());
        }
        let there = self.walk(name).await?;
        let element = there.seen.elements.first().ok_or(Errno::EROFS)?;
        let dir = Element::new(element.tree.clone(), element.at.parent());
        let node = self.node_of(&dir).await?;
        let name = element.at.file_name().ok_or(Errno::EBUSY)?.to_vec();
        Ok(Place { dir, node, name })
    }

    /// The entries of all elements, each name once, and the mount points in it.
    async fn entries(&self) -> Result<Vec<Listed>> {
        let mut entries: BTreeMap<Vec<u8>, Listed> = BTreeMap::new();
        for element in &self.seen.elements {
            let listed = async {
                let dir = self.node_of(element).await?;
                let list = list(&dir, &element.tree);
                element.tree.wait(self.view.wait, Box::pin(list)).await
            };
            match listed.await {
                Ok(list) => {
                    for entry in list {
                        entries.entry(entry.name.clone()).or_insert(entry);
                    }
                }
                // Gone since it was bound.
                Err(error) if error.is_not_found() && self.seen.elements.len() > 1 => {}
                Err(error) => return Err(error),
            }
            if entries.len() > MOST_ENTRIES {
                return Err(crate::Error::OutOfMemory);
            }
        }
        let points = self.view.table.borrow().names_in(&self.seen.path);
        for (name, is_dir) in points {
            let kind = match is_dir {
                true => FileKind::DIR,
                false => FileKind::REGULAR,
            };
            let qid = Qid {
                kind: match is_dir {
                    true => QidKind::DIR,
                    false => QidKind::empty(),
                },
                ..qid_of(&self.path_of(&name)?)
            };
            let listed = Listed {
                qid,
                kind: DirEntryKind::of(kind),
                name: name.clone(),
            };
            entries.insert(name, listed);
        }
        Ok(entries.into_values().collect())
    }
}

/// The entries of a directory of a tree, "." and ".." left out.
async fn list(dir: &DynNode, tree: &Mounted) -> Result<Vec<Listed>> {
    let file = dir.open(OpenFlags::DIRECTORY).await?;
    let mut entries = Vec::new();
    file.readdir(0, &mut |entry| {
        if !matches!(entry.name, b"." | b"..") {
            entries.push(Listed {
                qid: qid_in(tree, entry.qid),
                kind: entry.kind,
                name: entry.name.to_vec(),
            });
        }
        entries.len() <= MOST_ENTRIES
    })
    .await?;
    file.close().await?;
    Ok(entries)
}

impl Node for NsNode {
    type File = NsFile;

    fn qid(&self) -> Qid {
        self.seen.qid
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        if !self.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        let path = self.path_of(name)?;
        // Trees are asked with the table free: they may use the name space.
        let nearest = self.view.table.borrow().nearest(&path);
        if nearest.rest.is_empty() {
            let node = match nearest.elements.first() {
                Some(first) => Some(first.node(self.view.wait).await?),
                None => None,
            };
            return Ok(self.at(path, nearest.elements, node));
        }
        for element in &self.seen.elements {
            let walked = async {
                let dir = self.node_of(element).await?;
                element
                    .tree
                    .wait(self.view.wait, dir.any().walk(name))
                    .await
            };
            match walked.await {
                Ok(node) => return self.made(element, name, node),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        match self.view.table.borrow().leads_on(&path) {
            true => Ok(self.at(path, Vec::new(), None)),
            false => Err(Errno::ENOENT.into()),
        }
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        if self.seen.elements.is_empty() {
            return Ok(Attr {
                valid: AttrMask::BASIC,
                qid: self.seen.qid,
                mode: FileKind::DIR.bits() | 0o555,
                nlink: 1,
                blksize: 4096,
                ..Attr::default()
            });
        }
        let mut attr = self.on(async |node| node.getattr(mask).await).await?;
        attr.qid.path = self.seen.qid.path;
        Ok(attr)
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.on(async |node| node.setattr(attr).await).await
    }

    async fn open(&self, flags: OpenFlags) -> Result<NsFile> {
        if self.is_dir() {
            let writes = OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE | OpenFlags::TRUNCATE;
            if flags.intersects(writes) {
                return Err(Errno::EISDIR.into());
            }
            return Ok(NsFile(Open::Dir(self.clone(), Snapshot::default())));
        }
        let file = self.on(async |node| node.open(flags).await).await?;
        Ok(self.file(file))
    }

    async fn create(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Created<Self>> {
        if !flags.contains(OpenFlags::EXCLUSIVE) {
            match self.walk(name).await {
                Ok(node) => {
                    let file = node.open(flags).await?;
                    return Ok(Created { node, file });
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let (dir, node) = self.vacant(name).await?;
        let made = node.any().create(name, flags, mode, gid);
        let made = dir.tree.wait(self.view.wait, made).await?;
        let node = self.made(&dir, name, made.node)?;
        let file = node.file(made.file);
        Ok(Created { node, file })
    }

    async fn mkdir(&self, name: &[u8], mode: u32, gid: u32) -> Result<Self> {
        let (dir, node) = self.vacant(name).await?;
        let made = node.any().mkdir(name, mode, gid);
        let made = dir.tree.wait(self.view.wait, made).await?;
        self.made(&dir, name, made)
    }

    async fn symlink(&self, name: &[u8], target: &[u8], gid: u32) -> Result<Self> {
        let (dir, node) = self.vacant(name).await?;
        let made = node.any().symlink(name, target, gid);
        let made = dir.tree.wait(self.view.wait, made).await?;
        self.made(&dir, name, made)
    }

    async fn mknod(
        &self,
        name: &[u8],
        mode: u32,
        major: u32,
        minor: u32,
        gid: u32,
    ) -> Result<Self> {
        let (dir, node) = self.vacant(name).await?;
        let made = node.any().mknod(name, mode, (major, minor), gid);
        let made = dir.tree.wait(self.view.wait, made).await?;
        self.made(&dir, name, made)
    }

    async fn make(self, name: &[u8], what: Make<'_>, mode: u32, gid: u32) -> Result<()> {
        let (dir, node) = self.vacant(name).await?;
        let made = node.into_any().make(name, what, mode, gid);
        dir.tree.wait(self.view.wait, made).await
    }

    async fn link(&self, original: &Self, name: &[u8]) -> Result<()> {
        let (old, original) = original.real().await?;
        let (dir, node) = self.vacant(name).await?;
        if !old.same_tree(&dir) {
            return Err(Errno::EXDEV.into());
        }
        let linked = node.any().link(&original, name);
        dir.tree.wait(self.view.wait, linked).await
    }

    async fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        let old = self.movable(name).await?;
        let new = match to.movable(new_name).await {
            Ok(there) => there,
            // Within a directory it stays in its element.
            Err(error) if error.is_not_found() && to.seen.path == self.seen.path => Place {
                dir: old.dir.clone(),
                node: old.node.clone(),
                name: new_name.to_vec(),
            },
            Err(error) if error.is_not_found() => {
                let (dir, node) = to.taker().await?;
                let name = new_name.to_vec();
                Place { dir, node, name }
            }
            Err(error) => return Err(error),
        };
        if !old.dir.same_tree(&new.dir) {
            return Err(Errno::EXDEV.into());
        }
        let renamed = old.node.any().rename(&old.name, &new.node, &new.name);
        old.dir.tree.wait(self.view.wait, renamed).await
    }

    async fn unlink(&self, name: &[u8], flags: UnlinkFlags) -> Result<()> {
        let Place { dir, node, name } = self.movable(name).await?;
        let removed = node.any().unlink(&name, flags);
        dir.tree.wait(self.view.wait, removed).await
    }

    async fn remove_all(&self, name: &[u8]) -> Result<()> {
        let Place { dir, node, name } = self.movable(name).await?;
        let removed = node.any().remove_all(&name);
        dir.tree.wait(self.view.wait, removed).await
    }

    async fn readlink(&self) -> Result<Vec<u8>> {
        self.on(async |node| node.readlink().await).await
    }

    async fn statfs(&self) -> Result<Statfs> {
        self.on(async |node| node.statfs().await).await
    }

    async fn xattr(&self, name: &[u8], max: usize) -> Result<Vec<u8>> {
        self.on(async |node| node.xattr(name, max).await).await
    }

    async fn list_xattrs(&self, max: usize) -> Result<Vec<u8>> {
        self.on(async |node| node.list_xattrs(max).await).await
    }

    async fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        self.on(async |node| node.set_xattr(name, value, flags).await)
            .await
    }

    async fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.on(async |node| node.remove_xattr(name).await).await
    }
}

impl NsNode {
    fn file(&self, file: DynFile) -> NsFile {
        NsFile(Open::File(self.clone(), file))
    }
}

/// An open file or directory of a name space.
pub struct NsFile(Open);

enum Open {
    File(NsNode, DynFile),
    Dir(NsNode, Snapshot),
}

impl fmt::Debug for NsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Open::File(node, _) | Open::Dir(node, _)) = &self.0;
        f.debug_tuple("NsFile").field(node).finish()
    }
}

impl NsFile {
    /// Does something with the open file; `otherwise` is the error for a directory.
    async fn on<T>(
        &self,
        otherwise: Errno,
        work: impl AsyncFnOnce(&DynFile) -> Result<T>,
    ) -> Result<T> {
        match &self.0 {
            Open::File(node, file) => {
                let element = node.seen.elements.first().ok_or(Errno::ESTALE)?;
                element
                    .tree
                    .wait(node.view.wait, Box::pin(work(file)))
                    .await
            }
            Open::Dir(..) => Err(otherwise.into()),
        }
    }
}

impl OpenFile for NsFile {
    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.on(Errno::EISDIR, async |file| file.read(into, offset).await)
            .await
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        self.on(Errno::EBADF, async |file| file.write(from, offset).await)
            .await
    }

    async fn readdir(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let Open::Dir(node, listing) = &self.0 else {
            return Err(Errno::ENOTDIR.into());
        };
        let entries = match listing.taken(offset) {
            Some(taken) => taken,
            None => listing.take(node.entries().await?),
        };
        hand_out(&entries, offset, each)
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        match &self.0 {
            Open::Dir(node, _) => node.getattr(mask).await,
            Open::File(node, _) => {
                let attr = self.on(Errno::EISDIR, async |file| file.getattr(mask).await);
                let mut attr = attr.await?;
                attr.qid.path = node.seen.qid.path;
                Ok(attr)
            }
        }
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        match &self.0 {
            Open::Dir(node, _) => node.setattr(attr).await,
            Open::File(..) => {
                self.on(Errno::EISDIR, async |file| file.setattr(attr).await)
                    .await
            }
        }
    }

    async fn fsync(&self, data_only: bool) -> Result<()> {
        match &self.0 {
            Open::Dir(..) => Ok(()),
            Open::File(..) => {
                self.on(Errno::EISDIR, async |file| file.fsync(data_only).await)
                    .await
            }
        }
    }

    async fn lock(&self, lock: &Lock<'_>, flags: LockFlags) -> Result<LockStatus> {
        self.on(Errno::EOPNOTSUPP, async |file| file.lock(lock, flags).await)
            .await
    }

    async fn getlock(&self, lock: &Lock<'_>) -> Result<Option<HeldLock>> {
        self.on(Errno::EOPNOTSUPP, async |file| file.getlock(lock).await)
            .await
    }

    async fn close(self) -> Result<()> {
        match self.0 {
            Open::Dir(..) => Ok(()),
            Open::File(node, file) => {
                let element = node.seen.elements.first().ok_or(Errno::ESTALE)?;
                let closed = file.into_any().close();
                element.tree.wait(node.view.wait, closed).await
            }
        }
    }
}
