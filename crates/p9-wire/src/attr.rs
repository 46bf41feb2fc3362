//! Attributes of files and file systems in 9P2000.L.

use super::buffer::{Field, Reader, Writer};
use super::flags::{AttrMask, SetAttrMask};
use super::types::Qid;

/// Declares a structure whose fields stand on the wire in the order written.
macro_rules! structure {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident: $t:ty,)* }
    ) => {
        $(#[$meta])*
        pub struct $name { $($(#[$fmeta])* pub $field: $t,)* }

        impl Field<'_> for $name {
            fn put(&self, w: &mut Writer<'_>) {
                $(self.$field.put(w);)*
            }

            fn get(r: &mut Reader<'_>) -> Self {
                $name { $($field: Field::get(r),)* }
            }
        }
    };
}

structure! {
    /// A point in time, since 1970-01-01 00:00 UTC. As servers send it: nothing keeps `nanos` below
    /// a second.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Time {
        /// Seconds; a time before 1970 is negative in two's complement.
        pub secs: u64,
        /// Nanoseconds.
        pub nanos: u64,
    }
}

structure! {
    /// The attributes of a file (Rgetattr).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Attr {
        /// Which of the fields below count.
        pub valid: AttrMask,
        /// Identity.
        pub qid: Qid,
        /// Permissions and kind; see [`FileKind`](super::FileKind) and [`ModeBits`](super::ModeBits).
        pub mode: u32,
        /// Owner.
        pub uid: u32,
        /// Group.
        pub gid: u32,
        /// Number of hard links.
        pub nlink: u64,
        /// Device number, of a device.
        pub rdev: u64,
        /// Size in bytes.
        pub size: u64,
        /// Preferred size of reads and writes; QEMU derives it from msize.
        pub blksize: u64,
        /// Blocks of 512 bytes in use.
        pub blocks: u64,
        /// Last access.
        pub atime: Time,
        /// Last change of the content.
        pub mtime: Time,
        /// Last change of the attributes.
        pub ctime: Time,
        /// Creation.
        pub btime: Time,
        /// Generation of the inode.
        pub generation: u64,
        /// Version of the content.
        pub data_version: u64,
    }
}

structure! {
    /// New attributes of a file (Tsetattr). Servers apply them one after the other (QEMU: mode,
    /// times, owner, size): after an error some may have been set.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SetAttr {
        /// Which of the fields below count.
        pub valid: SetAttrMask,
        /// Permissions.
        pub mode: u32,
        /// Owner.
        pub uid: u32,
        /// Group.
        pub gid: u32,
        /// Size in bytes.
        pub size: u64,
        /// Last access.
        pub atime: Time,
        /// Last change of the content.
        pub mtime: Time,
    }
}

structure! {
    /// What is known of a file system (Rstatfs).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Statfs {
        /// Kind of file system: Linux's magic number.
        pub kind: u32,
        /// Size of the blocks that the counts are in; QEMU makes it close to msize.
        pub bsize: u32,
        /// Blocks in all.
        pub blocks: u64,
        /// Free blocks.
        pub bfree: u64,
        /// Free blocks for unprivileged users.
        pub bavail: u64,
        /// Inodes in all.
        pub files: u64,
        /// Free inodes.
        pub ffree: u64,
        /// Identity of the file system.
        pub fsid: u64,
        /// The longest name, in bytes.
        pub namelen: u32,
    }
}
