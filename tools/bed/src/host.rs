//! What the bed needs of the machine it runs on: progress lines, errors for people, child processes, free space.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use crate::leave::{self, Group};

/// Status of a run that failed for a reason of the bed's own, not the guest's.
pub const BED_FAILED: u8 = 125;

/// An error, as the text the user gets to read.
#[derive(Debug)]
pub struct Fail(pub String);

/// Result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Fail>;

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fail {}

/// Makes a [`Fail`] from a format string.
#[macro_export]
macro_rules! fail {
    ($($arg:tt)*) => { $crate::host::Fail(format!($($arg)*)) };
}

/// Adds what was being done to an I/O error.
pub trait Context<T> {
    /// Turns the error into a [`Fail`] that reads "WHAT PATH: reason".
    fn during(self, what: &str, path: &Path) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn during(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => {
                fail!("no space left on the disk that holds {}", path.display())
            }
            _ => fail!("cannot {what} {}: {error}", path.display()),
        })
    }
}

/// Time since the bed was started, for progress lines.
pub fn elapsed() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// Prints a progress line on stderr.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { eprintln!("[{:5.1} s] {}", $crate::host::elapsed(), format_args!($($arg)*)) };
}

/// Prints a line on stdout; one that no reader takes any more is no failure.
#[macro_export]
macro_rules! show {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

/// A command that dies with the bed, however the bed ends.
///
/// The kernel kills the child when the thread that started it ends, so call this on a thread that lives as long as
/// the child should. The child is in a process group of its own: a Ctrl-C on the terminal reaches the bed alone.
pub fn tied(program: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", program])
        .process_group(0);
    command
}

/// A child process that was started from a [`tied`] command. Dropping it kills it and its process group.
pub struct Running {
    child: Child,
    group: Group,
}

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command, program: &str) -> Result<Running> {
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                fail!("cannot run {program}: setpriv, of util-linux, is missing")
            }
            _ => fail!("cannot run {program}: {error}"),
        })?;
        let group = Group::of(child.id());
        Ok(Running { child, group })
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for its end, and hands back all it printed.
    fn output(mut self) -> io::Result<Output> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (out, errors) = (self.child.stdout.take(), self.child.stderr.take());
        std::thread::scope(|scope| {
            let reader =
                scope.spawn(|| errors.map_or(Ok(0), |mut errors| errors.read_to_end(&mut stderr)));
            let read = out.map_or(Ok(0), |mut out| out.read_to_end(&mut stdout));
            reader.join().unwrap_or(Ok(0)).and(read)
        })?;
        let status = self.child.wait()?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The number of a child that was waited for may be another's by now.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.group.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs a command to its end and hands back all it printed.
pub fn output(command: &mut Command) -> Result<Output> {
    let program = command.get_program().display().to_string();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let done = Running::start(command, &program)?
        .output()
        .map_err(|error| fail!("cannot run {program}: {error}"))?;
    // A signal that ends the child ends the bed, too, in a moment.
    leave::settle();
    Ok(done)
}

/// Runs a command to its end and hands back its output; if it fails, the error carries the end of what it printed.
pub fn output_of(command: &mut Command, what: &str) -> Result<Vec<u8>> {
    let done = output(command)?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let text = String::from_utf8_lossy(&done.stderr);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = &lines[lines.len().saturating_sub(3)..];
    Err(fail!(
        "{what} failed ({}): {}",
        done.status,
        last.join(" | ")
    ))
}

/// Whether a program is there to be run.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// Whether this program runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Free space on the disk that holds `path`, in MiB.
pub fn free_mib(path: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(path).map_err(io::Error::from);
    let found = found.during("ask for the free space of", path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize) >> 20)
}

/// Memory this machine has to spare, in MiB.
pub fn available_memory_mib() -> Result<u64> {
    let path = Path::new("/proc/meminfo");
    let text = fs::read_to_string(path).during("read", path)?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib / 1024)
        .ok_or_else(|| fail!("no MemAvailable in {}", path.display()))
}
