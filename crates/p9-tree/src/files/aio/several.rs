//! Looking into several directories at the same time.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

use p9_wire::{AttrMask, Errno, OpenFlags, QidKind, UnlinkFlags};

use super::each::walk_to_dir;
use super::file::stat_open;
use super::{CopyingFiles, DirEntry, Fs, ReadDir, Removing, WithMetadata};
use crate::drive::{Waits, join, waiting};
use crate::files::failed;
use crate::in_order::{AT_ONCE, InOrder, Task};
use crate::memory::{try_copy, try_push};
use crate::{Driver, Error, Make, Metadata, Node, Result, Walked, block_on};

/// How many directories are looked into at the same time: each takes a few requests one after the other.
pub(in crate::files) const DIRS_AT_ONCE: usize = 8;

/// How many are held that were looked into, of all levels of a tree together; of each there are the first entries.
pub(in crate::files) const MOST_AHEAD: usize = 32;

/// The memory that has to be free for that, in bytes: entries, answers and files come together.
const ROOM: usize = 3 << 20;

/// How many files of each are copied then, which take 64 KiB of memory each.
const FILES_OF_EACH: usize = 4;

/// A directory whose entries are being removed; see [`files::RemovingDir`](crate::files::RemovingDir).
pub(in crate::files) struct RemovingDir<N: Node> {
    pub(in crate::files) entries: Removing<N>,
    pub(in crate::files) is_gone: bool,
}

/// A directory whose files are being copied; see [`files::CopyingDir`](crate::files::CopyingDir).
pub(in crate::files) struct CopyingDir<N: Node> {
    pub(in crate::files) metadata: Metadata,
    pub(in crate::files) is_new: bool,
    pub(in crate::files) files: CopyingFiles<N>,
}

/// Directories in one directory.
#[derive(Clone)]
pub(in crate::files) struct Several<N> {
    fs: Fs<N>,
    path: Rc<Vec<u8>>,
    pub(in crate::files) above: N,
}

impl<N: Node + 'static> Fs<N> {
    /// Those in the directory at `path`; `None` where they have to be looked into one after the other, since
    /// memory or fids are short.
    pub(in crate::files) async fn several(&self, path: &[u8]) -> Result<Option<Several<N>>> {
        if Vec::<u8>::new().try_reserve_exact(ROOM).is_err() {
            return Ok(None);
        }
        let found = self.find(path, true).await?;
        if found.node.has_few_fids() {
            return Ok(None);
        }
        Ok(Some(Several {
            fs: self.clone(),
            path: Rc::new(try_copy(path)?),
            above: found.node.concurrent(),
        }))
    }
}

impl<N: Node + 'static> Several<N> {
    /// The listing of one, found and opened in one go.
    async fn list(&self, name: &[u8]) -> Result<ReadDir<N>> {
        let names = [name];
        let open = self.above.open_at(&names, OpenFlags::DIRECTORY);
        match open.await? {
            Walked::Through(file, qid) if qid.kind.contains(QidKind::DIR) => {
                Ok(ReadDir::new(self.fs.clone(), file, self.path_of(name)?))
            }
            Walked::Through(..) | Walked::Link(_) => Err(Errno::ENOTDIR.into()),
            Walked::Blocked(_, error) => Err(error),
        }
    }

    /// The listing of one, and the directory itself, to change names in it.
    async fn list_and_keep(&self, name: &[u8]) -> Result<ReadDir<N>> {
        let dir = walk_to_dir(&self.above, name).await?;
        let file = dir.open(OpenFlags::DIRECTORY).await?;
        let mut listing = ReadDir::new(self.fs.clone(), file, self.path_of(name)?);
        listing.dir = Some(dir);
        Ok(listing)
    }

    fn path_of(&self, name: &[u8]) -> Result<Vec<u8>> {
        let mut path = Vec::new();
        path.try_reserve_exact(self.path.len() + 1 + name.len())
            .map_err(|_| Error::OutOfMemory)?;
        path.extend_from_slice(&self.path);
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(path)
    }

    /// The listing of one, whose entries are found by the way from above, and its attributes.
    async fn look_at(&self, name: &[u8]) -> Result<(ReadDir<N>, Metadata)> {
        let mut listing = self.list(name).await?;
        listing.above = Some(Rc::new((self.above.clone(), try_copy(name)?)));
        let metadata = stat_open(listing.get_ref()).await?;
        Ok((listing, metadata))
    }

    /// The listing of one, of which the first entries are there.
    pub(in crate::files) fn listing(self, name: Vec<u8>) -> Task<'static, Result<ReadDir<N>>> {
        Box::pin(async move {
            let mut listing = self.list(&name).await?;
            listing.fill_up().await?;
            Ok(listing)
        })
    }

    /// The attributes of one, and its entries with theirs.
    pub(in crate::files) fn with_metadata(
        self,
        name: Vec<u8>,
    ) -> Task<'static, Result<(Metadata, WithMetadata<N>)>> {
        Box::pin(async move {
            let (listing, metadata) = self.look_at(&name).await?;
            let mut entries = listing.with_metadata();
            entries.start(AT_ONCE).await;
            Ok((metadata, entries))
        })
    }

    /// Removes what is in them, and those in which nothing is left.
    pub(in crate::files) fn removing(self, name: Vec<u8>) -> Task<'static, Result<RemovingDir<N>>> {
        Box::pin(async move {
            let mut entries = self
                .list_and_keep(&name)
                .await?
                .removing(|_: &DirEntry<N>| true);
            entries.start(AT_ONCE).await;
            let is_empty = entries.is_over(|removed| matches!(removed, Some(Ok(()))));
            let is_gone = is_empty
                && self
                    .above
                    .unlink(&name, UnlinkFlags::REMOVE_DIR)
                    .await
                    .is_ok();
            Ok(RemovingDir { entries, is_gone })
        })
    }

    /// Makes directories of the same names in `to`, unless they are there, and copies the small files. Those which `refuse`
    /// says are not to be copied are EINVAL.
    pub(in crate::files) fn copying<M: Node + 'static>(
        self,
        name: Vec<u8>,
        to: M,
        refuse: Rc<dyn Fn(&Metadata) -> bool>,
        waits: Rc<Waits>,
        is_first: bool,
    ) -> Task<'static, Result<CopyingDir<N>>> {
        Box::pin(async move {
            // What is made in `to` inherits its group: asked for once, and not by each that makes something there.
            let ask = async {
                if is_first {
                    to.getattr(AttrMask::MODE | AttrMask::GID).await.ok();
                }
            };
            let look = waiting(&waits.0, self.look_at(&name));
            let (found, ()) = join(look, waiting(&waits.1, ask)).await;
            let (listing, metadata) = found?;
            if refuse(&metadata) {
                return Err(Errno::EINVAL.into());
            }
            let make = async {
                let new = to.new_files();
                // Its owner fills it.
                let mode = (metadata.mode() & 0o777 | 0o700) & !new.umask;
                let made = to.clone().make(&name, Make::Dir, mode, new.gid).await;
                if !matches!(made, Ok(()) | Err(Error::Errno(Errno::EEXIST))) {
                    made?;
                }
                let target = to.walk_at(&[&name]).await?.through()?;
                match target.qid().kind.contains(QidKind::DIR) {
                    true => Ok((target, made.is_ok())),
                    false => Err(Error::from(Errno::ENOTDIR)),
                }
            };
            let (target, is_new) = waiting(&waits.1, make).await?;
            if target.has_few_fids() {
                // Another tree is mounted there: it goes by itself.
                return Err(Errno::EINVAL.into());
            }
            let mut files = listing.copying_into(target, waits);
            files.start(FILES_OF_EACH).await;
            Ok(CopyingDir {
                metadata,
                is_new,
                files,
            })
        })
    }
}

/// Tasks that are under way at the same time, and what becomes of each. The results lie beside the tasks, so that there is
/// one function for all types of results.
pub(in crate::files) struct Tasks<T> {
    tasks: Vec<Task<'static, ()>>,
    results: VecDeque<Rc<Cell<Option<Result<T>>>>>,
}

impl<T: 'static> Tasks<T> {
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(in crate::files) fn new(
        tasks: impl Iterator<Item = Task<'static, Result<T>>>,
    ) -> Result<Self> {
        let mut all = Tasks {
            tasks: Vec::new(),
            results: VecDeque::new(),
        };
        let room = all.results.try_reserve_exact(DIRS_AT_ONCE);
        room.map_err(|_| Error::OutOfMemory)?;
        for task in tasks {
            let result = Rc::new(Cell::new(None));
            all.results.push_back(result.clone());
            let task = async move { result.set(Some(task.await.map_err(failed))) };
            try_push(&mut all.tasks, Box::pin(task) as Task<'static, ()>)?;
        }
        Ok(all)
    }

    /// Waits until all are done: then nothing is under way.
    ///
    /// # Errors
    /// Those of the driver.
    pub(in crate::files) fn run(self, driver: &dyn Driver) -> Result<VecDeque<Result<T>>> {
        run(driver, self.tasks)?;
        let unknown = || Err(Errno::EDEADLK.into());
        let results = self.results.into_iter();
        Ok(results
            .map(|result| result.take().unwrap_or_else(unknown))
            .collect())
    }
}

fn run(driver: &dyn Driver, tasks: Vec<Task<'static, ()>>) -> Result<()> {
    block_on(driver, async {
        let mut doing = InOrder::default();
        for task in tasks {
            doing.begin(task).await;
        }
        doing.settle().await;
        Ok(())
    })
}
