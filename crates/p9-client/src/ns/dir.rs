//! Listing directories, united ones too.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::resolve::Found;
use super::{Entries, Namespace};
use crate::fs::{Error, FileType, Metadata, Result};
use p9_wire::Errno;

/// The most names of a union that are remembered, lest a server fills the memory with them.
const MOST_NAMES: usize = 1 << 17;

/// Iterates over the entries of a directory; made by
/// [`Namespace::read_dir`](super::Namespace::read_dir).
///
/// The elements of a union come in order, mount points that no server has at the end. After an error
/// the iteration is over. A union may have 131,072 names; more are [`Error::OutOfMemory`].
pub struct ReadDir {
    ns: Namespace,
    path: Rc<[u8]>,
    listings: vec::IntoIter<Entries>,
    now: Option<Entries>,
    /// Names that were listed already; kept only where they may come again.
    seen: Option<BTreeSet<Vec<u8>>>,
    /// Names of mount points, and whether they are directories.
    points: Vec<(Vec<u8>, bool)>,
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir")
            .field("path", &String::from_utf8_lossy(&self.path))
            .finish_non_exhaustive()
    }
}

impl ReadDir {
    pub(super) fn open(
        ns: &Namespace,
        path: &[u8],
        found: &Found,
        metadata: bool,
    ) -> Result<ReadDir> {
        if !found.is_dir {
            return Err(Errno::ENOTDIR.into());
        }
        let points = ns.table.borrow().names_in(&found.path);
        let mut listings = Vec::new();
        let mut gone = None;
        for element in &found.elements {
            let (tree, at) = (&element.tree, element.at.as_bytes());
            let listing = if metadata {
                tree.read_dir_with_metadata(at)
            } else {
                tree.read_dir(at)
            };
            match listing {
                Ok(listing) => listings.push(listing),
                Err(error) if error.is_not_found() => gone = Some(error),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = gone
            && listings.is_empty()
            && points.is_empty()
        {
            return Err(error);
        }
        Ok(ReadDir {
            ns: ns.clone(),
            path: path.into(),
            seen: (listings.len() > 1).then(BTreeSet::new),
            listings: listings.into_iter(),
            now: None,
            points,
        })
    }

    fn end(&mut self) {
        self.now = None;
        self.listings = Vec::new().into_iter();
        self.points.clear();
    }

    fn entry(&self, name: Vec<u8>, kind: Option<FileType>, ino: u64) -> DirEntry {
        DirEntry {
            ns: self.ns.clone(),
            dir: self.path.clone(),
            name,
            kind,
            ino,
            metadata: None,
        }
    }
}

impl Iterator for ReadDir {
    type Item = Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(now) = &mut self.now else {
                self.now = self.listings.next();
                if self.now.is_some() {
                    continue;
                }
                // What only the name space knows of.
                let (name, is_dir) = self.points.pop()?;
                let entry = self.entry(name, is_dir.then_some(FileType::DIR), 0);
                return Some(Ok(entry));
            };
            let entry = match now.next() {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => {
                    self.end();
                    return Some(Err(error));
                }
                None => {
                    self.now = None;
                    continue;
                }
            };
            if let Some(seen) = &mut self.seen {
                if !seen.insert(entry.name.clone()) {
                    continue;
                }
                if seen.len() > MOST_NAMES {
                    self.end();
                    return Some(Err(Error::OutOfMemory));
                }
            }
            let point = self.points.iter().position(|(name, _)| *name == entry.name);
            return Some(Ok(match point {
                // What is mounted there is seen, not what it hides.
                Some(at) => {
                    let (name, is_dir) = self.points.swap_remove(at);
                    self.entry(name, is_dir.then_some(FileType::DIR), 0)
                }
                None => DirEntry {
                    metadata: entry.metadata,
                    ..self.entry(entry.name, entry.kind, entry.ino)
                },
            }));
        }
    }
}

/// One entry of a directory.
#[derive(Clone)]
pub struct DirEntry {
    ns: Namespace,
    dir: Rc<[u8]>,
    name: Vec<u8>,
    kind: Option<FileType>,
    ino: u64,
    metadata: Option<Box<Metadata>>,
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirEntry")
            .field(&self.file_name_lossy())
            .finish()
    }
}

impl DirEntry {
    /// The bare name, as bytes.
    pub fn file_name(&self) -> &[u8] {
        &self.name
    }

    /// The bare name as text; what is not UTF-8 is replaced by U+FFFD.
    pub fn file_name_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    /// The directory's path as it was given to [`read_dir`](Namespace::read_dir), and the name.
    pub fn path(&self) -> Vec<u8> {
        let mut path = self.dir.to_vec();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(&self.name);
        path
    }

    /// What the entry is, symbolic links not followed. Asks the tree only when it left that out of the
    /// listing.
    ///
    /// # Errors
    /// What the tree says.
    pub fn file_type(&self) -> Result<FileType> {
        match self.kind {
            Some(kind) => Ok(kind),
            None => Ok(self.metadata()?.file_type()),
        }
    }

    /// Attributes of the entry, symbolic links not followed; of a mount point, those of what is mounted
    /// there. Those that came with the listing of
    /// [`read_dir_with_metadata`](Namespace::read_dir_with_metadata) are as old as that.
    ///
    /// # Errors
    /// What the tree says.
    pub fn metadata(&self) -> Result<Metadata> {
        if let Some(metadata) = &self.metadata {
            return Ok(**metadata);
        }
        self.ns.symlink_metadata(self.path())
    }

    /// The number that identifies the file in its tree, as the listing says; 0 for mount points.
    pub fn ino(&self) -> u64 {
        self.ino
    }
}
