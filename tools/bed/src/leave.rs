//! Leaving nothing behind when a signal ends the program: child processes, directories, and the terminal's settings.
//!
//! A thread waits for SIGINT, SIGTERM and SIGHUP. It kills what is registered here, removes it, and ends the program. From
//! the signal on it holds the register, so that other threads that would take something out of it wait for the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use rustix::termios::{OptionalActions, Termios};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long killed processes may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

struct Register {
    groups: Vec<Pid>,
    directories: Vec<PathBuf>,
    terminal: Option<Termios>,
}

static REGISTER: Mutex<Register> = Mutex::new(Register {
    groups: Vec::new(),
    directories: Vec::new(),
    terminal: None,
});

fn register() -> MutexGuard<'static, Register> {
    // What a thread that panicked has left is as good as ever.
    REGISTER
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// From now on signals end the program in good order, with status 128 and the signal's number.
pub fn on_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let mut register = register();
            register.clean();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Waits for the end if a signal has come: to be called before a failure is told that may be the signal's doing.
pub fn settle() {
    drop(register());
}

impl Register {
    fn clean(&mut self) {
        restore(self.terminal.take());
        for &group in &self.groups {
            kill(group);
        }
        let deadline = Instant::now() + KILL_TIMEOUT;
        for &group in &self.groups {
            while is_alive(group) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        for directory in &self.directories {
            // A process of the group may have been about to make another file.
            while fs::remove_dir_all(directory).is_err()
                && directory.exists()
                && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn kill(group: Pid) {
    // Where there is no such process any more, all is well.
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
}

/// Whether a child has not ended. Its end can be waited for all the same.
fn is_alive(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(
        rustix::process::waitid(WaitId::Pid(child), options),
        Ok(None)
    )
}

fn restore(terminal: Option<Termios>) {
    if let Some(settings) = terminal {
        // There is nothing better to be done with a terminal that does not take them.
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &settings);
    }
}

/// A child's process group. It is registered until this is dropped.
pub struct Group(Option<Pid>);

impl Group {
    /// The group that a child with this id leads.
    pub fn of(child: u32) -> Group {
        let group = i32::try_from(child).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            register().groups.push(group);
        }
        Group(group)
    }

    /// Kills all its processes.
    pub fn kill(&self) {
        if let Some(group) = self.0 {
            kill(group);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        register().groups.retain(|&group| Some(group) != self.0);
    }
}

/// A directory that is removed, with all that is in it, when this is dropped.
pub struct Doomed(PathBuf);

impl Doomed {
    /// Takes charge of a directory, which need not be there yet.
    pub fn new(path: PathBuf) -> Doomed {
        register().directories.push(path.clone());
        Doomed(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let mut register = register();
        // What can't be removed now is swept by a later run.
        let _ = fs::remove_dir_all(&self.0);
        register.directories.retain(|path| *path != self.0);
    }
}

/// A terminal whose settings come back when this is dropped.
pub struct RawTerminal(());

impl RawTerminal {
    /// Has the terminal at stdin pass on each key as it is typed; `None` if stdin is none.
    pub fn new() -> Option<RawTerminal> {
        let settings = rustix::termios::tcgetattr(io::stdin()).ok()?;
        let mut raw = settings.clone();
        raw.make_raw();
        let mut register = register();
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        register.terminal = Some(settings);
        Some(RawTerminal(()))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore(register().terminal.take());
    }
}
