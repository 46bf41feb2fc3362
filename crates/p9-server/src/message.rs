//! What the bytes of a request say.

use p9_tree::Node;
use p9_wire::{Dialect, Fid, HEADER_LEN, Reader, Request, WireError, kind};

use crate::job::{Job, Work};

/// Bytes of a message that [`Job::foresee`] wants: the header and a fid.
pub const BEGINNING: usize = HEADER_LEN + 4;

impl<N: Node> Job<'_, N> {
    /// Lets a Twalk do no more than the requests need that came behind it on its lane: where a peer asks for the attributes of a
    /// file, or whether it is there, and lets go of it at once, the tree need not open it. `ahead` has the beginning of the nth of
    /// them, from 0 on, if all of that message has come.
    ///
    /// What the peer sends in the end may be something else: that is only slower.
    pub fn foresee(&mut self, mut ahead: impl FnMut(usize) -> Option<[u8; BEGINNING]>) {
        let Some(Request::Walk { fid, newfid, .. }) = self.head.request else {
            return;
        };
        let Work::Walk { way, .. } = &mut self.work else {
            return;
        };
        // What moves a fid leaves it where it is if it fails.
        if newfid == fid {
            return;
        }
        let next = ahead(0);
        way.only_look = is(next, kind::TCLUNK, newfid)
            || is(next, kind::TGETATTR, newfid) && is(ahead(1), kind::TCLUNK, newfid);
    }
}

/// Whether a message is this request about this fid.
fn is(message: Option<[u8; BEGINNING]>, kind: u8, fid: Fid) -> bool {
    message.is_some_and(|message| {
        message.get(4) == Some(&kind) && message.get(HEADER_LEN..) == Some(&fid.0.to_le_bytes())
    })
}

/// Whether a message is a request that can take long on a healthy machine, so that those behind it had better not wait for
/// it: Tfsync waits for a disk, Tstatfs for a server where a directory is another machine's.
pub fn may_take_long(message: &[u8]) -> bool {
    matches!(message.get(4), Some(&(kind::TFSYNC | kind::TSTATFS)))
}

/// Decodes a message. In 9P2000.L, those of 9P2000.u are taken, too, as QEMU does: Unikraft makes its directories by Tcreate.
pub(crate) fn decode(
    message: &[u8],
    dialect: Dialect,
) -> Result<(Dialect, Request<'_>), WireError> {
    let decoded = Request::decode(Reader::new(message, dialect));
    match decoded {
        Err(WireError::Kind { .. }) if dialect == Dialect::Linux => {
            let decoded = Request::decode(Reader::new(message, Dialect::Unix));
            decoded.map(|(_, request)| (Dialect::Unix, request))
        }
        _ => decoded.map(|(_, request)| (dialect, request)),
    }
}
