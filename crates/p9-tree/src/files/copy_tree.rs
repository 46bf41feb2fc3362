//! Copying whole directories.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;

use p9_wire::Errno;

use super::aio::{DIRS_AT_ONCE, MOST_AHEAD};
use super::pending::{Pending, append};
use super::{CopyingDir, CopyingFiles, DirEntry, Fs};
use crate::memory::{try_copy, try_push};
use crate::{Error, Metadata, Node, Result};

/// What was copied; see [`Fs::copy_dir_all`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopiedTree {
    dirs: u64,
    files: u64,
    links: u64,
    bytes: u64,
}

impl CopiedTree {
    /// Directories, with the one that it began with.
    pub fn dirs(&self) -> u64 {
        self.dirs
    }

    /// Regular files.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// Symbolic links.
    pub fn links(&self) -> u64 {
        self.links
    }

    /// Bytes in the files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A directory that was copied, but for the directories in it.
struct Level<N: Node> {
    /// Lengths of its path and of its copy's.
    len: (usize, usize),
    dirs: Pending,
    /// The next of these, which were begun with.
    ahead: VecDeque<Result<CopyingDir<N>>>,
}

/// A copy under way.
struct Copy<'a, N: Node> {
    fs: &'a Fs<N>,
    from: Vec<u8>,
    to: Vec<u8>,
    /// The directory that is made: what is in it is not copied again.
    top: Rc<Metadata>,
    /// Length of its path.
    top_len: usize,
    done: CopiedTree,
}

impl<N: Node + 'static> Fs<N> {
    /// Copies a directory and all below it to a new directory `to`: several directories, and many small files, at the same
    /// time. Symbolic links are copied, not followed; the last one of `from` neither. New files and directories get
    /// the permission bits of the old ones, less the umask; directories those of their owner in any case.
    ///
    /// Where another client puts a directory in the place of one that is being copied, the copy may have the names of the old one with the
    /// contents of the new one, or fail. A link in its place is never followed.
    ///
    /// # Errors
    /// The first error ends it, and leaves what was copied until then. ENOTDIR for what is no directory, EEXIST where `to` is
    /// there, [`Error::InvalidInput`] for a copy into itself, and for what is no file, directory or
    /// link; [`Error::HiddenLinks`] where the server does not tell links from what they lead to.
    ///
    /// ```
    /// use xen9p::tree::files::Fs;
    /// use xen9p::tree::trees::MemTree;
    ///
    /// # fn main() -> xen9p::tree::Result<()> {
    /// let fs = Fs::new(MemTree::new().root());
    /// fs.create_dir_all("/src/parts")?;
    /// fs.write("/src/main.rs", "mod one;")?;
    /// fs.write("/src/parts/one.rs", "")?;
    /// let copied = fs.copy_dir_all("/src", "/saved")?;
    /// assert_eq!((copied.dirs(), copied.files(), copied.bytes()), (2, 2, 8));
    /// assert!(fs.copy_dir_all("/src", "/src/parts/src").is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn copy_dir_all(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<CopiedTree> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let copied = self.copy_tree(from, to);
        if let Err(error) = copied {
            self.last.note("copy_dir_all", [from, to], error);
        }
        copied
    }

    fn copy_tree(&self, from: &[u8], to: &[u8]) -> Result<CopiedTree> {
        let found = self.symlink_metadata(from)?;
        if !found.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        self.check_outside(from, to)?;
        self.create_dir_with_mode(to, found.mode() & 0o777 | 0o700)?;
        let mut copy = Copy {
            fs: self,
            from: try_copy(from)?,
            to: try_copy(to)?,
            top: Rc::new(self.symlink_metadata(to)?),
            top_len: to.len(),
            done: CopiedTree::default(),
        };
        let files = self.read_dir(from)?.copying_to(self, to)?;
        let mut levels = Vec::new();
        try_push(&mut levels, copy.level(files)?)?;
        loop {
            let held: usize = levels
                .iter()
                .map(|level: &Level<N>| level.ahead.len())
                .sum();
            let Some(level) = levels.last_mut() else {
                return Ok(copy.done);
            };
            match copy.next(level, MOST_AHEAD.saturating_sub(held))? {
                Some(below) => try_push(&mut levels, below)?,
                None => {
                    levels.pop();
                }
            }
        }
    }

    /// Refuses a new directory within the one that is copied.
    fn check_outside(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let from = self.canonicalize(from)?;
        let mut above = try_copy(to)?;
        above.try_reserve(3).map_err(|_| Error::OutOfMemory)?;
        above.extend_from_slice(b"/..");
        let above = self.canonicalize(above)?;
        match above.strip_prefix(from.as_slice()) {
            Some(rest) if from == b"/" || rest.is_empty() || rest.starts_with(b"/") => INTO_ITSELF,
            _ => Ok(()),
        }
    }
}

const INTO_ITSELF: Result<()> = Err(Error::InvalidInput(
    &"a directory is not copied into itself",
));

impl<N: Node + 'static> Copy<'_, N> {
    /// Copies all that is in a directory but directories.
    fn level(&mut self, files: CopyingFiles<N>) -> Result<Level<N>> {
        self.done.dirs += 1;
        let mut dirs = Pending::default();
        let len = (self.from.len(), self.to.len());
        for entry in files {
            let (entry, copied) = entry?;
            if entry.may_be_link() {
                return Err(Error::HiddenLinks);
            }
            match copied? {
                Some(bytes) => {
                    self.done.files += 1;
                    self.done.bytes += bytes;
                }
                None if entry.file_type()?.is_dir() => dirs.push(entry.file_name())?,
                None => {
                    self.go_to(entry.file_name())?;
                    self.one(&entry)?;
                    self.go_back(len);
                }
            }
        }
        Ok(Level {
            len,
            dirs,
            ahead: VecDeque::new(),
        })
    }

    /// Goes to what has this name in the directory, and where it is copied to.
    fn go_to(&mut self, name: &[u8]) -> Result<()> {
        for path in [&mut self.from, &mut self.to] {
            append(path, name)?;
        }
        Ok(())
    }

    fn go_back(&mut self, len: (usize, usize)) {
        self.from.truncate(len.0);
        self.to.truncate(len.1);
    }

    /// Copies what does not go together with others.
    fn one(&mut self, entry: &DirEntry<N>) -> Result<()> {
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            self.fs.symlink(self.fs.read_link(&self.from)?, &self.to)?;
            self.done.links += 1;
        } else if kind.is_file() {
            self.done.bytes += self.fs.copy(&self.from, &self.to)?;
            self.done.files += 1;
        } else {
            return Err(Error::InvalidInput(
                &"only files, directories and links are copied",
            ));
        }
        Ok(())
    }

    /// Copies the next directory in one, and begins with so many behind it at most; `None` when there is no more.
    fn next(&mut self, level: &mut Level<N>, most: usize) -> Result<Option<Level<N>>> {
        self.go_back(level.len);
        if level.ahead.is_empty() {
            let names = level.dirs.ahead(DIRS_AT_ONCE.min(most))?;
            if names.len() > 1 {
                let top = self.top.clone();
                let is_top = move |found: &Metadata| found.ino() == top.ino();
                let dirs = self
                    .fs
                    .copying_dirs(&self.from, names, self.fs, &self.to, is_top);
                level.ahead = dirs?;
            }
        }
        let Some(name) = level.dirs.pop()? else {
            return Ok(None);
        };
        self.go_to(&name)?;
        let files = match level.ahead.pop_front() {
            Some(Ok(dir)) if dir.is_new() => dir.into_files(),
            Some(Ok(_)) => return Err(Errno::EEXIST.into()),
            // Two file systems may use one number.
            Some(Err(Error::Errno(Errno::EINVAL))) | None => {
                let found = self.fs.symlink_metadata(&self.from)?;
                if !found.is_dir() {
                    return Err(Errno::ENOTDIR.into());
                }
                let top = self.to.get(..self.top_len).unwrap_or_default();
                if found.ino() == self.top.ino() && found.is_like(&self.fs.symlink_metadata(top)?) {
                    INTO_ITSELF?;
                }
                let mode = found.mode() & 0o777 | 0o700;
                self.fs.create_dir_with_mode(&self.to, mode)?;
                self.fs
                    .read_dir(&self.from)?
                    .copying_to(self.fs, &self.to)?
            }
            Some(Err(error)) => return Err(error),
        };
        self.level(files).map(Some)
    }
}
