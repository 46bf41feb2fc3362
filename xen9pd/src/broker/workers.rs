//! The broker's side of a worker: starting it, finding it again, ending it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::nodes::Key;
use crate::worker::counters::{self, Counter, Snapshot};
use crate::worker::{READY, Task};

/// The longest last words that are listened to, in bytes.
const MAX_WORDS: usize = 1024;

/// The files of a worker: what it was told, and what it counts.
#[derive(Clone, Debug)]
pub struct Files {
    /// The task, as TOML.
    pub task: PathBuf,
    /// The counters.
    pub counters: PathBuf,
}

impl Files {
    /// Those of the worker of a device.
    pub fn of(directory: &Path, key: &Key) -> Files {
        Files {
            task: directory.join(format!("{key}.task")),
            counters: directory.join(format!("{key}.counters")),
        }
    }

    fn remove(&self) {
        for path in [&self.task, &self.counters] {
            if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                log::warn!("cannot remove {}: {error}", path.display());
            }
        }
    }
}

/// A worker. Dropping it does not end it.
pub struct Worker {
    files: Files,
    process: OwnedFd,
    /// Its number, for people.
    pub number: u32,
    /// `None`: it was started by a broker before this one.
    child: Option<Child>,
    /// `None` once all is said.
    words: Option<ChildStdout>,
    said: Vec<u8>,
}

/// What a worker has said.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// It serves.
    Ready,
    /// Nothing new.
    Nothing,
}

/// A worker that does not know yet what to do. It is started as soon as a frontend is invited, so that the frontend does not
/// wait for it. Dropping it ends it.
pub struct Spare(Option<Child>);

impl Spare {
    /// Starts one.
    ///
    /// # Errors
    /// The process can't be made.
    pub fn start(program: &Path, key: &Key) -> io::Result<Spare> {
        let child = Command::new(program)
            .arg("worker")
            // For people, in a list of processes.
            .arg(key.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Spare(Some(child)))
    }

    /// Tells it what to do.
    ///
    /// # Errors
    /// The files can't be made, or the process has ended.
    pub fn employ(mut self, directory: &Path, key: &Key, task: &Task) -> io::Result<Worker> {
        let files = Files::of(directory, key);
        let text = toml::to_string(task).map_err(io::Error::other)?;
        fs::write(&files.task, &text)?;
        File::create(&files.counters)?;
        let child = self.0.as_mut();
        let told = child.ok_or_else(|| io::ErrorKind::NotFound.into());
        let told = told.and_then(|child| tell(child, &text));
        match (told, self.0.take()) {
            (Ok(process), Some(mut child)) => Ok(Worker {
                files,
                process,
                number: child.id(),
                words: child.stdout.take(),
                child: Some(child),
                said: Vec::new(),
            }),
            (told, child) => {
                files.remove();
                self.0 = child;
                Err(told.err().unwrap_or_else(|| io::ErrorKind::NotFound.into()))
            }
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Gives a process its task, which fits into the pipe; it reads to the end.
fn tell(child: &mut Child, task: &str) -> io::Result<OwnedFd> {
    let mut input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    input.write_all(task.as_bytes())?;
    open(child.id())
}

impl Worker {
    /// The worker that an earlier broker has left, with its task, if it lives and serves. One that does not serve yet is
    /// ended; files without a worker are removed.
    pub fn adopt(directory: &Path, key: &Key) -> Option<(Worker, Task)> {
        let files = Files::of(directory, key);
        let found = Self::find(&files);
        if let Some((worker, task)) = found {
            let counts = Snapshot::read(&files.counters).ok()?;
            if counts.get(Counter::Serving) == 1 && task.is_some() {
                return Some((worker, task?));
            }
            worker.signal(Signal::KILL);
            worker.wait();
        }
        files.remove();
        None
    }

    fn find(files: &Files) -> Option<(Worker, Option<Task>)> {
        if !counters::is_held(&files.counters) {
            return None;
        }
        let counts = Snapshot::read(&files.counters).ok()?;
        let number = u32::try_from(counts.get(Counter::Process)).ok()?;
        let process = open(number).ok()?;
        // If the lock is still held, this is the process that holds it, and no other that was given its number.
        if !counters::is_held(&files.counters) {
            return None;
        }
        let task = fs::read_to_string(&files.task).ok();
        let task = task.and_then(|text| toml::from_str(&text).ok());
        let worker = Worker {
            files: files.clone(),
            process,
            number,
            child: None,
            words: None,
            said: Vec::new(),
        };
        Some((worker, task))
    }

    /// Readable when the worker has ended.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Readable when the worker has something to say.
    pub fn mouth(&self) -> Option<BorrowedFd<'_>> {
        self.words.as_ref().map(AsFd::as_fd)
    }

    /// Its counts.
    pub fn counts(&self) -> Option<Snapshot> {
        Snapshot::read(&self.files.counters).ok()
    }

    /// Listens, once, if [`mouth`](Self::mouth) is readable.
    pub fn listen(&mut self) -> Word {
        let mut buffer = [0; 256];
        let Some(words) = &mut self.words else {
            return Word::Nothing;
        };
        match words.read(&mut buffer) {
            Ok(count @ 1..) => {
                let room = MAX_WORDS.saturating_sub(self.said.len());
                self.said.extend_from_slice(&buffer[..count.min(room)]);
            }
            _ => self.words = None,
        }
        match self.said.strip_prefix(READY.as_bytes()) {
            Some([b'\n', rest @ ..]) => {
                self.said = rest.to_vec();
                Word::Ready
            }
            _ => Word::Nothing,
        }
    }

    /// Asks it to end.
    pub fn stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // One that has ended is what is wanted.
        let _ = pidfd_send_signal(&self.process, signal);
    }

    fn wait(&self) {
        use rustix::event::{PollFd, PollFlags, poll};
        let _ = poll(&mut [PollFd::new(&self.process, PollFlags::IN)], None);
    }

    /// Clears up after a worker that has ended; returns its last words.
    pub fn bury(mut self) -> Option<String> {
        while self.words.is_some() {
            self.listen();
        }
        let status = self.child.as_mut().map(|child| child.wait());
        self.files.remove();
        let said = String::from_utf8_lossy(&self.said).trim_end().to_owned();
        match (said.is_empty(), status) {
            (false, _) => Some(said),
            (true, Some(Ok(status))) if !status.success() => {
                Some(format!("the worker ended with {status}"))
            }
            _ => None,
        }
    }
}

fn open(number: u32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(number as i32).ok_or(io::ErrorKind::NotFound)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// The devices that have files of workers.
pub fn left_behind(directory: &Path) -> io::Result<Vec<Key>> {
    let names = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
    let mut keys: Vec<Key> = names
        .filter_map(|path| Key::from_name(path.file_stem()?.to_str()?))
        .collect();
    keys.sort();
    keys.dedup();
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::nodes::{Kind, Order};

    const KEY: Key = Key {
        kind: Kind::Any,
        domain: 7,
        device: 0,
    };

    fn spare() -> Spare {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/worker.sh");
        Spare::start(&program, &KEY).unwrap()
    }

    fn task(directory: &Path) -> Task {
        Task {
            domain: 7,
            rings: vec![(8, 9)],
            counters: Files::of(directory, &KEY).counters,
            ledgers: directory.join("usage"),
            config: None,
            order: Order::default(),
        }
    }

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn a_spare_worker_serves_once_it_has_a_task() {
        let dir = tempfile::tempdir().unwrap();
        let mut worker = spare().employ(dir.path(), &KEY, &task(dir.path())).unwrap();
        assert_eq!(files(dir.path()), 2);
        // Blocks until it says something.
        assert_eq!(worker.listen(), Word::Ready);
        worker.kill();
        let words = worker.bury().unwrap();
        assert!(words.contains("signal: 9"), "{words}");
        assert_eq!(files(dir.path()), 0);
    }

    #[test]
    fn a_spare_worker_that_is_not_needed_is_ended() {
        let spare = spare();
        let number = spare.0.as_ref().unwrap().id();
        let process = format!("/proc/{number}");
        assert!(Path::new(&process).exists());
        drop(spare);
        assert!(!Path::new(&process).exists());
    }

    #[test]
    fn a_spare_worker_that_has_ended_takes_no_task_and_leaves_no_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut spare = spare();
        // Its input ends first.
        assert!(spare.0.as_mut().unwrap().wait().unwrap().success());
        assert!(spare.employ(dir.path(), &KEY, &task(dir.path())).is_err());
        assert_eq!(files(dir.path()), 0);
    }
}
