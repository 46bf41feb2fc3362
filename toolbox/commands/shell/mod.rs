//! `shell`: commands typed on the console.

mod editor;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::line::{BY_KEY, Line};
use super::place::Shown;
use super::{Args, COMMANDS, Fail, Host, INTERRUPTED, Shell, sort};
use editor::{Editor, Event};

pub fn shell(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    let [] = *args.operands else {
        return Err(Fail::usage(format_args!("no argument is expected")));
    };
    if shell.host.is_terminal() {
        return Err(Fail::error(format_args!("this is one already")));
    }
    shell.host.set_terminal(true);
    let done = talk(shell.host);
    shell.host.set_terminal(false);
    done
}

/// The most names that a word is completed to: with more, it is not.
const MOST_COMPLETIONS: usize = 1000;

/// Reads and runs lines until one says `exit`, or Ctrl-D is typed.
fn talk(host: &mut dyn Host) -> Result<(), Fail> {
    let mut editor = Editor::default();
    let mut status = 0;
    host.print(
        b"'help' lists the commands, Tab completes, Ctrl-C interrupts, 'exit' or Ctrl-D ends.\n",
    );
    loop {
        let line = match read_line(host, &mut editor, status)? {
            Event::Line(line) => line,
            Event::Interrupt => {
                status = BY_KEY;
                continue;
            }
            _ => return end(status),
        };
        let line = match Line::parse(&line) {
            Ok(line) => line,
            Err(text) => {
                host.print_error(format!("shell: {text}\n").as_bytes());
                status = 2;
                continue;
            }
        };
        if line.run(host, &mut status) {
            return match status {
                // The domain is to stop.
                INTERRUPTED => Err(Fail::Interrupted),
                status => end(status),
            };
        }
    }
}

fn end(status: u8) -> Result<(), Fail> {
    match status {
        0 => Ok(()),
        status => Err(Fail::Reported(status)),
    }
}

fn read_line(host: &mut dyn Host, editor: &mut Editor, status: u8) -> Result<Event, Fail> {
    let here = Shown(host.directory()).to_string();
    let prompt = match status {
        0 => format!("{here} $ "),
        status => format!("{here} [{status}] $ "),
    };
    let mut out = Vec::new();
    editor.start(&prompt, &mut out);
    loop {
        host.print_raw(&out);
        out.clear();
        let Some(byte) = host.read_key() else {
            return Err(Fail::Interrupted);
        };
        match editor.key(byte, &mut out) {
            Event::Nothing => {}
            Event::Complete => complete(host, editor, &mut out),
            event => {
                host.print_raw(&out);
                // A Ctrl-C that only gave up a line interrupts nothing.
                host.take_interrupt();
                return Ok(event);
            }
        }
    }
}

/// Completes the word in front of the cursor, as far as that is certain; else lists what it may become.
fn complete(host: &mut dyn Host, editor: &mut Editor, out: &mut Vec<u8>) {
    let before = editor.before_cursor();
    let start = before
        .char_indices()
        .rfind(|&(at, c)| matches!(c, ' ' | ';' | '&' | '|' | '>') && !before[..at].ends_with('\\'))
        .map_or(0, |(at, _)| at + 1);
    let word: String = before[start..].replace('\\', "");
    let command = before[..start].trim_end();
    let is_command = command.is_empty() || command.ends_with([';', '&', '|']);
    let found = if is_command {
        let names = COMMANDS.iter().map(|command| command.name);
        let fits = names.filter(|name| name.starts_with(&word));
        fits.map(|name| (String::from(name), ' ')).collect()
    } else {
        paths(host, &word)
    };
    let typed = match is_command {
        true => word.as_str(),
        false => word
            .rsplit_once('/')
            .map_or(word.as_str(), |(_, name)| name),
    };
    let Some(((first, end), more)) = found.split_first() else {
        return;
    };
    let mut common = first.len();
    for (name, _) in more {
        let same = first
            .char_indices()
            .zip(name.chars())
            .find(|((_, a), b)| a != b);
        common = common.min(same.map_or(name.len(), |((at, _), _)| at));
    }
    let mut added: String = quoted(&first[typed.len()..common]);
    if more.is_empty() {
        added.push(*end);
    }
    if !added.is_empty() {
        return editor.insert(&added, out);
    }
    out.extend(b"\r\n");
    for (name, end) in &found {
        let end = if *end == ' ' { "" } else { "/" };
        out.extend(format!("{name}{end}  ").bytes());
    }
    out.extend(b"\r\n");
    editor.draw(out);
}

/// The names that a path may go on with, and what follows them: a slash or a blank.
fn paths(host: &mut dyn Host, word: &str) -> Vec<(String, char)> {
    let (directory, name) = match word.rsplit_once('/') {
        Some((directory, name)) => (format!("{directory}/"), name),
        None => (String::from("."), word),
    };
    let mut shell = Shell::new(host);
    let mut found = Vec::new();
    let listed = shell.place(&directory).and_then(|place| {
        place.entries(|entry| {
            // What can't be typed can't be completed.
            let typed = str::from_utf8(entry.file_name()).ok();
            let typed = typed.filter(|typed| !typed.contains(|c: char| c.is_control()));
            let fits = typed.filter(|typed| {
                typed.starts_with(name) && (!name.is_empty() || !typed.starts_with('.'))
            });
            let Some(fits) = fits else { return Ok(()) };
            if found.len() == MOST_COMPLETIONS {
                return Err(Fail::Reported(1));
            }
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            found.push((String::from(fits), if is_dir { '/' } else { ' ' }));
            Ok(())
        })
    });
    if listed.is_err() {
        found.clear();
    }
    sort::sort(&mut found);
    found
}

/// A part of a name as it has to be typed.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for c in text.chars() {
        if " ;'\"\\*?[<>&|$`".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}
