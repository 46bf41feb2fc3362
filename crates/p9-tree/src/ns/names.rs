//! Operations on names: making, removing, renaming, linking.

use alloc::vec::Vec;

use p9_wire::{Errno, UnlinkFlags};

use super::Namespace;
use super::element::Element;
use super::resolve::{Lookup, Place, View};
use super::table::creator;
use crate::{CleanPath, Error, Make, Result};

impl View {
    /// Makes something that is no regular file.
    fn make(&self, path: &[u8], what: Make<'_>, mode: u32) -> Result<()> {
        let path = CleanPath::new(path)?;
        if let Some(place) = self.place_at_once(&path)? {
            match self.make_at(place, what, mode) {
                Err(error) if error != Errno::EEXIST.into() && error.is_of_the_path() => {}
                made => return made,
            }
        }
        let is_dir = matches!(what, Make::Dir);
        let place = self.vacant(&path, is_dir)?;
        self.make_at(place, what, mode)
    }

    fn make_at(&self, place: Place, what: Make<'_>, mode: u32) -> Result<()> {
        let Place { dir, node, name } = place;
        let new = dir.tree.new_files;
        let mode = match what {
            Make::Dir => mode & 0o7777 & !new.umask,
            Make::Node { .. } => mode & !new.umask,
            Make::Symlink(_) => mode,
        };
        let made = node.into_any().make(&name, what, mode, new.gid);
        dir.tree.run(made)
    }

    fn unlink(&self, path: &[u8], at_root: Errno, flags: UnlinkFlags) -> Result<()> {
        let path = CleanPath::new(path)?;
        if flags.contains(UnlinkFlags::REMOVE_DIR) {
            path.check_removable()?;
        }
        if let Some(Place { dir, node, name }) = self.place_at_once(&path)? {
            match dir.tree.run(node.any().unlink(&name, flags)) {
                Err(error) if error.is_of_the_path() => {}
                removed => return removed,
            }
        }
        let found = self.movable(&path)?;
        let Place { dir, node, name } = self.place_of(found.element()?, at_root)?;
        dir.tree.run(node.any().unlink(&name, flags))
    }

    /// Renames where the trees themselves can be asked; whether that was possible, and done.
    fn rename_at_once(&self, from: &CleanPath, to: &CleanPath) -> Result<bool> {
        if self.table.borrow().holds(to) || to.wants_dir() {
            return Ok(false);
        }
        let Some(old) = self.place_at_once(from)? else {
            return Ok(false);
        };
        // Within a directory its node serves for both.
        let new = match to.file_name() {
            Some(name) if from.parent() == to.parent() => Some(Place {
                dir: old.dir.clone(),
                node: old.node.clone(),
                name: name.to_vec(),
            }),
            _ => self.place_at_once(to)?,
        };
        let Some(new) = new.filter(|new| old.dir.same_tree(&new.dir)) else {
            return Ok(false);
        };
        let renamed = old.node.any().rename(&old.name, &new.node, &new.name);
        match old.dir.tree.run(renamed) {
            Err(error) if error.is_of_the_path() => Ok(false),
            renamed => renamed.map(|()| true),
        }
    }

    fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let (from, to) = (CleanPath::new(from)?, CleanPath::new(to)?);
        from.check_renamable()?;
        to.check_renamable()?;
        if self.rename_at_once(&from, &to)? {
            return Ok(());
        }
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
            Lookup::Missing(parent, name) => {
                let dir = if parent.path == from.path.parent() {
                    Element::new(old.tree.clone(), old.at.parent())
                } else {
                    creator(&parent.elements).ok_or(Errno::EROFS)?.clone()
                };
                let mut at = dir.at;
                at.push(&name)?;
                Element::new(dir.tree, at)
            }
        };
        if !old.same_tree(&new) {
            return Err(Errno::EXDEV.into());
        }
        let from = self.place_of(old, Errno::EBUSY)?;
        // Within a directory its node serves for both.
        let to = if old.at.parent() == new.at.parent() {
            let name = new.at.file_name().ok_or(Errno::EBUSY)?.to_vec();
            Place {
                dir: from.dir.clone(),
                node: from.node.clone(),
                name,
            }
        } else {
            self.place_of(&new, Errno::EBUSY)?
        };
        let renamed = from.node.any().rename(&from.name, &to.node, &to.name);
        from.dir.tree.run(renamed)
    }
}

impl Namespace {
    /// Makes an empty directory.
    ///
    /// # Errors
    /// EROFS in a union without an element that takes it.
    pub fn create_dir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let path = path.as_ref();
        self.run(|view| view.make(path, Make::Dir, 0o777))
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
            Err(Error::Errno(Errno::EEXIST)) => match self.find(path.as_bytes()) {
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
        let path = path.as_ref();
        self.run(|view| view.unlink(path, Errno::EISDIR, UnlinkFlags::empty()))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// EBUSY for a mount point or what leads to one.
    pub fn remove_dir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let path = path.as_ref();
        self.run(|view| view.unlink(path, Errno::EBUSY, UnlinkFlags::REMOVE_DIR))
    }

    /// Removes a directory and all that is in it. Symbolic links are removed, not followed.
    ///
    /// # Errors
    /// EBUSY for a mount point or what leads to one; nothing has been removed then. ENOTDIR for anything
    /// but a directory.
    pub fn remove_dir_all(&self, path: impl AsRef<[u8]>) -> Result<()> {
        let path = path.as_ref();
        self.run(|view| {
            let path = CleanPath::new(path)?;
            path.check_removable()?;
            let found = view.movable(&path)?;
            if !found.is_dir {
                return Err(Errno::ENOTDIR.into());
            }
            let Place { dir, node, name } = view.place_of(found.element()?, Errno::EBUSY)?;
            dir.tree.run(node.any().remove_all(&name))
        })
    }

    /// Renames, replacing a file (or an empty directory by a directory) of the new name. A symbolic link
    /// at the end of either path is not followed. Within a union directory it stays in its element.
    ///
    /// # Errors
    /// EXDEV between trees, EBUSY for mount points and what leads to them.
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        self.run(|view| view.rename(from, to))
    }

    /// Gives a file another name. A symbolic link at the end of `original` is not followed.
    ///
    /// # Errors
    /// EXDEV between trees.
    pub fn hard_link(&self, original: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Result<()> {
        let (original, link) = (original.as_ref(), link.as_ref());
        self.run(|view| {
            let original = view.find(original, false)?;
            let old = original.element()?.clone();
            let new = view.vacant(&CleanPath::new(link)?, false)?;
            if !old.same_tree(&new.dir) {
                return Err(Errno::EXDEV.into());
            }
            let node = original.into_node()?;
            let linked = new.node.any().link(&node, &new.name);
            new.dir.tree.run(linked)
        })
    }

    /// Makes a symbolic link that says `target`, which is taken as it is; when it is followed, it means a
    /// path of the name space.
    ///
    /// # Errors
    /// EROFS in a union without an element that takes it.
    pub fn symlink(&self, target: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Result<()> {
        let (target, link) = (target.as_ref(), link.as_ref());
        if target.is_empty() {
            return Err(Error::InvalidPath("empty path"));
        }
        if target.contains(&0) {
            return Err(Error::InvalidPath("NUL in a path"));
        }
        self.run(|view| view.make(link, Make::Symlink(target), 0o777))
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    /// EINVAL for what is no symbolic link.
    pub fn read_link(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let found = self.run(|view| view.find(path, false))?;
        found.link.ok_or(Errno::EINVAL.into())
    }

    /// The path from the root of the name space, without links, "." and "..".
    ///
    /// # Errors
    /// ENOENT.
    pub fn canonicalize(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        Ok(self.find(path.as_ref())?.path.into_bytes())
    }

    /// Makes a device (`mode` S_IFCHR or S_IFBLK with `major` and `minor`), a named pipe or a socket
    /// name.
    ///
    /// # Errors
    /// EROFS in a union without an element that takes it.
    pub fn mknod(&self, path: impl AsRef<[u8]>, mode: u32, major: u32, minor: u32) -> Result<()> {
        let (path, what) = (path.as_ref(), Make::Node { major, minor });
        self.run(|view| view.make(path, what, mode))
    }
}
