//! The attributes of a file as 9P2000 and 9P2000.u put them.

use alloc::vec::Vec;

use p9_tree::{Node, Result};
use p9_wire::{
    Attr, AttrMask, Dialect, DirMode, FileKind, ModeBits, QidKind, SetAttr, SetAttrMask, Stat, Time,
};

/// A [`Stat`] with strings of its own.
#[derive(Debug)]
pub(crate) struct OwnedStat {
    attr: Attr,
    dialect: Dialect,
    name: Vec<u8>,
    extension: Vec<u8>,
    uid: Decimal,
    gid: Decimal,
}

impl OwnedStat {
    /// Asks a file for what a stat says.
    pub async fn of<N: Node>(node: &N, name: Vec<u8>, dialect: Dialect) -> Result<Self> {
        let mut attr = node.getattr(AttrMask::BASIC).await?;
        attr.qid = node.qid();
        let kind = FileKind::of_mode(attr.mode);
        let extension = match kind {
            _ if dialect == Dialect::Plan9 => Vec::new(),
            FileKind::SYMLINK => node.readlink().await?,
            FileKind::BLOCK_DEVICE => device(b"b ", attr.rdev),
            FileKind::CHAR_DEVICE => device(b"c ", attr.rdev),
            // As QEMU says it; Linux's v9fs looks for it.
            FileKind::REGULAR if attr.nlink > 1 => {
                let mut text = b"HARDLINKCOUNT ".to_vec();
                text.extend_from_slice(Decimal::new(attr.nlink).bytes());
                text
            }
            _ => Vec::new(),
        };
        Ok(OwnedStat {
            attr,
            dialect,
            name,
            extension,
            uid: Decimal::new(attr.uid.into()),
            gid: Decimal::new(attr.gid.into()),
        })
    }

    pub fn stat(&self) -> Stat<'_> {
        let attr = &self.attr;
        let directory = FileKind::of_mode(attr.mode) == FileKind::DIR;
        Stat {
            kind: 0,
            dev: 0,
            qid: attr.qid,
            mode: dir_mode(attr, self.dialect),
            atime: seconds(attr.atime),
            mtime: seconds(attr.mtime),
            length: if directory { 0 } else { attr.size },
            name: &self.name,
            uid: self.uid.bytes(),
            gid: self.gid.bytes(),
            muid: b"",
            extension: &self.extension,
            n_uid: attr.uid,
            n_gid: attr.gid,
            n_muid: u32::MAX,
        }
    }
}

/// The permissions and kind of a file.
fn dir_mode(attr: &Attr, dialect: Dialect) -> DirMode {
    let mut mode = DirMode::from_bits_retain(attr.mode & ModeBits::PERMISSIONS.bits());
    let kind = FileKind::of_mode(attr.mode);
    mode.set(DirMode::DIR, kind == FileKind::DIR);
    mode.set(DirMode::APPEND, attr.qid.kind.contains(QidKind::APPEND));
    mode.set(
        DirMode::EXCLUSIVE,
        attr.qid.kind.contains(QidKind::EXCLUSIVE),
    );
    if dialect == Dialect::Plan9 {
        return mode;
    }
    let device = matches!(kind, FileKind::BLOCK_DEVICE | FileKind::CHAR_DEVICE);
    mode.set(DirMode::SYMLINK, kind == FileKind::SYMLINK);
    mode.set(DirMode::DEVICE, device);
    mode.set(DirMode::NAMED_PIPE, kind == FileKind::FIFO);
    mode.set(DirMode::SOCKET, kind == FileKind::SOCKET);
    let bits = ModeBits::from_bits_retain(attr.mode);
    mode.set(DirMode::SET_UID, bits.contains(ModeBits::SET_UID));
    mode.set(DirMode::SET_GID, bits.contains(ModeBits::SET_GID));
    mode.set(DirMode::STICKY, bits.contains(ModeBits::STICKY));
    mode
}

/// The low twelve bits of a Unix mode.
pub(crate) fn unix_mode(mode: DirMode, dialect: Dialect) -> u32 {
    let mut bits = ModeBits::from_bits_retain((mode & DirMode::PERMISSIONS).bits());
    if dialect != Dialect::Plan9 {
        bits.set(ModeBits::SET_UID, mode.contains(DirMode::SET_UID));
        bits.set(ModeBits::SET_GID, mode.contains(DirMode::SET_GID));
        bits.set(ModeBits::STICKY, mode.contains(DirMode::STICKY));
    }
    bits.bits()
}

/// What a Twstat wants changed, apart from the name.
pub(crate) fn changes(stat: &Stat<'_>, dialect: Dialect) -> SetAttr {
    let mut attr = SetAttr::default();
    if stat.mode != Stat::UNCHANGED.mode {
        attr.valid |= SetAttrMask::MODE;
        attr.mode = unix_mode(stat.mode, dialect);
    }
    if stat.length != u64::MAX {
        attr.valid |= SetAttrMask::SIZE;
        attr.size = stat.length;
    }
    let time = |secs: u32| Time {
        secs: secs.into(),
        nanos: 0,
    };
    if stat.atime != u32::MAX {
        attr.valid |= SetAttrMask::ATIME | SetAttrMask::ATIME_SET;
        attr.atime = time(stat.atime);
    }
    if stat.mtime != u32::MAX {
        attr.valid |= SetAttrMask::MTIME | SetAttrMask::MTIME_SET;
        attr.mtime = time(stat.mtime);
    }
    if let Some(uid) = user(stat.n_uid, stat.uid) {
        attr.valid |= SetAttrMask::UID;
        attr.uid = uid;
    }
    if let Some(gid) = user(stat.n_gid, stat.gid) {
        attr.valid |= SetAttrMask::GID;
        attr.gid = gid;
    }
    attr
}

/// The new number of a user or group: as such, or in words.
fn user(number: u32, name: &[u8]) -> Option<u32> {
    match number {
        u32::MAX => core::str::from_utf8(name).ok()?.parse().ok(),
        number => Some(number),
    }
}

/// Seconds in 32 bits, where the largest number means something else.
fn seconds(time: Time) -> u32 {
    match i64::try_from(time.secs) {
        Ok(secs) => u32::try_from(secs).unwrap_or(u32::MAX).min(u32::MAX - 1),
        // Before 1970.
        Err(_) => 0,
    }
}

/// "b MAJOR MINOR", of a device number in Linux's encoding.
fn device(kind: &[u8], rdev: u64) -> Vec<u8> {
    let major = (rdev >> 8 & 0xfff) | (rdev >> 32 & !0xfff);
    let minor = (rdev & 0xff) | (rdev >> 12 & !0xff);
    let mut text = kind.to_vec();
    text.extend_from_slice(Decimal::new(major).bytes());
    text.push(b' ');
    text.extend_from_slice(Decimal::new(minor & 0xffff_ffff).bytes());
    text
}

/// A number in decimal digits.
#[derive(Clone, Copy, Debug)]
struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    fn new(mut number: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut start = digits.len();
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            start = at;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        Decimal { digits, start }
    }

    fn bytes(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_digits() {
        for number in [0, 7, 10, 65_535, u64::MAX] {
            let text = alloc::format!("{number}");
            assert_eq!(Decimal::new(number).bytes(), text.as_bytes());
        }
    }

    #[test]
    fn device_numbers() {
        assert_eq!(device(b"c ", 0x0103), b"c 1 3");
        assert_eq!(device(b"b ", 0x0012_3405), b"b 564 261");
    }

    #[test]
    fn a_mode_survives_both_ways() {
        for mode in 0..0o10000 {
            let attr = Attr {
                mode: mode | FileKind::REGULAR.bits(),
                ..Attr::default()
            };
            let there = dir_mode(&attr, Dialect::Unix);
            assert_eq!(unix_mode(there, Dialect::Unix), mode);
        }
    }
}
