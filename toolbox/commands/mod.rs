//! The toolbox's commands, over anything that has file systems, a console and a clock: the image
//! runs them on Xen, the tests on the host.

mod bench;
mod check;
mod copy;
mod files;
pub mod format;
mod info;
mod listing;
mod moving;
mod names;
mod place;
mod progress;
mod remove;
mod same;
mod shell;
mod target;

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use xen9p::ns::{Namespace, Tree};
use xen9p::time::Instant;

use place::{Place, concat};

/// What the commands ask of the program that runs them.
pub trait Host {
    /// Writes to the console.
    fn print(&mut self, bytes: &[u8]);

    /// The file system that a path without a share in front means.
    fn root(&self) -> Namespace;

    /// The file system of another share.
    ///
    /// # Errors
    /// A message: there is no such share, or it can't be mounted.
    fn share(&mut self, tag: &str) -> Result<Namespace, String>;

    /// The tree that the source of a mount means.
    ///
    /// # Errors
    /// A message: there is none, or it can't be used.
    fn tree(&mut self, source: &str) -> Result<Rc<dyn Tree>, String>;

    /// The directory that relative paths start from.
    fn directory(&mut self) -> &mut Vec<u8>;

    /// Splits a line into commands and words.
    ///
    /// # Errors
    /// A message.
    fn split(&self, line: &str) -> Result<Vec<Vec<String>>, String>;

    /// Whether a person sits at a terminal: the shell runs.
    fn is_terminal(&self) -> bool {
        false
    }

    /// Begins or ends that; in between, Ctrl-C ends what waits.
    fn set_terminal(&mut self, _on: bool) {}

    /// Writes to the console without any change.
    fn print_raw(&mut self, bytes: &[u8]) {
        self.print(bytes);
    }

    /// Waits for a key; `None` when the domain is to stop.
    fn read_key(&mut self) -> Option<u8> {
        None
    }

    /// Whether Ctrl-C was typed since this was asked the last time.
    fn take_interrupt(&mut self) -> bool {
        false
    }

    /// Changes which log records are printed.
    ///
    /// # Errors
    /// A message.
    fn set_log(&mut self, _filter: &str) -> Result<(), String> {
        Err("there is no log here".into())
    }

    /// Called whenever bytes of a file have arrived: a mark for `stats`.
    fn bytes_arrived(&mut self) {}

    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// Waits; `false` when it was interrupted.
    fn sleep(&mut self, time: Duration) -> bool;

    /// Waits for what becomes of the 9pfs devices next; `None` when it was interrupted.
    ///
    /// # Errors
    /// A message.
    fn device_event(&mut self) -> Result<Option<String>, String> {
        Err("there are no devices here".into())
    }

    /// How many bytes of memory are free.
    fn spare_memory(&self) -> usize {
        usize::MAX
    }

    /// What `stats` prints: names and values.
    fn report(&self) -> Vec<(&'static str, String)>;

    /// What has been counted so far, in the same order each time.
    fn counters(&self) -> Vec<(&'static str, u64)>;
}

/// Why a command did not do what it was told to.
#[derive(Debug)]
pub enum Fail {
    /// It was called in a wrong way; the text says how.
    Usage(String),
    /// It met an error; the text is for people.
    Error(String),
    /// It met errors and has printed them, and ends with this status.
    Reported(Status),
    /// The domain is asked to stop, or Ctrl-C was typed.
    Interrupted,
}

/// A status as a shell would report it: 0, 1 for a failed command, 2 for one called wrongly, and 143
/// (as after SIGTERM) for an interrupted one.
pub type Status = u8;

/// The status of an interrupted command.
const INTERRUPTED: Status = 143;

/// What a command's function gets.
pub struct Shell<'a> {
    command: &'static Command,
    host: &'a mut dyn Host,
    failed: bool,
}

struct Command {
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    run: fn(&mut Shell<'_>, &[String]) -> Result<(), Fail>,
}

#[rustfmt::skip]
static COMMANDS: &[Command] = &[
    Command { name: "append", arguments: "[-n] PATH TEXT...", summary: "add a line to a file", run: files::append },
    Command { name: "bench", arguments: "[PATH [MIB]]", summary: "make a file, measure writing and reading, remove it", run: bench::bench },
    Command { name: "bind", arguments: "[-abc] NEW OLD", summary: "show NEW also at OLD: instead, -a after, -b before; -c: takes new files", run: names::bind },
    Command { name: "cat", arguments: "PATH...", summary: "print files", run: files::cat },
    Command { name: "cd", arguments: "[DIRECTORY]", summary: "change the directory", run: names::cd },
    Command { name: "cp", arguments: "[-r] SOURCE... TARGET", summary: "copy files and directories", run: copy::cp },
    Command { name: "devices", arguments: "[COUNT]", summary: "tell when 9pfs devices appear, connect, disconnect, disappear; COUNT times", run: info::devices },
    Command { name: "df", arguments: "[PATH...]", summary: "show how full file systems are", run: info::df },
    Command { name: "echo", arguments: "[-n] [TEXT...]", summary: "print text", run: files::echo },
    Command { name: "false", arguments: "", summary: "fail", run: |_, _| Err(Fail::Reported(1)) },
    Command { name: "help", arguments: "", summary: "list the commands", run: help },
    Command { name: "log", arguments: "LEVEL[,TARGET=LEVEL...]", summary: "choose which log records are printed", run: info::log },
    Command { name: "ls", arguments: "[-al] [--raw] [PATH...]", summary: "list directories; --raw: names as they are, not with ? for what is not to be printed", run: info::ls },
    Command { name: "mkdir", arguments: "[-p] PATH...", summary: "make directories", run: files::mkdir },
    Command { name: "mount", arguments: "[-r] SOURCE PATH", summary: "mount a share, #dev, #mem or #xen; -r: read-only", run: names::mount },
    Command { name: "mv", arguments: "SOURCE... TARGET", summary: "move or rename", run: moving::mv },
    Command { name: "ns", arguments: "", summary: "list what is mounted and bound", run: names::ns },
    Command { name: "pwd", arguments: "", summary: "print the directory", run: names::pwd },
    Command { name: "rm", arguments: "[-fr] PATH...", summary: "remove files and directories", run: remove::rm },
    Command { name: "selftest", arguments: "[DIRECTORY]", summary: "try every operation in a scratch directory", run: check::selftest },
    Command { name: "sha256", arguments: "PATH...", summary: "print checksums", run: files::sha256 },
    Command { name: "shell", arguments: "", summary: "take commands from the console", run: shell::shell },
    Command { name: "sleep", arguments: "SECONDS", summary: "wait; 'infinity' waits for the domain's shutdown", run: files::sleep },
    Command { name: "stat", arguments: "PATH...", summary: "show what is known of files", run: info::stat },
    Command { name: "stats", arguments: "[FILE]", summary: "show memory, times, the connection and all counters; per read of 64 KiB of FILE", run: info::stats },
    Command { name: "truncate", arguments: "-s BYTES PATH...", summary: "set the size of files", run: files::truncate },
    Command { name: "unmount", arguments: "[NEW] OLD", summary: "undo a mount or bind", run: names::unmount },
    Command { name: "write", arguments: "[-n] PATH TEXT...", summary: "make a file of one line", run: files::write },
];

/// Runs `commands` one after the other and stops at the first that fails, whose status it returns.
pub fn run(host: &mut dyn Host, commands: &[Vec<String>]) -> Status {
    for words in commands {
        let status = run_one(host, words);
        if status != 0 {
            return status;
        }
    }
    0
}

fn run_one(host: &mut dyn Host, words: &[String]) -> Status {
    let Some((name, arguments)) = words.split_first() else {
        return 0;
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        let known: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        let text = format!("{name}: unknown command; there are: {}\n", known.join(" "));
        host.print(text.as_bytes());
        return 2;
    };
    let mut shell = Shell {
        command,
        host,
        failed: false,
    };
    match (command.run)(&mut shell, arguments) {
        Ok(()) => u8::from(shell.failed),
        Err(Fail::Reported(status)) => status,
        Err(Fail::Error(text)) => {
            shell.complain(&text);
            1
        }
        Err(Fail::Usage(text)) => {
            let usage = format!("{text}; usage: {} {}", command.name, command.arguments);
            shell.complain(&usage.trim_end());
            2
        }
        Err(Fail::Interrupted) => {
            shell.complain(&"interrupted");
            INTERRUPTED
        }
    }
}

fn help(shell: &mut Shell<'_>, arguments: &[String]) -> Result<(), Fail> {
    let [] = operands(arguments, "")?.1 else {
        return Err(Fail::Usage("no argument is expected".into()));
    };
    for command in COMMANDS {
        let call = format!("{} {}", command.name, command.arguments);
        shell.say(format_args!("{call:<28} {}\n", command.summary));
    }
    shell.say(format_args!(
        "';' separates commands; the first that fails ends the run. TAG:/PATH is a path on another share.\n"
    ));
    Ok(())
}

/// Splits a command's arguments into its flags, single letters out of `allowed` behind a `-`, and
/// the rest.
fn operands<'a>(mut arguments: &'a [String], allowed: &str) -> Result<(Flags, &'a [String]), Fail> {
    let mut flags = Flags(0);
    while let [first, rest @ ..] = arguments {
        let Some(letters) = first.strip_prefix('-').filter(|l| !l.is_empty()) else {
            break;
        };
        arguments = rest;
        if letters == "-" {
            break;
        }
        for letter in letters.chars() {
            let at = allowed
                .find(letter)
                .ok_or_else(|| Fail::Usage(format!("unknown option -{letter}")))?;
            flags.0 |= 1 << at;
        }
    }
    Ok((flags, arguments))
}

/// Flags that were given: bit N is the Nth allowed letter.
struct Flags(u32);

impl Flags {
    fn has(&self, nth: u32) -> bool {
        self.0 & 1 << nth != 0
    }
}

impl Shell<'_> {
    /// What `path` means: `TAG:/PATH` is a path on another share.
    fn place(&mut self, path: &str) -> Result<Place, Fail> {
        match path.split_once(":/") {
            Some((tag, _)) if !tag.is_empty() && !tag.contains('/') => Ok(Place {
                ns: self
                    .host
                    .share(tag)
                    .map_err(|text| Fail::error(format_args!("{path}: {text}")))?,
                path: concat(&[&path.as_bytes()[tag.len() + 1..]])?,
                share: path[..=tag.len()].into(),
            }),
            _ => {
                let directory = self.host.directory();
                // An empty path names nothing, not the directory that one is in.
                let is_below = !path.is_empty() && !path.starts_with('/') && directory.len() > 1;
                let front: [&[u8]; 2] = if is_below {
                    [directory, b"/"]
                } else {
                    [b"", b""]
                };
                Ok(Place {
                    path: concat(&[front[0], front[1], path.as_bytes()])?,
                    ns: self.host.root(),
                    share: "".into(),
                })
            }
        }
    }

    /// Runs `action` on each path; an error is told and does not keep the others from their turn.
    fn each(
        &mut self,
        paths: &[String],
        mut action: impl FnMut(&mut Self, &Place) -> Result<(), Fail>,
    ) -> Result<(), Fail> {
        if paths.is_empty() {
            return Err(Fail::Usage("a path is missing".into()));
        }
        for path in paths {
            let done = self.place(path).and_then(|place| action(self, &place));
            self.settle(done)?;
        }
        Ok(())
    }

    /// Tells an error that need not end the command; passes on one that must.
    fn settle(&mut self, done: Result<(), Fail>) -> Result<(), Fail> {
        match done {
            Err(Fail::Error(text)) => {
                self.complain(&text);
                self.failed = true;
                Ok(())
            }
            Err(Fail::Reported(_)) => {
                self.failed = true;
                Ok(())
            }
            other => other,
        }
    }

    fn say(&mut self, text: fmt::Arguments<'_>) {
        struct Out<'a>(&'a mut dyn Host);
        impl fmt::Write for Out<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.print(text.as_bytes());
                Ok(())
            }
        }
        // Only a Display that fails by itself could make this fail, and none here does.
        let _ = fmt::write(&mut Out(self.host), text);
    }

    /// Tells an error in the manner of Unix: the command's name first.
    fn complain(&mut self, text: &dyn fmt::Display) {
        let name = self.command.name;
        self.say(format_args!("{name}: {text}\n"));
    }
}
