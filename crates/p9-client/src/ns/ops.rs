//! Operations on files and their attributes.

use alloc::string::String;
use alloc::vec::Vec;

use super::resolve::Lookup;
use super::{File, Namespace, ReadDir};
use crate::fs::{Error, FileTimes, FileType, Metadata, OpenOptions, Permissions, Result, StatFs};
use p9_tree::CleanPath;
use p9_wire::Errno;

/// Buffer of a copy, in bytes.
const COPY_BUFFER: usize = 256 << 10;

impl Namespace {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open(&self, path: impl AsRef<[u8]>) -> Result<File> {
        self.open_with(path, OpenOptions::new().read(true))
    }

    /// Opens a file for writing; makes it, or empties the one that is there.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn create(&self, path: impl AsRef<[u8]>) -> Result<File> {
        let mut options = OpenOptions::new();
        self.open_with(path, options.write(true).create(true).truncate(true))
    }

    /// Opens a file as `options` say; one that is made takes the place that the rules for unions give it.
    ///
    /// # Errors
    /// As [`Fs::open_with`](crate::fs::Fs::open_with); EROFS where nothing can be made.
    pub fn open_with(&self, path: impl AsRef<[u8]>, options: &OpenOptions) -> Result<File> {
        options.check()?;
        let path = CleanPath::new(path.as_ref())?;
        let wants_dir = path.wants_dir();
        let opened = self.at_once(&path, |element| {
            element.tree.open_at_once(element.at.as_bytes(), options)
        });
        match opened {
            Ok(Some(file)) => return Ok(File::new(file, options.is_append())),
            // The rules for what is made are the name space's.
            Err(error) if !options.is_create() || !error.is_not_found() => return Err(error),
            _ => {}
        }
        let element = match self.lookup(path, !options.is_create_new())? {
            Lookup::Found(_) if options.is_create_new() => return Err(Errno::EEXIST.into()),
            // Files are not made by the name of a directory.
            _ if wants_dir && options.is_create() => return Err(Errno::EISDIR.into()),
            // A directory made of mount points alone.
            Lookup::Found(found) if found.elements.is_empty() => return Err(Errno::EISDIR.into()),
            Lookup::Found(found) => found.element()?.clone(),
            Lookup::Missing(parent, name) if options.is_create() => self.place(&parent, &name)?,
            Lookup::Missing(..) => return Err(Errno::ENOENT.into()),
        };
        let file = element.tree.open(element.at.as_bytes(), options)?;
        Ok(File::new(file, options.is_append()))
    }

    /// The whole content of a file.
    ///
    /// # Errors
    /// EISDIR for a directory.
    pub fn read(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The whole content of a text file.
    ///
    /// # Errors
    /// [`Error::NotUtf8`].
    pub fn read_to_string(&self, path: impl AsRef<[u8]>) -> Result<String> {
        String::from_utf8(self.read(path)?).map_err(|_| Error::NotUtf8)
    }

    /// Makes or replaces a file with this content, and closes it.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn write(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Result<()> {
        let file = self.create(path)?;
        file.write_all(content.as_ref())?;
        file.close()
    }

    /// Copies the content and the permission bits of a file, from any tree to any other; returns the
    /// number of bytes.
    ///
    /// # Errors
    /// EISDIR for a directory, [`Error::InvalidInput`] for what is neither that nor a regular file, and for a file
    /// that would be copied onto itself.
    pub fn copy(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<u64> {
        let (source, target) = (from.as_ref(), to.as_ref());
        let from = self.open(source)?;
        let metadata = from.metadata()?;
        if metadata.is_dir() {
            return Err(Errno::EISDIR.into());
        }
        if !metadata.is_file() {
            return Err(Error::InvalidInput("only regular files are copied"));
        }
        let room = usize::try_from(metadata.len()).unwrap_or(COPY_BUFFER);
        let mut buffer = Vec::new();
        let room = room.clamp(4096, COPY_BUFFER);
        buffer
            .try_reserve_exact(room)
            .map_err(|_| Error::OutOfMemory)?;
        buffer.resize(room, 0);
        // The target stays as it is until there is something to write, or is known to be nothing.
        let mut count = from.read(&mut buffer)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true);
        options.mode(metadata.permissions().mode());
        let to = self.open_with(target, &options)?;
        let there = to.metadata()?;
        if there.len() > 0 {
            // One that changed meanwhile may be the same all the same.
            let same = there.ino() == metadata.ino()
                && (there.is_like(&metadata) || !from.metadata()?.is_like(&metadata));
            let system = |path: &[u8]| self.statfs(path).ok().map(|found| (found.id, found.kind));
            if same && system(source) == system(target) {
                return Err(Error::InvalidInput("a file is not copied onto itself"));
            }
            to.set_len(0)?;
        }
        let mut done = 0;
        while let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) {
            to.write_all(bytes)?;
            done += count as u64;
            count = from.read(&mut buffer)?;
        }
        // A new file lacks what the umask took.
        to.set_permissions(metadata.permissions())?;
        to.close()?;
        Ok(done)
    }

    /// The entries of a directory: those of its trees, without "." and "..", each name once, and the
    /// mount points in it.
    ///
    /// # Errors
    /// ENOTDIR.
    pub fn read_dir(&self, path: impl AsRef<[u8]>) -> Result<ReadDir> {
        let found = self.find(path.as_ref(), true)?;
        ReadDir::open(self, path.as_ref(), &found, false)
    }

    /// As [`read_dir`](Self::read_dir), for a program that will call [`metadata`](super::DirEntry::metadata) of all entries:
    /// trees on a server are asked for the attributes of many at the same time.
    ///
    /// # Errors
    /// ENOTDIR.
    pub fn read_dir_with_metadata(&self, path: impl AsRef<[u8]>) -> Result<ReadDir> {
        let found = self.find(path.as_ref(), true)?;
        ReadDir::open(self, path.as_ref(), &found, true)
    }

    /// Attributes of what the path leads to; of a mount point, those of what is mounted there.
    ///
    /// # Errors
    /// ENOENT.
    pub fn metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        self.stat(path.as_ref(), true)
    }

    /// Attributes of what the path names; of a symbolic link its own.
    ///
    /// # Errors
    /// ENOENT.
    pub fn symlink_metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        self.stat(path.as_ref(), false)
    }

    /// Whether the path leads to something. Errors other than "no such file" are errors.
    ///
    /// # Errors
    /// ENOTDIR, among others.
    pub fn exists(&self, path: impl AsRef<[u8]>) -> Result<bool> {
        match self.find(path.as_ref(), true) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Changes the permission bits.
    ///
    /// # Errors
    /// What the tree says.
    pub fn set_permissions(&self, path: impl AsRef<[u8]>, permissions: Permissions) -> Result<()> {
        let found = self.find(path.as_ref(), true)?;
        let element = found.element()?;
        element
            .tree
            .set_permissions(element.at.as_bytes(), permissions)
    }

    /// Changes access and modification time.
    ///
    /// # Errors
    /// What the tree says.
    pub fn set_times(&self, path: impl AsRef<[u8]>, times: FileTimes) -> Result<()> {
        let found = self.find(path.as_ref(), true)?;
        let element = found.element()?;
        element.tree.set_times(element.at.as_bytes(), times)
    }

    /// Changes owner and group; `None` leaves one as it is.
    ///
    /// # Errors
    /// What the tree says.
    pub fn chown(&self, path: impl AsRef<[u8]>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let found = self.find(path.as_ref(), true)?;
        let element = found.element()?;
        element.tree.chown(element.at.as_bytes(), uid, gid)
    }

    /// As [`chown`](Self::chown), but of a symbolic link itself.
    ///
    /// # Errors
    /// What the tree says.
    pub fn lchown(&self, path: impl AsRef<[u8]>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let found = self.find(path.as_ref(), false)?;
        let element = found.element()?;
        element.tree.chown(element.at.as_bytes(), uid, gid)
    }

    /// Cuts or extends (with zeros) a file to `size` bytes.
    ///
    /// # Errors
    /// EISDIR.
    pub fn truncate(&self, path: impl AsRef<[u8]>, size: u64) -> Result<()> {
        let found = self.find(path.as_ref(), true)?;
        if found.is_dir {
            return Err(Errno::EISDIR.into());
        }
        let element = found.element()?;
        element.tree.truncate(element.at.as_bytes(), size)
    }

    /// How full the file system is that the path lies on.
    ///
    /// # Errors
    /// EOPNOTSUPP where nobody knows.
    pub fn statfs(&self, path: impl AsRef<[u8]>) -> Result<StatFs> {
        let found = self.find(path.as_ref(), true)?;
        let element = found.elements.first().ok_or(Errno::EOPNOTSUPP)?;
        element.tree.statfs(element.at.as_bytes())
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// ENODATA when there is none of this name; EOPNOTSUPP from trees that have none at all.
    pub fn xattr(&self, path: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let found = self.find(path.as_ref(), true)?;
        let element = found.elements.first().ok_or(Errno::EOPNOTSUPP)?;
        element.tree.xattr(element.at.as_bytes(), name.as_ref())
    }

    /// The names of all extended attributes.
    ///
    /// # Errors
    /// EOPNOTSUPP from trees that have none at all.
    pub fn list_xattrs(&self, path: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>> {
        let found = self.find(path.as_ref(), true)?;
        let element = found.elements.first().ok_or(Errno::EOPNOTSUPP)?;
        element.tree.list_xattrs(element.at.as_bytes())
    }

    /// Sets an extended attribute, new or not; 64 KiB at most.
    ///
    /// # Errors
    /// EOPNOTSUPP from trees that have none at all.
    pub fn set_xattr(
        &self,
        path: impl AsRef<[u8]>,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        let found = self.find(path.as_ref(), true)?;
        let (element, name) = (found.element()?, name.as_ref());
        element
            .tree
            .set_xattr(element.at.as_bytes(), name, value.as_ref())
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// ENODATA when there is none of this name.
    pub fn remove_xattr(&self, path: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<()> {
        let found = self.find(path.as_ref(), true)?;
        let element = found.element()?;
        element
            .tree
            .remove_xattr(element.at.as_bytes(), name.as_ref())
    }

    fn stat(&self, path: &[u8], follow: bool) -> Result<Metadata> {
        let path = CleanPath::new(path)?;
        let seen = self.at_once(&path, |element| {
            element.tree.glance(element.at.as_bytes(), follow)
        });
        if let Some(metadata) = seen? {
            return Ok(metadata);
        }
        let found = match self.lookup(path, follow)? {
            Lookup::Found(found) => found,
            Lookup::Missing(..) => return Err(Errno::ENOENT.into()),
        };
        match found.elements.first() {
            Some(element) => element.tree.metadata(element.at.as_bytes()),
            None => Ok(Metadata::new(FileType::DIR.mode() | 0o555, 0)),
        }
    }
}
