//! Removing whole directories.

use alloc::vec::Vec;

use p9_wire::{DirEntryKind, Errno, FileKind, OpenFlags, UnlinkFlags};

use crate::{Error, Node, OpenFile, Result};

/// How often a directory is listed anew at the most. Where a tree passes over every other entry while
/// others are removed, half of them are left each time.
const MOST_PASSES: u32 = 64;

/// How many entries are taken of a listing at a time: not more, as there may be little memory.
const AT_ONCE: usize = 128;

/// A directory that is being emptied.
struct Level<N> {
    dir: N,
    /// Its name in the directory above.
    name: Vec<u8>,
    entries: Vec<(Vec<u8>, DirEntryKind)>,
    /// Whether this pass of the listing removed anything.
    progress: bool,
    passes: u32,
}

impl<N: Node> Level<N> {
    async fn new(above: &N, name: Vec<u8>) -> Result<Level<N>> {
        let dir = above.walk(&name).await?;
        let entries = entries(&dir).await?;
        Ok(Level {
            dir,
            name,
            entries,
            progress: false,
            passes: 1,
        })
    }
}

/// Some entries of a directory, "." and ".." left out.
async fn entries<N: Node>(dir: &N) -> Result<Vec<(Vec<u8>, DirEntryKind)>> {
    let file = dir.open(OpenFlags::DIRECTORY).await?;
    let mut entries = Vec::new();
    let mut may_be_links = false;
    file.readdir(0, &mut |entry| {
        may_be_links |= entry.may_be_link();
        if !matches!(entry.name, b"." | b"..") {
            entries.push((entry.name.to_vec(), entry.kind));
        }
        entries.len() < AT_ONCE
    })
    .await?;
    if may_be_links {
        return Err(Error::HiddenLinks);
    }
    Ok(entries)
}

/// Removes the directory `name` of `parent` and all that is in it. Symbolic links are removed, not followed.
pub(crate) async fn remove_all<N: Node>(parent: &N, name: Vec<u8>) -> Result<()> {
    let mut levels = Vec::new();
    levels.push(Level::new(parent, name).await?);
    while let Some(level) = levels.last_mut() {
        if let Some((name, kind)) = level.entries.pop() {
            let mut is_dir = kind.file_kind() == Some(FileKind::DIR);
            if !is_dir {
                match level.dir.unlink(&name, UnlinkFlags::empty()).await {
                    Ok(()) | Err(Error::Errno(Errno::ENOENT)) => level.progress = true,
                    // What Linux and POSIX call it.
                    Err(Error::Errno(Errno::EISDIR | Errno::EPERM))
                        if kind.file_kind().is_none() =>
                    {
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
            // Entries that were not taken, or were passed over when others were removed.
            Err(Error::Errno(Errno::ENOTEMPTY | Errno::EEXIST))
                if done.progress && done.passes < MOST_PASSES =>
            {
                let entries = entries(&done.dir).await?;
                // A pass that is full is one of many of a large directory.
                done.passes += u32::from(entries.len() < AT_ONCE);
                done.progress = false;
                done.entries = entries;
                levels.push(done);
            }
            result => result?,
        }
    }
    Ok(())
}
