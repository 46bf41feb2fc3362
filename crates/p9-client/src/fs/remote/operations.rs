//! What the operations of a [`RemoteNode`] do, in requests.

use alloc::rc::Rc;

use p9_tree::{CleanPath, Created, Make, Node, Walked};
use p9_wire::{
    Attr, AttrMask, Errno, MAX_ELEMENTS, OpenFlags, QidKind, SetAttr, UnlinkFlags, XattrFlags, kind,
};

use super::attributes::{self, setattr};
use super::parents::may_be_stale;
use super::{Handle, Mount, RemoteFile, RemoteNode, check_kind, classic, fid, xattr};
use crate::fs::{Error, Result};

/// Forgets the directories that the mount keeps at these paths and below when it is dropped, even with a future half-way:
/// the server may do it all the same.
struct Forgets<'a>(&'a Mount, [Rc<CleanPath>; 2]);

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        for path in &self.1 {
            self.0.forget(path);
        }
    }
}

impl RemoteNode {
    /// The result of a change in this directory. One that the mount keeps and that is not where it was is forgotten.
    fn kept<T>(&self, result: Result<T>) -> Result<T> {
        if let (Handle::Kept(_), Err(error)) = (&*self.handle, &result)
            && may_be_stale(*error)
        {
            self.mount.forget_all();
        }
        result
    }

    /// Whether names can be walked, and something be done with what they lead to, in one go.
    fn at_once(&self, names: &[&[u8]]) -> bool {
        !names.is_empty() && names.len() <= MAX_ELEMENTS && self.is_linux()
    }

    /// Refuses a node of another tree.
    fn same_tree(&self, other: &RemoteNode) -> Result<()> {
        match Rc::ptr_eq(&self.mount, &other.mount) {
            true => Ok(()),
            false => Err(Errno::EXDEV.into()),
        }
    }

    /// Makes a file that is not there. The fid of a directory that no one else has becomes that of the file.
    async fn create_new(
        mut self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<RemoteFile> {
        let (mount, path, mode) = (self.mount.clone(), self.path_to(&[name])?, mode & 0o7777);
        let flags = flags | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        let (fid, opened) = if !self.is_linux() {
            let mut fid = self.own().await?;
            let opened = classic::create(&mut fid, name, flags, mode).await?;
            (fid, opened)
        } else if let Some(Handle::Own(..)) = Rc::get_mut(&mut self.handle) {
            let mut fid = self.own().await?;
            let opened = fid.lcreate(name, flags, mode, gid).await?;
            (fid, opened)
        } else {
            let made = self.fid().create_in(name, flags, mode, gid).await;
            let (fid, qid, iounit) = self.kept(made)?;
            (fid, (qid, iounit))
        };
        Ok(RemoteFile::new(mount, path, fid, opened, flags))
    }

    /// Makes something as it is said.
    pub(super) async fn make_as(
        self,
        name: &[u8],
        what: Make<'_>,
        mode: u32,
        gid: u32,
    ) -> Result<()> {
        if !self.is_linux() {
            // xen-9pfsd must not be asked for the attributes of its root.
            let may_ask = !self.is_root();
            return classic::make(self.own().await?, name, what, mode, may_ask).await;
        }
        let made = match what {
            Make::Dir => {
                let path = self.path_to(&[name])?;
                let made = self.fid().mkdir(name, mode & 0o7777, gid).await;
                made.map(|qid| self.note_made(path, qid, mode))
            }
            Make::Symlink(target) => self.fid().symlink(name, target, gid).await,
            Make::Node { major, minor } => self.fid().mknod(name, mode, (major, minor), gid).await,
        };
        self.kept(made)
    }

    /// Removes one name, of an empty directory or of something else.
    async fn remove_name(&self, name: &[u8], flags: UnlinkFlags) -> Result<()> {
        self.mount.names_changed();
        let linux = self.is_linux();
        let lacks = &self.mount.lacks.unlinkat;
        if linux && !lacks.get() {
            match self.fid().unlinkat(name, flags).await {
                Err(Error::Unsupported { .. }) => lacks.set(true),
                result => return result,
            }
        }
        let is_dir = flags.contains(UnlinkFlags::REMOVE_DIR);
        let (fid, walk) = self.fid().walk(&[name]).await?;
        let found_dir = walk.last.is_some_and(|qid| qid.kind.contains(QidKind::DIR));
        match (is_dir, found_dir) {
            (true, false) => Err(Errno::ENOTDIR.into()),
            (false, true) => Err(Errno::EISDIR.into()),
            _ if linux => fid.remove().await,
            _ => classic::remove(fid).await,
        }
    }

    async fn rename_name(&self, old: &[u8], to: &RemoteNode, new: &[u8]) -> Result<()> {
        self.mount.names_changed();
        if !self.is_linux() {
            if !Rc::ptr_eq(&self.handle, &to.handle) {
                return Err(Errno::EXDEV.into());
            }
            let (fid, _) = self.fid().walk(&[old]).await?;
            return classic::rename(&fid, new).await;
        }
        let lacks = &self.mount.lacks.renameat;
        if !lacks.get() {
            match self.fid().renameat(old, to.fid(), new).await {
                Err(Error::Unsupported { .. }) => lacks.set(true),
                result => return result,
            }
        }
        let (fid, _) = self.fid().walk(&[old]).await?;
        fid.rename(to.fid(), new).await
    }

    pub(super) async fn put_xattr(
        &self,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<()> {
        let name = xattr::check(name)?;
        if value.len() as u64 > xattr::VALUE_MAX {
            return Err(Errno::E2BIG.into());
        }
        fid::only_linux(self.fid(), kind::TXATTRCREATE)?;
        xattr::whole(async || {
            let (fid, _) = self.fid().walk(&[]).await?;
            xattr::write_all(fid, name, value, flags).await
        })
        .await
    }
}

impl RemoteNode {
    pub(super) async fn walk_at_now(&self, names: &[&[u8]]) -> Result<Walked<RemoteNode>> {
        if names.is_empty() {
            return Ok(Walked::Through(self.clone(), self.qid));
        }
        let path = self.path_to(names)?;
        Ok(match self.fid().walk_all(self.qid, names).await? {
            Walked::Through(fid, qid) => {
                let inherits = self.mount.inherits_in(&path, qid);
                Walked::Through(self.at(path, Handle::Own(fid, inherits), qid), qid)
            }
            Walked::Link(at) => Walked::Link(at),
            Walked::Blocked(at, error) => Walked::Blocked(at, error),
        })
    }

    pub(super) async fn dir_at_now(&self, names: &[&[u8]]) -> Result<Walked<RemoteNode>> {
        let path = self.path_to(names)?;
        if !self.is_root() || path.is_root() {
            return self.walk_at(names).await;
        }
        let keep = self.mount.keep_time();
        if keep.is_some()
            && let Some(dir) = self.mount.kept_dir(&path)
        {
            let qid = dir.qid();
            return Ok(Walked::Through(self.at(path, Handle::Kept(dir), qid), qid));
        }
        Ok(match self.fid().walk_all(self.qid, names).await? {
            Walked::Through(fid, qid) => {
                let handle = match qid.kind.contains(QidKind::DIR) {
                    true => self.mount.keep_or_own(&path, fid, qid, keep),
                    false => Handle::own(fid),
                };
                Walked::Through(self.at(path, handle, qid), qid)
            }
            Walked::Link(at) => Walked::Link(at),
            Walked::Blocked(at, error) => Walked::Blocked(at, error),
        })
    }

    pub(super) async fn getattr_at_now(
        &self,
        names: &[&[u8]],
        mask: AttrMask,
    ) -> Result<Walked<Attr>> {
        if self.at_once(names) {
            return self.fid().walk_getattr(self.qid, names, mask).await;
        }
        let walked = self.walk_at(names).await?;
        walked.then(async |node| node.getattr(mask).await).await
    }

    pub(super) async fn open_at_now(
        &self,
        names: &[&[u8]],
        flags: OpenFlags,
    ) -> Result<Walked<RemoteFile>> {
        // A server that leaves the new fid at a file half way, as diod does, would empty that.
        if !self.at_once(names) || flags.contains(OpenFlags::TRUNCATE) {
            let walked = self.walk_at(names).await?.stop_at_link(names.len());
            return walked.then(async |node| node.into_open(flags).await).await;
        }
        let path = self.path_to(names)?;
        let opened = self.fid().walk_lopen(self.qid, names, flags).await?;
        Ok(match opened.stop_at_link(names.len()) {
            Walked::Through((fid, opened), qid) => {
                check_kind(qid, flags)?;
                let file = RemoteFile::new(self.mount.clone(), path, fid, opened?, flags);
                Walked::Through(file, qid)
            }
            Walked::Link(at) => Walked::Link(at),
            Walked::Blocked(at, error) => Walked::Blocked(at, error),
        })
    }

    pub(super) async fn getattr_now(&self, mask: AttrMask) -> Result<Attr> {
        let attr = attributes::attr(self.fid(), self.qid, self.is_root(), mask).await?;
        if self.is_linux() {
            self.learn(&attr);
        }
        Ok(attr)
    }

    pub(super) async fn setattr_now(&self, attr: &SetAttr) -> Result<()> {
        // It may be the setgid bit, or the group. Another operation may be told the old ones meanwhile.
        let forget = || {
            self.inherits().set(None);
            self.mount.forget_inherited(self.qid, attr);
        };
        forget();
        let changed = setattr(self.fid(), attr).await;
        forget();
        changed
    }

    pub(super) async fn into_open_now(self, flags: OpenFlags) -> Result<RemoteFile> {
        check_kind(self.qid, flags)?;
        let (mount, path) = (self.mount.clone(), self.path.clone());
        let flags = flags - OpenFlags::CREATE - OpenFlags::EXCLUSIVE;
        let fid = self.own().await?;
        let opened = match fid::is_linux(&fid) {
            true => fid.lopen(flags).await?,
            false => classic::open(&fid, flags).await?,
        };
        Ok(RemoteFile::new(mount, path, fid, opened, flags))
    }

    pub(super) async fn create_now(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Created<RemoteNode>> {
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

    pub(super) async fn into_create_now(
        self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<RemoteFile> {
        if !flags.contains(OpenFlags::EXCLUSIVE) {
            return Ok(self.create(name, flags, mode, gid).await?.file);
        }
        let gid = match self.is_linux() {
            true => self.group_in(gid).await?.0,
            // The other dialects leave the group to the server.
            false => gid,
        };
        self.create_new(name, flags, mode, gid).await
    }

    pub(super) async fn make_now(
        self,
        name: &[u8],
        what: Make<'_>,
        mode: u32,
        gid: u32,
    ) -> Result<()> {
        if !self.is_linux() {
            return self.make_as(name, what, mode, gid).await;
        }
        let inherited = self.group_in(gid).await;
        let (gid, bits) = self.kept(inherited)?;
        let bits = if let Make::Dir = what { bits } else { 0 };
        self.make_as(name, what, mode | bits, gid).await
    }

    pub(super) async fn link_now(&self, original: &Self, name: &[u8]) -> Result<()> {
        self.same_tree(original)?;
        if self.is_linux() {
            return self.kept(self.fid().link(original.fid(), name).await);
        }
        let (dir, _) = self.fid().walk(&[]).await?;
        classic::link(dir, original.fid(), name).await
    }

    pub(super) async fn rename_now(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        self.same_tree(to)?;
        let paths = [self.path_to(&[name])?, to.path_to(&[new_name])?];
        let _moved = Forgets(&self.mount, paths);
        let renamed = self.rename_name(name, to, new_name).await;
        to.kept(self.kept(renamed))
    }

    pub(super) async fn unlink_now(&self, name: &[u8], flags: UnlinkFlags) -> Result<()> {
        let path = self.path_to(&[name])?;
        let is_dir = flags.contains(UnlinkFlags::REMOVE_DIR);
        let _removed = is_dir.then(|| Forgets(&self.mount, [path.clone(), path]));
        self.kept(self.remove_name(name, flags).await)
    }

    pub(super) async fn remove_all_now(&self, name: &[u8]) -> Result<()> {
        // What others did to directories that are kept is not to be noticed half-way.
        self.mount.forget_all();
        let path = self.path_to(&[name])?;
        let _removed = Forgets(&self.mount, [path.clone(), path]);
        self.kept(p9_tree::remove_all(self, name).await)
    }
}
