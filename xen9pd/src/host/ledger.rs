//! [`Ledger`]: what a directory holds, for all processes that count it.
//!
//! Two numbers in a file, and locks on bytes of the file, which the kernel gives back when a process ends, however it
//! ends. What they are locks for:
//! - one byte for those who are about to count the directory, one for those who have;
//! - one for those who begin or end to use a file;
//! - some for changes of files, each for the files whose numbers come to it: between the look at a file's size and its change
//!   nothing else changes it, nor what a directory has under a name between the look at that and its removal;
//! - for each file in use a byte far behind the others, which is shared by all who use it.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::MemfdFlags;

use super::sys::{self, RangeLock};
use super::{Directory, FileId};
use crate::words::Words;

const COUNTING: i64 = 0;
const COUNTED: i64 = 1;
const USES: i64 = 2;
const CHANGES: i64 = 16;
const FILES: i64 = 1 << 62;

/// Places for changes of files at the same time.
const PLACES: usize = 64;

/// The numbers of a directory, which all processes share that have a limit on it.
#[derive(Debug)]
pub struct Ledger {
    words: Words,
    /// Locks of files hold between processes, these between the threads of this one.
    places: [Mutex<()>; PLACES],
}

/// While it lives, no other changes the files of this place.
pub(super) struct Changing<'a> {
    _between_processes: Locked<'a>,
    _between_threads: MutexGuard<'a, ()>,
}

/// While it lives, no other process begins or ends to use a file.
pub(super) struct Uses<'a>(Locked<'a>);

/// A byte that is locked.
struct Locked<'a>(&'a Ledger, i64);

impl Ledger {
    /// For one process alone.
    ///
    /// # Errors
    /// Those of memfd_create(2).
    pub fn private() -> io::Result<Ledger> {
        let file = rustix::fs::memfd_create("xen9pd-usage", MemfdFlags::CLOEXEC)?;
        Ledger::of(File::from(file))
    }

    /// The one of a directory, in a file among those of all.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn shared(ledgers: &Path, directory: &Directory) -> io::Result<Ledger> {
        fs::create_dir_all(ledgers)?;
        let id = FileId::of(&sys::stat(directory)?);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(ledgers.join(format!("{:x}-{:x}", id.dev, id.ino)))?;
        Ledger::of(file)
    }

    fn of(file: File) -> io::Result<Ledger> {
        Ok(Ledger {
            words: Words::map(file)?,
            places: [const { Mutex::new(()) }; PLACES],
        })
    }

    /// Files.
    pub(super) fn files(&self) -> &AtomicU64 {
        self.words.get(0)
    }

    /// Bytes.
    pub(super) fn bytes(&self) -> &AtomicU64 {
        self.words.get(1)
    }

    /// Has `count` say what there is, files and bytes, unless another process has done so and goes on counting.
    pub(super) fn begin(
        &self,
        count: impl FnOnce() -> rustix::io::Result<(u64, u64)>,
    ) -> rustix::io::Result<()> {
        let _counting = self.wait(COUNTING)?;
        if !self.is_held(COUNTED)? {
            let (files, bytes) = count()?;
            self.files().store(files, Ordering::Relaxed);
            self.bytes().store(bytes, Ordering::Relaxed);
        }
        self.share(COUNTED)
    }

    /// Waits until no other changes this file.
    pub(super) fn changing(&self, id: FileId) -> rustix::io::Result<Changing<'_>> {
        self.place(hash(id) as usize % PLACES)
    }

    /// Waits until no other changes either of these files.
    pub(super) fn changing_both(
        &self,
        one: FileId,
        other: FileId,
    ) -> rustix::io::Result<[Option<Changing<'_>>; 2]> {
        let [one, other] = [one, other].map(|id| hash(id) as usize % PLACES);
        // All take them in the same order, so that none waits for one who waits for it.
        let first = self.place(one.min(other))?;
        let second = (one != other).then(|| self.place(one.max(other)));
        Ok([Some(first), second.transpose()?])
    }

    fn place(&self, place: usize) -> rustix::io::Result<Changing<'_>> {
        let here = &self.places[place];
        let here = here.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Changing {
            _between_processes: self.wait(CHANGES + place as i64)?,
            _between_threads: here,
        })
    }

    /// Waits until no other process begins or ends to use a file. The threads of this one have to agree among themselves.
    pub(super) fn uses(&self) -> rustix::io::Result<Uses<'_>> {
        self.wait(USES).map(Uses)
    }

    fn wait(&self, byte: i64) -> rustix::io::Result<Locked<'_>> {
        sys::wait_for_lock(self.words.file().as_fd(), one(byte, libc::F_WRLCK))?;
        Ok(Locked(self, byte))
    }

    fn share(&self, byte: i64) -> rustix::io::Result<()> {
        sys::set_lock(self.words.file().as_fd(), one(byte, libc::F_RDLCK))
    }

    fn release(&self, byte: i64) {
        // Giving back is refused for no lock.
        let _ = sys::set_lock(self.words.file().as_fd(), one(byte, libc::F_UNLCK));
    }

    fn is_held(&self, byte: i64) -> rustix::io::Result<bool> {
        let found = sys::get_lock(self.words.file().as_fd(), one(byte, libc::F_WRLCK));
        Ok(found?.is_some())
    }
}

impl Uses<'_> {
    /// This process uses a file.
    pub(super) fn begin(&self, id: FileId) -> rustix::io::Result<()> {
        self.0.0.share(byte_of(id))
    }

    /// This process does not use it any more.
    pub(super) fn end(&self, id: FileId) {
        self.0.0.release(byte_of(id));
    }

    /// Whether another process uses a file.
    pub(super) fn by_others(&self, id: FileId) -> bool {
        // Where that can't be said, it goes on counting.
        self.0.0.is_held(byte_of(id)).unwrap_or(true)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}

fn one(byte: i64, kind: libc::c_int) -> RangeLock {
    RangeLock {
        kind,
        start: byte,
        length: 1,
        pid: 0,
    }
}

/// The same in all processes of one program.
fn hash(id: FileId) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(id)
}

fn byte_of(id: FileId) -> i64 {
    FILES + (hash(id) >> 2) as i64
}
