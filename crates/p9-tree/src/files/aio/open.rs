//! Opening and making files.

use alloc::vec::Vec;

use p9_wire::{Errno, OpenFlags};

use super::lookup::Lookup;
use super::{File, Fs};
use crate::{CleanPath, Error, Node, OpenOptions, Result, Walked};

/// Others may create and remove the file between two of our requests.
const TRIES: usize = 8;

/// Linux's flags for what the options ask for.
fn flags_of(options: &OpenOptions) -> OpenFlags {
    let mut flags = options.open_flags();
    flags.set(OpenFlags::TRUNCATE, options.is_truncate());
    flags
}

impl<N: Node> Fs<N> {
    pub(in crate::files) async fn open_path(
        &self,
        path: &[u8],
        options: &OpenOptions,
    ) -> Result<File<N::File>> {
        let (file, _) = self.open_or_create(path, options, None).await?;
        Ok(File::new(file, options))
    }

    /// Opens a file as the options say; one that is made gets exactly this mode, or that of the options less the umask. The
    /// answer says whether it was made.
    pub(super) async fn open_or_create(
        &self,
        path: &[u8],
        options: &OpenOptions,
        mode: Option<u32>,
    ) -> Result<(N::File, bool)> {
        options.check()?;
        let mut path = CleanPath::new(path)?;
        if path.wants_dir() && options.is_create() {
            // Files are not made by the name of a directory.
            self.lookup(path, true).await?;
            return Err(Errno::EISDIR.into());
        }
        let carried = self.root.check_flags();
        if !options.further_flags().is_empty() {
            carried?;
        }
        // Where the file is likely to be new, one request is saved by trying that first. Never where names are not checked.
        let likely_new = options.is_create_new() || (options.is_create() && options.is_truncate());
        let mut create = likely_new && carried.is_ok();
        if !likely_new && let Some(file) = self.open_at_once(&path, options).await? {
            return Ok((file, false));
        }
        for _ in 0..TRIES {
            if create {
                match self.create_file(&path, options, mode).await {
                    Err(Error::Errno(Errno::EEXIST)) if !options.is_create_new() => {}
                    result => return result.map(|file| (file, true)),
                }
            }
            match self
                .lookup(path.try_clone()?, !options.is_create_new())
                .await?
            {
                Lookup::Found(_) if options.is_create_new() => return Err(Errno::EEXIST.into()),
                Lookup::Found(found) => {
                    options.check_kind(found.qid)?;
                    let file = found.node.into_open(flags_of(options)).await?;
                    return Ok((file, false));
                }
                Lookup::Missing(there) if options.is_create() => {
                    path = there;
                    create = true;
                }
                Lookup::Missing(_) => return Err(Errno::ENOENT.into()),
            }
        }
        Err(Errno::EEXIST.into())
    }

    /// Makes a file that is not there yet.
    async fn create_file(
        &self,
        path: &CleanPath,
        options: &OpenOptions,
        mode: Option<u32>,
    ) -> Result<N::File> {
        let flags = options.open_flags() | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        self.in_parent(path, Errno::EEXIST, async |dir, name| {
            let new = dir.new_files();
            let mode = mode.unwrap_or(options.new_mode() & !new.umask) & 0o7777;
            dir.into_create(name, flags, mode, new.gid).await
        })
        .await
    }

    /// Opens the file at the end of `path`, if one walk leads there. `None` if the options follow symbolic links, or make
    /// the file.
    async fn open_at_once(
        &self,
        path: &CleanPath,
        options: &OpenOptions,
    ) -> Result<Option<N::File>> {
        let names: Vec<&[u8]> = path.names().collect();
        if names.is_empty() || path.wants_dir() {
            return Ok(None);
        }
        match self.root.open_at(&names, flags_of(options)).await? {
            Walked::Through(file, _) => Ok(Some(file)),
            Walked::Link(_) => Ok(None),
            Walked::Blocked(at, error)
                if at + 1 == names.len() && error.is_not_found() && options.is_create() =>
            {
                Ok(None)
            }
            Walked::Blocked(_, error) => Err(error),
        }
    }
}
