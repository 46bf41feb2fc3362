//! Doing something with each entry of a directory, for callers that block.

use alloc::rc::Rc;
use core::fmt;

use super::{DirEntry, Fs, ReadDir, aio};
use crate::drive::Both;
use crate::{Driver, Metadata, Node, Result, block_on};

/// Iterates over the entries of a directory, and does something with many of them at the same time. Hands them out in the order
/// of the listing, each with the result.
#[derive(Debug)]
pub struct Each<N: Node, T> {
    inner: aio::Each<N, T>,
    drivers: Option<Drivers>,
}

/// What waits for the entries. Kept, as each driver takes memory.
#[derive(Clone)]
struct Drivers {
    /// Whether they are those of the directory, and not of its listing: it may be found only later.
    of_directory: bool,
    /// For what is done in its tree.
    tree: Rc<dyn Driver>,
    /// For what is done there and in the tree where files are copied to.
    both: Rc<dyn Driver>,
}

impl fmt::Debug for Drivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drivers")
            .field("of_directory", &self.of_directory)
            .finish_non_exhaustive()
    }
}

/// The entries and their attributes; made by [`ReadDir::with_metadata`]. An entry that is gone before the tree was asked has
/// an error in place of its attributes.
pub type WithMetadata<N> = Each<N, Result<Metadata>>;

/// The entries, and what became of removing them; made by [`ReadDir::removing`].
pub type Removing<N> = Each<N, Option<Result<()>>>;

/// The entries, and how many bytes of each were copied; made by [`ReadDir::copying_to`].
pub type CopyingFiles<N> = Each<N, Result<Option<u64>>>;

impl<N: Node + 'static> ReadDir<N> {
    /// The entries with their attributes, symbolic links not followed. The tree is asked for many at
    /// the same time, which is a good deal faster than [`DirEntry::metadata`] for each.
    pub fn with_metadata(self) -> WithMetadata<N> {
        self.inner.with_metadata().into()
    }

    /// Removes all entries for which `which` says so, except directories: many at the same time. Hands out each entry with
    /// what became of it, `None` where it was left alone. One that the listing does not tell to be a directory has EISDIR or
    /// EPERM.
    ///
    /// # Errors
    /// [`Error::HiddenLinks`](crate::Error::HiddenLinks) ends the listing before anything is removed that may be seen
    /// through a link.
    pub fn removing(self, which: impl Fn(&DirEntry<N>) -> bool + 'static) -> Removing<N> {
        let which = move |entry: &aio::DirEntry<N>| {
            which(&DirEntry {
                inner: entry.clone(),
            })
        };
        self.inner.removing(which).into()
    }

    /// Copies small regular files, 64 KiB at most, to new ones of the same names in the directory `path` of `to`: many at the
    /// same time, in nine requests each. Hands out each entry with how many bytes were copied, `None` where it was left
    /// alone: a directory, a link, a larger file, one of several names. New files get the permission bits of the old ones,
    /// less the umask.
    ///
    /// A name that is taken is EEXIST, and that file stays as it was. After another error the new file may be there in part.
    ///
    /// # Errors
    /// ENOENT and ENOTDIR where there is no such directory.
    ///
    /// ```
    /// use xen9p::tree::files::Fs;
    /// use xen9p::tree::trees::MemTree;
    ///
    /// # fn main() -> xen9p::tree::Result<()> {
    /// let (here, there) = (Fs::new(MemTree::new().root()), Fs::new(MemTree::new().root()));
    /// here.write("/a", "content")?;
    /// here.create_dir("/d")?;
    /// there.create_dir("/copies")?;
    /// for entry in here.read_dir("/")?.copying_to(&there, "/copies")? {
    ///     let (entry, copied) = entry?;
    ///     let is_file = entry.file_name() == b"a";
    ///     assert_eq!(copied?, is_file.then_some(7));
    /// }
    /// assert_eq!(there.read("/copies/a")?, b"content");
    /// # Ok(())
    /// # }
    /// ```
    pub fn copying_to<M: Node + 'static>(
        self,
        to: &Fs<M>,
        path: impl AsRef<[u8]>,
    ) -> Result<CopyingFiles<N>> {
        let fs = to.as_async();
        let inner = block_on(fs.driver(), self.inner.copying_to(fs, path))?;
        Ok(inner.into())
    }
}

impl<N: Node, T> From<aio::Each<N, T>> for Each<N, T> {
    fn from(inner: aio::Each<N, T>) -> Self {
        Each {
            inner,
            drivers: None,
        }
    }
}

impl<N: Node + 'static, T: 'static> Each<N, T> {
    /// What waits for what is under way.
    fn drivers(&mut self) -> Drivers {
        let of_directory = self.inner.has_directory();
        let kept = self.drivers.take();
        let drivers = kept.filter(|kept| kept.of_directory == of_directory);
        let drivers = drivers.unwrap_or_else(|| {
            let tree = self.inner.driver().share();
            let both = match &self.inner.other {
                None => tree.clone(),
                Some(other) => {
                    let drivers = [tree.clone(), other.clone()];
                    Rc::new(Both::new(drivers, self.inner.waits.clone()))
                }
            };
            Drivers {
                of_directory,
                tree,
                both,
            }
        });
        self.drivers.insert(drivers).clone()
    }
}

impl<N: Node + 'static, T: 'static> Iterator for Each<N, T> {
    type Item = Result<(DirEntry<N>, T)>;

    fn next(&mut self) -> Option<Self::Item> {
        let driver = self.drivers().tree;
        if let Err(error) = block_on(&*driver, self.inner.prepare()) {
            return Some(Err(error));
        }
        let driver = self.drivers().both;
        let next = block_on(&*driver, async { self.inner.next().await.transpose() });
        let next = next.transpose()?;
        Some(next.map(|(inner, done)| (DirEntry { inner }, done)))
    }
}
