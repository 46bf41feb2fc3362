//! Extended attributes.

use alloc::vec::Vec;

use super::{Fs, node};
use crate::fs::{Error, Result};
use crate::session::Fid;
use p9_wire::XattrFlags;

/// The largest value, in bytes (Linux's XATTR_SIZE_MAX and XATTR_LIST_MAX).
pub(super) const VALUE_MAX: u64 = 65_536;

impl Fs {
    /// The asynchronous form of [`Fs::xattr`](crate::fs::Fs::xattr).
    ///
    /// # Errors
    /// See there.
    pub async fn xattr(&self, path: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        let name = check(name.as_ref())?;
        self.get_xattr(path.as_ref(), name).await
    }

    /// The asynchronous form of [`Fs::list_xattrs`](crate::fs::Fs::list_xattrs).
    ///
    /// # Errors
    /// See there.
    pub async fn list_xattrs(&self, path: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>> {
        let list = self.get_xattr(path.as_ref(), b"").await?;
        let names = list.split(|&byte| byte == 0);
        Ok(names
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect())
    }

    /// The asynchronous form of [`Fs::set_xattr`](crate::fs::Fs::set_xattr).
    ///
    /// # Errors
    /// See there.
    pub async fn set_xattr(
        &self,
        path: impl AsRef<[u8]>,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        let value = value.as_ref();
        if value.is_empty() {
            // A size of 0 means removal to the server.
            return Err(Error::InvalidInput("an extended attribute without a value"));
        }
        self.put_xattr(path.as_ref(), name.as_ref(), value, XattrFlags::empty())
            .await
    }

    /// The asynchronous form of [`Fs::remove_xattr`](crate::fs::Fs::remove_xattr).
    ///
    /// # Errors
    /// See there.
    pub async fn remove_xattr(&self, path: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<()> {
        self.put_xattr(path.as_ref(), name.as_ref(), b"", XattrFlags::REPLACE)
            .await
    }

    async fn get_xattr(&self, path: &[u8], name: &[u8]) -> Result<Vec<u8>> {
        whole(async || {
            let (handle, ..) = self.find(path, true).await?;
            read_all(handle.fid(), name).await
        })
        .await
    }

    async fn put_xattr(
        &self,
        path: &[u8],
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<()> {
        let name = check(name)?;
        if value.len() as u64 > VALUE_MAX {
            return Err(p9_wire::Errno::E2BIG.into());
        }
        whole(async || {
            let (handle, ..) = self.find(path, true).await?;
            node::only_linux(handle.fid(), "set_xattr")?;
            write_all(self.own(handle).await?, name, value, flags).await
        })
        .await
    }
}

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
            "the name of an extended attribute is empty or has a NUL in it",
        ));
    }
    if name.len() > 255 {
        return Err(Error::NameTooLong);
    }
    Ok(name)
}

pub(super) async fn read_all(file: &Fid, name: &[u8]) -> Result<Vec<u8>> {
    node::only_linux(file, "xattr")?;
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
