//! Writing in small pieces.

use alloc::vec::Vec;

use super::{Seek, Write, buf_read};
use crate::files::failed;
use crate::{Error, Result, SeekFrom};

/// Puts small writes together to large ones. The buffer is made when it is needed first.
///
/// [`flush`](Write::flush) it or take the stream [out](Self::into_inner): dropping it writes what is left, but can only warn of
/// an error in the log.
#[derive(Debug)]
pub struct BufWriter<W: Write> {
    /// There until it is taken out.
    inner: Option<W>,
    buffer: Vec<u8>,
    capacity: usize,
}

impl<W: Write> BufWriter<W> {
    /// With a buffer of 64 KiB.
    pub const fn new(inner: W) -> Self {
        Self::with_capacity(buf_read::CAPACITY, inner)
    }

    /// With a buffer of `capacity` bytes.
    pub const fn with_capacity(capacity: usize, inner: W) -> Self {
        BufWriter {
            inner: Some(inner),
            buffer: Vec::new(),
            capacity,
        }
    }

    /// The bytes that are kept.
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Writes what is kept, and gives the stream back.
    ///
    /// # Errors
    /// Those of the stream, which is dropped then.
    pub fn into_inner(mut self) -> Result<W> {
        let written = self.write_kept();
        self.buffer.clear();
        written?;
        self.inner.take().ok_or(Error::Closed)
    }

    fn stream(&mut self) -> Result<&mut W> {
        self.inner.as_mut().ok_or(Error::Closed)
    }

    /// Writes what is kept. What the stream did not take before an error is kept still.
    fn write_kept(&mut self) -> Result<()> {
        let mut taken = 0;
        let mut done = Ok(());
        while taken < self.buffer.len() && done.is_ok() {
            let inner = self.inner.as_mut().ok_or(Error::Closed)?;
            done = match inner.write(&self.buffer[taken..]) {
                Ok(0) => Err(failed(Error::WriteZero)),
                Ok(count) => {
                    taken = taken.saturating_add(count).min(self.buffer.len());
                    Ok(())
                }
                Err(error) => Err(error),
            };
        }
        self.buffer.drain(..taken);
        done
    }
}

impl<W: Write> Write for BufWriter<W> {
    fn write(&mut self, from: &[u8]) -> Result<usize> {
        if self.buffer.len().saturating_add(from.len()) > self.capacity {
            self.write_kept()?;
        }
        if from.len() >= self.capacity {
            return self.stream()?.write(from);
        }
        if self.buffer.capacity() == 0 {
            let room = self.buffer.try_reserve_exact(self.capacity);
            room.map_err(|_| Error::OutOfMemory)?;
        }
        self.buffer.extend_from_slice(from);
        Ok(from.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.write_kept()?;
        self.stream()?.flush()
    }
}

impl<W: Write + Seek> Seek for BufWriter<W> {
    /// Writes what is kept first.
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.write_kept()?;
        self.stream()?.seek(to)
    }
}

impl<W: Write> Drop for BufWriter<W> {
    fn drop(&mut self) {
        if !self.buffer.is_empty()
            && let Err(error) = self.write_kept()
        {
            log::warn!("the end of what was written is lost: {error}");
        }
    }
}
