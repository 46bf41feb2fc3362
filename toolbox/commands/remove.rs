//! `rm`.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use xen9p::errno::Errno;

use super::place::Place;
use super::{Fail, Shell, operands};

pub fn rm(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let (flags, paths) = operands(arguments, "fr")?;
    let (force, recursive) = (flags.has(0), flags.has(1));
    if paths.is_empty() && force {
        return Ok(());
    }
    shell.each(paths, |shell, place| {
        let cannot = |error| Fail::from_fs(format_args!("cannot remove '{place}'"), error);
        if place.ends_in_dots() {
            return Err(Fail::Error(format!(
                "refusing to remove '.' or '..': '{place}' stays"
            )));
        }
        match place.named() {
            Err(error) if force && error.errno() == Errno::ENOENT => Ok(()),
            Err(error) => Err(cannot(error)),
            Ok(_) if place.name().is_empty() => {
                Err(Fail::Error(format!("'{place}' is a root and stays")))
            }
            Ok(found) if !found.is_dir() => place.ns.remove_file(&place.path).map_err(cannot),
            Ok(_) if recursive => {
                check_removable(place)?;
                remove_tree(shell, place)
            }
            Ok(_) => Err(Fail::Error(format!(
                "cannot remove '{place}': Is a directory"
            ))),
        }
    })
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
    let mut above = place.clone();
    above.path.extend_from_slice(b"/..");
    let above = place.ns.canonicalize(above.clean());
    let mut path = above.map_err(|error| place.fail(error))?;
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(place.name());
    let is_fixed = points.iter().any(|point| {
        let below = point.path.strip_prefix(path.as_slice());
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    });
    if is_fixed { Err(busy()) } else { Ok(()) }
}

/// Removes a directory and all below it, as far as possible. Works from a list, not by recursion:
/// a tree may be deeper than the stack.
pub fn remove_tree(shell: &mut Shell<'_>, top: &Place) -> Result<(), Fail> {
    let mut failed = false;
    let mut tell = |shell: &mut Shell<'_>, done: Result<(), Fail>| {
        failed |= done.is_err();
        shell.settle(done)
    };
    let mut directories = vec![top.clone()];
    let mut next = 0;
    while next < directories.len() {
        let directory = directories[next].clone();
        next += 1;
        let entries = match directory.list() {
            Ok(entries) => entries,
            Err(error) => {
                tell(shell, Err(error))?;
                continue;
            }
        };
        for entry in entries {
            let place = directory.join(&entry.name);
            if entry.kind.is_dir() {
                directories.push(place);
            } else {
                let done = place
                    .ns
                    .remove_file(&place.path)
                    .map_err(|error| Fail::from_fs(format_args!("cannot remove '{place}'"), error));
                tell(shell, done)?;
            }
        }
    }
    // Parents stand before their children in the list.
    for place in directories.iter().rev() {
        let done = place
            .ns
            .remove_dir(&place.path)
            .map_err(|error| Fail::from_fs(format_args!("cannot remove '{place}'"), error));
        tell(shell, done)?;
    }
    if failed { Err(Fail::Told(1)) } else { Ok(()) }
}
