//! Open files as streams, which a shared reference is too: the position lives in the handle.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Read, Seek, Write};
use crate::files::File;
use crate::{OpenFile, Result, SeekFrom};

macro_rules! streams {
    ($($of:ty),*) => {$(
        impl<F: OpenFile> Read for $of {
            fn read(&mut self, into: &mut [u8]) -> Result<usize> {
                File::read(self, into)
            }

            fn read_exact(&mut self, into: &mut [u8]) -> Result<()> {
                File::read_exact(self, into)
            }

            fn read_to_end(&mut self, into: &mut Vec<u8>) -> Result<usize> {
                File::read_to_end(self, into)
            }

            fn read_to_string(&mut self, into: &mut String) -> Result<usize> {
                File::read_to_string(self, into)
            }
        }

        impl<F: OpenFile> Write for $of {
            fn write(&mut self, from: &[u8]) -> Result<usize> {
                File::write(self, from)
            }

            fn write_all(&mut self, from: &[u8]) -> Result<()> {
                File::write_all(self, from)
            }

            fn flush(&mut self) -> Result<()> {
                File::flush(self)
            }
        }

        impl<F: OpenFile> Seek for $of {
            fn seek(&mut self, to: SeekFrom) -> Result<u64> {
                File::seek(self, to)
            }
        }
    )*};
}

streams!(File<F>, &File<F>);
