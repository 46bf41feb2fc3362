//! Two trees as one.

mod file;
mod inode;
mod turn;

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;

use p9_wire::{
    Attr, AttrMask, Errno, OpenFlags, Qid, QidKind, SetAttr, Statfs, UnlinkFlags, XattrFlags,
};

pub use self::file::OverlayFile;
use self::file::{clear, united};
use self::inode::{Inode, OWN, found, real};
use crate::{Created, Node, Result};

/// A file of a tree that is made of two: a lower one that stays as it is, and an upper one that takes what changes. What
/// is in the upper tree hides what has its name in the lower one; directories that both have are united.
///
/// * A file of the lower tree that is written to, or whose attributes change, is copied into the upper one first, with
///   the directories on its way, its owner, times and extended attributes as far as the upper tree can keep them. It
///   appears there when it is complete. What had it open to read goes on reading the lower one.
/// * A name that is removed and that the lower tree has is hidden by an empty file in the upper tree whose name begins
///   with `.wh.`. Names that begin so can't be seen or made in the overlay; so names of more than 251 bytes of the lower
///   tree can't be removed (ENAMETOOLONG).
/// * A directory that the lower tree has can't be renamed (EXDEV, as overlayfs of Linux says); programs copy then.
/// * A file that is copied up keeps its number as long as something holds the node; a hard link of the lower tree becomes
///   a file of its own.
/// * Both trees stay as they are but for what the overlay does; everything that the overlay knows lies in the upper tree,
///   so that it can be put together again later.
pub struct OverlayNode<L, U>(Rc<Inode<L, U>>);

impl<L, U> Clone for OverlayNode<L, U> {
    fn clone(&self) -> Self {
        OverlayNode(self.0.clone())
    }
}

impl<L: Node, U: Node> fmt::Debug for OverlayNode<L, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OverlayNode").field(&self.0.qid()).finish()
    }
}

impl<L: Node, U: Node> OverlayNode<L, U> {
    /// The root of a tree made of these two, given the root of each.
    ///
    /// # Errors
    /// ENOTDIR unless both are directories.
    pub fn new(lower: L, upper: U) -> Result<Self> {
        let is_dir = |qid: Qid| qid.kind.contains(QidKind::DIR);
        match is_dir(lower.qid()) && is_dir(upper.qid()) {
            true => Ok(OverlayNode(Inode::root(lower, upper))),
            false => Err(Errno::ENOTDIR.into()),
        }
    }

    fn of(inode: &Rc<Inode<L, U>>) -> Self {
        OverlayNode(inode.clone())
    }

    /// This directory in the upper tree, for a new name that must be free.
    async fn place(&self, name: &[u8]) -> Result<U> {
        if name.starts_with(OWN) {
            return Err(Errno::EPERM.into());
        }
        match found(self.walk(name).await)? {
            Some(_) => Err(Errno::EEXIST.into()),
            None => self.0.copy_up(true).await,
        }
    }

    fn made(&self, name: &[u8], upper: U) -> Self {
        OverlayNode(self.0.add(name, None, Some(upper)))
    }

    /// # Errors
    /// ENOTDIR, ENOTEMPTY.
    async fn check_empty(&self) -> Result<()> {
        if !self.0.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        match united(&self.0).await?.is_empty() {
            true => Ok(()),
            false => Err(Errno::ENOTEMPTY.into()),
        }
    }
}

impl<L: Node, U: Node> Node for OverlayNode<L, U> {
    type File = OverlayFile<L, U>;

    fn qid(&self) -> Qid {
        self.0.qid()
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        if !self.0.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        if name.starts_with(OWN) {
            return Err(Errno::ENOENT.into());
        }
        if let Some(live) = self.0.child(name) {
            return Ok(OverlayNode(live));
        }
        let is_dir = |qid: Qid| qid.kind.contains(QidKind::DIR);
        let upper = match self.0.upper() {
            Some(upper) => found(upper.walk(name).await)?,
            None => None,
        };
        let lower = match &upper {
            Some(upper) if !is_dir(upper.qid()) => None,
            _ => self.0.lower_child(name).await?,
        };
        let lower = lower.filter(|lower| upper.is_none() || is_dir(lower.qid()));
        if lower.is_none() && upper.is_none() {
            return Err(Errno::ENOENT.into());
        }
        Ok(OverlayNode(self.0.add(name, lower, upper)))
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        let attr = real!(self.0.real()?, node => node.getattr(mask).await?);
        Ok(self.0.of_overlay(attr))
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.0.copy_up(true).await?.setattr(attr).await
    }

    async fn open(&self, flags: OpenFlags) -> Result<Self::File> {
        OverlayFile::open(&self.0, flags).await
    }

    async fn create(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Created<Self>> {
        if !flags.contains(OpenFlags::EXCLUSIVE)
            && let Some(node) = found(self.walk(name).await)?
        {
            let file = node.open(flags).await?;
            return Ok(Created { node, file });
        }
        let upper = self.place(name).await?;
        let flags = flags | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        let made = upper.create(name, flags, mode, gid).await?;
        let node = self.made(name, made.node);
        let file = OverlayFile::upper(&node.0, flags, made.file);
        Ok(Created { node, file })
    }

    async fn mkdir(&self, name: &[u8], mode: u32, gid: u32) -> Result<Self> {
        let upper = self.place(name).await?;
        let made = upper.mkdir(name, mode, gid).await?;
        Ok(self.made(name, made))
    }

    async fn symlink(&self, name: &[u8], target: &[u8], gid: u32) -> Result<Self> {
        let upper = self.place(name).await?;
        let made = upper.symlink(name, target, gid).await?;
        Ok(self.made(name, made))
    }

    async fn mknod(
        &self,
        name: &[u8],
        mode: u32,
        major: u32,
        minor: u32,
        gid: u32,
    ) -> Result<Self> {
        let upper = self.place(name).await?;
        let made = upper.mknod(name, mode, major, minor, gid).await?;
        Ok(self.made(name, made))
    }

    async fn link(&self, original: &Self, name: &[u8]) -> Result<()> {
        if !Rc::ptr_eq(&self.0.live, &original.0.live) {
            return Err(Errno::EXDEV.into());
        }
        if original.0.is_dir() {
            return Err(Errno::EPERM.into());
        }
        let upper = self.place(name).await?;
        let original = original.0.copy_up(true).await?;
        upper.link(&original, name).await
    }

    async fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        if !Rc::ptr_eq(&self.0.live, &to.0.live) {
            return Err(Errno::EXDEV.into());
        }
        if new_name.starts_with(OWN) {
            return Err(Errno::EPERM.into());
        }
        let node = self.walk(name).await?;
        let is_dir = node.0.is_dir();
        if is_dir && node.0.lower.is_some() {
            return Err(Errno::EXDEV.into());
        }
        let there = found(to.walk(new_name).await)?;
        if let Some(there) = &there {
            if Rc::ptr_eq(&there.0, &node.0) {
                return Ok(());
            }
            match (is_dir, there.0.is_dir()) {
                (true, _) => there.check_empty().await?,
                (false, true) => return Err(Errno::EISDIR.into()),
                (false, false) => {}
            }
        }
        node.0.copy_up(true).await?;
        let new_dir = to.0.copy_up(true).await?;
        let old_dir = self.0.copy_up(true).await?;
        // What would be seen below, or in the place of what goes, is hidden before.
        if is_dir && to.0.lower_child(new_name).await?.is_some() {
            to.0.hide(new_name).await?;
        }
        if self.0.lower_child(name).await?.is_some() {
            self.0.hide(name).await?;
        }
        if let Some(there) = &there
            && is_dir
            && let Some(upper) = there.0.upper()
        {
            clear(&upper).await?;
        }
        old_dir.rename(name, &new_dir, new_name).await?;
        if let Some(there) = &there {
            there.0.move_to(None);
        }
        node.0.move_to(Some((to.0.clone(), new_name.to_vec())));
        Ok(())
    }

    async fn unlink(&self, name: &[u8], flags: UnlinkFlags) -> Result<()> {
        let node = self.walk(name).await?;
        let is_dir = flags.contains(UnlinkFlags::REMOVE_DIR);
        if is_dir {
            node.check_empty().await?;
        } else if node.0.is_dir() {
            return Err(Errno::EISDIR.into());
        }
        // Hidden before it is removed, so that it never comes back.
        if self.0.lower_child(name).await?.is_some() {
            self.0.hide(name).await?;
        }
        if let (Some(dir), Some(upper)) = (self.0.upper(), node.0.upper()) {
            if is_dir {
                clear(&upper).await?;
            }
            dir.unlink(name, flags).await?;
        }
        node.0.move_to(None);
        Ok(())
    }

    async fn readlink(&self) -> Result<Vec<u8>> {
        real!(self.0.real()?, node => node.readlink().await)
    }

    async fn statfs(&self) -> Result<Statfs> {
        real!(self.0.real()?, node => node.statfs().await)
    }

    async fn xattr(&self, name: &[u8], max: usize) -> Result<Vec<u8>> {
        real!(self.0.real()?, node => node.xattr(name, max).await)
    }

    async fn list_xattrs(&self, max: usize) -> Result<Vec<u8>> {
        real!(self.0.real()?, node => node.list_xattrs(max).await)
    }

    async fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        let upper = self.0.copy_up(true).await?;
        upper.set_xattr(name, value, flags).await
    }

    async fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.0.copy_up(true).await?.remove_xattr(name).await
    }
}
