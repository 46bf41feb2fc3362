//! Files, with the names and habits of `std::fs`.
//!
//! [`Fs`] is a mounted tree, [`File`] an open file; their methods block. [`aio`] has the same
//! operations as `async` functions for any executor; both are thin faces of one engine, the
//! [session](crate::p9::session), and can be used side by side.
#![forbid(unsafe_code)]

pub mod aio;
mod blocking;
mod metadata;
mod options;
mod path;

pub use blocking::{DirEntry, File, FileLock, Fs, ReadDir, WithMetadata};
pub use metadata::{FileTimes, FileType, Metadata, Permissions, StatFs, SystemTime};
pub use options::{MountOptions, OpenOptions};

pub use crate::p9::Error;

/// What operations on files return.
pub type Result<T> = core::result::Result<T, Error>;

/// Where to move a file's position to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekFrom {
    /// This many bytes after the beginning.
    Start(u64),
    /// This many bytes after the end, or before it if negative.
    End(i64),
    /// This many bytes after the present position, or before it if negative.
    Current(i64),
}

/// Bytes of a file, to be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRange {
    /// The first byte.
    pub start: u64,
    /// How many; 0 means to the end of the file, however far it grows.
    pub length: u64,
}

impl LockRange {
    /// The whole file.
    pub const ALL: LockRange = LockRange {
        start: 0,
        length: 0,
    };
}
