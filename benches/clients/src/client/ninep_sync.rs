//! The blocking client of the crate `ninep`: 9P2000, a thread that writes and a thread that reads.
//!
//! It keeps a fid for each path that it was asked about, until it is told to clunk it. A fid that is open can't be opened
//! again, and each of its reads and writes opens, so the fid is clunked behind each. The only files that stay open are those
//! that are read from front to back, in pieces of the size that it chooses.

use std::path::Path;

use ninep::fs::{Mode, Perm};
use ninep::sync::client::{ChunkIter, Client as Connection};

use super::{Client, Done, Failed, New, said, whole};

/// A connection, and the path that is worked on.
pub struct Ninep {
    client: Connection,
    path: String,
    chunks: Option<ChunkIter>,
    chunk: Vec<u8>,
    taken: usize,
}

impl Ninep {
    /// Attaches to the server at a socket.
    pub fn connect(socket: &Path) -> Done<Ninep> {
        let client = Connection::new_unix_with_explicit_path("root", socket, "").map_err(said)?;
        Ok(Ninep {
            client,
            path: String::new(),
            chunks: None,
            chunk: Vec::new(),
            taken: 0,
        })
    }
}

impl Client for Ninep {
    fn stat(&mut self, path: &str) -> Done<u64> {
        let stat = self.client.stat(path).map_err(said)?;
        self.client.clunk_path(path).map_err(said)?;
        Ok(stat.n_bytes)
    }

    fn stat_held(&mut self) -> Done<u64> {
        Ok(self.client.stat(&*self.path).map_err(said)?.n_bytes)
    }

    fn read_whole(&mut self, path: &str, into: &mut [u8]) -> Done<usize> {
        let content = self.client.read(path).map_err(said)?;
        self.client.clunk_path(path).map_err(said)?;
        into[..content.len()].copy_from_slice(&content);
        Ok(content.len())
    }

    fn open(&mut self, path: &str, _write: bool) -> Done<()> {
        self.close()?;
        path.clone_into(&mut self.path);
        Ok(())
    }

    fn read_next(&mut self, into: &mut [u8]) -> Done<()> {
        if self.chunks.is_none() {
            self.chunks = Some(self.client.iter_chunks(&*self.path).map_err(said)?);
        }
        let mut done = 0;
        while done < into.len() {
            if self.taken == self.chunk.len() {
                let next = self.chunks.as_mut().and_then(Iterator::next);
                self.chunk = next.ok_or_else(|| Failed::Error("the file ended".into()))?;
                self.taken = 0;
            }
            let count = (into.len() - done).min(self.chunk.len() - self.taken);
            let from = &self.chunk[self.taken..self.taken + count];
            into[done..done + count].copy_from_slice(from);
            self.taken += count;
            done += count;
        }
        Ok(())
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Done<()> {
        let count = into.len() as u32;
        let bytes = self.client.read_from(&*self.path, offset, count);
        let bytes = bytes.map_err(said)?;
        self.client.clunk_path(&*self.path).map_err(said)?;
        whole(bytes.len(), into.len())?;
        into.copy_from_slice(&bytes);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, from: &[u8]) -> Done<()> {
        let count = self.client.write(&*self.path, offset, from).map_err(said)?;
        self.client.clunk_path(&*self.path).map_err(said)?;
        whole(count, from.len())
    }

    fn close(&mut self) -> Done<()> {
        self.chunks = None;
        self.chunk.clear();
        self.taken = 0;
        self.client.clunk_path(&*self.path).map_err(said)
    }

    fn make_and_remove(&mut self, new: &New<'_>, content: &[u8]) -> Done<()> {
        let perm = Perm::new(0o644);
        let made = self
            .client
            .create(new.directory, new.name, perm, Mode::WRITE);
        made.map_err(said)?;
        self.client.clunk_path(new.path).map_err(said)?;
        let count = self.client.write(new.path, 0, content).map_err(said)?;
        whole(count, content.len())?;
        self.client.remove(new.path).map_err(said)
    }

    fn list(&mut self, directory: &str) -> Done<usize> {
        Ok(self.list_with_sizes(directory)?.0)
    }

    fn list_with_sizes(&mut self, directory: &str) -> Done<(usize, u64)> {
        let entries = self.client.read_dir(directory).map_err(said)?;
        self.client.clunk_path(directory).map_err(said)?;
        let bytes = entries.iter().map(|entry| entry.n_bytes).sum();
        Ok((entries.len(), bytes))
    }
}
