//! [`Copying`], for callers that block.

use super::{File, aio};
use crate::{OpenFile, Result, block_on};

pub use super::aio::CopyError;

/// A file that is being copied: its first bytes were read. [`finish`](Self::finish) writes them to another file, of this
/// tree or of another, and reads what comes next while it writes what came before.
///
/// It takes two buffers of a mebibyte or of one request, if that is more; less for small files, and where memory is
/// short.
///
/// ```
/// use xen9p::tree::files::{Copying, Fs};
/// use xen9p::tree::trees::MemTree;
///
/// # fn main() -> xen9p::tree::Result<()> {
/// let (here, there) = (Fs::new(MemTree::new().root()), Fs::new(MemTree::new().root()));
/// here.write("/a", "content")?;
/// let from = here.open("/a")?;
/// let size = from.metadata()?.len();
/// let mut done = 0;
/// let copying = Copying::begin(from, size)?;
/// copying.finish(there.create("/b")?, |count| done += count)?.close()?;
/// assert_eq!((done, there.read("/b")?), (7, b"content".to_vec()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Copying<F>(aio::Copying<F>);

impl<F: OpenFile> Copying<F> {
    /// Begins to copy a file of `size` bytes from its beginning; 0 also for one that does not know. Not more than `size`
    /// is copied.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory); those of reading.
    pub fn begin(from: File<F>, size: u64) -> Result<Self> {
        let driver = from.inner.driver().share();
        block_on(&*driver, aio::Copying::begin(from.inner, size)).map(Copying)
    }

    /// Copies the bytes to the beginning of `to`, which should be empty, and gives it back; tells `each` how many have arrived
    /// there, piece by piece.
    ///
    /// # Errors
    /// Those of reading and of writing. What was read before the one that failed has been written.
    pub fn finish<G: OpenFile>(
        self,
        to: File<G>,
        each: impl FnMut(usize),
    ) -> core::result::Result<File<G>, CopyError> {
        let to = to.inner.concurrent();
        let (copying, both) = self.0.concurrent(to.driver());
        let finish = async { Ok(copying.finish(&to, each).await) };
        block_on(&both, finish).map_err(CopyError::Read)??;
        Ok(to.into())
    }
}
