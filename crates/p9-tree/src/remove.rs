//! Removing whole directories.

use alloc::vec::Vec;

use p9_wire::{Attr, DirEntry, DirEntryKind, Errno, FileKind, OpenFlags, QidKind, UnlinkFlags};

use crate::memory::{try_copy, try_push};
use crate::{Error, Node, OpenFile, Result};

/// How often a directory is listed anew at the most. Where a tree passes over every other entry while
/// others are removed, half of them are left each time.
const MOST_PASSES: u32 = 64;

/// How many entries are taken of a listing at a time: not more, as there may be little memory.
const TAKEN: usize = 64;

/// A directory that is being emptied.
struct Level<N: Node> {
    dir: N,
    /// Its name in the directory above.
    name: Vec<u8>,
    listing: N::File,
    /// Entries that were taken of the listing, the first one last.
    entries: Vec<(Vec<u8>, DirEntryKind)>,
    /// Where it goes on behind them.
    offset: u64,
    /// Whether this pass of the listing removed anything.
    progress: bool,
    passes: u32,
}

impl<N: Node> Level<N> {
    async fn new(above: &N, name: Vec<u8>) -> Result<Level<N>> {
        let dir = above.walk(&name).await?;
        if !dir.qid().kind.contains(QidKind::DIR) {
            return Err(Errno::ENOTDIR.into());
        }
        Ok(Level {
            listing: dir.open(OpenFlags::DIRECTORY).await?,
            dir,
            name,
            entries: Vec::new(),
            offset: 0,
            progress: false,
            passes: 1,
        })
    }

    /// The next entry, "." and ".." left out.
    async fn next(&mut self) -> Result<Option<(Vec<u8>, DirEntryKind)>> {
        while self.entries.is_empty() {
            let (entries, offset) = (&mut self.entries, &mut self.offset);
            let (start, mut seen, mut may_be_links) = (*offset, false, false);
            let mut noted = Ok(());
            let mut take = |entry: &DirEntry<'_>, _: Option<&Attr>| {
                if entries.len() == TAKEN {
                    return false;
                }
                seen = true;
                may_be_links |= entry.may_be_link();
                *offset = entry.offset;
                if !matches!(entry.name, b"." | b"..") {
                    let name = try_copy(entry.name);
                    noted = name.and_then(|name| try_push(entries, (name, entry.kind)));
                }
                noted.is_ok()
            };
            self.listing.readdir_some(start, &mut take).await?;
            noted?;
            if may_be_links {
                // The directory itself may be what a link leads to.
                return Err(Error::HiddenLinks);
            }
            if !seen {
                return Ok(None);
            }
            self.entries.reverse();
        }
        Ok(self.entries.pop())
    }
}

/// Removes the directory `name` of `parent` and all that is in it. Symbolic links are removed, not followed.
///
/// # Errors
/// Those of [`Node::unlink`]; ENOTDIR for anything but a directory.
pub async fn remove_all<N: Node>(parent: &N, name: &[u8]) -> Result<()> {
    let mut levels = Vec::new();
    levels.push(Level::new(parent, name.to_vec()).await?);
    while let Some(level) = levels.last_mut() {
        if let Some((name, kind)) = level.next().await? {
            let kind = kind.file_kind();
            let mut is_dir = kind == Some(FileKind::DIR);
            if !is_dir {
                match level.dir.unlink(&name, UnlinkFlags::empty()).await {
                    Ok(()) | Err(Error::Errno(Errno::ENOENT)) => level.progress = true,
                    // What Linux and POSIX call it.
                    Err(Error::Errno(Errno::EISDIR | Errno::EPERM)) if kind.is_none() => {
                        is_dir = true;
                    }
                    Err(error) => return Err(error),
                }
            }
            if is_dir {
                level.progress = true;
                let below = Level::new(&level.dir, name).await?;
                levels.push(below);
            }
            continue;
        }
        let Some(mut done) = levels.pop() else { break };
        let above = levels.last().map_or(parent, |level| &level.dir);
        match above.unlink(&done.name, UnlinkFlags::REMOVE_DIR).await {
            // Entries may be passed over when others are removed meanwhile.
            Err(Error::Errno(Errno::ENOTEMPTY | Errno::EEXIST))
                if done.progress && done.passes < MOST_PASSES =>
            {
                done.progress = false;
                done.passes += 1;
                done.offset = 0;
                levels.push(done);
            }
            result => result?,
        }
    }
    Ok(())
}
