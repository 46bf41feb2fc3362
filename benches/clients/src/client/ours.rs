//! `p9-client`, over a socket, with its defaults.

use std::path::Path;

use p9_client::Dialect;
use p9_client::fs::{File, Fs, MountOptions, OpenOptions};
use p9_client::transport::socket::Socket;

use super::{Client, Done, Failed, New, said};

/// A mount, and the file that is open.
pub struct Ours {
    fs: Fs,
    file: Option<File>,
}

impl Ours {
    /// Mounts the server at a socket.
    pub fn connect(socket: &Path, dialect: Dialect) -> Done<Ours> {
        let socket = Socket::connect(&format!("unix:{}", socket.display()))?;
        let options = MountOptions::new().dialects(&[dialect]);
        let fs = Fs::mount(socket, &options).map_err(said)?;
        Ok(Ours { fs, file: None })
    }

    fn file(&self) -> Done<&File> {
        let file = self.file.as_ref();
        file.ok_or_else(|| Failed::Error("no file is open".into()))
    }
}

impl Client for Ours {
    fn stat(&mut self, path: &str) -> Done<u64> {
        Ok(self.fs.metadata(path).map_err(said)?.len())
    }

    fn stat_held(&mut self) -> Done<u64> {
        Ok(self.file()?.metadata().map_err(said)?.len())
    }

    fn read_whole(&mut self, path: &str, into: &mut [u8]) -> Done<usize> {
        let content = self.fs.read(path).map_err(said)?;
        into[..content.len()].copy_from_slice(&content);
        Ok(content.len())
    }

    fn open(&mut self, path: &str, write: bool) -> Done<()> {
        let mut options = OpenOptions::new();
        options.read(!write).write(write);
        self.file = Some(self.fs.open_with(path, &options).map_err(said)?);
        Ok(())
    }

    fn read_next(&mut self, into: &mut [u8]) -> Done<()> {
        self.file()?.read_exact(into).map_err(said)
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Done<()> {
        self.file()?.read_exact_at(into, offset).map_err(said)
    }

    fn write_at(&mut self, offset: u64, from: &[u8]) -> Done<()> {
        self.file()?.write_all_at(from, offset).map_err(said)
    }

    fn close(&mut self) -> Done<()> {
        let file = self.file.take();
        file.map_or(Ok(()), |file| file.close().map_err(said))
    }

    fn make_and_remove(&mut self, new: &New<'_>, content: &[u8]) -> Done<()> {
        self.fs.write(new.path, content).map_err(said)?;
        self.fs.remove_file(new.path).map_err(said)
    }

    fn list(&mut self, directory: &str) -> Done<usize> {
        let mut count = 0;
        for entry in self.fs.read_dir(directory).map_err(said)? {
            count += usize::from(!entry.map_err(said)?.file_name().is_empty());
        }
        Ok(count)
    }

    fn list_with_sizes(&mut self, directory: &str) -> Done<(usize, u64)> {
        let (mut count, mut bytes) = (0, 0);
        let listing = self.fs.read_dir(directory).map_err(said)?;
        for entry in listing.with_metadata() {
            let (_, metadata) = entry.map_err(said)?;
            bytes += metadata.map_err(said)?.len();
            count += 1;
        }
        Ok((count, bytes))
    }
}
