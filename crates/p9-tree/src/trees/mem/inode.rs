//! What a tree in memory is made of.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use p9_wire::{Attr, AttrMask, Errno, FileKind, Qid, SetAttr, SetAttrMask};

use super::qid_kind;
use crate::trees::synthetic::Synthetic;
use crate::{Error, Result, SystemTime};

/// What a file, directory or link takes of the tree's room besides its content, in bytes.
pub(super) const NODE_COST: usize = 512;

/// Mode bit of a directory whose group new files get (set-group-ID).
const SET_GID: u32 = 0o2000;

pub(super) type Clock = Box<dyn Fn() -> SystemTime>;

/// What all nodes of a tree share.
pub(super) struct Shared {
    pub(super) limit: usize,
    pub(super) used: Cell<usize>,
    pub(super) last_ino: Cell<u64>,
    pub(super) clock: Option<Clock>,
    /// When the tree was made, in nanoseconds since 1970; 0 without a clock. Tells its files from those of other trees, which
    /// have the same numbers.
    pub(super) made: u64,
}

impl Shared {
    fn take(&self, bytes: usize) -> Result<()> {
        let used = self.used.get().checked_add(bytes);
        let used = used.filter(|&used| used <= self.limit);
        self.used.set(used.ok_or(Errno::ENOSPC)?);
        Ok(())
    }

    fn give(&self, bytes: usize) {
        self.used.set(self.used.get().saturating_sub(bytes));
    }

    fn now(&self) -> SystemTime {
        self.clock
            .as_ref()
            .map_or(SystemTime::UNIX_EPOCH, |now| now())
    }
}

pub(super) type Entries = BTreeMap<Vec<u8>, Rc<Inode>>;

pub(super) enum Body {
    Dir(RefCell<Entries>),
    File(RefCell<Vec<u8>>),
    Link(Vec<u8>),
    Synthetic(Rc<Synthetic>),
}

impl Body {
    pub(super) fn dir() -> Body {
        Body::Dir(RefCell::default())
    }
}

pub(super) struct Inode {
    pub(super) ino: u64,
    version: Cell<u32>,
    permissions: Cell<u32>,
    owner: Cell<(u32, u32)>,
    accessed: Cell<SystemTime>,
    modified: Cell<SystemTime>,
    changed: Cell<SystemTime>,
    /// The directory that it is in: what a rename must not put below itself.
    parent: RefCell<Weak<Inode>>,
    /// Whether it has no name any more.
    removed: Cell<bool>,
    pub(super) body: Body,
    pub(super) shared: Rc<Shared>,
}

impl Drop for Inode {
    fn drop(&mut self) {
        let content = match &mut self.body {
            Body::File(content) => content.get_mut().len(),
            Body::Link(target) => target.len(),
            Body::Synthetic(_) => 0,
            Body::Dir(entries) => {
                // Not by recursion: trees may be deeper than the stack.
                let mut below: Vec<Rc<Inode>> = Vec::new();
                below.extend(core::mem::take(entries.get_mut()).into_values());
                while let Some(node) = below.pop() {
                    if let Some(Inode { body, .. }) = Rc::into_inner(node).as_mut()
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

impl Inode {
    /// An inode that the room for was taken.
    pub(super) fn build(shared: &Rc<Shared>, permissions: u32, body: Body) -> Rc<Inode> {
        let now = shared.now();
        shared.last_ino.set(shared.last_ino.get() + 1);
        Rc::new(Inode {
            ino: shared.last_ino.get(),
            version: Cell::new(0),
            permissions: Cell::new(permissions & 0o7777),
            owner: Cell::new((0, 0)),
            accessed: Cell::new(now),
            modified: Cell::new(now),
            changed: Cell::new(now),
            parent: RefCell::default(),
            removed: Cell::new(false),
            body,
            shared: shared.clone(),
        })
    }

    /// Makes something of this name in this directory.
    ///
    /// # Errors
    /// EEXIST, ENOTDIR, ENOSPC; ENOENT in a directory that was removed.
    pub(super) fn make(
        self: &Rc<Self>,
        name: &[u8],
        permissions: u32,
        gid: u32,
        body: Body,
    ) -> Result<Rc<Inode>> {
        let entries = self.entries()?;
        if self.is_removed() {
            return Err(Errno::ENOENT.into());
        }
        if entries.borrow().contains_key(name) {
            return Err(Errno::EEXIST.into());
        }
        let content = match &body {
            Body::File(content) => content.borrow().len(),
            Body::Link(target) => target.len(),
            Body::Dir(_) | Body::Synthetic(_) => 0,
        };
        self.shared.take(NODE_COST + content)?;
        let mut permissions = permissions;
        let mut gid = match gid {
            // Left to the tree.
            u32::MAX => 0,
            gid => gid,
        };
        if self.permissions.get() & SET_GID != 0 {
            gid = self.owner.get().1;
            if matches!(body, Body::Dir(_)) {
                permissions |= SET_GID;
            }
        }
        let node = Inode::build(&self.shared, permissions, body);
        node.owner.set((0, gid));
        node.move_to(self);
        entries.borrow_mut().insert(name.to_vec(), node.clone());
        self.touch();
        Ok(node)
    }

    pub(super) fn entries(&self) -> Result<&RefCell<Entries>> {
        match &self.body {
            Body::Dir(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR.into()),
        }
    }

    pub(super) fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir(_))
    }

    pub(super) fn check_empty(&self) -> Result<()> {
        match self.entries()?.borrow().is_empty() {
            true => Ok(()),
            false => Err(Errno::ENOTEMPTY.into()),
        }
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.get()
    }

    /// Its name is gone.
    pub(super) fn removed(&self) {
        self.removed.set(true);
        self.changed.set(self.shared.now());
    }

    pub(super) fn move_to(&self, dir: &Rc<Inode>) {
        *self.parent.borrow_mut() = Rc::downgrade(dir);
    }

    /// Whether it is this directory, or somewhere in it.
    pub(super) fn is_within(self: &Rc<Self>, dir: &Rc<Inode>) -> bool {
        let mut at = Some(self.clone());
        while let Some(node) = at {
            if Rc::ptr_eq(&node, dir) {
                return true;
            }
            at = node.parent.borrow().upgrade();
        }
        false
    }

    /// The content has changed.
    pub(super) fn touch(&self) {
        let now = self.shared.now();
        self.modified.set(now);
        self.changed.set(now);
        self.version.set(self.version.get().wrapping_add(1));
    }

    pub(super) fn kind(&self) -> FileKind {
        match &self.body {
            Body::Dir(_) => FileKind::DIR,
            Body::Link(_) => FileKind::SYMLINK,
            Body::File(_) | Body::Synthetic(_) => FileKind::REGULAR,
        }
    }

    pub(super) fn qid(&self) -> Qid {
        Qid {
            kind: qid_kind(self.kind()),
            version: self.version.get(),
            path: self.ino,
        }
    }

    pub(super) fn attr(&self) -> Attr {
        let size = match &self.body {
            Body::File(content) => content.borrow().len() as u64,
            Body::Link(target) => target.len() as u64,
            Body::Dir(_) | Body::Synthetic(_) => 0,
        };
        let (uid, gid) = self.owner.get();
        Attr {
            valid: match self.shared.made {
                0 => AttrMask::BASIC,
                _ => AttrMask::BASIC | AttrMask::GENERATION,
            },
            generation: self.shared.made,
            qid: self.qid(),
            mode: self.kind().bits() | self.permissions.get(),
            uid,
            gid,
            nlink: u64::from(!self.removed.get()),
            size,
            blksize: 4096,
            blocks: size.div_ceil(512),
            atime: self.accessed.get().into(),
            mtime: self.modified.get().into(),
            ctime: self.changed.get().into(),
            ..Attr::default()
        }
    }

    /// # Errors
    /// Those of [`set_len`](Self::set_len); nothing is changed then.
    pub(super) fn setattr(&self, attr: &SetAttr) -> Result<()> {
        if attr.valid.contains(SetAttrMask::SIZE) {
            self.set_len(attr.size)?;
        }
        let (uid, gid) = self.owner.get();
        let of = |mask, new, old| if attr.valid.contains(mask) { new } else { old };
        self.owner.set((
            of(SetAttrMask::UID, attr.uid, uid),
            of(SetAttrMask::GID, attr.gid, gid),
        ));
        if attr.valid.contains(SetAttrMask::MODE) {
            self.permissions.set(attr.mode & 0o7777);
        }
        let now = self.shared.now();
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
                time.set(now);
            }
        }
        self.changed.set(now);
        Ok(())
    }

    /// Cuts the content, or extends it with zeros.
    ///
    /// # Errors
    /// EISDIR, ENOSPC, EFBIG; EINVAL for a link, and for a synthetic file that is to get a size.
    pub(super) fn set_len(&self, size: u64) -> Result<()> {
        let content = match &self.body {
            Body::File(content) => content,
            Body::Dir(_) => return Err(Errno::EISDIR.into()),
            // Linux guests empty what they open to write.
            Body::Synthetic(_) if size == 0 => return Ok(()),
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

    /// Writes at `offset`, or at the end.
    ///
    /// # Errors
    /// EBADF for what has no content of its own, ENOSPC, EFBIG.
    pub(super) fn write(&self, from: &[u8], offset: Option<u64>) -> Result<usize> {
        let Body::File(content) = &self.body else {
            return Err(Errno::EBADF.into());
        };
        if from.is_empty() {
            return Ok(0);
        }
        let size = content.borrow().len() as u64;
        let offset = offset.unwrap_or(size);
        let end = offset.checked_add(from.len() as u64).ok_or(Errno::EFBIG)?;
        if end > size {
            self.set_len(end)?;
        }
        let start = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
        let mut content = content.borrow_mut();
        let room = start..start + from.len();
        content
            .get_mut(room)
            .ok_or(Errno::EIO)?
            .copy_from_slice(from);
        drop(content);
        self.touch();
        Ok(from.len())
    }
}
