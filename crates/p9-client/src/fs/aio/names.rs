//! Operations on names: links, renames, removals.

use alloc::vec::Vec;

use super::{Fs, Handle, Lookup, classic, node};
use crate::fs::{Error, Result};
use crate::session::Fid;
use p9_tree::{CleanPath, End};
use p9_wire::Errno;
use p9_wire::{QidKind, UnlinkFlags};

/// Forgets the directories kept at these paths and below when it is dropped.
struct Forgets<'a>(&'a Fs, [&'a CleanPath; 2]);

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        for path in self.1 {
            self.0.forget(path);
        }
    }
}

impl Fs {
    /// The asynchronous form of [`Fs::create_dir`](crate::fs::Fs::create_dir), with the mode, less the
    /// umask.
    ///
    /// # Errors
    /// See there.
    pub async fn create_dir(&self, path: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let path = CleanPath::new(path.as_ref())?;
        if matches!(path.end(), End::Dot | End::DotDot) {
            self.check_new_name(&path).await?;
        }
        self.make_dir(&path, mode).await
    }

    pub(super) async fn make_dir(&self, path: &CleanPath, mode: u32) -> Result<()> {
        let mode = mode & 0o7777 & !self.mount.umask;
        self.in_parent(path, Errno::EEXIST, async |parent, name| {
            if node::is_linux(parent.fid()) {
                let made = self.made_in(&parent).await?;
                let mode = mode | made.dir_bits;
                return parent.fid().mkdir(name, mode, made.gid).await;
            }
            // xen-9pfsd must not be asked for the attributes of its root.
            let may_ask = !matches!(parent, Handle::Root(_));
            let dir = self.own(parent).await?;
            classic::make_dir(dir, name, mode, may_ask).await
        })
        .await
    }

    /// The asynchronous form of [`Fs::remove_file`](crate::fs::Fs::remove_file).
    ///
    /// # Errors
    /// See there.
    pub async fn remove_file(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let path = CleanPath::new(path.as_ref())?;
        self.check_named_dir(&path).await?;
        self.in_parent(&path, Errno::EISDIR, async |parent, name| {
            self.unlink(&parent, name, false).await
        })
        .await
    }

    /// The asynchronous form of [`Fs::remove_dir`](crate::fs::Fs::remove_dir).
    ///
    /// # Errors
    /// See there.
    pub async fn remove_dir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let path = CleanPath::new(path.as_ref())?;
        path.check_removable()?;
        let removed = self.in_parent(&path, Errno::EBUSY, async |parent, name| {
            self.unlink(&parent, name, true).await
        });
        let removed = removed.await;
        self.forget(&path);
        removed
    }

    /// Removes one name, of an empty directory or of something else.
    pub(super) async fn unlink(&self, parent: &Handle, name: &[u8], is_dir: bool) -> Result<()> {
        self.mount.names_changed();
        let parent = parent.fid();
        let linux = node::is_linux(parent);
        let lacks = &self.mount.lacks.unlinkat;
        if linux && !lacks.get() {
            let mut flags = UnlinkFlags::empty();
            flags.set(UnlinkFlags::REMOVE_DIR, is_dir);
            match parent.unlinkat(name, flags).await {
                Err(Error::Unsupported { .. }) => lacks.set(true),
                result => return result,
            }
        }
        let (fid, walk) = parent.walk(&[name]).await?;
        let found_dir = walk.last.is_some_and(|qid| qid.kind.contains(QidKind::DIR));
        match (is_dir, found_dir) {
            (true, false) => Err(Errno::ENOTDIR.into()),
            (false, true) => Err(Errno::EISDIR.into()),
            _ if linux => fid.remove().await,
            _ => classic::remove(fid).await,
        }
    }

    /// The asynchronous form of [`Fs::rename`](crate::fs::Fs::rename).
    ///
    /// # Errors
    /// See there.
    pub async fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<()> {
        let (from, to) = (CleanPath::new(from.as_ref())?, CleanPath::new(to.as_ref())?);
        from.check_renamable()?;
        to.check_renamable()?;
        if from.wants_dir() || to.wants_dir() {
            self.check_named_dir(&from.named_as_dir()).await?;
        }
        // Even where this future is dropped: the server may do it all the same.
        let _moved = Forgets(self, [&from, &to]);
        self.in_parent(&from, Errno::EBUSY, async |dir, old| {
            let old_dir = dir.fid();
            // Within a directory its fid serves for both.
            if to.parent() == from.parent() {
                let new = to.file_name().ok_or(Errno::EBUSY)?;
                return self.rename_in(old_dir, old, None, new).await;
            }
            self.in_parent(&to, Errno::EBUSY, async |new_dir, new| {
                self.rename_in(old_dir, old, Some(new_dir.fid()), new).await
            })
            .await
        })
        .await
    }

    /// Renames `old` in `old_dir` to `new`, in another directory if there is one.
    pub(super) async fn rename_in(
        &self,
        old_dir: &Fid,
        old: &[u8],
        new_dir: Option<&Fid>,
        new: &[u8],
    ) -> Result<()> {
        self.mount.names_changed();
        if !node::is_linux(old_dir) {
            if new_dir.is_some() {
                return Err(Errno::EXDEV.into());
            }
            let (fid, _) = old_dir.walk(&[old]).await?;
            return classic::rename(&fid, new).await;
        }
        let new_dir = new_dir.unwrap_or(old_dir);
        let lacks = &self.mount.lacks.renameat;
        if !lacks.get() {
            match old_dir.renameat(old, new_dir, new).await {
                Err(Error::Unsupported { .. }) => lacks.set(true),
                result => return result,
            }
        }
        let (fid, _) = old_dir.walk(&[old]).await?;
        fid.rename(new_dir, new).await
    }

    /// The asynchronous form of [`Fs::hard_link`](crate::fs::Fs::hard_link).
    ///
    /// # Errors
    /// See there.
    pub async fn hard_link(
        &self,
        original: impl AsRef<[u8]>,
        link: impl AsRef<[u8]>,
    ) -> Result<()> {
        let (file, ..) = self.find(original.as_ref(), false).await?;
        let link = CleanPath::new(link.as_ref())?;
        self.check_new_name(&link).await?;
        self.in_parent(&link, Errno::EEXIST, async |parent, name| {
            if node::is_linux(parent.fid()) {
                return parent.fid().link(file.fid(), name).await;
            }
            classic::link(self.own(parent).await?, file.fid(), name).await
        })
        .await
    }

    /// The asynchronous form of [`Fs::symlink`](crate::fs::Fs::symlink).
    ///
    /// # Errors
    /// See there.
    pub async fn symlink(&self, target: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Result<()> {
        let target = target.as_ref();
        if target.is_empty() {
            return Err(Error::InvalidPath("empty path"));
        }
        if target.contains(&0) {
            return Err(Error::InvalidPath("NUL in a path"));
        }
        let link = CleanPath::new(link.as_ref())?;
        self.check_new_name(&link).await?;
        self.in_parent(&link, Errno::EEXIST, async |parent, name| {
            if node::is_linux(parent.fid()) {
                let made = self.made_in(&parent).await?;
                return parent.fid().symlink(name, target, made.gid).await;
            }
            classic::symlink(self.own(parent).await?, name, target).await
        })
        .await
    }

    /// The asynchronous form of [`Fs::read_link`](crate::fs::Fs::read_link).
    ///
    /// # Errors
    /// See there.
    pub async fn read_link(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let (handle, qid, _) = self.find(path.as_ref(), false).await?;
        if !qid.kind.contains(QidKind::SYMLINK) {
            return Err(Errno::EINVAL.into());
        }
        node::readlink(handle.fid()).await
    }

    /// The asynchronous form of [`Fs::canonicalize`](crate::fs::Fs::canonicalize).
    ///
    /// # Errors
    /// See there.
    pub async fn canonicalize(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let (.., path) = self.find(path.as_ref(), true).await?;
        Ok(path.into_bytes())
    }

    /// The asynchronous form of [`Fs::mknod`](crate::fs::Fs::mknod).
    ///
    /// # Errors
    /// See there.
    pub async fn mknod(
        &self,
        path: impl AsRef<[u8]>,
        mode: u32,
        major: u32,
        minor: u32,
    ) -> Result<()> {
        let (path, mode) = (CleanPath::new(path.as_ref())?, mode & !self.mount.umask);
        let device = (major, minor);
        self.check_new_name(&path).await?;
        self.in_parent(&path, Errno::EEXIST, async |parent, name| {
            if node::is_linux(parent.fid()) {
                let made = self.made_in(&parent).await?;
                return parent.fid().mknod(name, mode, device, made.gid).await;
            }
            classic::mknod(self.own(parent).await?, name, mode, device).await
        })
        .await
    }

    /// Whether the path leads to a directory; where it leads nowhere or the server refuses to say, it does not.
    pub(super) async fn is_dir(&self, path: &CleanPath) -> Result<bool> {
        match self.lookup(path.clone(), true).await {
            Ok(Lookup::Found(_, qid, _)) => Ok(qid.kind.contains(QidKind::DIR)),
            Ok(Lookup::Missing(_)) => Ok(false),
            Err(error) if error.is_of_the_path() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
