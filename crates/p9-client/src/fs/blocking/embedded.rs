//! The traits of the crate `embedded-io`.

use embedded_io::{ErrorKind, ErrorType, Read, Seek, Write};

use super::File;
use crate::fs::{Error, SeekFrom};
use p9_wire::Errno;

impl embedded_io::Error for Error {
    fn kind(&self) -> ErrorKind {
        match self.errno() {
            Errno::ENOENT => ErrorKind::NotFound,
            Errno::EPERM | Errno::EACCES | Errno::EROFS => ErrorKind::PermissionDenied,
            Errno::EEXIST => ErrorKind::AlreadyExists,
            Errno::EINVAL | Errno::ENAMETOOLONG | Errno::EBADF => ErrorKind::InvalidInput,
            Errno::EILSEQ | Errno::EPROTO => ErrorKind::InvalidData,
            Errno::ETIMEDOUT => ErrorKind::TimedOut,
            Errno::EINTR => ErrorKind::Interrupted,
            Errno::EOPNOTSUPP | Errno::ENOSYS => ErrorKind::Unsupported,
            Errno::ENOMEM => ErrorKind::OutOfMemory,
            _ => ErrorKind::Other,
        }
    }
}

impl ErrorType for File {
    type Error = Error;
}

impl Read for File {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        File::read(self, into)
    }
}

impl Write for File {
    fn write(&mut self, from: &[u8]) -> Result<usize, Error> {
        File::write(self, from)
    }

    fn flush(&mut self) -> Result<(), Error> {
        File::flush(self)
    }
}

impl Seek for File {
    fn seek(&mut self, to: embedded_io::SeekFrom) -> Result<u64, Error> {
        File::seek(
            self,
            match to {
                embedded_io::SeekFrom::Start(position) => SeekFrom::Start(position),
                embedded_io::SeekFrom::End(by) => SeekFrom::End(by),
                embedded_io::SeekFrom::Current(by) => SeekFrom::Current(by),
            },
        )
    }
}
