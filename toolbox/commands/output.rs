//! Where a command's output goes if that is a file.

use xen9p::fs::OpenOptions;
use xen9p::ns::File;
use xen9p::tree::io::{BufWriter, Write};

use super::Fail;
use super::place::Place;

/// A file that is written to until that fails.
pub struct Output {
    place: Place,
    file: BufWriter<File>,
    error: Option<xen9p::fs::Error>,
}

impl Output {
    pub fn open(place: Place, how: &OpenOptions) -> Result<Output, Fail> {
        let file = place.ns.open_with(&place.path, how);
        let file = BufWriter::new(file.map_err(|error| place.fail(error))?);
        Ok(Output {
            place,
            file,
            error: None,
        })
    }

    pub fn write(&mut self, bytes: &[u8]) {
        if self.error.is_none() {
            self.error = self.file.write_all(bytes).err();
        }
    }

    /// Fails if writing has.
    pub fn check(&self) -> Result<(), Fail> {
        self.error
            .map_or(Ok(()), |error| Err(self.place.fail(error)))
    }

    /// Writes the rest, and closes the file.
    pub fn close(self) -> Result<(), Fail> {
        let Output { place, file, error } = self;
        let done = match error {
            Some(error) => Err(error),
            None => file.into_inner().and_then(File::close),
        };
        done.map_err(|error| place.fail(error))
    }
}
