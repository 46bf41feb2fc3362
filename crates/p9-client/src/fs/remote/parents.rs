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
use p9_wire::{AttrMask, Qid};
use xen9p_time::Instant;

/// How many are kept.
const MOST: usize = 4;

#[derive(Default)]
pub(super) struct Parents {
    kept: Vec<Kept>,
    /// The directory that was looked up last. When it is needed a second time it is kept.
    last: Option<CleanPath>,
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
    fn find(&self, path: &CleanPath, now: Instant) -> Option<Rc<KeptDir>> {
        let kept = self.kept.iter().find(|kept| kept.path == *path)?;
        (now < kept.until).then(|| kept.dir.clone())
    }

    /// Whether to keep a directory that was just looked up: it was the last one, too.
    fn is_next(&mut self, path: &CleanPath) -> bool {
        if self.last.as_ref() == Some(path) {
            return true;
        }
        self.last = Some(path.clone());
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
        self.parents.borrow().find(path, self.session().now())
    }

    /// A directory that was just looked up: kept if it was looked up before it, too.
    pub(super) fn keep_or_own(
        &self,
        path: &CleanPath,
        fid: Fid,
        qid: Qid,
        keep: Option<Duration>,
    ) -> Handle {
        match keep {
            Some(time) if self.parents.borrow_mut().is_next(path) => {
                let dir = Rc::new(KeptDir {
                    fid,
                    qid,
                    inherits: Cell::new(None),
                });
                let until = self.session().now() + time;
                let mut parents = self.parents.borrow_mut();
                let gone = parents.keep(path, dir.clone(), until);
                drop(parents);
                drop(gone);
                Handle::Kept(dir)
            }
            _ => Handle::own(fid),
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
                let attr = self.fid().getattr(AttrMask::MODE | AttrMask::GID).await?;
                let inherited = (attr.mode & SET_GID != 0).then_some(attr.gid);
                let keep = self.mount.keep_dirs;
                if !keep.is_zero() {
                    inherits.set(Some((inherited, self.session().now() + keep)));
                }
                inherited
            }
        };
        Ok(inherited.map_or((gid, 0), |gid| (gid, SET_GID)))
    }
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
