//! The blocking face: each call runs the engine until its operation is over.

mod dir;
#[cfg(feature = "embedded-io")]
mod embedded;
mod file;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::aio;
use super::{
    FileTimes, Metadata, MountOptions, OpenOptions, OpenPath, Permissions, Probe, Result, StatFs,
};
use crate::Dialect;
use crate::session::{Interrupt, Recovery, Session, Stats};
use crate::transport::Transport;
use p9_tree::ns::{NewFiles, Tree};
use p9_tree::{Driver, DynNode};

pub use dir::{DirEntry, ReadDir, WithMetadata};
pub use file::{File, FileLock};

/// A mounted file tree. Clones are cheap and mean the same mount.
///
/// Methods have the names and the meaning of the functions in `std::fs`. Paths are bytes (`&str` and
/// `String` do too), separated by `/`, relative to the mount's root with or without a leading `/`;
/// "." and ".." are resolved in the client, by text alone. Symbolic links are followed, at most 40,
/// absolute ones from the mount's root, except where a method says otherwise.
///
/// # Errors
/// Every method can fail with what [`Error`](super::Error) lists; what the server refuses is
/// [`Error::Errno`](super::Error::Errno). Only the particular ones are named below.
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
    inner: aio::Fs,
}

impl Fs {
    /// Agrees with the server behind `transport` on a dialect and a message size, and attaches to
    /// its tree.
    ///
    /// # Errors
    /// [`Error::Protocol`](super::Error::Protocol) when there is no dialect or message size that both
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
        let inner = session.block_on(aio::Fs::mount(&session, options))?;
        Ok(Fs { inner })
    }

    /// Attaches once more over the same connection, to the same or another tree, as the same or
    /// another user. Only user, tree, gid and umask of `options` matter.
    pub fn attach(&self, options: &MountOptions) -> Result<Fs> {
        let inner = self.run(self.inner.attach(options))?;
        Ok(Fs { inner })
    }

    /// Gives up this mount: tells the server that its root is no longer used. Files that are still
    /// open stay usable; the connection closes with the last handle to it.
    ///
    /// Same as dropping the last clone, except that it waits and reports errors.
    pub fn unmount(self) -> Result<()> {
        let session = self.inner.session().clone();
        session.block_on(self.inner.unmount())
    }

    /// The asynchronous face of the same mount.
    pub fn to_async(&self) -> aio::Fs {
        self.inner.clone()
    }

    /// The dialect agreed on.
    pub fn dialect(&self) -> Dialect {
        self.inner.session().dialect()
    }

    /// The largest message agreed on, in bytes.
    pub fn msize(&self) -> u32 {
        self.inner.session().msize()
    }

    /// Counters of the connection.
    pub fn stats(&self) -> Stats {
        self.inner.session().stats()
    }

    /// The switch that ends waiting operations of this connection.
    pub fn interrupt(&self) -> Interrupt {
        self.inner.session().interrupt()
    }

    /// Has `hook` called each time a blocking call is about to wait, and in between at least every
    /// 100 ms: the place to look for a shutdown request or a key press. It must not wait itself. A
    /// blocking call from within the hook works, but does not call the hook again. `None` removes it.
    pub fn set_idle_hook(&self, hook: Option<Box<dyn FnMut()>>) {
        self.inner.session().set_idle_hook(hook);
    }

    /// Opens a file for reading.
    pub fn open(&self, path: impl AsRef<[u8]>) -> Result<File> {
        self.open_with(path, OpenOptions::new().read(true))
    }

    /// Opens a file for writing; makes it, or empties the one that is there.
    pub fn create(&self, path: impl AsRef<[u8]>) -> Result<File> {
        let mut options = OpenOptions::new();
        self.open_with(path, options.write(true).create(true).truncate(true))
    }

    /// Opens a file as `options` say. A directory can be opened for reading, for
    /// [`File::metadata`] and [`File::sync_all`].
    ///
    /// # Errors
    /// EISDIR for a directory opened for writing; see also [`OpenOptions::open`].
    pub fn open_with(&self, path: impl AsRef<[u8]>, options: &OpenOptions) -> Result<File> {
        Ok(File::new(
            self.run(self.inner.open_with(path.as_ref(), options))?,
        ))
    }

    /// The whole content of a file.
    pub fn read(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        self.run(self.inner.read(path.as_ref()))
    }

    /// The whole content of a text file.
    ///
    /// # Errors
    /// [`Error::NotUtf8`](super::Error::NotUtf8).
    pub fn read_to_string(&self, path: impl AsRef<[u8]>) -> Result<String> {
        self.run(self.inner.read_to_string(path.as_ref()))
    }

    /// Makes or replaces a file with this content, and closes it: an error that the server finds
    /// only then is reported.
    pub fn write(&self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Result<()> {
        self.run(self.inner.write(path.as_ref(), content.as_ref()))
    }

    /// Attributes of what the path leads to.
    pub fn metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        self.run(self.inner.metadata(path.as_ref()))
    }

    /// Attributes of what the path names; of a symbolic link its own.
    pub fn symlink_metadata(&self, path: impl AsRef<[u8]>) -> Result<Metadata> {
        self.run(self.inner.symlink_metadata(path.as_ref()))
    }

    /// How far the path leads when no symbolic link is followed, neither on the way nor at its end:
    /// for those who resolve links themselves, as a [name space](crate::ns) does.
    ///
    /// # Errors
    /// ENOTDIR when something other than a directory or a link is in the way.
    pub fn probe(&self, path: impl AsRef<[u8]>) -> Result<Probe> {
        self.run(self.inner.probe(path.as_ref()))
    }

    /// Whether the path leads to something. Errors other than "no such file" are errors.
    pub fn exists(&self, path: impl AsRef<[u8]>) -> Result<bool> {
        self.run(self.inner.exists(path.as_ref()))
    }

    /// The entries of a directory, without "." and "..", in the server's order, fetched as the
    /// iteration goes on.
    pub fn read_dir(&self, path: impl AsRef<[u8]>) -> Result<ReadDir> {
        Ok(ReadDir::new(self.run(self.inner.read_dir(path.as_ref()))?))
    }

    /// Makes an empty directory, mode 0777 less the umask.
    pub fn create_dir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.run(self.inner.create_dir(path.as_ref(), 0o777))
    }

    /// Makes a directory and those above it that are missing. One that is there is no error.
    pub fn create_dir_all(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.run(self.inner.create_dir_all(path.as_ref()))
    }

    /// Removes a file, or a symbolic link itself.
    pub fn remove_file(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.run(self.inner.remove_file(path.as_ref()))
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.run(self.inner.remove_dir(path.as_ref()))
    }

    /// Removes a directory and all that is in it. Symbolic links are removed, not followed; the last
    /// one of the path neither: that is ENOTDIR.
    pub fn remove_dir_all(&self, path: impl AsRef<[u8]>) -> Result<()> {
        self.run(self.inner.remove_dir_all(path.as_ref()))
    }

    /// Renames, replacing a file (or an empty directory by a directory) of the new name. A symbolic
    /// link at the end of either path is not followed.
    ///
    /// # Errors
    /// EXDEV where the dialect cannot move between directories.
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<()> {
        self.run(self.inner.rename(from.as_ref(), to.as_ref()))
    }

    /// Copies the content and the permission bits of a file; returns the number of bytes. What `to` names is
    /// not touched before the first bytes of `from` are there.
    ///
    /// # Errors
    /// EISDIR for a directory, [`Error::InvalidInput`](super::Error::InvalidInput) for what is neither that nor a regular
    /// file, and for a file that would be copied onto itself.
    pub fn copy(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<u64> {
        self.run(self.inner.copy(from.as_ref(), to.as_ref()))
    }

    /// Gives a file another name. A symbolic link at the end of `original` is not followed.
    pub fn hard_link(&self, original: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Result<()> {
        self.run(self.inner.hard_link(original.as_ref(), link.as_ref()))
    }

    /// Makes a symbolic link that says `target`, which is taken as it is.
    pub fn symlink(&self, target: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Result<()> {
        self.run(self.inner.symlink(target.as_ref(), link.as_ref()))
    }

    /// What a symbolic link says.
    pub fn read_link(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        self.run(self.inner.read_link(path.as_ref()))
    }

    /// The path from the mount's root, with a leading `/` and without links, "." and "..".
    pub fn canonicalize(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        self.run(self.inner.canonicalize(path.as_ref()))
    }

    /// Makes a device (`mode` S_IFCHR or S_IFBLK with `major` and `minor`), a named pipe or a socket
    /// name.
    pub fn mknod(&self, path: impl AsRef<[u8]>, mode: u32, major: u32, minor: u32) -> Result<()> {
        self.run(self.inner.mknod(path.as_ref(), mode, major, minor))
    }

    /// Changes the permission bits.
    pub fn set_permissions(&self, path: impl AsRef<[u8]>, permissions: Permissions) -> Result<()> {
        self.run(self.inner.set_permissions(path.as_ref(), permissions))
    }

    /// Changes access and modification time.
    pub fn set_times(&self, path: impl AsRef<[u8]>, times: FileTimes) -> Result<()> {
        self.run(self.inner.set_times(path.as_ref(), times))
    }

    /// As [`set_times`](Self::set_times), but of a symbolic link itself.
    pub fn set_times_nofollow(&self, path: impl AsRef<[u8]>, times: FileTimes) -> Result<()> {
        self.run(self.inner.set_times_nofollow(path, times))
    }

    /// Changes owner and group; `None` leaves one as it is.
    pub fn chown(&self, path: impl AsRef<[u8]>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.run(self.inner.chown(path.as_ref(), uid, gid))
    }

    /// As [`chown`](Self::chown), but of a symbolic link itself.
    pub fn lchown(&self, path: impl AsRef<[u8]>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.run(self.inner.lchown(path.as_ref(), uid, gid))
    }

    /// Cuts or extends (with zeros) a file to `size` bytes.
    pub fn truncate(&self, path: impl AsRef<[u8]>, size: u64) -> Result<()> {
        self.run(self.inner.truncate(path.as_ref(), size))
    }

    /// How full the file system is that the path lies on.
    pub fn statfs(&self, path: impl AsRef<[u8]>) -> Result<StatFs> {
        self.run(self.inner.statfs(path.as_ref()))
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// ENODATA when there is none of this name.
    pub fn xattr(&self, path: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        self.run(self.inner.xattr(path.as_ref(), name.as_ref()))
    }

    /// The names of all extended attributes.
    pub fn list_xattrs(&self, path: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>> {
        self.run(self.inner.list_xattrs(path.as_ref()))
    }

    /// Sets an extended attribute, new or not; 64 KiB at most.
    pub fn set_xattr(
        &self,
        path: impl AsRef<[u8]>,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.run(
            self.inner
                .set_xattr(path.as_ref(), name.as_ref(), value.as_ref()),
        )
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, path: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<()> {
        self.run(self.inner.remove_xattr(path.as_ref(), name.as_ref()))
    }

    fn run<T>(&self, operation: impl Future<Output = T>) -> T {
        self.inner.session().block_on(operation)
    }
}

impl Tree for Fs {
    fn root(&self) -> DynNode {
        DynNode::new(self.inner.node())
    }

    fn driver(&self) -> Rc<dyn Driver> {
        Rc::new(self.inner.session().clone())
    }

    fn new_files(&self) -> NewFiles {
        self.inner.new_files()
    }
}

impl OpenPath for Fs {
    type File = File;

    fn open_path(&self, path: &[u8], options: &OpenOptions) -> Result<File> {
        self.open_with(path, options)
    }
}
