//! Files, with the names and habits of `std::fs`, over any tree.
//!
//! [`Fs`] is a tree, [`File`] an open file; their methods block, by the [driver](crate::Node::driver) of the tree. [`aio`] has
//! the same operations as `async` functions for any executor. What a tree does to be fast is what its [`Node`] and
//! [`OpenFile`] override; everything else is here, once for all trees.

#[macro_use]
mod faces;
#[macro_use]
mod list;

pub mod aio;
mod copy_tree;
mod copying;
mod each;
#[cfg(feature = "embedded-io")]
mod embedded;
mod failure;
mod pending;
mod several;
mod walk;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use p9_wire::SetAttr;

use self::aio::{mode_of, owner_of, size_of};
use crate::io::format_to;
use crate::{
    FileTimes, FileType, LockRange, Metadata, Node, OpenFile, OpenOptions, OpenPath, Permissions,
    Result, SeekFrom, Span, StatFs, block_on,
};

pub use self::copy_tree::CopiedTree;
pub use self::copying::{CopyError, Copying};
pub use self::each::{CopyingFiles, Each, Removing, WithMetadata};
use self::failure::LastFailure;
pub(crate) use self::failure::count_failure;
pub use self::failure::{Attempt, Failure, failed};
pub use self::several::{CopyingDir, RemovingDir};
pub use self::walk::WalkDir;

/// A tree of files, by paths. Clones are cheap and mean the same tree.
///
/// Methods have the names and the meaning of the functions in `std::fs`. Paths are bytes (`&str` and
/// `String` do too), separated by `/`, relative to the root with or without a leading `/`;
/// "." and ".." are resolved by text alone. Symbolic links are followed, at most 40,
/// absolute ones from the root, except where a method says otherwise.
///
/// # Errors
/// Every method can fail with what [`Error`](crate::Error) lists; what the tree refuses is
/// [`Error::Errno`](crate::Error::Errno). Only the particular ones are named below.
///
/// # Blocking
/// Every method blocks as long as the tree has to be waited for: a server, each request no longer than the time limit of its
/// mount.
///
/// ```
/// use xen9p::tree::files::Fs;
/// use xen9p::tree::trees::MemTree;
///
/// # fn main() -> xen9p::tree::Result<()> {
/// let fs = Fs::new(MemTree::new().root());
/// fs.create_dir_all("/data/new")?;
/// fs.write("/data/new/a", "one\ntwo\n")?;
/// let mut lines = 0;
/// for entry in fs.read_dir("/data/new")? {
///     lines += fs.read(entry?.path())?.iter().filter(|&&byte| byte == b'\n').count();
/// }
/// assert_eq!(lines, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Fs<N> {
    inner: aio::Fs<N>,
    last: LastFailure,
}

impl<N> From<aio::Fs<N>> for Fs<N> {
    fn from(inner: aio::Fs<N>) -> Self {
        let last = LastFailure::default();
        Fs { inner, last }
    }
}

impl<N: Node> Fs<N> {
    fs_operations!(blocking_by_path);

    waiting_for! {
        fn open_path(path: &[u8], options: &OpenOptions) -> aio::File<N::File>;
        fn read_whole(path: &[u8]) -> Vec<u8>;
        fn read_text(path: &[u8]) -> String;
        fn write_whole(path: &[u8], content: &[u8]) -> ();
        fn stat(path: &[u8], follow: bool) -> Metadata;
        fn is_there(path: &[u8]) -> bool;
        fn list(path: &[u8]) -> aio::ReadDir<N>;
        fn make_dir(path: &[u8], mode: u32) -> ();
        fn make_dirs(path: &[u8]) -> ();
        fn unlink(path: &[u8]) -> ();
        fn unlink_dir(path: &[u8]) -> ();
        fn remove_tree(path: &[u8]) -> ();
        fn move_name(from: &[u8], to: &[u8]) -> ();
        fn add_name(original: &[u8], link: &[u8]) -> ();
        fn make_link(target: &[u8], link: &[u8]) -> ();
        fn link_target(path: &[u8]) -> Vec<u8>;
        fn real_path(path: &[u8]) -> Vec<u8>;
        fn make_node(path: &[u8], mode: u32, major: u32, minor: u32) -> ();
        fn change(path: &[u8], follow: bool, attr: SetAttr) -> ();
        fn resize(path: &[u8], size: u64) -> ();
        fn stat_system(path: &[u8]) -> StatFs;
        fn get_xattr(path: &[u8], name: &[u8]) -> Vec<u8>;
        fn xattr_names(path: &[u8]) -> Vec<Vec<u8>>;
        fn put_xattr(path: &[u8], name: &[u8], value: &[u8]) -> ();
        fn drop_xattr(path: &[u8], name: &[u8]) -> ();
    }

    /// The tree that begins with `root`.
    pub fn new(root: N) -> Self {
        aio::Fs::new(root).into()
    }

    /// Copies the content and the permission bits of a file; returns the number of bytes. What comes next is read while what
    /// came before is written. What `to` names is not touched before the first bytes of `from` are there.
    ///
    /// # Errors
    /// EISDIR for a directory, [`Error::InvalidInput`](crate::Error::InvalidInput) for what is neither that nor a regular
    /// file, and for a file that would be copied onto itself.
    pub fn copy(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<u64> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let copied = self.copy_file(from, to);
        if let Err(error) = copied {
            self.last.note("copy", [from, to], error);
        }
        copied
    }

    fn copy_file(&self, from: &[u8], to: &[u8]) -> Result<u64> {
        let (driver, fs) = (self.inner.driver(), &self.inner);
        let (copying, metadata) = block_on(driver, fs.begin_copy(from))?;
        let target = block_on(driver, fs.copy_target(to, copying.source(), &metadata))?;
        let target = target.concurrent();
        let driver = target.file.driver().share();
        let (copying, both) = copying.concurrent(&*driver);
        let finish = async { Ok(copying.finish(&target.file, |_| {}).await?) };
        let count = block_on(&both, finish)?;
        block_on(&*driver, target.close(&metadata))?;
        Ok(count)
    }

    /// The last operation of these methods, on this handle or a clone of it, that failed: its name, its path and its error. An
    /// [`Error`](crate::Error) is small and says no path; this is for the line that a person reads. `None` if none failed, or
    /// there was no memory for the path.
    ///
    /// ```
    /// use xen9p::tree::files::Fs;
    /// use xen9p::tree::trees::MemTree;
    ///
    /// let fs = Fs::new(MemTree::new().root());
    /// assert!(fs.read("/app.conf").is_err());
    /// let text = fs.last_failure().map(|failure| failure.to_string());
    /// assert_eq!(text.as_deref(), Some("read \"/app.conf\": No such file or directory (ENOENT)"));
    /// ```
    pub fn last_failure(&self) -> Option<Failure> {
        self.last.get()
    }

    /// The asynchronous face of the same tree.
    pub fn as_async(&self) -> &aio::Fs<N> {
        &self.inner
    }

    /// The same, instead of this one.
    pub fn into_async(self) -> aio::Fs<N> {
        self.inner
    }
}

impl<N: Node> OpenPath for Fs<N> {
    type File = File<N::File>;

    fn open_path(&self, path: &[u8], options: &OpenOptions) -> Result<Self::File> {
        self.open_with(path, options)
    }
}

/// An open file with a position.
///
/// The methods are those of `std::fs::File` and of its traits `Read`, `Write`, `Seek` and `FileExt`.
/// All take `&self`: the position lives in the handle. To a server large transfers are cut into requests that
/// fit the message size and travel all at once. Unless the file was opened with
/// [`OpenOptions::write_behind`], nothing that is written is kept here, and there is nothing to flush.
///
/// Dropping a file closes it without waiting for an answer; [`close`](Self::close) waits and
/// reports errors.
///
/// ```
/// use xen9p::fs::{Fs, OpenOptions, Result, SeekFrom};
///
/// /// Counts one up in a file that holds eight bytes.
/// fn count_up(fs: &Fs, path: &str) -> Result<u64> {
///     let file = OpenOptions::new().read(true).write(true).open(fs, path)?;
///     let mut bytes = [0; 8];
///     file.read_exact(&mut bytes)?;
///     let count = u64::from_le_bytes(bytes) + 1;
///     file.seek(SeekFrom::Start(0))?;
///     file.write_all(&count.to_le_bytes())?;
///     file.sync_data()?;
///     file.close()?;
///     Ok(count)
/// }
/// ```
#[derive(Debug)]
pub struct File<F> {
    inner: aio::File<F>,
}

impl<F> From<aio::File<F>> for File<F> {
    fn from(inner: aio::File<F>) -> Self {
        File { inner }
    }
}

impl<F: OpenFile> File<F> {
    file_operations!(blocking);

    /// The asynchronous face of the same open file.
    pub fn into_async(self) -> aio::File<F> {
        self.inner
    }

    /// Tries to lock bytes of the file, `exclusive` or shared. `None` when someone else holds a lock
    /// that conflicts.
    ///
    /// What a lock is worth is the tree's affair: diod locks for real, the whole file whatever
    /// the range; **QEMU grants every lock and excludes no one**.
    ///
    /// # Errors
    /// EOPNOTSUPP where there are no locks.
    pub fn try_lock(&self, range: LockRange, exclusive: bool) -> Result<Option<FileLock<'_, F>>> {
        let granted = block_on(self.inner.driver(), self.inner.try_lock(range, exclusive))?;
        Ok(granted.then_some(FileLock { file: self, range }))
    }

    /// As [`try_lock`](Self::try_lock), but asks again, at growing intervals, until the lock is granted or the time limit of
    /// the tree has passed.
    ///
    /// # Errors
    /// [`Error::TimedOut`](crate::Error::TimedOut).
    pub fn lock(&self, range: LockRange, exclusive: bool) -> Result<FileLock<'_, F>> {
        block_on(self.inner.driver(), self.inner.lock(range, exclusive))?;
        Ok(FileLock { file: self, range })
    }

    /// Writes formatted text at the position: what `write!` and `writeln!` call. Text of less than 512 bytes is one write.
    ///
    /// # Errors
    /// As [`write_all`](Self::write_all).
    pub fn write_fmt(&self, text: fmt::Arguments<'_>) -> Result<()> {
        format_to(&mut |piece| self.write_all(piece), text)
    }

    /// Closes the file, waits for the tree and reports what it says. The file is closed even then.
    ///
    /// # Errors
    /// What the tree says.
    pub fn close(self) -> Result<()> {
        let driver = self.inner.driver().share();
        block_on(&*driver, self.inner.close())
    }
}

/// A lock on bytes of a file; dropping it unlocks them.
#[derive(Debug)]
#[must_use = "dropping it unlocks"]
pub struct FileLock<'a, F: OpenFile> {
    file: &'a File<F>,
    range: LockRange,
}

impl<F: OpenFile> Drop for FileLock<'_, F> {
    fn drop(&mut self) {
        let inner = &self.file.inner;
        if let Err(error) = block_on(inner.driver(), inner.unlock(self.range)) {
            log::warn!("unlocking a file: {error}");
        }
    }
}

/// Iterates over the entries of a directory; made by [`Fs::read_dir`].
///
/// After an error the iteration is over.
///
/// ```
/// use xen9p::fs::{Fs, Result};
///
/// /// Bytes in the files of a directory.
/// fn size(fs: &Fs, path: &str) -> Result<u64> {
///     let mut bytes = 0;
///     for entry in fs.read_dir(path)?.with_metadata() {
///         let (_, metadata) = entry?;
///         bytes += metadata?.len();
///     }
///     Ok(bytes)
/// }
/// ```
#[derive(Debug)]
pub struct ReadDir<N: Node> {
    inner: aio::ReadDir<N>,
}

impl<N: Node> From<aio::ReadDir<N>> for ReadDir<N> {
    fn from(inner: aio::ReadDir<N>) -> Self {
        ReadDir { inner }
    }
}

impl<N: Node> ReadDir<N> {
    /// Goes on behind the entry that has this [`cookie`](DirEntry::cookie); 0 starts anew.
    pub fn seek(&mut self, cookie: u64) {
        self.inner.seek(cookie);
    }
}

impl<N: Node> Iterator for ReadDir<N> {
    type Item = Result<DirEntry<N>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(inner) = self.inner.next_taken() {
            return Some(Ok(DirEntry { inner }));
        }
        let driver = self.inner.driver().share();
        let next = block_on(&*driver, async { self.inner.next().await.transpose() });
        Some(next.transpose()?.map(|inner| DirEntry { inner }))
    }
}

/// One entry of a directory.
#[derive(Clone, Debug)]
pub struct DirEntry<N> {
    inner: aio::DirEntry<N>,
}

impl<N: Node> DirEntry<N> {
    dir_entry_facts!(self, self.inner);
    dir_entry_operations!(blocking);
}
