//! The asynchronous face: the operations of [`crate::fs`] as `async` functions for any executor.
//!
//! The functions use nothing but `core::task`. The program that runs them calls [`Session::pump`] when replies
//! may have arrived and [`Session::wait`] when there is nothing else to do; or lets
//! [`Session::block_on`] do all that. Dropping a future takes its requests back from the server.
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

use alloc::rc::Rc;
use core::ops::Deref;

use p9_tree::files::aio;
use p9_wire::Qid;

use super::remote::Mount;
use super::{MountOptions, Result};
use crate::session::{Fid, Session};

pub use super::remote::{RemoteFile, RemoteNode};

/// An open file on a server.
pub type File = aio::File<RemoteFile>;

/// The entries of a directory on a server.
pub type ReadDir = aio::ReadDir<RemoteNode>;

/// The same with their attributes.
pub type WithMetadata = aio::WithMetadata<RemoteNode>;

/// One of these entries.
pub type DirEntry = aio::DirEntry<RemoteNode>;

/// A mounted file tree. Clones are cheap and mean the same mount.
///
/// What can be done with files are the methods of [`p9_tree::files::aio::Fs`], which it is as well.
#[derive(Clone, Debug)]
pub struct Fs {
    pub(super) files: aio::Fs<RemoteNode>,
}

impl Deref for Fs {
    type Target = aio::Fs<RemoteNode>;

    fn deref(&self) -> &Self::Target {
        &self.files
    }
}

impl Fs {
    /// Agrees with the server on dialect and message size and attaches.
    ///
    /// # Errors
    /// As [`Fs::mount`](crate::fs::Fs::mount).
    pub async fn mount(session: &Session, options: &MountOptions) -> Result<Fs> {
        session.negotiate(&options.dialects).await?;
        Fs::attach_to(session, options).await
    }

    /// Attaches once more over the same connection, to the same or another tree, as the same or another user. Only user,
    /// tree, gid, umask, the bytes to read ahead and how long directories are kept matter of `options`.
    ///
    /// # Errors
    /// What the server refuses.
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
    /// first, on the file of [`Session::auth`]. Of `options` the same matter as for [`attach`](Self::attach).
    pub fn from_root(root: Fid, qid: Qid, options: &MountOptions) -> Fs {
        let mount = Rc::new(Mount::new(root, qid, options));
        Fs {
            files: aio::Fs::new(RemoteNode::root(mount)),
        }
    }

    /// Gives up this mount: tells the server that its root is no longer used, and waits for the answer. With other clones
    /// or open files of it left, it does nothing.
    ///
    /// # Errors
    /// What the server says.
    pub async fn unmount(self) -> Result<()> {
        self.files.into_root().unmount().await
    }

    /// The session under this mount.
    pub fn session(&self) -> &Session {
        self.files.root().session()
    }

    /// The root of the mount as a node, for a [name space](crate::ns), or a server that gives the tree to others.
    pub fn node(&self) -> RemoteNode {
        self.files.root().clone()
    }
}
