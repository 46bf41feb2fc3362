//! [`HostFile`]: an open file of a share.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use p9_tree::{HeldLock, Lock, OpenFile, Result};
use p9_wire::{DirEntry, Errno, FileKind, LockFlags, LockStatus, OpenFlags};

use rustix::fs::OFlags;

use super::dir::Cursor;
use super::locks::OwnerLocks;
use super::{HostNode, Tree, errno};

/// An open file or directory. Holds a descriptor until it is dropped, and the locks taken through it.
pub struct HostFile {
    fd: Arc<OwnedFd>,
    node: HostNode,
    flags: OpenFlags,
    cursor: Mutex<Cursor>,
    locks: Mutex<Vec<Arc<OwnerLocks>>>,
    _slot: Slot,
}

/// A place among the open files of a share.
#[derive(Debug)]
pub(super) struct Slot(Arc<Tree>);

impl Tree {
    /// Counts one more open file.
    pub(super) fn take_slot(self: &Arc<Self>) -> Result<Slot> {
        let max = self.options.limits.max_open_files.unwrap_or(u64::MAX);
        let taken = self
            .open_files
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < max).then_some(open + 1)
            });
        match taken {
            Ok(_) => Ok(Slot(self.clone())),
            Err(_) => Err(Errno::EMFILE.into()),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open_files.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for HostFile {
    fn drop(&mut self) {
        self.node.outlive_way();
    }
}

impl fmt::Debug for HostFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostFile")
            .field("fd", &self.fd)
            .field("node", &self.node)
            .field("flags", &self.flags)
            .finish()
    }
}

impl HostFile {
    pub(super) fn new(node: HostNode, fd: Arc<OwnedFd>, flags: OpenFlags, slot: Slot) -> HostFile {
        HostFile {
            fd,
            node,
            flags,
            cursor: Mutex::default(),
            locks: Mutex::default(),
            _slot: slot,
        }
    }

    /// Reads with a system call of the caller's, such as preadv straight into the pieces of a ring: `call` gets the
    /// descriptor, and returns how many bytes it read.
    ///
    /// # Errors
    /// EBADF for a file that is not open for reading, EISDIR for a directory, else the error of `call`.
    pub fn read_with(
        &self,
        call: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Result<usize> {
        if self.node.kind() == FileKind::DIR {
            return Err(Errno::EISDIR.into());
        }
        if !self.is_readable() {
            return Err(Errno::EBADF.into());
        }
        call(self.fd.as_fd()).map_err(errno)
    }

    /// Writes `len` bytes at `offset` with a system call of the caller's, such as pwritev straight from the pieces of a
    /// ring: `call` gets the descriptor, and returns how many bytes it wrote. Calls it once, or not at all where a limit
    /// of the share is in the way.
    ///
    /// # Errors
    /// EBADF for a file that is not open for writing, EDQUOT at a limit, else the error of `call`.
    pub fn write_with(
        &self,
        offset: u64,
        len: usize,
        call: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Result<usize> {
        if !self.is_writable() {
            return Err(Errno::EBADF.into());
        }
        let _user = self.node.assume()?;
        self.node.lower_fsetid()?;
        let write = || call(self.fd.as_fd()).map_err(errno);
        let Some(usage) = self.node.usage() else {
            return write();
        };
        let appends = self.flags.contains(OpenFlags::APPEND);
        let grown = |size: u64| {
            let start = if appends { size } else { offset };
            size.max(start.saturating_add(len as u64))
        };
        usage.change(self.node.id(), self.fd.as_fd(), grown, write)
    }

    fn is_readable(&self) -> bool {
        !self.flags.contains(OpenFlags::WRITE_ONLY) || self.flags.contains(OpenFlags::READ_WRITE)
    }

    fn is_writable(&self) -> bool {
        self.flags
            .intersects(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE)
    }
}

/// The descriptor, for reading. Writes go through [`write_with`](HostFile::write_with), which honours the share's limits.
impl AsFd for HostFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl OpenFile for HostFile {
    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            match self.read_with(|fd| rustix::io::pread(fd, rest, at)) {
                Ok(0) => break,
                Ok(len) => done += len,
                // What was read before the error is an answer; the next request meets the error again.
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        self.write_with(offset, from.len(), |fd| {
            rustix::io::pwrite(fd, from, offset)
        })
    }

    async fn readdir(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        if self.node.kind() != FileKind::DIR {
            return Err(Errno::ENOTDIR.into());
        }
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        cursor.read(self.fd.as_fd(), &self.node, offset, each)
    }

    async fn fsync(&self, data_only: bool) -> Result<()> {
        let synced = if data_only {
            rustix::fs::fdatasync(&self.fd)
        } else {
            rustix::fs::fsync(&self.fd)
        };
        synced.map_err(errno)
    }

    async fn lock(&self, lock: &Lock<'_>, _: LockFlags) -> Result<LockStatus> {
        let (status, owner) = self
            .node
            .set_lock(lock, self.is_readable(), self.is_writable())?;
        if let Some(owner) = owner {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            if !locks.iter().any(|known| Arc::ptr_eq(known, &owner)) {
                locks.push(owner);
            }
        }
        Ok(status)
    }

    async fn getlock(&self, lock: &Lock<'_>) -> Result<Option<HeldLock>> {
        self.node.find_lock(lock)
    }
}

/// What of a peer's flags reaches the kernel.
pub(super) fn open_flags(flags: OpenFlags) -> OFlags {
    let mut open = if flags.contains(OpenFlags::READ_WRITE) {
        OFlags::RDWR
    } else if flags.contains(OpenFlags::WRITE_ONLY) {
        OFlags::WRONLY
    } else {
        OFlags::RDONLY
    };
    let passed = [
        (OpenFlags::APPEND, OFlags::APPEND),
        (OpenFlags::TRUNCATE, OFlags::TRUNC),
        (OpenFlags::DIRECTORY, OFlags::DIRECTORY),
        (OpenFlags::DATA_SYNC, OFlags::DSYNC),
        (OpenFlags::SYNC | OpenFlags::DATA_SYNC, OFlags::SYNC),
    ];
    for (theirs, ours) in passed {
        open.set(ours, open.contains(ours) || flags.contains(theirs));
    }
    open
}

/// Whether a file opened so can change.
pub(super) fn changes(flags: OpenFlags) -> bool {
    flags.intersects(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE | OpenFlags::TRUNCATE)
}
