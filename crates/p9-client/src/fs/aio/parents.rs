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

use super::lookup::{Way, walk_from};
use super::{Fs, Handle, Lookup, node};
use crate::fs::{Error, Result};
use crate::session::Fid;
use p9_tree::CleanPath;
use p9_wire::Errno;
use p9_wire::{AttrMask, Qid, QidKind};
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
    inherits: Cell<Option<Inherited>>,
}

impl KeptDir {
    pub(super) fn fid(&self) -> &Fid {
        &self.fid
    }
}

/// The group of a directory whose setgid bit is set: new files in it get this group, and new directories the bit, too.
/// `None` for other directories.
pub(super) type Inherited = Option<u32>;

/// The setgid bit of a mode.
const SET_GID: u32 = 0o2000;

/// Group and mode of what is made in a directory.
pub(super) struct Made {
    pub(super) gid: u32,
    /// The bits that a new directory has besides those it is made with.
    pub(super) dir_bits: u32,
}

impl Parents {
    fn find(&self, path: &CleanPath, now: Instant) -> Option<Rc<KeptDir>> {
        let kept = self.kept.iter().find(|kept| kept.path == *path)?;
        (now < kept.until).then(|| kept.dir.clone())
    }

    /// Whether a directory that was just looked up is to be kept: it was the last one, too.
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

impl Fs {
    /// The directory of what `path` names, and its name there. For the root, which has none, the error
    /// is `at_root`.
    pub(super) async fn parent_of(
        &self,
        path: &CleanPath,
        at_root: Errno,
    ) -> Result<(Handle, Vec<u8>)> {
        let name = path.file_name().ok_or(at_root)?.to_vec();
        let parent = path.parent();
        let keep = self.keep_time(&parent);
        if keep.is_some()
            && let Some(dir) = self
                .mount
                .parents
                .borrow()
                .find(&parent, self.session().now())
        {
            return Ok((Handle::Kept(dir), name));
        }
        match self.lookup(parent.clone(), true).await? {
            Lookup::Found(_, qid, _) if !qid.kind.contains(QidKind::DIR) => {
                Err(Errno::ENOTDIR.into())
            }
            Lookup::Found(handle, _, found) if found != parent => {
                // What is done there may concern a directory that is kept by its other name.
                self.forget_all();
                Ok((handle, name))
            }
            Lookup::Found(Handle::Own(fid), qid, _) => {
                Ok((self.keep_or_own(&parent, fid, qid, keep), name))
            }
            Lookup::Found(handle, ..) => Ok((handle, name)),
            Lookup::Missing(_) => Err(Errno::ENOENT.into()),
        }
    }

    /// A directory that was just looked up: kept if it was looked up before it, too.
    fn keep_or_own(&self, path: &CleanPath, fid: Fid, qid: Qid, keep: Option<Duration>) -> Handle {
        match keep {
            Some(time) if self.mount.parents.borrow_mut().is_next(path) => {
                let dir = Rc::new(KeptDir {
                    fid,
                    qid,
                    inherits: Cell::new(None),
                });
                let until = self.session().now() + time;
                let mut parents = self.mount.parents.borrow_mut();
                let gone = parents.keep(path, dir.clone(), until);
                drop(parents);
                drop(gone);
                Handle::Kept(dir)
            }
            _ => Handle::Own(fid),
        }
    }

    /// The directory at a path that is not the root, in which a name is about to be changed, if no symbolic link is on
    /// the way; `None` also where it is none.
    pub(super) async fn dir_at(&self, path: &CleanPath) -> Result<Option<(Handle, Qid)>> {
        let keep = self.keep_time(path);
        if keep.is_some()
            && let Some(dir) = self.mount.parents.borrow().find(path, self.session().now())
        {
            let qid = dir.qid;
            return Ok(Some((Handle::Kept(dir), qid)));
        }
        let names: Vec<&[u8]> = path.names().collect();
        match walk_from(&self.mount.root, self.mount.root_qid, &names).await? {
            Way::Through(fid, qid) if qid.kind.contains(QidKind::DIR) => {
                Ok(Some((self.keep_or_own(path, fid, qid, keep), qid)))
            }
            _ => Ok(None),
        }
    }

    /// How long this directory may be kept; `None` if not at all.
    fn keep_time(&self, path: &CleanPath) -> Option<Duration> {
        let time = self.mount.keep_dirs;
        // Where fids are few, none is spent on this.
        let pays = !path.is_root() && !time.is_zero() && node::is_linux(&self.mount.root);
        pays.then_some(time)
    }

    /// Does something to what `path` names, given its directory and its name there. Once more if it
    /// fails in a directory that was kept, in a way that another state of the tree would explain.
    pub(super) async fn in_parent<T>(
        &self,
        path: &CleanPath,
        at_root: Errno,
        work: impl AsyncFn(Handle, &[u8]) -> Result<T>,
    ) -> Result<T> {
        let (dir, name) = self.parent_of(path, at_root).await?;
        let kept = matches!(dir, Handle::Kept(_));
        match work(dir, &name).await {
            Err(error) if kept && may_be_stale(error) => {}
            result => return result,
        }
        self.forget(&path.parent());
        let (dir, name) = self.parent_of(path, at_root).await?;
        work(dir, &name).await
    }

    /// The group that a new file in `dir` gets, and the bits that a new directory there has: as on a local file system
    /// those of a setgid directory are inherited. In 9P2000.L a client says them, and a server does as it is told.
    pub(super) async fn made_in(&self, dir: &Handle) -> Result<Made> {
        let known = match dir {
            Handle::Kept(kept) => kept.inherits.get(),
            Handle::Root(mount) => match mount.root_inherits.get() {
                Some((inherited, until)) if self.session().now() < until => Some(inherited),
                _ => None,
            },
            Handle::Own(_) => None,
        };
        let inherited = match known {
            Some(inherited) => inherited,
            None => {
                let attr = dir.fid().getattr(AttrMask::MODE | AttrMask::GID).await?;
                let inherited = (attr.mode & SET_GID != 0).then_some(attr.gid);
                match dir {
                    Handle::Kept(kept) => kept.inherits.set(Some(inherited)),
                    Handle::Root(mount) if !mount.keep_dirs.is_zero() => {
                        let until = self.session().now() + mount.keep_dirs;
                        mount.root_inherits.set(Some((inherited, until)));
                    }
                    _ => {}
                }
                inherited
            }
        };
        Ok(Made {
            gid: inherited.unwrap_or(self.mount.gid),
            dir_bits: inherited.map_or(0, |_| SET_GID),
        })
    }

    /// Forgets the directory at `path` and those below it: they are moved or removed.
    pub(super) fn forget(&self, path: &CleanPath) {
        let mut parents = self.mount.parents.borrow_mut();
        let gone = parents.take(|kept| kept.path.below(path).is_some());
        drop(parents);
        drop(gone);
    }

    /// Forgets all directories.
    pub(super) fn forget_all(&self) {
        self.forget(&CleanPath::root());
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
