//! Files whose data goes straight between them and a ring.

use p9_server::OpenFile;
use p9_tree::Result;

use crate::host::HostFile;
use crate::xen::span::{Sink, Source};

/// An open file whose data need not stop on its way between the file and a ring.
pub trait Direct: OpenFile {
    /// Reads from `offset` on into a ring; returns how many bytes were read.
    ///
    /// # Errors
    /// Those of [`OpenFile::read`].
    fn read_to(&self, sink: &mut Sink<'_>, offset: u64) -> Result<usize>;

    /// Writes from `offset` on what lies in a ring; returns how many bytes were written.
    ///
    /// # Errors
    /// Those of [`OpenFile::write`].
    fn write_from(&self, source: &Source<'_>, offset: u64) -> Result<usize>;
}

impl Direct for HostFile {
    fn read_to(&self, sink: &mut Sink<'_>, offset: u64) -> Result<usize> {
        self.read_with(|fd| sink.read_from(fd, offset))
    }

    fn write_from(&self, source: &Source<'_>, offset: u64) -> Result<usize> {
        self.write_with(offset, source.len(), |fd| source.write_to(fd, offset))
    }
}
