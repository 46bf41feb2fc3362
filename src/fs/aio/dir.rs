//! Listing directories.

use alloc::borrow::Cow;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{Fs, node};
use crate::errno::Errno;
use crate::fs::{Error, FileType, Metadata, OpenOptions, Result};
use crate::p9::session::{Fid, Session};
use crate::p9::wire::{DirEntries, IO_HEADER_LEN, QidKind};

/// Most bytes of entries to ask for at a time.
const MOST: u32 = 64 << 10;

/// The most entries that a directory is believed to have.
const MOST_ENTRIES: u32 = 1 << 24;

impl Fs {
    /// The asynchronous form of [`Fs::read_dir`](crate::fs::Fs::read_dir).
    ///
    /// # Errors
    /// See there.
    pub async fn read_dir(&self, path: impl AsRef<[u8]>) -> Result<ReadDir> {
        let path = path.as_ref();
        let (handle, qid, _) = self.find(path, true).await?;
        if !qid.kind.contains(QidKind::DIR) {
            return Err(Errno::ENOTDIR.into());
        }
        let fid = self.own(handle).await?;
        ReadDir::open(self, fid, path.into()).await
    }
}

/// The asynchronous form of [`crate::fs::ReadDir`].
pub struct ReadDir {
    fs: Fs,
    fid: Fid,
    path: Rc<[u8]>,
    /// Entries from the last answer, those before `start` used already.
    buffer: Vec<u8>,
    start: usize,
    /// Where to go on asking.
    cookie: u64,
    /// A cookie from earlier on, to notice a listing that goes round in circles.
    landmark: u64,
    answers: u64,
    /// Entries since the beginning.
    entries: u32,
    ended: bool,
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir")
            .field("path", &String::from_utf8_lossy(&self.path))
            .field("fid", &self.fid)
            .finish_non_exhaustive()
    }
}

impl ReadDir {
    /// Opens the directory that `fid` stands for.
    pub(super) async fn open(fs: &Fs, fid: Fid, path: Rc<[u8]>) -> Result<ReadDir> {
        let mut options = OpenOptions::new();
        node::open(&fid, options.read(true).directory(true)).await?;
        Ok(ReadDir {
            fs: fs.clone(),
            fid,
            path,
            buffer: Vec::new(),
            start: 0,
            cookie: 0,
            landmark: 0,
            answers: 0,
            entries: 0,
            ended: false,
        })
    }

    /// The session under this listing.
    pub fn session(&self) -> &Session {
        self.fid.session()
    }

    /// Goes on behind the entry that has this cookie; 0 starts anew.
    pub fn seek(&mut self, cookie: u64) {
        self.buffer.clear();
        self.start = 0;
        self.cookie = cookie;
        self.landmark = cookie;
        self.answers = 0;
        self.entries = 0;
        self.ended = false;
    }

    /// The next entry; `None` at the end. After an error the listing is over.
    pub async fn next(&mut self) -> Option<Result<DirEntry>> {
        while !self.ended {
            match self.take() {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => match self.fetch().await {
                    Ok(()) => {}
                    Err(error) => {
                        self.ended = true;
                        return Some(Err(error));
                    }
                },
                Err(rule) => {
                    self.ended = true;
                    return Some(Err(self.session().violated(rule)));
                }
            }
        }
        None
    }

    /// The next entry of those fetched, "." and ".." left out; an error if the server's data makes no
    /// sense.
    fn take(&mut self) -> core::result::Result<Option<DirEntry>, &'static str> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or(&[]);
            let Some(entry) = DirEntries::new(rest).next() else {
                return Ok(None);
            };
            let entry = entry.map_err(|_| "a directory entry that is not all there")?;
            // Kind, offset, type, length of the name.
            self.start += 13 + 8 + 1 + 2 + entry.name.len();
            self.cookie = entry.offset;
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                return Err("a directory listing without end");
            }
            if matches!(entry.name, b"." | b"..") {
                continue;
            }
            if entry.name.is_empty() || entry.name.iter().any(|&byte| byte == b'/' || byte == 0) {
                return Err("a directory entry with an impossible name");
            }
            return Ok(Some(DirEntry {
                fs: self.fs.clone(),
                dir: self.path.clone(),
                name: entry.name.into(),
                kind: FileType::from_dirent(entry.kind.0),
                ino: entry.qid.path,
                cookie: entry.offset,
            }));
        }
    }

    /// Asks for more entries.
    async fn fetch(&mut self) -> Result<()> {
        let most = (self.session().msize() - IO_HEADER_LEN).min(MOST) as usize;
        self.buffer.clear();
        self.start = 0;
        self.buffer
            .try_reserve_exact(most)
            .map_err(|_| Error::OutOfMemory)?;
        self.buffer.resize(most, 0);
        let count = self.fid.readdir(self.cookie, &mut self.buffer).await;
        self.buffer.truncate(count.unwrap_or(0));
        if count? == 0 {
            self.ended = true;
            return Ok(());
        }
        // A landmark is set at each power of two: a circle of any length meets one.
        if self.answers > 0 && self.cookie == self.landmark {
            return Err(self
                .session()
                .violated("a directory listing that goes round in circles"));
        }
        self.answers += 1;
        if self.answers.is_power_of_two() {
            self.landmark = self.cookie;
        }
        Ok(())
    }
}

/// One entry of a directory: the asynchronous form of [`crate::fs::DirEntry`].
#[derive(Clone)]
pub struct DirEntry {
    fs: Fs,
    dir: Rc<[u8]>,
    name: Vec<u8>,
    kind: Option<FileType>,
    ino: u64,
    cookie: u64,
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirEntry")
            .field(&self.file_name_lossy())
            .finish()
    }
}

impl DirEntry {
    /// The session under this listing.
    pub fn session(&self) -> &Session {
        self.fs.session()
    }

    /// The bare name, as bytes.
    pub fn file_name(&self) -> &[u8] {
        &self.name
    }

    /// The bare name as text; what is not UTF-8 is replaced by U+FFFD.
    pub fn file_name_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    /// The directory's path as it was given to [`Fs::read_dir`], and the name.
    pub fn path(&self) -> Vec<u8> {
        let mut path = self.dir.to_vec();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(&self.name);
        path
    }

    /// What the listing said that the entry is; `None` when it did not.
    pub fn known_type(&self) -> Option<FileType> {
        self.kind
    }

    /// The asynchronous form of [`DirEntry::file_type`](crate::fs::DirEntry::file_type).
    ///
    /// # Errors
    /// See there.
    pub async fn file_type(&self) -> Result<FileType> {
        match self.kind {
            Some(kind) => Ok(kind),
            None => Ok(self.metadata().await?.file_type()),
        }
    }

    /// The asynchronous form of [`DirEntry::metadata`](crate::fs::DirEntry::metadata).
    ///
    /// # Errors
    /// See there.
    pub async fn metadata(&self) -> Result<Metadata> {
        self.fs.symlink_metadata(self.path()).await
    }

    /// The number that identifies the file on its server, as the listing says.
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// Where this entry ends, for [`ReadDir::seek`].
    pub fn cookie(&self) -> u64 {
        self.cookie
    }
}
