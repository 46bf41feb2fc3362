//! Replies: what a server sends.

use super::attr::{Attr, Statfs};
use super::buffer::Reader;
use super::error::WireError;
use super::flags::*;
use super::message::{Decoder, Encoder, Spoken, count, messages};
use super::stat::Stat;
use super::types::{Dialect, Payload, Qid, Qids, Tag};
use crate::errno::Errno;

messages! {
    /// A reply. Its type is that of the request plus 1, or it is an error.
    pub enum Reply<'a> {
        /// The dialect and message size agreed.
        Version = RVERSION(101, "Rversion") in Everywhere {
            /// The largest message, in bytes. Not to be trusted: servers send 0 with "unknown".
            msize: u32,
            /// The dialect, or "unknown".
            version: &'a [u8],
        };
        /// The authentication file is ready.
        Auth = RAUTH(103, "Rauth") in Everywhere {
            /// Its identity.
            aqid: Qid,
        };
        /// Why the request failed, in words.
        Error = RERROR(107, "Rerror") in Everywhere {
            /// The words.
            ename: &'a [u8],
            /// The number; 0 in 9P2000.
            errno: u32 = 0,
        };
        /// The tree's root.
        Attach = RATTACH(105, "Rattach") in Everywhere {
            /// Its identity.
            qid: Qid,
        };
        /// The request is over: answered before this, or never.
        Flush = RFLUSH(109, "Rflush") in Everywhere;
        /// How far the walk went. The new fid exists only if it went all the way (but diod).
        Walk = RWALK(111, "Rwalk") in Everywhere {
            /// The identity of each file on the way.
            qids: Qids,
        };
        /// Bytes of the file; none: its end. In 9P2000 and 9P2000.u, of a directory: see
        /// [`StatEntries`](super::StatEntries).
        Read = RREAD(117, "Rread") in Everywhere {
            /// The bytes.
            data: Payload<'a>,
        };
        /// The data is written.
        Write = RWRITE(119, "Rwrite") in Everywhere {
            /// How much of it.
            count: u32,
        };
        /// The fid is forgotten.
        Clunk = RCLUNK(121, "Rclunk") in Everywhere;
        /// The file is removed, the fid forgotten.
        Remove = RREMOVE(123, "Rremove") in Everywhere;

        /// The file is open.
        Open = ROPEN(113, "Ropen") in Classic {
            /// Its identity.
            qid: Qid,
            /// The most bytes that are read or written in one piece, or 0.
            iounit: u32,
        };
        /// The file exists and is open.
        Create = RCREATE(115, "Rcreate") in Classic {
            /// Its identity.
            qid: Qid,
            /// The most bytes that are read or written in one piece, or 0.
            iounit: u32,
        };
        /// The attributes.
        Stat = RSTAT(125, "Rstat") in Classic {
            /// The attributes.
            stat: Stat<'a>,
        };
        /// The attributes are changed, all or none.
        Wstat = RWSTAT(127, "Rwstat") in Classic;

        /// Why the request failed, as a Linux error number.
        Lerror = RLERROR(7, "Rlerror") in Everywhere {
            /// The number.
            ecode: u32,
        };
        /// What is known of the file system.
        Statfs = RSTATFS(9, "Rstatfs") in Linux {
            /// That.
            statfs: Statfs,
        };
        /// The file is open.
        Lopen = RLOPEN(13, "Rlopen") in Linux {
            /// Its identity.
            qid: Qid,
            /// The most bytes that are read or written in one piece, or 0.
            iounit: u32,
        };
        /// The file exists and is open.
        Lcreate = RLCREATE(15, "Rlcreate") in Linux {
            /// Its identity.
            qid: Qid,
            /// The most bytes that are read or written in one piece, or 0.
            iounit: u32,
        };
        /// The symbolic link exists.
        Symlink = RSYMLINK(17, "Rsymlink") in Linux {
            /// Its identity.
            qid: Qid,
        };
        /// The device, FIFO, socket or file exists.
        Mknod = RMKNOD(19, "Rmknod") in Linux {
            /// Its identity.
            qid: Qid,
        };
        /// The file is renamed.
        Rename = RRENAME(21, "Rrename") in Linux;
        /// Where the symbolic link points to.
        Readlink = RREADLINK(23, "Rreadlink") in Linux {
            /// A path.
            target: &'a [u8],
        };
        /// The attributes.
        Getattr = RGETATTR(25, "Rgetattr") in Linux {
            /// The attributes.
            attr: Attr,
        };
        /// The attributes are changed.
        Setattr = RSETATTR(27, "Rsetattr") in Linux;
        /// The extended attribute can be read.
        Xattrwalk = RXATTRWALK(31, "Rxattrwalk") in Linux {
            /// Its size in bytes.
            size: u64,
        };
        /// The extended attribute can be written.
        Xattrcreate = RXATTRCREATE(33, "Rxattrcreate") in Linux;
        /// Entries of the directory; none: its end.
        Readdir = RREADDIR(41, "Rreaddir") in Linux {
            /// See [`DirEntries`](super::DirEntries).
            data: Payload<'a>,
        };
        /// The file is on stable storage.
        Fsync = RFSYNC(51, "Rfsync") in Linux;
        /// What came of the lock.
        Lock = RLOCK(53, "Rlock") in Linux {
            /// That.
            status: LockStatus,
        };
        /// The lock that is in the way.
        Getlock = RGETLOCK(55, "Rgetlock") in Linux {
            /// Which lock; [`LockKind::UNLOCK`]: none is.
            kind: LockKind,
            /// First byte.
            start: u64,
            /// Number of bytes; 0: to the end.
            length: u64,
            /// Number of the process that holds it.
            proc_id: u32,
            /// Name of the machine that holds it.
            client_id: &'a [u8],
        };
        /// The hard link exists.
        Link = RLINK(71, "Rlink") in Linux;
        /// The directory exists.
        Mkdir = RMKDIR(73, "Rmkdir") in Linux {
            /// Its identity.
            qid: Qid,
        };
        /// The file is renamed.
        Renameat = RRENAMEAT(75, "Rrenameat") in Linux;
        /// The file is removed.
        Unlinkat = RUNLINKAT(77, "Runlinkat") in Linux;
    }
}

impl<'a> Reply<'a> {
    /// The bulk data, empty but in [`Read`](Self::Read) and [`Readdir`](Self::Readdir).
    pub const fn payload(&self) -> Payload<'a> {
        match self {
            Reply::Read { data } | Reply::Readdir { data } => *data,
            _ => Payload(&[], &[]),
        }
    }

    /// The error, if the reply is one.
    ///
    /// An Rerror's number counts if it can be Linux's (below 512); otherwise its words do, and
    /// words that say nothing are [`EIO`](Errno::EIO).
    pub fn errno(&self) -> Option<Errno> {
        match *self {
            Reply::Lerror { ecode } => Some(Errno::from_wire(ecode)),
            Reply::Error { errno, .. } if (1..512).contains(&errno) => {
                Some(Errno::from_wire(errno))
            }
            Reply::Error { ename, .. } => Some(Errno::from_text(ename).unwrap_or(Errno::EIO)),
            _ => None,
        }
    }
}
