//! Listing directories.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::fs::aio;
use crate::fs::{FileType, Metadata, Result};

/// Iterates over the entries of a directory; made by [`Fs::read_dir`](super::Fs::read_dir).
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
pub struct ReadDir {
    inner: aio::ReadDir,
}

impl ReadDir {
    pub(super) fn new(inner: aio::ReadDir) -> Self {
        ReadDir { inner }
    }

    /// The entries with their attributes, symbolic links not followed. The server is asked for many at
    /// the same time, which is a good deal faster than [`DirEntry::metadata`] for each.
    pub fn with_metadata(self) -> WithMetadata {
        WithMetadata {
            inner: self.inner.with_metadata(),
        }
    }

    /// Goes on behind the entry that has this [`cookie`](DirEntry::cookie); 0 starts anew.
    pub fn seek(&mut self, cookie: u64) {
        self.inner.seek(cookie);
    }
}

impl Iterator for ReadDir {
    type Item = Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let session = self.inner.session().clone();
        let next = session.block_on(self.inner.next())?;
        Some(next.map(|inner| DirEntry { inner }))
    }
}

/// Iterates over the entries of a directory and their attributes; made by
/// [`ReadDir::with_metadata`]. An entry that is gone before the server was asked has an error in
/// place of its attributes.
#[derive(Debug)]
pub struct WithMetadata {
    inner: aio::WithMetadata,
}

impl Iterator for WithMetadata {
    type Item = Result<(DirEntry, Result<Metadata>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let session = self.inner.session().clone();
        let next = session.block_on(self.inner.next())?;
        Some(next.map(|(inner, metadata)| (DirEntry { inner }, metadata)))
    }
}

/// One entry of a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    inner: aio::DirEntry,
}

impl DirEntry {
    /// The bare name, as bytes.
    pub fn file_name(&self) -> &[u8] {
        self.inner.file_name()
    }

    /// The bare name as text; what is not UTF-8 is replaced by U+FFFD.
    pub fn file_name_lossy(&self) -> Cow<'_, str> {
        self.inner.file_name_lossy()
    }

    /// The directory's path as it was given to [`read_dir`](super::Fs::read_dir), and the name.
    pub fn path(&self) -> Vec<u8> {
        self.inner.path()
    }

    /// What the listing said that the entry is; `None` when it did not.
    pub fn known_type(&self) -> Option<FileType> {
        self.inner.known_type()
    }

    /// What the entry is, symbolic links not followed. Asks the server only when it left that out
    /// of the listing.
    pub fn file_type(&self) -> Result<FileType> {
        self.inner.session().block_on(self.inner.file_type())
    }

    /// Attributes of the entry, symbolic links not followed.
    pub fn metadata(&self) -> Result<Metadata> {
        self.inner.session().block_on(self.inner.metadata())
    }

    /// The number that identifies the file on its server, as the listing says.
    pub fn ino(&self) -> u64 {
        self.inner.ino()
    }

    /// Where this entry ends, for [`ReadDir::seek`]: the server's own number, without meaning for
    /// the client.
    pub fn cookie(&self) -> u64 {
        self.inner.cookie()
    }
}
