//! What a name space is made of: trees of files.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;

use crate::fs::{
    self, Error, FileTimes, FileType, Fs, Metadata, OpenOptions, Permissions, Probe, Result, StatFs,
};
use p9_wire::Errno;

/// A tree of files that can be mounted in a [`Namespace`](super::Namespace).
///
/// [`Fs`] is one, over 9P; [`MemTree`](super::MemTree) another, in memory. Paths are absolute from the
/// tree's root, "/" for the root itself, and clean: no empty names, no "." or "..". The name space
/// follows symbolic links; a tree gets paths without any, but for the last name where a method says
/// so. (A server may put one there in between: then [`Fs`] follows it, within its own tree.)
///
/// What changes a tree is refused with EROFS unless a method is written for it: a tree that only
/// shows something implements the first four. Methods may block; they may use the name space.
pub trait Tree {
    /// How far a path leads.
    ///
    /// # Errors
    /// ENOTDIR when something other than a directory or a link is in the way.
    fn probe(&self, path: &[u8]) -> Result<Probe>;

    /// Opens a file, or makes it if the options say so; the directory that it is in is there.
    ///
    /// # Errors
    /// Those of [`Fs::open_with`].
    fn open(&self, path: &[u8], options: &OpenOptions) -> Result<Box<dyn OpenFile>>;

    /// Attributes of what the path names, of a symbolic link its own.
    ///
    /// # Errors
    /// ENOENT.
    fn metadata(&self, path: &[u8]) -> Result<Metadata>;

    /// Attributes of what the path names, if the tree finds it at one go with no symbolic link on the way; with
    /// `follow`, nor at its end. `None`: to be looked up step by step.
    ///
    /// # Errors
    /// Those of [`metadata`](Self::metadata).
    fn glance(&self, _path: &[u8], _follow: bool) -> Result<Option<Metadata>> {
        Ok(None)
    }

    /// Opens a file, if the tree finds it at one go with no symbolic link on the way or at its end. `None`: to be
    /// looked up step by step, or to be made.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    fn open_at_once(
        &self,
        _path: &[u8],
        _options: &OpenOptions,
    ) -> Result<Option<Box<dyn OpenFile>>> {
        Ok(None)
    }

    /// The entries of a directory, "." and ".." left out.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR.
    fn read_dir(&self, path: &[u8]) -> Result<Entries>;

    /// As [`read_dir`](Self::read_dir); where that costs less than asking for each, the entries' attributes
    /// come along.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR.
    fn read_dir_with_metadata(&self, path: &[u8]) -> Result<Entries> {
        self.read_dir(path)
    }

    /// Makes an empty directory.
    ///
    /// # Errors
    /// EEXIST.
    fn create_dir(&self, _path: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Removes what is no directory, a symbolic link itself.
    ///
    /// # Errors
    /// ENOENT, EISDIR.
    fn remove_file(&self, _path: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, ENOTEMPTY.
    fn remove_dir(&self, _path: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Removes a directory and all that is in it, without following links.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR.
    fn remove_dir_all(&self, _path: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Renames within the tree; links at the end of either path are not followed.
    ///
    /// # Errors
    /// Those of rename(2).
    fn rename(&self, _from: &[u8], _to: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// EEXIST.
    fn hard_link(&self, _original: &[u8], _link: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Makes a symbolic link that says `target`.
    ///
    /// # Errors
    /// EEXIST.
    fn symlink(&self, _target: &[u8], _link: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Makes a device, a named pipe or a socket name.
    ///
    /// # Errors
    /// EEXIST.
    fn mknod(&self, _path: &[u8], _mode: u32, _major: u32, _minor: u32) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Changes the permission bits.
    ///
    /// # Errors
    /// ENOENT.
    fn set_permissions(&self, _path: &[u8], _permissions: Permissions) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Changes access and modification time.
    ///
    /// # Errors
    /// ENOENT.
    fn set_times(&self, _path: &[u8], _times: FileTimes) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Changes owner and group, of a symbolic link its own; `None` leaves one as it is.
    ///
    /// # Errors
    /// ENOENT.
    fn chown(&self, _path: &[u8], _uid: Option<u32>, _gid: Option<u32>) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Cuts or extends a file to `size` bytes.
    ///
    /// # Errors
    /// EISDIR.
    fn truncate(&self, _path: &[u8], _size: u64) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// How full the file system is.
    ///
    /// # Errors
    /// EOPNOTSUPP from trees that have no size.
    fn statfs(&self, _path: &[u8]) -> Result<StatFs> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// ENODATA when there is none of this name, EOPNOTSUPP from trees that have none at all.
    fn xattr(&self, _path: &[u8], _name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// The names of all extended attributes.
    ///
    /// # Errors
    /// EOPNOTSUPP from trees that have none at all.
    fn list_xattrs(&self, _path: &[u8]) -> Result<Vec<Vec<u8>>> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Sets an extended attribute, new or not.
    ///
    /// # Errors
    /// EROFS, or EOPNOTSUPP from trees that have none at all.
    fn set_xattr(&self, _path: &[u8], _name: &[u8], _value: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// As [`set_xattr`](Self::set_xattr); ENODATA when there is none of this name.
    fn remove_xattr(&self, _path: &[u8], _name: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }
}

/// The entries of one directory of a tree.
pub type Entries = Box<dyn Iterator<Item = Result<Entry>>>;

/// An entry of a directory, as a tree lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The bare name.
    pub name: Vec<u8>,
    /// What it is, when the tree says so without being asked.
    pub kind: Option<FileType>,
    /// The number that identifies the file in its tree.
    pub ino: u64,
    /// Its attributes, symbolic links not followed, where they came with the listing.
    pub metadata: Option<Box<Metadata>>,
}

/// An open file of a tree, without a position. Dropping it closes it.
pub trait OpenFile {
    /// Reads at `offset`; 0 bytes mean the end (or an empty buffer).
    ///
    /// # Errors
    /// EBADF for a file that is not open for reading.
    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes at `offset`, or at the end if the file was opened so; 0 bytes only for an empty buffer.
    ///
    /// # Errors
    /// EBADF for a file that is not open for writing.
    fn write_at(&self, from: &[u8], offset: u64) -> Result<usize>;

    /// Attributes of the file.
    ///
    /// # Errors
    /// What the tree says.
    fn metadata(&self) -> Result<Metadata>;

    /// Cuts or extends the file, with zeros.
    ///
    /// # Errors
    /// EROFS from a tree that can't.
    fn set_len(&self, _size: u64) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Changes the permission bits.
    ///
    /// # Errors
    /// EROFS from a tree that can't.
    fn set_permissions(&self, _permissions: Permissions) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Changes access and modification time.
    ///
    /// # Errors
    /// EROFS from a tree that can't.
    fn set_times(&self, _times: FileTimes) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Returns when the tree has all that was written behind.
    ///
    /// # Errors
    /// Those of the writes.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Returns when the content, and unless `data_only` the attributes too, are as safe as the tree can
    /// make them.
    ///
    /// # Errors
    /// What the tree says.
    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    /// Closes the file and reports what there is to report.
    ///
    /// # Errors
    /// What the tree says; the file is closed even then.
    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Tree for Fs {
    fn probe(&self, path: &[u8]) -> Result<Probe> {
        Fs::probe(self, path)
    }

    fn open(&self, path: &[u8], options: &OpenOptions) -> Result<Box<dyn OpenFile>> {
        Ok(Box::new(self.open_with(path, options)?))
    }

    fn metadata(&self, path: &[u8]) -> Result<Metadata> {
        self.symlink_metadata(path)
    }

    fn glance(&self, path: &[u8], follow: bool) -> Result<Option<Metadata>> {
        Fs::glance(self, path, follow)
    }

    fn open_at_once(
        &self,
        path: &[u8],
        options: &OpenOptions,
    ) -> Result<Option<Box<dyn OpenFile>>> {
        let file = Fs::open_at_once(self, path, options)?;
        Ok(file.map(|file| -> Box<dyn OpenFile> { Box::new(file) }))
    }

    fn read_dir(&self, path: &[u8]) -> Result<Entries> {
        let listing = Fs::read_dir(self, path)?;
        Ok(Box::new(listing.map(|entry| {
            entry.map(|entry| Entry {
                name: entry.file_name().to_vec(),
                kind: entry.known_type(),
                ino: entry.ino(),
                metadata: None,
            })
        })))
    }

    fn read_dir_with_metadata(&self, path: &[u8]) -> Result<Entries> {
        let listing = Fs::read_dir(self, path)?.with_metadata();
        Ok(Box::new(listing.map(|entry| {
            entry.map(|(entry, metadata)| Entry {
                name: entry.file_name().to_vec(),
                kind: entry.known_type(),
                ino: entry.ino(),
                metadata: metadata.ok().map(Box::new),
            })
        })))
    }

    fn create_dir(&self, path: &[u8]) -> Result<()> {
        Fs::create_dir(self, path)
    }

    fn remove_file(&self, path: &[u8]) -> Result<()> {
        Fs::remove_file(self, path)
    }

    fn remove_dir(&self, path: &[u8]) -> Result<()> {
        Fs::remove_dir(self, path)
    }

    fn remove_dir_all(&self, path: &[u8]) -> Result<()> {
        Fs::remove_dir_all(self, path)
    }

    fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        Fs::rename(self, from, to)
    }

    fn hard_link(&self, original: &[u8], link: &[u8]) -> Result<()> {
        Fs::hard_link(self, original, link)
    }

    fn symlink(&self, target: &[u8], link: &[u8]) -> Result<()> {
        Fs::symlink(self, target, link)
    }

    fn mknod(&self, path: &[u8], mode: u32, major: u32, minor: u32) -> Result<()> {
        Fs::mknod(self, path, mode, major, minor)
    }

    fn set_permissions(&self, path: &[u8], permissions: Permissions) -> Result<()> {
        Fs::set_permissions(self, path, permissions)
    }

    fn set_times(&self, path: &[u8], times: FileTimes) -> Result<()> {
        Fs::set_times(self, path, times)
    }

    fn chown(&self, path: &[u8], uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.lchown(path, uid, gid)
    }

    fn truncate(&self, path: &[u8], size: u64) -> Result<()> {
        Fs::truncate(self, path, size)
    }

    fn statfs(&self, path: &[u8]) -> Result<StatFs> {
        Fs::statfs(self, path)
    }

    fn xattr(&self, path: &[u8], name: &[u8]) -> Result<Vec<u8>> {
        Fs::xattr(self, path, name)
    }

    fn list_xattrs(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        Fs::list_xattrs(self, path)
    }

    fn set_xattr(&self, path: &[u8], name: &[u8], value: &[u8]) -> Result<()> {
        Fs::set_xattr(self, path, name, value)
    }

    fn remove_xattr(&self, path: &[u8], name: &[u8]) -> Result<()> {
        Fs::remove_xattr(self, path, name)
    }
}

impl OpenFile for fs::File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        fs::File::read_at(self, into, offset)
    }

    fn write_at(&self, from: &[u8], offset: u64) -> Result<usize> {
        fs::File::write_at(self, from, offset)
    }

    fn metadata(&self) -> Result<Metadata> {
        fs::File::metadata(self)
    }

    fn set_len(&self, size: u64) -> Result<()> {
        fs::File::set_len(self, size)
    }

    fn set_permissions(&self, permissions: Permissions) -> Result<()> {
        fs::File::set_permissions(self, permissions)
    }

    fn set_times(&self, times: FileTimes) -> Result<()> {
        fs::File::set_times(self, times)
    }

    fn flush(&self) -> Result<()> {
        fs::File::flush(self)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        if data_only {
            self.sync_data()
        } else {
            self.sync_all()
        }
    }

    fn close(self: Box<Self>) -> Result<()> {
        fs::File::close(*self)
    }
}

/// A tree that can be read and not changed, whatever the tree under it allows: changes are EROFS and
/// never reach it.
pub struct ReadOnly(Rc<dyn Tree>);

impl ReadOnly {
    /// A read-only view of `tree`.
    pub fn new(tree: impl Tree + 'static) -> Self {
        ReadOnly(Rc::new(tree))
    }

    /// A read-only view of a tree that is shared.
    pub fn of(tree: Rc<dyn Tree>) -> Self {
        ReadOnly(tree)
    }
}

impl Tree for ReadOnly {
    fn probe(&self, path: &[u8]) -> Result<Probe> {
        self.0.probe(path)
    }

    fn open(&self, path: &[u8], options: &OpenOptions) -> Result<Box<dyn OpenFile>> {
        if options.is_write() {
            // As everywhere, what can't be is told before what may not be.
            let missing = match self.0.probe(path)? {
                Probe::Found { is_dir: true } => return Err(Errno::EISDIR.into()),
                Probe::Found { .. } => false,
                Probe::Link { .. } | Probe::Missing { .. } => true,
            };
            return Err(match missing && !options.is_create() {
                true => Error::from(Errno::ENOENT),
                false => Errno::EROFS.into(),
            });
        }
        self.0.open(path, options).map(|file| {
            let file: Box<dyn OpenFile> = Box::new(ReadOnlyFile(file));
            file
        })
    }

    fn metadata(&self, path: &[u8]) -> Result<Metadata> {
        self.0.metadata(path)
    }

    fn glance(&self, path: &[u8], follow: bool) -> Result<Option<Metadata>> {
        self.0.glance(path, follow)
    }

    fn open_at_once(
        &self,
        path: &[u8],
        options: &OpenOptions,
    ) -> Result<Option<Box<dyn OpenFile>>> {
        if options.is_write() || options.is_create() {
            return Ok(None);
        }
        let file = self.0.open_at_once(path, options)?;
        Ok(file.map(|file| -> Box<dyn OpenFile> { Box::new(ReadOnlyFile(file)) }))
    }

    fn read_dir(&self, path: &[u8]) -> Result<Entries> {
        self.0.read_dir(path)
    }

    fn read_dir_with_metadata(&self, path: &[u8]) -> Result<Entries> {
        self.0.read_dir_with_metadata(path)
    }

    fn statfs(&self, path: &[u8]) -> Result<StatFs> {
        self.0.statfs(path)
    }

    fn xattr(&self, path: &[u8], name: &[u8]) -> Result<Vec<u8>> {
        self.0.xattr(path, name)
    }

    fn list_xattrs(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.0.list_xattrs(path)
    }
}

/// A file of a read-only tree: its attributes can't be changed through the handle either.
struct ReadOnlyFile(Box<dyn OpenFile>);

impl OpenFile for ReadOnlyFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.0.read_at(into, offset)
    }

    fn write_at(&self, _from: &[u8], _offset: u64) -> Result<usize> {
        Err(Errno::EBADF.into())
    }

    fn metadata(&self) -> Result<Metadata> {
        self.0.metadata()
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.0.close()
    }
}
