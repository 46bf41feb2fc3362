//! Counting what a share holds, for `max-files` and `max-space`.
//!
//! The size of a regular file, rounded up to whole blocks, is what counts, not the blocks it has: what a write will add is
//! then known before it is made. A file counts until its last name is gone and nothing has it open; a directory until it is
//! removed. The numbers are in a [`Ledger`], because other processes may serve the same directory.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use p9_tree::Result;
use p9_wire::{Errno, FileKind};
use rustix::fs::{AtFlags, OFlags, ResolveFlags};

use super::ledger::{Changing, Ledger, Uses};
use super::{FileId, Limits, errno, sys};

const BLOCK: u64 = 4096;

/// What a share holds.
#[derive(Debug)]
pub(super) struct Usage {
    limits: Limits,
    ledger: Ledger,
    /// Files that nodes of this process stand for, and how many do.
    open: Mutex<HashMap<FileId, u32>>,
}

/// Room for one more file, given back unless it is kept.
pub(super) struct Place<'a>(Option<&'a Usage>);

impl Usage {
    /// What is under `root`, unless the ledger says it.
    pub(super) fn new(
        root: BorrowedFd<'_>,
        ledger: Ledger,
        limits: Limits,
        cross_mounts: bool,
    ) -> rustix::io::Result<Usage> {
        ledger.begin(|| count(root, cross_mounts))?;
        Ok(Usage {
            limits,
            ledger,
            open: Mutex::default(),
        })
    }

    /// Bytes and files.
    pub(super) fn totals(&self) -> (u64, u64) {
        let [bytes, files] = [self.ledger.bytes(), self.ledger.files()];
        (bytes.load(Ordering::Relaxed), files.load(Ordering::Relaxed))
    }

    /// Room for one more file.
    pub(super) fn new_file(&self) -> Result<Place<'_>> {
        let max = self.limits.max_files.unwrap_or(u64::MAX);
        match add(self.ledger.files(), 1, max) {
            true => Ok(Place(Some(self))),
            false => Err(Errno::EDQUOT.into()),
        }
    }

    /// A node, which has the descriptor `fd`, stands for this file now.
    pub(super) fn opened(&self, id: FileId, fd: &OwnedFd) -> Result<()> {
        let mut open = self.open();
        if let Some(nodes) = open.get_mut(&id) {
            *nodes += 1;
            return Ok(());
        }
        let uses = self.ledger.uses().map_err(errno)?;
        uses.begin(id).map_err(errno)?;
        // It was opened, removed and taken off the numbers, in this order: there it is again.
        if let Some(size) = self.left(id, fd, &uses) {
            add(self.ledger.files(), 1, u64::MAX);
            add(self.ledger.bytes(), size, u64::MAX);
        }
        open.insert(id, 1);
        Ok(())
    }

    /// A node, which had the descriptor `fd`, stands for this file no more.
    pub(super) fn closed(&self, id: FileId, fd: &OwnedFd) {
        let mut open = self.open();
        let Some(nodes) = open.get_mut(&id) else {
            return;
        };
        *nodes -= 1;
        if *nodes > 0 {
            return;
        }
        open.remove(&id);
        let Ok(uses) = self.ledger.uses() else { return };
        if let Some(size) = self.left(id, fd, &uses) {
            take(self.ledger.files(), 1);
            take(self.ledger.bytes(), size);
        }
        uses.end(id);
    }

    /// What a file counts that has no name any more, and that no other process uses: it is this process that puts it on the
    /// numbers and takes it off.
    fn left(&self, id: FileId, fd: &OwnedFd, uses: &Uses<'_>) -> Option<u64> {
        let stat = sys::stat(fd).ok()?;
        let kind = sys::file_kind(&stat);
        if kind == FileKind::DIR || stat.stx_nlink > 0 || uses.by_others(id) {
            return None;
        }
        Some(match kind {
            FileKind::REGULAR => charged(stat.stx_size),
            _ => 0,
        })
    }

    /// Waits until no other takes names from these directories.
    pub(super) fn names(&self, one: FileId, other: FileId) -> Result<[Option<Changing<'_>>; 2]> {
        self.ledger.changing_both(one, other).map_err(errno)
    }

    /// A directory has been removed.
    pub(super) fn directory_removed(&self) {
        take(self.ledger.files(), 1);
    }

    /// Does `work`, after which the regular file has the size that `size` makes of the one that it has now.
    ///
    /// # Errors
    /// EDQUOT, without doing it; or that of the work.
    pub(super) fn change<T>(
        &self,
        id: FileId,
        fd: BorrowedFd<'_>,
        size: impl FnOnce(u64) -> u64,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let _changing = self.ledger.changing(id).map_err(errno)?;
        let before = sys::stat(fd).map_err(errno)?.stx_size;
        let size = size(before);
        let more = charged(size).saturating_sub(charged(before));
        let max = self.limits.max_space.unwrap_or(u64::MAX);
        if more > 0 && !add(self.ledger.bytes(), more, max) {
            return Err(Errno::EDQUOT.into());
        }
        let done = work();
        if size != before {
            // A write may fail, or stop half-way.
            let after = sys::stat(fd).map_or(size, |stat| stat.stx_size);
            let (counted, now) = (charged(before).saturating_add(more), charged(after));
            take(self.ledger.bytes(), counted.saturating_sub(now));
            add(self.ledger.bytes(), now.saturating_sub(counted), u64::MAX);
        }
        done
    }

    fn open(&self) -> MutexGuard<'_, HashMap<FileId, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// The file has been made.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(usage) = self.0 {
            take(usage.ledger.files(), 1);
        }
    }
}

/// Adds, unless it would become more than `max`.
fn add(number: &AtomicU64, more: u64, max: u64) -> bool {
    let order = Ordering::Relaxed;
    let sum = |now: u64| now.checked_add(more).filter(|&sum| sum <= max);
    number.fetch_update(order, order, sum).is_ok()
}

/// Takes away, down to nothing.
fn take(number: &AtomicU64, less: u64) {
    let order = Ordering::Relaxed;
    let _ = number.fetch_update(order, order, |now| Some(now.saturating_sub(less)));
}

/// Looks through everything under `root`; says how many files and bytes there are. A file with several names counts once.
fn count(root: BorrowedFd<'_>, cross_mounts: bool) -> rustix::io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (1, 0);
    let mut linked = HashSet::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    resolve.set(ResolveFlags::NO_XDEV, !cross_mounts);
    let mut dirs = vec![sys::open_beneath(root, b".", flags, 0, resolve).map(Arc::new)?];
    let mut pending: Vec<(Arc<OwnedFd>, Vec<u8>)> = Vec::new();
    loop {
        let Some(dir) = dirs.pop() else {
            let Some((parent, name)) = pending.pop() else {
                break;
            };
            match sys::open_beneath(parent.as_fd(), &name, flags, 0, resolve) {
                Ok(dir) => dirs.push(Arc::new(dir)),
                // Removed meanwhile, or another file system.
                Err(
                    rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::XDEV,
                ) => {}
                Err(error) => return Err(error),
            }
            continue;
        };
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let kind = FileKind::of_mode(stat.st_mode);
            if kind != FileKind::DIR
                && stat.st_nlink > 1
                && !linked.insert((stat.st_dev, stat.st_ino))
            {
                continue;
            }
            files += 1;
            match kind {
                FileKind::DIR => pending.push((dir.clone(), name.to_bytes().to_vec())),
                FileKind::REGULAR => bytes += charged(stat.st_size as u64),
                _ => {}
            }
        }
    }
    Ok((files, bytes))
}

/// What a file of this size counts.
fn charged(size: u64) -> u64 {
    size.div_ceil(BLOCK).saturating_mul(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_in_blocks() {
        assert_eq!([0, 1, 4096, 4097].map(charged), [0, 4096, 4096, 8192]);
    }
}
