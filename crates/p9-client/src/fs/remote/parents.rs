//! The directories in which something was made, removed or renamed just now: their fids are kept for a
//! moment, so that what is done to one name after the other in a directory takes one request each.
//!
//! Only directories whose path has no symbolic link are kept. What this mount itself moves or removes is
//! forgotten at once; what others do is noticed when the moment is over, or when the server refuses
//! something: then the way is looked up again before the program gets to know.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::time::Duration;

use super::fid::is_linux;
use super::{Handle, Mount, RemoteNode};
use crate::fs::{Error, Result};
use crate::session::Fid;
use p9_tree::CleanPath;
use p9_wire::Errno;
use p9_wire::{Attr, AttrMask, Qid, QidKind, SetAttr, SetAttrMask};
use xen9p_time::Instant;

/// How many are kept, and how many were looked up last.
const MOST: usize = 4;

/// Of how many it is known that they were made just now.
const MOST_MADE: usize = 16;

#[derive(Default)]
pub(super) struct Parents {
    kept: Vec<Kept>,
    /// The directories that were looked up last. One that is needed a second time is kept: also where a program, such as one
    /// that copies a tree, goes to and fro between two.
    last: Vec<CleanPath>,
    made: Vec<Made>,
}

/// A directory that this mount made, without the setgid bit and in one that had none: files in it inherit nothing.
struct Made {
    path: Rc<CleanPath>,
    qid: Qid,
    /// Until when that is believed: no longer than what was known of the one above.
    until: Instant,
}

struct Kept {
    path: CleanPath,
    dir: Rc<KeptDir>,
    until: Instant,
}

/// A directory that is kept.
pub(super) struct KeptDir {
    fid: Fid,
    qid: Qid,
    /// What new files in it inherit, once the server was asked.
    inherits: Inherits,
}

impl KeptDir {
    pub(super) fn fid(&self) -> &Fid {
        &self.fid
    }

    pub(super) fn qid(&self) -> Qid {
        self.qid
    }
}

/// The group of a directory whose setgid bit is set: new files in it get this group, and new directories the bit, too.
/// `None` for other directories.
type Inherited = Option<u32>;

/// The same of a directory, and until when it is believed.
pub(super) type Inherits = Cell<Option<(Inherited, Instant)>>;

/// The setgid bit of a mode.
const SET_GID: u32 = 0o2000;

impl Parents {
    /// The one that goes first for others is the one that was not used for longest.
    fn find(&mut self, path: &CleanPath, now: Instant) -> Option<Rc<KeptDir>> {
        let at = self.kept.iter().position(|kept| kept.path == *path)?;
        let rest = self.kept.get_mut(at..)?;
        rest.rotate_left(1);
        let kept = rest.last()?;
        (now < kept.until).then(|| kept.dir.clone())
    }

    /// Whether to keep a directory that was just looked up: it is one of the last ones.
    fn is_next(&mut self, path: &CleanPath) -> bool {
        if self.last.contains(path) {
            return true;
        }
        if self.last.len() >= MOST {
            self.last.remove(0);
        }
        self.last.push(path.clone());
        false
    }

    /// Keeps a directory. Gives back what has to go for it, to be dropped when nothing is borrowed.
    fn keep(&mut self, path: &CleanPath, dir: Rc<KeptDir>, until: Instant) -> Vec<Kept> {
        let mut gone = self.take(|kept| kept.path == *path);
        if self.kept.len() >= MOST {
            gone.push(self.kept.remove(0));
        }
        self.kept.push(Kept {
            path: path.clone(),
            dir,
            until,
        });
        gone
    }

    fn take(&mut self, which: impl Fn(&Kept) -> bool) -> Vec<Kept> {
        self.kept.extract_if(.., |kept| which(kept)).collect()
    }
}

impl Mount {
    /// The directory that is kept for a path, if one is.
    pub(super) fn kept_dir(&self, path: &CleanPath) -> Option<Rc<KeptDir>> {
        self.parents.borrow_mut().find(path, self.session().now())
    }

    /// Notes a directory that was made.
    fn note_made(&self, path: Rc<CleanPath>, qid: Qid, until: Instant) {
        let mut parents = self.parents.borrow_mut();
        if parents.made.len() >= MOST_MADE {
            parents.made.remove(0);
        }
        // Without memory the server is asked.
        if parents.made.try_reserve(1).is_ok() {
            parents.made.push(Made { path, qid, until });
        }
    }

    /// What is known of what files inherit that are made in a directory which was just walked to.
    pub(super) fn inherits_in(&self, path: &CleanPath, qid: Qid) -> Inherits {
        let parents = self.parents.borrow();
        let mut made = parents.made.iter();
        // Another directory may have that name by now.
        let made = made.find(|made| made.qid.path == qid.path && *made.path == *path);
        Cell::new(made.map(|made| (None, made.until)))
    }

    /// Forgets what new files inherit, if attributes are changed that decide about it, of a directory.
    pub(super) fn forget_inherited(&self, qid: Qid, attr: &SetAttr) {
        let decide = SetAttrMask::MODE | SetAttrMask::UID | SetAttrMask::GID;
        if qid.kind.contains(QidKind::DIR) && attr.valid.intersects(decide) {
            let mut parents = self.parents.borrow_mut();
            parents.made.clear();
            for kept in &parents.kept {
                kept.dir.inherits.set(None);
            }
            self.root_inherits.set(None);
        }
    }

    /// A directory that was just looked up: kept if it was looked up a moment ago, too.
    pub(super) fn keep_or_own(
        &self,
        path: &CleanPath,
        fid: Fid,
        qid: Qid,
        keep: Option<Duration>,
    ) -> Handle {
        match keep {
            Some(time) if self.parents.borrow_mut().is_next(path) => {
                let inherits = self.inherits_in(path, qid);
                let dir = Rc::new(KeptDir { fid, qid, inherits });
                let until = self.session().now() + time;
                let mut parents = self.parents.borrow_mut();
                let gone = parents.keep(path, dir.clone(), until);
                drop(parents);
                drop(gone);
                Handle::Kept(dir)
            }
            _ => Handle::Own(fid, self.inherits_in(path, qid)),
        }
    }

    /// How long directories may be kept; `None` if not at all.
    pub(super) fn keep_time(&self) -> Option<Duration> {
        let time = self.keep_dirs;
        // Where fids are few, none is spent on this.
        (!time.is_zero() && is_linux(&self.root)).then_some(time)
    }

    /// Forgets the directory at `path` and those below it: they are moved or removed.
    pub(super) fn forget(&self, path: &CleanPath) {
        let mut parents = self.parents.borrow_mut();
        parents.made.retain(|made| made.path.below(path).is_none());
        let gone = parents.take(|kept| kept.path.below(path).is_some());
        drop(parents);
        drop(gone);
    }

    /// Forgets all directories.
    pub(super) fn forget_all(&self) {
        self.forget(&CleanPath::root());
    }
}

impl RemoteNode {
    /// What is known of what files made in this directory inherit.
    pub(super) fn inherits(&self) -> &Inherits {
        match &*self.handle {
            Handle::Kept(kept) => &kept.inherits,
            Handle::Root => &self.mount.root_inherits,
            Handle::Own(_, inherits) => inherits,
        }
    }

    /// The group that a program's new file in this directory gets, which without a setgid bit is `gid`, and the bits that a
    /// new directory there has besides: as on a local file system those of a setgid directory are inherited. In 9P2000.L a
    /// client says them, and a server does as it is told.
    pub(super) async fn group_in(&self, gid: u32) -> Result<(u32, u32)> {
        let inherits = self.inherits();
        let known = inherits
            .get()
            .filter(|(_, until)| self.session().now() < *until);
        let inherited = match known {
            Some((inherited, _)) => inherited,
            None => {
                let attr = self.fid().getattr(DECIDE).await?;
                self.learn(&attr);
                inherited_of(&attr)
            }
        };
        Ok(inherited.map_or((gid, 0), |gid| (gid, SET_GID)))
    }
}

impl RemoteNode {
    /// Takes what new files inherit from the attributes that the server has just told.
    pub(super) fn learn(&self, attr: &Attr) {
        let keep = self.mount.keep_dirs;
        if !keep.is_zero() && attr.valid.contains(DECIDE) && self.qid.kind.contains(QidKind::DIR) {
            let until = self.session().now() + keep;
            self.inherits().set(Some((inherited_of(attr), until)));
        }
    }

    /// Notes a directory of this mode that was made in this one.
    pub(super) fn note_made(&self, path: Rc<CleanPath>, qid: Qid, mode: u32) {
        // A bit that was asked for may have been refused.
        if mode & SET_GID == 0
            && let Some((None, until)) = self.inherits().get()
        {
            self.mount.note_made(path, qid, until);
        }
    }
}

/// What decides about what new files inherit.
const DECIDE: AttrMask = AttrMask::MODE.union(AttrMask::GID);

fn inherited_of(attr: &Attr) -> Inherited {
    (attr.mode & SET_GID != 0).then_some(attr.gid)
}

/// Whether an error could mean that a directory is not where it was.
pub(super) fn may_be_stale(error: Error) -> bool {
    matches!(
        error,
        Error::Stale
            | Error::Errno(
                Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ESTALE | Errno::EIO
            )
    )
}
