//! `mv`: by rename(2)'s rules, between trees too. No symbolic link is followed, but one to a directory that
//! something is moved into.

use alloc::format;

use xen9p::errno::Errno;
use xen9p::fs::Metadata;

use super::copy::{How, Output, copy_tree, pour};
use super::place::{Place, concat};
use super::remove::{check_removable, remove_tree};
use super::same::{Links, is_same};
use super::target::to_target;
use super::{Args, Fail, Shell};

pub fn mv(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    // What is kept of a tree is kept of all operands together: one file stays one.
    let mut how = How::to_move(shell);
    to_target(shell, &args.operands, |shell, from, to| {
        if args.has('n') && to.there()?.is_some() {
            return Ok(());
        }
        move_to(shell, from, to, &mut how)?;
        if args.has('v') {
            shell.say(format_args!("renamed '{from}' -> '{to}'\n"));
        }
        Ok(())
    })
}

fn move_to(shell: &mut Shell<'_>, from: &Place, to: &Place, how: &mut How) -> Result<(), Fail> {
    let cannot = |error| Fail::from_fs(format_args!("cannot move '{from}' to '{to}'"), error);
    if from.ends_in_dots() || from.name().is_empty() && !from.path.is_empty() {
        return Err(cannot(Errno::EBUSY.into()));
    }
    if from.is(to)? {
        return Err(are_the_same(from, to));
    }
    if from.share == to.share {
        let moved = from.ns.rename(&from.path, &to.path);
        // Two trees can be mounted in one name space.
        if moved.map_err(|error| error.errno()) != Err(Errno::EXDEV) {
            return moved.map_err(cannot);
        }
    }
    let found = from.named().map_err(cannot)?;
    match (to.there()?, found.is_dir()) {
        (Some(there), true) if !there.is_dir() => Err(cannot(Errno::ENOTDIR.into())),
        (Some(there), false) if there.is_dir() => Err(cannot(Errno::EISDIR.into())),
        (Some(_), _) if is_same(from, to, Links::Themselves)? => Err(are_the_same(from, to)),
        (Some(_), true) if !is_empty(to)? => Err(cannot(Errno::ENOTEMPTY.into())),
        (_, true) => {
            // What can't be removed afterwards is not copied.
            check_removable(from)?;
            from.check_links_are_told().map_err(cannot)?;
            how.begin(shell, from)?;
            let copied = copy_tree(shell, from, &found, to, how);
            how.end(shell);
            copied?;
            how.kept.sources_are_gone();
            remove_tree(shell, from, false)
        }
        (there, false) => {
            carry(shell, from, &found, to, there.is_some(), how)?;
            how.kept.sources_are_gone();
            let removed = from.ns.remove_file(&from.path);
            removed.map_err(|error| Fail::from_fs(format_args!("cannot remove '{from}'"), error))
        }
    }
}

pub fn are_the_same(a: &Place, b: &Place) -> Fail {
    Fail::error(format_args!("'{a}' and '{b}' are the same file"))
}

pub fn is_empty(directory: &Place) -> Result<bool, Fail> {
    let entries = directory.ns.read_dir(&directory.path);
    let mut entries = entries.map_err(|error| directory.fail(error))?;
    match entries.next() {
        None => Ok(true),
        Some(Ok(_)) => Ok(false),
        Some(Err(error)) => Err(directory.fail(error)),
    }
}

/// Copies what is no directory to another tree. What `to` names is replaced, in one step, when the copy is
/// complete: until then it is what it was.
fn carry(
    shell: &mut Shell<'_>,
    from: &Place,
    found: &Metadata,
    to: &Place,
    replace: bool,
    how: &mut How,
) -> Result<(), Fail> {
    let cannot = |error| Fail::from_fs(format_args!("cannot create '{to}'"), error);
    if how.kept.link(shell, from, found, to)? {
        return Ok(());
    }
    let place = if replace {
        beside(shell, to)?
    } else {
        to.again()?
    };
    if found.is_symlink() {
        let target = from.ns.read_link(&from.path);
        let target = target.map_err(|error| from.fail(error))?;
        to.ns.symlink(target, &place.path).map_err(cannot)?;
        how.kept.preserve(from, found, &place)?;
    } else {
        how.begin(shell, from)?;
        let copied = pour(shell, from, found, Output::New(&place), how);
        how.end(shell);
        if copied.is_err() {
            // Half a copy is of no use; what can't be removed is told by its name.
            if place
                .there()
                .is_ok_and(|there| there.is_some_and(|it| it.is_file()))
                && to.ns.remove_file(&place.path).is_err()
            {
                shell.complain(&format_args!("'{place}' stays"));
            }
            return copied;
        }
    }
    if replace {
        let moved = to.ns.rename(&place.path, &to.path);
        if moved.is_err() && to.ns.remove_file(&place.path).is_err() {
            shell.complain(&format_args!("'{place}' stays"));
        }
        moved.map_err(cannot)?;
    }
    how.kept.remember(shell, from, found, to);
    Ok(())
}

/// A name in the directory of `to` that is hardly taken; what is made there has to be new.
pub fn beside(shell: &Shell<'_>, to: &Place) -> Result<Place, Fail> {
    let name = format!(".new-{:x}", shell.host.now().as_nanos());
    let mut path = to.clean()?;
    let above = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.truncate(above);
    Ok(to.at(concat(&[&path, b"/", name.as_bytes()])?))
}
