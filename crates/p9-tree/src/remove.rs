//! Removing whole directories.

use alloc::boxed::Box;
use alloc::vec::Vec;

use p9_wire::{Attr, DirEntry, DirEntryKind, Errno, FileKind, OpenFlags, QidKind, UnlinkFlags};

use crate::in_order::{AT_ONCE, InOrder, Task};
use crate::memory::{try_copy, try_push};
use crate::{Error, Node, OpenFile, Result};

/// How often a directory is listed anew at the most. Where a tree passes over every other entry while
/// others are removed, half of them are left each time.
const MOST_PASSES: u32 = 64;

/// How many entries are taken of a listing at a time: not more, as there may be little memory.
const TAKEN: usize = 64;

/// How many directories are looked into at the same time: each takes a few requests one after the other.
const DIRS_AT_ONCE: usize = 8;

/// Looking into a directory: removes it if there is no other one in it, or else gives it back to be gone on with.
type Look<'a, N> = Task<'a, Result<Option<Level<'a, N>>>>;

/// A directory that is being emptied.
struct Level<'a, N: Node> {
    dir: N,
    /// Its name in the directory above.
    name: Vec<u8>,
    listing: N::File,
    /// Directories in it to empty next, the first one last.
    dirs: Vec<Vec<u8>>,
    /// Those before them, which are looked into.
    looking: InOrder<'a, Result<Option<Level<'a, N>>>>,
    /// Where the listing goes on.
    offset: u64,
    /// Whether this pass of the listing removed anything.
    progress: bool,
    passes: u32,
}

impl<'a, N: Node + 'a> Level<'a, N> {
    async fn new(above: &N, name: Vec<u8>) -> Result<Self> {
        let dir = above.walk(&name).await?;
        if !dir.qid().kind.contains(QidKind::DIR) {
            return Err(Errno::ENOTDIR.into());
        }
        Ok(Level {
            listing: dir.open(OpenFlags::DIRECTORY).await?,
            dir,
            name,
            dirs: Vec::new(),
            looking: InOrder::default(),
            offset: 0,
            progress: false,
            passes: 1,
        })
    }

    /// The next directory in it that has others in it, after all that comes before in the listing, and some behind, was
    /// removed.
    async fn next_below(&mut self) -> Result<Option<Self>> {
        let at_once = at_once(&self.dir, DIRS_AT_ONCE);
        loop {
            while self.looking.len() < at_once
                && let Some(name) = self.next().await?
            {
                let look: Look<'a, N> = Box::pin(look(self.dir.clone(), name));
                self.looking.begin(look).await;
            }
            match self.looking.next().await {
                None => return Ok(None),
                Some(looked) => match looked? {
                    None => self.progress = true,
                    Some(below) => return Ok(Some(below)),
                },
            }
        }
    }

    /// Removes the directory from the one above, when nothing is left to be listed; gives it back where there is all the same.
    async fn finish(mut self, above: &N) -> Result<Option<Self>> {
        match above.unlink(&self.name, UnlinkFlags::REMOVE_DIR).await {
            // Entries may be passed over when others are removed meanwhile.
            Err(Error::Errno(Errno::ENOTEMPTY | Errno::EEXIST))
                if self.progress && self.passes < MOST_PASSES =>
            {
                self.progress = false;
                self.passes += 1;
                self.offset = 0;
                Ok(Some(self))
            }
            result => result.map(|()| None),
        }
    }

    /// The name of the next directory in it.
    async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        while self.dirs.is_empty() {
            let Some(entries) = self.list().await? else {
                return Ok(None);
            };
            self.remove_files(entries).await?;
            self.dirs.reverse();
        }
        Ok(self.dirs.pop())
    }

    /// The next entries of the listing, "." and ".." left out; `None` at its end.
    async fn list(&mut self) -> Result<Option<Vec<(Vec<u8>, DirEntryKind)>>> {
        let (mut entries, offset) = (Vec::new(), &mut self.offset);
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
                noted = name.and_then(|name| try_push(&mut entries, (name, entry.kind)));
            }
            noted.is_ok()
        };
        self.listing.readdir_some(start, &mut take).await?;
        noted?;
        if may_be_links {
            // The directory itself may be what a link leads to.
            return Err(Error::HiddenLinks);
        }
        Ok(seen.then_some(entries))
    }

    /// Removes what is no directory, many files at the same time, and notes which are.
    async fn remove_files(&mut self, entries: Vec<(Vec<u8>, DirEntryKind)>) -> Result<()> {
        let at_once = at_once(&self.dir, AT_ONCE);
        let (dir, dirs, progress) = (&self.dir, &mut self.dirs, &mut self.progress);
        let mut removed = Ok(());
        let mut note = |(name, kind, answer): (Vec<u8>, DirEntryKind, Result<()>)| match answer {
            Ok(()) | Err(Error::Errno(Errno::ENOENT)) => *progress = true,
            // What Linux and POSIX call a directory, where the listing does not.
            Err(Error::Errno(Errno::EISDIR | Errno::EPERM)) if kind.file_kind().is_none() => {
                *progress = true;
                removed = removed.and_then(|()| try_push(dirs, name));
            }
            Err(error) => removed = removed.and(Err(error)),
        };
        let mut doing = InOrder::default();
        for (name, kind) in entries {
            if kind.file_kind() == Some(FileKind::DIR) {
                note((name, DirEntryKind::UNKNOWN, Err(Errno::EISDIR.into())));
                continue;
            }
            if doing.len() == at_once
                && let Some(done) = doing.next().await
            {
                note(done);
            }
            let remove = async move {
                let answer = dir.unlink(&name, UnlinkFlags::empty()).await;
                (name, kind, answer)
            };
            doing.begin(Box::pin(remove) as Task<'_, _>).await;
        }
        while let Some(done) = doing.next().await {
            note(done);
        }
        removed
    }
}

/// How many operations in a directory may be under way at the same time.
fn at_once(dir: &impl Node, most: usize) -> usize {
    match dir.has_few_fids() {
        true => 1,
        false => most,
    }
}

/// Empties a directory as far as it can be done without entering others.
async fn look<'a, N: Node + 'a>(above: N, name: Vec<u8>) -> Result<Option<Level<'a, N>>> {
    let mut level = Level::new(&above, name).await?;
    match level.next().await? {
        None => level.finish(&above).await,
        Some(name) => {
            try_push(&mut level.dirs, name)?;
            Ok(Some(level))
        }
    }
}

/// Removes the directory `name` of `parent` and all that is in it, many files, and several directories that have no others in
/// them, at the same time. Symbolic links are removed, not followed.
///
/// # Errors
/// Those of [`Node::unlink`]; ENOTDIR for anything but a directory. Of several in one directory the first in the order of the
/// listing, after which no further directory is entered.
pub async fn remove_all<N: Node>(parent: &N, name: &[u8]) -> Result<()> {
    let mut levels = Vec::new();
    try_push(&mut levels, Level::new(parent, try_copy(name)?).await?)?;
    while let Some(level) = levels.last_mut() {
        if let Some(below) = level.next_below().await? {
            try_push(&mut levels, below)?;
            continue;
        }
        let Some(done) = levels.pop() else { break };
        let above = levels.last().map_or(parent, |level| &level.dir);
        match done.finish(above).await? {
            Some(again) => levels.push(again),
            None => {
                if let Some(above) = levels.last_mut() {
                    above.progress = true;
                }
            }
        }
    }
    Ok(())
}
