//! Requests: what a client sends.

use super::attr::SetAttr;
use super::buffer::Reader;
use super::error::WireError;
use super::flags::*;
use super::message::{Decoder, Encoder, Spoken, count, messages};
use super::stat::Stat;
use super::types::{Dialect, Fid, NO_USER, Names, Payload, Tag};

const NO_EXTENSION: &[u8] = &[];

messages! {
    /// A request. Field names are those of the manual pages and of Linux's v9fs.
    pub enum Request<'a> {
        /// Opens the conversation: agrees on dialect and message size and forgets all fids.
        Version = TVERSION(100, "Tversion") in Everywhere {
            /// The largest message wanted, in bytes.
            msize: u32,
            /// The dialect wanted, see [`Dialect::version`].
            version: &'a [u8],
        };
        /// Makes `afid` a file to prove one's identity on.
        Auth = TAUTH(102, "Tauth") in Everywhere {
            /// A fid not in use.
            afid: Fid,
            /// Name of the user.
            uname: &'a [u8],
            /// The tree wanted.
            aname: &'a [u8],
            /// Number of the user, or [`NO_USER`].
            n_uname: u32 = NO_USER,
        };
        /// Makes `fid` the root of a tree.
        Attach = TATTACH(104, "Tattach") in Everywhere {
            /// A fid not in use.
            fid: Fid,
            /// The fid that the user was authenticated on, or [`Fid::NONE`].
            afid: Fid,
            /// Name of the user.
            uname: &'a [u8],
            /// The tree wanted. diod wants an absolute path; others don't care.
            aname: &'a [u8],
            /// Number of the user, or [`NO_USER`].
            n_uname: u32 = NO_USER,
        };
        /// Takes a request back.
        Flush = TFLUSH(108, "Tflush") in Everywhere {
            /// The request's tag.
            oldtag: Tag,
        };
        /// Makes `newfid` what one gets to from `fid` by `names`.
        Walk = TWALK(110, "Twalk") in Everywhere {
            /// Where to start.
            fid: Fid,
            /// A fid not in use, or `fid`.
            newfid: Fid,
            /// The way; none: `newfid` becomes another `fid`.
            names: Names<'a>,
        };
        /// Reads from an open file.
        Read = TREAD(116, "Tread") in Everywhere {
            /// The file.
            fid: Fid,
            /// Where to start, in bytes.
            offset: u64,
            /// How many bytes at most.
            count: u32,
        };
        /// Writes to an open file.
        Write = TWRITE(118, "Twrite") in Everywhere {
            /// The file.
            fid: Fid,
            /// Where to start, in bytes.
            offset: u64,
            /// The bytes.
            data: Payload<'a>,
        };
        /// Forgets a fid. It is gone even when the answer is an error.
        Clunk = TCLUNK(120, "Tclunk") in Everywhere {
            /// The fid.
            fid: Fid,
        };
        /// Removes the file and forgets the fid, the latter even when the answer is an error.
        Remove = TREMOVE(122, "Tremove") in Everywhere {
            /// The file.
            fid: Fid,
        };

        /// Opens a file.
        Open = TOPEN(112, "Topen") in Classic {
            /// The file.
            fid: Fid,
            /// How.
            mode: OpenMode,
        };
        /// Creates a file in the directory `fid` and opens it; `fid` becomes the file.
        Create = TCREATE(114, "Tcreate") in Classic {
            /// The directory.
            fid: Fid,
            /// The file's name.
            name: &'a [u8],
            /// Its permissions and kind.
            perm: DirMode,
            /// How to open it.
            mode: OpenMode,
            /// What the kind needs besides, see [`DirMode`].
            extension: &'a [u8] = NO_EXTENSION,
        };
        /// Asks for the attributes.
        Stat = TSTAT(124, "Tstat") in Classic {
            /// The file. Not the root of xen-9pfsd, which dies of it.
            fid: Fid,
        };
        /// Changes attributes.
        Wstat = TWSTAT(126, "Twstat") in Classic {
            /// The file.
            fid: Fid,
            /// The new attributes; start from [`Stat::UNCHANGED`].
            stat: Stat<'a>,
        };

        /// Asks about the file system.
        Statfs = TSTATFS(8, "Tstatfs") in Linux {
            /// Any file on it.
            fid: Fid,
        };
        /// Opens a file.
        Lopen = TLOPEN(12, "Tlopen") in Linux {
            /// The file.
            fid: Fid,
            /// How.
            flags: OpenFlags,
        };
        /// Creates a regular file in the directory `fid` and opens it; `fid` becomes the file.
        Lcreate = TLCREATE(14, "Tlcreate") in Linux {
            /// The directory.
            fid: Fid,
            /// The file's name.
            name: &'a [u8],
            /// How to open it.
            flags: OpenFlags,
            /// Its permissions.
            mode: u32,
            /// Its group.
            gid: u32,
        };
        /// Creates a symbolic link.
        Symlink = TSYMLINK(16, "Tsymlink") in Linux {
            /// The directory.
            dfid: Fid,
            /// The link's name.
            name: &'a [u8],
            /// What it points to.
            target: &'a [u8],
            /// Its group.
            gid: u32,
        };
        /// Creates a device, FIFO, socket or regular file.
        Mknod = TMKNOD(18, "Tmknod") in Linux {
            /// The directory.
            dfid: Fid,
            /// The file's name.
            name: &'a [u8],
            /// Its permissions and kind.
            mode: u32,
            /// Major number, of a device.
            major: u32,
            /// Minor number, of a device.
            minor: u32,
            /// Its group.
            gid: u32,
        };
        /// Renames a file, possibly into another directory.
        Rename = TRENAME(20, "Trename") in Linux {
            /// The file.
            fid: Fid,
            /// The directory to put it in.
            dfid: Fid,
            /// Its new name.
            name: &'a [u8],
        };
        /// Asks where a symbolic link points to.
        Readlink = TREADLINK(22, "Treadlink") in Linux {
            /// The link.
            fid: Fid,
        };
        /// Asks for the attributes.
        Getattr = TGETATTR(24, "Tgetattr") in Linux {
            /// The file.
            fid: Fid,
            /// Which ones.
            mask: AttrMask,
        };
        /// Changes attributes.
        Setattr = TSETATTR(26, "Tsetattr") in Linux {
            /// The file.
            fid: Fid,
            /// The new attributes.
            attr: SetAttr,
        };
        /// Makes `newfid` an extended attribute to read, or the list of their names.
        Xattrwalk = TXATTRWALK(30, "Txattrwalk") in Linux {
            /// The file.
            fid: Fid,
            /// A fid not in use.
            newfid: Fid,
            /// The attribute's name; empty: the list.
            name: &'a [u8],
        };
        /// Makes `fid` an extended attribute to write. It is set when the fid is clunked.
        Xattrcreate = TXATTRCREATE(32, "Txattrcreate") in Linux {
            /// The file.
            fid: Fid,
            /// The attribute's name.
            name: &'a [u8],
            /// The value's size in bytes, exactly; 0 removes the attribute.
            size: u64,
            /// Whether it may, or must, exist.
            flags: XattrFlags,
        };
        /// Reads entries of an open directory.
        Readdir = TREADDIR(40, "Treaddir") in Linux {
            /// The directory.
            fid: Fid,
            /// Where to go on: 0, or the offset of the last entry read.
            offset: u64,
            /// How many bytes of entries at most. Less than the next entry needs reads as the end.
            count: u32,
        };
        /// Waits until a file is on stable storage.
        Fsync = TFSYNC(50, "Tfsync") in Linux {
            /// The file.
            fid: Fid,
            /// Not 0: the attributes need not be.
            datasync: u32 = 0,
        };
        /// Takes or releases a lock on a range of bytes. QEMU always says yes, and locks nothing.
        Lock = TLOCK(52, "Tlock") in Linux {
            /// The file.
            fid: Fid,
            /// Which lock.
            kind: LockKind,
            /// How.
            flags: LockFlags,
            /// First byte.
            start: u64,
            /// Number of bytes; 0: to the end.
            length: u64,
            /// Number of the process that asks.
            proc_id: u32,
            /// Name of the machine that asks.
            client_id: &'a [u8],
        };
        /// Asks what lock is in the way of this one.
        Getlock = TGETLOCK(54, "Tgetlock") in Linux {
            /// The file.
            fid: Fid,
            /// Which lock.
            kind: LockKind,
            /// First byte.
            start: u64,
            /// Number of bytes; 0: to the end.
            length: u64,
            /// Number of the process that asks.
            proc_id: u32,
            /// Name of the machine that asks.
            client_id: &'a [u8],
        };
        /// Creates a hard link.
        Link = TLINK(70, "Tlink") in Linux {
            /// The directory.
            dfid: Fid,
            /// What to link to.
            fid: Fid,
            /// The link's name.
            name: &'a [u8],
        };
        /// Creates a directory.
        Mkdir = TMKDIR(72, "Tmkdir") in Linux {
            /// The directory to create it in.
            dfid: Fid,
            /// Its name.
            name: &'a [u8],
            /// Its permissions.
            mode: u32,
            /// Its group.
            gid: u32,
        };
        /// Renames by directory and name.
        Renameat = TRENAMEAT(74, "Trenameat") in Linux {
            /// The directory it is in.
            olddirfid: Fid,
            /// Its name there.
            oldname: &'a [u8],
            /// The directory to put it in.
            newdirfid: Fid,
            /// Its new name.
            newname: &'a [u8],
        };
        /// Removes by directory and name.
        Unlinkat = TUNLINKAT(76, "Tunlinkat") in Linux {
            /// The directory it is in.
            dirfid: Fid,
            /// Its name there.
            name: &'a [u8],
            /// What may be removed.
            flags: UnlinkFlags,
        };
    }
}

impl<'a> Request<'a> {
    /// The bulk data, empty but in [`Write`](Self::Write).
    pub const fn payload(&self) -> Payload<'a> {
        match self {
            Request::Write { data, .. } => *data,
            _ => Payload(&[], &[]),
        }
    }
}
