//! What a tree in memory is made of: nodes, and files that are open.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use crate::fs::{Error, FileTimes, Metadata, OpenOptions, Permissions, Result, SystemTime};
use crate::ns::{OpenFile, Synthetic};
use p9_wire::{Attr, AttrMask, Errno, FileKind, Qid, SetAttrMask};

/// What a file, directory or link takes of the tree's room besides its content, in bytes.
pub(super) const NODE_COST: usize = 512;

pub(super) type Clock = Box<dyn Fn() -> SystemTime>;

/// What all nodes of a tree share.
pub(super) struct Shared {
    pub(super) limit: usize,
    pub(super) used: Cell<usize>,
    pub(super) last_ino: Cell<u64>,
    pub(super) clock: Option<Clock>,
}

impl Shared {
    pub(super) fn take(&self, bytes: usize) -> Result<()> {
        let used = self.used.get().checked_add(bytes);
        let used = used.filter(|&used| used <= self.limit);
        self.used.set(used.ok_or(Errno::ENOSPC)?);
        Ok(())
    }

    pub(super) fn give(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_sub(bytes));
    }

    pub(super) fn now(&self) -> SystemTime {
        self.clock
            .as_ref()
            .map_or(SystemTime::UNIX_EPOCH, |now| now())
    }
}

pub(super) enum Body {
    Dir(RefCell<BTreeMap<Vec<u8>, Rc<Node>>>),
    File(RefCell<Vec<u8>>),
    Link(Vec<u8>),
    Synthetic(Rc<Synthetic>),
}

pub(super) struct Node {
    pub(super) ino: u64,
    pub(super) permissions: Cell<u32>,
    pub(super) owner: Cell<(u32, u32)>,
    pub(super) accessed: Cell<SystemTime>,
    pub(super) modified: Cell<SystemTime>,
    pub(super) body: Body,
    pub(super) shared: Rc<Shared>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let content = match &mut self.body {
            Body::File(content) => content.get_mut().len(),
            Body::Link(target) => target.len(),
            Body::Synthetic(_) => 0,
            Body::Dir(entries) => {
                // Not by recursion: trees may be deeper than the stack.
                let mut below: Vec<Rc<Node>> = Vec::new();
                below.extend(core::mem::take(entries.get_mut()).into_values());
                while let Some(node) = below.pop() {
                    if let Some(Node { body, .. }) = Rc::into_inner(node).as_mut()
                        && let Body::Dir(entries) = body
                    {
                        below.extend(core::mem::take(entries.get_mut()).into_values());
                    }
                }
                0
            }
        };
        self.shared.give(NODE_COST + content);
    }
}

impl Node {
    pub(super) fn new(shared: &Rc<Shared>, permissions: u32, body: Body) -> Result<Rc<Node>> {
        let content = match &body {
            Body::File(content) => content.borrow().len(),
            Body::Link(target) => target.len(),
            Body::Dir(_) | Body::Synthetic(_) => 0,
        };
        shared.take(NODE_COST + content)?;
        let now = shared.now();
        shared.last_ino.set(shared.last_ino.get() + 1);
        Ok(Rc::new(Node {
            ino: shared.last_ino.get(),
            permissions: Cell::new(permissions & 0o7777),
            owner: Cell::new((0, 0)),
            accessed: Cell::new(now),
            modified: Cell::new(now),
            body,
            shared: shared.clone(),
        }))
    }

    pub(super) fn entries(&self) -> Result<&RefCell<BTreeMap<Vec<u8>, Rc<Node>>>> {
        match &self.body {
            Body::Dir(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR.into()),
        }
    }

    pub(super) fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir(_))
    }

    pub(super) fn touch(&self) {
        self.modified.set(self.shared.now());
    }

    pub(super) fn metadata(&self) -> Metadata {
        let (kind, size) = match &self.body {
            Body::Dir(_) => (FileKind::DIR, 0),
            Body::File(content) => (FileKind::REGULAR, content.borrow().len()),
            Body::Link(target) => (FileKind::SYMLINK, target.len()),
            Body::Synthetic(_) => (FileKind::REGULAR, 0),
        };
        let (uid, gid) = self.owner.get();
        Metadata::from(&Attr {
            valid: AttrMask::BASIC - AttrMask::CTIME,
            qid: Qid {
                path: self.ino,
                ..Qid::default()
            },
            mode: kind.bits() | self.permissions.get(),
            uid,
            gid,
            nlink: 1,
            size: size as u64,
            blksize: 4096,
            blocks: (size as u64).div_ceil(512),
            atime: self.accessed.get().into(),
            mtime: self.modified.get().into(),
            ..Attr::default()
        })
    }

    pub(super) fn set_times(&self, times: FileTimes) {
        let attr = times.to_setattr();
        for (time, some, exact, to) in [
            (
                &self.accessed,
                SetAttrMask::ATIME,
                SetAttrMask::ATIME_SET,
                attr.atime,
            ),
            (
                &self.modified,
                SetAttrMask::MTIME,
                SetAttrMask::MTIME_SET,
                attr.mtime,
            ),
        ] {
            if attr.valid.contains(exact) {
                time.set(to.into());
            } else if attr.valid.contains(some) {
                time.set(self.shared.now());
            }
        }
    }

    pub(super) fn set_len(&self, size: u64) -> Result<()> {
        let content = match &self.body {
            Body::File(content) => content,
            Body::Dir(_) => return Err(Errno::EISDIR.into()),
            Body::Link(_) | Body::Synthetic(_) => return Err(Errno::EINVAL.into()),
        };
        let mut content = content.borrow_mut();
        let size = usize::try_from(size).map_err(|_| Errno::EFBIG)?;
        match size.checked_sub(content.len()) {
            Some(more) => {
                self.shared.take(more)?;
                if content.try_reserve(more).is_err() {
                    self.shared.give(more);
                    return Err(Error::OutOfMemory);
                }
                content.resize(size, 0);
            }
            None => {
                self.shared.give(content.len() - size);
                content.truncate(size);
                content.shrink_to_fit();
            }
        }
        drop(content);
        self.touch();
        Ok(())
    }
}

/// Copies what `content` has from `offset` on; returns how many bytes.
pub(in crate::ns) fn copy_out(content: &[u8], into: &mut [u8], offset: u64) -> usize {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let from = content.get(start..).unwrap_or(&[]);
    let count = from.len().min(into.len());
    if let (Some(into), Some(from)) = (into.get_mut(..count), from.get(..count)) {
        into.copy_from_slice(from);
    }
    count
}

/// An open file or directory of a tree in memory.
pub(super) struct MemFile {
    pub(super) node: Rc<Node>,
    pub(super) options: OpenOptions,
}

impl OpenFile for MemFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        match &self.node.body {
            Body::File(content) if self.options.is_read() => {
                Ok(copy_out(&content.borrow(), into, offset))
            }
            Body::Dir(_) => Err(Errno::EISDIR.into()),
            _ => Err(Errno::EBADF.into()),
        }
    }

    fn write_at(&self, from: &[u8], offset: u64) -> Result<usize> {
        let Body::File(content) = &self.node.body else {
            return Err(Errno::EBADF.into());
        };
        if !self.options.is_write() {
            return Err(Errno::EBADF.into());
        }
        if from.is_empty() {
            return Ok(0);
        }
        let size = content.borrow().len() as u64;
        let offset = if self.options.is_append() {
            size
        } else {
            offset
        };
        let end = offset.checked_add(from.len() as u64).ok_or(Errno::EFBIG)?;
        if end > size {
            self.node.set_len(end)?;
        }
        let start = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
        let mut content = content.borrow_mut();
        let room = start..start + from.len();
        content
            .get_mut(room)
            .ok_or(Errno::EIO)?
            .copy_from_slice(from);
        drop(content);
        self.node.touch();
        Ok(from.len())
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(self.node.metadata())
    }

    fn set_len(&self, size: u64) -> Result<()> {
        if !self.options.is_write() {
            return Err(Errno::EINVAL.into());
        }
        self.node.set_len(size)
    }

    fn set_permissions(&self, permissions: Permissions) -> Result<()> {
        self.node.permissions.set(permissions.mode());
        Ok(())
    }

    fn set_times(&self, times: FileTimes) -> Result<()> {
        self.node.set_times(times);
        Ok(())
    }
}
