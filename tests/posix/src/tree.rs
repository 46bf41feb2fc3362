//! FUSE's operations in terms of the client's: nothing is cached, every answer is the server's.

use std::collections::HashMap;

use fuser::{FileAttr, ReplyDirectory, TimeOrNow};
use xen9p::errno::Errno;
use xen9p::fs::{
    DirEntry, Error, File, FileTimes, Fs, MountOptions, Permissions, ReadDir, Result, StatFs,
};

use crate::convert::{self, flag};
use crate::nodes::{NodeId, Nodes};

/// A number that stands for an open file or directory.
pub type Handle = u64;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
}

/// A name in a directory that may or may not exist.
pub struct Place {
    pub parent: NodeId,
    pub name: Vec<u8>,
}

/// What to change of a file.
pub struct Changes {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<TimeOrNow>,
    pub modified: Option<TimeOrNow>,
}

struct OpenFile {
    node: NodeId,
    file: File,
}

struct OpenDir {
    node: NodeId,
    entries: ReadDir,
    /// The cookie of the entry that was listed last.
    at: u64,
    /// Fetched, but there was no room for it.
    pending: Option<DirEntry>,
}

/// The mounted tree, and all that is open in it.
pub struct Tree {
    root: Fs,
    options: MountOptions,
    callers: HashMap<Caller, Fs>,
    nodes: Nodes,
    files: HashMap<Handle, OpenFile>,
    dirs: HashMap<Handle, OpenDir>,
    last: Handle,
}

impl Tree {
    /// Shows what is mounted in `root`, with `options`.
    pub fn new(root: Fs, options: MountOptions) -> Self {
        Tree {
            root,
            options,
            callers: HashMap::new(),
            nodes: Nodes::new(),
            files: HashMap::new(),
            dirs: HashMap::new(),
            last: 0,
        }
    }

    /// Ends the connection in good order; the number of files that were still open.
    pub fn close(self) -> Result<usize> {
        let open = self.open_handles();
        drop((self.files, self.dirs, self.callers));
        self.root.unmount()?;
        Ok(open)
    }

    /// How many files and directories are open.
    pub fn open_handles(&self) -> usize {
        self.files.len() + self.dirs.len()
    }

    fn path(&self, node: NodeId) -> Result<Vec<u8>> {
        self.nodes.path(node).ok_or(Error::Errno(Errno::ENOENT))
    }

    fn place(&self, place: &Place) -> Result<Vec<u8>> {
        let path = self.nodes.child(place.parent, &place.name);
        path.ok_or(Error::Errno(Errno::ENOENT))
    }

    /// An open file of this node: what is left to reach it when it has lost its names.
    fn any_open(&self, node: NodeId) -> Option<&File> {
        self.files
            .values()
            .find(|open| open.node == node)
            .map(|open| &open.file)
    }

    fn file(&self, handle: Handle) -> Result<&File> {
        self.files
            .get(&handle)
            .map(|open| &open.file)
            .ok_or(Error::Errno(Errno::EBADF))
    }

    /// The tree as the caller sees it. What is made through it in the directory belongs to the
    /// caller, and to the group of the directory if its mode says so. The second value is that mode
    /// bit, for directories to inherit.
    fn as_caller(&mut self, caller: Caller, dir: NodeId) -> Result<(Fs, u32)> {
        let dir = self.root.symlink_metadata(self.path(dir)?)?;
        let inherited = dir.mode() & flag::SETGID;
        let gid = if inherited == 0 {
            caller.gid
        } else {
            dir.gid()
        };
        let caller = Caller { gid, ..caller };
        let fs = match self.callers.get(&caller) {
            Some(fs) => fs.clone(),
            None => {
                let name = if caller.uid == 0 {
                    "root".into()
                } else {
                    caller.uid.to_string()
                };
                let options = self.options.clone().user(name, caller.uid).gid(caller.gid);
                let fs = self.root.attach(&options)?;
                self.callers.insert(caller, fs.clone());
                fs
            }
        };
        Ok((fs, inherited))
    }

    pub fn lookup(&mut self, place: &Place) -> Result<FileAttr> {
        let metadata = self.root.symlink_metadata(self.place(place)?)?;
        let node = self.nodes.found(place.parent, &place.name, metadata.ino());
        Ok(convert::attributes(node, &metadata))
    }

    pub fn forget(&mut self, node: NodeId, lookups: u64) {
        self.nodes.forget(node, lookups);
    }

    pub fn attributes(&self, node: NodeId, handle: Option<Handle>) -> Result<FileAttr> {
        let metadata = match (handle, self.nodes.path(node)) {
            (Some(handle), _) => self.file(handle)?.metadata()?,
            (None, Some(path)) => self.root.symlink_metadata(path)?,
            (None, None) => match self.any_open(node) {
                Some(file) => file.metadata()?,
                None => return Err(Error::Errno(Errno::ENOENT)),
            },
        };
        Ok(convert::attributes(node, &metadata))
    }

    pub fn change(&self, node: NodeId, handle: Option<Handle>, to: &Changes) -> Result<FileAttr> {
        let file = match handle {
            Some(handle) => Some(self.file(handle)?),
            None if self.nodes.path(node).is_none() => self.any_open(node),
            None => None,
        };
        let path = self.nodes.path(node).unwrap_or_default();
        if to.uid.is_some() || to.gid.is_some() {
            self.root.lchown(&path, to.uid, to.gid)?;
        }
        if let Some(mode) = to.mode {
            let permissions = Permissions::from_mode(mode);
            match file {
                Some(file) => file.set_permissions(permissions)?,
                None => self.root.set_permissions(&path, permissions)?,
            }
        }
        if let Some(size) = to.size {
            match file {
                Some(file) => file.set_len(size)?,
                None => self.root.truncate(&path, size)?,
            }
        }
        if to.accessed.is_some() || to.modified.is_some() {
            let times: FileTimes = convert::times(to.accessed, to.modified);
            match file {
                Some(file) => file.set_times(times)?,
                None => self.root.set_times_nofollow(&path, times)?,
            }
        }
        self.attributes(node, handle)
    }

    pub fn read_link(&self, node: NodeId) -> Result<Vec<u8>> {
        self.root.read_link(self.path(node)?)
    }

    pub fn make_node(
        &mut self,
        caller: Caller,
        place: &Place,
        mode: u32,
        rdev: u32,
    ) -> Result<FileAttr> {
        let path = self.place(place)?;
        let (fs, _) = self.as_caller(caller, place.parent)?;
        let (major, minor) = convert::device(rdev);
        fs.mknod(path, mode, major, minor)?;
        self.lookup(place)
    }

    pub fn make_dir(&mut self, caller: Caller, place: &Place, mode: u32) -> Result<FileAttr> {
        let path = self.place(place)?;
        let (fs, inherited) = self.as_caller(caller, place.parent)?;
        let fs = fs.to_async();
        fs.session()
            .block_on(fs.create_dir_with_mode(path, mode | inherited))?;
        self.lookup(place)
    }

    pub fn make_symlink(
        &mut self,
        caller: Caller,
        place: &Place,
        target: &[u8],
    ) -> Result<FileAttr> {
        let path = self.place(place)?;
        let (fs, _) = self.as_caller(caller, place.parent)?;
        fs.symlink(target, path)?;
        self.lookup(place)
    }

    pub fn make_link(&mut self, node: NodeId, place: &Place) -> Result<FileAttr> {
        self.root.hard_link(self.path(node)?, self.place(place)?)?;
        self.lookup(place)
    }

    pub fn remove_file(&mut self, place: &Place) -> Result<()> {
        let path = self.place(place)?;
        let links = self.root.symlink_metadata(&path)?.nlink();
        self.root.remove_file(path)?;
        self.nodes.removed(place.parent, &place.name, links <= 1);
        Ok(())
    }

    pub fn remove_dir(&mut self, place: &Place) -> Result<()> {
        self.root.remove_dir(self.place(place)?)?;
        self.nodes.removed(place.parent, &place.name, true);
        Ok(())
    }

    pub fn rename(&mut self, from: &Place, to: &Place) -> Result<()> {
        let (old, new) = (self.place(from)?, self.place(to)?);
        let moved = self.root.symlink_metadata(&old)?;
        let replaced = self.root.symlink_metadata(&new).ok();
        self.root.rename(old, new)?;
        // Two names of one file: POSIX wants nothing done.
        if replaced.is_some_and(|replaced| replaced.ino() == moved.ino()) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            let last = replaced.is_dir() || replaced.nlink() <= 1;
            self.nodes.removed(to.parent, &to.name, last);
        }
        self.nodes
            .renamed((from.parent, &from.name), (to.parent, &to.name));
        Ok(())
    }

    pub fn open(&mut self, node: NodeId, flags: i32) -> Result<Handle> {
        let file = self
            .root
            .open_with(self.path(node)?, &convert::open_options(flags))?;
        Ok(self.keep_file(node, file))
    }

    pub fn create(
        &mut self,
        caller: Caller,
        place: &Place,
        mode: u32,
        flags: i32,
    ) -> Result<(FileAttr, Handle)> {
        let path = self.place(place)?;
        let (fs, _) = self.as_caller(caller, place.parent)?;
        let mut options = convert::open_options(flags);
        options.mode(mode & 0o7777);
        if flags & flag::EXCL == 0 {
            options.create(true);
        } else {
            options.create_new(true);
        }
        let file = if flag::writes(flags) {
            fs.open_with(path, &options)?
        } else {
            // std's rule, which is the client's: only who writes makes files.
            fs.open_with(&path, options.write(true))?.close()?;
            self.root.open(path)?
        };
        let attributes = self.lookup(place)?;
        Ok((attributes, self.keep_file(attributes.ino.0, file)))
    }

    fn keep_file(&mut self, node: NodeId, file: File) -> Handle {
        self.last += 1;
        self.files.insert(self.last, OpenFile { node, file });
        self.last
    }

    pub fn read(&self, handle: Handle, offset: u64, size: usize) -> Result<Vec<u8>> {
        let file = self.file(handle)?;
        let mut data = vec![0; size];
        let mut done = 0;
        // The kernel takes a short read for the end of the file.
        while done < size {
            match file.read_at(&mut data[done..], offset + done as u64)? {
                0 => break,
                len => done += len,
            }
        }
        data.truncate(done);
        Ok(data)
    }

    pub fn write(&self, handle: Handle, offset: u64, data: &[u8]) -> Result<u32> {
        self.file(handle)?.write_all_at(data, offset)?;
        Ok(data.len() as u32)
    }

    pub fn sync(&self, handle: Handle, data_only: bool) -> Result<()> {
        let file = self.file(handle)?;
        if data_only {
            file.sync_data()
        } else {
            file.sync_all()
        }
    }

    pub fn close_file(&mut self, handle: Handle) -> Result<()> {
        match self.files.remove(&handle) {
            Some(open) => open.file.close(),
            None => Err(Error::Errno(Errno::EBADF)),
        }
    }

    pub fn open_dir(&mut self, node: NodeId) -> Result<Handle> {
        let entries = self.root.read_dir(self.path(node)?)?;
        self.last += 1;
        self.dirs.insert(
            self.last,
            OpenDir {
                node,
                entries,
                at: 0,
                pending: None,
            },
        );
        Ok(self.last)
    }

    /// Lists what comes after `offset`, as far as there is room. "." and ".." are left out, as in
    /// the client; POSIX allows it.
    pub fn read_dir(
        &mut self,
        handle: Handle,
        offset: u64,
        reply: &mut ReplyDirectory,
    ) -> Result<()> {
        let dir = self
            .dirs
            .get_mut(&handle)
            .ok_or(Error::Errno(Errno::EBADF))?;
        if offset != dir.at {
            dir.entries.seek(offset);
            dir.at = offset;
            dir.pending = None;
        }
        while let Some(entry) = dir.pending.take().map(Ok).or_else(|| dir.entries.next()) {
            let entry = entry?;
            let kind = convert::kind(entry.file_type()?);
            let name = convert::os_str(entry.file_name());
            let node = self.nodes.listed(entry.ino());
            if reply.add(fuser::INodeNo(node), entry.cookie(), kind, name) {
                dir.pending = Some(entry);
                break;
            }
            dir.at = entry.cookie();
        }
        Ok(())
    }

    pub fn sync_dir(&self, handle: Handle, data_only: bool) -> Result<()> {
        let dir = self.dirs.get(&handle).ok_or(Error::Errno(Errno::EBADF))?;
        let file = self.root.open(self.path(dir.node)?)?;
        if data_only {
            file.sync_data()
        } else {
            file.sync_all()
        }
    }

    pub fn close_dir(&mut self, handle: Handle) -> Result<()> {
        self.dirs
            .remove(&handle)
            .map(drop)
            .ok_or(Error::Errno(Errno::EBADF))
    }

    pub fn statfs(&self, node: NodeId) -> Result<StatFs> {
        self.root.statfs(self.path(node)?)
    }

    pub fn xattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        self.root.xattr(self.path(node)?, name)
    }

    /// All names, each with a NUL behind it.
    pub fn list_xattrs(&self, node: NodeId) -> Result<Vec<u8>> {
        let names = self.root.list_xattrs(self.path(node)?)?;
        Ok(names
            .into_iter()
            .flat_map(|name| [name, vec![0]].concat())
            .collect())
    }

    pub fn set_xattr(&self, node: NodeId, name: &[u8], value: &[u8]) -> Result<()> {
        self.root.set_xattr(self.path(node)?, name, value)
    }

    pub fn remove_xattr(&self, node: NodeId, name: &[u8]) -> Result<()> {
        self.root.remove_xattr(self.path(node)?, name)
    }
}
