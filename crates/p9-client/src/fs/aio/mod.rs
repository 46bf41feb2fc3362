//! The asynchronous face: the operations of [`crate::fs`] as `async` functions for any executor.
//!
//! The functions use nothing but `core::task`. Whoever runs them calls [`Session::pump`] when replies
//! may have arrived and [`Session::wait`] when there is nothing else to do; or lets
//! [`Session::block_on`] do all that. Dropping a future takes its requests back from the server.
//!
//! What an operation does and how it fails is written at its blocking form.
//!
//! ```
//! use xen9p::fs::{Result, aio::Fs};
//!
//! async fn newest(fs: &Fs, path: &str) -> Result<Option<Vec<u8>>> {
//!     let mut newest = None;
//!     let mut listing = fs.read_dir(path).await?;
//!     while let Some(entry) = listing.next().await {
//!         let entry = entry?;
//!         let modified = entry.metadata().await?.modified();
//!         newest = newest.max(Some((modified, entry.path())));
//!     }
//!     Ok(newest.map(|(_, path)| path))
//! }
//!
//! /// What a host without an executor of its own does.
//! fn run(fs: &Fs) -> Result<Option<Vec<u8>>> {
//!     fs.session().block_on(newest(fs, "/"))
//! }
//! ```

mod ahead;
mod classic;
mod dir;
mod file;
mod identity;
mod listing;
mod lookup;
mod names;
mod node;
mod parents;
mod read;
mod remote;
mod stepwise;
mod tree;
mod xattr;

use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;

use self::lookup::{Handle, Lookup};
use self::parents::{Inherited, Parents};
use super::{Error, FileTimes, Metadata, MountOptions, OpenOptions, Permissions, Result, StatFs};
use crate::Dialect;
use crate::session::{Fid, Session};
use p9_tree::CleanPath;
use p9_wire::Errno;
use p9_wire::{Qid, QidKind};
use xen9p_time::Instant;

pub use dir::{DirEntry, ReadDir};
pub use file::File;
pub use listing::WithMetadata;
pub use remote::{RemoteFile, RemoteNode};

/// The asynchronous form of [`crate::fs::Fs`].
#[derive(Clone)]
pub struct Fs {
    mount: Rc<Mount>,
}

struct Mount {
    root: Fid,
    root_qid: Qid,
    gid: u32,
    umask: u32,
    /// Most bytes to read ahead in a file.
    read_ahead: usize,
    /// How long directories are kept that names are changed in, and those that are.
    keep_dirs: Duration,
    parents: RefCell<Parents>,
    /// What files made in the root inherit, and until when that is believed.
    root_inherits: Cell<Option<(Inherited, Instant)>>,
    /// How often this mount has renamed or removed something.
    changes_of_names: Cell<u64>,
    /// What the server turned out not to have.
    lacks: Lacks,
}

impl Mount {
    /// Something is renamed or removed: servers that find open files by their names may find others there.
    fn names_changed(&self) {
        self.changes_of_names.set(self.changes_of_names.get() + 1);
    }
}

/// Operations that have substitutes, which are used at once when the first attempt has shown that
/// the server needs them.
#[derive(Default)]
struct Lacks {
    unlinkat: Cell<bool>,
    renameat: Cell<bool>,
}

impl fmt::Debug for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fs")
            .field("session", self.session())
            .field("root", &self.mount.root)
            .finish()
    }
}

impl Fs {
    /// Agrees with the server on dialect and message size and attaches: the asynchronous form of
    /// [`Fs::mount`](crate::fs::Fs::mount).
    ///
    /// # Errors
    /// See there.
    pub async fn mount(session: &Session, options: &MountOptions) -> Result<Fs> {
        session.negotiate(&options.dialects).await?;
        Fs::attach_to(session, options).await
    }

    /// The asynchronous form of [`Fs::attach`](crate::fs::Fs::attach).
    ///
    /// # Errors
    /// See there.
    pub async fn attach(&self, options: &MountOptions) -> Result<Fs> {
        Fs::attach_to(self.session(), options).await
    }

    async fn attach_to(session: &Session, options: &MountOptions) -> Result<Fs> {
        let (root, qid) = session
            .attach(None, &options.user, options.uid, &options.tree)
            .await?;
        Ok(Fs::from_root(root, qid, options))
    }

    /// The tree whose root is what [`Session::attach`] gave: for servers that want to be convinced
    /// first, on the file of [`Session::auth`]. Only gid, umask and the bytes to read ahead of `options`
    /// matter.
    pub fn from_root(root: Fid, qid: Qid, options: &MountOptions) -> Fs {
        Fs {
            mount: Rc::new(Mount {
                root,
                root_qid: qid,
                gid: options.gid,
                umask: options.umask,
                read_ahead: options.read_ahead,
                keep_dirs: options.keep_dirs,
                parents: RefCell::default(),
                root_inherits: Cell::new(None),
                changes_of_names: Cell::new(0),
                lacks: Lacks::default(),
            }),
        }
    }

    /// The asynchronous form of [`Fs::unmount`](crate::fs::Fs::unmount).
    ///
    /// # Errors
    /// See there.
    pub async fn unmount(self) -> Result<()> {
        match Rc::try_unwrap(self.mount) {
            Ok(mount) => {
                drop(mount.parents);
                mount.root.close().await
            }
            Err(_) => Ok(()),
        }
    }

    /// The session under this mount.
    pub fn session(&self) -> &Session {
        self.mount.root.session()
    }

    /// The asynchronous form of [`Fs::open`](crate::fs::Fs::open).
    ///
    /// # Errors
    /// See there.
    pub async fn open(&self, path: impl AsRef<[u8]>) -> Result<File> {
        self.open_with(path, OpenOptions::new().read(true)).await
    }

    /// The asynchronous form of [`Fs::create`](crate::fs::Fs::create).
    ///
    /// # Errors
    /// See there.
    pub async fn create(&self, path: impl AsRef<[u8]>) -> Result<File> {
        let mut options = OpenOptions::new();
        self.open_with(path, options.write(true).create(true).truncate(true))
            .await
    }

    /// The asynchronous form of [`Fs::open_with`](crate::fs::Fs::open_with).
    ///
    /// # Errors
    /// See there.
    pub async fn open_with(&self, path: impl AsRef<[u8]>, options: &OpenOptions) -> Result<File> {
        let mode = options.new_mode() & !self.mount.umask;
        let (file, _) = self.open_or_create(path.as_ref(), options, mode).await?;
        Ok(file)
    }

    /// Opens a file as the options say; one that is made gets exactly this mode. The answer says
    /// whether it was made.
    async fn open_or_create(
        &self,
        path: &[u8],
        options: &OpenOptions,
        mode: u32,
    ) -> Result<(File, bool)> {
        // Others may create and remove the file between two of our requests.
        const TRIES: usize = 8;

        options.check()?;
        let mut path = CleanPath::new(path)?;
        if path.wants_dir() && options.is_create() {
            // Files are not made by the name of a directory.
            self.lookup(path, true).await?;
            return Err(Errno::EISDIR.into());
        }
        // Where the file is likely to be new, one request is saved by trying that first. Never
        // without EXCL: QEMU would give an existing file the mode and the owner of a new one.
        // Nor in the other dialects, which have no EXCL.
        let linux = node::is_linux(&self.mount.root);
        let mut create =
            linux && (options.is_create_new() || (options.is_create() && options.is_truncate()));
        if !create && let Some(file) = self.open_at_once(&path, options).await? {
            return Ok((file, false));
        }
        for _ in 0..TRIES {
            if create {
                match self.create_file(&path, options, mode).await {
                    Err(Error::Errno(Errno::EEXIST)) if !options.is_create_new() => {}
                    result => return result.map(|file| (file, true)),
                }
            }
            match self.lookup(path.clone(), !options.is_create_new()).await? {
                Lookup::Found(..) if options.is_create_new() => return Err(Errno::EEXIST.into()),
                Lookup::Found(handle, qid, path) => {
                    let file = self.open_found(handle, qid, path, options).await?;
                    return Ok((file, false));
                }
                Lookup::Missing(there) if options.is_create() => {
                    path = there;
                    create = true;
                }
                Lookup::Missing(_) => return Err(Errno::ENOENT.into()),
            }
        }
        Err(Errno::EEXIST.into())
    }

    /// Makes a file that is not there yet.
    async fn create_file(
        &self,
        path: &CleanPath,
        options: &OpenOptions,
        mode: u32,
    ) -> Result<File> {
        let mode = mode & 0o7777;
        let made = self.in_parent(path, Errno::EEXIST, async |parent, name| {
            let gid = match node::is_linux(parent.fid()) {
                true => self.made_in(&parent).await?.gid,
                // The other dialects leave the group to the server.
                false => self.mount.gid,
            };
            node::create(self, parent, name, options, mode, gid).await
        });
        let (fid, qid, iounit) = made.await?;
        Ok(File::new(self, fid, qid, iounit, options, path.clone()))
    }

    async fn open_found(
        &self,
        handle: Handle,
        qid: Qid,
        path: CleanPath,
        options: &OpenOptions,
    ) -> Result<File> {
        options.check_kind(qid)?;
        let fid = self.own(handle).await?;
        let (qid, iounit) = node::open(&fid, options).await?;
        Ok(File::new(self, fid, qid, iounit, options, path))
    }

    /// The asynchronous form of [`Fs::metadata`](crate::fs::Fs::metadata).
    ///
    /// # Errors
    /// See there.
    pub async fn metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        self.stat(path.as_ref(), true).await
    }

    /// The asynchronous form of [`Fs::symlink_metadata`](crate::fs::Fs::symlink_metadata).
    ///
    /// # Errors
    /// See there.
    pub async fn symlink_metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        self.stat(path.as_ref(), false).await
    }

    async fn stat(&self, path: &[u8], follow: bool) -> Result<Metadata> {
        if let Some(metadata) = self.glance(&CleanPath::new(path)?, follow).await? {
            return Ok(metadata);
        }
        let (handle, ..) = self.find(path, follow).await?;
        match &handle {
            Handle::Root(mount) if self.session().dialect() == Dialect::Unix => {
                // xen-9pfsd dies when it is asked for them, and takes the files of all its other guests along.
                Ok(Metadata::of_dir(mount.root_qid))
            }
            _ => node::stat(handle.fid()).await,
        }
    }

    /// The asynchronous form of [`Fs::exists`](crate::fs::Fs::exists).
    ///
    /// # Errors
    /// See there.
    pub async fn exists(&self, path: impl AsRef<[u8]>) -> Result<bool> {
        match self.find(path.as_ref(), true).await {
            Ok(_) => Ok(true),
            Err(Error::Errno(Errno::ENOENT)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The asynchronous form of [`Fs::set_permissions`](crate::fs::Fs::set_permissions).
    ///
    /// # Errors
    /// See there.
    pub async fn set_permissions(
        &self,
        path: impl AsRef<[u8]>,
        permissions: Permissions,
    ) -> Result<()> {
        let (handle, ..) = self.find(path.as_ref(), true).await?;
        node::set_mode(handle.fid(), None, permissions).await
    }

    /// The asynchronous form of [`Fs::set_times`](crate::fs::Fs::set_times).
    ///
    /// # Errors
    /// See there.
    pub async fn set_times(&self, path: impl AsRef<[u8]>, times: FileTimes) -> Result<()> {
        let (handle, ..) = self.find(path.as_ref(), true).await?;
        node::set_times(handle.fid(), times).await
    }

    /// The asynchronous form of [`Fs::set_times_nofollow`](crate::fs::Fs::set_times_nofollow).
    ///
    /// # Errors
    /// See there.
    pub async fn set_times_nofollow(&self, path: impl AsRef<[u8]>, times: FileTimes) -> Result<()> {
        let (handle, ..) = self.find(path.as_ref(), false).await?;
        node::set_times(handle.fid(), times).await
    }

    /// The asynchronous form of [`Fs::chown`](crate::fs::Fs::chown).
    ///
    /// # Errors
    /// See there.
    pub async fn chown(
        &self,
        path: impl AsRef<[u8]>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<()> {
        let (handle, ..) = self.find(path.as_ref(), true).await?;
        node::set_owner(handle.fid(), uid, gid).await
    }

    /// The asynchronous form of [`Fs::lchown`](crate::fs::Fs::lchown).
    ///
    /// # Errors
    /// See there.
    pub async fn lchown(
        &self,
        path: impl AsRef<[u8]>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<()> {
        let (handle, ..) = self.find(path.as_ref(), false).await?;
        node::set_owner(handle.fid(), uid, gid).await
    }

    /// The asynchronous form of [`Fs::truncate`](crate::fs::Fs::truncate).
    ///
    /// # Errors
    /// See there.
    pub async fn truncate(&self, path: impl AsRef<[u8]>, size: u64) -> Result<()> {
        let (handle, qid, _) = self.find(path.as_ref(), true).await?;
        if qid.kind.contains(QidKind::DIR) {
            return Err(Errno::EISDIR.into());
        }
        node::set_size(handle.fid(), size).await
    }

    /// The asynchronous form of [`Fs::statfs`](crate::fs::Fs::statfs).
    ///
    /// # Errors
    /// See there.
    pub async fn statfs(&self, path: impl AsRef<[u8]>) -> Result<StatFs> {
        let (handle, ..) = self.find(path.as_ref(), true).await?;
        node::statfs(handle.fid()).await
    }
}
