//! [`HostNode`]: a file of a share, by a descriptor.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use p9_tree::{Created, Error, Node, Result};
use p9_wire::{
    Attr, AttrMask, Errno, FileKind, OpenFlags, Qid, SetAttr, Statfs, UnlinkFlags, XattrFlags,
};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx};

use super::file::{HostFile, changes, open_flags};
use super::limits::Usage;
use super::way::{Way, check_name};
use super::{Attach, FileId, Tree, attributes, errno, sys};

/// How often a create without EXCLUSIVE looks again when the name comes and goes under it.
pub(super) const MAX_CREATE_TRIES: u32 = 100;

/// The bits of a mode that are not the kind.
pub(super) const MODE_BITS: u32 = 0o7777;

/// A file of a [`HostTree`](super::HostTree). Holds one descriptor (`O_PATH`) until the last clone is dropped; none before it is needed
/// where the file was only looked at, or made and opened by the same request.
#[derive(Clone)]
pub struct HostNode(Arc<Inner>);

struct Inner {
    /// Not there before it is needed, where there is another way to the file.
    fd: OnceLock<Arc<OwnedFd>>,
    way: Way,
    qid: Qid,
    /// Whether `qid` has been looked up for the next who asks.
    is_fresh: AtomicBool,
    kind: FileKind,
    id: FileId,
    /// Whether the file lies on the mount that the share's root does.
    is_on_own_mount: bool,
    attach: Arc<Attach>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let (Some(usage), Some(fd)) = (&self.attach.tree.usage, self.fd.get()) {
            usage.closed(self.id, fd);
        }
    }
}

impl fmt::Debug for HostNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostNode")
            .field("fd", &self.0.fd)
            .field("qid", &self.0.qid)
            .finish()
    }
}

impl HostNode {
    pub(super) fn new(attach: Arc<Attach>, fd: OwnedFd) -> Result<HostNode> {
        let stat = sys::stat(&fd).map_err(errno)?;
        let tree = &attach.tree;
        if let Some(usage) = &tree.usage {
            // From here on a node there is, which gives it back.
            tree.qids.qid(&stat)?;
            usage.opened(FileId::of(&stat), &fd)?;
        }
        HostNode::with_fd(attach, Arc::new(fd), &stat)
    }

    /// The file of this descriptor, of which `stat` has just been learnt.
    pub(super) fn with_fd(attach: Arc<Attach>, fd: Arc<OwnedFd>, stat: &Statx) -> Result<HostNode> {
        HostNode::build(attach, OnceLock::from(fd), Way::Descriptor, stat)
    }

    /// A file that there is a way to, and of which `stat` has just been learnt.
    pub(super) fn without_fd(attach: Arc<Attach>, way: Way, stat: &Statx) -> Result<HostNode> {
        HostNode::build(attach, OnceLock::new(), way, stat)
    }

    fn build(
        attach: Arc<Attach>,
        fd: OnceLock<Arc<OwnedFd>>,
        way: Way,
        stat: &Statx,
    ) -> Result<HostNode> {
        let tree = &attach.tree;
        Ok(HostNode(Arc::new(Inner {
            fd,
            way,
            qid: tree.qids.qid(stat)?,
            is_fresh: AtomicBool::new(true),
            kind: sys::file_kind(stat),
            id: FileId::of(stat),
            is_on_own_mount: tree.is_own_mount(stat),
            attach,
        })))
    }

    /// The descriptor.
    ///
    /// # Errors
    /// ESTALE where there was none yet, and the name that the file was looked at by is another's now.
    pub(super) fn fd(&self) -> Result<BorrowedFd<'_>> {
        if self.0.fd.get().is_none() {
            let opened = self.0.way.open(self.tree(), self.0.id);
            // Another thread may have been quicker, after which there is no way any more.
            if let Ok(fd) = opened {
                let _ = self.0.fd.set(Arc::new(fd));
            } else if self.0.fd.get().is_none() {
                opened?;
            }
        }
        let fd = self.0.fd.get().ok_or(Errno::ESTALE)?;
        Ok(fd.as_fd())
    }

    /// Opens the file for good if others than the caller have this node: the way to it is about to end.
    pub(super) fn outlive_way(&self) {
        if Arc::strong_count(&self.0) > 1 {
            // Where there is no descriptor left for it, they get ESTALE.
            let _ = self.fd();
        }
    }

    /// The descriptor, to be kept.
    pub(super) fn own_fd(&self) -> Result<Arc<OwnedFd>> {
        self.fd()?;
        self.0.fd.get().cloned().ok_or(Errno::EIO.into())
    }

    pub(super) fn attach_arc(&self) -> Arc<Attach> {
        Arc::clone(&self.0.attach)
    }

    pub(super) fn is_on_own_mount(&self) -> bool {
        self.0.is_on_own_mount
    }

    pub(super) fn id(&self) -> FileId {
        self.0.id
    }

    pub(super) fn kind(&self) -> FileKind {
        self.0.kind
    }

    pub(super) fn attach(&self) -> &Attach {
        &self.0.attach
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.0.attach.tree
    }

    pub(super) fn usage(&self) -> Option<&Usage> {
        self.tree().usage.as_ref()
    }

    /// Opens this file once more, for reading and writing its content; refuses what is no regular file or directory.
    pub(super) fn reopen(&self, flags: OFlags) -> Result<OwnedFd> {
        match self.0.kind {
            FileKind::REGULAR | FileKind::DIR => {}
            FileKind::SYMLINK => return Err(Errno::ELOOP.into()),
            // A device would do things as it is opened, and a pipe waits for its other end.
            _ => return Err(Errno::ENXIO.into()),
        }
        self.tree().proc.reopen(self.fd()?, flags).map_err(errno)
    }

    /// What comes before something is made in this directory.
    fn check_new(&self, name: &[u8]) -> Result<()> {
        check_name(name)?;
        self.tree().writable()?;
        if self.0.kind != FileKind::DIR {
            return Err(Errno::ENOTDIR.into());
        }
        self.permit(true, 0)
    }

    /// Makes something in this directory with one system call, and returns its node.
    fn make(
        &self,
        name: &[u8],
        gid: u32,
        mode: u32,
        make: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<()>,
    ) -> Result<HostNode> {
        self.check_new(name)?;
        let dir = self.fd()?;
        let place = self.usage().map(Usage::new_file).transpose()?;
        {
            let _owner = self.assume_owner(gid, mode)?;
            make(dir).map_err(errno)?;
        }
        if let Some(place) = place {
            place.keep();
        }
        let _user = self.assume()?;
        let node = self.step(name)?;
        // Someone else was quicker: what has this name now is not what was made.
        if node.0.kind != FileKind::of_mode(mode) {
            return Err(Errno::ESTALE.into());
        }
        Ok(node)
    }

    /// Makes a regular file that did not exist.
    fn create_new(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Created<Self>> {
        let place = self.usage().map(Usage::new_file).transpose()?;
        let slot = self.tree_arc().take_slot()?;
        let fd = {
            let _owner = self.assume_owner(gid, mode)?;
            let flags = open_flags(flags)
                | OFlags::CREATE
                | OFlags::EXCL
                | OFlags::NONBLOCK
                | OFlags::NOCTTY;
            self.tree()
                .step(self.fd()?, name, flags, mode & MODE_BITS)
                .map_err(errno)?
        };
        if let Some(place) = place {
            place.keep();
        }
        let fd = Arc::new(fd);
        let node = match self.usage() {
            // What counts as open has a descriptor of its own.
            Some(_) => {
                let path = self.tree().proc.reopen(fd.as_fd(), OFlags::PATH);
                HostNode::new(self.attach_arc(), path.map_err(errno)?)?
            }
            None => {
                let stat = sys::stat(&fd).map_err(errno)?;
                let way = Way::File(Arc::downgrade(&fd));
                HostNode::without_fd(self.attach_arc(), way, &stat)?
            }
        };
        let file = HostFile::new(node.clone(), fd, flags, slot);
        Ok(Created { node, file })
    }

    fn tree_arc(&self) -> &Arc<Tree> {
        &self.0.attach.tree
    }
}

impl Node for HostNode {
    type File = HostFile;

    /// With the version that the file has now: a client that opens a file again compares it with what it has kept.
    fn qid(&self) -> Qid {
        // The first who asks is the one who has just walked here.
        if self.0.is_fresh.swap(false, Ordering::Relaxed) {
            return self.0.qid;
        }
        let stat = self.fd().ok().and_then(|fd| sys::stat(fd).ok());
        let now = stat.and_then(|stat| self.tree().qids.qid(&stat).ok());
        now.unwrap_or(self.0.qid)
    }

    fn identity(&self) -> Qid {
        self.0.qid
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        let _user = self.assume()?;
        self.step(name)
    }

    async fn walk_along(&self, names: &[&[u8]], nodes: &mut Vec<Self>) -> Result<()> {
        self.steps(names, false, nodes)
    }

    async fn look_along(&self, names: &[&[u8]], nodes: &mut Vec<Self>) -> Result<()> {
        self.steps(names, true, nodes)
    }

    async fn getattr(&self, _: AttrMask) -> Result<Attr> {
        let stat = match self.0.way.take_stat() {
            Some(stat) => stat,
            None => sys::stat(self.fd()?).map_err(errno)?,
        };
        attributes::of(self.tree(), &stat)
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.change(attr)
    }

    async fn open(&self, flags: OpenFlags) -> Result<HostFile> {
        if changes(flags) {
            self.tree().writable()?;
        }
        self.permit(changes(flags), 0o4)?;
        let slot = self.tree_arc().take_slot()?;
        let _user = self.assume()?;
        if flags.contains(OpenFlags::TRUNCATE) {
            self.lower_fsetid()?;
        }
        let open = || self.reopen(open_flags(flags));
        let fd = match self.usage() {
            Some(usage) if flags.contains(OpenFlags::TRUNCATE) => {
                usage.change(self.0.id, self.fd()?, |_| 0, open)
            }
            _ => open(),
        }?;
        Ok(HostFile::new(self.clone(), Arc::new(fd), flags, slot))
    }

    async fn create(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Created<Self>> {
        self.check_new(name)?;
        for _ in 0..MAX_CREATE_TRIES {
            let refused = match self.create_new(name, flags, mode, gid) {
                // At the limit, what is there can still be opened.
                Err(Error::Errno(errno @ (Errno::EEXIST | Errno::EDQUOT))) => errno,
                result => return result,
            };
            let found = {
                let _user = self.assume()?;
                self.step(name)
            };
            match found {
                Ok(_) if flags.contains(OpenFlags::EXCLUSIVE) => return Err(Errno::EEXIST.into()),
                Ok(node) => {
                    let file = node.open(flags).await?;
                    return Ok(Created { node, file });
                }
                Err(error) if !error.is_not_found() => return Err(error),
                Err(_) if refused == Errno::EDQUOT => return Err(refused.into()),
                // Gone again: the next try makes it.
                Err(_) => {}
            }
        }
        Err(Errno::EAGAIN.into())
    }

    async fn mkdir(&self, name: &[u8], mode: u32, gid: u32) -> Result<Self> {
        let mode = FileKind::DIR.bits() | mode & MODE_BITS;
        self.make(name, gid, mode, |dir| {
            rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))
        })
    }

    async fn symlink(&self, name: &[u8], target: &[u8], gid: u32) -> Result<Self> {
        self.make(name, gid, FileKind::SYMLINK.bits(), |dir| {
            rustix::fs::symlinkat(target, dir, name)
        })
    }

    async fn mknod(
        &self,
        name: &[u8],
        mode: u32,
        major: u32,
        minor: u32,
        gid: u32,
    ) -> Result<Self> {
        let kind = match FileKind::of_mode(mode) {
            FileKind::CHAR_DEVICE | FileKind::BLOCK_DEVICE if !self.tree().options.devices => {
                self.tree().writable()?;
                return Err(Errno::EPERM.into());
            }
            kind @ (FileKind::CHAR_DEVICE
            | FileKind::BLOCK_DEVICE
            | FileKind::FIFO
            | FileKind::SOCKET) => kind,
            kind if kind == FileKind::REGULAR || kind.bits() == 0 => FileKind::REGULAR,
            _ => return Err(Errno::EINVAL.into()),
        };
        let device = match kind {
            FileKind::CHAR_DEVICE | FileKind::BLOCK_DEVICE => rustix::fs::makedev(major, minor),
            _ => 0,
        };
        let permissions = mode & MODE_BITS;
        self.make(name, gid, kind.bits() | permissions, |dir| {
            let kind = FileType::from_raw_mode(kind.bits());
            let permissions = Mode::from_raw_mode(permissions);
            rustix::fs::mknodat(dir, name, kind, permissions, device)
        })
    }

    async fn link(&self, original: &Self, name: &[u8]) -> Result<()> {
        self.check_new(name)?;
        original.permit(true, 0)?;
        let _user = self.assume()?;
        let source = sys::Decimal::of(original.fd()?);
        rustix::fs::linkat(
            &*self.tree().proc.0,
            source.as_c_str(),
            self.fd()?,
            name,
            AtFlags::SYMLINK_FOLLOW,
        )
        .map_err(errno)
    }

    async fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        self.check_new(name)?;
        to.check_new(new_name)?;
        let _user = self.assume()?;
        if self.usage().is_some() {
            return self.rename_counted(name, to, new_name);
        }
        rustix::fs::renameat(self.fd()?, name, to.fd()?, new_name).map_err(errno)
    }

    async fn unlink(&self, name: &[u8], flags: UnlinkFlags) -> Result<()> {
        self.check_new(name)?;
        let _user = self.assume()?;
        let _names = self.names(self)?;
        let victim = self.victim(name)?;
        let mut at = AtFlags::empty();
        at.set(AtFlags::REMOVEDIR, flags.contains(UnlinkFlags::REMOVE_DIR));
        rustix::fs::unlinkat(self.fd()?, name, at).map_err(errno)?;
        self.tree().kept.forget(self.0.id, name);
        if let Some(victim) = &victim {
            victim.name_removed();
        }
        Ok(())
    }

    async fn readlink(&self) -> Result<Vec<u8>> {
        if self.0.kind != FileKind::SYMLINK {
            return Err(Errno::EINVAL.into());
        }
        let target = rustix::fs::readlinkat(self.fd()?, c"", Vec::new()).map_err(errno)?;
        Ok(target.into_bytes())
    }

    async fn statfs(&self) -> Result<Statfs> {
        let fs = rustix::fs::fstatfs(self.fd()?).map_err(errno)?;
        let vfs = rustix::fs::fstatvfs(self.fd()?).map_err(errno)?;
        Ok(Statfs {
            kind: fs.f_type as u32,
            bsize: u32::try_from(fs.f_bsize).unwrap_or(4096),
            blocks: fs.f_blocks,
            bfree: fs.f_bfree,
            bavail: fs.f_bavail,
            files: fs.f_files,
            ffree: fs.f_ffree,
            fsid: vfs.f_fsid,
            namelen: u32::try_from(fs.f_namelen).unwrap_or(255),
        })
    }

    async fn xattr(&self, name: &[u8], max: usize) -> Result<Vec<u8>> {
        self.permit(false, 0o4)?;
        let _user = self.assume()?;
        self.get_xattr(name, max)
    }

    async fn list_xattrs(&self, max: usize) -> Result<Vec<u8>> {
        self.permit(false, 0o4)?;
        let _user = self.assume()?;
        self.xattr_names(max)
    }

    async fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        self.tree().writable()?;
        self.permit(true, 0)?;
        let _user = self.assume()?;
        self.put_xattr(name, value, flags)
    }

    async fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.tree().writable()?;
        self.permit(true, 0)?;
        let _user = self.assume()?;
        self.take_xattr(name)
    }
}
