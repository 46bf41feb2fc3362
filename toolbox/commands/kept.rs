//! What a copy keeps of its source beside the content.

use alloc::vec::Vec;

use xen9p::errno::Errno;
use xen9p::fs::{self, Metadata};

use super::change::times_of;
use super::moving::beside;
use super::place::Place;
use super::same::{Links, is_same};
use super::{Fail, Shell};

/// What of its source a copy keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The permissions that a new file gets.
    Nothing,
    /// The times, and hard links among what is copied, too: what is moved to another tree is still as old, and one file.
    Moved,
    /// Owner, permissions and times.
    Most,
    /// These, hard links among what is copied, and extended attributes of users.
    All,
}

/// How many files that have names still to come are remembered: a copy must end with the memory that there is.
const MOST_LINKED: usize = 4096;

/// A copy of a file that has more names than were come to.
struct Linked {
    from: Place,
    found: Metadata,
    /// The file system that it is on, as far as that is known.
    system: Option<(u64, u32)>,
    /// Whether mv has removed the name since.
    gone: bool,
    to: Place,
    /// How many names are left.
    left: u64,
}

/// What a command keeps, and what it has to remember for that.
pub struct Kept {
    keep: Keep,
    linked: Vec<Linked>,
    /// Whether it was told that there are too many.
    is_full: bool,
}

impl Kept {
    pub fn new(keep: Keep) -> Kept {
        Kept {
            keep,
            linked: Vec::new(),
            is_full: false,
        }
    }

    pub fn is_nothing(&self) -> bool {
        self.keep == Keep::Nothing
    }

    /// Gives a copy what it keeps of its source. Whose files may not be given away keeps them.
    pub fn preserve(&self, from: &Place, found: &Metadata, to: &Place) -> Result<(), Fail> {
        let lost = |what: &str, error| {
            Fail::from_fs(format_args!("failed to preserve {what} for '{to}'"), error)
        };
        if self.keep == Keep::All && !found.is_symlink() {
            copy_xattrs(from, to)?;
        }
        if matches!(self.keep, Keep::Most | Keep::All) {
            match to.ns.lchown(&to.path, Some(found.uid()), Some(found.gid())) {
                Err(error) if error.errno() == Errno::EPERM => {}
                done => done.map_err(|error| lost("ownership", error))?,
            }
            if !found.is_symlink() {
                let set = to.ns.set_permissions(&to.path, found.permissions());
                set.map_err(|error| lost("permissions", error))?;
            }
        }
        if self.is_nothing() {
            return Ok(());
        }
        match to.ns.set_times_nofollow(&to.path, times_of(found)) {
            Err(error) if found.is_symlink() && error.errno() == Errno::EOPNOTSUPP => Ok(()),
            done => done.map_err(|error| lost("times", error)),
        }
    }

    /// Gives the copy of another name of this file the name `to`, if there is one: whether that was done.
    pub fn link(
        &mut self,
        shell: &mut Shell<'_>,
        from: &Place,
        found: &Metadata,
        to: &Place,
    ) -> Result<bool, Fail> {
        if !(self.keeps(found) || self.awaits_names() && found.is_file()) {
            return Ok(false);
        }
        let mut known = self.linked.iter_mut().enumerate();
        let Some((nth, known)) = known.find(|(_, known)| known.found.ino() == found.ino()) else {
            return Ok(false);
        };
        if !known.has_name(from, found)? {
            return Ok(false);
        }
        if let Err(error) = name(shell, &known.to, to) {
            let Fail::Error(text) = error else {
                return Err(error);
            };
            shell.complain(&text);
            return Ok(false);
        }
        known.left -= 1;
        if known.left == 0 {
            self.linked.swap_remove(nth);
        }
        Ok(true)
    }

    /// Remembers a copy whose source has more names.
    pub fn remember(&mut self, shell: &mut Shell<'_>, from: &Place, found: &Metadata, to: &Place) {
        if !self.keeps(found) {
            return;
        }
        let room = self.linked.len() < MOST_LINKED && self.linked.try_reserve(1).is_ok();
        let places = (from.again(), to.again());
        if let (true, (Ok(from), Ok(to))) = (room, places) {
            self.linked.push(Linked {
                system: system(&from),
                from,
                found: *found,
                gone: false,
                to,
                left: found.nlink() - 1,
            });
        } else if !core::mem::replace(&mut self.is_full, true) {
            shell.complain(&format_args!(
                "too many files with several names: from '{from}' on some are copied once for each"
            ));
        }
    }

    /// mv has removed what was copied until now: the names that are left of it are fewer.
    pub fn sources_are_gone(&mut self) {
        for known in &mut self.linked {
            known.gone = true;
        }
    }

    /// Whether a file that has one name may have had more when mv began: then each is looked at by itself.
    pub fn awaits_names(&self) -> bool {
        self.linked.iter().any(|known| known.gone)
    }

    /// Whether the file has other names that are kept.
    fn keeps(&self, found: &Metadata) -> bool {
        matches!(self.keep, Keep::All | Keep::Moved) && found.is_file() && found.nlink() > 1
    }
}

impl Linked {
    /// Whether `from`, whose number is the same, is one more name of it.
    fn has_name(&self, from: &Place, found: &Metadata) -> Result<bool, Fail> {
        if !self.gone {
            return is_same(&self.from, from, Links::Themselves);
        }
        // As long as it has a name its number is that of no other file of its file system.
        let about = |of: &Metadata| ((of.mode(), of.uid(), of.gid()), of.len(), of.modified());
        let may_be = found.ino() != 0
            && self.from.share == from.share
            && found.nlink() < self.found.nlink()
            && about(found) == about(&self.found);
        Ok(may_be
            && match (self.system, system(from)) {
                (Some(known), Some(system)) => known == system,
                _ => true,
            })
    }
}

fn system(place: &Place) -> Option<(u64, u32)> {
    let found = place.ns.statfs(&place.path).ok()?;
    Some((found.id, found.kind))
}

/// Gives a file one more name, in the place of what has it.
fn name(shell: &Shell<'_>, file: &Place, to: &Place) -> Result<(), Fail> {
    let cannot = |error| {
        Fail::from_fs(
            format_args!("cannot create hard link '{to}' to '{file}'"),
            error,
        )
    };
    if file.share != to.share {
        return Err(cannot(Errno::EXDEV.into()));
    }
    match to.ns.hard_link(&file.path, &to.path) {
        Err(error) if error.errno() == Errno::EEXIST => {}
        done => return done.map_err(cannot),
    }
    let new = beside(shell, to)?;
    to.ns.hard_link(&file.path, &new.path).map_err(cannot)?;
    let moved = to.ns.rename(&new.path, &to.path);
    // A rename to another name of the same file leaves both.
    let left = match to.ns.remove_file(&new.path) {
        Err(error) if error.is_not_found() => Ok(()),
        removed => removed,
    };
    moved.and(left).map_err(cannot)
}

/// Copies what extended attributes there are for users. As with GNU's `cp -a`, what can't be had or kept is passed over.
fn copy_xattrs(from: &Place, to: &Place) -> Result<(), Fail> {
    let is_ours = |name: &Vec<u8>| name.starts_with(b"user.");
    let go_on = |error| match error {
        fs::Error::Interrupted => Err(Fail::Interrupted),
        _ => Ok(()),
    };
    let names = match from.ns.list_xattrs(&from.path) {
        Ok(names) => names,
        Err(error) => return go_on(error),
    };
    for name in names.iter().filter(|name| is_ours(name)) {
        let value = from.ns.xattr(&from.path, name);
        let set = value.and_then(|value| to.ns.set_xattr(&to.path, name, value));
        set.or_else(go_on)?;
    }
    Ok(())
}
