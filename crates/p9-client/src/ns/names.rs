//! Operations on names: making, removing, renaming, linking.

use alloc::vec::Vec;

use super::Namespace;
use super::resolve::{Found, Lookup};
use super::table::Element;
use crate::fs::{Error, Result};
use p9_tree::CleanPath;
use p9_wire::Errno;

impl Namespace {
    /// Makes an empty directory.
    ///
    /// # Errors
    /// EROFS in a union without an element that takes it.
    pub fn create_dir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let place = self.vacant(path.as_ref(), true)?;
        place.tree.create_dir(place.at.as_bytes())
    }

    /// Makes a directory and those above it that are missing. One that is there is no error.
    ///
    /// # Errors
    /// As [`create_dir`](Self::create_dir); ENOTDIR, EEXIST when something else is there.
    pub fn create_dir_all(&self, path: impl AsRef<[u8]>) -> Result<()> {
        // Up until one can be made, then down again.
        let mut missing = Vec::new();
        let mut now = CleanPath::new(path.as_ref())?;
        while let Err(error) = self.ensure_dir(&now) {
            if !error.is_not_found() || now.is_root() {
                return Err(error);
            }
            let parent = now.parent();
            missing.push(now);
            now = parent;
        }
        while let Some(path) = missing.pop() {
            self.ensure_dir(&path)?;
        }
        Ok(())
    }

    /// Makes a directory unless one is there.
    fn ensure_dir(&self, path: &CleanPath) -> Result<()> {
        match self.create_dir(path.as_bytes()) {
            Err(Error::Errno(Errno::EEXIST)) => match self.find(path.as_bytes(), true) {
                Ok(found) if found.is_dir => Ok(()),
                // What is lost or late does not mean a file in the way.
                Err(error) if !error.is_of_the_path() => Err(error),
                _ => Err(Errno::EEXIST.into()),
            },
            result => result,
        }
    }

    /// Removes a file, or a symbolic link itself.
    ///
    /// # Errors
    /// EBUSY for a mount point.
    pub fn remove_file(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let found = self.movable(&CleanPath::new(path.as_ref())?)?;
        let element = found.element()?;
        element.tree.remove_file(element.at.as_bytes())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// EBUSY for a mount point or what leads to one.
    pub fn remove_dir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let path = CleanPath::new(path.as_ref())?;
        path.check_removable()?;
        let found = self.movable(&path)?;
        let element = found.element()?;
        element.tree.remove_dir(element.at.as_bytes())
    }

    /// Removes a directory and all that is in it. Symbolic links are removed, not followed.
    ///
    /// # Errors
    /// EBUSY for a mount point or what leads to one; nothing has been removed then. ENOTDIR for anything
    /// but a directory.
    pub fn remove_dir_all(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let path = CleanPath::new(path.as_ref())?;
        path.check_removable()?;
        let found = self.movable(&path)?;
        if !found.is_dir {
            return Err(Errno::ENOTDIR.into());
        }
        let element = found.element()?;
        element.tree.remove_dir_all(element.at.as_bytes())
    }

    /// Renames, replacing a file (or an empty directory by a directory) of the new name. A symbolic link
    /// at the end of either path is not followed. Within a union directory it stays in its element.
    ///
    /// # Errors
    /// EXDEV between trees, EBUSY for mount points and what leads to them.
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<()> {
        let (from, to) = (CleanPath::new(from.as_ref())?, CleanPath::new(to.as_ref())?);
        from.check_renamable()?;
        to.check_renamable()?;
        let from = self.movable(&from)?;
        if to.wants_dir() && !from.is_dir {
            return Err(Errno::ENOTDIR.into());
        }
        let old = from.element()?;
        let new = match self.lookup(to.bare(), false)? {
            Lookup::Found(to) if self.table.borrow().holds(&to.path) => {
                return Err(Errno::EBUSY.into());
            }
            Lookup::Found(to) => to.element()?.clone(),
            Lookup::Missing(parent, name) if parent.path == from.path.parent() => {
                let mut new = Element::new(old.tree.clone(), old.at.parent());
                new.at.push(&name)?;
                new
            }
            Lookup::Missing(parent, name) => self.place(&parent, &name)?,
        };
        if !old.same_tree(&new) {
            return Err(Errno::EXDEV.into());
        }
        old.tree.rename(old.at.as_bytes(), new.at.as_bytes())
    }

    /// Gives a file another name. A symbolic link at the end of `original` is not followed.
    ///
    /// # Errors
    /// EXDEV between trees.
    pub fn hard_link(&self, original: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Result<()> {
        let original = self.find(original.as_ref(), false)?;
        let old = original.element()?;
        let new = self.vacant(link.as_ref(), false)?;
        if !old.same_tree(&new) {
            return Err(Errno::EXDEV.into());
        }
        old.tree.hard_link(old.at.as_bytes(), new.at.as_bytes())
    }

    /// Makes a symbolic link that says `target`, which is taken as it is; when it is followed, it means a
    /// path of the name space.
    ///
    /// # Errors
    /// EROFS in a union without an element that takes it.
    pub fn symlink(&self, target: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Result<()> {
        let place = self.vacant(link.as_ref(), false)?;
        place.tree.symlink(target.as_ref(), place.at.as_bytes())
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    /// EINVAL for what is no symbolic link.
    pub fn read_link(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let Found { link, .. } = self.find(path.as_ref(), false)?;
        link.ok_or(Errno::EINVAL.into())
    }

    /// The path from the root of the name space, without links, "." and "..".
    ///
    /// # Errors
    /// ENOENT.
    pub fn canonicalize(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        Ok(self.find(path.as_ref(), true)?.path.into_bytes())
    }

    /// Makes a device (`mode` S_IFCHR or S_IFBLK with `major` and `minor`), a named pipe or a socket
    /// name.
    ///
    /// # Errors
    /// EROFS in a union without an element that takes it.
    pub fn mknod(&self, path: impl AsRef<[u8]>, mode: u32, major: u32, minor: u32) -> Result<()> {
        let place = self.vacant(path.as_ref(), false)?;
        place.tree.mknod(place.at.as_bytes(), mode, major, minor)
    }
}
