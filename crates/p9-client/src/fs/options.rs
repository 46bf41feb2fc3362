//! How to open a file, and how to mount a server.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Error, File, Fs, Result};
use crate::Dialect;
use crate::session::Config;
use p9_wire::Errno;
use p9_wire::{OpenFlags, Qid, QidKind};

/// How to open a file: the options and the meaning of `std::fs::OpenOptions`.
///
/// ```
/// # use xen9p::fs::{Fs, OpenOptions, Result};
/// # fn demo(fs: &Fs) -> Result<()> {
/// let log = OpenOptions::new().append(true).create(true).open(fs, "/var/log")?;
/// log.write_all(b"started\n")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) append: bool,
    pub(crate) truncate: bool,
    pub(crate) create: bool,
    pub(crate) create_new: bool,
    pub(crate) directory: bool,
    pub(crate) write_behind: usize,
    pub(crate) mode: u32,
    pub(crate) custom_flags: u32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Everything off, new files with mode 0666 less the mount's umask.
    pub const fn new() -> Self {
        OpenOptions {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            directory: false,
            write_behind: 0,
            mode: 0o666,
            custom_flags: 0,
        }
    }

    /// For reading.
    pub const fn read(&mut self, on: bool) -> &mut Self {
        self.read = on;
        self
    }

    /// For writing.
    pub const fn write(&mut self, on: bool) -> &mut Self {
        self.write = on;
        self
    }

    /// For writing at the end, wherever the end is when the server writes.
    pub const fn append(&mut self, on: bool) -> &mut Self {
        self.append = on;
        self
    }

    /// Empties the file; needs [`write`](Self::write).
    pub const fn truncate(&mut self, on: bool) -> &mut Self {
        self.truncate = on;
        self
    }

    /// Makes the file if there is none; needs [`write`](Self::write) or [`append`](Self::append).
    pub const fn create(&mut self, on: bool) -> &mut Self {
        self.create = on;
        self
    }

    /// Makes the file and fails with EEXIST if the name is taken, even by a dangling link.
    /// [`create`](Self::create) and [`truncate`](Self::truncate) are then ignored.
    pub const fn create_new(&mut self, on: bool) -> &mut Self {
        self.create_new = on;
        self
    }

    /// Fails with ENOTDIR on anything but a directory.
    pub const fn directory(&mut self, on: bool) -> &mut Self {
        self.directory = on;
        self
    }

    /// How many bytes [`File::write`] may keep for the server to get later; less than 2 for none. Small
    /// writes, each where the one before ended, are put together to large requests that nobody waits
    /// for.
    ///
    /// * What else is done with this [`File`] waits for those bytes first, and so finds them written.
    ///   By another way (a second handle, a path, another client) they may be missed.
    /// * An error is told by a later [`write`](File::write), by [`flush`](File::flush),
    ///   [`sync_all`](File::sync_all), [`sync_data`](File::sync_data) or [`close`](File::close), whichever
    ///   is first; until then every other use of the file fails with it. Of what was written since the
    ///   last of these that went well, any part may be missing then.
    /// * [`close`](File::close) the file, or flush it: dropping it loses what is not sent yet, and
    ///   errors; the log is warned of both.
    ///
    /// Without effect on a file that is opened to [`append`](Self::append), whose writes have to keep
    /// their order, or with O_SYNC, O_DSYNC or O_DIRECT, which ask for the contrary.
    pub const fn write_behind(&mut self, bytes: usize) -> &mut Self {
        self.write_behind = bytes;
        self
    }

    /// The bytes to be written behind, when all is considered.
    pub(crate) fn behind_limit(&self) -> usize {
        let at_once = OpenFlags::SYNC | OpenFlags::DATA_SYNC | OpenFlags::DIRECT;
        let flags = OpenFlags::from_bits_retain(self.custom_flags);
        if self.append || !self.write || flags.intersects(at_once) {
            return 0;
        }
        self.write_behind
    }

    /// The mode of a file that is made, less the mount's umask.
    pub const fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Further Linux open flags (asm-generic numbers) for the server: O_SYNC, O_DIRECT, O_NOATIME …
    /// Access mode, O_CREAT, O_EXCL, O_TRUNC and O_APPEND are ignored here. Only 9P2000.L can
    /// carry them.
    pub const fn custom_flags(&mut self, flags: u32) -> &mut Self {
        self.custom_flags = flags;
        self
    }

    /// Whether the file is to be read.
    pub const fn is_read(&self) -> bool {
        self.read
    }

    /// Whether the file is to be written, at its end or anywhere.
    pub const fn is_write(&self) -> bool {
        self.write || self.append
    }

    /// Whether all that is written goes to the end.
    pub const fn is_append(&self) -> bool {
        self.append
    }

    /// Whether a file that is there is to be emptied.
    pub const fn is_truncate(&self) -> bool {
        self.truncate && !self.create_new
    }

    /// Whether a file that is not there is to be made.
    pub const fn is_create(&self) -> bool {
        self.create || self.create_new
    }

    /// Whether a file that is there is an error.
    pub const fn is_create_new(&self) -> bool {
        self.create_new
    }

    /// Whether anything but a directory is an error.
    pub const fn is_directory(&self) -> bool {
        self.directory
    }

    /// The mode of a file that is made, before any umask.
    pub const fn new_mode(&self) -> u32 {
        self.mode
    }

    /// Opens `path` on the mount `fs`. Same as [`Fs::open_with`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for options that contradict each other (those that `std` refuses);
    /// else see [`Fs::open`].
    pub fn open(&self, fs: &Fs, path: impl AsRef<[u8]>) -> Result<File> {
        fs.open_with(path, self)
    }

    /// What the file turns out to be has to be what the options are for.
    pub(crate) fn check_kind(&self, qid: Qid) -> Result<()> {
        let is_dir = qid.kind.contains(QidKind::DIR);
        // Not every server checks this: QEMU opens directories for writing.
        if is_dir && (self.write || self.append) {
            return Err(Errno::EISDIR.into());
        }
        if self.directory && !is_dir {
            return Err(Errno::ENOTDIR.into());
        }
        Ok(())
    }

    /// The same checks as `std` on Unix makes.
    pub(crate) fn check(&self) -> Result<()> {
        if !(self.read || self.write || self.append) {
            return Err(Error::InvalidInput(
                "a file has to be opened for reading, writing or appending",
            ));
        }
        let makes = self.truncate || self.create || self.create_new;
        if makes && !(self.write || self.append) {
            return Err(Error::InvalidInput(
                "creating or truncating needs write or append access",
            ));
        }
        if self.truncate && self.append && !self.create_new {
            return Err(Error::InvalidInput("truncate and append contradict"));
        }
        if self.directory && makes {
            return Err(Error::InvalidInput(
                "a directory is not made by opening it; see create_dir",
            ));
        }
        Ok(())
    }
}

/// How to mount: what to ask of the server, and the client's limits.
///
/// The defaults suit a Xen 9pfs backend run by QEMU.
///
/// ```
/// use core::time::Duration;
/// use xen9p::fs::{Fs, MountOptions, Result};
/// use xen9p::transport::Transport;
///
/// fn mount(transport: impl Transport + 'static) -> Result<Fs> {
///     let options = MountOptions::new()
///         .user("web", 33)
///         .gid(33)
///         .umask(0o027)
///         .timeout(Duration::from_secs(5));
///     Fs::mount(transport, &options)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    pub(crate) user: Vec<u8>,
    pub(crate) uid: u32,
    pub(crate) tree: Vec<u8>,
    pub(crate) gid: u32,
    pub(crate) umask: u32,
    pub(crate) msize: u32,
    pub(crate) window: u16,
    pub(crate) read_ahead: usize,
    pub(crate) keep_dirs: Duration,
    pub(crate) timeout: Duration,
    pub(crate) dialects: Vec<Dialect>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl MountOptions {
    /// User "root" with number 0, the server's default tree, new files with group 0, umask 022, the
    /// largest message the transport carries, 64 requests in flight, 30 s for each, 128 KiB read
    /// ahead, directories kept for 1 s, and the richest dialect that the server speaks.
    pub fn new() -> Self {
        let Config {
            msize,
            window,
            timeout,
        } = Config::default();
        MountOptions {
            user: b"root".to_vec(),
            uid: 0,
            tree: Vec::new(),
            gid: 0,
            umask: 0o022,
            msize,
            window,
            read_ahead: 128 << 10,
            keep_dirs: Duration::from_secs(1),
            timeout,
            dialects: Dialect::ALL.to_vec(),
        }
    }

    /// The user to attach as, by name and (in .L and .u) by number. QEMU looks at neither.
    #[must_use]
    pub fn user(mut self, name: impl AsRef<[u8]>, uid: u32) -> Self {
        self.user = name.as_ref().to_vec();
        self.uid = uid;
        self
    }

    /// The tree to attach to (aname), for servers that export several; diod wants the absolute path
    /// of an export, QEMU ignores it.
    #[must_use]
    pub fn tree(mut self, aname: impl AsRef<[u8]>) -> Self {
        self.tree = aname.as_ref().to_vec();
        self
    }

    /// The group of files that are made.
    #[must_use]
    pub const fn gid(mut self, gid: u32) -> Self {
        self.gid = gid;
        self
    }

    /// Permission bits that files and directories never get when they are made.
    #[must_use]
    pub const fn umask(mut self, umask: u32) -> Self {
        self.umask = umask & 0o777;
        self
    }

    /// The largest message to agree on, in bytes. The transport may allow less; below 4,096 the
    /// mount fails.
    #[must_use]
    pub const fn msize(mut self, bytes: u32) -> Self {
        self.msize = bytes;
        self
    }

    /// How many bytes at most are read ahead of a program that reads a file from front to back in
    /// pieces of less than half as many; never more than fit into a message. 0 for none: then every
    /// read sees what the server has at that moment. Otherwise what others than this mount's session
    /// change may be missed within the bytes read ahead.
    #[must_use]
    pub const fn read_ahead(mut self, bytes: usize) -> Self {
        self.read_ahead = bytes;
        self
    }

    /// How long the way to a directory in which names are changed one after the other (files made, removed,
    /// renamed) is believed to be the same; zero for never. Only others than this mount who put another
    /// directory in its place meanwhile could notice.
    #[must_use]
    pub const fn keep_dirs(mut self, time: Duration) -> Self {
        self.keep_dirs = time;
        self
    }

    /// How many requests may be in flight at once, from 1 to 16,384; rounded up to a multiple of the
    /// transport's lanes.
    #[must_use]
    pub const fn window(mut self, requests: u16) -> Self {
        self.window = requests;
        self
    }

    /// How long to wait for the answer to each request.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The dialects to try, in this order.
    #[must_use]
    pub fn dialects(mut self, dialects: &[Dialect]) -> Self {
        self.dialects = dialects.to_vec();
        self
    }

    pub(crate) fn session_config(&self) -> Config {
        Config {
            msize: self.msize,
            window: self.window,
            timeout: self.timeout,
        }
    }
}
