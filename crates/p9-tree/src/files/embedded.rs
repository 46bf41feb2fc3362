//! The traits of the crate `embedded-io`.

use embedded_io::{ErrorType, Read, Seek, Write};

use super::File;
use crate::{Error, OpenFile, SeekFrom};

impl<F> ErrorType for File<F> {
    type Error = Error;
}

impl<F: OpenFile> Read for File<F> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        File::read(self, into)
    }
}

impl<F: OpenFile> Write for File<F> {
    fn write(&mut self, from: &[u8]) -> Result<usize, Error> {
        File::write(self, from)
    }

    fn flush(&mut self) -> Result<(), Error> {
        File::flush(self)
    }
}

impl<F: OpenFile> Seek for File<F> {
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
