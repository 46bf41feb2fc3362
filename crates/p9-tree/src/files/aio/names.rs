//! Operations on names: making, removing, renaming, linking.

use alloc::vec::Vec;

use p9_wire::{Errno, QidKind, UnlinkFlags};

use super::Fs;
use crate::{CleanPath, End, Error, Make, Node, Result, Walked};

impl<N: Node> Fs<N> {
    /// Makes something that is no regular file; the mode is less the umask where `masked`.
    async fn make(&self, path: &CleanPath, what: Make<'_>, mode: u32, masked: bool) -> Result<()> {
        self.in_parent(path, Errno::EEXIST, async |dir, name| {
            let new = dir.new_files();
            let umask = if masked { new.umask } else { 0 };
            dir.make(name, what, mode & !umask, new.gid).await
        })
        .await
    }

    pub(in crate::files) async fn make_dir(&self, path: &[u8], mode: u32) -> Result<()> {
        let path = CleanPath::new(path)?;
        if matches!(path.end(), End::Dot | End::DotDot) {
            self.check_new_name(&path).await?;
        }
        self.make_clean_dir(&path, mode).await
    }

    async fn make_clean_dir(&self, path: &CleanPath, mode: u32) -> Result<()> {
        self.make(path, Make::Dir, mode & 0o7777, true).await
    }

    pub(in crate::files) async fn make_dirs(&self, path: &[u8]) -> Result<()> {
        // Up until one can be made, then down again.
        let mut missing = Vec::new();
        let mut now = CleanPath::new(path)?;
        while !now.is_root() {
            match self.make_clean_dir(&now, 0o777).await {
                Ok(()) => break,
                Err(Error::Errno(Errno::ENOENT)) => {
                    let parent = now.parent()?;
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
            match self.make_clean_dir(&path, 0o777).await {
                // Someone else was faster.
                Err(Error::Errno(Errno::EEXIST)) if self.is_dir(&path).await? => {}
                result => result?,
            }
        }
        Ok(())
    }

    pub(in crate::files) async fn make_link(&self, target: &[u8], link: &[u8]) -> Result<()> {
        if target.is_empty() {
            return Err(Error::InvalidPath(&"empty path"));
        }
        if target.contains(&0) {
            return Err(Error::InvalidPath(&"NUL in a path"));
        }
        let link = CleanPath::new(link)?;
        self.check_new_name(&link).await?;
        self.make(&link, Make::Symlink(target), 0o777, false).await
    }

    pub(in crate::files) async fn make_node(
        &self,
        path: &[u8],
        mode: u32,
        major: u32,
        minor: u32,
    ) -> Result<()> {
        let path = CleanPath::new(path)?;
        self.check_new_name(&path).await?;
        let what = Make::Node { major, minor };
        self.make(&path, what, mode, true).await
    }

    pub(in crate::files) async fn unlink(&self, path: &[u8]) -> Result<()> {
        let path = CleanPath::new(path)?;
        self.check_named_dir(&path).await?;
        self.in_parent(&path, Errno::EISDIR, async |dir, name| {
            dir.unlink(name, UnlinkFlags::empty()).await
        })
        .await
    }

    pub(in crate::files) async fn unlink_dir(&self, path: &[u8]) -> Result<()> {
        let path = CleanPath::new(path)?;
        path.check_removable()?;
        self.in_parent(&path, Errno::EBUSY, async |dir, name| {
            dir.unlink(name, UnlinkFlags::REMOVE_DIR).await
        })
        .await
    }

    pub(in crate::files) async fn remove_tree(&self, path: &[u8]) -> Result<()> {
        let path = CleanPath::new(path)?;
        path.check_removable()?;
        // What others did to directories that are kept is not to be noticed half-way.
        let parent = self.find_clean(path.parent()?, true).await?;
        let name = path.file_name().ok_or(Errno::EBUSY)?;
        parent.node.remove_all(name).await
    }

    pub(in crate::files) async fn move_name(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let (from, to) = (CleanPath::new(from)?, CleanPath::new(to)?);
        from.check_renamable()?;
        to.check_renamable()?;
        if from.wants_dir() || to.wants_dir() {
            self.check_named_dir(&from.named_as_dir()?).await?;
        }
        self.in_parent(&from, Errno::EBUSY, async |dir, old| {
            // Within a directory its node serves for both.
            if to.is_beside(&from) {
                let new = to.file_name().ok_or(Errno::EBUSY)?;
                return dir.rename(old, &dir, new).await;
            }
            self.in_parent(&to, Errno::EBUSY, async |new_dir, new| {
                dir.rename(old, &new_dir, new).await
            })
            .await
        })
        .await
    }

    pub(in crate::files) async fn add_name(&self, original: &[u8], link: &[u8]) -> Result<()> {
        let original = self.find(original, false).await?.node;
        let link = CleanPath::new(link)?;
        self.check_new_name(&link).await?;
        self.in_parent(&link, Errno::EEXIST, async |dir, name| {
            dir.link(&original, name).await
        })
        .await
    }

    pub(in crate::files) async fn link_target(&self, path: &[u8]) -> Result<Vec<u8>> {
        let path = CleanPath::new(path)?;
        if !path.wants_dir() && !path.is_root() {
            let names: Vec<&[u8]> = path.names().collect();
            match self.root.readlink_at(&names).await? {
                Walked::Link(_) => {}
                walked => return walked.through(),
            }
        }
        let found = self.find_clean(path, false).await?;
        match found.qid.kind.contains(QidKind::SYMLINK) {
            true => found.node.readlink().await,
            false => Err(Errno::EINVAL.into()),
        }
    }

    pub(in crate::files) async fn real_path(&self, path: &[u8]) -> Result<Vec<u8>> {
        Ok(self.find(path, true).await?.path.into_bytes())
    }
}
