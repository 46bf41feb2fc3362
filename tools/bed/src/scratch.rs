//! Locks on directories, and directories of one run's own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::fail;
use crate::host::{Context, Result};
use crate::leave::Doomed;

/// What the names of runs' directories begin with.
const RUN: &str = "run-";

/// A directory of one run's own, removed at its end.
///
/// A run that was killed can't clean up, so each new one sweeps what dead ones left: a directory whose lock is free.
pub struct Scratch {
    path: Doomed,
    _lock: File,
}

impl Scratch {
    /// Makes a new directory under `parent`, or in the machine's directory for such things where `parent` can't be
    /// written to.
    pub fn new(parent: &Path) -> Result<Scratch> {
        match Self::under(parent) {
            Err(fail) => Self::under(&temporary().map_err(|_| fail)?),
            done => done,
        }
    }

    fn under(parent: &Path) -> Result<Scratch> {
        fs::create_dir_all(parent).during("create", parent)?;
        // No other run's sweep may come between making the directory and locking it.
        let _turn = exclusive(parent)?;
        sweep(parent);
        // Containers that share a cache have processes of the same number.
        for number in 0..1000 {
            let path = parent.join(format!("{RUN}{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o755).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => {
                    created.during("create", &path)?;
                    let path = Doomed::new(path);
                    let lock = exclusive(path.path())?;
                    return Ok(Scratch { path, _lock: lock });
                }
            }
        }
        Err(fail!(
            "too many directories of runs in {}",
            parent.display()
        ))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.path.path()
    }
}

/// A directory of this user's own among the machine's temporary files.
fn temporary() -> Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let path = std::env::temp_dir().join(format!("xen-bed-{user}"));
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).during("create", &path);
        }
        _ => {}
    }
    let found = fs::symlink_metadata(&path).during("look at", &path)?;
    match found.is_dir() && found.uid() == user {
        true => Ok(path),
        false => Err(fail!("{} belongs to another user", path.display())),
    }
}

/// Waits until no other process holds the lock of a directory, and holds it until the result is dropped.
pub fn exclusive(directory: &Path) -> Result<File> {
    let lock = lock_file(directory)?;
    lock.lock().during("lock", directory)?;
    Ok(lock)
}

/// Opens a directory's lock. Another user's can only be read, which is enough to lock it.
pub fn lock_file(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => File::options()
            .create(true)
            .append(true)
            .open(&path)
            .during("create", &path),
        opened => opened.during("open", &path),
    }
}

/// Removes what runs that are no more have left.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_run = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(RUN));
        if is_run && lock_file(&path).is_ok_and(|lock| lock.try_lock().is_ok()) {
            // Another user's stays.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> Doomed {
        let path = std::env::temp_dir().join(format!("xen-bed-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Doomed::new(path)
    }

    #[test]
    fn a_new_run_sweeps_what_a_killed_one_left_and_spares_one_that_lives() {
        let parent = directory("sweep");
        let dead = parent.path().join("run-1-0");
        fs::create_dir_all(dead.join("console")).unwrap();
        let living = Scratch::new(parent.path()).unwrap();
        let other = Scratch::new(parent.path()).unwrap();
        assert!(!dead.exists());
        assert!(living.path().exists() && other.path().exists());
        assert_ne!(living.path(), other.path());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }

    #[test]
    fn a_run_that_cannot_write_to_the_cache_goes_elsewhere() {
        let parent = directory("file").path().join("file");
        fs::create_dir_all(parent.parent().unwrap()).unwrap();
        fs::write(&parent, "no directory").unwrap();
        let run = Scratch::new(&parent).unwrap();
        assert!(run.path().starts_with(
            std::env::temp_dir().join(format!("xen-bed-{}", rustix::process::geteuid().as_raw()))
        ));
        fs::remove_dir_all(parent.parent().unwrap()).unwrap();
    }
}
