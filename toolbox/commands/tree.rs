//! Commands that change the tree: cp, mv, rm, mkdir.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use xen9p::errno::Errno;
use xen9p::fs::{Metadata, OpenOptions, Permissions};

use super::files::read_through;
use super::place::Place;
use super::progress::Progress;
use super::{Fail, Shell, operands};

pub fn mkdir(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let (flags, paths) = operands(arguments, "p")?;
    shell.each(paths, |_, place| {
        let made = if flags.has(0) {
            place.ns.create_dir_all(&place.path)
        } else {
            place.ns.create_dir(&place.path)
        };
        made.map_err(|error| {
            Fail::from_fs(format_args!("cannot create directory '{place}'"), error)
        })
    })
}

pub fn rm(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let (flags, paths) = operands(arguments, "fr")?;
    let (force, recursive) = (flags.has(0), flags.has(1));
    if paths.is_empty() && force {
        return Ok(());
    }
    shell.each(paths, |shell, place| {
        if place.name().is_empty() {
            return Err(Fail::Error(format!("'{place}' is a root and stays")));
        }
        let cannot = |error| Fail::from_fs(format_args!("cannot remove '{place}'"), error);
        match place.ns.symlink_metadata(&place.path) {
            Err(error) if force && error.is_not_found() => Ok(()),
            Err(error) => Err(cannot(error)),
            Ok(found) if !found.is_dir() => place.ns.remove_file(&place.path).map_err(cannot),
            Ok(_) if recursive => remove_tree(shell, place),
            Ok(_) => Err(Fail::Error(format!(
                "cannot remove '{place}': Is a directory"
            ))),
        }
    })
}

/// Removes a directory and all below it, as far as possible. Works from a list, not by recursion:
/// a tree may be deeper than the stack.
fn remove_tree(shell: &mut Shell<'_>, top: &Place) -> Result<(), Fail> {
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

pub fn cp(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let (flags, paths) = operands(arguments, "r")?;
    let recursive = flags.has(0);
    to_target(shell, paths, |shell, from, to| {
        let found = from.metadata()?;
        if !found.is_dir() {
            copy_file(shell, from, &found, to)
        } else if recursive {
            copy_tree(shell, from, &found, to)
        } else {
            Err(Fail::Error(format!(
                "-r not specified; omitting directory '{from}'"
            )))
        }
    })
}

pub fn mv(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let (_, paths) = operands(arguments, "")?;
    to_target(shell, paths, |shell, from, to| {
        if from.share == to.share {
            let moved = from.ns.rename(&from.path, &to.path);
            // Two trees can be mounted in one name space.
            if moved.map_err(|error| error.errno()) != Err(Errno::EXDEV) {
                return moved.map_err(|error| {
                    Fail::from_fs(format_args!("cannot move '{from}' to '{to}'"), error)
                });
            }
        }
        let found = from.metadata()?;
        if found.is_dir() {
            copy_tree(shell, from, &found, to)?;
            remove_tree(shell, from)
        } else {
            copy_file(shell, from, &found, to)?;
            from.ns
                .remove_file(&from.path)
                .map_err(|error| Fail::from_fs(format_args!("cannot remove '{from}'"), error))
        }
    })
}

/// Runs `action` for each source with the place it goes to: the last path, or below it when that is
/// a directory.
fn to_target(
    shell: &mut Shell<'_>,
    paths: &[String],
    mut action: impl FnMut(&mut Shell<'_>, &Place, &Place) -> Result<(), Fail>,
) -> Result<(), Fail> {
    let [sources @ .., target] = paths else {
        return Err(Fail::Usage("paths are missing".into()));
    };
    if sources.is_empty() {
        return Err(Fail::Usage(format!(
            "the target after '{target}' is missing"
        )));
    }
    let target = shell.place(target)?;
    let into = match target.ns.metadata(&target.path) {
        Ok(found) => found.is_dir(),
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(target.fail(error)),
    };
    if !into && sources.len() > 1 {
        return Err(Fail::Error(format!("target '{target}' is no directory")));
    }
    shell.each(sources, |shell, source| {
        if into {
            action(shell, source, &target.join(source.name()))
        } else {
            action(shell, source, &target)
        }
    })
}

fn copy_file(
    shell: &mut Shell<'_>,
    from: &Place,
    found: &Metadata,
    to: &Place,
) -> Result<(), Fail> {
    match to.ns.metadata(&to.path) {
        Ok(there) if is_same(found, &there) => {
            return Err(Fail::Error(format!(
                "'{from}' and '{to}' are the same file"
            )));
        }
        _ => {}
    }
    if !found.is_file() {
        return Err(Fail::Error(format!(
            "'{from}' is no regular file: not copied"
        )));
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let output = to
        .ns
        .open_with(&to.path, options.mode(found.mode() & 0o777))
        .map_err(|error| Fail::from_fs(format_args!("cannot create '{to}'"), error))?;
    let mut progress = Progress::new(shell, found.len());
    let copied = read_through(shell, from, |shell, bytes| {
        output.write_all(bytes).map_err(|error| to.fail(error))?;
        progress.add(shell, bytes.len(), from);
        Ok(())
    });
    progress.end(shell);
    copied?;
    output.close().map_err(|error| to.fail(error))
}

/// Whether two answers are about one file. Shares of one host directory may show a file twice, and
/// files of two hosts may have one number: times decide.
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    a.ino() == b.ino()
        && a.len() == b.len()
        && a.changed() == b.changed()
        && a.modified() == b.modified()
}

fn copy_tree(
    shell: &mut Shell<'_>,
    from: &Place,
    found: &Metadata,
    to: &Place,
) -> Result<(), Fail> {
    let top = to;
    let mut failed = false;
    let mut directories = vec![(from.clone(), to.clone(), found.permissions())];
    while let Some((from, to, permissions)) = directories.pop() {
        let entries = match make_directory(&to, permissions).and_then(|()| from.list()) {
            Ok(entries) => entries,
            Err(error) => {
                failed = true;
                shell.settle(Err(error))?;
                continue;
            }
        };
        for entry in entries {
            let (from, to) = (from.join(&entry.name), to.join(&entry.name));
            let done = from.symlink_metadata().and_then(|found| {
                if found.is_symlink() {
                    copy_link(&from, &to)
                } else if !found.is_dir() {
                    copy_file(shell, &from, &found, &to)
                } else if is_same(&found, &top.metadata()?) {
                    Err(Fail::Error(format!("cannot copy '{from}' into itself")))
                } else {
                    directories.push((from, to, found.permissions()));
                    Ok(())
                }
            });
            failed |= done.is_err();
            shell.settle(done)?;
        }
    }
    if failed { Err(Fail::Told(1)) } else { Ok(()) }
}

/// Makes a directory that its owner can fill, unless it is there.
fn make_directory(place: &Place, permissions: Permissions) -> Result<(), Fail> {
    let cannot = |error| Fail::from_fs(format_args!("cannot create directory '{place}'"), error);
    match place.ns.create_dir(&place.path) {
        Ok(()) => {
            let mode = permissions.mode() & 0o777 | 0o700;
            if mode == 0o755 {
                return Ok(());
            }
            place
                .ns
                .set_permissions(&place.path, Permissions::from_mode(mode))
                .map_err(cannot)
        }
        Err(error) if error.errno() == Errno::EEXIST && place.metadata()?.is_dir() => Ok(()),
        Err(error) => Err(cannot(error)),
    }
}

fn copy_link(from: &Place, to: &Place) -> Result<(), Fail> {
    let target = from
        .ns
        .read_link(&from.path)
        .map_err(|error| from.fail(error))?;
    to.ns
        .symlink(target, &to.path)
        .map_err(|error| Fail::from_fs(format_args!("cannot create symbolic link '{to}'"), error))
}
