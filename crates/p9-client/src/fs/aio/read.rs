//! Whole files: read, write, copy.

use alloc::string::String;
use alloc::vec::Vec;

use super::{File, Fs, node};
use crate::fs::{Error, Metadata, OpenOptions, Result};
use p9_wire::Errno;

/// Least bytes to make room for at a time, those to begin with when a file of unknown size is read, and
/// the most.
const LEAST_ROOM: usize = 8 << 10;
const FIRST_ROOM: usize = 64 << 10;
const MOST_ROOM: usize = 16 << 20;

/// Buffer of a copy, in bytes.
const COPY_BUFFER: usize = 1 << 20;

impl Fs {
    /// The asynchronous form of [`Fs::read`](crate::fs::Fs::read).
    ///
    /// # Errors
    /// See there.
    pub async fn read(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let file = self.open(path).await?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    /// The asynchronous form of [`Fs::read_to_string`](crate::fs::Fs::read_to_string).
    ///
    /// # Errors
    /// See there.
    pub async fn read_to_string(&self, path: impl AsRef<[u8]>) -> Result<String> {
        String::from_utf8(self.read(path).await?).map_err(|_| Error::NotUtf8)
    }

    /// The asynchronous form of [`Fs::write`](crate::fs::Fs::write).
    ///
    /// # Errors
    /// See there.
    pub async fn write(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Result<()> {
        let (path, content) = (path.as_ref(), content.as_ref());
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true);
        let mode = options.new_mode() & !self.mount.umask;
        let (file, created) = self.open_or_create(path, options, mode).await?;
        if !created || content.is_empty() || content.len() > file.chunk() {
            file.write_all(content).await?;
            return file.close().await;
        }
        let count = file.write_and_close(content).await?;
        let rest = content.get(count..).unwrap_or(&[]);
        if !rest.is_empty() {
            let file = self.open_with(path, OpenOptions::new().write(true)).await?;
            file.write_all_at(rest, count as u64).await?;
            file.close().await?;
        }
        Ok(())
    }

    /// The asynchronous form of [`Fs::copy`](crate::fs::Fs::copy).
    ///
    /// # Errors
    /// See there.
    pub async fn copy(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<u64> {
        let from = self.open(from).await?;
        let metadata = from.metadata().await?;
        if !metadata.is_file() {
            return Err(if metadata.is_dir() {
                Errno::EISDIR.into()
            } else {
                Error::InvalidInput("only regular files are copied")
            });
        }
        let size = metadata.len();
        // Whole requests, several at once; no more than the file needs.
        let chunk = from.chunk();
        let most = (COPY_BUFFER / chunk).max(1) * chunk;
        let room = usize::try_from(size).map_or(most, |size| size.clamp(LEAST_ROOM, most));
        let mut buffer = Vec::new();
        buffer
            .try_reserve_exact(room)
            .map_err(|_| Error::OutOfMemory)?;
        buffer.resize(room, 0);
        let read = async |done: u64, buffer: &mut [u8]| {
            // Files that are made up when they are read say that they are empty.
            let left = usize::try_from(size.saturating_sub(done)).unwrap_or(room);
            let want = if size == 0 { room } else { room.min(left) };
            from.read_at(buffer.get_mut(..want).unwrap_or(&mut []), done)
                .await
        };
        // The target stays as it is until there is something to write, or is known to be nothing.
        let mut count = read(0, &mut buffer).await?;
        let (to, created) = self.copy_target(to.as_ref(), &from, &metadata).await?;
        let mut done: u64 = 0;
        while count > 0 {
            to.write_all_at(buffer.get(..count).unwrap_or(&[]), done)
                .await?;
            done += count as u64;
            count = read(done, &mut buffer).await?;
        }
        if !created {
            let kind = Some(metadata.file_type());
            node::set_mode(to.fid(), kind, metadata.permissions()).await?;
        }
        to.close().await?;
        Ok(done)
    }

    /// Opens what a file with these attributes is copied to, empty; whether it was made.
    async fn copy_target(
        &self,
        path: &[u8],
        from: &File,
        source: &Metadata,
    ) -> Result<(File, bool)> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true);
        let mode = source.permissions().mode();
        // Where the file is likely to be new, one request is saved by trying that first.
        if node::is_linux(&self.mount.root) {
            let mut new = *options;
            match self.open_or_create(path, new.create_new(true), mode).await {
                Err(Error::Errno(Errno::EEXIST)) => {}
                result => return result,
            }
        }
        let (to, created) = self.open_or_create(path, options, mode).await?;
        if !created {
            let there = to.metadata().await?;
            if there.len() > 0 {
                // One that changed meanwhile may be the same all the same.
                let same = there.ino() == source.ino()
                    && (there.is_like(source) || !from.metadata().await?.is_like(source));
                if same && !self.on_two_systems(from, &to).await? {
                    return Err(Error::InvalidInput("a file is not copied onto itself"));
                }
                to.set_len(0).await?;
            }
        }
        Ok((to, created))
    }

    /// Whether the server says of two files that they are on two file systems.
    async fn on_two_systems(&self, a: &File, b: &File) -> Result<bool> {
        if !node::is_linux(&self.mount.root) {
            return Ok(false);
        }
        let (a, b) = (node::statfs(a.fid()).await, node::statfs(b.fid()).await);
        match (a, b) {
            (Ok(a), Ok(b)) => Ok((a.id, a.kind) != (b.id, b.kind)),
            (Err(Error::Errno(_) | Error::Unsupported { .. }), _) => Ok(false),
            (_, Err(Error::Errno(_) | Error::Unsupported { .. })) => Ok(false),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }
}

impl File {
    /// Appends what the file has from `position` on to `into`; counts the bytes in `done`.
    pub(super) async fn append_rest(
        &self,
        into: &mut Vec<u8>,
        position: u64,
        done: &mut usize,
    ) -> Result<()> {
        let chunk = self.chunk();
        let mut room = chunk.clamp(LEAST_ROOM, FIRST_ROOM);
        loop {
            let start = into.len();
            into.try_reserve(room).map_err(|_| Error::OutOfMemory)?;
            into.resize(start + room, 0);
            let rest = into.get_mut(start..).unwrap_or(&mut []);
            let count = self.read_at(rest, position + *done as u64).await;
            into.truncate(start + count.unwrap_or(0));
            let count = count?;
            if count == 0 {
                return Ok(());
            }
            let first = *done == 0;
            *done += count;
            if count < room && room <= self.whole_reads() {
                return Ok(());
            }
            if first && count == room {
                // A large file: knowing how large saves memory and lets all requests go at once.
                let size = self.metadata().await?.len();
                let left = size.saturating_sub(position + *done as u64);
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                // One more than is left, so that the end shows in the last read.
                let left = left.saturating_add(1);
                // Without success if the size is a lie: then it goes on in smaller steps.
                let _ = into.try_reserve_exact(left);
                room = left.clamp(LEAST_ROOM, (MOST_ROOM / chunk).max(1) * chunk);
            }
        }
    }
}
