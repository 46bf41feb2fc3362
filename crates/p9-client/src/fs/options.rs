//! How to mount a server.

use alloc::vec::Vec;
use core::time::Duration;

use crate::Dialect;
use crate::session::Config;

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
            read_ahead: 4 << 20,
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
    /// pieces of no more than half as many: 4 MiB by default, which keep every ring busy. So many are asked for before the program does, and
    /// in flight while it works; at first few, and twice as many each time that the program has come half way. They wait in the rings,
    /// or in memory where others need the rings. 0 for none: then every read sees what the server
    /// has at that moment. Otherwise what others than this mount's session change may be missed within the bytes read ahead.
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
