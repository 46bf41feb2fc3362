//! Operations on files and their attributes.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use p9_wire::{AttrMask, Errno, OpenFlags, QidKind, SetAttr, SetAttrMask, XattrFlags};

use super::element::Mounted;
use super::resolve::{Lookup, Place, View};
use super::{File, Namespace, ReadDir};
use crate::{
    CleanPath, DynFile, DynNode, Error, FileTimes, FileType, Metadata, Node, OpenOptions, OpenPath,
    Permissions, Result, StatFs, Walked,
};

/// The largest value of an extended attribute, in bytes (Linux's XATTR_SIZE_MAX and XATTR_LIST_MAX).
const MAX_XATTR: usize = 64 << 10;

/// What is asked for of a file.
pub(super) const ATTRIBUTES: AttrMask = AttrMask::BASIC.union(AttrMask::BTIME);

/// Others may create and remove the file between two of our requests.
const TRIES: usize = 8;

impl View {
    /// Opens a file as the options say; with the file, the driver of its tree.
    pub(super) fn open(&self, path: &[u8], options: &OpenOptions) -> Result<File> {
        options.check()?;
        let path = CleanPath::new(path)?;
        let wants_dir = path.wants_dir();
        // Where the file is likely to be new, a request is saved by trying that first.
        let new = options.is_create_new() || (options.is_create() && options.is_truncate());
        let opened = match (new, options.is_truncate()) {
            (true, _) => self.create_at_once(&path, options)?,
            (false, true) => None,
            (false, false) => self.open_at_once(&path, options)?,
        };
        if let Some(file) = opened {
            return Ok(file);
        }
        let mut flags = options.open_flags();
        flags.set(OpenFlags::TRUNCATE, options.is_truncate());
        for _ in 0..TRIES {
            let lookup = self.lookup(path.clone(), !options.is_create_new())?;
            match lookup {
                Lookup::Found(_) if options.is_create_new() => return Err(Errno::EEXIST.into()),
                // Files are not made by the name of a directory.
                _ if wants_dir && options.is_create() => return Err(Errno::EISDIR.into()),
                // A directory made of mount points alone.
                Lookup::Found(found) if found.elements.is_empty() => {
                    return Err(Errno::EISDIR.into());
                }
                Lookup::Found(found) => {
                    let tree = found.element()?.tree.clone();
                    let node = found.into_node()?;
                    options.check_kind(node.qid())?;
                    let file = tree.run(node.into_any().into_open(flags))?;
                    return Ok(File::new(file, tree, options.is_append()));
                }
                Lookup::Missing(parent, name) if options.is_create() => {
                    let place = self.place(&parent, &name)?;
                    match self.create_at(place, options) {
                        Err(Error::Errno(Errno::EEXIST)) if !options.is_create_new() => {}
                        made => return made,
                    }
                }
                Lookup::Missing(..) => return Err(Errno::ENOENT.into()),
            }
        }
        Err(Errno::EEXIST.into())
    }

    /// Makes a file that is not there.
    fn create_at(&self, place: Place, options: &OpenOptions) -> Result<File> {
        let Place { dir, node, name } = place;
        let new = dir.tree.new_files;
        let mode = options.new_mode() & 0o7777 & !new.umask;
        let flags = options.open_flags() | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        let made = node.into_any().into_create(&name, flags, mode, new.gid);
        let made = dir.tree.run(made)?;
        Ok(File::new(made, dir.tree, options.is_append()))
    }

    /// Makes a file, where one tree alone may have it and no symbolic link is on the way. `None`: to be looked up.
    fn create_at_once(&self, path: &CleanPath, options: &OpenOptions) -> Result<Option<File>> {
        let Some(place) = self.place_at_once(path)? else {
            return Ok(None);
        };
        match self.create_at(place, options) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error == Errno::EEXIST.into() && options.is_create_new() => Err(error),
            Err(error) if error.is_of_the_path() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a file that is there, where one tree alone may have it and no symbolic link is on the way.
    fn open_at_once(&self, path: &CleanPath, options: &OpenOptions) -> Result<Option<File>> {
        let flags = options.open_flags();
        self.at_once(path, |element| {
            let (tree, names) = (&element.tree, element.names());
            let last = names.len().saturating_sub(1);
            let opened: Walked<DynFile> = tree.run(tree.root.any().open_at(&names, flags))?;
            match opened {
                Walked::Through(file, _) => {
                    Ok(Some(File::new(file, tree.clone(), options.is_append())))
                }
                Walked::Link(_) => Ok(None),
                Walked::Blocked(at, error) if at < last || !error.is_not_found() => Err(error),
                // The rules for what is made are the name space's.
                Walked::Blocked(..) if options.is_create() => Ok(None),
                Walked::Blocked(_, error) => Err(error),
            }
        })
    }

    pub(super) fn stat(&self, path: &[u8], follow: bool) -> Result<Metadata> {
        let path = CleanPath::new(path)?;
        let seen = self.at_once(&path, |element| {
            let (tree, names) = (&element.tree, element.names());
            let walk = tree.root.any().getattr_at(&names, ATTRIBUTES);
            match tree.run(walk)? {
                Walked::Through(_, qid) if follow && qid.kind.contains(QidKind::SYMLINK) => {
                    Ok(None)
                }
                Walked::Through(attr, _) => Ok(Some(Metadata::from(&attr))),
                Walked::Link(_) => Ok(None),
                Walked::Blocked(_, error) => Err(error),
            }
        });
        if let Some(metadata) = seen? {
            return Ok(metadata);
        }
        let found = match self.lookup(path, follow)? {
            Lookup::Found(found) => found,
            Lookup::Missing(..) => return Err(Errno::ENOENT.into()),
        };
        if found.elements.is_empty() {
            return Ok(Metadata::new(FileType::DIR.mode() | 0o555, 0));
        }
        let tree = found.element()?.tree.clone();
        let node = found.into_node()?;
        let attr = tree.run(node.any().getattr(ATTRIBUTES))?;
        Ok(Metadata::from(&attr))
    }

    /// The node that a path leads to, and its tree. `missing` is the error for a directory that only leads to mount
    /// points.
    fn node_at(&self, path: &[u8], follow: bool, missing: Errno) -> Result<(Rc<Mounted>, DynNode)> {
        let found = self.find(path, follow)?;
        let tree = found.elements.first().ok_or(missing)?.tree.clone();
        Ok((tree, found.into_node()?))
    }

    fn setattr(&self, path: &[u8], follow: bool, attr: SetAttr) -> Result<()> {
        let (tree, node) = self.node_at(path, follow, Errno::EROFS)?;
        if attr.valid.is_empty() {
            return Ok(());
        }
        tree.run(node.any().setattr(&attr))
    }
}

/// A change of owner and group.
fn owner(uid: Option<u32>, gid: Option<u32>) -> SetAttr {
    let mut attr = SetAttr::default();
    attr.valid.set(SetAttrMask::UID, uid.is_some());
    attr.valid.set(SetAttrMask::GID, gid.is_some());
    (attr.uid, attr.gid) = (uid.unwrap_or(0), gid.unwrap_or(0));
    attr
}

/// A change of the permission bits.
pub(super) fn mode(permissions: Permissions) -> SetAttr {
    SetAttr {
        valid: SetAttrMask::MODE,
        mode: permissions.mode(),
        ..SetAttr::default()
    }
}

/// A change of the size.
pub(super) fn size(size: u64) -> SetAttr {
    SetAttr {
        valid: SetAttrMask::SIZE,
        size,
        ..SetAttr::default()
    }
}

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
    /// As `Fs::open_with`; EROFS where nothing can be made.
    pub fn open_with(&self, path: impl AsRef<[u8]>, options: &OpenOptions) -> Result<File> {
        self.run(|view| view.open(path.as_ref(), options))
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
        let path = path.as_ref();
        self.run(|view| ReadDir::open(view, path, false))
    }

    /// As [`read_dir`](Self::read_dir), for a program that will call [`metadata`](super::DirEntry::metadata) of all entries:
    /// trees on a server are asked for the attributes of many at the same time.
    ///
    /// # Errors
    /// ENOTDIR.
    pub fn read_dir_with_metadata(&self, path: impl AsRef<[u8]>) -> Result<ReadDir> {
        let path = path.as_ref();
        self.run(|view| ReadDir::open(view, path, true))
    }

    /// Attributes of what the path leads to; of a mount point, those of what is mounted there.
    ///
    /// # Errors
    /// ENOENT.
    pub fn metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        self.run(|view| view.stat(path.as_ref(), true))
    }

    /// Attributes of what the path names; of a symbolic link its own.
    ///
    /// # Errors
    /// ENOENT.
    pub fn symlink_metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        self.run(|view| view.stat(path.as_ref(), false))
    }

    /// Whether the path leads to something. Errors other than "no such file" are errors.
    ///
    /// # Errors
    /// ENOTDIR, among others.
    pub fn exists(&self, path: impl AsRef<[u8]>) -> Result<bool> {
        match self.find(path.as_ref()) {
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
        let attr = mode(permissions);
        self.run(|view| view.setattr(path.as_ref(), true, attr))
    }

    /// Changes access and modification time.
    ///
    /// # Errors
    /// What the tree says.
    pub fn set_times(&self, path: impl AsRef<[u8]>, times: FileTimes) -> Result<()> {
        let attr = times.to_setattr();
        self.run(|view| view.setattr(path.as_ref(), true, attr))
    }

    /// Changes owner and group; `None` leaves one as it is.
    ///
    /// # Errors
    /// What the tree says.
    pub fn chown(&self, path: impl AsRef<[u8]>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let attr = owner(uid, gid);
        self.run(|view| view.setattr(path.as_ref(), true, attr))
    }

    /// As [`chown`](Self::chown), but of a symbolic link itself.
    ///
    /// # Errors
    /// What the tree says.
    pub fn lchown(&self, path: impl AsRef<[u8]>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let attr = owner(uid, gid);
        self.run(|view| view.setattr(path.as_ref(), false, attr))
    }

    /// Cuts or extends (with zeros) a file to `len` bytes.
    ///
    /// # Errors
    /// EISDIR.
    pub fn truncate(&self, path: impl AsRef<[u8]>, len: u64) -> Result<()> {
        let path = path.as_ref();
        self.run(|view| {
            let (tree, node) = view.node_at(path, true, Errno::EISDIR)?;
            if node.qid().kind.contains(QidKind::DIR) {
                return Err(Errno::EISDIR.into());
            }
            let attr = size(len);
            tree.run(node.any().setattr(&attr))
        })
    }

    /// How full the file system is that the path lies on.
    ///
    /// # Errors
    /// EOPNOTSUPP where nobody knows.
    pub fn statfs(&self, path: impl AsRef<[u8]>) -> Result<StatFs> {
        let path = path.as_ref();
        let stat = self.run(|view| {
            let (tree, node) = view.node_at(path, true, Errno::EOPNOTSUPP)?;
            tree.run(node.any().statfs())
        })?;
        Ok(StatFs::from(&stat))
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// ENODATA when there is none of this name; EOPNOTSUPP from trees that have none at all.
    pub fn xattr(&self, path: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let (path, name) = (path.as_ref(), name.as_ref());
        self.run(|view| {
            let (tree, node) = view.node_at(path, true, Errno::EOPNOTSUPP)?;
            tree.run(node.any().xattr(name, MAX_XATTR))
        })
    }

    /// The names of all extended attributes.
    ///
    /// # Errors
    /// EOPNOTSUPP from trees that have none at all.
    pub fn list_xattrs(&self, path: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>> {
        let path = path.as_ref();
        let list = self.run(|view| {
            let (tree, node) = view.node_at(path, true, Errno::EOPNOTSUPP)?;
            tree.run(node.any().list_xattrs(MAX_XATTR))
        })?;
        let names = list.split(|&byte| byte == 0);
        let names = names.filter(|name| !name.is_empty());
        Ok(names.map(<[u8]>::to_vec).collect())
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
        let (path, name, value) = (path.as_ref(), name.as_ref(), value.as_ref());
        let flags = XattrFlags::empty();
        self.run(|view| {
            let (tree, node) = view.node_at(path, true, Errno::EROFS)?;
            tree.run(node.any().set_xattr(name, value, flags))
        })
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// ENODATA when there is none of this name.
    pub fn remove_xattr(&self, path: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<()> {
        let (path, name) = (path.as_ref(), name.as_ref());
        self.run(|view| {
            let (tree, node) = view.node_at(path, true, Errno::EROFS)?;
            tree.run(node.any().remove_xattr(name))
        })
    }
}

impl OpenPath for Namespace {
    type File = File;

    fn open_path(&self, path: &[u8], options: &OpenOptions) -> Result<File> {
        self.open_with(path, options)
    }
}
