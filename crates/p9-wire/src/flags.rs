//! The protocol's flag words and small numbers. Unknown bits of a peer's are kept, not dropped.
//!
//! Values: Plan 9's intro(5), open(5) and stat(5) for 9P2000; Linux `include/net/9p/9p.h` and the
//! generic `fcntl.h`, `stat.h` for the others.

use bitflags::bitflags;

use super::buffer::{Field, Reader, Writer};

bitflags! {
    /// What kind of file a [`Qid`](super::Qid) stands for; no bits: an ordinary file.
    ///
    /// In Rreaddir, QEMU before 10.0 leaves this 0 for everything: go by [`DirEntryKind`] there.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct QidKind: u8 {
        /// Directory.
        const DIR = 0x80;
        /// Append-only file.
        const APPEND = 0x40;
        /// Only one client at a time may have it open.
        const EXCLUSIVE = 0x20;
        /// Mount point.
        const MOUNT = 0x10;
        /// Authentication file.
        const AUTH = 0x08;
        /// Not backed up.
        const TMP = 0x04;
        /// Symbolic link.
        const SYMLINK = 0x02;
        /// Hard link.
        const LINK = 0x01;
    }

    /// How a file is opened in 9P2000.L: Linux's `O_` flags of the generic architectures. No bits:
    /// for reading.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct OpenFlags: u32 {
        /// `O_WRONLY`: for writing only.
        const WRITE_ONLY = 0o1;
        /// `O_RDWR`: for reading and writing.
        const READ_WRITE = 0o2;
        /// `O_CREAT`.
        const CREATE = 0o100;
        /// `O_EXCL`: fail if the file exists.
        const EXCLUSIVE = 0o200;
        /// `O_NOCTTY`.
        const NO_CTTY = 0o400;
        /// `O_TRUNC`: empty the file.
        const TRUNCATE = 0o1000;
        /// `O_APPEND`: every write goes to the end, whatever its offset.
        const APPEND = 0o2000;
        /// `O_NONBLOCK`.
        const NONBLOCK = 0o4000;
        /// `O_DSYNC`: writes return when the data is on stable storage.
        const DATA_SYNC = 0o10000;
        /// `FASYNC`.
        const ASYNC = 0o20000;
        /// `O_DIRECT`.
        const DIRECT = 0o40000;
        /// `O_LARGEFILE`.
        const LARGE_FILE = 0o100000;
        /// `O_DIRECTORY`: fail if it is not a directory.
        const DIRECTORY = 0o200000;
        /// `O_NOFOLLOW`: fail if it is a symbolic link.
        const NO_FOLLOW = 0o400000;
        /// `O_NOATIME`.
        const NO_ATIME = 0o1000000;
        /// `O_CLOEXEC`.
        const CLOSE_ON_EXEC = 0o2000000;
        /// `O_SYNC` (without the bit of [`DATA_SYNC`](Self::DATA_SYNC)).
        const SYNC = 0o4000000;
    }

    /// How a file is opened in 9P2000 and 9P2000.u. No bits: for reading.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct OpenMode: u8 {
        /// `OWRITE`: for writing only.
        const WRITE_ONLY = 1;
        /// `ORDWR`: for reading and writing.
        const READ_WRITE = 2;
        /// `OEXEC`: for reading, with execute permission checked. Both low bits; not a flag of its own.
        const EXECUTE = 3;
        /// `OTRUNC`: empty the file.
        const TRUNCATE = 0x10;
        /// `ORCLOSE`: remove the file when the fid is clunked.
        const REMOVE_ON_CLOSE = 0x40;
        /// `OAPPEND`, 9P2000.u only: every write goes to the end.
        const APPEND = 0x80;
    }

    /// Permissions and kind of a file in 9P2000 and 9P2000.u ([`Stat::mode`](super::Stat::mode) and
    /// Tcreate's perm): the nine low bits are Unix's `rwxrwxrwx`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct DirMode: u32 {
        /// `DMDIR`: directory.
        const DIR = 0x8000_0000;
        /// `DMAPPEND`: append-only.
        const APPEND = 0x4000_0000;
        /// `DMEXCL`: exclusive use.
        const EXCLUSIVE = 0x2000_0000;
        /// `DMMOUNT`: mount point.
        const MOUNT = 0x1000_0000;
        /// `DMAUTH`: authentication file.
        const AUTH = 0x0800_0000;
        /// `DMTMP`: not backed up.
        const TMP = 0x0400_0000;
        /// `DMSYMLINK`, 9P2000.u: symbolic link, the extension is its target.
        const SYMLINK = 0x0200_0000;
        /// `DMLINK`, 9P2000.u: hard link, the extension is the fid it is to.
        const LINK = 0x0100_0000;
        /// `DMDEVICE`, 9P2000.u: device, the extension is "b MAJOR MINOR" or "c MAJOR MINOR".
        const DEVICE = 0x0080_0000;
        /// `DMNAMEDPIPE`, 9P2000.u: FIFO.
        const NAMED_PIPE = 0x0020_0000;
        /// `DMSOCKET`, 9P2000.u: socket.
        const SOCKET = 0x0010_0000;
        /// `DMSETUID`, 9P2000.u.
        const SET_UID = 0x0008_0000;
        /// `DMSETGID`, 9P2000.u.
        const SET_GID = 0x0004_0000;
        /// `DMSETVTX`, 9P2000.u: sticky.
        const STICKY = 0x0001_0000;
        /// The permission bits.
        const PERMISSIONS = 0o777;
    }

    /// Which fields of [`Attr`](super::Attr) are asked for, or are valid.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AttrMask: u64 {
        /// `mode`.
        const MODE = 0x1;
        /// `nlink`.
        const NLINK = 0x2;
        /// `uid`.
        const UID = 0x4;
        /// `gid`.
        const GID = 0x8;
        /// `rdev`.
        const RDEV = 0x10;
        /// `atime`.
        const ATIME = 0x20;
        /// `mtime`.
        const MTIME = 0x40;
        /// `ctime`.
        const CTIME = 0x80;
        /// `qid` (its path is the inode number).
        const INO = 0x100;
        /// `size`.
        const SIZE = 0x200;
        /// `blocks`.
        const BLOCKS = 0x400;
        /// `btime`.
        const BTIME = 0x800;
        /// `generation`.
        const GENERATION = 0x1000;
        /// `data_version`.
        const DATA_VERSION = 0x2000;
        /// Everything up to `blocks`: what `stat(2)` knows.
        const BASIC = 0x7ff;
        /// Everything.
        const ALL = 0x3fff;
    }

    /// Which fields of [`SetAttr`](super::SetAttr) are to be set.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SetAttrMask: u32 {
        /// `mode`.
        const MODE = 0x1;
        /// `uid`.
        const UID = 0x2;
        /// `gid`.
        const GID = 0x4;
        /// `size`: truncate or extend.
        const SIZE = 0x8;
        /// The time of last access: to the server's now, or with [`ATIME_SET`](Self::ATIME_SET) to `atime`.
        const ATIME = 0x10;
        /// The time of last change: to the server's now, or with [`MTIME_SET`](Self::MTIME_SET) to `mtime`.
        const MTIME = 0x20;
        /// The time of last change of the attributes, to the server's now.
        const CTIME = 0x40;
        /// `atime` counts.
        const ATIME_SET = 0x80;
        /// `mtime` counts.
        const MTIME_SET = 0x100;
    }

    /// How Tlock behaves.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct LockFlags: u32 {
        /// Wait for the lock. No server known waits: the answer is [`LockStatus::BLOCKED`].
        const BLOCK = 1;
        /// Take back a lock held before the server restarted.
        const RECLAIM = 2;
    }

    /// What Tunlinkat removes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct UnlinkFlags: u32 {
        /// `AT_REMOVEDIR`: an empty directory; without it anything but a directory.
        const REMOVE_DIR = 0x200;
    }

    /// How Txattrcreate treats an attribute that exists, or doesn't.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct XattrFlags: u32 {
        /// `XATTR_CREATE`: fail if it exists.
        const CREATE = 1;
        /// `XATTR_REPLACE`: fail if it doesn't.
        const REPLACE = 2;
    }

    /// The low twelve bits of a Unix file mode; see [`FileKind`] for the others.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ModeBits: u32 {
        /// `S_ISUID`.
        const SET_UID = 0o4000;
        /// `S_ISGID`.
        const SET_GID = 0o2000;
        /// `S_ISVTX`.
        const STICKY = 0o1000;
        /// `rwx` of owner, group and others.
        const PERMISSIONS = 0o777;
    }
}

/// What a Unix file mode says that a file is: its bits under `S_IFMT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKind(u32);

impl FileKind {
    /// The bits of a mode that hold the kind (`S_IFMT`).
    pub const MASK: u32 = 0o170000;
    /// `S_IFSOCK`.
    pub const SOCKET: FileKind = FileKind(0o140000);
    /// `S_IFLNK`.
    pub const SYMLINK: FileKind = FileKind(0o120000);
    /// `S_IFREG`.
    pub const REGULAR: FileKind = FileKind(0o100000);
    /// `S_IFBLK`.
    pub const BLOCK_DEVICE: FileKind = FileKind(0o060000);
    /// `S_IFDIR`.
    pub const DIR: FileKind = FileKind(0o040000);
    /// `S_IFCHR`.
    pub const CHAR_DEVICE: FileKind = FileKind(0o020000);
    /// `S_IFIFO`.
    pub const FIFO: FileKind = FileKind(0o010000);

    /// The kind in a file mode.
    pub const fn of_mode(mode: u32) -> FileKind {
        FileKind(mode & Self::MASK)
    }

    /// The bits as they stand in a mode.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// What a [`DirEntry`](super::DirEntry) says that the file is: Linux's `DT_` numbers, which are a
/// mode's kind shifted right by 12.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DirEntryKind(pub u8);

impl DirEntryKind {
    /// `DT_UNKNOWN`: ask with Tgetattr. QEMU's mapped security models answer this.
    pub const UNKNOWN: DirEntryKind = DirEntryKind(0);

    /// The entry kind for a file kind.
    pub const fn of(kind: FileKind) -> DirEntryKind {
        DirEntryKind((kind.0 >> 12) as u8)
    }

    /// The file kind, `None` when it isn't known or isn't one.
    pub const fn file_kind(self) -> Option<FileKind> {
        match self.0 {
            1 | 2 | 4 | 6 | 8 | 10 | 12 => Some(FileKind((self.0 as u32) << 12)),
            _ => None,
        }
    }
}

/// The kind of a byte-range lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockKind(pub u8);

impl LockKind {
    /// Shared.
    pub const READ: LockKind = LockKind(0);
    /// Exclusive.
    pub const WRITE: LockKind = LockKind(1);
    /// None: in Tlock releases, in Rgetlock says that nothing is in the way.
    pub const UNLOCK: LockKind = LockKind(2);
}

/// What came of a Tlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockStatus(pub u8);

impl LockStatus {
    /// The lock is held.
    pub const SUCCESS: LockStatus = LockStatus(0);
    /// Someone else holds it; ask again later.
    pub const BLOCKED: LockStatus = LockStatus(1);
    /// It failed.
    pub const ERROR: LockStatus = LockStatus(2);
    /// The server has just restarted and takes only reclaims.
    pub const GRACE: LockStatus = LockStatus(3);
}

macro_rules! flag_fields {
    ($($t:ty),*) => {$(
        impl Field<'_> for $t {
            fn put(&self, w: &mut Writer<'_>) {
                self.bits().put(w);
            }

            fn get(r: &mut Reader<'_>) -> Self {
                <$t>::from_bits_retain(Field::get(r))
            }
        }
    )*};
}
flag_fields!(
    QidKind,
    OpenFlags,
    OpenMode,
    DirMode,
    AttrMask,
    SetAttrMask,
    LockFlags,
    UnlinkFlags,
    XattrFlags
);

macro_rules! number_fields {
    ($($t:ident),*) => {$(
        impl Field<'_> for $t {
            fn put(&self, w: &mut Writer<'_>) {
                self.0.put(w);
            }

            fn get(r: &mut Reader<'_>) -> Self {
                $t(Field::get(r))
            }
        }
    )*};
}
number_fields!(DirEntryKind, LockKind, LockStatus);
