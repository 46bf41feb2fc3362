//! [`Directory`]: a directory to share, opened once.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::ShareError;

/// A directory of this machine, and where it really is. Whatever is decided about it by its path holds for the directory
/// that is served: its descriptor is not opened a second time.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens the directory at `path`. Symbolic links are followed: an administrator wrote the path.
    ///
    /// # Errors
    /// [`ShareError`] says what is wrong with the path.
    pub fn open(path: &Path) -> Result<Directory, ShareError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(ShareError::Root)?;
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let real = rustix::fs::readlink(link, Vec::new()).map_err(ShareError::Proc)?;
        Ok(Directory {
            fd,
            path: OsString::from_vec(real.into_bytes()).into(),
        })
    }

    /// Where it was when it was opened, without symbolic links on the way.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Directory> for OwnedFd {
    fn from(directory: Directory) -> OwnedFd {
        directory.fd
    }
}
