//! Commands that only look: ls, stat, df, stats.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use xen9p::fs::{self, Metadata};

use super::format::{Mode, Time, kind};
use super::place::Place;
use super::{Fail, Shell, operands};

pub fn ls(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let (flags, paths) = operands(arguments, "al")?;
    let (all, long) = (flags.has(0), flags.has(1));
    if paths.is_empty() {
        let here = shell.place(".")?;
        return list(shell, &here, all, long);
    }
    let titles = paths.len() > 1;
    shell.each(paths, |shell, place| {
        let found = operand(place, long)?;
        if !found.is_dir() {
            let details = long.then_some(found);
            return line(shell, place, place.to_string().as_bytes(), details);
        }
        if titles {
            shell.say(format_args!("{place}:\n"));
        }
        list(shell, place, all, long)
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
            Err(error) if !is_of_the_link(error) => return Err(place.fail(error)),
            _ => {}
        }
    }
    Ok(found)
}

/// Whether a link's target is the reason that it can't be followed.
fn is_of_the_link(error: fs::Error) -> bool {
    matches!(
        error,
        fs::Error::Errno(_)
            | fs::Error::TooManyLinks
            | fs::Error::NameTooLong
            | fs::Error::InvalidPath(_)
    )
}

fn list(shell: &mut Shell<'_>, directory: &Place, all: bool, long: bool) -> Result<(), Fail> {
    if !long {
        let mut entries = directory.list()?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            if all || !entry.name.starts_with(b".") {
                line(shell, &directory.join(&entry.name), &entry.name, None)?;
            }
        }
        return Ok(());
    }
    let mut entries = directory.list_with_metadata()?;
    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    for (name, found) in entries {
        if all || !name.starts_with(b".") {
            let place = directory.join(&name);
            let done = found
                .map_err(|error| place.fail(error))
                .and_then(|found| line(shell, &place, &name, Some(found)));
            shell.settle(done)?;
        }
    }
    Ok(())
}

fn line(
    shell: &mut Shell<'_>,
    place: &Place,
    name: &[u8],
    details: Option<Metadata>,
) -> Result<(), Fail> {
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
        shell.host.print(name);
        if found.is_symlink() {
            let target = place.ns.read_link(&place.path);
            shell.host.print(b" -> ");
            shell
                .host
                .print(&target.map_err(|error| place.fail(error))?);
        }
    } else {
        shell.host.print(name);
    }
    shell.host.print(b"\n");
    Ok(())
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
    let here = [String::from_utf8_lossy(shell.host.directory()).into_owned()];
    let paths = if paths.is_empty() { &here } else { paths };
    shell.each(paths, |shell, place| {
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
    })
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
            _ => return Err(Fail::Error(format!("'{place}' has less than 64 KiB"))),
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
