//! `grep`.

use alloc::vec::Vec;

use xen9p::errno::Errno;
use xen9p::tree::io::{BufRead, BufReader};

use super::pattern::{How, Pattern};
use super::place::Place;
use super::{Args, Fail, Shell};

/// The status of a grep that met an error.
const TROUBLE: u8 = 2;

struct Grep<'a> {
    args: &'a Args<'a>,
    pattern: Pattern,
    /// Whether each line is told with its file.
    named: bool,
    found: bool,
}

pub fn grep(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let (pattern, paths) = match (args.value('e'), &*args.operands) {
        (Some(pattern), paths) => (pattern, paths),
        (None, [pattern, paths @ ..]) => (*pattern, paths),
        (None, []) => return Err(Fail::usage(format_args!("a pattern is missing"))),
    };
    let recursive = args.has('r') || args.has('R');
    let how = How {
        fixed: args.has('F'),
        extended: args.has('E'),
        any_case: args.has('i'),
        whole: args.has('x'),
    };
    let mut grep = Grep {
        args,
        pattern: Pattern::new(pattern, how)?,
        named: match args.last_of(&['h', 'H']) {
            Some(letter) => letter == 'H',
            None => recursive || paths.len() > 1,
        },
        found: false,
    };
    let is_implied = paths.is_empty() && recursive;
    let paths = if is_implied { &["."] } else { paths };
    if paths.is_empty() {
        return Err(Fail::usage(format_args!(
            "a path is missing, and there is no other input"
        )));
    }
    shell.each(paths, |shell, place| {
        if place.metadata()?.is_dir() && recursive {
            // The directory that stands for none is not told.
            let told = if is_implied { place.path.len() - 1 } else { 0 };
            return shell.walk(place, usize::MAX, |shell, found| {
                match found.entry.file_type() {
                    Ok(kind) if kind.is_file() => {
                        let mut path = found.entry.path();
                        path.drain(told..told + 2 * usize::from(is_implied));
                        let place = place.at(path);
                        let done = grep.file(shell, &place);
                        shell.settle(done)
                    }
                    _ => Ok(()),
                }
            });
        }
        grep.file(shell, place)
    })?;
    match (grep.found, shell.failed) {
        (true, _) if args.has('q') => {
            shell.failed = false;
            Ok(())
        }
        (_, true) => Err(Fail::Reported(TROUBLE)),
        (true, false) => Ok(()),
        (false, false) => Err(Fail::Reported(1)),
    }
}

impl Grep<'_> {
    fn file(&mut self, shell: &mut Shell<'_>, place: &Place) -> Result<(), Fail> {
        let file = place.open()?;
        if file.metadata().is_ok_and(|found| found.is_dir()) {
            return Err(place.fail(Errno::EISDIR.into()));
        }
        let args = self.args;
        let silent = ['q', 'l', 'c'].into_iter().any(|letter| args.has(letter));
        let mut input = BufReader::new(file);
        let mut line = Vec::new();
        let (mut number, mut count) = (0_u64, 0_u64);
        loop {
            line.clear();
            let read = input.read_until(b'\n', &mut line);
            if read.map_err(|error| place.fail(error))? == 0 {
                break;
            }
            number += 1;
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            if self.pattern.is_in(text) == args.has('v') {
                continue;
            }
            (self.found, count) = (true, count + 1);
            if args.has('q') || args.has('l') {
                break;
            }
            if silent {
                continue;
            }
            if text.contains(&0) {
                shell.say(format_args!("grep: {place}: binary file matches\n"));
                break;
            }
            if self.named {
                shell.say(format_args!("{place}:"));
            }
            if args.has('n') {
                shell.say(format_args!("{number}:"));
            }
            shell.print(text);
            shell.print(b"\n");
            shell.check_output()?;
        }
        if args.has('q') {
            return Ok(());
        }
        if args.has('l') {
            if count > 0 {
                shell.say(format_args!("{place}\n"));
            }
        } else if args.has('c') {
            if self.named {
                shell.say(format_args!("{place}:"));
            }
            shell.say(format_args!("{count}\n"));
        }
        Ok(())
    }
}
