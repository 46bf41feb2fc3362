//! How large a reply can get.

use super::message::READ_HEADER_LEN;
use super::request::Request;
use super::types::Dialect;

/// The longest name of a file, user or group that servers on Linux have (`NAME_MAX`).
const NAME_MAX: u32 = 255;
/// The longest target of a symbolic link, or text of an error, that is reckoned with.
const PATH_MAX: u32 = 4096;
/// Rerror with a text of up to 255 bytes, as strerror(3) and Plan 9 (`ERRMAX` 128) give.
const RERROR_MAX: u32 = 7 + 2 + 255 + 4;
const RLERROR: u32 = 11;

impl Request<'_> {
    /// The size in bytes of the largest reply that a sound server gives to this request, an error
    /// included; what has to be kept free for it on a transport where the server doesn't look.
    ///
    /// May be more than `msize` where a file decides: the target of a link, the names in a stat. Servers answer with those
    /// whatever the message size is. Everything else is cut to `msize`, except where that is less than an error takes.
    pub fn max_reply(&self, dialect: Dialect, msize: u32) -> u32 {
        let data = |count: u32| count.saturating_add(READ_HEADER_LEN as u32);
        let answer = match self {
            Request::Version { version, .. } => 13 + len(version).max(len(b"9P2000.L")),
            Request::Auth { .. } | Request::Attach { .. } => 20,
            Request::Walk { names, .. } => 9 + 13 * names.len() as u32,
            Request::Open { .. }
            | Request::Create { .. }
            | Request::Lopen { .. }
            | Request::Lcreate { .. } => 24,
            Request::Read { count, .. } | Request::Readdir { count, .. } => data(*count),
            Request::Write { .. } => 11,
            Request::Stat { .. } => 9 + 63 + 4 * NAME_MAX + PATH_MAX,
            Request::Statfs { .. } => 67,
            Request::Symlink { .. } | Request::Mknod { .. } | Request::Mkdir { .. } => 20,
            Request::Readlink { .. } => 9 + PATH_MAX,
            Request::Getattr { .. } => 160,
            Request::Xattrwalk { .. } => 15,
            Request::Lock { .. } => 8,
            Request::Getlock { client_id, .. } => 30 + len(client_id).max(NAME_MAX),
            Request::Flush { .. }
            | Request::Clunk { .. }
            | Request::Remove { .. }
            | Request::Wstat { .. }
            | Request::Rename { .. }
            | Request::Setattr { .. }
            | Request::Xattrcreate { .. }
            | Request::Fsync { .. }
            | Request::Link { .. }
            | Request::Renameat { .. }
            | Request::Unlinkat { .. } => 7,
        };
        // Before the dialect is agreed, QEMU's errors are in words whatever was asked for.
        let error = match (self, dialect) {
            (Request::Version { .. }, _) | (_, Dialect::Unix | Dialect::Plan9) => RERROR_MAX,
            (_, Dialect::Linux) => RLERROR,
        };
        let most = match self {
            Request::Readlink { .. } | Request::Stat { .. } => answer,
            _ => answer.min(msize),
        };
        most.max(error)
    }
}

/// The length of a string, none being longer than its two bytes of length can say.
fn len(string: &[u8]) -> u32 {
    string.len().min(usize::from(u16::MAX)) as u32
}
