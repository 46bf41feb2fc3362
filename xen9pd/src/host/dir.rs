//! Listing a directory from any place on, without losing or repeating an entry.

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use p9_tree::Result;
use p9_wire::{DirEntry, DirEntryKind, Errno, FileKind, Qid};
use rustix::fs::{AtFlags, FileType, RawDir, SeekFrom};

use super::{FileId, HostNode, errno, qid};

/// What one getdents64 is asked for.
const CHUNK: usize = 32 << 10;

/// Where a listing is, and the entries that the kernel gave but the peer has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The offset of the last entry taken; the next one is `entries[at]`, or what the descriptor's position is before.
    position: u64,
    entries: Vec<Entry>,
    names: Vec<u8>,
    at: usize,
}

#[derive(Debug)]
struct Entry {
    ino: u64,
    /// The kernel's `d_off`: the place behind this entry, which holds while others come and go.
    offset: u64,
    kind: FileKind,
    name: std::ops::Range<usize>,
}

impl Cursor {
    pub(super) fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        node: &HostNode,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        // At 0 a peer wants to see the directory as it is now.
        if offset == 0 || offset != self.position {
            self.seek(fd, offset)?;
        }
        loop {
            let Some(entry) = self.entries.get(self.at) else {
                if self.fill(fd)? {
                    continue;
                }
                return Ok(());
            };
            let name = &self.names[entry.name.clone()];
            let shown = DirEntry {
                qid: entry_qid(node, entry, name)?,
                offset: entry.offset,
                kind: DirEntryKind::of(entry.kind),
                name,
            };
            if !each(&shown) {
                return Ok(());
            }
            self.position = entry.offset;
            self.at += 1;
        }
    }

    fn seek(&mut self, fd: BorrowedFd<'_>, offset: u64) -> Result<()> {
        self.clear();
        if i64::try_from(offset).is_err() {
            return Err(Errno::EINVAL.into());
        }
        rustix::fs::seek(fd, SeekFrom::Start(offset)).map_err(errno)?;
        self.position = offset;
        Ok(())
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.names.clear();
        self.at = 0;
    }

    /// Takes in the kernel's next entries; `false` at the end.
    fn fill(&mut self, fd: BorrowedFd<'_>) -> Result<bool> {
        self.clear();
        let mut buffer = [MaybeUninit::uninit(); CHUNK];
        let mut dir = RawDir::new(fd, &mut buffer);
        while let Some(entry) = dir.next() {
            let entry = entry.map_err(errno)?;
            let name = entry.file_name().to_bytes();
            let start = self.names.len();
            self.names.extend_from_slice(name);
            self.entries.push(Entry {
                ino: entry.ino(),
                offset: entry.next_entry_cookie(),
                kind: kind_of(fd, &entry),
                name: start..self.names.len(),
            });
            if dir.is_buffer_empty() {
                break;
            }
        }
        Ok(!self.entries.is_empty())
    }
}

fn kind_of(fd: BorrowedFd<'_>, entry: &rustix::fs::RawDirEntry<'_>) -> FileKind {
    let mut kind = entry.file_type();
    if kind == FileType::Unknown {
        let stat = rustix::fs::statat(fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
        kind = stat.map_or(kind, |stat| FileType::from_raw_mode(stat.st_mode));
    }
    match kind {
        FileType::Unknown => FileKind::of_mode(0),
        known => FileKind::of_mode(known.as_raw_mode()),
    }
}

/// What a peer learns of an entry's identity without another system call: as on other servers, the version is 0, and
/// where another file system is mounted it is the directory under it.
fn entry_qid(node: &HostNode, entry: &Entry, name: &[u8]) -> Result<Qid> {
    let tree = node.tree();
    let mut id = FileId {
        dev: node.id().dev,
        ino: entry.ino,
    };
    // What is above the share is no business of the peer's.
    if name == b".." && node.id() == tree.root_id {
        id = tree.root_id;
    }
    Ok(Qid {
        kind: qid::kind_of(entry.kind),
        version: 0,
        path: tree.qids.path(id)?,
    })
}
