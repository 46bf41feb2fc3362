//! `cp`, and copying as such.

use alloc::string::String;
use alloc::vec::Vec;

use xen9p::errno::Errno;
use xen9p::fs::{self, Metadata, OpenOptions, Permissions};
use xen9p::ns::DirEntry;
use xen9p::tree::files::{CopyError, Copying};

use super::listing::{Names, Selection, out_of_memory};
use super::moving::{are_the_same, beside};
use super::place::Place;
use super::progress::Progress;
use super::same::{Links, is_same};
use super::target::to_target;
use super::{Fail, Shell, operands};

pub fn cp(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let (flags, paths) = operands(arguments, "r")?;
    let recursive = flags.has(0);
    to_target(shell, paths, |shell, from, to| {
        // As with GNU's cp, a source that is a link means what it leads to, but with -r itself.
        let found = match recursive {
            true => from.symlink_metadata()?,
            false => from.metadata()?,
        };
        if found.is_symlink() {
            copy_link(shell, from, to)
        } else if !found.is_dir() {
            copy_file(shell, from, &found, to)
        } else if recursive {
            copy_tree(shell, from, &found, to)
        } else {
            Err(Fail::error(format_args!(
                "-r not specified; omitting directory '{from}'"
            )))
        }
    })
}

/// Where copied bytes go to.
pub enum Output<'a> {
    /// A file that is made, or emptied if it is there; through a symbolic link.
    Any(&'a Place),
    /// A file that has to be new.
    New(&'a Place),
}

/// Copies the content of a regular file. The target is not touched before the first bytes of the source are
/// there, or its end.
pub fn pour(
    shell: &mut Shell<'_>,
    from: &Place,
    found: &Metadata,
    to: Output<'_>,
) -> Result<(), Fail> {
    if !found.is_file() {
        return Err(Fail::error(format_args!(
            "'{from}' is no regular file: not copied"
        )));
    }
    let source = from.open()?;
    let size = source.metadata().map_err(|error| from.fail(error))?.len();
    let copying = Copying::begin(source, size).map_err(|error| from.fail(error))?;
    shell.host.bytes_arrived();
    let mut options = OpenOptions::new();
    options.write(true).mode(found.mode() & 0o777);
    let to = match to {
        Output::Any(to) => {
            options.create(true).truncate(true);
            to
        }
        Output::New(to) => {
            options.create_new(true);
            to
        }
    };
    let output = to
        .ns
        .open_with(&to.path, &options)
        .map_err(|error| Fail::from_fs(format_args!("cannot create '{to}'"), error))?;
    let mut progress = Progress::new(shell, size);
    let copied = copying.finish(output, |count| progress.add(shell, count, from));
    progress.end(shell);
    let output = copied.map_err(|error| match error {
        CopyError::Read(error) => from.fail(error),
        CopyError::Write(error) => to.fail(error),
    })?;
    output.close().map_err(|error| to.fail(error))
}

fn copy_file(
    shell: &mut Shell<'_>,
    from: &Place,
    found: &Metadata,
    to: &Place,
) -> Result<(), Fail> {
    let mut there = to.there()?;
    if there.is_some_and(|there| there.is_symlink()) {
        let behind = to.ns.metadata(&to.path);
        there = Some(behind.map_err(|error| match error.is_not_found() {
            true => Fail::error(format_args!("not writing through dangling symlink '{to}'")),
            false => Fail::from_fs(format_args!("cannot create '{to}'"), error),
        })?);
    }
    if there.is_some_and(|there| there.ino() == found.ino()) && is_same(from, to, Links::Followed)?
    {
        return Err(are_the_same(from, to));
    }
    pour(shell, from, found, Output::Any(to))
}

/// A directory that is being copied.
struct Level {
    /// Lengths of its path and of its copy's.
    len: (usize, usize),
    /// Directories in it, and the last of those if there are more.
    dirs: Names,
    more: Option<Vec<u8>>,
    next: usize,
}

/// Copies a directory and all below it, as far as possible. Keeps no more of a directory than the names of
/// those in it, as many as there is room for.
pub fn copy_tree(
    shell: &mut Shell<'_>,
    from: &Place,
    found: &Metadata,
    to: &Place,
) -> Result<(), Fail> {
    if let Some(there) = to.there()?
        && there.ino() == found.ino()
        && is_same(from, to, Links::Themselves)?
    {
        return Err(are_the_same(from, to));
    }
    let top = to;
    let (mut from, mut to) = (from.again()?, to.again()?);
    let mut failed = false;
    let mut levels: Vec<Level> = Vec::new();
    let mut begin = Some(found.permissions());
    let mut top_ino = None;
    loop {
        if let Some(permissions) = begin.take() {
            let made = make_directory(&to, permissions).and_then(|()| {
                let (dirs, more) = copy_entries(shell, &from, &to, &mut failed)?;
                levels.try_reserve(1).map_err(|_| out_of_memory())?;
                levels.push(Level {
                    len: (from.path.len(), to.path.len()),
                    dirs,
                    more,
                    next: 0,
                });
                Ok(())
            });
            failed |= made.is_err();
            shell.settle(made)?;
        }
        let Some(level) = levels.last_mut() else {
            break;
        };
        from.path.truncate(level.len.0);
        to.path.truncate(level.len.1);
        if level.next == level.dirs.len() {
            match level.more.take() {
                Some(last) => {
                    (level.dirs, level.more) = directories(shell, &from, Some(last))?;
                    level.next = 0;
                }
                None => drop(levels.pop()),
            }
            continue;
        }
        let name = level.dirs.get(level.next);
        (from, to) = (from.join(name)?, to.join(name)?);
        level.next += 1;
        let ino = match top_ino {
            Some(ino) => ino,
            None => *top_ino.insert(top.metadata()?.ino()),
        };
        let found = from.symlink_metadata().and_then(|found| {
            if found.ino() == ino && is_same(&from, top, Links::Followed)? {
                return Err(Fail::error(format_args!(
                    "cannot copy '{from}' into itself"
                )));
            }
            Ok(found)
        });
        match found {
            Ok(found) => begin = Some(found.permissions()),
            Err(fail) => {
                failed = true;
                shell.settle(Err(fail))?;
            }
        }
    }
    if failed {
        Err(Fail::Reported(1))
    } else {
        Ok(())
    }
}

/// Copies what a directory has other than directories; returns the names of those.
fn copy_entries(
    shell: &mut Shell<'_>,
    from: &Place,
    to: &Place,
    failed: &mut bool,
) -> Result<(Names, Option<Vec<u8>>), Fail> {
    let mut selection = Selection::behind(shell, None);
    let entries = from.ns.read_dir(&from.path);
    let entries = entries.map_err(|error| from.fail(error))?;
    let entries = entries.copying_to(&to.ns, &to.path);
    for entry in entries.map_err(|error| to.fail(error))? {
        let (entry, copied) = entry.map_err(|error| from.fail(error))?;
        match copied {
            Ok(Some(_)) => {}
            Err(fs::Error::Interrupted) => return Err(Fail::Interrupted),
            // What is no small file with a name that is free, and what fails, goes by itself: then it is clear what to say.
            Ok(None) | Err(_) => match copy_entry(shell, &entry, from, to) {
                Ok(true) => selection.offer(entry.file_name())?,
                Ok(false) => {}
                Err(fail) => {
                    *failed = true;
                    shell.settle(Err(fail))?;
                }
            },
        }
    }
    Ok(selection.finish())
}

/// Copies one entry of a directory, unless it is a directory itself, which is told.
fn copy_entry(
    shell: &mut Shell<'_>,
    entry: &DirEntry,
    from: &Place,
    to: &Place,
) -> Result<bool, Fail> {
    let name = entry.file_name();
    let (from, to) = (from.join(name)?, to.join(name)?);
    match entry.file_type() {
        Ok(kind) if kind.is_dir() && entry.may_be_link() => {
            return Err(from.fail(fs::Error::HiddenLinks));
        }
        Ok(kind) if kind.is_dir() => return Ok(true),
        Ok(_) => {}
        // It is gone already.
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(from.fail(error)),
    }
    let found = from.symlink_metadata()?;
    if found.is_symlink() {
        copy_link(shell, &from, &to)?;
    } else if found.is_dir() {
        return Err(Fail::error(format_args!(
            "'{from}' became a directory: not copied"
        )));
    } else {
        copy_file(shell, &from, &found, &to)?;
    }
    Ok(false)
}

/// The names of the directories in one, behind `after`.
fn directories(
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

/// Makes a directory that its owner can fill, unless it is there. A link to one is none.
fn make_directory(place: &Place, permissions: Permissions) -> Result<(), Fail> {
    let cannot = |error| Fail::from_fs(format_args!("cannot create directory '{place}'"), error);
    match place.ns.create_dir(&place.path) {
        Ok(()) => {
            let mode = permissions.mode() & 0o777 | 0o700;
            if mode == 0o755 {
                return Ok(());
            }
            // The bit that gives what is made in it the directory's group is the server's to set.
            let group = place.symlink_metadata()?.mode() & 0o2000;
            place
                .ns
                .set_permissions(&place.path, Permissions::from_mode(mode | group))
                .map_err(cannot)
        }
        Err(error) if error.errno() == Errno::EEXIST && place.symlink_metadata()?.is_dir() => {
            Ok(())
        }
        Err(error) => Err(cannot(error)),
    }
}

/// Makes a link that says what `from` says. It takes the place of what is at `to`, in one step, unless that
/// is a directory or what `from` leads to.
fn copy_link(shell: &mut Shell<'_>, from: &Place, to: &Place) -> Result<(), Fail> {
    let cannot = |error| Fail::from_fs(format_args!("cannot create symbolic link '{to}'"), error);
    let target = from
        .ns
        .read_link(&from.path)
        .map_err(|error| from.fail(error))?;
    let Some(there) = to.there()? else {
        return to.ns.symlink(target, &to.path).map_err(cannot);
    };
    if there.is_dir() {
        return Err(Fail::error(format_args!(
            "cannot overwrite directory '{to}' with non-directory '{from}'"
        )));
    }
    // A link that leads nowhere leads to no file that it could hide.
    let behind = from.ns.metadata(&from.path).is_ok();
    if is_same(from, to, Links::Themselves)?
        || behind && !there.is_symlink() && is_same(from, to, Links::Followed)?
    {
        return Err(are_the_same(from, to));
    }
    let new = beside(shell, to)?;
    to.ns.symlink(target, &new.path).map_err(cannot)?;
    let moved = to.ns.rename(&new.path, &to.path);
    if moved.is_err() && to.ns.remove_file(&new.path).is_err() {
        shell.complain(&format_args!("'{new}' stays"));
    }
    moved.map_err(cannot)
}
