//! Whole files: read, write, copy.

use alloc::string::String;
use alloc::vec::Vec;

use p9_wire::Errno;

use super::file::LEAST_ROOM;
use super::{File, Fs, mode_of, size_of};
use crate::span::zeroed;
use crate::{Error, Metadata, Node, OpenFile, OpenOptions, Result};

/// Buffer of a copy, in bytes.
const COPY_BUFFER: usize = 1 << 20;

impl<N: Node> Fs<N> {
    pub(in crate::files) async fn read_whole(&self, path: &[u8]) -> Result<Vec<u8>> {
        let file = self.open(path).await?;
        let mut bytes = Vec::new();
        file.take_rest(&mut bytes).await?;
        Ok(bytes)
    }

    pub(in crate::files) async fn read_text(&self, path: &[u8]) -> Result<String> {
        String::from_utf8(self.read_whole(path).await?).map_err(|_| Error::NotUtf8)
    }

    pub(in crate::files) async fn write_whole(&self, path: &[u8], content: &[u8]) -> Result<()> {
        let file = self.create(path).await?;
        file.into_inner().write_and_close(content).await
    }

    pub(in crate::files) async fn copy_file(&self, from: &[u8], to: &[u8]) -> Result<u64> {
        let from = self.open(from).await?;
        let metadata = from.stat().await?;
        if !metadata.is_file() {
            return Err(match metadata.is_dir() {
                true => Errno::EISDIR.into(),
                false => Error::InvalidInput("only regular files are copied"),
            });
        }
        let size = metadata.len();
        // Whole requests, several at once; no more than the file needs.
        let chunk = from.get_ref().chunk().max(1);
        let most = (COPY_BUFFER / chunk).max(1) * chunk;
        let least = LEAST_ROOM.min(most);
        let room = usize::try_from(size).map_or(most, |size| size.clamp(least, most));
        let mut buffer = zeroed(room)?;
        let read = async |done: u64, buffer: &mut [u8]| {
            // Files that are made up when they are read say that they are empty.
            let left = usize::try_from(size.saturating_sub(done)).unwrap_or(room);
            let want = if size == 0 { room } else { room.min(left) };
            from.take_at(buffer.get_mut(..want).unwrap_or(&mut []), done)
                .await
        };
        // The target stays as it is until there is something to write, or is known to be nothing.
        let mut count = read(0, &mut buffer).await?;
        let (to, created) = self.copy_target(to, &from, &metadata).await?;
        let mut done: u64 = 0;
        while count > 0 {
            to.give_all_at(buffer.get(..count).unwrap_or(&[]), done)
                .await?;
            done += count as u64;
            count = read(done, &mut buffer).await?;
        }
        if !created {
            let kind = Some(metadata.file_type());
            to.change(mode_of(metadata.permissions(), kind)).await?;
        }
        to.close().await?;
        Ok(done)
    }

    /// Opens what a file with these attributes is copied to, empty; whether it was made.
    async fn copy_target(
        &self,
        path: &[u8],
        from: &File<N::File>,
        source: &Metadata,
    ) -> Result<(File<N::File>, bool)> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true);
        let mode = Some(source.permissions().mode());
        // Where the file is likely to be new, one request is saved by trying that first.
        if self.root.check_flags().is_ok() {
            let mut new = *options;
            match self.open_or_create(path, new.create_new(true), mode).await {
                Err(Error::Errno(Errno::EEXIST)) => {}
                made => return made.map(|(file, created)| (File::new(file, options), created)),
            }
        }
        let (to, created) = self.open_or_create(path, options, mode).await?;
        let to = File::new(to, options);
        if !created {
            let there = to.stat().await?;
            if there.len() > 0 {
                // One that changed meanwhile may be the same all the same.
                let same = there.ino() == source.ino()
                    && (there.is_like(source) || !from.stat().await?.is_like(source));
                if same && !on_two_systems(from.get_ref(), to.get_ref()).await? {
                    return Err(Error::InvalidInput("a file is not copied onto itself"));
                }
                to.change(size_of(0)).await?;
            }
        }
        Ok((to, created))
    }
}

/// Whether the tree says of two files that they are on two file systems.
async fn on_two_systems<F: OpenFile>(a: &F, b: &F) -> Result<bool> {
    match (a.statfs().await, b.statfs().await) {
        (Ok(a), Ok(b)) => Ok((a.fsid, a.kind) != (b.fsid, b.kind)),
        (Err(Error::Errno(_) | Error::Unsupported { .. }), _) => Ok(false),
        (_, Err(Error::Errno(_) | Error::Unsupported { .. })) => Ok(false),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}
