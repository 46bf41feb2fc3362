//! The asynchronous client of the crate `ninep`, whose tasks run in the caller's thread: see the blocking one.

use std::path::Path;

use ninep::fs::{Mode, Perm};
use ninep::tokio::client::{ChunkStream, Client as Connection};
use tokio::runtime::{Builder, Runtime};

use super::{Client, Done, Failed, New, said, whole};

/// A connection, the path that is worked on, and what runs its tasks.
pub struct Ninep {
    client: Connection,
    path: String,
    chunks: Option<ChunkStream>,
    chunk: Vec<u8>,
    taken: usize,
    runtime: Runtime,
}

impl Ninep {
    /// Attaches to the server at a socket.
    pub fn connect(socket: &Path) -> Done<Ninep> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let connecting = Connection::new_unix_with_explicit_path("root", socket, "");
        let client = runtime.block_on(connecting).map_err(said)?;
        Ok(Ninep {
            client,
            path: String::new(),
            chunks: None,
            chunk: Vec::new(),
            taken: 0,
            runtime,
        })
    }
}

impl Client for Ninep {
    fn stat(&mut self, path: &str) -> Done<u64> {
        let stat = self.runtime.block_on(async {
            let stat = self.client.stat(path).await?;
            self.client.clunk_path(path).await.map(|()| stat)
        });
        Ok(stat.map_err(said)?.n_bytes)
    }

    fn stat_held(&mut self) -> Done<u64> {
        let stat = self.runtime.block_on(self.client.stat(&*self.path));
        Ok(stat.map_err(said)?.n_bytes)
    }

    fn read_whole(&mut self, path: &str, into: &mut [u8]) -> Done<usize> {
        let content = self.runtime.block_on(async {
            let content = self.client.read(path).await?;
            self.client.clunk_path(path).await.map(|()| content)
        });
        let content = content.map_err(said)?;
        into[..content.len()].copy_from_slice(&content);
        Ok(content.len())
    }

    fn open(&mut self, path: &str, _write: bool) -> Done<()> {
        self.close()?;
        path.clone_into(&mut self.path);
        Ok(())
    }

    fn read_next(&mut self, into: &mut [u8]) -> Done<()> {
        self.runtime.block_on(async {
            if self.chunks.is_none() {
                let chunks = self.client.stream_chunks(&*self.path).await;
                self.chunks = Some(chunks.map_err(said)?);
            }
            let mut done = 0;
            while done < into.len() {
                if self.taken == self.chunk.len() {
                    let next = match &mut self.chunks {
                        Some(chunks) => chunks.next().await,
                        None => None,
                    };
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
        })
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Done<()> {
        let count = into.len() as u32;
        let bytes = self.runtime.block_on(async {
            let bytes = self.client.read_from(&*self.path, offset, count).await?;
            let clunked = self.client.clunk_path(&*self.path).await;
            clunked.map(|()| bytes)
        });
        let bytes = bytes.map_err(said)?;
        whole(bytes.len(), into.len())?;
        into.copy_from_slice(&bytes);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, from: &[u8]) -> Done<()> {
        let count = self.runtime.block_on(async {
            let count = self.client.write(&*self.path, offset, from).await?;
            let clunked = self.client.clunk_path(&*self.path).await;
            clunked.map(|()| count)
        });
        whole(count.map_err(said)?, from.len())
    }

    fn close(&mut self) -> Done<()> {
        self.chunks = None;
        self.chunk.clear();
        self.taken = 0;
        let clunked = self.client.clunk_path(&*self.path);
        self.runtime.block_on(clunked).map_err(said)
    }

    fn make_and_remove(&mut self, new: &New<'_>, content: &[u8]) -> Done<()> {
        let done = self.runtime.block_on(async {
            let perm = Perm::new(0o644);
            self.client
                .create(new.directory, new.name, perm, Mode::WRITE)
                .await?;
            self.client.clunk_path(new.path).await?;
            let count = self.client.write(new.path, 0, content).await?;
            self.client.remove(new.path).await.map(|()| count)
        });
        whole(done.map_err(said)?, content.len())
    }

    fn list(&mut self, directory: &str) -> Done<usize> {
        Ok(self.list_with_sizes(directory)?.0)
    }

    fn list_with_sizes(&mut self, directory: &str) -> Done<(usize, u64)> {
        let entries = self.runtime.block_on(async {
            let entries = self.client.read_dir(directory).await?;
            self.client.clunk_path(directory).await.map(|()| entries)
        });
        let entries = entries.map_err(said)?;
        let bytes = entries.iter().map(|entry| entry.n_bytes).sum();
        Ok((entries.len(), bytes))
    }
}
