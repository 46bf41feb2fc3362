//! A mount as a tree: nodes, open files, and what makes them fast.

mod ahead;
mod attributes;
mod classic;
mod fid;
mod file;
mod identity;
mod listing;
mod node;
mod operations;
mod parents;
mod stepwise;
mod xattr;

use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::time::Duration;
use core::{fmt, mem};

use p9_tree::{CleanPath, NewFiles};
use p9_wire::{Errno, OpenFlags, Qid, QidKind};

use self::parents::{Inherits, KeptDir, Parents};
use super::{MountOptions, Result};
use crate::session::{Fid, Session};

pub use file::RemoteFile;

/// What all nodes and files of a mount share.
pub(super) struct Mount {
    root: Fid,
    root_qid: Qid,
    new_files: NewFiles,
    /// Most bytes to read ahead in a file.
    read_ahead: usize,
    /// How long directories are kept that names are changed in, and those that are.
    keep_dirs: Duration,
    parents: RefCell<Parents>,
    /// What files made in the root inherit, and until when that is believed.
    root_inherits: Inherits,
    /// How often this mount has renamed or removed something.
    changes_of_names: Cell<u64>,
    /// What the server turned out not to have.
    lacks: Lacks,
}

/// Operations that have substitutes, which are used at once when the first attempt has shown that
/// the server needs them.
#[derive(Default)]
struct Lacks {
    unlinkat: Cell<bool>,
    renameat: Cell<bool>,
}

impl Mount {
    pub(super) fn new(root: Fid, root_qid: Qid, options: &MountOptions) -> Self {
        Mount {
            root,
            root_qid,
            new_files: NewFiles {
                umask: options.umask,
                gid: options.gid,
            },
            read_ahead: options.read_ahead,
            keep_dirs: options.keep_dirs,
            parents: RefCell::default(),
            root_inherits: Cell::new(None),
            changes_of_names: Cell::new(0),
            lacks: Lacks::default(),
        }
    }

    pub(super) fn session(&self) -> &Session {
        self.root.session()
    }

    /// Something is renamed or removed: servers that find open files by their names may find others there.
    fn names_changed(&self) {
        self.changes_of_names.set(self.changes_of_names.get() + 1);
    }

    /// Gives the root back to the server, and waits for the answer.
    async fn close(self) -> Result<()> {
        drop(self.parents);
        self.root.close().await
    }
}

/// The fid of a node. The root's own stands for the root, so that it costs nothing.
enum Handle {
    Root,
    /// One of the directories that are kept.
    Kept(Rc<KeptDir>),
    /// Its own, and what files made in it inherit, until it is asked for anew.
    Own(Fid, Inherits),
}

impl Handle {
    fn own(fid: Fid) -> Self {
        Handle::Own(fid, Cell::new(None))
    }
}

/// A file on a server: what a fid stands for. Clones share the fid, which is clunked with the last of them.
///
/// Walks of up to 16 names take one request. [`getattr_at`](p9_tree::Node::getattr_at) and
/// [`open_at`](p9_tree::Node::open_at) send the walk and what comes behind it together, so that both take the time of one
/// answer. [`into_open`](p9_tree::Node::into_open) and [`into_create`](p9_tree::Node::into_create) use the fid of the node
/// itself when no clone has it.
#[derive(Clone)]
pub struct RemoteNode {
    mount: Rc<Mount>,
    handle: Rc<Handle>,
    qid: Qid,
    /// The way it was walked to.
    path: Rc<CleanPath>,
}

impl fmt::Debug for RemoteNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteNode")
            .field("session", self.session())
            .field("fid", self.fid())
            .field("qid", &self.qid)
            .finish()
    }
}

impl RemoteNode {
    /// The root of a mount.
    pub(super) fn root(mount: Rc<Mount>) -> Self {
        RemoteNode {
            handle: Rc::new(Handle::Root),
            qid: mount.root_qid,
            path: Rc::new(CleanPath::root()),
            mount,
        }
    }

    /// The session under this tree.
    pub fn session(&self) -> &Session {
        self.mount.session()
    }

    /// Gives the mount up, if nothing else uses it.
    pub(super) async fn unmount(self) -> Result<()> {
        let RemoteNode { mount, .. } = self;
        match Rc::try_unwrap(mount) {
            Ok(mount) => mount.close().await,
            Err(_) => Ok(()),
        }
    }

    fn fid(&self) -> &Fid {
        match &*self.handle {
            Handle::Root => &self.mount.root,
            Handle::Kept(dir) => dir.fid(),
            Handle::Own(fid, _) => fid,
        }
    }

    fn is_linux(&self) -> bool {
        fid::is_linux(self.fid())
    }

    fn is_root(&self) -> bool {
        matches!(*self.handle, Handle::Root)
    }

    /// The path of what is walked to from here.
    fn path_to(&self, names: &[&[u8]]) -> Result<Rc<CleanPath>> {
        Ok(Rc::new(self.path.join(names)?))
    }

    /// What was walked to.
    fn at(&self, path: Rc<CleanPath>, handle: Handle, qid: Qid) -> RemoteNode {
        RemoteNode {
            mount: self.mount.clone(),
            handle: Rc::new(handle),
            qid,
            path,
        }
    }

    /// A fid of this file that may be opened or changed.
    async fn own(mut self) -> Result<Fid> {
        if let Some(handle @ Handle::Own(..)) = Rc::get_mut(&mut self.handle)
            && let Handle::Own(fid, _) = mem::replace(handle, Handle::Root)
        {
            return Ok(fid);
        }
        Ok(self.fid().walk(&[]).await?.0)
    }
}

fn writes(flags: OpenFlags) -> bool {
    flags.intersects(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE)
}

/// Whether a file can be opened so. Not every server checks that: QEMU opens directories for writing.
fn check_kind(qid: Qid, flags: OpenFlags) -> Result<()> {
    let is_dir = qid.kind.contains(QidKind::DIR);
    if is_dir && (writes(flags) || flags.contains(OpenFlags::TRUNCATE)) {
        return Err(Errno::EISDIR.into());
    }
    if qid.kind.contains(QidKind::SYMLINK) {
        return Err(Errno::ELOOP.into());
    }
    if flags.contains(OpenFlags::DIRECTORY) && !is_dir {
        return Err(Errno::ENOTDIR.into());
    }
    Ok(())
}
