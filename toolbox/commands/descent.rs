//! Going down into directories, and up again.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use xen9p::fs;
use xen9p::ns::DirEntry;

use super::listing::{Names, Selection};
use super::place::Place;
use super::{Fail, Shell};

/// What is done with each directory of a tree.
pub trait Visitor {
    /// What it finds when it looks into a directory.
    type Looked;

    /// Looks into some of the directories in one at the same time; see [`Begun`].
    fn look(&self, above: &Place, names: Vec<Vec<u8>>) -> fs::Result<Begun<Self::Looked>>;

    /// A directory is come to, which was looked into already if that is given; which of those in it are to be entered, and
    /// the last of these if there are more.
    fn enter(
        &mut self,
        shell: &mut Shell<'_>,
        at: &Place,
        looked: Option<Self::Looked>,
    ) -> Result<(Names, Option<Vec<u8>>), Fail>;

    /// All below a directory that was entered is done.
    fn leave(&mut self, _shell: &mut Shell<'_>, _at: &Place) -> Result<(), Fail> {
        Ok(())
    }
}

/// Directories that were begun with at the same time, in the order of their names.
pub type Begun<T> = VecDeque<fs::Result<T>>;

/// Those that were begun with. What else went wrong is told where it is met again.
pub fn begun<T>(dirs: fs::Result<Begun<T>>) -> Result<Begun<T>, Fail> {
    match dirs {
        Err(fs::Error::Interrupted) => Err(Fail::Interrupted),
        dirs => Ok(dirs.unwrap_or_default()),
    }
}

/// The next of these; `None` if it has to be gone into by itself.
pub fn next_begun<T>(dirs: &mut Begun<T>) -> Result<Option<T>, Fail> {
    match dirs.pop_front() {
        Some(Err(fs::Error::Interrupted)) => Err(Fail::Interrupted),
        next => Ok(next.and_then(Result::ok)),
    }
}

/// A directory that was entered.
struct Level<T> {
    /// Length of its path.
    len: usize,
    dirs: Names,
    more: Option<Vec<u8>>,
    next: usize,
    /// The next of these, which were looked into.
    ahead: Begun<T>,
}

/// Goes through a directory and those below it, each before those in it. Works from lists, not by recursion: a tree may be
/// deeper than the stack. What can't be entered is told, and the others are gone on with.
pub fn descend<V: Visitor>(
    shell: &mut Shell<'_>,
    top: &Place,
    visitor: &mut V,
) -> Result<(), Fail> {
    let mut at = top.again()?;
    let mut levels: Vec<Level<V::Looked>> = Vec::new();
    let mut begins = true;
    let mut looked = None;
    loop {
        if core::mem::take(&mut begins) {
            match visitor.enter(shell, &at, looked.take()) {
                Ok((dirs, more)) => {
                    levels.try_reserve(1).map_err(|_| Fail::out_of_memory())?;
                    levels.push(Level {
                        len: at.path.len(),
                        dirs,
                        more,
                        next: 0,
                        ahead: VecDeque::new(),
                    });
                }
                Err(fail) => shell.settle(Err(fail))?,
            }
            shell.check_output()?;
        }
        let held = levels.iter().map(|level| level.ahead.len()).sum();
        let Some(level) = levels.last_mut() else {
            return Ok(());
        };
        at.path.truncate(level.len);
        if level.next < level.dirs.len() {
            if level.ahead.is_empty() {
                let names = level.dirs.ahead(level.next, held)?;
                if !names.is_empty() {
                    level.ahead = begun(visitor.look(&at, names))?;
                }
            }
            looked = next_begun(&mut level.ahead)?;
            at = at.join(level.dirs.get(level.next))?;
            level.next += 1;
            begins = true;
        } else if let Some(last) = level.more.take() {
            (level.dirs, level.more) = directories(shell, &at, Some(last))?;
            level.next = 0;
        } else {
            levels.pop();
            visitor.leave(shell, &at)?;
        }
    }
}

/// The names of the directories in one, behind `after`.
pub fn directories(
    shell: &mut Shell<'_>,
    from: &Place,
    after: Option<Vec<u8>>,
) -> Result<(Names, Option<Vec<u8>>), Fail> {
    let mut selection = Selection::behind(shell, after);
    from.entries(|entry| match is_entered(entry) {
        true => selection.offer(entry.file_name()),
        false => Ok(()),
    })?;
    Ok(selection.finish())
}

/// Whether an entry is a directory, and no link to one.
pub fn is_entered(entry: &DirEntry) -> bool {
    !entry.may_be_link() && entry.file_type().is_ok_and(|kind| kind.is_dir())
}
