//! Directories whose descriptors are kept for the next walk through them.
//!
//! A step by name to such a directory is one statx instead of openat2, statx and close. Nothing is believed: the statx asks
//! what has that name now, and the descriptor is used only where it is of that very file. An open descriptor keeps its inode,
//! so no other file can have its number meanwhile.
//!
//! Only directories of the share's own mount are kept: a descriptor on another would keep the administrator from unmounting it.

use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::FileId;

/// Directories that are kept at most.
const PLACES: usize = 128;

/// The table. Each directory has one place in it, which it takes from the one before.
#[derive(Debug)]
pub(super) struct Kept {
    places: Mutex<Vec<Option<Entry>>>,
    /// The peer chooses names, but not which of them share a place.
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry {
    parent: FileId,
    name: Vec<u8>,
    id: FileId,
    fd: Arc<OwnedFd>,
}

impl Kept {
    pub(super) fn new() -> Kept {
        let mut places = Vec::new();
        places.resize_with(PLACES, || None);
        Kept {
            places: Mutex::new(places),
            hasher: RandomState::new(),
        }
    }

    fn places(&self) -> MutexGuard<'_, Vec<Option<Entry>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place for what has this name in the directory `parent`.
    fn place(&self, parent: FileId, name: &[u8]) -> usize {
        self.hasher.hash_one((parent, name)) as usize % PLACES
    }

    /// What had this name in the directory `parent` the last time.
    pub(super) fn get(&self, parent: FileId, name: &[u8]) -> Option<(FileId, Arc<OwnedFd>)> {
        let places = self.places();
        let entry = places.get(self.place(parent, name))?.as_ref()?;
        let is_it = entry.parent == parent && entry.name == name;
        is_it.then(|| (entry.id, Arc::clone(&entry.fd)))
    }

    /// Keeps a directory, and closes the one whose place it takes.
    pub(super) fn put(&self, parent: FileId, name: &[u8], id: FileId, fd: Arc<OwnedFd>) {
        let entry = Entry {
            parent,
            name: name.to_vec(),
            id,
            fd,
        };
        let before = self.places()[self.place(parent, name)].replace(entry);
        // Without the lock: it may be the last descriptor of a removed directory.
        drop(before);
    }

    /// Lets go of what had this name.
    pub(super) fn forget(&self, parent: FileId, name: &[u8]) {
        let mut places = self.places();
        let place = &mut places[self.place(parent, name)];
        let gone = place.take_if(|entry| entry.parent == parent && entry.name == name);
        drop(places);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_in_its_own_directory_only_and_the_table_has_a_bound() {
        let fd = || Arc::new(OwnedFd::from(std::fs::File::open("/").unwrap()));
        let id = |ino| FileId { dev: 1, ino };
        let kept = Kept::new();
        kept.put(id(2), b"a", id(3), fd());
        assert_eq!(kept.get(id(2), b"a").map(|found| found.0), Some(id(3)));
        assert!(kept.get(id(4), b"a").is_none());
        assert!(kept.get(FileId { dev: 2, ino: 2 }, b"a").is_none());
        assert!(kept.get(id(2), b"b").is_none());
        kept.forget(id(4), b"a");
        assert!(kept.get(id(2), b"a").is_some());
        kept.forget(id(2), b"a");
        assert!(kept.get(id(2), b"a").is_none());
        let one = fd();
        for ino in 0..100 * PLACES as u64 {
            kept.put(id(2), ino.to_string().as_bytes(), id(ino), one.clone());
        }
        assert!(Arc::strong_count(&one) <= 1 + PLACES);
        assert!(Arc::strong_count(&one) > PLACES / 2, "they are spread");
    }
}
