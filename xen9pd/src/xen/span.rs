//! Parts of a ring as places that bulk data is moved to and from, by the kernel or by this process.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use xen_guest::shared::SharedMemory;

/// Two pieces of a ring, the second of them mostly empty.
#[derive(Clone, Copy)]
pub(super) struct Span<'r>([SharedMemory<'r>; 2]);

/// Bytes of a request.
pub struct Source<'r>(Span<'r>);

/// Room for bytes of a reply, which the frontend is not shown yet.
pub struct Sink<'r>(Span<'r>);

impl<'r> Span<'r> {
    pub(super) fn new(pieces: [SharedMemory<'r>; 2]) -> Self {
        Span(pieces)
    }

    fn len(&self) -> usize {
        self.0[0].len() + self.0[1].len()
    }

    /// Has the kernel move data, and tries again when a signal came in between.
    fn moved(
        &self,
        call: impl Fn(*const libc::iovec, libc::c_int) -> isize,
    ) -> rustix::io::Result<usize> {
        let vectors = self.0.map(|piece| libc::iovec {
            iov_base: piece.as_ptr().as_ptr().cast(),
            iov_len: piece.len(),
        });
        let count = if self.0[1].is_empty() { 1 } else { 2 };
        loop {
            if let Ok(bytes) = usize::try_from(call(vectors.as_ptr(), count)) {
                return Ok(bytes);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
            }
        }
    }
}

impl<'r> Source<'r> {
    pub(super) fn new(span: Span<'r>) -> Self {
        Source(span)
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes them to a file, from `offset` on; returns how many were written.
    ///
    /// # Errors
    /// Those of pwritev.
    pub fn write_to(&self, file: BorrowedFd<'_>, offset: u64) -> rustix::io::Result<usize> {
        self.0.moved(|vectors, count| {
            // SAFETY: the vectors lie in memory that is mapped for `'r`; the kernel only reads there.
            unsafe { libc::pwritev(file.as_raw_fd(), vectors, count, offset as libc::off_t) }
        })
    }

    /// Copies the first of them out, as many as `into` takes; returns how many those are.
    pub fn copy_to(&self, into: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in self.0.0 {
            let part = piece.len().min(into.len() - done);
            piece.copy_out(0, &mut into[done..done + part]);
            done += part;
        }
        done
    }
}

impl<'r> Sink<'r> {
    pub(super) fn new(span: Span<'r>) -> Self {
        Sink(span)
    }

    /// How many bytes it takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it takes none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills it from a file, from `offset` on; returns how many bytes were read.
    ///
    /// # Errors
    /// Those of preadv.
    pub fn read_from(&mut self, file: BorrowedFd<'_>, offset: u64) -> rustix::io::Result<usize> {
        self.0.moved(|vectors, count| {
            // SAFETY: the vectors lie in memory that is mapped for `'r`; it is reached atomically or by system calls, here and now by
            // none but this thread, and by the frontend, which learns nothing new from what the kernel does there.
            unsafe { libc::preadv(file.as_raw_fd(), vectors, count, offset as libc::off_t) }
        })
    }

    /// Copies the first of these bytes there, as many as it takes; returns how many those are.
    pub fn copy_from(&mut self, from: &[u8]) -> usize {
        let mut done = 0;
        for piece in self.0.0 {
            let part = piece.len().min(from.len() - done);
            piece.copy_in(0, &from[done..done + part]);
            done += part;
        }
        done
    }
}
