//! Commands that only look: ls, stat, df, stats.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xen9p::fs::Metadata;

use super::format::{Mode, Time, kind};
use super::listing::{Details, Selection};
use super::place::{Place, Shown, concat, is_of_the_path};
use super::{Fail, Shell, operands};

/// How `ls` lists.
#[derive(Clone, Copy)]
struct How {
    /// Hidden names, too.
    all: bool,
    /// With attributes.
    long: bool,
    /// Names byte for byte.
    raw: bool,
}

impl How {
    fn shows(self, name: &[u8]) -> bool {
        self.all || !name.starts_with(b".")
    }
}

pub fn ls(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let raw = arguments.iter().any(|argument| argument == "--raw");
    let rest: Vec<String>;
    let arguments = match raw {
        true => {
            let others = arguments.iter().filter(|argument| *argument != "--raw");
            rest = others.cloned().collect();
            &rest
        }
        false => arguments,
    };
    let (flags, paths) = operands(arguments, "al")?;
    let how = How {
        all: flags.has(0),
        long: flags.has(1),
        raw,
    };
    if paths.is_empty() {
        let here = shell.place(".")?;
        return list(shell, &here, how);
    }
    let titles = paths.len() > 1;
    shell.each(paths, |shell, place| {
        let found = operand(place, how.long)?;
        if !found.is_dir() {
            let name = concat(&[place.share.as_bytes(), &place.path])?;
            return line(shell, place, &name, how.long.then_some(found), how);
        }
        if titles {
            shell.say(format_args!("{place}:\n"));
        }
        list(shell, place, how)
    })
}

/// What an operand of `ls` is: a link to a directory means the directory, except with -l, and any other link
/// itself, wherever it leads.
fn operand(place: &Place, long: bool) -> Result<Metadata, Fail> {
    let found = place.symlink_metadata()?;
    if found.is_symlink() && !long {
        match place.ns.metadata(&place.path) {
            Ok(behind) if behind.is_dir() => return Ok(behind),
            // Where a link leads to is no concern of who lists it; that the server is lost is.
            Err(error) if !is_of_the_path(error) => return Err(place.fail(error)),
            _ => {}
        }
    }
    Ok(found)
}

fn list(shell: &mut Shell<'_>, directory: &Place, how: How) -> Result<(), Fail> {
    if how.long
        && let Some(details) = details(shell, directory, how)?
    {
        for (name, found) in details.iter() {
            let place = directory.join(name)?;
            let done = found
                .map_err(|error| place.fail(error))
                .and_then(|found| line(shell, &place, name, Some(found), how));
            shell.settle(done)?;
        }
        return Ok(());
    }
    let mut after = None;
    loop {
        let mut selection = Selection::behind(shell, after);
        directory.entries(|entry| match how.shows(entry.file_name()) {
            true => selection.offer(entry.file_name()),
            false => Ok(()),
        })?;
        let (names, more) = selection.finish();
        for name in (0..names.len()).map(|nth| names.get(nth)) {
            let place = directory.join(name)?;
            let found = how.long.then(|| place.symlink_metadata()).transpose();
            let done = found.and_then(|found| line(shell, &place, name, found, how));
            shell.settle(done)?;
        }
        if more.is_none() {
            return Ok(());
        }
        after = more;
    }
}

/// All entries with their attributes, in order; `None` if they are too many to be kept.
fn details(shell: &mut Shell<'_>, directory: &Place, how: How) -> Result<Option<Details>, Fail> {
    let entries = directory.ns.read_dir(&directory.path);
    let entries = entries.map_err(|error| directory.fail(error))?;
    let mut details = Details::default();
    for entry in entries.with_metadata() {
        let (entry, metadata) = entry.map_err(|error| directory.fail(error))?;
        let name = entry.file_name();
        if how.shows(name) && !details.push(shell, name, metadata) {
            return Ok(None);
        }
    }
    details.sort();
    Ok(Some(details))
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
            "{} {:>3} {:>5} {:>5} {:>10} {} ",
            Mode(&found),
            found.nlink(),
            found.uid(),
            found.gid(),
            found.len(),
            Time(found.modified()),
        ));
        link = found.is_symlink().then(|| place.ns.read_link(&place.path));
    }
    print_name(shell, name, how);
    let mut done = Ok(());
    match link {
        Some(Ok(target)) => {
            shell.host.print(b" -> ");
            print_name(shell, &target, how);
        }
        Some(Err(error)) => done = Err(place.fail(error)),
        None => {}
    }
    shell.host.print(b"\n");
    done
}

fn print_name(shell: &mut Shell<'_>, name: &[u8], how: How) {
    match how.raw {
        true => shell.host.print(name),
        false => shell.say(format_args!("{}", Shown(name))),
    }
}

pub fn stat(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let (_, paths) = operands(arguments, "")?;
    shell.each(paths, |shell, place| {
        let found: Metadata = place.symlink_metadata()?;
        shell.say(format_args!(
            "  File: {place}\n  Size: {}\tBlocks: {}\tIO Block: {}\t{}\n",
            found.len(),
            found.blocks(),
            found.blksize(),
            kind(found.file_type()),
        ));
        shell.say(format_args!(
            " Inode: {}\tLinks: {}\n  Mode: ({:04o}/{})\tUid: {}\tGid: {}\n",
            found.ino(),
            found.nlink(),
            found.mode() & 0o7777,
            Mode(&found),
            found.uid(),
            found.gid(),
        ));
        shell.say(format_args!(
            "Access: {}\nModify: {}\n",
            Time(found.accessed()),
            Time(found.modified()),
        ));
        if let Some(changed) = found.changed() {
            shell.say(format_args!("Change: {}\n", Time(changed)));
        }
        Ok(())
    })
}

pub fn df(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let (_, paths) = operands(arguments, "")?;
    shell.say(format_args!(
        "{:>12} {:>12} {:>12} Use% Path\n",
        "1K-blocks", "Used", "Available"
    ));
    let show = |shell: &mut Shell<'_>, place: &Place| {
        let found = place
            .ns
            .statfs(&place.path)
            .map_err(|error| place.fail(error))?;
        let used = found.total_bytes().saturating_sub(found.free_bytes());
        let usable = used.saturating_add(found.available_bytes());
        let percent = (u128::from(used) * 100).div_ceil(u128::from(usable.max(1)));
        shell.say(format_args!(
            "{:>12} {:>12} {:>12} {percent:>3}% {place}\n",
            found.total_bytes() / 1024,
            used / 1024,
            found.available_bytes() / 1024,
        ));
        Ok(())
    };
    if !paths.is_empty() {
        return shell.each(paths, show);
    }
    let here = Place {
        ns: shell.host.root(),
        path: concat(&[shell.host.directory()])?,
        share: "".into(),
    };
    show(shell, &here)
}

pub fn stats(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    match arguments {
        [] => {
            for (name, value) in shell.host.report() {
                shell.say(format_args!("{name:<20} {value}\n"));
            }
            for (name, value) in shell.host.counters() {
                shell.say(format_args!("{name:<20} {value}\n"));
            }
            Ok(())
        }
        [path] => reads(shell, path),
        _ => Err(Fail::Usage("one file at most is expected".into())),
    }
}

/// Size of a read whose cost is told, in bytes.
const PIECE: usize = 64 << 10;

/// What a read of 64 KiB costs: a file is read in such pieces, and the counters are compared.
fn reads(shell: &mut Shell<'_>, path: &str) -> Result<(), Fail> {
    let place = shell.place(path)?;
    let file = place.open()?;
    let mut piece = vec![0; PIECE];
    let mut read = |offset: u64| {
        let count = file.read_at(&mut piece, offset);
        count.map_err(|error| place.fail(error))
    };
    // Once, to have everything in place.
    read(0)?;
    let before = shell.host.counters();
    let mut pieces = 0;
    loop {
        match read(pieces * PIECE as u64)? {
            PIECE => pieces += 1,
            _ if pieces > 0 => break,
            _ => return Err(Fail::error(format_args!("'{place}' has less than 64 KiB"))),
        }
    }
    let after = shell.host.counters();
    shell.say(format_args!(
        "per read of 64 KiB, of {pieces} and one for the end:\n"
    ));
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        let hundredths = (after - before) * 100 / pieces;
        let (whole, part) = (hundredths / 100, hundredths % 100);
        shell.say(format_args!("{name:<20} {whole}.{part:02}\n"));
    }
    Ok(())
}

pub fn log(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let [filter] = arguments else {
        return Err(Fail::Usage(
            "one filter is expected, such as debug or info,p9=trace".into(),
        ));
    };
    shell.host.set_log(filter).map_err(Fail::Error)
}

pub fn devices(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let count = match operands(arguments, "")?.1 {
        [] => u64::MAX,
        [count] => count
            .parse()
            .map_err(|_| Fail::Usage(format!("'{count}' is no number of events")))?,
        _ => return Err(Fail::Usage("at most a number is expected".into())),
    };
    for _ in 0..count {
        match shell.host.device_event() {
            Ok(Some(event)) => shell.say(format_args!("{event}\n")),
            Ok(None) => return Err(Fail::Interrupted),
            Err(text) => return Err(Fail::Error(text)),
        }
    }
    Ok(())
}
