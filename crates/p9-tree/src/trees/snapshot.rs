//! Directories that are listed as they were when the listing began.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use p9_wire::{DirEntry, DirEntryKind, Qid};

use crate::Result;
use crate::memory::try_copy;

/// An entry of a listing.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) qid: Qid,
    pub(crate) kind: DirEntryKind,
    pub(crate) name: Vec<u8>,
}

impl Listed {
    /// This entry, with this qid.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub(crate) fn new(qid: Qid, entry: &DirEntry<'_>) -> Result<Listed> {
        Ok(Listed {
            qid,
            kind: entry.kind,
            name: try_copy(entry.name)?,
        })
    }
}

/// The entries of an open directory. They are taken when the listing begins, and again when it begins anew, so that the
/// directory may change meanwhile and no entry is passed over or told twice.
#[derive(Default)]
pub(crate) struct Snapshot {
    entries: RefCell<Option<Rc<Vec<Listed>>>>,
    /// Whether they were taken for a listing that has not begun.
    fresh: Cell<bool>,
}

impl Snapshot {
    /// Entries that were taken when the directory was opened.
    pub(crate) fn of(entries: Vec<Listed>) -> Self {
        Snapshot {
            entries: RefCell::new(Some(Rc::new(entries))),
            fresh: Cell::new(true),
        }
    }

    /// What was taken, unless a listing that has begun begins anew at this offset.
    pub(crate) fn taken(&self, offset: u64) -> Option<Rc<Vec<Listed>>> {
        let fresh = self.fresh.replace(false);
        let entries = self.entries.borrow();
        entries.as_ref().filter(|_| fresh || offset > 0).cloned()
    }

    pub(crate) fn take(&self, entries: Vec<Listed>) -> Rc<Vec<Listed>> {
        let entries = Rc::new(entries);
        let old = self.entries.replace(Some(entries.clone()));
        drop(old);
        entries
    }
}

/// Hands out entries as [`OpenFile::readdir`](crate::OpenFile::readdir) does. Nothing of the tree is borrowed meanwhile.
pub(crate) fn hand_out(
    entries: &[Listed],
    offset: u64,
    each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
) -> Result<()> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = entries.get(start..).unwrap_or(&[]);
    for (before, entry) in (offset..).zip(rest) {
        let entry = DirEntry {
            qid: entry.qid,
            offset: before + 1,
            kind: entry.kind,
            name: &entry.name,
        };
        if !each(&entry) {
            break;
        }
    }
    Ok(())
}
