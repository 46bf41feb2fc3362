//! Commands that only look: stat, df, stats, log, devices.

use alloc::vec;

use xen9p::fs::Metadata;

use super::args::digits;
use super::format::{Human, Kilobytes, Mode, Time, kind};
use super::place::{Place, Shown};
use super::{Args, Fail, Shell};

pub fn stat(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    shell.each(&args.operands, |shell, place| {
        let found: Metadata = place.symlink_metadata()?;
        let link = found.is_symlink().then(|| place.ns.read_link(&place.path));
        let target = link.transpose().map_err(|error| place.fail(error))?;
        shell.say(format_args!("  File: {place}"));
        if let Some(target) = target {
            shell.say(format_args!(" -> {}", Shown(&target)));
        }
        shell.say(format_args!(
            "\n  Size: {}\tBlocks: {}\tIO Block: {}\t{}\n",
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

pub fn df(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let human = args.has('h');
    let mut titled = false;
    let mut show = |shell: &mut Shell<'_>, place: &Place| {
        let found = place
            .ns
            .statfs(&place.path)
            .map_err(|error| place.fail(error))?;
        if !core::mem::replace(&mut titled, true) {
            let size = if human { "Size" } else { "1K-blocks" };
            shell.say(format_args!(
                "{size:>12} {:>12} {:>12} Use% Path\n",
                "Used", "Available"
            ));
        }
        let used = found.total_bytes().saturating_sub(found.free_bytes());
        let usable = used.saturating_add(found.available_bytes());
        let percent = (u128::from(used) * 100).div_ceil(u128::from(usable.max(1)));
        for bytes in [found.total_bytes(), used, found.available_bytes()] {
            match human {
                true => shell.say(format_args!("{:>12} ", Human(bytes))),
                false => shell.say(format_args!("{:>12} ", Kilobytes(bytes))),
            }
        }
        shell.say(format_args!("{percent:>3}% {place}\n"));
        Ok(())
    };
    if !args.operands.is_empty() {
        return shell.each(&args.operands, show);
    }
    let here = Place::new(shell.host.root(), "", shell.host.directory())?;
    show(shell, &here)
}

pub fn stats(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    match *args.operands {
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
        _ => Err(Fail::usage(format_args!("one file at most is expected"))),
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

pub fn log(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let [filter] = *args.operands else {
        return Err(Fail::usage(format_args!(
            "one filter is expected, such as debug or info,p9=trace"
        )));
    };
    shell
        .host
        .set_log(filter)
        .map_err(|text| Fail::error(format_args!("{text}")))
}

pub fn devices(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let count = match *args.operands {
        [] => u64::MAX,
        [count] => digits(count)
            .ok_or_else(|| Fail::usage(format_args!("'{count}' is no number of events")))?,
        _ => return Err(Fail::usage(format_args!("at most a number is expected"))),
    };
    for _ in 0..count {
        match shell.host.device_event() {
            Ok(Some(event)) => shell.say(format_args!("{event}\n")),
            Ok(None) => return Err(Fail::Interrupted),
            Err(text) => return Err(Fail::error(format_args!("{text}"))),
        }
    }
    Ok(())
}
