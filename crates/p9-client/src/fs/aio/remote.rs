//! A mount as a tree of nodes.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll};

use p9_tree::ns::NewFiles;
use p9_tree::{CleanPath, Created, Driver, Lock, Make, Metadata, Node, OpenFile, Walked};
use p9_wire::{
    Attr, AttrMask, DirEntry, Errno, LockFlags, LockStatus, MAX_ELEMENTS, OpenFlags, Qid, QidKind,
    SetAttr, SetAttrMask, Statfs, UnlinkFlags, XattrFlags,
};

use super::dir::Resumed;
use super::identity::check_identity;
use super::lookup::Way;
use super::parents::may_be_stale;
use super::{Fs, Handle, classic, node, xattr};
use crate::Dialect;
use crate::fs::{Error, FileType, Permissions, Result};
use crate::session::{Fid, Session};

/// A file on a server: what a fid stands for. Clones share the fid, which is clunked with the last of them.
///
/// Walks of up to 16 names take one request. [`getattr_at`](Node::getattr_at) and [`open_at`](Node::open_at) send the
/// walk and what comes behind it together, so that both take the time of one answer. [`into_open`](Node::into_open) and
/// [`into_create`](Node::into_create) use the fid of the node itself when no clone has it.
#[derive(Clone)]
pub struct RemoteNode {
    fs: Fs,
    handle: Rc<Handle>,
    qid: Qid,
    /// The way it was walked to.
    path: Rc<CleanPath>,
}

impl fmt::Debug for RemoteNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteNode")
            .field("fid", self.fid())
            .field("qid", &self.qid)
            .finish()
    }
}

impl Fs {
    /// The root of the mount as a node, for a [name space](crate::ns), or a server that gives the tree to others.
    pub fn node(&self) -> RemoteNode {
        RemoteNode {
            fs: self.clone(),
            handle: Rc::new(Handle::Root(self.mount.clone())),
            qid: self.mount.root_qid,
            path: Rc::new(CleanPath::root()),
        }
    }
}

impl Fs {
    /// What becomes of the mode and the group of new files.
    pub(crate) fn new_files(&self) -> NewFiles {
        NewFiles {
            umask: self.mount.umask,
            gid: self.mount.gid,
        }
    }
}

/// Linux's flags that decide about access; all others are hints.
const DECIDE: OpenFlags = OpenFlags::WRITE_ONLY
    .union(OpenFlags::READ_WRITE)
    .union(OpenFlags::CREATE)
    .union(OpenFlags::EXCLUSIVE)
    .union(OpenFlags::TRUNCATE)
    .union(OpenFlags::APPEND)
    .union(OpenFlags::DIRECTORY);

fn writes(flags: OpenFlags) -> bool {
    flags.intersects(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE)
}

/// Whether a file can be opened so. Not every server checks that: QEMU opens directories for writing.
fn check_kind(qid: Qid, flags: OpenFlags) -> Result<()> {
    let is_dir = qid.kind.contains(QidKind::DIR);
    if is_dir && (writes(flags) || flags.contains(OpenFlags::TRUNCATE)) {
        return Err(Errno::EISDIR.into());
    }
    if qid.kind.contains(QidKind::SYMLINK) {
        return Err(Errno::ELOOP.into());
    }
    if flags.contains(OpenFlags::DIRECTORY) && !is_dir {
        return Err(Errno::ENOTDIR.into());
    }
    Ok(())
}

impl RemoteNode {
    fn fid(&self) -> &Fid {
        self.handle.fid()
    }

    fn is_linux(&self) -> bool {
        node::is_linux(self.fid())
    }

    /// The path of what is walked to from here.
    fn path_to(&self, names: &[&[u8]]) -> Result<Rc<CleanPath>> {
        let mut path = (*self.path).clone();
        for name in names {
            path.push(name)?;
        }
        Ok(Rc::new(path))
    }

    /// What was walked to from here.
    fn at(&self, names: &[&[u8]], handle: Handle, qid: Qid) -> Result<RemoteNode> {
        Ok(RemoteNode {
            fs: self.fs.clone(),
            handle: Rc::new(handle),
            qid,
            path: self.path_to(names)?,
        })
    }

    /// The open file that came of this node, or of what was walked to from it.
    fn file(
        &self,
        path: Rc<CleanPath>,
        fid: Fid,
        opened: (Qid, u32),
        flags: OpenFlags,
    ) -> RemoteFile {
        let empty = flags.intersects(OpenFlags::TRUNCATE | OpenFlags::EXCLUSIVE);
        RemoteFile {
            fs: self.fs.clone(),
            fid: Rc::new(fid),
            qid: opened.0,
            iounit: opened.1,
            flags,
            path,
            changes_seen: Cell::new(self.fs.mount.changes_of_names.get()),
            known_len: Cell::new(empty.then_some(0)),
            listing: Cell::new(None),
        }
    }

    /// A directory that the mount keeps and that is not where it was is forgotten.
    fn kept<T>(&self, result: Result<T>) -> Result<T> {
        if let (Handle::Kept(_), Err(error)) = (&*self.handle, &result)
            && may_be_stale(*error)
        {
            self.fs.forget(&CleanPath::root());
        }
        result
    }

    /// A fid of this file that may be opened or changed.
    async fn own(self) -> Result<Fid> {
        match Rc::try_unwrap(self.handle) {
            Ok(handle) => self.fs.own(handle).await,
            Err(shared) => Ok(shared.fid().walk(&[]).await?.0),
        }
    }

    async fn open_own(&self, fid: Fid, flags: OpenFlags) -> Result<RemoteFile> {
        let flags = flags - OpenFlags::CREATE - OpenFlags::EXCLUSIVE;
        let opened = if self.is_linux() {
            fid.lopen(flags).await?
        } else {
            classic::open_file(&fid, flags).await?
        };
        Ok(self.file(self.path.clone(), fid, opened, flags))
    }

    /// Makes a file that is not there. The fid of a directory that no one else has becomes that of the file.
    async fn create_new(
        self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<RemoteFile> {
        let (mode, path) = (mode & 0o7777, self.path_to(&[name])?);
        let flags = flags | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        if !self.is_linux() {
            let mut fid = self.clone().own().await?;
            let opened = classic::create_file(&mut fid, name, flags, mode).await?;
            return Ok(self.file(path, fid, opened, flags));
        }
        let node = self.fs.node();
        match Rc::try_unwrap(self.handle) {
            Ok(Handle::Own(mut fid)) => {
                let opened = fid.lcreate(name, flags, mode, gid).await?;
                Ok(node.file(path, fid, opened, flags))
            }
            Ok(handle) => {
                let made = handle.fid().create_in(name, flags, mode, gid).await?;
                Ok(node.file(path, made.0, (made.1, made.2), flags))
            }
            Err(shared) => {
                let made = shared.fid().create_in(name, flags, mode, gid).await?;
                Ok(node.file(path, made.0, (made.1, made.2), flags))
            }
        }
    }

    /// Refuses a node of another tree.
    fn same_tree(&self, other: &RemoteNode) -> Result<()> {
        match Rc::ptr_eq(&self.fs.mount, &other.fs.mount) {
            true => Ok(()),
            false => Err(Errno::EXDEV.into()),
        }
    }

    /// Whether names can be walked, and something be done with what they lead to, in one go.
    fn at_once(&self, names: &[&[u8]]) -> bool {
        !names.is_empty() && names.len() <= MAX_ELEMENTS && self.is_linux()
    }
}

impl Node for RemoteNode {
    type File = RemoteFile;

    fn qid(&self) -> Qid {
        self.qid
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        match self.walk_at(&[name]).await? {
            Walked::Through(node, _) => Ok(node),
            Walked::Link(_) => Err(Errno::ENOTDIR.into()),
            Walked::Blocked(_, error) => Err(error),
        }
    }

    async fn walk_at(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        if names.is_empty() {
            return Ok(Walked::Through(self.clone(), self.qid));
        }
        let way = super::lookup::walk_from(self.fid(), self.qid, names).await?;
        Ok(match way {
            Way::Through(fid, qid) => Walked::Through(self.at(names, Handle::Own(fid), qid)?, qid),
            Way::Link(at) => Walked::Link(at),
            Way::Blocked(at, error) => Walked::Blocked(at, error),
        })
    }

    async fn getattr_at(&self, names: &[&[u8]], mask: AttrMask) -> Result<Walked<Attr>> {
        if !self.at_once(names) {
            return match self.walk_at(names).await? {
                Walked::Through(node, qid) => Ok(Walked::Through(node.getattr(mask).await?, qid)),
                Walked::Link(at) => Ok(Walked::Link(at)),
                Walked::Blocked(at, error) => Ok(Walked::Blocked(at, error)),
            };
        }
        let (walk, attr) = self.fid().walk_getattr(names, mask).await?;
        let (mut done, mut last) = (0, self.qid);
        Ok(
            match super::lookup::judge(walk, names.len(), &mut done, &mut last)? {
                None => Walked::Through(attr.unwrap_or(Err(Errno::EIO.into()))?, last),
                Some(Way::Link(at)) => Walked::Link(at),
                Some(Way::Blocked(at, error)) => Walked::Blocked(at, error),
                Some(Way::Through(..)) => Walked::Blocked(done, Errno::EIO.into()),
            },
        )
    }

    async fn open_at(&self, names: &[&[u8]], flags: OpenFlags) -> Result<Walked<RemoteFile>> {
        // A server that leaves the new fid at a file half way, as diod does, would empty that.
        if !self.at_once(names) || flags.contains(OpenFlags::TRUNCATE) {
            return match self.walk_at(names).await? {
                Walked::Through(_, qid) if qid.kind.contains(QidKind::SYMLINK) => {
                    Ok(Walked::Link(names.len().saturating_sub(1)))
                }
                Walked::Through(node, qid) => {
                    Ok(Walked::Through(node.into_open(flags).await?, qid))
                }
                Walked::Link(at) => Ok(Walked::Link(at)),
                Walked::Blocked(at, error) => Ok(Walked::Blocked(at, error)),
            };
        }
        let (fid, walk, opened) = self.fid().walk_lopen(names, flags).await?;
        let (mut done, mut last) = (0, self.qid);
        Ok(
            match super::lookup::judge(walk, names.len(), &mut done, &mut last)? {
                None if last.kind.contains(QidKind::SYMLINK) => Walked::Link(names.len() - 1),
                None => {
                    check_kind(last, flags)?;
                    let opened = opened.unwrap_or(Err(Errno::EIO.into()))?;
                    Walked::Through(self.file(self.path_to(names)?, fid, opened, flags), last)
                }
                Some(Way::Link(at)) => Walked::Link(at),
                Some(Way::Blocked(at, error)) => Walked::Blocked(at, error),
                Some(Way::Through(..)) => Walked::Blocked(done, Errno::EIO.into()),
            },
        )
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        if self.is_linux() {
            return self.fid().getattr(mask).await;
        }
        if matches!(*self.handle, Handle::Root(_)) {
            return root_attr(self.fid(), self.qid).await;
        }
        classic::attr(self.fid()).await
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        setattr(self.fid(), attr).await
    }

    async fn open(&self, flags: OpenFlags) -> Result<RemoteFile> {
        check_kind(self.qid, flags)?;
        let (fid, _) = self.fid().walk(&[]).await?;
        self.open_own(fid, flags).await
    }

    async fn into_open(self, flags: OpenFlags) -> Result<RemoteFile> {
        check_kind(self.qid, flags)?;
        let node = RemoteNode {
            handle: self.fs.node().handle,
            ..self.clone()
        };
        node.open_own(self.own().await?, flags).await
    }

    async fn create(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Created<Self>> {
        if !flags.contains(OpenFlags::EXCLUSIVE) || !self.is_linux() {
            // Never without EXCL: QEMU would give an existing file the mode and the owner of a new one.
            match self.walk(name).await {
                Ok(_) if flags.contains(OpenFlags::EXCLUSIVE) => {
                    return Err(Errno::EEXIST.into());
                }
                Ok(node) => {
                    let file = node.open(flags).await?;
                    return Ok(Created { node, file });
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let file = self.clone().create_new(name, flags, mode, gid).await?;
        let node = self.walk(name).await?;
        Ok(Created { node, file })
    }

    async fn into_create(
        self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<RemoteFile> {
        if !flags.contains(OpenFlags::EXCLUSIVE) || !self.is_linux() {
            return Ok(self.create(name, flags, mode, gid).await?.file);
        }
        let gid = self.group_in(gid).await?.0;
        if let Handle::Kept(_) = *self.handle {
            let made = self.clone().create_new(name, flags, mode, gid).await;
            return self.kept(made);
        }
        self.create_new(name, flags, mode, gid).await
    }

    async fn dir_at(&self, names: &[&[u8]]) -> Result<Option<Self>> {
        let path = self.path_to(names)?;
        if !matches!(*self.handle, Handle::Root(_)) || path.is_root() {
            return match self.walk_at(names).await? {
                Walked::Through(node, qid) if qid.kind.contains(QidKind::DIR) => Ok(Some(node)),
                _ => Ok(None),
            };
        }
        match self.fs.dir_at(&path).await? {
            Some((handle, qid)) => self.at(names, handle, qid).map(Some),
            None => Ok(None),
        }
    }

    async fn mkdir(&self, name: &[u8], mode: u32, gid: u32) -> Result<Self> {
        self.make_as(name, Make::Dir, mode, gid).await?;
        self.walk(name).await
    }

    async fn symlink(&self, name: &[u8], target: &[u8], gid: u32) -> Result<Self> {
        self.make_as(name, Make::Symlink(target), 0o777, gid)
            .await?;
        self.walk(name).await
    }

    async fn mknod(
        &self,
        name: &[u8],
        mode: u32,
        major: u32,
        minor: u32,
        gid: u32,
    ) -> Result<Self> {
        let what = Make::Node { major, minor };
        self.make_as(name, what, mode, gid).await?;
        self.walk(name).await
    }

    async fn make(&self, name: &[u8], what: Make<'_>, mode: u32, gid: u32) -> Result<()> {
        if self.is_linux() {
            let (gid, bits) = self.group_in(gid).await?;
            let bits = if let Make::Dir = what { bits } else { 0 };
            return self.kept(self.make_as(name, what, mode | bits, gid).await);
        }
        self.make_classic(name, what, mode).await
    }

    async fn link(&self, original: &Self, name: &[u8]) -> Result<()> {
        self.same_tree(original)?;
        if self.is_linux() {
            return self.fid().link(original.fid(), name).await;
        }
        let (dir, _) = self.fid().walk(&[]).await?;
        classic::link(dir, original.fid(), name).await
    }

    async fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        self.same_tree(to)?;
        let _moved = Forgets(&self.fs, [self.path_to(&[name])?, to.path_to(&[new_name])?]);
        let same = Rc::ptr_eq(&self.handle, &to.handle);
        let new_dir = (!same).then(|| to.fid());
        self.fs.rename_in(self.fid(), name, new_dir, new_name).await
    }

    async fn unlink(&self, name: &[u8], flags: UnlinkFlags) -> Result<()> {
        let is_dir = flags.contains(UnlinkFlags::REMOVE_DIR);
        let path = self.path_to(&[name])?;
        let _removed = is_dir.then(|| Forgets(&self.fs, [path.clone(), path]));
        self.kept(self.fs.unlink(&self.handle, name, is_dir).await)
    }

    async fn remove_all(&self, name: &[u8]) -> Result<()> {
        // What others did to directories that are kept is not to be noticed half-way.
        self.fs.forget(&CleanPath::root());
        let (parent, _) = self.fid().walk(&[]).await?;
        let path = self.path_to(&[name])?;
        let _removed = Forgets(&self.fs, [path.clone(), path]);
        self.fs.empty(Handle::Own(parent), name.to_vec()).await
    }

    async fn readlink(&self) -> Result<Vec<u8>> {
        node::readlink(self.fid()).await
    }

    async fn statfs(&self) -> Result<Statfs> {
        node::only_linux(self.fid(), "statfs")?;
        self.fid().statfs().await
    }

    async fn xattr(&self, name: &[u8], max: usize) -> Result<Vec<u8>> {
        let name = xattr::check(name)?;
        let value = xattr::whole(async || xattr::read_all(self.fid(), name).await).await?;
        match value.len() <= max {
            true => Ok(value),
            false => Err(Errno::E2BIG.into()),
        }
    }

    async fn list_xattrs(&self, max: usize) -> Result<Vec<u8>> {
        let names = xattr::whole(async || xattr::read_all(self.fid(), b"").await).await?;
        match names.len() <= max {
            true => Ok(names),
            false => Err(Errno::E2BIG.into()),
        }
    }

    async fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        if value.is_empty() {
            // A size of 0 means removal to the server.
            return Err(Error::InvalidInput("an extended attribute without a value"));
        }
        self.put_xattr(name, value, flags).await
    }

    async fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.put_xattr(name, b"", XattrFlags::REPLACE).await
    }
}

impl RemoteNode {
    /// The group that a program's new file in this directory gets, and the bits that its new directory has besides: those
    /// of a directory whose setgid bit is set are inherited. In 9P2000.L a client says them.
    async fn group_in(&self, gid: u32) -> Result<(u32, u32)> {
        let made = self.fs.made_in(&self.handle).await?;
        match made.dir_bits {
            0 => Ok((gid, 0)),
            bits => Ok((made.gid, bits)),
        }
    }

    /// Makes something as it is said.
    async fn make_as(&self, name: &[u8], what: Make<'_>, mode: u32, gid: u32) -> Result<()> {
        if !self.is_linux() {
            return self.make_classic(name, what, mode).await;
        }
        match what {
            Make::Dir => self.fid().mkdir(name, mode & 0o7777, gid).await,
            Make::Symlink(target) => self.fid().symlink(name, target, gid).await,
            Make::Node { major, minor } => self.fid().mknod(name, mode, (major, minor), gid).await,
        }
    }

    async fn make_classic(&self, name: &[u8], what: Make<'_>, mode: u32) -> Result<()> {
        // xen-9pfsd must not be asked for the attributes of its root.
        let may_ask = !matches!(*self.handle, Handle::Root(_));
        let (dir, _) = self.fid().walk(&[]).await?;
        match what {
            Make::Dir => classic::make_dir(dir, name, mode & 0o7777, may_ask).await,
            Make::Symlink(target) => classic::symlink(dir, name, target).await,
            Make::Node { major, minor } => classic::mknod(dir, name, mode, (major, minor)).await,
        }
    }

    async fn put_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        let name = xattr::check(name)?;
        if value.len() as u64 > xattr::VALUE_MAX {
            return Err(Errno::E2BIG.into());
        }
        node::only_linux(self.fid(), "set_xattr")?;
        xattr::whole(async || {
            let (fid, _) = self.fid().walk(&[]).await?;
            xattr::write_all(fid, name, value, flags).await
        })
        .await
    }
}

/// Forgets the directories that the mount keeps at these paths and below when it is dropped, even with a future half-way:
/// the server may do it all the same.
struct Forgets<'a>(&'a Fs, [Rc<CleanPath>; 2]);

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        for path in &self.1 {
            self.0.forget(path);
        }
    }
}

/// The attributes of a root. In 9P2000.u they are made up: xen-9pfsd dies when it is asked for them, and takes the files
/// of all its other guests along.
async fn root_attr(fid: &Fid, qid: Qid) -> Result<Attr> {
    if fid.session().dialect() != Dialect::Unix {
        return classic::attr(fid).await;
    }
    let metadata = Metadata::of_dir(qid);
    Ok(Attr {
        valid: AttrMask::BASIC - AttrMask::CTIME,
        qid,
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        nlink: metadata.nlink(),
        blksize: metadata.blksize(),
        ..Attr::default()
    })
}

/// Changes attributes in any dialect.
async fn setattr(fid: &Fid, attr: &SetAttr) -> Result<()> {
    if attr.valid.is_empty() {
        return Ok(());
    }
    let has = |mask| attr.valid.contains(mask);
    if attr.size > i64::MAX as u64 && has(SetAttrMask::SIZE) {
        return Err(Error::InvalidInput("file size beyond 2^63 - 1"));
    }
    if node::is_linux(fid) {
        let mut attr = *attr;
        if has(SetAttrMask::MODE) && FileType::from_mode(attr.mode).mode() == 0 {
            // QEMU's mapped security models store what they are sent, and a file of no kind is what would be left.
            let old = fid.getattr(AttrMask::MODE).await?.mode;
            attr.mode |= FileType::from_mode(old).mode();
        }
        return fid.setattr(attr).await;
    }
    if has(SetAttrMask::SIZE) {
        classic::set_size(fid, attr.size).await?;
    }
    let uid = has(SetAttrMask::UID).then_some(attr.uid);
    let gid = has(SetAttrMask::GID).then_some(attr.gid);
    if uid.is_some() || gid.is_some() {
        classic::set_owner(fid, uid, gid).await?;
    }
    if has(SetAttrMask::MODE) {
        classic::set_mode(fid, Permissions::from_mode(attr.mode)).await?;
    }
    if attr
        .valid
        .intersects(SetAttrMask::ATIME | SetAttrMask::MTIME)
    {
        classic::set_times(fid, attr).await?;
    }
    Ok(())
}

/// An open file or directory on a server.
pub struct RemoteFile {
    fs: Fs,
    fid: Rc<Fid>,
    qid: Qid,
    iounit: u32,
    flags: OpenFlags,
    path: Rc<CleanPath>,
    /// How often the mount had changed names when this file was known to be itself.
    changes_seen: Cell<u64>,
    /// How long the file is as far as this handle knows, if it is open to append.
    known_len: Cell<Option<u64>>,
    /// Where the last listing was left.
    listing: Cell<Option<Resumed>>,
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteFile")
            .field("fid", &self.fid)
            .field("qid", &self.qid)
            .field("flags", &(self.flags & DECIDE))
            .finish_non_exhaustive()
    }
}

impl OpenFile for RemoteFile {
    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        if self.qid.kind.contains(QidKind::DIR) {
            return Err(Errno::EISDIR.into());
        }
        self.fid.read_at(offset, into, self.iounit).await
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        if !self.flags.contains(OpenFlags::APPEND) {
            return self.fid.write_at(offset, from, self.iounit, false).await;
        }
        let len = match self.known_len.get() {
            // The server appends, wherever that is; one that does not is told where the end was last.
            Some(len) if node::is_linux(&self.fid) => len,
            // As near as one gets: someone else may append in between.
            _ => self.getattr(AttrMask::SIZE).await?.size,
        };
        let count = self.fid.write_at(len, from, self.iounit, true).await?;
        self.known_len.set(Some(len + count as u64));
        Ok(count)
    }

    async fn readdir(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        if !self.qid.kind.contains(QidKind::DIR) {
            return Err(Errno::ENOTDIR.into());
        }
        let before = self.listing.take();
        let mut listing = Resumed::new(&self.fs, &self.fid, offset, before);
        let handed_out = listing.hand_out(each).await;
        self.listing.set(Some(listing));
        handed_out
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        let attr = if node::is_linux(&self.fid) {
            self.fid.getattr(mask).await?
        } else if self.path.is_root() {
            root_attr(&self.fid, self.qid).await?
        } else {
            classic::attr(&self.fid).await?
        };
        if self.flags.contains(OpenFlags::APPEND) && attr.valid.contains(AttrMask::SIZE) {
            self.known_len.set(Some(attr.size));
        }
        Ok(attr)
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        // Servers that truncate by path do not check this.
        if attr.valid.contains(SetAttrMask::SIZE) && !writes(self.flags) {
            return Err(Error::InvalidInput("the file is not open for writing"));
        }
        self.known_len.set(None);
        let (path, seen) = (&self.path, &self.changes_seen);
        check_identity(&self.fs, &self.fid, self.qid, path, seen).await?;
        setattr(&self.fid, attr).await
    }

    async fn fsync(&self, data_only: bool) -> Result<()> {
        node::fsync(&self.fid, data_only).await
    }

    async fn lock(&self, lock: &Lock<'_>, _flags: LockFlags) -> Result<LockStatus> {
        node::only_linux(&self.fid, "lock")?;
        let owner = (lock.owner, lock.client);
        self.fid
            .lock(lock.kind, lock.start, lock.length, owner)
            .await
    }

    async fn close(self) -> Result<()> {
        drop(self.listing);
        match Rc::try_unwrap(self.fid) {
            Ok(fid) => fid.close().await,
            // A listing that was given up half-way, which is dropped with its future.
            Err(_) => Ok(()),
        }
    }
}

impl Driver for Session {
    fn drive(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) -> Result<()> {
        self.block_on(poll_fn(poll));
        Ok(())
    }
}
