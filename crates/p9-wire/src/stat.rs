//! The directory entry of 9P2000 and 9P2000.u: what Tstat, Twstat and reads of directories carry.

use super::buffer::{Field, Reader, Writer};
use super::error::WireError;
use super::flags::DirMode;
use super::message::{count, kind};
use super::types::{Dialect, Qid};

/// The attributes of a file, name included.
///
/// The last four fields exist in 9P2000.u only; in 9P2000 they are empty and [`u32::MAX`].
/// In Twstat, [`Stat::UNCHANGED`] is where to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat<'a> {
    /// For the server's kernel.
    pub kind: u16,
    /// For the server's kernel.
    pub dev: u32,
    /// Identity.
    pub qid: Qid,
    /// Permissions and kind.
    pub mode: DirMode,
    /// Last access, in seconds since 1970.
    pub atime: u32,
    /// Last change of the content, in seconds since 1970.
    pub mtime: u32,
    /// Size in bytes; 0 for a directory.
    pub length: u64,
    /// Last element of the path; "/" for the root.
    pub name: &'a [u8],
    /// Owner.
    pub uid: &'a [u8],
    /// Group.
    pub gid: &'a [u8],
    /// Who changed it last.
    pub muid: &'a [u8],
    /// Target of a symbolic link, or numbers of a device; see [`DirMode`].
    pub extension: &'a [u8],
    /// Number of the owner.
    pub n_uid: u32,
    /// Number of the group.
    pub n_gid: u32,
    /// Number of who changed it last.
    pub n_muid: u32,
}

/// Bytes of the fields of fixed size, the strings' lengths included: 9P2000, and what .u adds.
const FIXED: usize = 47;
const FIXED_UNIX: usize = 14;

impl<'a> Stat<'a> {
    /// For Twstat: every field says "leave it as it is".
    ///
    /// Sent as it is, with nothing changed, this asks for an fsync. Don't in 9P2000.u: QEMU's answer
    /// is an empty message, which on Xen's rings is none at all.
    pub const UNCHANGED: Stat<'static> = Stat {
        kind: u16::MAX,
        dev: u32::MAX,
        qid: Qid {
            kind: super::flags::QidKind::from_bits_retain(u8::MAX),
            version: u32::MAX,
            path: u64::MAX,
        },
        mode: DirMode::from_bits_retain(u32::MAX),
        atime: u32::MAX,
        mtime: u32::MAX,
        length: u64::MAX,
        name: b"",
        uid: b"",
        gid: b"",
        muid: b"",
        extension: b"",
        n_uid: u32::MAX,
        n_gid: u32::MAX,
        n_muid: u32::MAX,
    };

    /// Encodes the stat as it stands in a directory's data; returns its length in bytes.
    ///
    /// # Errors
    /// [`WireError::Room`] with nothing of use in `into`, or [`WireError::Invalid`] for strings that
    /// are too long.
    pub fn encode(&self, dialect: Dialect, into: &mut [u8]) -> Result<usize, WireError> {
        let mut w = Writer::new(into, dialect);
        self.put_sized(&mut w);
        if w.take_failure() {
            return Err(WireError::Invalid {
                kind: kind::RREAD,
                field: 0,
            });
        }
        if !w.fits() {
            return Err(WireError::Room {
                needed: count(w.len()),
            });
        }
        Ok(w.len())
    }

    /// What the size field says: the bytes after it.
    fn size(&self, dialect: Dialect) -> usize {
        let strings = [self.name, self.uid, self.gid, self.muid];
        let plain = strings
            .iter()
            .fold(FIXED, |sum, string| sum.saturating_add(string.len()));
        match dialect {
            Dialect::Plan9 => plain,
            _ => plain
                .saturating_add(FIXED_UNIX)
                .saturating_add(self.extension.len()),
        }
    }

    fn put_sized(&self, w: &mut Writer<'_>) {
        match u16::try_from(self.size(w.dialect())) {
            Ok(size) => size.put(w),
            Err(_) => return w.fail(),
        }
        self.kind.put(w);
        self.dev.put(w);
        self.qid.put(w);
        self.mode.put(w);
        self.atime.put(w);
        self.mtime.put(w);
        self.length.put(w);
        self.name.put(w);
        self.uid.put(w);
        self.gid.put(w);
        self.muid.put(w);
        if w.dialect().is_extended() {
            self.extension.put(w);
            self.n_uid.put(w);
            self.n_gid.put(w);
            self.n_muid.put(w);
        }
    }

    /// The fields after the size field.
    pub(super) fn get_fields(r: &mut Reader<'a>) -> Self {
        let plain = Stat {
            kind: Field::get(r),
            dev: Field::get(r),
            qid: Field::get(r),
            mode: Field::get(r),
            atime: Field::get(r),
            mtime: Field::get(r),
            length: Field::get(r),
            name: Field::get(r),
            uid: Field::get(r),
            gid: Field::get(r),
            muid: Field::get(r),
            ..Stat::UNCHANGED
        };
        if !r.dialect().is_extended() {
            return plain;
        }
        Stat {
            extension: Field::get(r),
            n_uid: Field::get(r),
            n_gid: Field::get(r),
            n_muid: Field::get(r),
            ..plain
        }
    }
}

/// As the last field of Rstat and Twstat: preceded by its size and once more by that size plus 2.
/// Neither is believed, nor anything after the fields.
impl<'a> Field<'a> for Stat<'a> {
    fn put(&self, w: &mut Writer<'_>) {
        match u16::try_from(self.size(w.dialect()).saturating_add(2)) {
            Ok(size) => {
                size.put(w);
                self.put_sized(w);
            }
            Err(_) => w.fail(),
        }
    }

    fn get(r: &mut Reader<'a>) -> Self {
        let _: [u8; 4] = r.array();
        let stat = Stat::get_fields(r);
        r.skip_rest();
        stat
    }
}
