//! Going through a tree.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::aio::{DIRS_AT_ONCE, MOST_AHEAD};
use super::pending::{Pending, append};
use super::{DirEntry, Fs, ReadDir};
use crate::memory::try_copy;
use crate::{Error, Node, Result};

/// Bytes that the names of directories still to be entered may take, of all levels together. Each level takes half of what
/// is left.
const ROOM: usize = 256 << 10;

/// Iterates over all that is below a directory; made by [`Fs::walk_dir`].
///
/// The entries of a directory come before those of the directories in it. Symbolic links are not followed. What can't be listed
/// is an error; [`directory`](Self::directory) says where that was. The walk goes on after an error that is of one directory, and
/// is over after one that would come again, such as a lost connection. It works without recursion, in memory that does not
/// depend on how much there is. The next eight directories of a level are listed at the same time, and stay open until their
/// turn comes, 32 in all at most: what changes in them in between may not be seen. Where a server has few fids, one is open.
///
/// ```
/// use xen9p::tree::files::Fs;
/// use xen9p::tree::trees::MemTree;
///
/// # fn main() -> xen9p::tree::Result<()> {
/// let fs = Fs::new(MemTree::new().root());
/// fs.create_dir_all("/src/parts")?;
/// fs.write("/src/main.rs", "")?;
/// fs.write("/src/parts/one.rs", "")?;
/// let mut found = Vec::new();
/// for entry in fs.walk_dir("/src")? {
///     found.push(entry?.path_lossy());
/// }
/// found.sort();
/// assert_eq!(found, ["/src/main.rs", "/src/parts", "/src/parts/one.rs"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WalkDir<N: Node> {
    fs: Fs<N>,
    /// The directory that is listed, or was last.
    path: Vec<u8>,
    listing: Option<ReadDir<N>>,
    /// From the top to that directory.
    levels: Vec<Level<N>>,
    /// What their names take.
    used: usize,
}

/// A directory, some of which was listed.
#[derive(Debug)]
struct Level<N: Node> {
    /// Length of its path.
    len: usize,
    /// Directories in it that are still to be entered.
    names: Pending,
    /// The listings of the next of these.
    ahead: VecDeque<Result<ReadDir<N>>>,
    room: usize,
    /// Where to list on when these are done; `None` when all was listed.
    rest: Option<u64>,
}

impl<N: Node + 'static> Fs<N> {
    /// All that is below a directory, directories before what is in them. See [`WalkDir`].
    ///
    /// # Errors
    /// Those of [`read_dir`](Self::read_dir).
    pub fn walk_dir(&self, path: impl AsRef<[u8]>) -> Result<WalkDir<N>> {
        let path = path.as_ref();
        let listing = self.read_dir(path)?;
        let mut walk = WalkDir {
            fs: self.clone(),
            path: try_copy(path)?,
            listing: Some(listing),
            levels: Vec::new(),
            used: 0,
        };
        walk.enter()?;
        Ok(walk)
    }
}

impl<N: Node + 'static> WalkDir<N> {
    /// The directory whose entries come just now, or could not be had.
    pub fn directory(&self) -> &[u8] {
        &self.path
    }

    /// How many directories below the one that it began with that is; 0 for that itself.
    pub fn depth(&self) -> usize {
        self.levels.len().saturating_sub(1)
    }

    /// Does not enter `entry`, the one that came last; nothing for what is no directory.
    pub fn skip_dir(&mut self, entry: &DirEntry<N>) {
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        self.used -= level.names.size();
        level.names.take_back(entry.file_name());
        self.used += level.names.size();
    }

    /// Adds a level for the directory at `path`.
    fn enter(&mut self) -> Result<()> {
        self.levels.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        self.levels.push(Level {
            len: self.path.len(),
            names: Pending::default(),
            ahead: VecDeque::new(),
            room: (ROOM - self.used.min(ROOM)) / 2,
            rest: None,
        });
        Ok(())
    }

    /// Notes a directory to be entered later. Where there is no room for its name the listing is left, and gone on with when
    /// those before it are done.
    fn note(&mut self, entry: &DirEntry<N>) -> Result<()> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        let name = entry.file_name();
        level.names.push(name)?;
        self.used += name.len() + 1;
        if level.names.size() >= level.room {
            level.rest = Some(entry.cookie());
            self.listing = None;
        }
        Ok(())
    }

    /// Opens the next directory, or the rest of one; `false` when there is none.
    fn open_next(&mut self) -> Result<bool> {
        loop {
            self.look_ahead()?;
            let Some(level) = self.levels.last_mut() else {
                return Ok(false);
            };
            self.path.truncate(level.len);
            if let Some(name) = level.names.pop()? {
                append(&mut self.path, &name)?;
                let ahead = level.ahead.pop_front();
                self.enter()?;
                self.listing = Some(match ahead {
                    Some(Ok(listing)) => listing,
                    // What went wrong may not any more.
                    _ => self.fs.read_dir(&self.path)?,
                });
                return Ok(true);
            }
            self.used -= level.names.size();
            level.names = Pending::default();
            if let Some(cookie) = level.rest.take() {
                let mut listing = self.fs.read_dir(&self.path)?;
                listing.seek(cookie);
                self.listing = Some(listing);
                return Ok(true);
            }
            self.levels.pop();
        }
    }

    /// Has the listings of the next directories at hand, asked for at the same time.
    fn look_ahead(&mut self) -> Result<()> {
        let held: usize = self.levels.iter().map(|level| level.ahead.len()).sum();
        let Some(level) = self.levels.last_mut() else {
            return Ok(());
        };
        let most = DIRS_AT_ONCE.min(MOST_AHEAD.saturating_sub(held));
        if !level.ahead.is_empty() || most < 2 {
            return Ok(());
        }
        let names = level.names.ahead(most)?;
        if names.len() > 1 {
            let above = self.path.get(..level.len).unwrap_or_default();
            // An error is told where it is met again.
            level.ahead = self.fs.read_dirs(above, names).unwrap_or_default();
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<DirEntry<N>>> {
        loop {
            let Some(listing) = &mut self.listing else {
                match self.open_next()? {
                    true => continue,
                    false => return Ok(None),
                }
            };
            let Some(entry) = listing.next() else {
                self.listing = None;
                continue;
            };
            let entry = entry.inspect_err(|_| self.listing = None)?;
            // What is gone meanwhile has no type, and is not entered; what may be a link is not either.
            if !entry.may_be_link() && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.note(&entry)?;
            }
            return Ok(Some(entry));
        }
    }
}

impl<N: Node + 'static> Iterator for WalkDir<N> {
    type Item = Result<DirEntry<N>>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.as_ref().is_err_and(|error| !error.is_of_the_path()) {
            // It would be the same with every other directory.
            self.levels.clear();
        }
        next.transpose()
    }
}
