//! What a tree tells about a file.

use core::fmt;

use p9_wire::{Attr, AttrMask, Qid, Statfs};

use crate::SystemTime;

const S_IFMT: u32 = 0o170_000;
const S_IFSOCK: u32 = 0o140_000;
const S_IFLNK: u32 = 0o120_000;
const S_IFREG: u32 = 0o100_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFIFO: u32 = 0o010_000;

/// What kind of thing a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileType(u32);

impl FileType {
    /// A directory.
    pub const DIR: FileType = FileType(S_IFDIR);

    /// The type in a Unix mode.
    pub const fn from_mode(mode: u32) -> Self {
        FileType(mode & S_IFMT)
    }

    /// The type that a directory entry's `d_type` means; `None` when the server did not say.
    pub const fn from_dirent(kind: u8) -> Option<Self> {
        match kind {
            1 | 2 | 4 | 6 | 8 | 10 | 12 => Some(FileType((kind as u32) << 12)),
            _ => None,
        }
    }

    /// The bits of a Unix mode that say so.
    pub const fn mode(self) -> u32 {
        self.0
    }

    /// A directory.
    pub const fn is_dir(self) -> bool {
        self.0 == S_IFDIR
    }

    /// A regular file.
    pub const fn is_file(self) -> bool {
        self.0 == S_IFREG
    }

    /// A symbolic link.
    pub const fn is_symlink(self) -> bool {
        self.0 == S_IFLNK
    }

    /// A block device.
    pub const fn is_block_device(self) -> bool {
        self.0 == S_IFBLK
    }

    /// A character device.
    pub const fn is_char_device(self) -> bool {
        self.0 == S_IFCHR
    }

    /// A named pipe.
    pub const fn is_fifo(self) -> bool {
        self.0 == S_IFIFO
    }

    /// A socket.
    pub const fn is_socket(self) -> bool {
        self.0 == S_IFSOCK
    }

    /// The letter that `ls -l` shows: `-`, `d`, `l`, `b`, `c`, `p`, `s`, or `?`.
    pub const fn letter(self) -> char {
        match self.0 {
            S_IFREG => '-',
            S_IFDIR => 'd',
            S_IFLNK => 'l',
            S_IFBLK => 'b',
            S_IFCHR => 'c',
            S_IFIFO => 'p',
            S_IFSOCK => 's',
            _ => '?',
        }
    }
}

impl fmt::Debug for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.letter() {
            '-' => "file",
            'd' => "directory",
            'l' => "symbolic link",
            'b' => "block device",
            'c' => "character device",
            'p' => "named pipe",
            's' => "socket",
            _ => "unknown",
        })
    }
}

/// Who may do what: the lower 12 bits of a Unix mode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u32);

impl Permissions {
    /// The permissions in a Unix mode.
    pub const fn from_mode(mode: u32) -> Self {
        Permissions(mode & 0o7777)
    }

    /// The lower 12 bits of the mode.
    pub const fn mode(self) -> u32 {
        self.0
    }

    /// Replaces all 12 bits.
    pub const fn set_mode(&mut self, mode: u32) {
        self.0 = mode & 0o7777;
    }

    /// Whether no class of users may write.
    pub const fn readonly(self) -> bool {
        self.0 & 0o222 == 0
    }

    /// Takes the right to write from all, or gives it to all.
    pub const fn set_readonly(&mut self, readonly: bool) {
        if readonly {
            self.0 &= !0o222;
        } else {
            self.0 |= 0o222;
        }
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permissions({:#o})", self.0)
    }
}

impl fmt::Display for Permissions {
    /// As `ls -l` shows them: `rwxr-xr-x`, with `s`, `S`, `t` and `T` for the upper three bits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, special, letters) in [(6, 0o4000, "Ss"), (3, 0o2000, "Ss"), (0, 0o1000, "Tt")] {
            let bits = self.0 >> shift;
            f.write_str(if bits & 4 != 0 { "r" } else { "-" })?;
            f.write_str(if bits & 2 != 0 { "w" } else { "-" })?;
            let run = bits & 1 != 0;
            f.write_str(match (self.0 & special != 0, run) {
                (true, false) => &letters[..1],
                (true, true) => &letters[1..],
                (false, true) => "x",
                (false, false) => "-",
            })?;
        }
        Ok(())
    }
}

/// All that the server tells about a file.
///
/// Sizes are bytes. `blksize` and `blocks` are what the server says, and QEMU derives `blksize`
/// from the message size rather than from the host's file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    ino: u64,
    version: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u64,
    rdev: u64,
    size: u64,
    blksize: u64,
    blocks: u64,
    atime: SystemTime,
    mtime: SystemTime,
    ctime: Option<SystemTime>,
    btime: Option<SystemTime>,
}

impl Metadata {
    /// What a file that no server keeps tells of itself: this Unix mode and size, one name, owner
    /// and times 0.
    pub const fn new(mode: u32, size: u64) -> Self {
        let epoch = SystemTime::UNIX_EPOCH;
        Metadata {
            ino: 0,
            version: 0,
            mode,
            uid: 0,
            gid: 0,
            nlink: 1,
            rdev: 0,
            size,
            blksize: 4096,
            blocks: size.div_ceil(512),
            atime: epoch,
            mtime: epoch,
            ctime: None,
            btime: None,
        }
    }

    /// What a directory tells of itself where no more is known of it than its identity: mode 0755, owner unknown.
    pub const fn of_dir(qid: Qid) -> Self {
        let mut metadata = Metadata::new(S_IFDIR | 0o755, 0);
        (metadata.ino, metadata.version) = (qid.path, qid.version);
        (metadata.uid, metadata.gid) = (u32::MAX, u32::MAX);
        metadata
    }

    /// What kind of thing it is.
    pub const fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode)
    }

    /// A directory.
    pub const fn is_dir(&self) -> bool {
        self.file_type().is_dir()
    }

    /// A regular file.
    pub const fn is_file(&self) -> bool {
        self.file_type().is_file()
    }

    /// A symbolic link (only `symlink_metadata` shows one).
    pub const fn is_symlink(&self) -> bool {
        self.file_type().is_symlink()
    }

    /// Size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "the name that std::fs has")]
    pub const fn len(&self) -> u64 {
        self.size
    }

    /// Who may do what.
    pub const fn permissions(&self) -> Permissions {
        Permissions::from_mode(self.mode)
    }

    /// When the content last changed.
    pub const fn modified(&self) -> SystemTime {
        self.mtime
    }

    /// When the content was last read, as far as the server's host keeps count.
    pub const fn accessed(&self) -> SystemTime {
        self.atime
    }

    /// When content or attributes last changed; `None` in dialects other than 9P2000.L.
    pub const fn changed(&self) -> Option<SystemTime> {
        self.ctime
    }

    /// When the file was made; `None` when the server does not tell (QEMU does not).
    pub const fn created(&self) -> Option<SystemTime> {
        self.btime
    }

    /// The number that identifies the file on its server: the path of its qid. QEMU may give two
    /// files of different host file systems the same number.
    pub const fn ino(&self) -> u64 {
        self.ino
    }

    /// The qid's version, which changes with the content; 0 from servers that do not keep one.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Type and permissions as a Unix mode.
    pub const fn mode(&self) -> u32 {
        self.mode
    }

    /// Owner, or `u32::MAX` when the dialect has only a name.
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// Group, or `u32::MAX` when the dialect has only a name.
    pub const fn gid(&self) -> u32 {
        self.gid
    }

    /// Number of names the file has.
    pub const fn nlink(&self) -> u64 {
        self.nlink
    }

    /// Device number, for devices.
    pub const fn rdev(&self) -> u64 {
        self.rdev
    }

    /// The block size for efficient I/O, in bytes.
    pub const fn blksize(&self) -> u64 {
        self.blksize
    }

    /// Space taken, in units of 512 bytes; the size rounded up where the server does not say.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether both can be about one file. They can't if numbers or times differ; two files of two file
    /// systems with all that in common are taken for one.
    pub fn is_like(&self, other: &Metadata) -> bool {
        self.ino == other.ino
            && (self.size, self.mtime, self.ctime) == (other.size, other.mtime, other.ctime)
    }
}

impl From<&Attr> for Metadata {
    fn from(attr: &Attr) -> Self {
        let known = |mask, time| attr.valid.contains(mask).then(|| SystemTime::from(time));
        Metadata {
            ino: attr.qid.path,
            version: attr.qid.version,
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            nlink: attr.nlink,
            rdev: attr.rdev,
            size: attr.size,
            blksize: attr.blksize,
            blocks: match attr.valid.contains(AttrMask::BLOCKS) {
                true => attr.blocks,
                false => attr.size.div_ceil(512),
            },
            atime: attr.atime.into(),
            mtime: attr.mtime.into(),
            ctime: known(AttrMask::CTIME, attr.ctime),
            btime: known(AttrMask::BTIME, attr.btime),
        }
    }
}

/// How full a file system is. Blocks are of [`block_size`](Self::block_size) bytes.
///
/// QEMU scales block size and counts to the message size: products are right, the factors are not
/// those of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatFs {
    /// The host file system's magic number, where it tells.
    pub kind: u32,
    /// Bytes in a block.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks that are free.
    pub blocks_free: u64,
    /// Blocks that are free for others than root.
    pub blocks_available: u64,
    /// Files there can be.
    pub files: u64,
    /// Files that can still be made.
    pub files_free: u64,
    /// Identifies the file system.
    pub id: u64,
    /// Longest name, in bytes.
    pub name_max: u32,
}

impl StatFs {
    /// Size of the file system in bytes.
    pub const fn total_bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size as u64)
    }

    /// Free space in bytes.
    pub const fn free_bytes(&self) -> u64 {
        self.blocks_free.saturating_mul(self.block_size as u64)
    }

    /// Free space for others than root, in bytes.
    pub const fn available_bytes(&self) -> u64 {
        self.blocks_available.saturating_mul(self.block_size as u64)
    }
}

impl From<&Statfs> for StatFs {
    fn from(stat: &Statfs) -> Self {
        StatFs {
            kind: stat.kind,
            block_size: stat.bsize,
            blocks: stat.blocks,
            blocks_free: stat.bfree,
            blocks_available: stat.bavail,
            files: stat.files,
            files_free: stat.ffree,
            id: stat.fsid,
            name_max: stat.namelen,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate alloc;
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn permissions_look_like_ls() {
        for (mode, text) in [
            (0o755, "rwxr-xr-x"),
            (0o4755, "rwsr-xr-x"),
            (0o2644, "rw-r-Sr--"),
            (0o1777, "rwxrwxrwt"),
            (0o1776, "rwxrwxrwT"),
            (0, "---------"),
        ] {
            assert_eq!(Permissions::from_mode(mode).to_string(), text);
        }
    }

    #[test]
    fn directory_entry_types_are_mode_bits_shifted() {
        assert_eq!(FileType::from_dirent(4), Some(FileType::DIR));
        assert_eq!(FileType::from_dirent(8), Some(FileType::from_mode(S_IFREG)));
        assert_eq!(
            FileType::from_dirent(10),
            Some(FileType::from_mode(S_IFLNK))
        );
        assert_eq!(FileType::from_dirent(0), None);
        assert_eq!(FileType::from_dirent(255), None);
    }
}
