//! What an overlay knows of its files, and how they get into the upper tree.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::pin::Pin;

use p9_wire::{
    Attr, AttrMask, Errno, FileKind, OpenFlags, Qid, QidKind, SetAttr, SetAttrMask, UnlinkFlags,
    XattrFlags,
};

use super::turn::Turn;
use crate::{Created, Error, Node, OpenFile, Result};

/// What the names of the overlay's own files in the upper tree begin with.
pub(super) const OWN: &[u8] = b".wh.";

/// What tells the numbers of the lower tree's files from those of the upper tree's.
const LOWER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Bytes copied at a time.
const CHUNK: usize = 64 << 10;

/// The largest extended attribute that is copied, in bytes (Linux's XATTR_SIZE_MAX).
const MAX_XATTR: usize = 64 << 10;

type ByName<L, U> = BTreeMap<(u64, Vec<u8>), Weak<Inode<L, U>>>;

/// The files of an overlay that something holds, by directory and name: each name has one at a time.
pub(super) struct Live<L, U> {
    by_name: RefCell<ByName<L, U>>,
    last: Cell<u64>,
}

impl<L, U> Live<L, U> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Live {
            by_name: RefCell::default(),
            last: Cell::new(0),
        })
    }

    fn number(&self) -> u64 {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }
}

type Place<L, U> = Option<(Rc<Inode<L, U>>, Vec<u8>)>;

pub(super) struct Inode<L, U> {
    id: u64,
    pub(super) live: Rc<Live<L, U>>,
    /// The directory that it is in, and its name there; `None` for the root, and when it was removed.
    place: RefCell<Place<L, U>>,
    qid: Qid,
    pub(super) lower: Option<L>,
    upper: RefCell<Option<U>>,
    turn: Turn,
}

impl<L, U> Drop for Inode<L, U> {
    fn drop(&mut self) {
        // Not by recursion: directories may be deeper than the stack.
        let mut place = self.place.get_mut().take();
        while let Some((dir, name)) = place {
            self.live.by_name.borrow_mut().remove(&(dir.id, name));
            place = Rc::into_inner(dir).and_then(|mut dir| dir.place.get_mut().take());
        }
    }
}

/// A file as one of the trees has it.
pub(super) enum Real<L, U> {
    Lower(L),
    Upper(U),
}

/// Does the same with either.
macro_rules! real {
    ($real:expr, $node:ident => $work:expr) => {
        match $real {
            $crate::trees::overlay::inode::Real::Lower($node) => $work,
            $crate::trees::overlay::inode::Real::Upper($node) => $work,
        }
    };
}
pub(super) use real;

impl<L: Node, U: Node> Inode<L, U> {
    pub(super) fn root(lower: L, upper: U) -> Rc<Self> {
        Inode::build(&Live::new(), None, Some(lower), Some(upper))
    }

    fn build(
        live: &Rc<Live<L, U>>,
        place: Place<L, U>,
        lower: Option<L>,
        upper: Option<U>,
    ) -> Rc<Self> {
        let qid = match (&upper, &lower) {
            (Some(upper), _) => upper.qid(),
            (None, Some(lower)) => lower_qid(lower.qid()),
            (None, None) => Qid::default(),
        };
        Rc::new(Inode {
            id: live.number(),
            live: live.clone(),
            place: RefCell::new(place),
            qid,
            lower,
            upper: RefCell::new(upper),
            turn: Turn::default(),
        })
    }

    /// The file of this name in this directory, as the trees have it.
    pub(super) fn add(
        self: &Rc<Self>,
        name: &[u8],
        lower: Option<L>,
        upper: Option<U>,
    ) -> Rc<Self> {
        // While the trees were asked, another walk may have come here.
        if let Some(live) = self.child(name) {
            return live;
        }
        let place = Some((self.clone(), name.to_vec()));
        let inode = Inode::build(&self.live, place, lower, upper);
        let mut by_name = self.live.by_name.borrow_mut();
        by_name.insert((self.id, name.to_vec()), Rc::downgrade(&inode));
        inode
    }

    /// The file of this name if something holds it.
    pub(super) fn child(&self, name: &[u8]) -> Option<Rc<Self>> {
        let by_name = self.live.by_name.borrow();
        by_name.get(&(self.id, name.to_vec()))?.upgrade()
    }

    /// It has this name now, or none any more.
    pub(super) fn move_to(self: &Rc<Self>, place: Place<L, U>) {
        let mut by_name = self.live.by_name.borrow_mut();
        let old = self.place.replace(place);
        if let Some((dir, name)) = &old {
            by_name.remove(&(dir.id, name.clone()));
        }
        if let Some((dir, name)) = &*self.place.borrow() {
            by_name.insert((dir.id, name.clone()), Rc::downgrade(self));
        }
        drop(by_name);
        // With the table free: its directory may go with it.
        drop(old);
    }

    /// The identity, with the version of the content as it was when the node was made.
    pub(super) fn qid(&self) -> Qid {
        self.qid
    }

    pub(super) fn is_dir(&self) -> bool {
        self.qid.kind.contains(QidKind::DIR)
    }

    /// What a tree says of the file, with the overlay's number for it.
    pub(super) fn of_overlay(&self, mut attr: Attr) -> Attr {
        attr.qid.path = self.qid.path;
        attr
    }

    /// The file in the upper tree, if it is there.
    pub(super) fn upper(&self) -> Option<U> {
        self.upper.borrow().clone()
    }

    /// The file as the tree has it whose file is seen.
    pub(super) fn real(&self) -> Result<Real<L, U>> {
        match (self.upper(), &self.lower) {
            (Some(upper), _) => Ok(Real::Upper(upper)),
            (None, Some(lower)) => Ok(Real::Lower(lower.clone())),
            (None, None) => Err(Errno::ESTALE.into()),
        }
    }

    /// Whether the lower tree has this name in this directory, and it is not hidden.
    pub(super) async fn lower_child(&self, name: &[u8]) -> Result<Option<L>> {
        let Some(lower) = &self.lower else {
            return Ok(None);
        };
        if let Some(upper) = self.upper()
            && found(upper.walk(&hidden_by(name)).await)?.is_some()
        {
            return Ok(None);
        }
        found(lower.walk(name).await)
    }

    /// Hides a name of the lower tree.
    pub(super) async fn hide(self: &Rc<Self>, name: &[u8]) -> Result<()> {
        let upper = self.copy_up(true).await?;
        let flags = OpenFlags::WRITE_ONLY | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        match upper.into_create(&hidden_by(name), flags, 0o600, 0).await {
            Ok(file) => file.close().await,
            Err(Error::Errno(Errno::EEXIST)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The file in the upper tree; it is copied there if it is not there yet, a regular file with its content unless
    /// that is about to go.
    ///
    /// Boxed: it goes up to the root.
    pub(super) fn copy_up(
        self: &Rc<Self>,
        content: bool,
    ) -> Pin<Box<dyn Future<Output = Result<U>> + '_>> {
        Box::pin(async move {
            if let Some(upper) = self.upper() {
                return Ok(upper);
            }
            let place = self.place.borrow().clone();
            let (Some((dir, name)), Some(lower)) = (place, &self.lower) else {
                return Err(Errno::ESTALE.into());
            };
            let dir = dir.copy_up(true).await?;
            let _turn = self.turn.take().await;
            if let Some(upper) = self.upper() {
                return Ok(upper);
            }
            let number = self.live.number();
            let upper = copy(lower, &dir, &name, content, number).await?;
            *self.upper.borrow_mut() = Some(upper.clone());
            Ok(upper)
        })
    }
}

/// The number that a file of the lower tree has in the overlay.
pub(super) fn lower_qid(qid: Qid) -> Qid {
    Qid {
        path: qid.path ^ LOWER,
        ..qid
    }
}

/// The name of the file in the upper tree that hides this name of the lower tree.
pub(super) fn hidden_by(name: &[u8]) -> Vec<u8> {
    [OWN, name].concat()
}

/// That there is nothing is an answer.
pub(super) fn found<T>(walked: Result<T>) -> Result<Option<T>> {
    match walked {
        Ok(node) => Ok(Some(node)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a tree may be unable to keep of a copy.
fn as_far_as_possible(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if matches!(error.errno(), Errno::EPERM | Errno::EOPNOTSUPP) => Ok(()),
        result => result,
    }
}

/// Copies a file of one tree into a directory of another, with its attributes. A regular file gets its name when it is
/// complete.
async fn copy<L: Node, U: Node>(
    from: &L,
    dir: &U,
    name: &[u8],
    content: bool,
    number: u64,
) -> Result<U> {
    let attr = from.getattr(AttrMask::BASIC).await?;
    let mode = attr.mode & 0o7777;
    let kind = FileKind::of_mode(attr.mode);
    let to = match kind {
        FileKind::DIR => match dir.mkdir(name, mode, attr.gid).await {
            Err(Error::Errno(Errno::EEXIST)) => return dir.walk(name).await,
            made => made?,
        },
        FileKind::SYMLINK => {
            let target = from.readlink().await?;
            let to = dir.symlink(name, &target, attr.gid).await?;
            as_far_as_possible(to.setattr(&owner(&attr)).await)?;
            return Ok(to);
        }
        FileKind::REGULAR => {
            let part = part_name(number);
            let whole = async {
                let to = copy_content(from, dir, &part, &attr, content).await?;
                copy_attributes(from, &to, &attr).await?;
                dir.rename(&part, dir, name).await?;
                Ok(to)
            };
            let whole = whole.await;
            if whole.is_err() {
                let _ = dir.unlink(&part, UnlinkFlags::empty()).await;
            }
            return whole;
        }
        _ => {
            let (major, minor) = device(attr.rdev);
            dir.mknod(name, attr.mode, major, minor, attr.gid).await?
        }
    };
    copy_attributes(from, &to, &attr).await?;
    Ok(to)
}

/// The name of a file that is not complete.
fn part_name(number: u64) -> Vec<u8> {
    let name: String = format!(".wh..part.{number}");
    name.into_bytes()
}

/// Major and minor number, as Linux packs them.
fn device(rdev: u64) -> (u32, u32) {
    let major = (rdev >> 8) & 0xfff | (rdev >> 32) & !0xfff;
    let minor = rdev & 0xff | (rdev >> 12) & !0xff;
    (major as u32, minor as u32)
}

async fn copy_content<L: Node, U: Node>(
    from: &L,
    dir: &U,
    name: &[u8],
    attr: &Attr,
    content: bool,
) -> Result<U> {
    let flags = OpenFlags::WRITE_ONLY | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    let made = dir.create(name, flags, 0o600, attr.gid).await;
    let Created { node, file } = match made {
        // Left behind by an overlay that was cut off.
        Err(Error::Errno(Errno::EEXIST)) => {
            dir.unlink(name, UnlinkFlags::empty()).await?;
            dir.create(name, flags, 0o600, attr.gid).await?
        }
        made => made?,
    };
    if content {
        let source = from.open(OpenFlags::empty()).await?;
        let mut buffer = vec![0; CHUNK];
        let mut done = 0;
        loop {
            let count = source.read(&mut buffer, done).await?;
            let mut bytes = buffer.get(..count).unwrap_or(&[]);
            if bytes.is_empty() {
                break;
            }
            while !bytes.is_empty() {
                match file.write(bytes, done).await? {
                    0 => return Err(Error::WriteZero),
                    count => {
                        done += count as u64;
                        bytes = bytes.get(count..).unwrap_or(&[]);
                    }
                }
            }
        }
        source.close().await?;
    }
    file.close().await?;
    Ok(node)
}

fn owner(attr: &Attr) -> SetAttr {
    SetAttr {
        valid: SetAttrMask::UID | SetAttrMask::GID,
        uid: attr.uid,
        gid: attr.gid,
        ..SetAttr::default()
    }
}

async fn copy_attributes<L: Node, U: Node>(from: &L, to: &U, attr: &Attr) -> Result<()> {
    copy_xattrs(from, to).await?;
    as_far_as_possible(to.setattr(&owner(attr)).await)?;
    // Behind the owner: a change of that takes set-user-ID away.
    to.setattr(&SetAttr {
        valid: SetAttrMask::MODE
            | SetAttrMask::ATIME
            | SetAttrMask::ATIME_SET
            | SetAttrMask::MTIME
            | SetAttrMask::MTIME_SET,
        mode: attr.mode,
        atime: attr.atime,
        mtime: attr.mtime,
        ..SetAttr::default()
    })
    .await
}

async fn copy_xattrs<L: Node, U: Node>(from: &L, to: &U) -> Result<()> {
    let names = match from.list_xattrs(MAX_XATTR).await {
        Err(error) if error.errno() == Errno::EOPNOTSUPP => return Ok(()),
        names => names?,
    };
    for name in names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let value = match from.xattr(name, MAX_XATTR).await {
            // Gone meanwhile, or a name that is listed and not told.
            Err(error) if matches!(error.errno(), Errno::ENODATA | Errno::EOPNOTSUPP) => continue,
            value => value?,
        };
        as_far_as_possible(to.set_xattr(name, &value, XattrFlags::empty()).await)?;
    }
    Ok(())
}
