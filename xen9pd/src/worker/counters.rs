//! What a worker counts, in a file that it shares with the broker: it tells the broker of a later start who the worker is,
//! and costs no message.
//!
//! The worker holds a lock on the file as long as it lives.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{FlockOperation, flock};

use crate::words::{SIZE, Words};

/// A thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Number of the worker's process.
    Process,
    /// 1 when it serves.
    Serving,
    /// Requests that were answered.
    Requests,
    /// Bytes of requests.
    BytesIn,
    /// Bytes of replies.
    BytesOut,
    /// Replies that were errors.
    Errors,
    /// Requests refused because of a limit.
    Limited,
    /// Fids now.
    Fids,
    /// Open files now.
    OpenFiles,
    /// Locks now.
    Locks,
    /// Events that were waited for.
    Waits,
    /// Events that were sent.
    Notifications,
    /// Times that a reply had to wait for room.
    Stalls,
}

/// Names of the counters, for people and for JSON.
pub const NAMES: [(Counter, &str); 13] = [
    (Counter::Process, "process"),
    (Counter::Serving, "serving"),
    (Counter::Requests, "requests"),
    (Counter::BytesIn, "bytes_in"),
    (Counter::BytesOut, "bytes_out"),
    (Counter::Errors, "errors"),
    (Counter::Limited, "limited"),
    (Counter::Fids, "fids"),
    (Counter::OpenFiles, "open_files"),
    (Counter::Locks, "locks"),
    (Counter::Waits, "waits"),
    (Counter::Notifications, "notifications"),
    (Counter::Stalls, "stalls"),
];

/// The worker's side: shared by its threads. Its file is locked as long as this lives.
pub struct Counters(Words);

impl Counters {
    /// Takes the file, which the broker has made.
    ///
    /// # Errors
    /// Another worker has it, or there is none.
    pub fn take(path: &Path) -> io::Result<Counters> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Words::map(file).map(Counters)
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, count: u64) {
        self.0
            .get(counter as usize)
            .fetch_add(count, Ordering::Relaxed);
    }

    /// Sets a counter.
    pub fn set(&self, counter: Counter, value: u64) {
        self.0.get(counter as usize).store(value, Ordering::Relaxed);
    }
}

/// The broker's side: the counts at a time.
pub struct Snapshot(Vec<u64>);

impl Snapshot {
    /// Reads the file.
    ///
    /// # Errors
    /// There is none.
    pub fn read(path: &Path) -> io::Result<Snapshot> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(SIZE as u64)
            .read_to_end(&mut bytes)?;
        let words = bytes.as_chunks().0.iter();
        Ok(Snapshot(
            words.map(|word| u64::from_ne_bytes(*word)).collect(),
        ))
    }

    /// A count.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }
}

/// Whether a worker holds the file.
pub fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_reads_what_the_worker_counts_and_whether_it_lives() {
        let path = std::env::temp_dir().join(format!("xen9pd-counters-{}", std::process::id()));
        File::create(&path).unwrap();
        assert!(!is_held(&path));
        let counters = Counters::take(&path).unwrap();
        assert!(is_held(&path));
        assert!(Counters::take(&path).is_err(), "two workers");
        for (place, (counter, _)) in NAMES.into_iter().enumerate() {
            assert_eq!(counter as usize, place);
            counters.add(counter, 1 + place as u64);
        }
        counters.set(Counter::Fids, 77);
        let now = Snapshot::read(&path).unwrap();
        assert_eq!(now.get(Counter::Process), 1);
        assert_eq!(now.get(Counter::Fids), 77);
        assert_eq!(now.get(Counter::Stalls), 13);
        drop(counters);
        assert!(!is_held(&path));
        std::fs::remove_file(&path).unwrap();
    }
}
