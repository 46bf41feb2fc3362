//! Memory whose size a peer decides: names, targets of links, listings. There may not be enough of it.

use alloc::vec::Vec;

use crate::{Error, Result};

/// A copy of bytes that a peer sent.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn try_copy(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len())
        .map_err(|_| Error::OutOfMemory)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Adds to a list that is as long as a peer likes.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn try_push<T>(list: &mut Vec<T>, item: T) -> Result<()> {
    list.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
    list.push(item);
    Ok(())
}
