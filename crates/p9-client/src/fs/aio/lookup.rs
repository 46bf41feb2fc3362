//! From paths to fids: walking in steps of 16 names and following symbolic links.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::pin::Pin;

use super::parents::KeptDir;
use super::{File, Fs, Mount, node};
use crate::fs::{Error, Metadata, OpenOptions, Probe, Result};
use crate::session::{Fid, Walk};
use p9_tree::CleanPath;
use p9_wire::Errno;
use p9_wire::{MAX_ELEMENTS, Qid, QidKind};

/// How many symbolic links are followed on the way of one path.
const MAX_LINKS: usize = 40;

/// A fid for what a path leads to. The root's own stands for the root, so that it costs nothing.
pub(super) enum Handle {
    Root(Rc<Mount>),
    /// One of the directories that are kept.
    Kept(Rc<KeptDir>),
    Own(Fid),
}

impl Handle {
    pub(super) fn fid(&self) -> &Fid {
        match self {
            Handle::Root(mount) => &mount.root,
            Handle::Kept(dir) => dir.fid(),
            Handle::Own(fid) => fid,
        }
    }
}

/// Where a path leads, with the path as it is without links.
pub(super) enum Lookup {
    Found(Handle, Qid, CleanPath),
    /// Only the last name is missing; its directory is there.
    Missing(CleanPath),
}

/// How a walk along names without regard to links ended.
pub(super) enum Way {
    Through(Fid, Qid),
    /// The name with this index is a symbolic link on the way.
    Link(usize),
    /// There is nothing to be walked to by the name with this index.
    Blocked(usize, Error),
}

impl Fs {
    /// Where `path` leads; a symbolic link at its end is followed or not.
    pub(super) async fn find(&self, path: &[u8], follow: bool) -> Result<(Handle, Qid, CleanPath)> {
        match self.lookup(CleanPath::new(path)?, follow).await? {
            Lookup::Found(handle, qid, path) => Ok((handle, qid, path)),
            Lookup::Missing(_) => Err(Errno::ENOENT.into()),
        }
    }

    /// The asynchronous form of [`Fs::probe`](crate::fs::Fs::probe).
    ///
    /// # Errors
    /// See there.
    pub async fn probe(&self, path: impl AsRef<[u8]>) -> Result<Probe> {
        let path = CleanPath::new(path.as_ref())?;
        if path.is_root() {
            let is_dir = self.mount.root_qid.kind.contains(QidKind::DIR);
            return Ok(Probe::Found { is_dir });
        }
        let names: Vec<&[u8]> = path.names().collect();
        let (at, link) = match self.walk(&names).await? {
            Way::Through(fid, qid) if qid.kind.contains(QidKind::SYMLINK) => (names.len() - 1, fid),
            Way::Through(_, qid) => {
                let is_dir = qid.kind.contains(QidKind::DIR);
                if path.wants_dir() && !is_dir {
                    return Err(Errno::ENOTDIR.into());
                }
                return Ok(Probe::Found { is_dir });
            }
            Way::Link(at) => match self.walk(names.get(..=at).unwrap_or(&names)).await? {
                Way::Through(fid, _) => (at, fid),
                // Changed in between.
                Way::Link(_) => return Err(Errno::ENOENT.into()),
                Way::Blocked(_, error) => return Err(error),
            },
            Way::Blocked(at, error) if error.is_not_found() => return Ok(Probe::Missing { at }),
            Way::Blocked(_, error) => return Err(error),
        };
        let target = node::readlink(&link).await?;
        if target.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        Ok(Probe::Link { at, target })
    }

    /// What is at the end of `path`, if one walk leads there: the attributes come in the same burst. `None`
    /// if symbolic links are to be followed.
    pub(super) async fn glance(&self, path: &CleanPath, follow: bool) -> Result<Option<Metadata>> {
        let names: Vec<&[u8]> = path.names().collect();
        if names.is_empty() || names.len() > MAX_ELEMENTS || !node::is_linux(&self.mount.root) {
            return Ok(None);
        }
        let (walk, attr) = self
            .mount
            .root
            .walk_getattr(&names, node::ATTRIBUTES)
            .await?;
        let (mut done, mut last) = (0, self.mount.root_qid);
        match judge(walk, names.len(), &mut done, &mut last)? {
            None if (follow || path.wants_dir()) && last.kind.contains(QidKind::SYMLINK) => {
                Ok(None)
            }
            None if path.wants_dir() && !last.kind.contains(QidKind::DIR) => {
                Err(Errno::ENOTDIR.into())
            }
            None => attr.map(|attr| Ok(Metadata::from(&attr?))).transpose(),
            Some(Way::Blocked(_, error)) => Err(error),
            Some(_) => Ok(None),
        }
    }

    /// Opens the file at the end of `path`, if one walk leads there, by a request in the same burst. `None`
    /// if symbolic links are to be followed, or the file has to be, or may have to be, made.
    pub(super) async fn open_at_once(
        &self,
        path: &CleanPath,
        options: &OpenOptions,
    ) -> Result<Option<File>> {
        let names: Vec<&[u8]> = path.names().collect();
        let fits = !names.is_empty() && names.len() <= MAX_ELEMENTS && !path.wants_dir();
        if !fits
            || options.is_truncate()
            || options.is_create_new()
            || !node::is_linux(&self.mount.root)
        {
            return Ok(None);
        }
        let flags = options.open_flags();
        let (fid, walk, opened) = self.mount.root.walk_lopen(&names, flags).await?;
        let (mut done, mut last) = (0, self.mount.root_qid);
        match judge(walk, names.len(), &mut done, &mut last)? {
            None if last.kind.contains(QidKind::SYMLINK) => Ok(None),
            None => {
                options.check_kind(last)?;
                let (qid, iounit) = opened.ok_or(Errno::EIO)??;
                let file = File::new(self, fid, qid, iounit, options, path.clone());
                Ok(Some(file))
            }
            Some(Way::Blocked(at, error)) if at + 1 < names.len() || !error.is_not_found() => {
                Err(error)
            }
            Some(Way::Blocked(..)) if !options.is_create() => Err(Errno::ENOENT.into()),
            Some(_) => Ok(None),
        }
    }

    /// A fid that may be opened or changed.
    pub(super) async fn own(&self, handle: Handle) -> Result<Fid> {
        match handle {
            Handle::Own(fid) => Ok(fid),
            handle => Ok(handle.fid().walk(&[]).await?.0),
        }
    }

    /// Where `path` leads, as [`find`](Self::find), or that it could be made there.
    ///
    /// Boxed: nearly every operation begins with it, and would have the whole of it in its own future.
    pub(super) fn lookup(
        &self,
        path: CleanPath,
        follow: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Lookup>> + '_>> {
        Box::pin(self.follow(path, follow))
    }

    async fn follow(&self, mut path: CleanPath, follow: bool) -> Result<Lookup> {
        // What is said to be a directory is looked for behind a link.
        let follow = follow || path.wants_dir();
        for _ in 0..=MAX_LINKS {
            if path.is_root() {
                let root = Handle::Root(self.mount.clone());
                return Ok(Lookup::Found(root, self.mount.root_qid, path));
            }
            let names: Vec<&[u8]> = path.names().collect();
            let last = names.len() - 1;
            let (at, target) = match self.walk(&names).await? {
                Way::Through(fid, qid) if follow && qid.kind.contains(QidKind::SYMLINK) => {
                    (last, node::readlink(&fid).await?)
                }
                Way::Through(_, qid) if path.wants_dir() && !qid.kind.contains(QidKind::DIR) => {
                    return Err(Errno::ENOTDIR.into());
                }
                Way::Through(fid, qid) => {
                    return Ok(Lookup::Found(Handle::Own(fid), qid, path));
                }
                Way::Link(at) => {
                    let names = names.get(..=at).unwrap_or(&names);
                    match self.walk(names).await? {
                        Way::Through(fid, _) => (at, node::readlink(&fid).await?),
                        // Changed in between.
                        Way::Link(_) => return Err(Errno::ENOENT.into()),
                        Way::Blocked(_, error) => return Err(error),
                    }
                }
                Way::Blocked(at, error) => {
                    if at == last && error.is_not_found() {
                        return Ok(Lookup::Missing(path));
                    }
                    return Err(error);
                }
            };
            if target.is_empty() {
                return Err(Errno::ENOENT.into());
            }
            path = path.through_link(at, &target)?;
        }
        Err(Error::TooManyLinks)
    }

    /// Refuses a path for something new other than a directory, if by its end it says that it leads to one.
    pub(super) async fn check_new_name(&self, path: &CleanPath) -> Result<()> {
        if !path.wants_dir() {
            return Ok(());
        }
        match self.lookup(path.bare(), false).await? {
            Lookup::Found(..) => Err(Errno::EEXIST.into()),
            Lookup::Missing(_) => Err(Errno::ENOENT.into()),
        }
    }

    /// Refuses what is no directory, a link to one either, if the path says by its end that it is.
    pub(super) async fn check_named_dir(&self, path: &CleanPath) -> Result<()> {
        if !path.wants_dir() {
            return Ok(());
        }
        match self.lookup(path.bare(), false).await? {
            Lookup::Found(_, qid, _) if qid.kind.contains(QidKind::DIR) => Ok(()),
            Lookup::Found(..) => Err(Errno::ENOTDIR.into()),
            Lookup::Missing(_) => Err(Errno::ENOENT.into()),
        }
    }

    /// Walks `names`, of which there is at least one, from the root.
    async fn walk(&self, names: &[&[u8]]) -> Result<Way> {
        walk_from(&self.mount.root, self.mount.root_qid, names).await
    }
}

/// Walks `names`, of which there is at least one, from a file.
pub(super) async fn walk_from(start: &Fid, qid: Qid, names: &[&[u8]]) -> Result<Way> {
    let mut fid: Option<Fid> = None;
    let mut last = qid;
    let mut done = 0;
    for names in names.chunks(MAX_ELEMENTS) {
        let walk = match &mut fid {
            Some(fid) => fid.walk_on(names).await,
            None => start.walk(names).await.map(|(new, walk)| {
                fid = Some(new);
                walk
            }),
        };
        if let Some(end) = judge(walk, names.len(), &mut done, &mut last)? {
            return Ok(end);
        }
    }
    match fid {
        Some(fid) => Ok(Way::Through(fid, last)),
        None => Err(Error::InvalidPath("empty path")),
    }
}

/// What the answer to a walk of so many names means, after `done` names that led to `last`; `None` if the way
/// goes on.
pub(super) fn judge(
    walk: Result<Walk>,
    names: usize,
    done: &mut usize,
    last: &mut Qid,
) -> Result<Option<Way>> {
    match walk {
        Ok(walk) => {
            *done += walk.names;
            *last = walk.last.unwrap_or(*last);
            if walk.names == names {
                return Ok(None);
            }
        }
        Err(error @ Error::Errno(_)) => {
            return Ok(Some(if last.kind.contains(QidKind::SYMLINK) && *done > 0 {
                Way::Link(*done - 1)
            } else {
                Way::Blocked(*done, error)
            }));
        }
        Err(error) => return Err(error),
    }
    // The protocol does not tell why the way ended here.
    Ok(Some(if last.kind.contains(QidKind::SYMLINK) {
        Way::Link(*done - 1)
    } else if last.kind.contains(QidKind::DIR) {
        Way::Blocked(*done, Errno::ENOENT.into())
    } else {
        Way::Blocked(*done, Errno::ENOTDIR.into())
    }))
}
