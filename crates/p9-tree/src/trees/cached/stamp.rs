//! By what a file is known to have changed.

use p9_wire::{Attr, AttrMask, Time};

/// What changes whenever the content of a file does, as far as its server tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    version: u32,
    pub(super) size: u64,
    mtime: Time,
    ctime: Time,
}

impl Stamp {
    /// The attributes that a stamp is made of.
    pub(super) const MASK: AttrMask = AttrMask::BASIC.union(AttrMask::BTIME);

    /// The stamp of a regular file with these attributes. None where they don't tell enough, or where the content may be made up
    /// when it is read: such files say that they are empty.
    pub(super) fn of(attr: &Attr) -> Option<Stamp> {
        Stamp::of_kind(attr, 0o100_000)
    }

    /// The same of a directory. Those whose entries are made up, as in Linux's `/proc`, say that they are empty as well.
    pub(super) fn of_dir(attr: &Attr) -> Option<Stamp> {
        Stamp::of_kind(attr, 0o040_000)
    }

    fn of_kind(attr: &Attr, kind: u32) -> Option<Stamp> {
        let needed = AttrMask::MODE | AttrMask::SIZE | AttrMask::MTIME | AttrMask::CTIME;
        let is_it = attr.mode & 0o170_000 == kind;
        (attr.valid.contains(needed) && is_it && attr.size > 0).then_some(Stamp {
            version: attr.qid.version,
            size: attr.size,
            mtime: attr.mtime,
            ctime: attr.ctime,
        })
    }
}
