//! What the bytes of a request say.

use p9_wire::{Dialect, Reader, Request, WireError, kind};

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
