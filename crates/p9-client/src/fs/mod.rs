//! Files, with the names and habits of `std::fs`.
//!
//! [`Fs`] is a mounted tree, [`File`] an open file; their methods block. [`aio`] has the same
//! operations as `async` functions for any executor; both can be used side by side. The methods are
//! those of [files of any tree](p9_tree::files); what makes this one fast are the nodes and open files here
//! ([`aio::RemoteNode`], [`aio::RemoteFile`]), over the [session](crate::session).
//!
//! # What servers do differently, and what is done about it
//! | what | whose | here |
//! |---|---|---|
//! | ".." leads out of the exported tree | diod 1.0.24, `p9` 0.3.2 | "." and ".." are resolved in the client and never sent |
//! | a name is cut at a NUL | QEMU | such names are refused |
//! | a walk that ends half way leaves its fid behind | diod | the fid is clunked whatever the server says |
//! | 17 names in a walk end the connection | diod | at most 16 |
//! | creating gives an existing file a new mode and owner | QEMU | files are made with EXCL, and opened if they exist |
//! | a directory can be opened for writing | QEMU | refused by its qid |
//! | a mode without a file type is stored like that | QEMU, mapped security models | the type is sent along |
//! | types are missing in listings | QEMU, mapped security models | asked for when needed |
//! | an entry that does not fit looks like the end | all | listings are asked for with room for any name |
//! | a short read is not the end of file | diod, `p9`, synthetic files | only an empty one is |
//! | no Tunlinkat, no Trenameat | diod 1.0.24 | Tremove and Trename in their place |
//! | Tremove ends the fid even if it fails | all | never used on a root |
//! | every lock is granted | QEMU, `p9` | can't be told from here: see [`File::try_lock`] |
//! | an answer of no bytes to "wstat nothing" | QEMU in 9P2000.u | no fsync in that dialect |
//! | death by Tstat of the root | xen-9pfsd | in 9P2000.u the attributes of the root are made up |
//! | four fids at most beside the root | xen-9pfsd | in 9P2000.u, fids given up are clunked before new ones are made |
//! | directory data in a layout of its own | xen-9pfsd | recognised |
//! | no Tremove, and the fid survives it | xen-9pfsd | opened to be removed on close; the fid is clunked |
//! | no Tflush | xen-9pfsd | the reply is waited for in the background |
//! | append is refused | xen-9pfsd, 9P2000 | written at the size the file has; others may come in between |
//! | Twstat wants the file's own qid | `ninep` | sent in 9P2000 |
#![forbid(unsafe_code)]

pub mod aio;
mod options;
mod remote;

use alloc::boxed::Box;
use core::ops::Deref;

use p9_tree::DynNode;
use p9_tree::files::failed;
use p9_tree::ns::Tree;
use p9_tree::trees::CachedNode;
use xen9p_time::Instant;

use self::remote::{RemoteFile, RemoteNode};
use crate::Dialect;
use crate::session::{Interrupt, Recovery, Session, Stats};
use crate::transport::Transport;

pub use options::MountOptions;
pub use p9_tree::files::Failure;
pub use p9_tree::{
    FileTimes, FileType, LockRange, Metadata, OpenOptions, OpenPath, Permissions, Result, SeekFrom,
    Span, StatFs, SystemTime,
};

pub use crate::Error;
pub use p9_tree::ErrorKind;

/// An open file on a server.
pub type File = p9_tree::files::File<RemoteFile>;

/// A lock on bytes of such a file; dropping it unlocks them.
pub type FileLock<'a> = p9_tree::files::FileLock<'a, RemoteFile>;

/// The entries of a directory on a server.
pub type ReadDir = p9_tree::files::ReadDir<RemoteNode>;

/// The same with their attributes.
pub type WithMetadata = p9_tree::files::WithMetadata<RemoteNode>;

/// All that is below a directory on a server.
pub type WalkDir = p9_tree::files::WalkDir<RemoteNode>;

/// One of these entries.
pub type DirEntry = p9_tree::files::DirEntry<RemoteNode>;

/// A mounted tree that remembers what was asked of it, see [`Fs::cached`].
pub type CachedFs = p9_tree::files::Fs<CachedNode<DynNode>>;

/// A mounted file tree. Clones are cheap and mean the same mount.
///
/// What can be done with files are the methods of [`p9_tree::files::Fs`], which it is as well: those of every tree.
///
/// # Blocking
/// Every method blocks until the server has answered, each request no longer than
/// [`MountOptions::timeout`]. While it waits, the hook set with
/// [`set_idle_hook`](Self::set_idle_hook) is called.
///
/// ```
/// use xen9p::fs::{Fs, Result};
///
/// fn count_lines(fs: &Fs) -> Result<usize> {
///     let mut lines = 0;
///     for entry in fs.read_dir("/data")? {
///         let path = entry?.path();
///         if fs.metadata(&path)?.is_file() {
///             lines += fs.read(&path)?.iter().filter(|&&b| b == b'\n').count();
///         }
///     }
///     Ok(lines)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Fs {
    files: p9_tree::files::Fs<RemoteNode>,
}

impl Deref for Fs {
    type Target = p9_tree::files::Fs<RemoteNode>;

    fn deref(&self) -> &Self::Target {
        &self.files
    }
}

impl From<aio::Fs> for Fs {
    fn from(fs: aio::Fs) -> Self {
        Fs {
            files: fs.files.into(),
        }
    }
}

impl Fs {
    /// Agrees with the server behind `transport` on a dialect and a message size, and attaches to
    /// its tree.
    ///
    /// # Errors
    /// [`Error::Protocol`] when there is no dialect or message size that both
    /// sides can do.
    pub fn mount(transport: impl Transport + 'static, options: &MountOptions) -> Result<Fs> {
        Fs::mount_over(Box::new(transport), options, None)
    }

    /// The same for a mount that goes on after its connection is lost: what then becomes of files and of what
    /// is under way is written [there](Recovery).
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub fn mount_recovering(
        transport: impl Transport + 'static,
        options: &MountOptions,
        recovery: Recovery,
    ) -> Result<Fs> {
        Fs::mount_over(Box::new(transport), options, Some(recovery))
    }

    /// [`mount`](Self::mount) over a boxed transport, and with `recovery`, as
    /// [`mount_recovering`](Self::mount_recovering) does.
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub fn mount_over(
        transport: Box<dyn Transport>,
        options: &MountOptions,
        recovery: Option<Recovery>,
    ) -> Result<Fs> {
        let session = Session::new(transport, &options.session_config())?;
        if let Some(recovery) = recovery {
            session.set_recovery(recovery);
        }
        session
            .block_on(aio::Fs::mount(&session, options))
            .map(Fs::from)
            .map_err(failed)
    }

    /// Attaches once more over the same connection, to the same or another tree, as the same or
    /// another user. Only user, tree, gid and umask of `options` matter.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn attach(&self, options: &MountOptions) -> Result<Fs> {
        let fs = self.to_async();
        let attached = self.session().block_on(fs.attach(options));
        attached.map(Fs::from).map_err(failed)
    }

    /// Gives up this mount: tells the server that its root is no longer used. Files that are still
    /// open stay usable; the connection closes with the last handle to it.
    ///
    /// Same as dropping the last clone, except that it waits and reports errors.
    pub fn unmount(self) -> Result<()> {
        let session = self.session().clone();
        let unmounted = session.block_on(self.files.into_async().into_root().unmount());
        unmounted.map_err(failed)
    }

    /// The same tree with a cache of so many bytes, for programs that ask for the same again and again. What others change on
    /// the server is seen *close to open*, as over NFS: who opens a file sees what was written and closed by then.
    /// [`CachedNode`] says it in full.
    ///
    /// Each call makes a cache of its own; clones of what it returns share one. What changes by way of this `Fs`, and not by
    /// way of that, is to the cache as if another program had done it. A loss of the connection empties it.
    ///
    /// ```
    /// use xen9p::fs::{Fs, Result};
    ///
    /// /// Looks at a file again and again.
    /// fn watch(fs: &Fs) -> Result<u64> {
    ///     let fs = fs.cached(4 << 20);
    ///     let mut newest = fs.metadata("/data")?;
    ///     for _ in 0..1000 {
    ///         newest = fs.metadata("/data")?;
    ///     }
    ///     Ok(newest.len())
    /// }
    /// ```
    pub fn cached(&self, bytes: usize) -> CachedFs {
        let session = self.session().clone();
        let clock = move || session.now() - Instant::from_nanos(0);
        let root = DynNode::new(self.files.as_async().root().clone());
        CachedFs::new(CachedNode::new(root, bytes, clock))
    }

    /// The asynchronous face of the same mount.
    pub fn to_async(&self) -> aio::Fs {
        aio::Fs {
            files: self.files.as_async().clone(),
        }
    }

    fn session(&self) -> &Session {
        self.files.as_async().root().session()
    }

    /// The dialect agreed on.
    pub fn dialect(&self) -> Dialect {
        self.session().dialect()
    }

    /// The largest message agreed on, in bytes.
    pub fn msize(&self) -> u32 {
        self.session().msize()
    }

    /// Counters of the connection.
    pub fn stats(&self) -> Stats {
        self.session().stats()
    }

    /// The switch that ends waiting operations of this connection.
    pub fn interrupt(&self) -> Interrupt {
        self.session().interrupt()
    }

    /// Has `hook` called each time a blocking call is about to wait, and in between at least every
    /// 100 ms: the place to look for a shutdown request or a key press. It must not wait itself. A
    /// blocking call from within the hook works, but does not call the hook again. `None` removes it.
    pub fn set_idle_hook(&self, hook: Option<Box<dyn FnMut()>>) {
        self.session().set_idle_hook(hook);
    }
}

impl Tree for Fs {
    fn root(&self) -> DynNode {
        DynNode::new(self.files.as_async().root().clone())
    }
}

impl OpenPath for Fs {
    type File = File;

    fn open_path(&self, path: &[u8], options: &OpenOptions) -> Result<File> {
        self.open_with(path, options)
    }
}
