//! Directories of this machine as trees that a 9P server can serve.
//!
//! [`HostTree`] is one shared directory. [`HostTree::root`] gives its root as a [`HostNode`], a [`p9_tree::Node`] whose
//! futures are ready at the first poll.
//!
//! # Security
//! The peer names one component at a time, and everything under the shared directory may change at any moment: by the
//! peer, by another guest that has the same share, by programs of this machine. So
//! - a node is an `O_PATH` descriptor, never a path: it stays with its file, whatever is renamed;
//! - each step is an `openat2` from the parent's descriptor that the kernel confines below it, and that follows no
//!   symbolic link, no magic link, and no ".."; or, where that is enough, a statx of the one name from that descriptor;
//! - what changes a file goes by its descriptor;
//! - devices, pipes and sockets are never opened; the peer can see them, and make them if the [`Options`] say so.
//!
//! A walk can't leave the share even without the mount name space that [`sandbox`](crate::sandbox) makes; that is the
//! second wall.

mod attributes;
mod counted;
mod dir;
mod directory;
mod file;
mod ids;
mod kept;
mod ledger;
mod limits;
mod locks;
mod node;
mod options;
mod owner;
mod qid;
mod rights;
mod sys;
mod way;
mod xattr;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use p9_wire::Errno;
use rustix::fs::{Mode, OFlags, ResolveFlags};

pub use directory::Directory;
pub use file::HostFile;
pub use ids::IdMap;
pub use ledger::Ledger;
pub use node::HostNode;
pub use options::{Limits, Options, Owners, ShareError, Xattrs};

use kept::Kept;
use limits::Usage;
use locks::Locks;
use qid::Qids;
use rights::Privilege;

/// The directory `/proc/self/fd` of this process, through which descriptors are opened once more.
///
/// Open it in the process that serves, before that process enters its sandbox, where there is no `/proc`.
#[derive(Clone, Debug)]
pub struct ProcFd(Arc<OwnedFd>);

impl ProcFd {
    /// Opens it.
    ///
    /// # Errors
    /// Those of open(2), where `/proc` is not mounted.
    pub fn open() -> rustix::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
        Ok(ProcFd(Arc::new(fd)))
    }

    /// Opens it as a mount of its own, so that ".." does not lead to the rest of `/proc`, some of which root may write to.
    ///
    /// # Errors
    /// Those of open_tree(2), which only root may call so.
    pub fn open_alone() -> rustix::io::Result<Self> {
        use rustix::mount::{OpenTreeFlags, open_tree};

        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let fd = open_tree(rustix::fs::CWD, "/proc/self/fd", flags)?;
        Ok(ProcFd(Arc::new(fd)))
    }

    /// Opens the file of `fd` once more, with other flags.
    fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        rustix::fs::openat(
            &*self.0,
            sys::Decimal::of(fd).as_c_str(),
            flags,
            Mode::empty(),
        )
    }
}

/// A directory of this machine that is shared. Clones are the same share.
#[derive(Clone, Debug)]
pub struct HostTree(Arc<Tree>);

#[derive(Debug)]
struct Tree {
    root: OwnedFd,
    root_id: FileId,
    /// The mount that the root lies on; `None` on a kernel that can't tell mounts apart.
    root_mount: Option<u64>,
    kept: Kept,
    proc: ProcFd,
    options: Options,
    privilege: Privilege,
    qids: Qids,
    usage: Option<Usage>,
    open_files: AtomicU64,
}

/// One Tattach: who makes files through it, and the locks taken through it.
#[derive(Debug)]
struct Attach {
    tree: Arc<Tree>,
    user: Option<u32>,
    locks: Locks,
}

/// What tells files of this machine apart while they exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileId {
    dev: u64,
    ino: u64,
}

impl HostTree {
    /// Shares the directory at `path`. Symbolic links in this path, which the administrator wrote, are followed.
    ///
    /// # Errors
    /// [`ShareError`] says what is wrong with the path or the options, in words.
    pub fn open(path: &Path, options: Options) -> Result<Self, ShareError> {
        let proc = ProcFd::open().map_err(ShareError::Proc)?;
        let ledger = match options.limits.counts() {
            true => Some(Ledger::private().map_err(|_| ShareError::Ledger)?),
            false => None,
        };
        HostTree::new(Directory::open(path)?.into(), proc, options, ledger)
    }

    /// Shares the directory that `root` is a descriptor of.
    ///
    /// Sets the umask of this process to 0: the peer has applied its own. With a limit on space or files, takes a ledger, and
    /// counts first what the directory holds if no other process does.
    ///
    /// # Errors
    /// [`ShareError`] says what this process can't do that the options ask for.
    pub fn new(
        root: OwnedFd,
        proc: ProcFd,
        options: Options,
        ledger: Option<Ledger>,
    ) -> Result<Self, ShareError> {
        let privilege = Privilege::of_this_thread().map_err(ShareError::Root)?;
        options.check(privilege)?;
        rustix::process::umask(Mode::empty());
        let stat = sys::stat(&root).map_err(ShareError::Root)?;
        if sys::file_kind(&stat) != p9_wire::FileKind::DIR {
            return Err(ShareError::NotADirectory);
        }
        owner::check_search(&root, &options, privilege)?;
        let root_id = FileId::of(&stat);
        let usage = match (options.limits.counts(), ledger) {
            (false, _) => None,
            (true, None) => return Err(ShareError::Ledger),
            (true, Some(ledger)) => {
                let (limits, cross_mounts) = (options.limits, options.cross_mounts);
                let usage = Usage::new(root.as_fd(), ledger, limits, cross_mounts);
                Some(usage.map_err(ShareError::Count)?)
            }
        };
        Ok(HostTree(Arc::new(Tree {
            root,
            root_id,
            root_mount: sys::mount(&stat),
            kept: Kept::new(),
            proc,
            qids: Qids::new(root_id.dev),
            options,
            privilege,
            usage,
            open_files: AtomicU64::new(0),
        })))
    }

    /// The root for one Tattach of `user`, who will own the files made through it where the share's [`Owners`] say so;
    /// `None`: the user that this process runs as.
    ///
    /// # Errors
    /// EMFILE, or what the disk reports.
    pub fn root(&self, user: Option<u32>) -> p9_tree::Result<HostNode> {
        let fd = self.0.root.try_clone().map_err(|e| errno_of(&e))?;
        HostNode::new(
            Arc::new(Attach {
                tree: self.0.clone(),
                user,
                locks: Locks::default(),
            }),
            fd,
        )
    }

    /// How many files and directories are open through this share now.
    pub fn open_files(&self) -> u64 {
        self.0.open_files.load(Ordering::Relaxed)
    }

    /// The bytes and files that the share holds, as they are counted for its limits; `None` where neither is limited.
    pub fn usage(&self) -> Option<(u64, u64)> {
        self.0.usage.as_ref().map(Usage::totals)
    }
}

impl Tree {
    /// One step: what `name` is in the directory `dir`.
    fn step(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        flags: OFlags,
        mode: u32,
    ) -> rustix::io::Result<OwnedFd> {
        let mut resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        resolve.set(ResolveFlags::NO_XDEV, !self.options.cross_mounts);
        sys::open_beneath(dir, name, flags, mode, resolve)
    }

    /// Whether a file lies on the mount that the share's root does, as far as the kernel says.
    fn is_own_mount(&self, stat: &rustix::fs::Statx) -> bool {
        self.root_mount.is_some() && sys::mount(stat) == self.root_mount
    }

    /// Refuses a change of a share that is read-only.
    fn writable(&self) -> p9_tree::Result<()> {
        if self.options.read_only {
            return Err(Errno::EROFS.into());
        }
        Ok(())
    }
}

impl FileId {
    fn of(stat: &rustix::fs::Statx) -> FileId {
        FileId {
            dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
        }
    }
}

/// The number of an error of this machine.
fn errno(error: rustix::io::Errno) -> p9_tree::Error {
    Errno::from_wire(error.raw_os_error().unsigned_abs()).into()
}

fn errno_of(error: &std::io::Error) -> p9_tree::Error {
    error
        .raw_os_error()
        .map_or(Errno::EIO, |number| Errno::from_wire(number.unsigned_abs()))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server runs one thread per ring over the same share.
    #[test]
    fn nodes_and_files_can_be_used_by_all_threads() {
        fn check<T: Send + Sync>() {}
        check::<HostTree>();
        check::<HostNode>();
        check::<HostFile>();
    }
}
