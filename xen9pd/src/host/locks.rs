//! Locks on ranges of bytes, which hold against everyone who looks: other peers, their servers, programs of this machine.
//!
//! A lock belongs to a process of the peer, whichever of its fids it came through. So each (file, process) that has locks
//! has one open file description of its own, and the kernel's locks of open file descriptions (OFD) do the rest. It is
//! closed, and its locks are gone, when the last open file through which it took some is closed.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use p9_tree::{HeldLock, Lock, Result};
use p9_wire::{Errno, FileKind, LockKind, LockStatus};
use rustix::fs::OFlags;

use super::sys::{self, RangeLock};
use super::{FileId, HostNode, errno};

/// Owners whose locks are looked through before the table is swept of those that are gone.
const SWEEP_AT: usize = 64;

/// The locks taken through one Tattach. Names of machines and numbers of processes are the peer's word, so what one
/// peer says means nothing for another.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<Owner, Weak<OwnerLocks>>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner {
    file: FileId,
    process: u32,
    client: Vec<u8>,
}

/// The locks of one process of the peer on one file.
#[derive(Debug)]
pub(super) struct OwnerLocks(OwnedFd);

impl HostNode {
    /// Takes or gives back a lock; with a lock taken comes what keeps it.
    pub(super) fn set_lock(
        &self,
        lock: &Lock<'_>,
        readable: bool,
        writable: bool,
    ) -> Result<(LockStatus, Option<Arc<OwnerLocks>>)> {
        let range = range_of(lock)?;
        let wrong_way =
            lock.kind == LockKind::READ && !readable || lock.kind == LockKind::WRITE && !writable;
        if wrong_way || self.kind() != FileKind::REGULAR {
            return Err(Errno::EBADF.into());
        }
        let owner = match self.owner_locks(lock, lock.kind != LockKind::UNLOCK)? {
            Some(owner) => owner,
            // Nothing is held that could be given back.
            None => return Ok((LockStatus::SUCCESS, None)),
        };
        match sys::set_lock(owner.0.as_fd(), range) {
            Ok(()) => Ok((LockStatus::SUCCESS, Some(owner))),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                Ok((LockStatus::BLOCKED, None))
            }
            Err(error) => Err(errno(error)),
        }
    }

    /// The lock in the way of this one.
    pub(super) fn find_lock(&self, lock: &Lock<'_>) -> Result<Option<HeldLock>> {
        let range = range_of(lock)?;
        if lock.kind == LockKind::UNLOCK {
            return Err(Errno::EINVAL.into());
        }
        if self.kind() != FileKind::REGULAR {
            return Err(Errno::EBADF.into());
        }
        let found = match self.owner_locks(lock, false)? {
            Some(owner) => sys::get_lock(owner.0.as_fd(), range),
            None => sys::get_lock(self.reopen(OFlags::RDONLY)?.as_fd(), range),
        };
        let found = found.map_err(errno)?;
        Ok(found.map(|found| HeldLock {
            kind: if found.kind == libc::F_WRLCK {
                LockKind::WRITE
            } else {
                LockKind::READ
            },
            start: found.start as u64,
            length: found.length as u64,
            owner: u32::try_from(found.pid).unwrap_or(0),
            client: Vec::new(),
        }))
    }

    /// The locks of this process on this file; if `make`, begins with none.
    fn owner_locks(&self, lock: &Lock<'_>, make: bool) -> Result<Option<Arc<OwnerLocks>>> {
        let owner = Owner {
            file: self.id(),
            process: lock.owner,
            client: lock.client.to_vec(),
        };
        let mut table = self
            .attach()
            .locks
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.get(&owner).and_then(Weak::upgrade) {
            return Ok(Some(known));
        }
        if !make {
            return Ok(None);
        }
        // Exclusive locks need a descriptor for writing, shared ones one for reading. Where writing is out of the
        // question (a program that runs, a share that is read-only) no client can ask for exclusive ones.
        let fd = if self.tree().options.read_only {
            self.reopen(OFlags::RDONLY)?
        } else {
            match self.reopen(OFlags::RDWR) {
                Ok(fd) => fd,
                Err(_) if lock.kind == LockKind::READ => self.reopen(OFlags::RDONLY)?,
                Err(error) => return Err(error),
            }
        };
        let new = Arc::new(OwnerLocks(fd));
        if table.len() >= SWEEP_AT && table.len() == table.capacity() {
            table.retain(|_, locks| locks.strong_count() > 0);
        }
        table.insert(owner, Arc::downgrade(&new));
        Ok(Some(new))
    }
}

fn range_of(lock: &Lock<'_>) -> Result<RangeLock> {
    let kind = match lock.kind {
        LockKind::READ => libc::F_RDLCK,
        LockKind::WRITE => libc::F_WRLCK,
        LockKind::UNLOCK => libc::F_UNLCK,
        _ => return Err(Errno::EINVAL.into()),
    };
    let number = |value: u64| i64::try_from(value).map_err(|_| Errno::EOVERFLOW);
    let (start, length) = (number(lock.start)?, number(lock.length)?);
    if start.checked_add(length).is_none() {
        return Err(Errno::EOVERFLOW.into());
    }
    Ok(RangeLock {
        kind,
        start,
        length,
        pid: 0,
    })
}
