//! The toolbox's commands, over anything that has file systems, a console and a clock: the image
//! runs them on Xen, the tests on the host.

mod args;
mod bench;
mod change;
mod check;
mod compare;
mod copy;
mod descent;
mod elsewhere;
mod exports;
mod fail;
mod files;
mod find;
pub mod format;
mod glob;
mod grep;
mod info;
mod kept;
mod line;
mod list;
mod listing;
mod moving;
mod names;
mod output;
mod pattern;
mod place;
mod progress;
mod remove;
mod same;
mod shell;
mod sort;
mod target;
mod text;
mod usage;

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use xen9p::ns::{Namespace, Tree};
use xen9p::server::Rights;
use xen9p::time::Instant;
use xen9p::transport::serving::{ExportError, Exported, Target};

pub use args::Args;
use elsewhere::{Instead, instead};
pub use fail::{Fail, Status};
pub use line::Line;
use output::Output;
use place::Place;

/// What the commands ask of the program that runs them.
pub trait Host {
    /// Writes to the console.
    fn print(&mut self, bytes: &[u8]);

    /// Writes an error to it.
    fn print_error(&mut self, bytes: &[u8]) {
        self.print(bytes);
    }

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

    /// The one before it; empty if there was none.
    fn last_directory(&mut self) -> &mut Vec<u8>;

    /// The tags of the shares that there is a connection for, and where the options put each, or nothing.
    fn shares(&self) -> Vec<(String, String)>;

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

    /// Serves a tree to another domain from now on.
    ///
    /// # Errors
    /// See [`ExportError`].
    fn serve(
        &mut self,
        _source: &str,
        _tree: &dyn Tree,
        _target: &Target,
        _rights: Rights,
    ) -> Result<(), ExportError> {
        Err(ExportError::NoServer)
    }

    /// Serves something no more.
    ///
    /// # Errors
    /// See [`ExportError`].
    fn unserve(&mut self, _source: &str, _target: &Target) -> Result<(), ExportError> {
        Err(ExportError::NoServer)
    }

    /// What is served.
    fn exports(&self) -> Vec<Exported> {
        Vec::new()
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

/// The status of an interrupted command.
const INTERRUPTED: Status = 143;

/// What a command's function gets.
pub struct Shell<'a> {
    command: &'static str,
    host: &'a mut dyn Host,
    failed: bool,
    /// Where output goes if not to the console.
    output: Option<Output>,
}

struct Command {
    name: &'static str,
    /// What it knows, in the form of [`Args::parse`].
    options: &'static str,
    arguments: &'static str,
    summary: &'static str,
    run: fn(&mut Shell<'_>, &Args<'_>) -> Result<(), Fail>,
}

/// A line of [`COMMANDS`].
const fn command(
    name: &'static str,
    options: &'static str,
    arguments: &'static str,
    summary: &'static str,
    run: fn(&mut Shell<'_>, &Args<'_>) -> Result<(), Fail>,
) -> Command {
    Command {
        name,
        options,
        arguments,
        summary,
        run,
    }
}

#[rustfmt::skip]
static COMMANDS: &[Command] = &[
    command("append", "-", "[-n] PATH TEXT...", "add a line to a file", files::append),
    command("bench", "", "[PATH [MIB]]", "make a file, measure writing and reading, remove it", bench::bench),
    command("bind", "abc", "[-abc] NEW OLD", "show NEW also at OLD: instead, -a after, -b before; -c: takes new files", names::bind),
    command("cat", "", "PATH...", "print files", files::cat),
    command("cd", "", "[DIRECTORY]", "change the directory", names::cd),
    command("chmod", "Rv+", "[-Rv] MODE PATH...", "change permissions: 755, u+x,go-w", change::chmod),
    command("chown", "Rhv", "[-Rhv] UID[:GID] PATH...", "change owners; -h: of links themselves", change::chown),
    command("cmp", "s", "[-s] PATH PATH", "compare two files; -s: say nothing", compare::cmp),
    command("cp", "afpPrRuvd", "[-adfpPrRuv] SOURCE... TARGET", "copy; -a: all, with owners, times, hard links and extended attributes; -p: owners and times; -u: what is newer", copy::cp),
    command("devices", "", "[COUNT]", "tell when 9pfs devices appear, connect, disconnect, disappear; COUNT times", info::devices),
    command("df", "hk", "[-hk] [PATH...]", "show how full file systems are", info::df),
    command("du", "sahckd:", "[-achks] [-d DEPTH] [PATH...]", "show what directories take", usage::du),
    command("echo", "-", "[-n] [TEXT...]", "print text", files::echo),
    command("exit", "-", "[STATUS]", "end the run, or the shell", |_, _| Ok(())),
    command("exports", "", "", "list what is served, by what, rights, to which domain, whether it is connected, and what went wrong last", exports::exports),
    command("false", "-", "", "fail", |_, _| Err(Fail::Reported(1))),
    command("find", "-", "[PATH...] [!|-not] [-name|-iname|-path PATTERN] [-type LETTER[,LETTER...]] [-size [+-]N[ckMG]] [-newer PATH] [-empty] [-mindepth N] [-maxdepth N] [-a|-and] [-print]", "list what is below directories", find::find),
    command("grep", "ivnclqrRFEGxhHe:", "[-cEFGhHilnqrRvx] [-e] PATTERN [PATH...]", "print lines that have a pattern", grep::grep),
    command("head", "n:c:qv#", "[-qv] [-n LINES | -c BYTES | -LINES] PATH...", "print the first lines", text::head),
    command("help", "", "[COMMAND...]", "list the commands", help),
    command("ln", "sfv", "[-sfv] TARGET... [NAME]", "give a file another name; -s: a symbolic link", change::ln),
    command("log", "", "LEVEL[,TARGET=LEVEL...]", "choose which log records are printed", info::log),
    command("ls", "1aAdhlNrRtSC", "[-1aACdhlNrRSt] [PATH...]", "list directories; -N: names as they are, not with ? for what is not to be printed", list::ls),
    command("mkdir", "pvm:", "[-pv] [-m MODE] PATH...", "make directories", files::mkdir),
    command("mount", "r", "[-r] [SOURCE PATH]", "mount a share, #dev, #mem or #xen; -r: read-only; without either as ns", names::mount),
    command("mv", "fnv", "[-fnv] SOURCE... TARGET", "move or rename; -n: replace nothing", moving::mv),
    command("ns", "", "", "list what is mounted and bound", names::ns),
    command("pwd", "", "", "print the directory", names::pwd),
    command("rm", "frRvd", "[-dfrRv] PATH...", "remove files and directories", remove::rm),
    command("rmdir", "", "PATH...", "remove empty directories", change::rmdir),
    command("selftest", "", "[DIRECTORY]", "try every operation in a scratch directory", check::selftest),
    command("serve", "r", "[-r] SOURCE 9pfs|vchan!DOMID!NAME|argo!DOMID!PORT", "serve /PATH, a share, #dev, #mem or #xen to another domain, as export= does; -r: read-only", exports::serve),
    command("sha256", "", "PATH...", "print checksums", files::sha256),
    command("shell", "", "", "take commands from the console", shell::shell),
    command("sleep", "", "SECONDS", "wait; 'infinity' waits for the domain's shutdown", files::sleep),
    command("stat", "", "PATH...", "show what is known of files", info::stat),
    command("stats", "", "[FILE]", "show memory, times, the connection and all counters; per read of 64 KiB of FILE", info::stats),
    command("tail", "n:c:qv#", "[-qv] [-n [+]LINES | -c [+]BYTES | -LINES] PATH...", "print the last lines, or those from the +Nth on", text::tail),
    command("touch", "acmr:", "[-acm] [-r PATH] PATH...", "make files, or set their times to now or those of PATH", change::touch),
    command("true", "-", "", "do nothing", |_, _| Ok(())),
    command("truncate", "s:c", "[-c] -s BYTES PATH...", "set the size of files", files::truncate),
    command("umount", "", "[NEW] OLD", "the same as unmount", names::unmount),
    command("unmount", "", "[NEW] OLD", "undo a mount or bind", names::unmount),
    command("unserve", "", "SOURCE TARGET", "undo a serve or an export=", exports::unserve),
    command("wc", "clmw", "[-clmw] PATH...", "count lines, words and bytes", text::wc),
    command("write", "-", "[-n] PATH TEXT...", "make a file of one line", files::write),
];

/// Runs the commands of a line as `sh -e` does, up to the first that fails; the status of the last, or `None` if there is none.
///
/// # Errors
/// A message: the line makes no sense.
pub fn run(host: &mut dyn Host, line: &str) -> Result<Option<Status>, String> {
    let line = Line::parse(line)?;
    let mut status = 0;
    line.run(host, &mut status);
    Ok((!line.is_empty()).then_some(status))
}

fn help(shell: &mut Shell<'_>, args: &Args<'_>) -> Result<(), Fail> {
    for name in &args.operands {
        if !COMMANDS.iter().any(|command| command.name == *name) {
            return Err(Fail::usage(format_args!("there is no command '{name}'")));
        }
    }
    for command in COMMANDS {
        if args.operands.is_empty() || args.operands.contains(&command.name) {
            let call = format!("{} {}", command.name, command.arguments);
            shell.say(format_args!("{call:<28} {}\n", command.summary));
        }
    }
    if args.operands.is_empty() {
        shell.say(format_args!(
            "Between commands: ';' (on the kernel command line the first that fails ends the run), '&&', '||'. '# ' begins a comment. '>' and '>>' put output into a file.\n\
             '*', '?' and '[...]' stand for names, '$?' for the last status. TAG:/PATH is a path on another share.\n"
        ));
    }
    Ok(())
}

impl<'a> Shell<'a> {
    fn new(host: &'a mut dyn Host) -> Self {
        Shell {
            command: "shell",
            host,
            failed: false,
            output: None,
        }
    }

    /// Runs the command that the words call.
    fn run(&mut self, words: &[&str]) -> Status {
        let status = match self.call(words) {
            Ok(()) => u8::from(self.failed),
            Err(fail) => self.failed_with(fail),
        };
        match self.output.take().map(Output::close) {
            Some(Err(fail)) if status == 0 => self.failed_with(fail),
            _ => status,
        }
    }

    fn call(&mut self, words: &[&str]) -> Result<(), Fail> {
        let Some((name, words)) = words.split_first() else {
            return Ok(());
        };
        let Some(command) = COMMANDS.iter().find(|command| command.name == *name) else {
            let text = match instead(name) {
                Instead::NoVariables => {
                    format!("{name}: variables are not there; the only one is $?\n")
                }
                Instead::Command(near) => {
                    format!("{name}: not a command; '{near}' comes nearest, 'help' lists all\n")
                }
                Instead::Nothing => format!("{name}: not a command; 'help' lists them\n"),
            };
            self.host.print_error(text.as_bytes());
            return Err(Fail::Reported(2));
        };
        self.command = command.name;
        let args = Args::parse(words, command.options)?;
        if args.help {
            self.say(format_args!(
                "usage: {} {}\n{}\n",
                command.name, command.arguments, command.summary
            ));
            return Ok(());
        }
        (command.run)(self, &args)
    }

    /// Tells why a command failed; its status.
    fn failed_with(&mut self, fail: Fail) -> Status {
        match fail {
            Fail::Reported(status) => status,
            Fail::Error(text) => {
                self.complain(&text);
                1
            }
            Fail::Usage(text) => {
                let command = COMMANDS.iter().find(|it| it.name == self.command);
                let arguments = command.map_or("", |command| command.arguments);
                let usage = format!("{text}; usage: {} {arguments}", self.command);
                self.complain(&usage.trim_end());
                2
            }
            Fail::Interrupted => {
                self.complain(&"interrupted");
                INTERRUPTED
            }
        }
    }

    /// Whether what is printed is seen by who sits at a terminal.
    fn on_terminal(&self) -> bool {
        self.host.is_terminal() && self.output.is_none()
    }

    /// Prints to the console, or where output goes to.
    fn print(&mut self, bytes: &[u8]) {
        match &mut self.output {
            Some(output) => output.write(bytes),
            None => self.host.print(bytes),
        }
    }

    /// Fails if output can't be written any more.
    fn check_output(&self) -> Result<(), Fail> {
        self.output.as_ref().map_or(Ok(()), Output::check)
    }

    /// What `path` means: `TAG:/PATH` is a path on another share.
    fn place(&mut self, path: &str) -> Result<Place, Fail> {
        match path.split_once(":/") {
            Some((tag, _)) if !tag.is_empty() && !tag.contains('/') => {
                let share = self.host.share(tag);
                let share = share.map_err(|text| Fail::error(format_args!("{path}: {text}")))?;
                let (tag, path) = path.split_at(tag.len() + 1);
                Place::new(share, tag, path.as_bytes())
            }
            _ => Place::typed_in(self.host.root(), self.host.directory(), path),
        }
    }

    /// Runs `action` on each path; an error is told and does not keep the others from their turn.
    fn each(
        &mut self,
        paths: &[&str],
        mut action: impl FnMut(&mut Self, &Place) -> Result<(), Fail>,
    ) -> Result<(), Fail> {
        if paths.is_empty() {
            return Err(Fail::usage(format_args!("a path is missing")));
        }
        for path in paths {
            let done = self.place(path).and_then(|place| action(self, &place));
            self.settle(done)?;
            self.check_output()?;
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
        // Only a Display that fails by itself could make this fail, and none here does.
        let _ = fmt::write(&mut Out(&mut |bytes| self.print(bytes)), text);
    }

    /// Tells an error in the manner of Unix: the command's name first.
    fn complain(&mut self, text: &dyn fmt::Display) {
        let Shell { command, host, .. } = self;
        let mut out = Out(&mut |bytes| host.print_error(bytes));
        let _ = fmt::write(&mut out, format_args!("{command}: {text}\n"));
    }
}

/// Formatted text to what takes bytes.
struct Out<'a>(&'a mut dyn FnMut(&[u8]));

impl fmt::Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        (self.0)(text.as_bytes());
        Ok(())
    }
}
