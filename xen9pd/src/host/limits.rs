//! Counting what a share holds, for `max-files` and `max-space`.
//!
//! The size of a regular file, rounded up to whole blocks, is what counts, not the blocks it has: what a write will add is
//! then known before it is made. A file counts until its last name is gone and nothing has it open.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use p9_tree::Result;
use p9_wire::{Errno, FileKind};
use rustix::fs::{AtFlags, OFlags, ResolveFlags, Statx};

use super::{FileId, Limits, errno, sys};

const BLOCK: u64 = 4096;

/// What a share holds.
#[derive(Debug)]
pub(super) struct Usage {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: u64,
    bytes: u64,
    /// Files that a node stands for.
    open: HashMap<FileId, Open>,
}

#[derive(Debug)]
struct Open {
    nodes: u32,
    /// The size that is in the sum.
    size: u64,
    regular: bool,
    /// The last name is gone.
    removed: bool,
}

/// Room for one more file, given back unless it is kept.
pub(super) struct Place<'a>(Option<&'a Usage>);

impl Usage {
    /// Looks through everything under `root` on its file system. A file with several names counts once.
    pub(super) fn count(root: BorrowedFd<'_>, limits: Limits) -> rustix::io::Result<Usage> {
        let mut state = State::default();
        let mut linked = HashSet::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let mut dirs = vec![sys::open_beneath(root, b".", flags, 0, resolve).map(Arc::new)?];
        let mut pending: Vec<(Arc<OwnedFd>, Vec<u8>)> = Vec::new();
        state.files += 1;
        loop {
            let Some(dir) = dirs.pop() else {
                let Some((parent, name)) = pending.pop() else {
                    break;
                };
                match sys::open_beneath(parent.as_fd(), &name, flags, 0, resolve) {
                    Ok(dir) => dirs.push(Arc::new(dir)),
                    // Removed meanwhile, or another file system.
                    Err(
                        rustix::io::Errno::NOENT
                        | rustix::io::Errno::NOTDIR
                        | rustix::io::Errno::XDEV,
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
                state.files += 1;
                match kind {
                    FileKind::DIR => pending.push((dir.clone(), name.to_bytes().to_vec())),
                    FileKind::REGULAR => state.bytes += charged(stat.st_size as u64),
                    _ => {}
                }
            }
        }
        Ok(Usage {
            limits,
            state: Mutex::new(state),
        })
    }

    /// Bytes and files.
    pub(super) fn totals(&self) -> (u64, u64) {
        let state = self.state();
        (state.bytes, state.files)
    }

    /// Room for one more file.
    pub(super) fn new_file(&self) -> Result<Place<'_>> {
        let mut state = self.state();
        if state.files >= self.limits.max_files.unwrap_or(u64::MAX) {
            return Err(Errno::EDQUOT.into());
        }
        state.files += 1;
        Ok(Place(Some(self)))
    }

    /// A node stands for this file now.
    pub(super) fn opened(&self, stat: &Statx) {
        let mut state = self.state();
        let open = state.open.entry(FileId::of(stat)).or_insert_with(|| Open {
            nodes: 0,
            size: stat.stx_size,
            regular: sys::file_kind(stat) == FileKind::REGULAR,
            removed: false,
        });
        open.nodes += 1;
    }

    /// A node, which had the descriptor `fd`, stands for this file no more.
    pub(super) fn closed(&self, id: FileId, fd: &OwnedFd) {
        let real = sys::stat(fd).map(|stat| stat.stx_size);
        let mut state = self.state();
        let Some(open) = state.open.get_mut(&id) else {
            return;
        };
        open.nodes -= 1;
        if open.nodes > 0 {
            return;
        }
        let removed = open.removed;
        // What writes that failed, or other programs, made of it meanwhile.
        let size = if removed {
            0
        } else {
            real.unwrap_or(open.size)
        };
        state.resize(id, size);
        state.open.remove(&id);
        if removed {
            state.files = state.files.saturating_sub(1);
        }
    }

    /// Makes room for the file to be `size` bytes long, before it is.
    ///
    /// # Errors
    /// EDQUOT.
    pub(super) fn grow(&self, id: FileId, size: u64) -> Result<()> {
        let mut state = self.state();
        let Some(open) = state.open.get(&id) else {
            return Ok(());
        };
        if size <= open.size {
            return Ok(());
        }
        let more = charged(size) - charged(open.size);
        let max = self.limits.max_space.unwrap_or(u64::MAX);
        if more > 0 && state.bytes.saturating_add(more) > max {
            return Err(Errno::EDQUOT.into());
        }
        state.resize(id, size);
        Ok(())
    }

    /// Makes room for a write of `len` bytes at the end.
    ///
    /// # Errors
    /// EDQUOT.
    pub(super) fn grow_by_append(&self, id: FileId, fd: BorrowedFd<'_>, len: u64) -> Result<()> {
        let real = sys::stat(fd).map_err(errno)?.stx_size;
        let known = self.state().open.get(&id).map_or(0, |open| open.size);
        self.grow(id, real.max(known).saturating_add(len))
    }

    /// The file has been cut, or set, to this size.
    pub(super) fn settle(&self, id: FileId, size: u64) {
        self.state().resize(id, size);
    }

    /// A name of the file that `fd` is a descriptor of has been removed.
    pub(super) fn name_removed(&self, id: FileId, fd: BorrowedFd<'_>) {
        let Ok(stat) = sys::stat(fd) else { return };
        let gone = stat.stx_nlink == 0
            // The name that some file systems go on counting is the directory's own ".".
            || sys::file_kind(&stat) == FileKind::DIR && stat.stx_nlink < 2;
        if let Some(open) = self.state().open.get_mut(&id) {
            open.removed |= gone;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
            let mut state = usage.state();
            state.files = state.files.saturating_sub(1);
        }
    }
}

impl State {
    /// The file is of this size now, as far as the sum is concerned.
    fn resize(&mut self, id: FileId, size: u64) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if open.regular {
            let before = charged(open.size);
            open.size = size;
            self.bytes = self
                .bytes
                .saturating_add(charged(size))
                .saturating_sub(before);
        }
    }
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
