//! Listing directories.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::{fmt, mem};

use super::stepwise::Stepwise;
use super::{Fs, Handle, classic, node};
use crate::fs::{Error, FileType, Metadata, OpenOptions, Result};
use crate::session::{Fid, Session, Violation};
use p9_wire::Errno;
use p9_wire::{
    DirEntries, DirEntryKind, FileKind, IO_HEADER_LEN, Qid, QidKind, StatEntries, StatLayout,
};

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
    fid: Rc<Fid>,
    path: Rc<[u8]>,
    /// Entries from the last answer, those before `start` used already.
    buffer: Vec<u8>,
    start: usize,
    /// Where to go on asking in 9P2000.L: the cookie of the last entry taken.
    offset: u64,
    /// Where to go on asking in other dialects.
    stepwise: Stepwise,
    /// Entries of the last answer, in dialects other than 9P2000.L.
    ready: VecDeque<DirEntry>,
    /// Entries to be passed over, in these dialects.
    skip: u64,
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
        Ok(ReadDir::of(fs, Rc::new(fid), path))
    }

    /// The entries of a directory that is open.
    fn of(fs: &Fs, fid: Rc<Fid>, path: Rc<[u8]>) -> ReadDir {
        ReadDir {
            fs: fs.clone(),
            fid,
            path,
            buffer: Vec::new(),
            start: 0,
            offset: 0,
            stepwise: Stepwise::default(),
            ready: VecDeque::new(),
            skip: 0,
            landmark: 0,
            answers: 0,
            entries: 0,
            ended: false,
        }
    }

    /// The session under this listing.
    pub fn session(&self) -> &Session {
        self.fid.session()
    }

    /// Goes on behind the entry that has this cookie; 0 starts anew.
    pub fn seek(&mut self, cookie: u64) {
        self.buffer.clear();
        self.start = 0;
        self.ready.clear();
        if node::is_linux(&self.fid) {
            self.offset = cookie;
        } else {
            // Only the beginning can be sought there: cookies count entries.
            self.stepwise = Stepwise::default();
            self.skip = cookie;
        }
        self.answers = 0;
        self.entries = 0;
        self.ended = false;
    }

    /// The next entry; `None` at the end. After an error the listing is over.
    pub async fn next(&mut self) -> Option<Result<DirEntry>> {
        while !self.ended {
            match self.next_fetched() {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
            if let Err(error) = self.fetch_more().await {
                return Some(Err(error));
            }
        }
        None
    }

    /// The next entry of those fetched that need no request; see [`next`](Self::next).
    pub(super) fn next_fetched(&mut self) -> Result<Option<DirEntry>> {
        self.take().map_err(|rule| {
            self.ended = true;
            self.session().protocol_error(rule)
        })
    }

    /// Fetches entries when there are none left; `false` at the end.
    pub(super) async fn fetch_more(&mut self) -> Result<bool> {
        if !self.ended {
            let fetched = self.fetch().await;
            self.ended |= fetched.is_err();
            fetched?;
        }
        Ok(!self.ended)
    }

    /// A fid of the directory that is not open.
    pub(super) async fn directory(&self) -> Result<Handle> {
        Ok(self.fs.find(&self.path, true).await?.0)
    }

    /// The next entry of those fetched, "." and ".." left out; an error if the server's data makes no
    /// sense.
    fn take(&mut self) -> core::result::Result<Option<DirEntry>, Violation> {
        if !node::is_linux(&self.fid) {
            return Ok(self.ready.pop_front());
        }
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or(&[]);
            let Some(entry) = DirEntries::new(rest).next() else {
                return Ok(None);
            };
            let entry = entry.map_err(|_| Violation::SplitEntry)?;
            // Kind, offset, type, length of the name.
            self.start += 13 + 8 + 1 + 2 + entry.name.len();
            self.offset = entry.offset;
            self.entries += 1;
            if !is_wanted(entry.name, self.entries)? {
                continue;
            }
            return Ok(Some(DirEntry {
                fs: self.fs.clone(),
                dir: self.path.clone(),
                name: entry.name.into(),
                kind: FileType::from_dirent(entry.kind.0),
                may_be_link: entry.may_be_link(),
                ino: entry.qid.path,
                cookie: entry.offset,
                listed: None,
            }));
        }
    }

    /// Asks for more entries.
    async fn fetch(&mut self) -> Result<()> {
        let linux = node::is_linux(&self.fid);
        let most = self.session().msize() - IO_HEADER_LEN;
        // xen-9pfsd takes more requests for what does not fit into one: the larger the better there.
        let most = if linux { most.min(MOST) } else { most } as usize;
        // Taken out: who drops this future leaves no entries behind that never came.
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        self.start = 0;
        buffer
            .try_reserve_exact(most)
            .map_err(|_| Error::OutOfMemory)?;
        buffer.resize(most, 0);
        let count = if linux {
            self.fid.readdir(self.offset, &mut buffer).await?
        } else {
            self.stepwise.read(&self.fid, &mut buffer).await?
        };
        buffer.truncate(count);
        self.buffer = buffer;
        if count == 0 {
            self.ended = true;
            return Ok(());
        }
        if !linux {
            return match self.unpack() {
                Ok(()) => Ok(()),
                Err(rule) => Err(self.session().protocol_error(rule)),
            };
        }
        // A landmark is set at each power of two: a circle of any length meets one.
        if self.answers > 0 && self.offset == self.landmark {
            return Err(self.session().protocol_error(Violation::CircularDirectory));
        }
        self.answers += 1;
        if self.answers.is_power_of_two() {
            self.landmark = self.offset;
        }
        Ok(())
    }

    /// Makes entries of the stats that reading a directory gives in 9P2000 and 9P2000.u.
    fn unpack(&mut self) -> core::result::Result<(), Violation> {
        let dialect = self.session().dialect();
        let layout = StatLayout::of(&self.buffer, dialect);
        for stat in StatEntries::new(&self.buffer, dialect, layout) {
            let stat = stat.map_err(|_| Violation::BadEntries)?;
            self.entries += 1;
            if !is_wanted(stat.name, self.entries)? || u64::from(self.entries) <= self.skip {
                continue;
            }
            let metadata = classic::metadata_of(&stat);
            self.ready.push_back(DirEntry {
                fs: self.fs.clone(),
                dir: self.path.clone(),
                name: stat.name.into(),
                kind: Some(metadata.file_type()),
                // xen-9pfsd follows links, and does not tell.
                may_be_link: layout == StatLayout::Xen9pfsd,
                ino: stat.qid.path,
                cookie: self.entries.into(),
                listed: Some(Box::new(metadata)),
            });
        }
        self.buffer.clear();
        Ok(())
    }
}

/// A listing that goes on where the one before it was left, so that nothing is fetched twice.
pub(super) struct Resumed {
    listing: ReadDir,
    /// The entry that was not taken.
    next: Option<DirEntry>,
    /// The cookie of the last one that was.
    offset: u64,
}

impl Resumed {
    /// The listing of an open directory from `offset` on; `before` is what is left of the last.
    pub(super) fn new(fs: &Fs, fid: &Rc<Fid>, offset: u64, before: Option<Resumed>) -> Resumed {
        match before {
            Some(before) if offset != 0 && before.offset == offset => before,
            _ => {
                let mut listing = ReadDir::of(fs, fid.clone(), Rc::from(&b""[..]));
                listing.seek(offset);
                Resumed {
                    listing,
                    next: None,
                    offset,
                }
            }
        }
    }

    /// Hands out entries, as [`OpenFile::readdir`](p9_tree::OpenFile::readdir) does.
    pub(super) async fn hand_out(
        &mut self,
        each: &mut dyn FnMut(&p9_wire::DirEntry<'_>) -> bool,
    ) -> Result<()> {
        loop {
            let entry = match self.next.take() {
                Some(entry) => entry,
                None => match self.listing.next().await {
                    Some(entry) => entry?,
                    None => return Ok(()),
                },
            };
            let kind = entry.kind.map_or(DirEntryKind::UNKNOWN, |kind| {
                DirEntryKind::of(FileKind::of_mode(kind.mode()))
            });
            let mut qid = Qid {
                path: entry.ino,
                ..Qid::default()
            };
            let is = |what: fn(FileType) -> bool| entry.kind.is_some_and(what);
            qid.kind.set(QidKind::DIR, is(FileType::is_dir));
            let link = entry.may_be_link || is(FileType::is_symlink);
            qid.kind.set(QidKind::SYMLINK, link);
            let taken = each(&p9_wire::DirEntry {
                qid,
                offset: entry.cookie,
                kind,
                name: &entry.name,
            });
            if !taken {
                self.next = Some(entry);
                return Ok(());
            }
            self.offset = entry.cookie;
        }
    }
}

/// Whether an entry is to be shown: "." and ".." are not. An error if there can't be such an entry.
fn is_wanted(name: &[u8], so_far: u32) -> core::result::Result<bool, Violation> {
    if so_far > MOST_ENTRIES {
        return Err(Violation::EndlessDirectory);
    }
    if matches!(name, b"." | b"..") {
        return Ok(false);
    }
    if name.is_empty() || name.iter().any(|&byte| byte == b'/' || byte == 0) {
        return Err(Violation::ImpossibleName);
    }
    Ok(true)
}

/// One entry of a directory: the asynchronous form of [`crate::fs::DirEntry`].
#[derive(Clone)]
pub struct DirEntry {
    fs: Fs,
    dir: Rc<[u8]>,
    name: Vec<u8>,
    kind: Option<FileType>,
    may_be_link: bool,
    ino: u64,
    cookie: u64,
    /// The attributes, where they are part of the listing.
    pub(super) listed: Option<Box<Metadata>>,
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

    /// Whether the entry may be a symbolic link to what the listing said that it is: xen-9pfsd follows links, and does
    /// not tell.
    pub fn may_be_link(&self) -> bool {
        self.may_be_link
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
