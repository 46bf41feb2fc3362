//! What a fid's dialect can do.

use crate::Dialect;
use crate::fs::{Error, Result};
use crate::session::Fid;

/// The error for what the dialect lacks.
pub(super) fn unsupported(fid: &Fid, op: &'static str) -> Error {
    Error::Unsupported {
        op,
        dialect: fid.session().dialect(),
    }
}

/// Whether the dialect is 9P2000.L.
pub(super) fn is_linux(fid: &Fid) -> bool {
    fid.session().dialect() == Dialect::Linux
}

/// Refuses `op` unless the dialect is 9P2000.L.
pub(super) fn only_linux(fid: &Fid, op: &'static str) -> Result<()> {
    match is_linux(fid) {
        true => Ok(()),
        false => Err(unsupported(fid, op)),
    }
}
