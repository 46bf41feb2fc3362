//! Extended attributes.

use alloc::vec::Vec;

use super::fid::only_linux;
use crate::fs::{Error, Result};
use crate::session::Fid;
use p9_wire::{XattrFlags, kind};

/// The largest value, in bytes (Linux's XATTR_SIZE_MAX and XATTR_LIST_MAX).
pub(super) const VALUE_MAX: u64 = 65_536;

/// Does all of `work` again when the fid of the attribute is lost with a connection, which no server gives again: nothing is
/// changed by then.
pub(super) async fn whole<T>(work: impl AsyncFn() -> Result<T>) -> Result<T> {
    /// As often as a request is made again.
    const MOST: usize = 3;

    for _ in 0..MOST {
        match work().await {
            Err(Error::Stale) => {}
            result => return result,
        }
    }
    work().await
}

/// Sets or, without a value, removes an attribute of the file of a fid, which is used up.
pub(super) async fn write_all(
    mut fid: Fid,
    name: &[u8],
    value: &[u8],
    flags: XattrFlags,
) -> Result<()> {
    fid.xattrcreate(name, value.len() as u64, flags).await?;
    let mut done = 0;
    while let Some(rest) = value.get(done..).filter(|rest| !rest.is_empty()) {
        done += fid.write_at(done as u64, rest, 0, true).await?;
    }
    // Only now the server sets it, and says whether that went well.
    fid.close().await
}

/// Refuses names that no server should see.
pub(super) fn check(name: &[u8]) -> Result<&[u8]> {
    if name.is_empty() || name.contains(&0) {
        return Err(Error::InvalidInput(
            &"the name of an extended attribute is empty or has a NUL in it",
        ));
    }
    if name.len() > 255 {
        return Err(Error::NameTooLong);
    }
    Ok(name)
}

pub(super) async fn read_all(file: &Fid, name: &[u8]) -> Result<Vec<u8>> {
    only_linux(file, kind::TXATTRWALK)?;
    let (fid, size) = file.xattrwalk(name).await?;
    let size = usize::try_from(size)
        .ok()
        .filter(|&size| size as u64 <= VALUE_MAX)
        // Some file systems have larger ones, which no program on Linux gets to see either.
        .ok_or(p9_wire::Errno::E2BIG)?;
    let mut value = Vec::new();
    value
        .try_reserve_exact(size)
        .map_err(|_| Error::OutOfMemory)?;
    value.resize(size, 0);
    let mut done = 0;
    while let Some(rest) = value.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match fid.read_at(done as u64, rest, 0).await? {
            0 => break,
            count => done += count,
        }
    }
    value.truncate(done);
    Ok(value)
}
