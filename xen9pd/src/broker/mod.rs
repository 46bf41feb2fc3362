//! The broker: it follows the devices of all domains in xenstore, and has a worker serve each connection.
//!
//! It serves no guest's bytes. It finds its way from what is in xenstore and in its directory, so that it can be restarted
//! at any time.

mod device;
pub mod nodes;
mod place;
mod queue;
pub mod status;
pub mod workers;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};

use crate::xen::store::{self, Store};
use device::Device;
use nodes::{Key, Kind, Order, Scope};
use queue::Queue;

/// Where the broker keeps its files unless it is told otherwise.
pub const DIRECTORY: &str = "/run/xen9pd";

/// The token of watches on backends' directories.
const BACKENDS: &str = "backends";

/// The token of the watch on the end of domains.
const RELEASED: &str = "released";

/// What an administrator decides about devices.
pub trait Policy {
    /// Whether to serve a device.
    fn decide(&self, key: &Key, order: &Order) -> Decision;

    /// The file that workers read theirs from.
    fn config(&self) -> Option<PathBuf>;
}

/// What becomes of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is served.
    Serve,
    /// It is left to others.
    Leave,
    /// It is refused: the text says why.
    Refuse(String),
}

/// What the broker is told.
pub struct Settings<'a> {
    /// Where its files are.
    pub directory: &'a Path,
    /// The program that workers run.
    pub program: &'a Path,
    /// What to serve.
    pub policy: &'a dyn Policy,
}

/// Why the broker ended.
#[derive(Debug)]
pub enum Error {
    /// The text says what can't be had.
    Setup(String),
    /// Xenstore.
    Store(store::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Setup(text) => f.write_str(text),
            Error::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Error::Store(error)
    }
}

fn setup<T>(what: &str, path: &Path, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|error| Error::Setup(format!("cannot {what} {}: {error}", path.display())))
}

/// The broker.
pub struct Broker<'a> {
    settings: Settings<'a>,
    /// The directory of workers' files.
    workers: PathBuf,
    store: Store,
    devices: BTreeMap<Key, Device>,
    /// Devices at which there is something to be done.
    restless: Queue<Key>,
    /// Domains that may be gone: xenstore says that one is, and not which.
    doubtful: Queue<u16>,
    listener: UnixListener,
    /// This is a driver domain: the toolstack, in another one, waits until the directories of its devices are removed.
    is_driver: bool,
    _lock: File,
}

/// Runs until `stop` is readable, or something fails for good. Workers go on.
///
/// # Errors
/// [`Error`].
pub fn run(settings: Settings<'_>, stop: &UnixStream) -> Result<(), Error> {
    let mut broker = Broker::new(settings)?;
    let mut stopping = stop;
    broker.work()?;
    // From here on a guest may be started.
    crate::journal::ready();
    loop {
        broker.work()?;
        if broker.wait(stop)? {
            // The byte that woke it.
            let _ = stopping.read(&mut [0; 16]);
            log::info!(
                "the broker ends; {} workers go on serving",
                broker.serving()
            );
            return Ok(());
        }
    }
}

/// Takes the place of the one broker of this machine, as long as the file is open.
fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join("lock");
    let file = setup("open", &path, File::create(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::Setup(format!(
            "another xen9pd has {}: end it first",
            path.display()
        ))),
    }
}

impl<'a> Broker<'a> {
    fn new(settings: Settings<'a>) -> Result<Broker<'a>, Error> {
        let directory = settings.directory;
        let workers = directory.join("workers");
        setup("make", &workers, fs::create_dir_all(&workers))?;
        let lock = lock(directory)?;
        let store = Store::open().map_err(|error| Error::Setup(error.to_string()))?;
        let socket = directory.join("status");
        let _ = fs::remove_file(&socket);
        let listener = setup("listen at", &socket, UnixListener::bind(&socket))?;
        let set = listener.set_nonblocking(true);
        setup("listen at", &socket, set)?;
        let mut broker = Broker {
            settings,
            workers,
            store,
            devices: BTreeMap::new(),
            restless: Queue::default(),
            doubtful: Queue::default(),
            listener,
            is_driver: false,
            _lock: lock,
        };
        match place::take(&mut broker.store) {
            Ok(Ok(())) => {}
            Ok(Err(text)) => return Err(Error::Setup(text)),
            // A driver domain may not write there, and need not.
            Err(store::Error::Refused(refusal)) => {
                log::info!("no place for a daemon in xenstore: {}", refusal.name());
            }
            Err(error) => return Err(error.into()),
        }
        broker.is_driver = broker.store.number("domid")?.is_some_and(|own| own != 0);
        broker.adopt()?;
        for kind in Kind::ALL {
            let path = format!("backend/{}", kind.name());
            broker.store.watch(&path, BACKENDS)?;
        }
        broker.store.watch("@releaseDomain", RELEASED)?;
        Ok(broker)
    }

    /// Takes the workers over that an earlier broker has left, and ends those whose device is gone.
    fn adopt(&mut self) -> Result<(), Error> {
        let keys = setup("list", &self.workers, workers::left_behind(&self.workers))?;
        for key in keys {
            if let Some((worker, task)) = workers::Worker::adopt(&self.workers, &key) {
                log::info!("{key}: goes on with worker {}", worker.number);
                let device = Device::adopting(key, worker, task);
                self.devices.insert(key, device);
                self.restless.push(key);
            }
        }
        Ok(())
    }

    fn serving(&self) -> usize {
        let devices = self.devices.values();
        devices.filter(|device| device.worker().is_some()).count()
    }

    /// Does all the work that is due now.
    fn work(&mut self) -> Result<(), Error> {
        loop {
            while let Some((path, token)) = self.store.event()? {
                self.notice(&path, &token)?;
            }
            if let Some(key) = self.restless.pop() {
                self.attend(key)?;
                continue;
            }
            // One at a time: another device may be QEMU's if it is invited too late.
            let mut devices = self.devices.values_mut();
            if let Some(device) = devices.find(|device| device.lacks_spare()) {
                device.prepare(self.settings.program);
                continue;
            }
            // Last: no guest waits for that.
            match self.doubtful.pop() {
                Some(domain) => self.check(domain)?,
                None => return Ok(()),
            }
        }
    }

    /// Takes note of what may have changed.
    fn notice(&mut self, path: &str, token: &str) -> Result<(), Error> {
        match token {
            BACKENDS => {
                let scope = Scope::of(path);
                self.restless.extend(scope.devices(&mut self.store)?);
                let known = self.devices.keys().filter(|key| scope.covers(key));
                self.restless.extend(known.copied());
            }
            RELEASED => self
                .doubtful
                .extend(self.devices.keys().map(|key| key.domain)),
            frontend => {
                if let Some(key) = Key::from_name(frontend) {
                    if let Some(device) = self.devices.get_mut(&key) {
                        device.frontend_has_moved();
                    }
                    self.restless.push(key);
                }
            }
        }
        Ok(())
    }

    /// Has the devices of a domain attended to if it is gone.
    fn check(&mut self, domain: u16) -> Result<(), Error> {
        if !self.store.is_alive(domain)? {
            let of_it = self.devices.iter_mut();
            for (key, device) in of_it.filter(|(key, _)| key.domain == domain) {
                device.domain_is_gone();
                self.restless.push(*key);
            }
        }
        Ok(())
    }

    /// Does the work of a device.
    fn attend(&mut self, key: Key) -> Result<(), Error> {
        if !self.devices.contains_key(&key) {
            match Device::found(key, &mut self.store, self.settings.policy)? {
                Some(device) => self.devices.insert(key, device),
                None => return Ok(()),
            };
        }
        let Some(device) = self.devices.get_mut(&key) else {
            return Ok(());
        };
        let is_driver = self.is_driver;
        if device.work(&mut self.store, &self.settings, &self.workers, is_driver)? {
            self.devices.remove(&key);
        }
        Ok(())
    }

    /// Waits for something to do; returns whether it is time to end.
    fn wait(&mut self, stop: &UnixStream) -> Result<bool, Error> {
        let now = device::now();
        let deadlines = self.devices.values().filter_map(Device::deadline);
        let timeout = deadlines.min().map(|deadline| {
            let left = deadline.saturating_since(now);
            Timespec::try_from(left).unwrap_or_default()
        });
        let mut files = vec![
            PollFd::from_borrowed_fd(self.store.descriptor(), PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        let mut owners = Vec::new();
        for (key, worker) in self.devices.iter().filter_map(|(key, device)| {
            let worker = device.worker()?;
            Some((*key, worker))
        }) {
            owners.push((files.len(), key));
            files.push(PollFd::from_borrowed_fd(worker.end(), PollFlags::IN));
            if let Some(mouth) = worker.mouth() {
                owners.push((files.len(), key));
                files.push(PollFd::from_borrowed_fd(mouth, PollFlags::IN));
            }
        }
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::Setup(format!("cannot wait: {error}"))),
        }
        let fired: Vec<bool> = files
            .iter()
            .map(|file| !file.revents().is_empty())
            .collect();
        drop(files);
        for (index, key) in owners.into_iter().filter(|&(index, _)| fired[index]) {
            let _ = index;
            if let Some(device) = self.devices.get_mut(&key) {
                device.hear();
            }
            self.restless.push(key);
        }
        let now = device::now();
        let overdue = self.devices.iter().filter(|(_, device)| {
            let deadline = device.deadline();
            deadline.is_some_and(|deadline| deadline <= now)
        });
        self.restless.extend(overdue.map(|(key, _)| *key));
        if fired[2] {
            self.answer();
        }
        Ok(fired[1])
    }

    /// Tells one who asks how things stand.
    fn answer(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let report = status::Report::of(&self.devices, &self.store);
            if let Err(error) = report.send(stream) {
                log::debug!("cannot answer a question for the status: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_one_broker() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        let second = lock(dir.path()).unwrap_err().to_string();
        assert!(second.starts_with("another xen9pd has /"), "{second}");
        drop(first);
        lock(dir.path()).unwrap();
        let nowhere = lock(&dir.path().join("none")).unwrap_err().to_string();
        assert!(nowhere.contains("none/lock: No such file"), "{nowhere}");
    }
}
