//! From paths to nodes: walking, and following symbolic links.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::pin::Pin;

use p9_wire::{Errno, Qid, QidKind};

use super::{Fs, may_be_stale};
use crate::{CleanPath, Error, Node, Result, Walked};

/// How many symbolic links are followed on the way of one path.
const MAX_LINKS: usize = 40;

/// What a path leads to.
pub(crate) struct Found<N> {
    pub(crate) node: N,
    pub(crate) qid: Qid,
    /// The path as it is without links.
    pub(crate) path: CleanPath,
}

impl<N> Found<N> {
    pub(crate) fn is_dir(&self) -> bool {
        self.qid.kind.contains(QidKind::DIR)
    }
}

/// Where a path leads.
pub(crate) enum Lookup<N> {
    Found(Found<N>),
    /// Only the last name is missing; its directory is there. The path as it is without links.
    Missing(CleanPath),
}

impl<N: Node> Fs<N> {
    /// Where `path` leads; a symbolic link at its end is followed or not.
    pub(crate) async fn find(&self, path: &[u8], follow: bool) -> Result<Found<N>> {
        self.find_clean(CleanPath::new(path)?, follow).await
    }

    pub(super) async fn find_clean(&self, path: CleanPath, follow: bool) -> Result<Found<N>> {
        match self.lookup(path, follow).await? {
            Lookup::Found(found) => Ok(found),
            Lookup::Missing(_) => Err(Errno::ENOENT.into()),
        }
    }

    /// Where `path` leads, as [`find`](Self::find), or that it could be made there.
    ///
    /// Boxed: nearly every operation begins with it, and would have the whole of it in its own future.
    pub(crate) fn lookup(
        &self,
        path: CleanPath,
        follow: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Lookup<N>>> + '_>> {
        Box::pin(self.follow(path, follow))
    }

    async fn follow(&self, mut path: CleanPath, follow: bool) -> Result<Lookup<N>> {
        // What is said to be a directory is looked for behind a link.
        let follow = follow || path.wants_dir();
        for _ in 0..=MAX_LINKS {
            let names: Vec<&[u8]> = path.names().collect();
            let Some(last) = names.len().checked_sub(1) else {
                let (node, qid) = (self.root.clone(), self.root.qid());
                return Ok(Lookup::Found(Found { node, qid, path }));
            };
            let (at, target) = match self.root.walk_at(&names).await? {
                Walked::Through(node, qid) if follow && qid.kind.contains(QidKind::SYMLINK) => {
                    (last, node.readlink().await?)
                }
                Walked::Through(_, qid) if path.wants_dir() && !qid.kind.contains(QidKind::DIR) => {
                    return Err(Errno::ENOTDIR.into());
                }
                Walked::Through(node, qid) => {
                    return Ok(Lookup::Found(Found { node, qid, path }));
                }
                Walked::Link(at) => {
                    let names = names.get(..=at).unwrap_or(&names);
                    // What is no link any more was changed in between.
                    (at, self.root.readlink_at(names).await?.through()?)
                }
                Walked::Blocked(at, error) if at == last && error.is_not_found() => {
                    return Ok(Lookup::Missing(path));
                }
                Walked::Blocked(_, error) => return Err(error),
            };
            if target.is_empty() {
                return Err(Errno::ENOENT.into());
            }
            path = path.through_link(at, &target)?;
        }
        Err(Error::TooManyLinks)
    }

    /// The directory at a path, in which a name is about to be changed.
    async fn dir(&self, path: &CleanPath) -> Result<N> {
        let names: Vec<&[u8]> = path.names().collect();
        if names.is_empty() {
            return Ok(self.root.clone());
        }
        match self.root.dir_at(&names).await? {
            Walked::Through(node, qid) if qid.kind.contains(QidKind::DIR) => Ok(node),
            Walked::Through(_, qid) if !qid.kind.contains(QidKind::SYMLINK) => {
                Err(Errno::ENOTDIR.into())
            }
            Walked::Blocked(_, error) => Err(error),
            Walked::Through(..) | Walked::Link(_) => {
                let found = self.find_clean(path.try_clone()?, true).await?;
                match found.is_dir() {
                    true => Ok(found.node),
                    false => Err(Errno::ENOTDIR.into()),
                }
            }
        }
    }

    /// Does something to what `path` names, given its directory and its name there. Once more if it fails in a directory
    /// that was kept, in a way that another state of the tree would explain. For the root, which has no name, the error is
    /// `at_root`.
    pub(super) async fn in_parent<T>(
        &self,
        path: &CleanPath,
        at_root: Errno,
        work: impl AsyncFn(N, &[u8]) -> Result<T>,
    ) -> Result<T> {
        let name = path.file_name().ok_or(at_root)?;
        let parent = path.parent()?;
        let mut is_first = true;
        // A loop, so that the code of `work` is there once.
        loop {
            let dir = self.dir(&parent).await?;
            let once_more = is_first && dir.is_kept();
            match work(dir, name).await {
                Err(error) if once_more && may_be_stale(error) => is_first = false,
                result => return result,
            }
        }
    }

    /// Refuses a path for something new other than a directory, if by its end it says that it leads to one.
    pub(super) async fn check_new_name(&self, path: &CleanPath) -> Result<()> {
        if !path.wants_dir() {
            return Ok(());
        }
        match self.lookup(path.bare()?, false).await? {
            Lookup::Found(_) => Err(Errno::EEXIST.into()),
            Lookup::Missing(_) => Err(Errno::ENOENT.into()),
        }
    }

    /// Refuses what is no directory, a link to one either, if the path says by its end that it is.
    pub(super) async fn check_named_dir(&self, path: &CleanPath) -> Result<()> {
        if !path.wants_dir() {
            return Ok(());
        }
        match self.find_clean(path.bare()?, false).await?.is_dir() {
            true => Ok(()),
            false => Err(Errno::ENOTDIR.into()),
        }
    }

    /// Whether the path leads to a directory; where it leads nowhere or the tree refuses to say, it does not.
    pub(super) async fn is_dir(&self, path: &CleanPath) -> Result<bool> {
        match self.find_clean(path.try_clone()?, true).await {
            Ok(found) => Ok(found.is_dir()),
            Err(error) if error.is_of_the_path() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
