//! Going down into directories, and up again.

use alloc::vec::Vec;

use super::listing::{Names, Selection, out_of_memory};
use super::place::Place;
use super::{Fail, Shell};

/// What is done with each directory of a tree.
pub trait Visitor {
    /// A directory is come to; which of those in it are to be entered, and the last of these if there are more.
    fn enter(
        &mut self,
        shell: &mut Shell<'_>,
        at: &Place,
    ) -> Result<(Names, Option<Vec<u8>>), Fail>;

    /// All below a directory that was entered is done.
    fn leave(&mut self, _shell: &mut Shell<'_>, _at: &Place) -> Result<(), Fail> {
        Ok(())
    }
}

/// A directory that was entered.
struct Level {
    /// Length of its path.
    len: usize,
    dirs: Names,
    more: Option<Vec<u8>>,
    next: usize,
}

/// Goes through a directory and those below it, each before those in it. Works from lists, not by recursion: a tree may be
/// deeper than the stack. What can't be entered is told, and the others are gone on with.
pub fn descend(shell: &mut Shell<'_>, top: &Place, visitor: &mut impl Visitor) -> Result<(), Fail> {
    let mut at = top.again()?;
    let mut levels: Vec<Level> = Vec::new();
    let mut begins = true;
    loop {
        if core::mem::take(&mut begins) {
            match visitor.enter(shell, &at) {
                Ok((dirs, more)) => {
                    levels.try_reserve(1).map_err(|_| out_of_memory())?;
                    levels.push(Level {
                        len: at.path.len(),
                        dirs,
                        more,
                        next: 0,
                    });
                }
                Err(fail) => shell.settle(Err(fail))?,
            }
            shell.check_output()?;
        }
        let Some(level) = levels.last_mut() else {
            return Ok(());
        };
        at.path.truncate(level.len);
        if level.next < level.dirs.len() {
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
    from.entries(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() && !entry.may_be_link() => selection.offer(entry.file_name()),
        _ => Ok(()),
    })?;
    Ok(selection.finish())
}
