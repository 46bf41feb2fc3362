//! What a peer may have, and what it has.

/// The most that one peer may have of everything that costs this side memory, descriptors or time. What goes beyond is
/// refused with an error; the peer keeps what it has.
///
/// ```
/// let mut limits = p9_server::Limits::default();
/// limits.fids = 100;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of the largest message that is agreed to.
    pub msize: u32,
    /// Fids; beyond: EMFILE.
    pub fids: usize,
    /// Files that are open, directories included; beyond: EMFILE.
    pub open_files: usize,
    /// Directories that are open; beyond: EMFILE.
    pub open_directories: usize,
    /// Files that the server knows the place of: those that fids stand for, and all directories above them; beyond:
    /// ENFILE.
    pub places: usize,
    /// Directories between a file and the root of its attach; beyond: ENAMETOOLONG.
    pub depth: usize,
    /// Requests that are not answered yet; beyond: EAGAIN. A front end that looks at
    /// [`Server::is_full`](crate::Server::is_full) leaves requests where they are instead.
    pub requests: usize,
    /// Bytes of requests that are not answered yet and of the data in their replies; beyond: EAGAIN.
    pub bytes_in_flight: usize,
    /// Ranges of files that are locked; beyond: ENOLCK.
    pub locks: usize,
    /// Bytes of one extended attribute; beyond: E2BIG.
    pub xattr_size: usize,
    /// Bytes of all extended attributes that are being read or written; beyond: ENOSPC.
    pub xattr_bytes: usize,
}

impl Default for Limits {
    /// Enough for a Linux guest that copies trees, in some megabytes of memory.
    fn default() -> Self {
        Limits {
            msize: 1 << 20,
            fids: 8192,
            open_files: 2048,
            open_directories: 512,
            places: 32_768,
            depth: 1024,
            requests: 512,
            bytes_in_flight: 32 << 20,
            locks: 1024,
            xattr_size: 64 << 10,
            xattr_bytes: 1 << 20,
        }
    }
}

/// What a peer has now, and how often it wanted more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Fids.
    pub fids: usize,
    /// Files that are open, directories included.
    pub open_files: usize,
    /// Directories that are open.
    pub open_directories: usize,
    /// Files that the server knows the place of.
    pub places: usize,
    /// Requests that are not answered yet.
    pub requests: usize,
    /// Bytes of these, and of the data in their replies.
    pub bytes_in_flight: usize,
    /// Ranges that are locked.
    pub locks: usize,
    /// Bytes of extended attributes that are being read or written.
    pub xattr_bytes: usize,
    /// Requests that were refused because of a limit, since the server was made.
    pub refused: u64,
}
