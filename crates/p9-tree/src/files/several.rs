//! Looking into several directories at the same time, for callers that block.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;

use super::aio::{self, DIRS_AT_ONCE, Several, Tasks};
use super::{CopyingFiles, Fs, ReadDir, Removing, WithMetadata};
use crate::drive::{Both, Waits};
use crate::in_order::Task;
use crate::{Metadata, Node, Result, block_on};

/// A directory whose entries are removed; made by [`Fs::removing_dirs`].
pub struct RemovingDir<N: Node> {
    inner: aio::RemovingDir<N>,
}

impl<N: Node + 'static> RemovingDir<N> {
    /// Whether the directory is gone, as nothing was left in it.
    pub fn is_gone(&self) -> bool {
        self.inner.is_gone
    }

    /// The entries, and what became of removing them; those behind the first are removed as they are handed out.
    pub fn into_entries(self) -> Removing<N> {
        self.inner.entries.into()
    }
}

impl<N: Node> fmt::Debug for RemovingDir<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.entries.fmt(f)
    }
}

/// A directory whose small files are copied; made by [`Fs::copying_dirs`].
pub struct CopyingDir<N: Node> {
    inner: aio::CopyingDir<N>,
}

impl<N: Node + 'static> CopyingDir<N> {
    /// The attributes of the directory that is copied.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// Whether its copy was made, and not there before.
    pub fn is_new(&self) -> bool {
        self.inner.is_new
    }

    /// The entries, as [`ReadDir::copying_to`] hands them out; those behind the first are copied then.
    pub fn into_files(self) -> CopyingFiles<N> {
        self.inner.files.into()
    }
}

impl<N: Node> fmt::Debug for CopyingDir<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.files.fmt(f)
    }
}

/// What became of each directory, in the order of the names. Empty where directories have to be looked into one by one:
/// memory is short, or the server has few fids.
type Dirs<T> = Result<VecDeque<Result<T>>>;

impl<N: Node + 'static> Fs<N> {
    fn several<T: 'static>(
        &self,
        above: &[u8],
        names: Vec<Vec<u8>>,
        task: impl Fn(Several<N>, Vec<u8>) -> Task<'static, Result<T>>,
    ) -> Dirs<T> {
        let Some(several) = block_on(self.inner.driver(), self.inner.several(above))? else {
            return Ok(VecDeque::new());
        };
        let driver = several.above.driver().share();
        let names = names.into_iter().take(DIRS_AT_ONCE);
        let tasks = names.map(|name| task(several.clone(), name));
        Tasks::new(tasks)?.run(&*driver)
    }

    /// The entries of eight directories `names` at most, which are in the directory `above`, each as
    /// [`read_dir`](Self::read_dir) gives them. The first of each are asked for at the same time, so that trees of many small
    /// directories take little more than one. Symbolic links are not followed. Empty where memory or the server's fids are too few
    /// for that.
    ///
    /// # Errors
    /// Those of finding `above`; those of one directory stand in its place.
    pub fn read_dirs(&self, above: impl AsRef<[u8]>, names: Vec<Vec<u8>>) -> Dirs<ReadDir<N>> {
        let dirs = self.several(above.as_ref(), names, Several::listing)?;
        let dirs = dirs.into_iter();
        Ok(dirs.map(|dir| dir.map(ReadDir::from)).collect())
    }

    /// The attributes of eight directories `names` at most, which are in the directory `above`, and their entries with
    /// attributes. The first of each are asked for at the same time, so that trees of many small directories take little more than one. Symbolic
    /// links are not followed. Empty where memory or the server's fids are too few for that.
    ///
    /// # Errors
    /// Those of finding `above`; those of one directory stand in its place.
    pub fn with_metadata_of_dirs(
        &self,
        above: impl AsRef<[u8]>,
        names: Vec<Vec<u8>>,
    ) -> Dirs<(Metadata, WithMetadata<N>)> {
        let dirs = self.several(above.as_ref(), names, Several::with_metadata)?;
        let dirs = dirs.into_iter();
        Ok(dirs
            .map(|dir| dir.map(|(metadata, entries)| (metadata, entries.into())))
            .collect())
    }

    /// Begins to remove what is in eight directories `names` at most, which are in the directory `above`, and those in which
    /// nothing is left. The first entries of each go at the same time. Directories in them stay, and symbolic links are not
    /// followed. Empty where memory or the server's fids are too few for that.
    ///
    /// # Errors
    /// Those of finding `above`; those of one directory stand in its place.
    pub fn removing_dirs(
        &self,
        above: impl AsRef<[u8]>,
        names: Vec<Vec<u8>>,
    ) -> Dirs<RemovingDir<N>> {
        let dirs = self.several(above.as_ref(), names, Several::removing)?;
        let wrap = |inner| RemovingDir { inner };
        Ok(dirs.into_iter().map(|dir| dir.map(wrap)).collect())
    }

    /// Begins to copy eight directories `names` at most, from the directory `above` to the directory `path` of `to`: makes those
    /// that are not there, and copies the first small files of each at the same time, as
    /// [`ReadDir::copying_to`] does. Symbolic links are not followed. Those of which `refuse` says so by their attributes are
    /// left alone, and EINVAL. Empty where memory or a server's fids are too few for that.
    ///
    /// New directories get the permission bits of the old ones, those of their owner in any case, less the umask.
    ///
    /// # Errors
    /// Those of finding `above` and `path`; those of one directory stand in its place: its copy may be there in part.
    pub fn copying_dirs<M: Node + 'static>(
        &self,
        above: impl AsRef<[u8]>,
        names: Vec<Vec<u8>>,
        to: &Fs<M>,
        path: impl AsRef<[u8]>,
        refuse: impl Fn(&Metadata) -> bool + 'static,
    ) -> Dirs<CopyingDir<N>> {
        let from = block_on(self.inner.driver(), self.inner.several(above.as_ref()))?;
        let target = block_on(to.inner.driver(), to.inner.several(path.as_ref()))?;
        let (Some(from), Some(target)) = (from, target) else {
            return Ok(VecDeque::new());
        };
        let waits: Rc<Waits> = Rc::default();
        let drivers = [&from.above.driver(), &target.above.driver()].map(|driver| driver.share());
        let both = Both::new(drivers, waits.clone());
        let refuse: Rc<dyn Fn(&Metadata) -> bool> = Rc::new(refuse);
        let names = names.into_iter().take(DIRS_AT_ONCE).enumerate();
        let tasks = names.map(|(index, name)| {
            let (target, refuse) = (target.above.clone(), refuse.clone());
            let task = from.clone();
            task.copying(name, target, refuse, waits.clone(), index == 0)
        });
        let dirs = Tasks::new(tasks)?.run(&both)?;
        let wrap = |inner| CopyingDir { inner };
        Ok(dirs.into_iter().map(|dir| dir.map(wrap)).collect())
    }
}
