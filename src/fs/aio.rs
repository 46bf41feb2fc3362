//! The asynchronous face: the operations of [`crate::fs`] as `async` functions for any executor.
#![allow(clippy::unused_async, reason = "being filled in")]

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::{
    Error, FileTimes, FileType, LockRange, Metadata, MountOptions, OpenOptions, Permissions,
    Result, SeekFrom, StatFs,
};
use crate::p9::session::Session;

const PENDING: Error = Error::InvalidInput("not there yet");

/// The asynchronous form of [`crate::fs::Fs`].
#[derive(Clone, Debug)]
pub struct Fs {
    session: Session,
}

impl Fs {
    pub(crate) async fn start(session: Session, _options: &MountOptions) -> Result<Fs> {
        Ok(Fs { session })
    }

    /// The session under this mount.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The asynchronous form of [`Fs::attach`](crate::fs::Fs).
    pub async fn attach(&self, _options: &MountOptions) -> Result<Fs> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::open_with`](crate::fs::Fs).
    pub async fn open_with(&self, _path: impl AsRef<[u8]>, _options: &OpenOptions) -> Result<File> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::read`](crate::fs::Fs).
    pub async fn read(&self, _path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::read_to_string`](crate::fs::Fs).
    pub async fn read_to_string(&self, _path: impl AsRef<[u8]>) -> Result<String> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::write`](crate::fs::Fs).
    pub async fn write(&self, _path: impl AsRef<[u8]>, _content: impl AsRef<[u8]>) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::metadata`](crate::fs::Fs).
    pub async fn metadata(&self, _path: impl AsRef<[u8]>) -> Result<Metadata> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::symlink_metadata`](crate::fs::Fs).
    pub async fn symlink_metadata(&self, _path: impl AsRef<[u8]>) -> Result<Metadata> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::exists`](crate::fs::Fs).
    pub async fn exists(&self, _path: impl AsRef<[u8]>) -> Result<bool> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::read_dir`](crate::fs::Fs).
    pub async fn read_dir(&self, _path: impl AsRef<[u8]>) -> Result<ReadDir> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::create_dir`](crate::fs::Fs).
    pub async fn create_dir(&self, _path: impl AsRef<[u8]>, _mode: u32) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::create_dir_all`](crate::fs::Fs).
    pub async fn create_dir_all(&self, _path: impl AsRef<[u8]>) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::remove_file`](crate::fs::Fs).
    pub async fn remove_file(&self, _path: impl AsRef<[u8]>) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::remove_dir`](crate::fs::Fs).
    pub async fn remove_dir(&self, _path: impl AsRef<[u8]>) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::remove_dir_all`](crate::fs::Fs).
    pub async fn remove_dir_all(&self, _path: impl AsRef<[u8]>) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::rename`](crate::fs::Fs).
    pub async fn rename(&self, _from: impl AsRef<[u8]>, _to: impl AsRef<[u8]>) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::copy`](crate::fs::Fs).
    pub async fn copy(&self, _from: impl AsRef<[u8]>, _to: impl AsRef<[u8]>) -> Result<u64> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::hard_link`](crate::fs::Fs).
    pub async fn hard_link(
        &self,
        _original: impl AsRef<[u8]>,
        _link: impl AsRef<[u8]>,
    ) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::symlink`](crate::fs::Fs).
    pub async fn symlink(&self, _target: impl AsRef<[u8]>, _link: impl AsRef<[u8]>) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::read_link`](crate::fs::Fs).
    pub async fn read_link(&self, _path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::canonicalize`](crate::fs::Fs).
    pub async fn canonicalize(&self, _path: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::mknod`](crate::fs::Fs).
    pub async fn mknod(
        &self,
        _path: impl AsRef<[u8]>,
        _mode: u32,
        _major: u32,
        _minor: u32,
    ) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::set_permissions`](crate::fs::Fs).
    pub async fn set_permissions(
        &self,
        _path: impl AsRef<[u8]>,
        _permissions: Permissions,
    ) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::set_times`](crate::fs::Fs).
    pub async fn set_times(&self, _path: impl AsRef<[u8]>, _times: FileTimes) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::chown`](crate::fs::Fs).
    pub async fn chown(
        &self,
        _path: impl AsRef<[u8]>,
        _uid: Option<u32>,
        _gid: Option<u32>,
    ) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::lchown`](crate::fs::Fs).
    pub async fn lchown(
        &self,
        _path: impl AsRef<[u8]>,
        _uid: Option<u32>,
        _gid: Option<u32>,
    ) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::truncate`](crate::fs::Fs).
    pub async fn truncate(&self, _path: impl AsRef<[u8]>, _size: u64) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::statfs`](crate::fs::Fs).
    pub async fn statfs(&self, _path: impl AsRef<[u8]>) -> Result<StatFs> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::xattr`](crate::fs::Fs).
    pub async fn xattr(&self, _path: impl AsRef<[u8]>, _name: impl AsRef<[u8]>) -> Result<Vec<u8>> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::list_xattrs`](crate::fs::Fs).
    pub async fn list_xattrs(&self, _path: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::set_xattr`](crate::fs::Fs).
    pub async fn set_xattr(
        &self,
        _path: impl AsRef<[u8]>,
        _name: impl AsRef<[u8]>,
        _value: impl AsRef<[u8]>,
    ) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::remove_xattr`](crate::fs::Fs).
    pub async fn remove_xattr(
        &self,
        _path: impl AsRef<[u8]>,
        _name: impl AsRef<[u8]>,
    ) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`Fs::unmount`](crate::fs::Fs).
    pub async fn unmount(self) -> Result<()> {
        Err(PENDING)
    }
}

/// The asynchronous form of [`crate::fs::File`].
#[derive(Debug)]
pub struct File {
    session: Session,
}

impl File {
    /// The session under this file.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Moves the position.
    pub fn set_position(&self, _position: u64) {}

    /// The position.
    pub fn stream_position(&self) -> u64 {
        0
    }

    /// The asynchronous form of [`File::read`](crate::fs::File).
    pub async fn read(&self, _into: &mut [u8]) -> Result<usize> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::read_exact`](crate::fs::File).
    pub async fn read_exact(&self, _into: &mut [u8]) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::read_to_end`](crate::fs::File).
    pub async fn read_to_end(&self, _into: &mut Vec<u8>) -> Result<usize> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::read_to_string`](crate::fs::File).
    pub async fn read_to_string(&self, _into: &mut String) -> Result<usize> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::write`](crate::fs::File).
    pub async fn write(&self, _from: &[u8]) -> Result<usize> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::write_all`](crate::fs::File).
    pub async fn write_all(&self, _from: &[u8]) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::read_at`](crate::fs::File).
    pub async fn read_at(&self, _into: &mut [u8], _offset: u64) -> Result<usize> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::read_exact_at`](crate::fs::File).
    pub async fn read_exact_at(&self, _into: &mut [u8], _offset: u64) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::write_at`](crate::fs::File).
    pub async fn write_at(&self, _from: &[u8], _offset: u64) -> Result<usize> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::write_all_at`](crate::fs::File).
    pub async fn write_all_at(&self, _from: &[u8], _offset: u64) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::seek`](crate::fs::File).
    pub async fn seek(&self, _to: SeekFrom) -> Result<u64> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::metadata`](crate::fs::File).
    pub async fn metadata(&self) -> Result<Metadata> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::set_len`](crate::fs::File).
    pub async fn set_len(&self, _size: u64) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::set_permissions`](crate::fs::File).
    pub async fn set_permissions(&self, _permissions: Permissions) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::set_times`](crate::fs::File).
    pub async fn set_times(&self, _times: FileTimes) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::sync_all`](crate::fs::File).
    pub async fn sync_all(&self) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::sync_data`](crate::fs::File).
    pub async fn sync_data(&self) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::try_lock`](crate::fs::File).
    pub async fn try_lock(&self, _range: LockRange, _exclusive: bool) -> Result<bool> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::lock`](crate::fs::File).
    pub async fn lock(&self, _range: LockRange, _exclusive: bool) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::unlock`](crate::fs::File).
    pub async fn unlock(&self, _range: LockRange) -> Result<()> {
        Err(PENDING)
    }

    /// The asynchronous form of [`File::close`](crate::fs::File).
    pub async fn close(self) -> Result<()> {
        Err(PENDING)
    }
}

/// The asynchronous form of [`crate::fs::ReadDir`].
#[derive(Debug)]
pub struct ReadDir {
    session: Session,
}

impl ReadDir {
    /// The session under this listing.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Goes on behind the entry that has this cookie.
    pub fn seek(&mut self, _cookie: u64) {}

    /// The next entry; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<DirEntry>> {
        None
    }
}

/// One entry of a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    session: Session,
    name: Vec<u8>,
}

impl DirEntry {
    /// The session under this listing.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The bare name, as bytes.
    pub fn file_name(&self) -> &[u8] {
        &self.name
    }

    /// The bare name as text.
    pub fn file_name_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    /// The whole path.
    pub fn path(&self) -> Vec<u8> {
        self.name.clone()
    }

    /// What the entry is.
    pub async fn file_type(&self) -> Result<FileType> {
        Err(PENDING)
    }

    /// Attributes of the entry.
    pub async fn metadata(&self) -> Result<Metadata> {
        Err(PENDING)
    }

    /// The number of the file.
    pub fn ino(&self) -> u64 {
        0
    }

    /// Where this entry ends.
    pub fn cookie(&self) -> u64 {
        0
    }
}
