//! What the bed needs of the machine it runs on: progress lines, errors for people, child processes, scratch space.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

/// Status of a run that failed for a reason of the bed's own, not the guest's.
pub const BED_FAILED: u8 = 125;

/// An error, as the one line the user gets to read.
#[derive(Debug)]
pub struct Fail(pub String);

/// Result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Fail>;

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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

/// Runs a command to its end and hands back its output; if it fails, the error carries the end of what it printed.
pub fn output_of(command: &mut Command, what: &str) -> Result<Vec<u8>> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| fail!("cannot run {}: {error}", command.get_program().display()))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let text = String::from_utf8_lossy(&done.stderr);
    let last: Vec<&str> = text
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(3)
        .collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(fail!(
        "{what} failed ({}): {}",
        done.status,
        last.join(" | ")
    ))
}

/// Whether this program runs as root.
pub fn is_root() -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let own = Path::new("/proc/self");
    Ok(fs::metadata(own).during("read", own)?.uid() == 0)
}

/// Free space on the disk that holds `path`, in MiB.
pub fn free_mib(path: &Path) -> Result<u64> {
    let text = output_of(Command::new("df").args(["-Pk"]).arg(path), "df")?;
    let text = String::from_utf8_lossy(&text);
    let kib = text
        .lines()
        .nth(1)
        .and_then(|line| line.split_whitespace().nth(3))
        .and_then(|n| n.parse::<u64>().ok());
    kib.map(|kib| kib / 1024)
        .ok_or_else(|| fail!("cannot make sense of what df says of {}", path.display()))
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

/// A directory of one run's own, removed at its end.
///
/// A run that was killed can't clean up, so each new one sweeps what dead ones left: a directory whose lock is free.
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes a new directory under `parent`.
    pub fn new(parent: &Path) -> Result<Scratch> {
        fs::create_dir_all(parent).during("create", parent)?;
        // No other run's sweep may come between making the directory and locking it.
        let _turn = exclusive(parent)?;
        sweep(parent);
        let path = parent.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&path).during("create", &path)?;
        let lock = exclusive(&path)?;
        Ok(Scratch { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed now is swept by a later run.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Waits until no other process holds the lock of a directory, and holds it until the result is dropped.
pub fn exclusive(directory: &Path) -> Result<File> {
    let lock = lock_file(directory)?;
    lock.lock().during("lock", directory)?;
    Ok(lock)
}

fn lock_file(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    File::options()
        .create(true)
        .append(true)
        .open(&path)
        .during("open", &path)
}

fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("run-"));
        if ours && lock_file(&path).is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}
