//! `rm`.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::mem;

use xen9p::errno::Errno;
use xen9p::fs;
use xen9p::ns::DirEntry;
use xen9p::tree::DynNode;
use xen9p::tree::files::RemovingDir;

use super::descent::{Begun, begun, next_begun};
use super::listing::{Names, Selection};
use super::place::{Place, concat, is_of_the_path};
use super::{Args, Fail, Shell};

pub fn rm(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let (force, recursive) = (args.has('f'), args.has('r') || args.has('R'));
    if args.operands.is_empty() && force {
        return Ok(());
    }
    let verbose = args.has('v');
    shell.each(&args.operands, |shell, place| {
        let cannot = |error| Fail::from_fs(format_args!("cannot remove '{place}'"), error);
        if place.ends_in_dots() {
            return Err(Fail::error(format_args!(
                "refusing to remove '.' or '..': '{place}' stays"
            )));
        }
        match place.named() {
            Err(error) if force && error.errno() == Errno::ENOENT => Ok(()),
            Err(error) => Err(cannot(error)),
            Ok(_) if place.name().is_empty() => {
                Err(Fail::error(format_args!("'{place}' is a root and stays")))
            }
            Ok(found) if !found.is_dir() => {
                place.ns.remove_file(&place.path).map_err(cannot)?;
                tell_removed(shell, place, verbose, "");
                Ok(())
            }
            Ok(_) if recursive => {
                check_removable(place)?;
                remove_tree(shell, place, verbose)
            }
            Ok(_) if args.has('d') => {
                place.ns.remove_dir(&place.path).map_err(cannot)?;
                tell_removed(shell, place, verbose, "directory ");
                Ok(())
            }
            Ok(_) => Err(cannot(Errno::EISDIR.into())),
        }
    })
}

fn tell_removed(shell: &mut Shell<'_>, place: &Place, verbose: bool, what: &str) {
    if verbose {
        shell.say(format_args!("removed {what}'{place}'\n"));
    }
}

/// Refuses what has to stay where it is: ".", "..", a root, and what is a mount point or leads to one. To
/// be asked before anything of a tree is removed.
pub fn check_removable(place: &Place) -> Result<(), Fail> {
    let busy = || Fail::from_fs(format_args!("cannot remove '{place}'"), Errno::EBUSY.into());
    if place.name().is_empty() || place.ends_in_dots() {
        return Err(busy());
    }
    let points = place.ns.mount_points();
    if points.is_empty() {
        return Ok(());
    }
    // Mount points are paths without links.
    let above = place.at(concat(&[&place.path, b"/.."])?).clean()?;
    let above = place.ns.canonicalize(above);
    let path = above.map_err(|error| place.fail(error))?;
    let slash: &[u8] = if path.ends_with(b"/") { b"" } else { b"/" };
    let path = concat(&[&path, slash, place.name()])?;
    let is_fixed = points.iter().any(|point| {
        let below = point.path.strip_prefix(path.as_slice());
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    });
    if is_fixed { Err(busy()) } else { Ok(()) }
}

/// How often a directory is listed anew at the most. Where a server passes over every other entry while
/// others are removed, half of them are left each time.
const MOST_PASSES: u32 = 64;

/// A directory that is being emptied.
struct Level {
    /// Length of its path.
    len: usize,
    /// Directories in it that this pass found.
    dirs: Names,
    next: usize,
    /// Whether they were too many for one pass.
    more: bool,
    /// Whether it could be listed.
    listed: bool,
    /// Names that could not be removed; sorted when a pass begins.
    failed: Names,
    /// Whether this pass removed anything.
    progress: bool,
    passes: u32,
    /// The next directories in it, which were begun with.
    ahead: Begun<RemovingDir<DynNode>>,
    /// Whether it was removed already.
    is_gone: bool,
}

/// Removes a directory and all below it, as far as possible. Works from lists, not by recursion: a tree may be
/// deeper than the stack. Of a directory it keeps no more than the names of those in it, as many as there is
/// room for.
pub fn remove_tree(shell: &mut Shell<'_>, top: &Place, verbose: bool) -> Result<(), Fail> {
    let mut at = top.again()?;
    let mut levels: Vec<Level> = Vec::new();
    let mut failed = false;
    descend(shell, &at, &mut levels, None, verbose)?;
    loop {
        let held = levels.iter().map(|level| level.ahead.len()).sum();
        let Some(level) = levels.last_mut() else {
            break;
        };
        at.path.truncate(level.len);
        if level.next < level.dirs.len() {
            if level.ahead.is_empty() {
                let names = level.dirs.ahead(level.next, held)?;
                if !names.is_empty() {
                    level.ahead = begun(at.ns.removing_dirs(&at.path, names))?;
                }
            }
            let dir = next_begun(&mut level.ahead)?;
            at = at.join(level.dirs.get(level.next))?;
            level.next += 1;
            descend(shell, &at, &mut levels, dir, verbose)?;
            continue;
        }
        // Entries may be passed over when others are removed meanwhile.
        let again = level.listed && level.progress && level.passes < MOST_PASSES;
        if level.more || again && level.failed.len() > 0 {
            pass(shell, &at, level, None, verbose)?;
            continue;
        }
        let done = match level.failed.len() {
            0 if level.listed => match remove_dir(&at, level) {
                Err(error) if again && is_not_empty(error) => {
                    pass(shell, &at, level, None, verbose)?;
                    continue;
                }
                done => {
                    let done = tell(shell, &at, done)?;
                    tell_removed(shell, &at, verbose && done, "directory ");
                    done
                }
            },
            _ => false,
        };
        levels.pop();
        failed |= !done;
        match levels.last_mut() {
            Some(above) if done => above.progress = true,
            Some(above) => above.failed.push(at.name())?,
            None => {}
        }
    }
    if failed {
        Err(Fail::Reported(1))
    } else {
        Ok(())
    }
}

fn remove_dir(at: &Place, level: &Level) -> fs::Result<()> {
    match level.is_gone {
        true => Ok(()),
        false => at.ns.remove_dir(&at.path),
    }
}

fn is_not_empty(error: fs::Error) -> bool {
    matches!(error.errno(), Errno::ENOTEMPTY | Errno::EEXIST)
}

/// Tells that something could not be removed; whether it was. What would fail for every other name, too,
/// ends the command.
fn tell(shell: &mut Shell<'_>, place: &Place, done: fs::Result<()>) -> Result<bool, Fail> {
    let Err(error) = done else { return Ok(true) };
    if error.is_not_found() {
        // Another client was faster.
        return Ok(true);
    }
    let fail = Fail::from_fs(format_args!("cannot remove '{place}'"), error);
    match is_of_the_path(error) {
        true => shell.settle(Err(fail)).map(|()| false),
        false => Err(fail),
    }
}

/// Begins with a directory, or goes on with one that was begun with.
fn descend(
    shell: &mut Shell<'_>,
    at: &Place,
    levels: &mut Vec<Level>,
    dir: Option<RemovingDir<DynNode>>,
    verbose: bool,
) -> Result<(), Fail> {
    let mut level = Level {
        len: at.path.len(),
        dirs: Names::default(),
        next: 0,
        more: false,
        listed: true,
        failed: Names::default(),
        progress: false,
        passes: 0,
        ahead: Begun::new(),
        is_gone: dir.as_ref().is_some_and(RemovingDir::is_gone),
    };
    levels.try_reserve(1).map_err(|_| Fail::out_of_memory())?;
    pass(shell, at, &mut level, dir, verbose)?;
    levels.push(level);
    Ok(())
}

/// Goes through a directory once: removes what is no directory and notes which are.
fn pass(
    shell: &mut Shell<'_>,
    at: &Place,
    level: &mut Level,
    dir: Option<RemovingDir<DynNode>>,
    verbose: bool,
) -> Result<(), Fail> {
    level.failed.sort();
    (level.progress, level.more) = (false, false);
    level.passes += 1;
    let mut stay = Names::default();
    let mut selection = Selection::behind(shell, None);
    let tried = Rc::new(mem::take(&mut level.failed));
    let failed = tried.clone();
    let which = move |entry: &DirEntry| !failed.has(entry.file_name());
    let entries = match dir {
        Some(dir) => Ok(dir.into_entries()),
        None => at.ns.read_dir(&at.path).map(|it| it.removing(which)),
    };
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => return unlisted(shell, at, level, error),
    };
    for entry in entries {
        let (entry, removed) = match entry {
            Ok(entry) => entry,
            Err(fs::Error::HiddenLinks) => {
                // The directory itself may be what a link leads to: nothing in it is removed.
                return Err(Fail::from_fs(
                    format_args!("cannot remove '{at}'"),
                    fs::Error::HiddenLinks,
                ));
            }
            Err(error) => return unlisted(shell, at, level, error),
        };
        let name = entry.file_name();
        if tried.has(name) {
            continue;
        }
        let removed = match removed {
            Some(removed) if !is_directory(&entry, removed) => removed,
            _ => {
                selection.offer(name)?;
                continue;
            }
        };
        let place = at.join(name)?;
        if tell(shell, &place, removed)? {
            tell_removed(shell, &place, verbose, "");
            level.progress = true;
        } else {
            stay.push(name)?;
        }
    }
    level.failed = Rc::try_unwrap(tried).unwrap_or_default();
    for nth in 0..stay.len() {
        level.failed.push(stay.get(nth))?;
    }
    let (dirs, more) = selection.finish();
    (level.dirs, level.next, level.more) = (dirs, 0, more.is_some());
    Ok(())
}

/// Whether an entry of which the listing does not tell what it is turned out to be a directory when it was to be removed.
fn is_directory(entry: &DirEntry, removed: fs::Result<()>) -> bool {
    let may_be = |error: fs::Error| matches!(error.errno(), Errno::EISDIR | Errno::EPERM);
    entry.known_type().is_none()
        && removed.is_err_and(may_be)
        && entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// Tells that a directory can't be listed, which then stays.
fn unlisted(
    shell: &mut Shell<'_>,
    at: &Place,
    level: &mut Level,
    error: fs::Error,
) -> Result<(), Fail> {
    let fail = Fail::from_fs(format_args!("cannot list '{at}'"), error);
    level.listed = false;
    (level.dirs, level.next) = (Names::default(), 0);
    match is_of_the_path(error) {
        true => shell.settle(Err(fail)),
        false => Err(fail),
    }
}
