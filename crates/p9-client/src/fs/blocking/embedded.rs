//! The traits of the crate `embedded-io`.

use embedded_io::{ErrorType, Read, Seek, Write};

use super::File;
use crate::fs::{Error, SeekFrom};

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
