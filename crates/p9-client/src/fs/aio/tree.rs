//! Operations on whole trees.

use alloc::rc::Rc;
use alloc::vec::Vec;

use super::{Fs, Handle, ReadDir};
use crate::fs::{Error, FileType, Result};
use crate::session::Fid;
use p9_tree::CleanPath;
use p9_wire::Errno;
use p9_wire::QidKind;

/// How often a directory is listed anew at the most. Where a server passes over every other entry while
/// others are removed, half of them are left each time.
const MOST_PASSES: u32 = 64;

/// A directory that is being emptied.
struct Level {
    /// To remove what is in it.
    dir: Handle,
    /// Its name in the directory above.
    name: Vec<u8>,
    listing: ReadDir,
    /// Whether this pass of the listing removed anything.
    progress: bool,
    passes: u32,
}

impl Fs {
    /// The asynchronous form of [`Fs::create_dir_all`](crate::fs::Fs::create_dir_all).
    ///
    /// # Errors
    /// See there.
    pub async fn create_dir_all(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let path = CleanPath::new(path.as_ref())?;
        // Up until one can be made, then down again.
        let mut missing = Vec::new();
        let mut now = path;
        loop {
            if now.is_root() {
                break;
            }
            match self.make_dir(&now, 0o777).await {
                Ok(()) => break,
                Err(Error::Errno(Errno::ENOENT)) => {
                    let parent = now.parent();
                    missing.push(now);
                    now = parent;
                }
                Err(error) => match self.is_dir(&now).await {
                    Ok(true) => break,
                    // A refusal may mean either. What is lost or late does not mean a file in the way.
                    Err(unknown) if matches!(error, Error::Errno(_)) => return Err(unknown),
                    _ => return Err(error),
                },
            }
        }
        while let Some(path) = missing.pop() {
            match self.make_dir(&path, 0o777).await {
                // Someone else was faster.
                Err(Error::Errno(Errno::EEXIST)) if self.is_dir(&path).await? => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// The asynchronous form of [`Fs::remove_dir_all`](crate::fs::Fs::remove_dir_all).
    ///
    /// # Errors
    /// See there.
    pub async fn remove_dir_all(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let path = CleanPath::new(path.as_ref())?;
        path.check_removable()?;
        // What others did to directories that are kept is not to be noticed half-way.
        self.forget_all();
        let (parent, name) = self.parent_of(&path, Errno::EBUSY).await?;
        let removed = self.empty(parent, name).await;
        self.forget_all();
        removed
    }

    /// Removes the directory `name` of `parent` and all that is in it.
    pub(super) async fn empty(&self, parent: Handle, name: Vec<u8>) -> Result<()> {
        let mut levels = Vec::new();
        levels.push(self.descend(parent.fid(), name).await?);
        while let Some(level) = levels.last_mut() {
            match level.listing.next().await {
                Some(entry) => {
                    let entry = entry?;
                    if entry.may_be_link() {
                        // The directory itself may be what a link leads to.
                        return Err(Error::HiddenLinks);
                    }
                    let name = entry.file_name();
                    let mut is_dir = entry.known_type() == Some(FileType::DIR);
                    if !is_dir {
                        match self.unlink(&level.dir, name, false).await {
                            Ok(()) | Err(Error::Errno(Errno::ENOENT)) => level.progress = true,
                            // What Linux and POSIX call it.
                            Err(Error::Errno(Errno::EISDIR | Errno::EPERM))
                                if entry.known_type().is_none() =>
                            {
                                is_dir = true;
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    if is_dir {
                        level.progress = true;
                        let below = self.descend(level.dir.fid(), name.to_vec()).await?;
                        levels.push(below);
                    }
                }
                None => {
                    let Some(mut done) = levels.pop() else { break };
                    let above = levels.last().map_or(&parent, |level| &level.dir);
                    match self.unlink(above, &done.name, true).await {
                        // Entries may be passed over when others are removed meanwhile.
                        Err(Error::Errno(Errno::ENOTEMPTY | Errno::EEXIST))
                            if done.progress && done.passes < MOST_PASSES =>
                        {
                            done.progress = false;
                            done.passes += 1;
                            done.listing.seek(0);
                            levels.push(done);
                        }
                        result => result?,
                    }
                }
            }
        }
        Ok(())
    }

    async fn descend(&self, above: &Fid, name: Vec<u8>) -> Result<Level> {
        let (dir, walk) = above.walk(&[&name]).await?;
        let is_dir = walk.last.is_some_and(|qid| qid.kind.contains(QidKind::DIR));
        if !is_dir {
            return Err(Errno::ENOTDIR.into());
        }
        let (list, _) = dir.walk(&[]).await?;
        let listing = ReadDir::open(self, list, Rc::from(name.as_slice())).await?;
        Ok(Level {
            dir: Handle::Own(dir),
            name,
            listing,
            progress: false,
            passes: 1,
        })
    }
}
