//! Doing something with each entry of a directory, with many at the same time.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::{fmt, mem};

use p9_wire::{Attr, Errno, OpenFlags, Qid, QidKind, UnlinkFlags};

use super::{ATTRIBUTES, DirEntry, ReadDir};
use crate::drive::{Waits, waiting};
use crate::files::failed;
use crate::in_order::{AT_ONCE, InOrder, Task};
use crate::{Driver, Error, FileType, Metadata, Node, OpenFile, Result, Walked};

/// What is done with an entry, given its directory: none where that is not needed.
type Work<N, T> = dyn Fn(Option<Place<N>>, DirEntry<N>) -> Task<'static, (DirEntry<N>, T)>;

/// The way to a directory with whose entries something is done.
#[derive(Clone)]
pub(super) enum Place<N> {
    /// The directory itself.
    Here(N),
    /// The directory above it, and its name there.
    Below(Rc<(N, Vec<u8>)>),
}

impl<N: Node> Place<N> {
    /// Where the way begins.
    fn node(&self) -> &N {
        match self {
            Place::Here(node) => node,
            Place::Below(above) => &above.0,
        }
    }

    /// The attributes of an entry, and of no link on the way.
    async fn getattr(&self, name: &[u8]) -> Result<Walked<Attr>> {
        match self {
            Place::Here(node) => node.getattr_at(&[name], ATTRIBUTES).await,
            Place::Below(above) => above.0.getattr_at(&[&above.1, name], ATTRIBUTES).await,
        }
    }

    /// Opens an entry to be read; `None` for a link.
    pub(super) async fn open(&self, name: &[u8]) -> Result<Option<(N::File, Qid)>> {
        let flags = OpenFlags::empty();
        let walked = match self {
            Place::Here(node) => node.open_at(&[name], flags).await?,
            Place::Below(above) => above.0.open_at(&[&above.1, name], flags).await?,
        };
        match (walked, self) {
            (Walked::Through(file, qid), _) => Ok(Some((file, qid))),
            // The directory itself is none any more.
            (Walked::Link(0), Place::Below(_)) => Err(Errno::ENOTDIR.into()),
            (Walked::Link(_), _) => Ok(None),
            (Walked::Blocked(_, error), _) => Err(error),
        }
    }
}

/// The entries with their attributes; see [`ReadDir::with_metadata`].
pub type WithMetadata<N> = Each<N, Result<Metadata>>;

/// The entries, and what became of removing them; see [`ReadDir::removing`].
pub type Removing<N> = Each<N, Option<Result<()>>>;

/// The entries of a directory, with many of which something is done at the same time; see
/// [`files::Each`](crate::files::Each).
pub struct Each<N: Node, T> {
    listing: ReadDir<N>,
    /// The directory, once it was needed.
    directory: Option<Place<N>>,
    work: Box<Work<N, T>>,
    /// Whether the directory is needed for an entry.
    pub(super) needs_directory: fn(&DirEntry<N>) -> bool,
    /// Whether the work goes without the directory where it has few fids.
    pub(super) needs_many: bool,
    /// Whether links that the server hides end the listing.
    refuses_links: bool,
    at_once: usize,
    /// In the order of the listing.
    doing: InOrder<'static, (DirEntry<N>, T)>,
    /// What ends the listing when those that are under way are told.
    error: Option<Error>,
    ended: bool,
    /// Whether the tree of the directory is waited for, and another one.
    pub(in crate::files) waits: Rc<Waits>,
    pub(in crate::files) other: Option<Rc<dyn Driver>>,
}

impl<N: Node, T> fmt::Debug for Each<N, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Each").field(&self.listing).finish()
    }
}

impl<N: Node + 'static> ReadDir<N> {
    /// The entries with their attributes, symbolic links not followed. The tree is asked for many at the same time, which is
    /// a good deal faster than [`DirEntry::metadata`] for each.
    pub fn with_metadata(self) -> WithMetadata<N> {
        let work = |directory, entry| Box::pin(ask(directory, entry)) as Task<'static, _>;
        let mut each = Each::new(self, Box::new(work));
        each.needs_directory = |entry| entry.listed.is_none();
        each
    }

    /// Removes all entries for which `which` says so, except directories: many at the same time. Hands out each entry with
    /// what became of it, `None` where it was left alone. One that the listing does not tell to be a directory has EISDIR or
    /// EPERM.
    ///
    /// # Errors
    /// [`Error::HiddenLinks`] ends the listing before anything is removed that may be seen through a link.
    pub fn removing(mut self, which: impl Fn(&DirEntry<N>) -> bool + 'static) -> Removing<N> {
        // Names are removed in the directory itself.
        self.above = None;
        let work = move |directory: Option<Place<N>>, entry: DirEntry<N>| {
            let is_meant = entry.kind != Some(FileType::DIR) && which(&entry);
            let directory = directory.filter(|_| is_meant);
            Box::pin(remove(directory, entry)) as Task<'static, _>
        };
        let mut each = Each::new(self, Box::new(work));
        each.refuses_links = true;
        each
    }
}

impl<N: Node + 'static, T: 'static> Each<N, T> {
    pub(super) fn new(mut listing: ReadDir<N>, work: Box<Work<N, T>>) -> Self {
        Each {
            // One that has few fids is found anew, and then worked in entry by entry.
            directory: (listing.dir.take().filter(|dir| !dir.has_few_fids())).map(Place::Here),
            listing,
            work,
            needs_directory: |_| true,
            needs_many: false,
            refuses_links: false,
            at_once: AT_ONCE,
            doing: InOrder::default(),
            error: None,
            ended: false,
            waits: Rc::default(),
            other: None,
        }
    }

    /// How to wait for what is under way in the directory's tree.
    pub(in crate::files) fn driver(&self) -> &dyn Driver {
        match &self.directory {
            Some(directory) => directory.node().driver(),
            None => self.listing.driver(),
        }
    }

    /// Whether the directory is at hand, whose tree is then waited for.
    pub(in crate::files) fn has_directory(&self) -> bool {
        self.directory.is_some()
    }

    /// Finds out how to wait.
    pub(in crate::files) async fn prepare(&mut self) -> Result<()> {
        if self.directory.is_none() && !self.ended {
            self.listing.fill().await?;
            let next = self.listing.ready.front();
            if next.is_some_and(self.needs_directory) {
                self.directory().await?;
            }
        }
        Ok(())
    }

    /// Does the work for the first entries, no more than `most`, so that they can be taken without waiting. An error that ends
    /// the listing comes when it is gone on with.
    pub(super) async fn start(&mut self, most: usize) {
        let rest = mem::replace(&mut self.at_once, most);
        let waits = self.waits.clone();
        if let Err(error) = waiting(&waits.0, self.fill()).await {
            self.ended = true;
            self.error = Some(error);
        }
        self.at_once = rest;
        self.doing.settle().await;
    }

    /// Whether no entry is left to be begun with, and what became of those that were satisfies `all`.
    pub(super) fn is_over(&self, all: impl Fn(&T) -> bool) -> bool {
        self.ended && self.error.is_none() && self.doing.all_done(|(_, done)| all(done))
    }

    /// The next entry; `None` at the end. After an error the listing is over; what concerns one entry
    /// stands beside it.
    pub async fn next(&mut self) -> Option<Result<(DirEntry<N>, T)>> {
        let waits = self.waits.clone();
        if let Err(error) = waiting(&waits.0, self.fill()).await {
            self.ended = true;
            self.error = Some(error);
        }
        match self.doing.next().await {
            Some(done) => Some(Ok(done)),
            None => self.error.take().map(|error| Err(failed(error))),
        }
    }

    /// Begins with as many entries as may be under way at the same time.
    async fn fill(&mut self) -> Result<()> {
        while self.doing.len() < self.at_once && !self.ended {
            self.listing.fill().await?;
            // It stays where it is while the way to the directory is looked up, as this future may be dropped there.
            let directory = match self.listing.ready.front() {
                None => {
                    self.ended = true;
                    return Ok(());
                }
                // The directory itself may be what a link leads to.
                Some(next) if self.refuses_links && next.may_be_link => {
                    return Err(Error::HiddenLinks);
                }
                Some(next) if !(self.needs_directory)(next) => None,
                Some(_) => self.directory().await?,
            };
            let Some(entry) = self.listing.ready.pop_front() else {
                return Ok(());
            };
            let task = (self.work)(directory, entry);
            self.doing.begin(task).await;
        }
        Ok(())
    }

    /// `None` where it has few fids and the work goes without it.
    async fn directory(&mut self) -> Result<Option<Place<N>>> {
        if self.directory.is_none() {
            self.directory = self.way_from_above().await?;
        }
        if self.directory.is_none() {
            let found = self.listing.fs.find(&self.listing.path, true).await?;
            if found.node.has_few_fids() {
                self.at_once = 1;
                if self.needs_many {
                    self.needs_directory = |_| false;
                    return Ok(None);
                }
            }
            self.directory = Some(Place::Here(found.node.concurrent()));
        }
        Ok(self.directory.clone())
    }

    /// The directory by the way from the one above, where that is known. To few entries one goes by a name more, which takes no
    /// fid; many are worth a fid.
    async fn way_from_above(&mut self) -> Result<Option<Place<N>>> {
        let above = self.listing.above.clone();
        let Some(above) = above.filter(|_| !self.listing.get_ref().has_few_fids()) else {
            return Ok(None);
        };
        if self.listing.ready.len() <= AT_ONCE {
            return Ok(Some(Place::Below(above)));
        }
        let dir = walk_to_dir(&above.0, &above.1).await?;
        Ok(Some(Place::Here(dir)))
    }
}

/// The directory of this name, and no link to one.
pub(super) async fn walk_to_dir<N: Node>(above: &N, name: &[u8]) -> Result<N> {
    match above.walk_at(&[name]).await? {
        Walked::Through(dir, qid) if qid.kind.contains(QidKind::DIR) => Ok(dir),
        Walked::Through(..) | Walked::Link(_) => Err(Errno::ENOTDIR.into()),
        Walked::Blocked(_, error) => Err(error),
    }
}

async fn ask<N: Node>(
    directory: Option<Place<N>>,
    mut entry: DirEntry<N>,
) -> (DirEntry<N>, Result<Metadata>) {
    if let Some(listed) = entry.listed.take() {
        return (entry, Ok(*listed));
    }
    let Some(directory) = directory else {
        return (entry, Err(Errno::ENOENT.into()));
    };
    let answer = match directory.getattr(&entry.name).await {
        Ok(walked) => walked.through().map(|attr| Metadata::from(&attr)),
        Err(error) => Err(error),
    };
    (entry, answer.map_err(failed))
}

async fn remove<N: Node>(
    directory: Option<Place<N>>,
    entry: DirEntry<N>,
) -> (DirEntry<N>, Option<Result<()>>) {
    let Some(Place::Here(directory)) = directory else {
        return (entry, None);
    };
    let removed = directory.unlink(&entry.name, UnlinkFlags::empty()).await;
    (entry, Some(removed.map_err(failed)))
}
