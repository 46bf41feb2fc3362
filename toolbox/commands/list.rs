//! `ls`.

use alloc::vec::Vec;

use xen9p::fs::{self, Metadata};
use xen9p::ns::{ReadDir, WithMetadata};

use super::descent::{Begun, Visitor, descend, directories, is_entered};
use super::format::{Human, Kilobytes, Mode, Time};
use super::listing::{Details, Names, Order, Selection};
use super::place::{Place, Shown, concat, is_of_the_path};
use super::{Args, Fail, Shell, sort};

/// The width that names are put into columns for.
const WIDTH: usize = 80;

/// How it lists.
#[derive(Clone, Copy)]
struct How {
    /// Hidden names, too.
    all: bool,
    /// And "." and "..".
    dots: bool,
    /// With attributes.
    long: bool,
    /// Names byte for byte.
    raw: bool,
    /// Sizes with units.
    human: bool,
    /// Directories as what they are, not what is in them.
    itself: bool,
    recursive: bool,
    columns: bool,
    order: Order,
    reverse: bool,
}

impl How {
    /// Whether the attributes of all entries are needed.
    fn wants_metadata(&self) -> bool {
        self.long || self.order != Order::Name || self.reverse
    }
}

pub fn ls(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let long = args.has('l');
    let how = How {
        all: args.has('a') || args.has('A'),
        dots: args.last_of(&['a', 'A']) == Some('a'),
        long,
        raw: args.has('N'),
        human: args.has('h'),
        itself: args.has('d'),
        recursive: args.has('R'),
        columns: match args.last_of(&['1', 'C']) {
            Some(letter) => letter == 'C' && !long,
            None => shell.on_terminal() && !long,
        },
        order: match args.last_of(&['t', 'S']) {
            Some('t') => Order::Newest,
            Some(_) => Order::Largest,
            None => Order::Name,
        },
        reverse: args.has('r'),
    };
    let mut paths = args.operands.clone();
    if paths.is_empty() {
        paths.push(".");
    }
    sort::sort(&mut paths);
    if how.reverse {
        paths.reverse();
    }
    // Errors first, then what is no directory, then directories.
    let (mut files, mut dirs) = (Details::default(), Vec::new());
    shell.each(&paths, |shell, place| {
        let found = operand(place, how)?;
        if found.is_dir() && !how.itself {
            dirs.push(place.again()?);
            return Ok(());
        }
        let name = concat(&[place.share.as_bytes(), place.typed()])?;
        match files.push(shell, &name, Ok(found)) {
            true => Ok(()),
            false => Err(Fail::out_of_memory()),
        }
    })?;
    let several = paths.len() > 1 || how.recursive;
    if files.len() > 0 {
        files.sort(how.order, how.reverse);
        print(shell, None, &files, how)?;
    }
    let mut lister = Lister {
        how,
        titled: several,
        first: files.len() == 0,
    };
    for dir in dirs {
        let listed = match how.recursive {
            true => descend(shell, &dir, &mut lister),
            false => lister.list(shell, &dir, None).map(drop),
        };
        shell.settle(listed)?;
    }
    Ok(())
}

/// What an operand is: a link to a directory means the directory, except with -l and -d, and any other link itself,
/// wherever it leads.
fn operand(place: &Place, how: How) -> Result<Metadata, Fail> {
    let found = place.symlink_metadata()?;
    if found.is_symlink() && !how.long && !how.itself {
        match place.ns.metadata(&place.path) {
            Ok(behind) if behind.is_dir() => return Ok(behind),
            // Where a link leads to is no concern of who lists it; that the server is lost is.
            Err(error) if !is_of_the_path(error) => return Err(place.fail(error)),
            _ => {}
        }
    }
    Ok(found)
}

/// Lists directories.
struct Lister {
    how: How,
    /// Each has its path above.
    titled: bool,
    first: bool,
}

/// The entries of a directory that was looked into.
enum Entries {
    Bare(ReadDir),
    Detailed(WithMetadata),
}

impl Visitor for Lister {
    type Looked = Entries;

    fn look(&self, above: &Place, names: Vec<Vec<u8>>) -> fs::Result<Begun<Entries>> {
        let (ns, path) = (&above.ns, &above.path);
        if self.how.wants_metadata() {
            let dirs = ns.with_metadata_of_dirs(path, names)?.into_iter();
            let entries = dirs.map(|dir| dir.map(|(_, entries)| Entries::Detailed(entries)));
            return Ok(entries.collect());
        }
        let dirs = ns.read_dirs(path, names)?.into_iter();
        Ok(dirs.map(|dir| dir.map(Entries::Bare)).collect())
    }

    fn enter(
        &mut self,
        shell: &mut Shell<'_>,
        at: &Place,
        looked: Option<Entries>,
    ) -> Result<(Names, Option<Vec<u8>>), Fail> {
        if let Some(dirs) = self.list(shell, at, looked)? {
            return Ok((dirs, None));
        }
        let (dirs, more) = directories(shell, at, None)?;
        Ok(match self.how.all {
            true => (dirs, more),
            false => (dirs.without_hidden()?, more),
        })
    }
}

impl Lister {
    /// Lists a directory; gives the names of those in it that are to be entered, if it came to know them by that.
    fn list(
        &mut self,
        shell: &mut Shell<'_>,
        directory: &Place,
        entries: Option<Entries>,
    ) -> Result<Option<Names>, Fail> {
        let how = self.how;
        let (mut bare, detailed) = match entries {
            Some(Entries::Bare(entries)) => (Some(entries), None),
            Some(Entries::Detailed(entries)) => (None, Some(entries)),
            None => (None, None),
        };
        if !core::mem::take(&mut self.first) {
            shell.print(b"\n");
        }
        if self.titled {
            shell.say(format_args!("{directory}:\n"));
        }
        if how.wants_metadata() {
            let (details, dirs, blocks) = details(shell, directory, detailed, how)?;
            if how.long {
                let bytes = blocks.saturating_mul(512);
                match how.human {
                    true => shell.say(format_args!("total {}\n", Human(bytes))),
                    false => shell.say(format_args!("total {}\n", Kilobytes(bytes))),
                }
            }
            if let Some(mut details) = details {
                details.sort(how.order, how.reverse);
                print(shell, Some(directory), &details, how)?;
                return Ok(Some(dirs));
            }
            if how.order != Order::Name || how.reverse {
                shell.complain(&format_args!(
                    "{directory}: too many entries to sort: listed by name"
                ));
                shell.failed = true;
            }
        }
        let mut after = None;
        let mut dots = how.dots;
        // Those to be entered are come to know in the first pass.
        let mut dirs = how.recursive.then(|| Selection::behind(shell, None));
        let mut entered = None;
        loop {
            let mut selection = Selection::behind(shell, after);
            if core::mem::take(&mut dots) {
                selection.offer(b".")?;
                selection.offer(b"..")?;
            }
            directory.entries_of(bare.take(), |entry| {
                let name = entry.file_name();
                if !how.all && name.starts_with(b".") {
                    return Ok(());
                }
                if let Some(dirs) = &mut dirs
                    && is_entered(entry)
                {
                    dirs.offer(name)?;
                }
                selection.offer(name)
            })?;
            if let Some((dirs, None)) = dirs.take().map(Selection::finish) {
                entered = Some(dirs);
            }
            let (names, more) = selection.finish();
            if how.columns {
                columns(shell, names.len(), |nth| names.get(nth), how);
            } else {
                for name in (0..names.len()).map(|nth| names.get(nth)) {
                    let place = directory.join(name)?;
                    let found = how.long.then(|| place.symlink_metadata()).transpose();
                    let done = found.and_then(|found| line(shell, &place, name, found, how));
                    shell.settle(done)?;
                    shell.check_output()?;
                }
            }
            if more.is_none() {
                return Ok(entered);
            }
            after = more;
        }
    }
}

/// All entries with their attributes, `None` if they are too many to be kept, the directories among them, and the
/// blocks that they take.
fn details(
    shell: &mut Shell<'_>,
    directory: &Place,
    entries: Option<WithMetadata>,
    how: How,
) -> Result<(Option<Details>, Names, u64), Fail> {
    let mut dirs = Names::default();
    let mut details = Some(Details::default());
    let mut blocks: u64 = 0;
    let mut push = |shell: &Shell<'_>, name: &[u8], found: fs::Result<Metadata>| {
        let more = found.map_or(0, |found| found.blocks());
        blocks = blocks.saturating_add(more);
        let is_kept = details
            .as_mut()
            .is_some_and(|details| details.push(shell, name, found));
        if !is_kept {
            details = None;
        }
        is_kept
    };
    if how.dots {
        for name in [b".".as_slice(), b".."] {
            push(shell, name, Ok(directory.join(name)?.symlink_metadata()?));
        }
    }
    for entry in directory.with_metadata(entries)? {
        let (entry, metadata) = entry.map_err(|error| directory.fail(error))?;
        let name = entry.file_name();
        let is_shown = how.all || !name.starts_with(b".");
        if !is_shown {
            continue;
        }
        // The blocks of all are told first.
        match push(shell, name, metadata) {
            false if !how.long => break,
            true if metadata.is_ok_and(|found| found.is_dir()) && !entry.may_be_link() => {
                dirs.push(name)?;
            }
            _ => {}
        }
    }
    dirs.sort();
    Ok((details, dirs, blocks))
}

/// Prints what was found in a directory, or at the paths that the names are.
fn print(
    shell: &mut Shell<'_>,
    directory: Option<&Place>,
    details: &Details,
    how: How,
) -> Result<(), Fail> {
    if how.columns {
        columns(shell, details.len(), |nth| details.get(nth).0, how);
        return Ok(());
    }
    for (name, found) in (0..details.len()).map(|nth| details.get(nth)) {
        let place = match directory {
            Some(directory) => directory.join(name)?,
            // It was a path of the command line.
            None => shell.place(str::from_utf8(name).unwrap_or_default())?,
        };
        let done = found
            .map_err(|error| place.fail(error))
            .and_then(|found| line(shell, &place, name, how.long.then_some(found), how));
        shell.settle(done)?;
        shell.check_output()?;
    }
    Ok(())
}

/// Prints names in as many columns as there is room for, the order going down each.
fn columns<'a>(shell: &mut Shell<'_>, count: usize, name: impl Fn(usize) -> &'a [u8], how: How) {
    let width = |nth: usize| Shown(name(nth)).width();
    let rows = (1..count).find(|rows| {
        let mut line = 0;
        for first in (0..count).step_by(*rows) {
            let last = count.min(first + rows);
            line += (first..last).map(width).max().unwrap_or(0) + 2;
            // A name that is alone in its line may be as long as it likes.
            if line > WIDTH + 2 {
                return false;
            }
        }
        true
    });
    let rows = rows.unwrap_or(count);
    for row in 0..rows {
        for nth in (row..count).step_by(rows.max(1)) {
            print_name(shell, name(nth), how);
            if nth + rows < count {
                let first = nth - row;
                let widest = (first..first + rows).map(width).max().unwrap_or(0);
                shell.say(format_args!("{:1$}", "", widest + 2 - width(nth)));
            }
        }
        shell.print(b"\n");
    }
}

fn line(
    shell: &mut Shell<'_>,
    place: &Place,
    name: &[u8],
    details: Option<Metadata>,
    how: How,
) -> Result<(), Fail> {
    let mut link = None;
    if let Some(found) = details {
        shell.say(format_args!(
            "{} {:>3} {:>5} {:>5} ",
            Mode(&found),
            found.nlink(),
            found.uid(),
            found.gid(),
        ));
        match how.human {
            true => shell.say(format_args!("{:>6} ", Human(found.len()))),
            false => shell.say(format_args!("{:>10} ", found.len())),
        }
        shell.say(format_args!("{} ", Time(found.modified())));
        link = found.is_symlink().then(|| place.ns.read_link(&place.path));
    }
    print_name(shell, name, how);
    let mut done = Ok(());
    match link {
        Some(Ok(target)) => {
            shell.print(b" -> ");
            print_name(shell, &target, how);
        }
        Some(Err(error)) => done = Err(place.fail(error)),
        None => {}
    }
    shell.print(b"\n");
    done
}

fn print_name(shell: &mut Shell<'_>, name: &[u8], how: How) {
    match how.raw {
        true => shell.print(name),
        false => shell.say(format_args!("{}", Shown(name))),
    }
}
