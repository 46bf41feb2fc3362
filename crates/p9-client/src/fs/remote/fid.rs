//! What a fid's dialect can do.

use crate::Dialect;
use crate::fs::{Error, Result};
use crate::session::Fid;

/// The error for a request, by its type, that the dialect lacks.
pub(super) fn unsupported(fid: &Fid, request: u8) -> Error {
    Error::Unsupported {
        request,
        dialect: fid.session().dialect(),
    }
}

/// Whether the dialect is 9P2000.L.
pub(super) fn is_linux(fid: &Fid) -> bool {
    fid.session().dialect() == Dialect::Linux
}

/// Refuses what takes a request of this type unless the dialect is 9P2000.L.
pub(super) fn only_linux(fid: &Fid, request: u8) -> Result<()> {
    match is_linux(fid) {
        true => Ok(()),
        false => Err(unsupported(fid, request)),
    }
}
