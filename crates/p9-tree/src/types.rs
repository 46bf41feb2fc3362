//! Small types of operations on files.

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
