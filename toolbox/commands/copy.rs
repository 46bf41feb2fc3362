//! `cp`, and copying as such.

use alloc::boxed::Box;
use alloc::vec::Vec;

use xen9p::errno::Errno;
use xen9p::fs::{self, Metadata, OpenOptions, Permissions};
use xen9p::ns::DirEntry;
use xen9p::tree::DynNode;
use xen9p::tree::files::{CopyError, Copying, CopyingDir, CopyingFiles};

use super::descent::{Begun, begun, directories, next_begun};
use super::kept::{Keep, Kept};
use super::listing::{Names, Selection};
use super::moving::{are_the_same, beside};
use super::place::Place;
use super::progress::{Amount, Progress, found};
use super::same::{Links, is_same};
use super::target::to_target;
use super::{Args, Fail, Shell};

/// How a copy is made.
pub struct How {
    pub kept: Kept,
    /// What is not older than its source stays.
    pub update: bool,
    /// What can't be opened to be replaced is removed first.
    pub force: bool,
    pub verbose: bool,
    progress: Progress,
}

impl How {
    /// How mv copies what it can't rename.
    pub fn to_move(shell: &Shell<'_>) -> How {
        How {
            kept: Kept::new(Keep::Moved),
            update: false,
            force: false,
            verbose: false,
            progress: Progress::new(shell, Amount::default()),
        }
    }

    /// Begins with what is moved next.
    pub fn begin(&mut self, shell: &mut Shell<'_>, from: &Place) -> Result<(), Fail> {
        let found = found(shell, from, &from.symlink_metadata()?)?;
        self.progress = Progress::new(shell, found);
        Ok(())
    }

    /// Takes away what was shown.
    pub fn end(&mut self, shell: &mut Shell<'_>) {
        self.progress.end(shell);
    }
}

pub fn cp(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let all = args.has('a');
    let recursive = all || args.has('r') || args.has('R');
    // As with GNU's cp, a source that is a link means what it leads to, but with -r itself.
    let links = recursive || args.has('P') || args.has('d');
    let mut amount = Amount::default();
    if shell.on_terminal() {
        let sources = args
            .operands
            .split_last()
            .map_or(&[][..], |(_, sources)| sources);
        for source in sources {
            // What is wrong with a source is told when its turn comes.
            let place = shell.place(source)?;
            if let Ok(metadata) = place.metadata() {
                let more = found(shell, &place, &metadata)?;
                amount.files += more.files;
                amount.bytes = amount.bytes.saturating_add(more.bytes);
            }
        }
    }
    let mut how = How {
        kept: Kept::new(match (all, args.has('p')) {
            (true, _) => Keep::All,
            (_, true) => Keep::Most,
            _ => Keep::Nothing,
        }),
        update: args.has('u'),
        force: args.has('f'),
        verbose: args.has('v'),
        progress: Progress::new(shell, amount),
    };
    let done = to_target(shell, &args.operands, |shell, from, to| {
        let found = match links {
            true => from.symlink_metadata()?,
            false => from.metadata()?,
        };
        if found.is_symlink() {
            copy_link(shell, from, to, &how)
        } else if !found.is_dir() {
            copy_file(shell, from, &found, to, &mut how)
        } else if recursive {
            copy_tree(shell, from, &found, to, &mut how)
        } else {
            Err(Fail::error(format_args!(
                "-r not specified; omitting directory '{from}'"
            )))
        }
    });
    how.end(shell);
    done
}

fn tell_copied(shell: &mut Shell<'_>, from: &Place, to: &Place, how: &How) {
    if how.verbose {
        shell.say(format_args!("'{from}' -> '{to}'\n"));
    }
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
    how: &mut How,
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
    let output = match to.ns.open_with(&to.path, &options) {
        Err(error) if how.force && matches!(error.errno(), Errno::EACCES | Errno::ETXTBSY) => {
            let removed = to.ns.remove_file(&to.path);
            removed.and_then(|()| to.ns.open_with(&to.path, &options))
        }
        opened => opened,
    };
    let output =
        output.map_err(|error| Fail::from_fs(format_args!("cannot create '{to}'"), error))?;
    let copied = copying.finish(output, |count| how.progress.add(shell, count, from));
    let output = copied.map_err(|error| match error {
        CopyError::Read(error) => from.fail(error),
        CopyError::Write(error) => to.fail(error),
    })?;
    how.progress.file_done();
    output.close().map_err(|error| to.fail(error))?;
    how.kept.preserve(from, found, to)
}

fn copy_file(
    shell: &mut Shell<'_>,
    from: &Place,
    found: &Metadata,
    to: &Place,
    how: &mut How,
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
    if how.update && there.is_some_and(|there| there.modified() >= found.modified()) {
        return Ok(());
    }
    tell_copied(shell, from, to, how);
    if how.kept.link(shell, from, found, to)? {
        how.progress.file_done();
        return Ok(());
    }
    pour(shell, from, found, Output::Any(to), how)?;
    how.kept.remember(shell, from, found, to);
    Ok(())
}

/// A directory that is being copied.
struct Level {
    found: Metadata,
    /// Lengths of its path and of its copy's.
    len: (usize, usize),
    /// Directories in it, and the last of those if there are more.
    dirs: Names,
    more: Option<Vec<u8>>,
    next: usize,
    /// The next of these, which were begun with.
    ahead: Begun<CopyingDir<DynNode>>,
}

/// Copies a directory and all below it, as far as possible. Keeps no more of a directory than the names of
/// those in it, as many as there is room for.
pub fn copy_tree(
    shell: &mut Shell<'_>,
    from: &Place,
    found: &Metadata,
    to: &Place,
    how: &mut How,
) -> Result<(), Fail> {
    if let Some(there) = to.there()?
        && there.ino() == found.ino()
        && is_same(from, to, Links::Themselves)?
    {
        return Err(are_the_same(from, to));
    }
    let (source, top) = (from, to);
    let (mut from, mut to) = (from.again()?, to.again()?);
    let mut failed = false;
    let mut levels: Vec<Level> = Vec::new();
    let mut begin = Some((*found, None));
    let mut top_ino = None;
    loop {
        if let Some((found, dir)) = begin.take() {
            let (made, files) = match dir {
                Some((is_new, files)) => (Ok(is_new), Some(files)),
                None => (make_directory(&to, found.permissions()), None),
            };
            let made = made.and_then(|is_new| {
                if is_new {
                    tell_copied(shell, &from, &to, how);
                }
                let (dirs, more) = copy_entries(shell, &from, &to, files, &mut failed, how)?;
                levels.try_reserve(1).map_err(|_| Fail::out_of_memory())?;
                levels.push(Level {
                    found,
                    len: (from.path.len(), to.path.len()),
                    dirs,
                    more,
                    next: 0,
                    ahead: Begun::new(),
                });
                Ok(())
            });
            failed |= made.is_err();
            shell.settle(made)?;
        }
        let held = levels.iter().map(|level| level.ahead.len()).sum();
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
                None => {
                    let found = level.found;
                    levels.pop();
                    // Now that nothing more is made in it.
                    let kept = how.kept.preserve(&from, &found, &to);
                    failed |= kept.is_err();
                    shell.settle(kept)?;
                }
            }
            continue;
        }
        let ino = match top_ino {
            Some(ino) => ino,
            None => *top_ino.insert(top.metadata()?.ino()),
        };
        if level.ahead.is_empty() && !how.kept.awaits_names() {
            let names = level.dirs.ahead(level.next, held)?;
            if !names.is_empty() {
                // What may be where the copy goes to is looked at by itself.
                let is_top = move |found: &Metadata| found.ino() == ino;
                let dirs = from
                    .ns
                    .copying_dirs(&from.path, names, &to.ns, &to.path, is_top);
                level.ahead = begun(dirs)?;
            }
        }
        let dir = next_begun(&mut level.ahead)?;
        let name = level.dirs.get(level.next);
        (from, to) = (from.join(name)?, to.join(name)?);
        level.next += 1;
        if let Some(dir) = dir {
            begin = Some((*dir.metadata(), Some((dir.is_new(), dir.into_files()))));
            continue;
        }
        let found = from.symlink_metadata().and_then(|found| {
            if found.ino() == ino && is_same(&from, top, Links::Followed)? {
                return Err(Fail::error(format_args!(
                    "cannot copy a directory, '{source}', into itself, '{top}'"
                )));
            }
            Ok(found)
        });
        match found {
            Ok(found) => begin = Some((found, None)),
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
    files: Option<CopyingFiles<DynNode>>,
    failed: &mut bool,
    how: &mut How,
) -> Result<(Names, Option<Vec<u8>>), Fail> {
    let mut selection = Selection::behind(shell, None);
    type Files = dyn Iterator<Item = fs::Result<(DirEntry, fs::Result<Option<u64>>)>>;
    let files: Box<Files> = match files {
        Some(files) => Box::new(files),
        None => {
            let entries = from.ns.read_dir(&from.path);
            let entries = entries.map_err(|error| from.fail(error))?;
            match how.kept.awaits_names() {
                true => Box::new(entries.map(|entry| Ok((entry?, Ok(None))))),
                false => {
                    let files = entries.copying_to(&to.ns, &to.path);
                    Box::new(files.map_err(|error| to.fail(error))?)
                }
            }
        }
    };
    for entry in files {
        let (entry, copied) = entry.map_err(|error| from.fail(error))?;
        match copied {
            Ok(Some(bytes)) => {
                let kept = small_copied(shell, &entry, bytes, from, to, how);
                *failed |= kept.is_err();
                shell.settle(kept)?;
            }
            Err(fs::Error::Interrupted) => return Err(Fail::Interrupted),
            // What is no small file with a name that is free, and what fails, goes by itself: then it is clear what to say.
            Ok(None) | Err(_) => match copy_entry(shell, &entry, from, to, how) {
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

/// What belongs to a copy that was made together with others.
fn small_copied(
    shell: &mut Shell<'_>,
    entry: &DirEntry,
    bytes: u64,
    from: &Place,
    to: &Place,
    how: &mut How,
) -> Result<(), Fail> {
    how.progress.file_done();
    how.progress.add(shell, bytes as usize, from);
    if !how.verbose && how.kept.is_nothing() {
        return Ok(());
    }
    let name = entry.file_name();
    let (from, to) = (from.join(name)?, to.join(name)?);
    tell_copied(shell, &from, &to, how);
    match how.kept.is_nothing() {
        true => Ok(()),
        false => how.kept.preserve(&from, &from.symlink_metadata()?, &to),
    }
}

/// Copies one entry of a directory, unless it is a directory itself, which is told.
fn copy_entry(
    shell: &mut Shell<'_>,
    entry: &DirEntry,
    from: &Place,
    to: &Place,
    how: &mut How,
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
        copy_link(shell, &from, &to, how)?;
    } else if found.is_dir() {
        return Err(Fail::error(format_args!(
            "'{from}' became a directory: not copied"
        )));
    } else {
        copy_file(shell, &from, &found, &to, how)?;
    }
    Ok(false)
}

/// Makes a directory that its owner can fill, unless it is there; whether it was made. A link to one is none.
fn make_directory(place: &Place, permissions: Permissions) -> Result<bool, Fail> {
    let cannot = |error| Fail::from_fs(format_args!("cannot create directory '{place}'"), error);
    let mode = permissions.mode() & 0o777 | 0o700;
    match place.ns.create_dir_with_mode(&place.path, mode) {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Errno::EEXIST && place.symlink_metadata()?.is_dir() => {
            Ok(false)
        }
        Err(error) => Err(cannot(error)),
    }
}

/// Makes a link that says what `from` says. It takes the place of what is at `to`, in one step, unless that
/// is a directory or what `from` leads to.
fn copy_link(shell: &mut Shell<'_>, from: &Place, to: &Place, how: &How) -> Result<(), Fail> {
    let cannot = |error| Fail::from_fs(format_args!("cannot create symbolic link '{to}'"), error);
    let target = from
        .ns
        .read_link(&from.path)
        .map_err(|error| from.fail(error))?;
    let keep = |shell: &mut Shell<'_>| {
        tell_copied(shell, from, to, how);
        match how.kept.is_nothing() {
            true => Ok(()),
            false => how.kept.preserve(from, &from.symlink_metadata()?, to),
        }
    };
    let Some(there) = to.there()? else {
        to.ns.symlink(target, &to.path).map_err(cannot)?;
        return keep(shell);
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
    moved.map_err(cannot)?;
    keep(shell)
}
