//! Listing directories, with the attributes of what is in them if asked for.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};

use p9_wire::{Errno, OpenFlags};

use super::{ATTRIBUTES, Fs};
use crate::memory::try_copy;
use crate::{Error, FileType, Metadata, Node, OpenFile, Result};

/// How many entries are taken of a listing at a time: not more, as there may be little memory.
const TAKEN: usize = 64;

/// For how many entries the tree is asked at the same time, three requests each: enough to have the next
/// ones queued on every ring, and no more than the window takes.
const AT_ONCE: usize = 16;

impl<N: Node> Fs<N> {
    pub(in crate::files) async fn list(&self, path: &[u8]) -> Result<ReadDir<N>> {
        let found = self.find(path, true).await?;
        if !found.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        Ok(ReadDir {
            fs: self.clone(),
            file: found.node.into_open(OpenFlags::DIRECTORY).await?,
            path: Rc::new(try_copy(path)?),
            ready: VecDeque::new(),
            offset: 0,
            ended: false,
        })
    }
}

/// The entries of a directory; see [`files::ReadDir`](crate::files::ReadDir).
pub struct ReadDir<N: Node> {
    fs: Fs<N>,
    file: N::File,
    path: Rc<Vec<u8>>,
    /// Entries that were taken of the listing.
    ready: VecDeque<DirEntry<N>>,
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
            Err(error) => Some(Err(error)),
        }
    }

    /// The next of the entries that need not be waited for.
    pub(in crate::files) fn next_taken(&mut self) -> Option<DirEntry<N>> {
        self.ready.pop_front()
    }

    /// Takes entries when there are none left.
    async fn fill(&mut self) -> Result<()> {
        if !self.ready.is_empty() || self.ended {
            return Ok(());
        }
        let (ready, offset) = (&mut self.ready, &mut self.offset);
        let (fs, path) = (&self.fs, &self.path);
        // Those that are not shown may be all there is in an answer.
        while ready.is_empty() {
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
            if taken.is_err() || !seen {
                self.ended = true;
                return taken;
            }
        }
        Ok(())
    }
}

impl<N: Node + 'static> ReadDir<N> {
    /// The entries with their attributes, symbolic links not followed. The tree is asked for many at the same time, which is
    /// a good deal faster than [`DirEntry::metadata`] for each.
    pub fn with_metadata(self) -> WithMetadata<N> {
        WithMetadata {
            listing: self,
            directory: None,
            asked: VecDeque::new(),
            error: None,
            ended: false,
        }
    }
}

/// An entry, and what the tree says of it.
type Answer<N> = (DirEntry<N>, Result<Metadata>);

enum Asked<N> {
    Running(Pin<Box<dyn Future<Output = Answer<N>>>>),
    Done(Box<Answer<N>>),
}

impl<N> Asked<N> {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Asked::Running(question) = self
            && let Poll::Ready(answer) = question.as_mut().poll(cx)
        {
            *self = Asked::Done(Box::new(answer));
        }
    }
}

/// Entries with their attributes, for many of which the tree is asked at the same time; see
/// [`files::WithMetadata`](crate::files::WithMetadata).
pub struct WithMetadata<N: Node> {
    listing: ReadDir<N>,
    /// To ask for the entries from.
    directory: Option<N>,
    /// In the order of the listing.
    asked: VecDeque<Asked<N>>,
    /// What ends the listing when those asked for are told.
    error: Option<Error>,
    ended: bool,
}

impl<N: Node> fmt::Debug for WithMetadata<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithMetadata").field(&self.listing).finish()
    }
}

impl<N: Node + 'static> WithMetadata<N> {
    /// How to wait for what was asked for.
    pub(in crate::files) fn driver(&self) -> &dyn crate::Driver {
        match &self.directory {
            Some(directory) => directory.driver(),
            None => self.listing.driver(),
        }
    }

    /// Finds out how to wait.
    pub(in crate::files) async fn prepare(&mut self) -> Result<()> {
        if self.directory.is_none() && !self.ended {
            self.listing.fill().await?;
            if self
                .listing
                .ready
                .front()
                .is_some_and(|next| next.listed.is_none())
            {
                self.directory().await?;
            }
        }
        Ok(())
    }

    /// The next entry; `None` at the end. After an error the listing is over; what concerns one entry
    /// stands beside it.
    pub async fn next(&mut self) -> Option<Result<(DirEntry<N>, Result<Metadata>)>> {
        if let Err(error) = self.fill().await {
            self.ended = true;
            self.error = Some(error);
        }
        let first = poll_fn(|cx| {
            for asked in &mut self.asked {
                asked.poll(cx);
            }
            match self.asked.pop_front() {
                None => Poll::Ready(None),
                Some(Asked::Done(answer)) => Poll::Ready(Some(*answer)),
                Some(running) => {
                    self.asked.push_front(running);
                    Poll::Pending
                }
            }
        });
        match first.await {
            Some(answer) => Some(Ok(answer)),
            None => self.error.take().map(Err),
        }
    }

    /// Asks for as many entries as may be asked for at the same time.
    async fn fill(&mut self) -> Result<()> {
        while self.asked.len() < AT_ONCE && !self.ended {
            self.listing.fill().await?;
            // It stays where it is while the way to the directory is looked up, as this future may be dropped there.
            let directory = match self.listing.ready.front() {
                None => {
                    self.ended = true;
                    return Ok(());
                }
                Some(next) if next.listed.is_some() => None,
                Some(_) => Some(self.directory().await?),
            };
            let Some(mut entry) = self.listing.ready.pop_front() else {
                return Ok(());
            };
            let asked = match (entry.listed.take(), directory) {
                (None, Some(directory)) => Asked::Running(Box::pin(ask(directory, entry))),
                (known, _) => {
                    let known = known.map_or(Err(Errno::ENOENT.into()), |known| Ok(*known));
                    Asked::Done(Box::new((entry, known)))
                }
            };
            self.asked.push_back(asked);
            // The first time sends the requests.
            poll_fn(|cx| {
                if let Some(last) = self.asked.back_mut() {
                    last.poll(cx);
                }
                Poll::Ready(())
            })
            .await;
        }
        Ok(())
    }

    async fn directory(&mut self) -> Result<N> {
        if let Some(directory) = &self.directory {
            return Ok(directory.clone());
        }
        let found = self.listing.fs.find(&self.listing.path, true).await?;
        let directory = found.node.concurrent();
        self.directory = Some(directory.clone());
        Ok(directory)
    }
}

async fn ask<N: Node>(directory: N, entry: DirEntry<N>) -> Answer<N> {
    let names = [entry.file_name()];
    let answer = match directory.getattr_at(&names, ATTRIBUTES).await {
        Ok(walked) => walked.through().map(|attr| Metadata::from(&attr)),
        Err(error) => Err(error),
    };
    (entry, answer)
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
    listed: Option<Box<Metadata>>,
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
