//! Whole files: read, write, copy.

use alloc::string::String;
use alloc::vec::Vec;

use p9_wire::Errno;

use super::file::stat_open;
use super::{Copying, File, Fs, mode_of, size_of};
use crate::{Error, Metadata, Node, OpenFile, OpenOptions, Result};

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

    /// Opens the file that is copied, and reads its first bytes: the target stays as it is until there is something to
    /// write, or is known to be nothing.
    pub(in crate::files) async fn begin_copy(
        &self,
        from: &[u8],
    ) -> Result<(Copying<N::File>, Metadata)> {
        let from = self.open(from).await?;
        let metadata = from.stat().await?;
        if !metadata.is_file() {
            return Err(match metadata.is_dir() {
                true => Errno::EISDIR.into(),
                false => Error::InvalidInput(&"only regular files are copied"),
            });
        }
        let copying = Copying::begin(from, metadata.len()).await?;
        Ok((copying, metadata))
    }

    pub(in crate::files) async fn copy_file(&self, from: &[u8], to: &[u8]) -> Result<u64> {
        let (copying, metadata) = self.begin_copy(from).await?;
        let target = self.copy_target(to, copying.source(), &metadata).await?;
        let count = copying.finish(&target.file, |_| {}).await?;
        target.close(&metadata).await?;
        Ok(count)
    }

    /// Opens what a file with these attributes is copied to, empty.
    pub(in crate::files) async fn copy_target(
        &self,
        path: &[u8],
        from: &N::File,
        source: &Metadata,
    ) -> Result<CopyTarget<N::File>> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true);
        let mode = Some(source.permissions().mode());
        // Where the file is likely to be new, one request is saved by trying that first.
        if self.root.check_flags().is_ok() {
            let mut new = *options;
            match self.open_or_create(path, new.create_new(true), mode).await {
                Err(Error::Errno(Errno::EEXIST)) => {}
                made => {
                    return made.map(|(file, created)| CopyTarget {
                        file: File::new(file, options),
                        created,
                    });
                }
            }
        }
        let (to, created) = self.open_or_create(path, options, mode).await?;
        let file = File::new(to, options);
        if !created {
            let there = file.stat().await?;
            if there.len() > 0 {
                // One that changed meanwhile may be the same all the same.
                let same = there.ino() == source.ino()
                    && (there.is_like(source) || !stat_open(from).await?.is_like(source));
                if same && !on_two_systems(from, file.get_ref()).await? {
                    return Err(Error::InvalidInput(&"a file is not copied onto itself"));
                }
                file.change(size_of(0)).await?;
            }
        }
        Ok(CopyTarget { file, created })
    }
}

/// The file that another is copied to.
pub(in crate::files) struct CopyTarget<F> {
    pub(in crate::files) file: File<F>,
    /// Whether it was made for this.
    created: bool,
}

impl<F: OpenFile> CopyTarget<F> {
    /// The same, for callers that wait by its driver for several operations at the same time.
    pub(in crate::files) fn concurrent(self) -> Self {
        CopyTarget {
            file: self.file.concurrent(),
            ..self
        }
    }

    /// Gives the file the permissions of the source, if it had others, and closes it.
    pub(in crate::files) async fn close(self, source: &Metadata) -> Result<()> {
        if !self.created {
            let kind = Some(source.file_type());
            self.file
                .change(mode_of(source.permissions(), kind))
                .await?;
        }
        self.file.close().await
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
