//! [`NsNode`] as a [`Node`]: which tree is asked for what.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use p9_wire::{
    Attr, AttrMask, DirEntryKind, Errno, FileKind, OpenFlags, Qid, QidKind, SetAttr, Statfs,
    UnlinkFlags, XattrFlags,
};

use super::element::{Element, Mounted, Wait};
use super::file::NsFile;
use super::node::{NsNode, Place, qid_in, qid_of};
use super::table::creator;
use crate::memory::try_push;
use crate::trees::Listed;
use crate::{
    CleanPath, Created, Driver, DynNode, Error, Make, NeverWaits, NewFiles, Node, OpenFile, Result,
    Walked,
};

/// The most entries of a directory that is made of several.
const MAX_ENTRIES: usize = 1 << 17;

impl NsNode {
    /// What was made by this name in that element.
    fn made(&self, dir: &Element, name: &[u8], node: DynNode) -> Result<Self> {
        let element = dir.join(&[name])?;
        Ok(self.at(self.path_of(name)?, vec![element], Some(node)))
    }

    /// Whether the directory at a path is more than what one tree has there.
    fn has_points(&self, path: &CleanPath) -> bool {
        !self.view.table.borrow().names_in(path).is_empty()
    }

    /// The entries of all elements, each name once, and the mount points in it.
    pub(super) async fn entries(&self) -> Result<Vec<Listed>> {
        let seen = self.seen();
        let mut entries: BTreeMap<Vec<u8>, Listed> = BTreeMap::new();
        let mut gone = None;
        for element in &seen.elements {
            let listed = async {
                let dir = self.node_of(&seen, element).await?;
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
                Err(error) if error.is_not_found() && seen.elements.len() > 1 => gone = Some(error),
                Err(error) => return Err(error),
            }
            if entries.len() > MAX_ENTRIES {
                return Err(Error::OutOfMemory);
            }
        }
        let points = self.view.table.borrow().names_in(&seen.path);
        if let Some(error) = gone
            && entries.is_empty()
            && points.is_empty()
        {
            return Err(error);
        }
        for (name, is_dir) in points {
            let (kind, qid_kind) = match is_dir {
                true => (FileKind::DIR, QidKind::DIR),
                false => (FileKind::REGULAR, QidKind::empty()),
            };
            let qid = Qid {
                kind: qid_kind,
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
    let (mut entries, mut noted) = (Vec::new(), Ok(()));
    file.readdir(0, &mut |entry| {
        if !matches!(entry.name, b"." | b"..") {
            let qid = qid_in(tree, entry.qid);
            noted = Listed::new(qid, entry).and_then(|entry| try_push(&mut entries, entry));
        }
        noted.is_ok() && entries.len() <= MAX_ENTRIES
    })
    .await?;
    noted?;
    file.close().await?;
    Ok(entries)
}

impl Node for NsNode {
    type File = NsFile;

    fn qid(&self) -> Qid {
        self.seen().qid
    }

    fn driver(&self) -> &dyn Driver {
        match (self.view.wait, self.first_tree()) {
            (Wait::Within(_), Some(tree)) => &*tree.driver,
            _ => &NeverWaits,
        }
    }

    /// Of one tree, whose driver waits for several operations together.
    fn concurrent(&self) -> Self {
        let mut node = self.clone();
        let seen = self.seen();
        if let (Wait::Here, Some(first)) = (self.view.wait, seen.elements.first()) {
            node = self.at(seen.path.clone(), seen.elements.clone(), seen.node.clone());
            node.view.wait = Wait::Within(first.tree.number);
        }
        node
    }

    fn new_files(&self) -> NewFiles {
        let seen = self.seen();
        creator(&seen.elements).map_or_else(NewFiles::default, |taker| taker.tree.new_files)
    }

    fn has_few_fids(&self) -> bool {
        let seen = self.seen();
        let mut trees = seen.elements.iter().map(|element| &element.tree);
        trees.any(|tree| tree.root.has_few_fids())
    }

    fn is_kept(&self) -> bool {
        let node = self.seen().node.clone();
        node.is_some_and(|node| node.is_kept())
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        if !self.qid().kind.contains(QidKind::DIR) {
            return Err(Errno::ENOTDIR.into());
        }
        self.walk_way(&[name]).await?.through()
    }

    async fn walk_at(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        if names.is_empty() {
            return Ok(Walked::Through(self.clone(), self.qid()));
        }
        self.walk_way(names).await
    }

    async fn dir_at(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        let way = self.way(names)?;
        if let Some(through) = self.alone(&way, names)? {
            let (tree, asked) = (&through.element.tree, through.names());
            let walked = tree.wait(self.view.wait, through.from.any().dir_at(&asked));
            let walked = walked.await?;
            if let Some(told) = self.told(&way, &through, walked) {
                return Ok(told.map(|node| {
                    self.at(way.path.clone(), vec![through.element.clone()], Some(node))
                }));
            }
        }
        self.walk_at(names).await
    }

    async fn getattr_at(&self, names: &[&[u8]], mask: AttrMask) -> Result<Walked<Attr>> {
        let way = self.way(names)?;
        if let Some(through) = self.alone(&way, names)? {
            let (tree, asked) = (&through.element.tree, through.names());
            let walked = through.from.any().getattr_at(&asked, mask);
            let walked = tree.wait(self.view.wait, walked).await?;
            if let Some(told) = self.told(&way, &through, walked) {
                return Ok(told.map(|mut attr| {
                    attr.qid = qid_in(tree, attr.qid);
                    attr
                }));
            }
        }
        let walked = self.walk_at(names).await?;
        walked.then(async |node| node.getattr(mask).await).await
    }

    async fn readlink_at(&self, names: &[&[u8]]) -> Result<Walked<Vec<u8>>> {
        let way = self.way(names)?;
        if let Some(through) = self.alone(&way, names)? {
            let (tree, asked) = (&through.element.tree, through.names());
            let walked = through.from.any().readlink_at(&asked);
            let walked = tree.wait(self.view.wait, walked).await?;
            if let Some(told) = self.told(&way, &through, walked) {
                return Ok(told);
            }
        }
        let walked = self.walk_at(names).await?;
        let read = async |node: Self| match node.qid().kind.contains(QidKind::SYMLINK) {
            true => node.readlink().await,
            false => Err(Errno::EINVAL.into()),
        };
        walked.then(read).await
    }

    async fn open_at(&self, names: &[&[u8]], flags: OpenFlags) -> Result<Walked<NsFile>> {
        let way = self.way(names)?;
        if let Some(through) = self.alone(&way, names)?
            && !self.has_points(&way.path)
        {
            let (tree, asked) = (&through.element.tree, through.names());
            let walked = through.from.any().open_at(&asked, flags);
            let walked = tree.wait(self.view.wait, walked).await?;
            if let Some(told) = self.told(&way, &through, walked) {
                return Ok(told.map(|file| NsFile::new(tree.clone(), self.view.wait, file)));
            }
        }
        let walked = self.walk_at(names).await?.stop_at_link(names.len());
        walked.then(async |node| node.into_open(flags).await).await
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        let seen = self.seen();
        if seen.elements.is_empty() {
            return Ok(Attr {
                valid: AttrMask::BASIC,
                qid: seen.qid,
                mode: FileKind::DIR.bits() | 0o555,
                nlink: 1,
                blksize: 4096,
                ..Attr::default()
            });
        }
        let (element, node) = self.real(Errno::EROFS).await?;
        let attr = node.any().getattr(mask);
        let mut attr = element.tree.wait(self.view.wait, attr).await?;
        attr.qid = qid_in(&element.tree, attr.qid);
        Ok(attr)
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        let (element, node) = self.real(Errno::EROFS).await?;
        let done = node.any().setattr(attr);
        element.tree.wait(self.view.wait, done).await
    }

    async fn open(&self, flags: OpenFlags) -> Result<NsFile> {
        self.clone().into_open(flags).await
    }

    async fn into_open(self, flags: OpenFlags) -> Result<NsFile> {
        let seen = self.seen();
        if seen.is_dir() && (seen.elements.len() != 1 || self.has_points(&seen.path)) {
            let writes = OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE | OpenFlags::TRUNCATE;
            if flags.intersects(writes) {
                return Err(Errno::EISDIR.into());
            }
            let entries = self.entries().await?;
            return Ok(NsFile::of_dir(self, entries));
        }
        drop(seen);
        let wait = self.view.wait;
        let (element, node) = self.into_element(<[Element]>::first).await?;
        let opened = node.into_any().into_open(flags);
        let file = element.tree.wait(wait, opened).await?;
        Ok(NsFile::new(element.tree, wait, file))
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
        let (dir, node) = self.clone().into_vacant(name).await?;
        let made = node.any().create(name, flags, mode, gid);
        let made = dir.tree.wait(self.view.wait, made).await?;
        let node = self.made(&dir, name, made.node)?;
        let file = NsFile::new(dir.tree, self.view.wait, made.file);
        Ok(Created { node, file })
    }

    async fn into_create(
        self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<NsFile> {
        if !flags.contains(OpenFlags::EXCLUSIVE) {
            return Ok(self.create(name, flags, mode, gid).await?.file);
        }
        let wait = self.view.wait;
        let (dir, node) = self.into_vacant(name).await?;
        if node.check_flags().is_err() {
            // Such a tree does not see to it that the name is free.
            match dir.tree.wait(wait, node.any().walk(name)).await {
                Ok(_) => return Err(Errno::EEXIST.into()),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let made = node.into_any().into_create(name, flags, mode, gid);
        let file = dir.tree.wait(wait, made).await?;
        Ok(NsFile::new(dir.tree, wait, file))
    }

    async fn mkdir(&self, name: &[u8], mode: u32, gid: u32) -> Result<Self> {
        let (dir, node) = self.clone().into_vacant(name).await?;
        let made = node.any().mkdir(name, mode, gid);
        let made = dir.tree.wait(self.view.wait, made).await?;
        self.made(&dir, name, made)
    }

    async fn symlink(&self, name: &[u8], target: &[u8], gid: u32) -> Result<Self> {
        let (dir, node) = self.clone().into_vacant(name).await?;
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
        let (dir, node) = self.clone().into_vacant(name).await?;
        let made = node.any().mknod(name, mode, (major, minor), gid);
        let made = dir.tree.wait(self.view.wait, made).await?;
        self.made(&dir, name, made)
    }

    async fn make(self, name: &[u8], what: Make<'_>, mode: u32, gid: u32) -> Result<()> {
        let wait = self.view.wait;
        let (dir, node) = self.into_vacant(name).await?;
        let made = node.into_any().make(name, what, mode, gid);
        dir.tree.wait(wait, made).await
    }

    async fn link(&self, original: &Self, name: &[u8]) -> Result<()> {
        let (old, original) = original.real(Errno::EROFS).await?;
        let (dir, node) = self.clone().into_vacant(name).await?;
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
            Err(error) if error.is_not_found() && to.seen().path == self.seen().path => Place {
                dir: old.dir.clone(),
                node: old.node.clone(),
                name: new_name.to_vec(),
            },
            Err(error) if error.is_not_found() => to.taking(new_name).await?,
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
        let (element, node) = self.real(Errno::EINVAL).await?;
        let done = node.any().readlink();
        element.tree.wait(self.view.wait, done).await
    }

    async fn statfs(&self) -> Result<Statfs> {
        let (element, node) = self.real(Errno::EOPNOTSUPP).await?;
        let done = node.any().statfs();
        element.tree.wait(self.view.wait, done).await
    }

    async fn xattr(&self, name: &[u8], max: usize) -> Result<Vec<u8>> {
        let (element, node) = self.real(Errno::EOPNOTSUPP).await?;
        let done = node.any().xattr(name, max);
        element.tree.wait(self.view.wait, done).await
    }

    async fn list_xattrs(&self, max: usize) -> Result<Vec<u8>> {
        let (element, node) = self.real(Errno::EOPNOTSUPP).await?;
        let done = node.any().list_xattrs(max);
        element.tree.wait(self.view.wait, done).await
    }

    async fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        let (element, node) = self.real(Errno::EROFS).await?;
        let done = node.any().set_xattr(name, value, flags);
        element.tree.wait(self.view.wait, done).await
    }

    async fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        let (element, node) = self.real(Errno::EROFS).await?;
        let done = node.any().remove_xattr(name);
        element.tree.wait(self.view.wait, done).await
    }
}
