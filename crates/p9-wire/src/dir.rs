//! The data of directories: Rreaddir's entries, and the stats that reading a directory gives in
//! 9P2000 and 9P2000.u.

use super::buffer::{Field, Reader, Writer};
use super::error::WireError;
use super::flags::{DirEntryKind, FileKind, QidKind};
use super::message::{count, kind};
use super::stat::Stat;
use super::types::{Dialect, Qid};

/// An entry in the data of an Rreaddir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// Identity; the kind in it may be missing.
    pub qid: Qid,
    /// Where to go on after this entry: for the next Treaddir, and for nothing else.
    pub offset: u64,
    /// What it is, if the server knows.
    pub kind: DirEntryKind,
    /// The name; "." and ".." come too.
    pub name: &'a [u8],
}

impl<'a> DirEntry<'a> {
    /// Whether this may be a symbolic link to what `kind` says: some servers follow links, and list what a link leads to.
    /// Their entries, as a client hands them on, have a qid that says both.
    pub fn may_be_link(&self) -> bool {
        self.qid.kind.contains(QidKind::SYMLINK)
            && self
                .kind
                .file_kind()
                .is_some_and(|kind| kind != FileKind::SYMLINK)
    }

    /// Encodes the entry at the front of `into`; returns its length in bytes.
    ///
    /// # Errors
    /// [`WireError::Room`] with nothing of use in `into`, or [`WireError::Invalid`] for a name that is
    /// too long.
    pub fn encode(&self, into: &mut [u8]) -> Result<usize, WireError> {
        let mut w = Writer::new(into, Dialect::Linux);
        self.qid.put(&mut w);
        self.offset.put(&mut w);
        self.kind.put(&mut w);
        self.name.put(&mut w);
        if w.take_failure() {
            return Err(invalid(kind::RREADDIR));
        }
        if !w.fits() {
            return Err(WireError::Room {
                needed: count(w.len()),
            });
        }
        Ok(w.len())
    }

    fn get(r: &mut Reader<'a>) -> Self {
        DirEntry {
            qid: Field::get(r),
            offset: Field::get(r),
            kind: Field::get(r),
            name: Field::get(r),
        }
    }
}

const fn truncated(kind: u8) -> WireError {
    WireError::Truncated { kind, field: 0 }
}

const fn invalid(kind: u8) -> WireError {
    WireError::Invalid { kind, field: 0 }
}

/// The entries in the data of an Rreaddir. Ends after the last, or after the first error: an entry
/// that is not all there.
#[derive(Debug)]
pub struct DirEntries<'a> {
    rest: Reader<'a>,
}

impl<'a> DirEntries<'a> {
    /// The entries in `data`.
    pub fn new(data: &'a [u8]) -> Self {
        DirEntries {
            rest: Reader::new(data, Dialect::Linux),
        }
    }
}

impl<'a> Iterator for DirEntries<'a> {
    type Item = Result<DirEntry<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.remaining() == 0 {
            return None;
        }
        let entry = DirEntry::get(&mut self.rest);
        Some(match self.rest.take_fault() {
            None => Ok(entry),
            Some(_) => {
                self.rest.skip_rest();
                Err(truncated(kind::RREADDIR))
            }
        })
    }
}

impl core::iter::FusedIterator for DirEntries<'_> {}

/// How stats are packed in the data of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatLayout {
    /// One after the other, as stat(5) says.
    Packed,
    /// As Xen's xen-9pfsd does: each stat has two more bytes in front, its size field is 10 too
    /// large, and as many bytes as these errors add up to are missing between the last stat and the
    /// end of the data.
    Xen9pfsd,
}

impl StatLayout {
    /// Which layout `data` has, the whole data of an Rread of a directory.
    ///
    /// It is xen-9pfsd's if all of it makes sense as that; no data of sound servers does.
    pub fn of(data: &[u8], dialect: Dialect) -> StatLayout {
        let mut entries = StatEntries::new(data, dialect, StatLayout::Xen9pfsd);
        match entries.next() {
            Some(Ok(_)) if entries.all(|entry| entry.is_ok()) => StatLayout::Xen9pfsd,
            _ => StatLayout::Packed,
        }
    }
}

/// The stats in the data of a directory in 9P2000 or 9P2000.u. Ends after the last, or after the
/// first error: a stat that is not all there, or sizes that don't fit together.
#[derive(Debug)]
pub struct StatEntries<'a> {
    rest: &'a [u8],
    /// Of the data's count, what the stats so far have not accounted for.
    unclaimed: usize,
    dialect: Dialect,
    layout: StatLayout,
}

impl<'a> StatEntries<'a> {
    /// The stats in `data`.
    pub fn new(data: &'a [u8], dialect: Dialect, layout: StatLayout) -> Self {
        StatEntries {
            rest: data,
            unclaimed: data.len(),
            dialect,
            layout,
        }
    }

    fn packed(&mut self) -> Option<Stat<'a>> {
        let (size, rest) = self.rest.split_first_chunk()?;
        let size = usize::from(u16::from_le_bytes(*size));
        let (stat, rest) = rest.split_at_checked(size)?;
        let mut r = Reader::new(stat, self.dialect);
        let stat = Stat::get_fields(&mut r);
        if r.take_fault().is_some() {
            return None;
        }
        self.rest = rest;
        self.unclaimed = rest.len();
        (r.remaining() == 0).then_some(stat)
    }

    fn xen9pfsd(&mut self) -> Option<Stat<'a>> {
        let mut r = Reader::new(self.rest, self.dialect);
        let outer: u16 = Field::get(&mut r);
        let inner: u16 = Field::get(&mut r);
        let start = r.remaining();
        let stat = Stat::get_fields(&mut r);
        if r.take_fault().is_some() {
            return None;
        }
        let fields = start.checked_sub(r.remaining())?;
        let claimed = usize::from(outer);
        if usize::from(inner) != fields + 10 || claimed != fields + 12 {
            return None;
        }
        self.unclaimed = self.unclaimed.checked_sub(claimed)?;
        self.rest = r.into_rest();
        Some(stat)
    }
}

impl<'a> Iterator for StatEntries<'a> {
    type Item = Result<Stat<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.unclaimed == 0 {
            return None;
        }
        let stat = match self.layout {
            StatLayout::Packed => self.packed(),
            StatLayout::Xen9pfsd => self.xen9pfsd(),
        };
        Some(stat.ok_or_else(|| {
            self.unclaimed = 0;
            invalid(kind::RREAD)
        }))
    }
}

impl core::iter::FusedIterator for StatEntries<'_> {}
