//! Listing directories.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use p9_wire::{Errno, OpenFlags};

use super::Fs;
use crate::files::failed;
use crate::memory::try_copy;
use crate::{FileType, Metadata, Node, OpenFile, Result};

/// How many entries are taken of a listing at a time: not more, as there may be little memory.
const TAKEN: usize = 64;

impl<N: Node> Fs<N> {
    pub(in crate::files) async fn list(&self, path: &[u8]) -> Result<ReadDir<N>> {
        let found = self.find(path, true).await?;
        if !found.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        let file = found.node.into_open(OpenFlags::DIRECTORY).await?;
        Ok(ReadDir::new(self.clone(), file, try_copy(path)?))
    }
}

/// The entries of a directory; see [`files::ReadDir`](crate::files::ReadDir).
pub struct ReadDir<N: Node> {
    pub(super) fs: Fs<N>,
    file: N::File,
    pub(super) path: Rc<Vec<u8>>,
    /// The directory itself, where it was kept for what is done with the entries.
    pub(super) dir: Option<N>,
    /// Otherwise the one above, and the name of the directory there, if it is known to be one by itself.
    pub(super) above: Option<Rc<(N, Vec<u8>)>>,
    /// Entries that were taken of the listing.
    pub(super) ready: VecDeque<DirEntry<N>>,
    /// Where to go on behind them.
    offset: u64,
    ended: bool,
}

impl<N: Node> fmt::Debug for ReadDir<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir")
            .field("path", &String::from_utf8_lossy(&self.path))
            .finish_non_exhaustive()
    }
}

impl<N: Node> ReadDir<N> {
    pub(super) fn new(fs: Fs<N>, file: N::File, path: Vec<u8>) -> Self {
        ReadDir {
            fs,
            file,
            path: Rc::new(path),
            dir: None,
            above: None,
            ready: VecDeque::new(),
            offset: 0,
            ended: false,
        }
    }

    /// The tree's own open directory.
    pub fn get_ref(&self) -> &N::File {
        &self.file
    }

    pub(in crate::files) fn driver(&self) -> &dyn crate::Driver {
        self.file.driver()
    }

    /// Goes on behind the entry that has this cookie; 0 starts anew.
    pub fn seek(&mut self, cookie: u64) {
        self.ready.clear();
        self.offset = cookie;
        self.ended = false;
    }

    /// The next entry; `None` at the end. After an error the listing is over.
    pub async fn next(&mut self) -> Option<Result<DirEntry<N>>> {
        match self.fill().await {
            Ok(()) => self.ready.pop_front().map(Ok),
            Err(error) => Some(Err(failed(error))),
        }
    }

    /// The next of the entries that need not be waited for.
    pub(in crate::files) fn next_taken(&mut self) -> Option<DirEntry<N>> {
        self.ready.pop_front()
    }

    /// Takes entries when there are none left.
    pub(super) async fn fill(&mut self) -> Result<()> {
        match self.ready.is_empty() {
            true => self.fill_to(1).await,
            false => Ok(()),
        }
    }

    /// Takes as many entries as are held at a time, or all.
    pub(super) async fn fill_up(&mut self) -> Result<()> {
        self.fill_to(TAKEN).await
    }

    async fn fill_to(&mut self, least: usize) -> Result<()> {
        let (ready, offset) = (&mut self.ready, &mut self.offset);
        let (fs, path) = (&self.fs, &self.path);
        // Those that are not shown may be all there is in an answer.
        while ready.len() < least && !self.ended {
            let (mut seen, mut noted) = (false, Ok(()));
            let start = *offset;
            let mut take = |entry: &p9_wire::DirEntry<'_>, attr: Option<&p9_wire::Attr>| {
                if ready.len() == TAKEN {
                    return false;
                }
                seen = true;
                *offset = entry.offset;
                if !matches!(entry.name, b"." | b"..") {
                    let name = match try_copy(entry.name) {
                        Ok(name) => name,
                        Err(error) => {
                            noted = Err(error);
                            return false;
                        }
                    };
                    ready.push_back(DirEntry {
                        fs: fs.clone(),
                        dir: path.clone(),
                        name,
                        kind: FileType::from_dirent(entry.kind.0),
                        may_be_link: entry.may_be_link(),
                        ino: entry.qid.path,
                        cookie: entry.offset,
                        listed: attr.map(|attr| Box::new(Metadata::from(attr))),
                    });
                }
                true
            };
            let taken = self.file.readdir_some(start, &mut take).await.and(noted);
            self.ended = taken.is_err() || !seen;
            taken?;
        }
        Ok(())
    }
}

/// One entry of a directory; see [`files::DirEntry`](crate::files::DirEntry), whose methods these are.
#[derive(Clone)]
pub struct DirEntry<N> {
    fs: Fs<N>,
    pub(in crate::files) dir: Rc<Vec<u8>>,
    pub(in crate::files) name: Vec<u8>,
    pub(in crate::files) kind: Option<FileType>,
    pub(in crate::files) may_be_link: bool,
    pub(in crate::files) ino: u64,
    pub(in crate::files) cookie: u64,
    /// The attributes, where they are part of the listing.
    pub(super) listed: Option<Box<Metadata>>,
}

impl<N> fmt::Debug for DirEntry<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirEntry")
            .field(&String::from_utf8_lossy(&self.name))
            .finish()
    }
}

impl<N: Node> DirEntry<N> {
    dir_entry_facts!(self, self);
    dir_entry_operations!(asynchronous);

    pub(in crate::files) fn driver(&self) -> &dyn crate::Driver {
        self.fs.driver()
    }

    pub(in crate::files) async fn type_of(&self) -> Result<FileType> {
        match self.kind {
            Some(kind) => Ok(kind),
            None => Ok(self.stat().await?.file_type()),
        }
    }

    pub(in crate::files) async fn stat(&self) -> Result<Metadata> {
        self.fs.stat(&self.path(), false).await
    }
}
