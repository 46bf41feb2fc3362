//! The content of a file on its way to another: what comes next is read while what came before is written.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::mem;

use super::File;
use super::file::LEAST_ROOM;
use crate::drive::{Both, Waits, join, waiting};
use crate::files::failed;
use crate::span::zeroed;
use crate::{Driver, Error, OpenFile, Result};

/// The most bytes that are read, and written, at a time; no less than one request carries.
const PIECE: usize = 1 << 20;

/// Why a copy failed, and on which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyError {
    /// Reading failed.
    Read(Error),
    /// Writing failed.
    Write(Error),
}

impl From<CopyError> for Error {
    fn from(error: CopyError) -> Error {
        match error {
            CopyError::Read(error) | CopyError::Write(error) => error,
        }
    }
}

/// A file that is being copied: its first bytes were read. [`finish`](Self::finish) writes them to another file, of this
/// tree or of another, and reads and writes the rest, both at the same time.
///
/// It takes two buffers of a mebibyte or of one request, if that is more; less for small files, and where memory is
/// short.
#[derive(Debug)]
pub struct Copying<F> {
    from: F,
    /// How large the file says it is; 0 where that may mean nothing.
    size: u64,
    /// The bytes that were read, and room for those that come next.
    read: Vec<u8>,
    next: Vec<u8>,
    count: usize,
    waits: Rc<Waits>,
}

impl<F: OpenFile> Copying<F> {
    /// Begins to copy a file of `size` bytes from its beginning; 0 also for one that does not know. Not more than `size`
    /// is copied.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; those of reading.
    pub async fn begin(from: File<F>, size: u64) -> Result<Self> {
        let from = from.into_inner();
        let chunk = from.chunk().max(1);
        let most = (PIECE / chunk).max(1) * chunk;
        let least = LEAST_ROOM.min(most);
        let room = match size {
            0 => most,
            size => usize::try_from(size).map_or(most, |size| size.clamp(least, most)),
        };
        let mut read = buffer(room, least)?;
        let count = read_at(&from, size, &mut read, 0).await?;
        // Even if the buffer is as large as the file: answers may be short.
        let is_all = count == 0 || count as u64 == size;
        let next = if is_all {
            Vec::new()
        } else {
            buffer(read.len(), least)?
        };
        Ok(Copying {
            from,
            size,
            read,
            next,
            count,
            waits: Rc::default(),
        })
    }

    /// Copies the bytes to the beginning of `to`, which should be empty; tells `each` how many have arrived there, piece by
    /// piece. Returns how many there were.
    ///
    /// # Errors
    /// Those of reading and of writing. What was read before the one that failed has been written.
    pub async fn finish<G: OpenFile>(
        mut self,
        to: &File<G>,
        mut each: impl FnMut(usize),
    ) -> core::result::Result<u64, CopyError> {
        let mut done: u64 = 0;
        while self.count > 0 {
            let after = done + self.count as u64;
            let bytes = self.read.get(..self.count).unwrap_or(&[]);
            let write = to.give_all_at(bytes, done);
            let read = read_at(&self.from, self.size, &mut self.next, after);
            let (read, written) =
                join(waiting(&self.waits.0, read), waiting(&self.waits.1, write)).await;
            written.map_err(|error| CopyError::Write(failed(error)))?;
            each(self.count);
            done = after;
            self.count = read.map_err(|error| CopyError::Read(failed(error)))?;
            mem::swap(&mut self.read, &mut self.next);
        }
        Ok(done)
    }

    pub(in crate::files) fn source(&self) -> &F {
        &self.from
    }

    /// For callers that block: the same with requests in flight together with those to a target of this driver, and what
    /// waits for both.
    pub(in crate::files) fn concurrent(self, to: &dyn Driver) -> (Self, Both) {
        let copying = Copying {
            from: self.from.concurrent(),
            ..self
        };
        let drivers = [copying.from.driver().share(), to.share()];
        let both = Both::new(drivers, copying.waits.clone());
        (copying, both)
    }
}

/// A buffer of `room` bytes, or as many as memory has, but no fewer than `least`.
fn buffer(mut room: usize, least: usize) -> Result<Vec<u8>> {
    loop {
        match zeroed(room) {
            Err(Error::OutOfMemory) if room > least => room = (room / 2).max(least),
            buffer => return buffer,
        }
    }
}

async fn read_at<F: OpenFile>(from: &F, size: u64, into: &mut [u8], done: u64) -> Result<usize> {
    let left = match size {
        // Files that are made up when they are read say that they are empty.
        0 => into.len(),
        _ => usize::try_from(size.saturating_sub(done)).unwrap_or(usize::MAX),
    };
    let want = into.len().min(left);
    match into.get_mut(..want).filter(|into| !into.is_empty()) {
        Some(into) => from.read(into, done).await,
        None => Ok(0),
    }
}
