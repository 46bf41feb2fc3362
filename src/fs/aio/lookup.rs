//! From paths to fids: walking in steps of 16 names and following symbolic links.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::pin::Pin;

use super::{Fs, Mount};
use crate::errno::Errno;
use crate::fs::path::CleanPath;
use crate::fs::{Error, Probe, Result};
use crate::p9::session::Fid;
use crate::p9::wire::{MAX_ELEMENTS, Qid, QidKind};

/// How many symbolic links are followed on the way of one path.
const MAX_LINKS: usize = 40;

/// A fid for what a path leads to. The root's own stands for the root, so that it costs nothing.
pub(super) enum Handle {
    Root(Rc<Mount>),
    Own(Fid),
}

impl Handle {
    pub(super) fn fid(&self) -> &Fid {
        match self {
            Handle::Root(mount) => &mount.root,
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
enum Way {
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

    /// The directory of what `path` names, and its name there. For the root, which has none, the
    /// error is `at_root`.
    pub(super) async fn find_parent(
        &self,
        path: &[u8],
        at_root: Errno,
    ) -> Result<(Handle, Vec<u8>)> {
        self.parent_of(&CleanPath::new(path)?, at_root).await
    }

    pub(super) async fn parent_of(
        &self,
        path: &CleanPath,
        at_root: Errno,
    ) -> Result<(Handle, Vec<u8>)> {
        let name = path.file_name().ok_or(at_root)?.to_vec();
        match self.lookup(path.parent(), true).await? {
            Lookup::Found(_, qid, _) if !qid.kind.contains(QidKind::DIR) => {
                Err(Errno::ENOTDIR.into())
            }
            Lookup::Found(handle, ..) => Ok((handle, name)),
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
        let target = super::node::readlink(&link).await?;
        if target.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        Ok(Probe::Link { at, target })
    }

    /// A fid that may be opened or changed.
    pub(super) async fn own(&self, handle: Handle) -> Result<Fid> {
        match handle {
            Handle::Own(fid) => Ok(fid),
            Handle::Root(mount) => Ok(mount.root.walk(&[]).await?.0),
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
        for _ in 0..=MAX_LINKS {
            if path.is_root() {
                let root = Handle::Root(self.mount.clone());
                return Ok(Lookup::Found(root, self.mount.root_qid, path));
            }
            let names: Vec<&[u8]> = path.names().collect();
            let last = names.len() - 1;
            let (at, target) = match self.walk(&names).await? {
                Way::Through(fid, qid) if follow && qid.kind.contains(QidKind::SYMLINK) => {
                    (last, super::node::readlink(&fid).await?)
                }
                Way::Through(fid, qid) => {
                    return Ok(Lookup::Found(Handle::Own(fid), qid, path));
                }
                Way::Link(at) => {
                    let names = names.get(..=at).unwrap_or(&names);
                    match self.walk(names).await? {
                        Way::Through(fid, _) => (at, super::node::readlink(&fid).await?),
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
            let (mut way, _) = path.split(at);
            let (_, rest) = path.split(at + 1);
            way.follow(&target)?;
            way.follow(rest)?;
            path = way;
        }
        Err(Error::TooManyLinks)
    }

    /// Walks `names`, of which there is at least one, from the root.
    async fn walk(&self, names: &[&[u8]]) -> Result<Way> {
        let mut fid: Option<Fid> = None;
        let mut last = self.mount.root_qid;
        let mut done = 0;
        for names in names.chunks(MAX_ELEMENTS) {
            let walk = match &mut fid {
                Some(fid) => fid.walk_on(names).await,
                None => self.mount.root.walk(names).await.map(|(new, walk)| {
                    fid = Some(new);
                    walk
                }),
            };
            let complete = match walk {
                Ok(walk) => {
                    done += walk.names;
                    last = walk.last.unwrap_or(last);
                    walk.names == names.len()
                }
                Err(error @ Error::Errno(_)) => {
                    if last.kind.contains(QidKind::SYMLINK) && done > 0 {
                        return Ok(Way::Link(done - 1));
                    }
                    return Ok(Way::Blocked(done, error));
                }
                Err(error) => return Err(error),
            };
            if complete {
                continue;
            }
            // The protocol does not tell why the way ended here.
            return Ok(if last.kind.contains(QidKind::SYMLINK) {
                Way::Link(done - 1)
            } else if last.kind.contains(QidKind::DIR) {
                Way::Blocked(done, Errno::ENOENT.into())
            } else {
                Way::Blocked(done, Errno::ENOTDIR.into())
            });
        }
        match fid {
            Some(fid) => Ok(Way::Through(fid, last)),
            None => Err(Error::InvalidPath("empty path")),
        }
    }
}
