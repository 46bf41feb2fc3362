//! Listing directories, united ones too.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;

use p9_wire::{Errno, OpenFlags};

use super::Namespace;
use super::element::{Element, Mounted, Wait};
use super::ops::ATTRIBUTES;
use super::resolve::View;
use crate::{DynFile, DynNode, Error, FileType, Metadata, Node, OpenFile, Result, Walked};

/// The most names of a union that are remembered, lest a server fills the memory with them.
const MOST_NAMES: usize = 1 << 17;

/// How many entries are taken of a tree, and described, before the first of them is told: not more, as there may be little
/// memory.
const TAKEN: usize = 64;

/// For how many entries the tree is asked at the same time.
const AT_ONCE: usize = 16;

/// An entry of a directory, as a tree lists it.
struct Entry {
    name: Vec<u8>,
    kind: Option<FileType>,
    may_be_link: bool,
    ino: u64,
    metadata: Option<Box<Metadata>>,
}

/// The listing of one directory of a tree.
struct Listing {
    tree: Rc<Mounted>,
    file: DynFile,
    /// To ask for the attributes of what is in it.
    dir: Option<DynNode>,
    /// Where to go on.
    offset: u64,
    entries: VecDeque<Entry>,
    /// How many of them have been described.
    described: usize,
    ended: bool,
}

impl Listing {
    fn open(element: &Element, node: Option<DynNode>, metadata: bool) -> Result<Listing> {
        let tree = element.tree.clone();
        let opened = async {
            if !metadata {
                return match node {
                    Some(node) => Ok((None, node.into_open(OpenFlags::DIRECTORY).await?)),
                    None => {
                        let names = element.names();
                        let walked = tree.root.open_at(&names, OpenFlags::DIRECTORY).await?;
                        match walked {
                            Walked::Through(file, _) => Ok((None, file)),
                            Walked::Link(_) => Err(Errno::ENOENT.into()),
                            Walked::Blocked(_, error) => Err(error),
                        }
                    }
                };
            }
            let node = match node {
                Some(node) => node,
                None => element.node(Wait::Polled).await?,
            };
            let file = node.open(OpenFlags::DIRECTORY).await?;
            Ok((Some(node), file))
        };
        let (dir, file) = tree.run(Box::pin(opened))?;
        Ok(Listing {
            tree,
            file,
            dir,
            offset: 0,
            entries: VecDeque::new(),
            described: 0,
            ended: false,
        })
    }

    fn next(&mut self) -> Result<Option<Entry>> {
        if self.entries.is_empty() && !self.ended {
            let tree = self.tree.clone();
            tree.run(Box::pin(self.fetch()))?;
        }
        if self.described == 0 && self.dir.is_some() && !self.entries.is_empty() {
            let tree = self.tree.clone();
            tree.run(Box::pin(self.describe()))?;
        }
        self.described = self.described.saturating_sub(1);
        Ok(self.entries.pop_front())
    }

    async fn fetch(&mut self) -> Result<()> {
        let (entries, offset) = (&mut self.entries, &mut self.offset);
        let mut seen = 0;
        let start = *offset;
        let mut take = |entry: &p9_wire::DirEntry<'_>| {
            if seen == TAKEN {
                return false;
            }
            seen += 1;
            *offset = entry.offset;
            if !matches!(entry.name, b"." | b"..") {
                entries.push_back(Entry {
                    name: entry.name.to_vec(),
                    kind: FileType::from_dirent(entry.kind.0),
                    may_be_link: entry.may_be_link(),
                    ino: entry.qid.path,
                    metadata: None,
                });
            }
            true
        };
        self.file.readdir(start, &mut take).await?;
        self.ended = seen < TAKEN;
        Ok(())
    }

    /// Asks for the attributes of the next entries, several at the same time. What can't be had stays away.
    async fn describe(&mut self) -> Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        type Question<'a> = Pin<Box<dyn Future<Output = Option<Box<Metadata>>> + 'a>>;
        let mut asked: Vec<(usize, Question<'_>)> = Vec::new();
        let mut answers: Vec<Option<Box<Metadata>>> = Vec::new();
        let count = self.entries.len();
        answers.resize_with(count, || None);
        let mut questions = self.entries.iter().take(count).enumerate();
        poll_fn(|cx| {
            loop {
                while asked.len() < AT_ONCE
                    && let Some((at, entry)) = questions.next()
                {
                    asked.push((at, Box::pin(describe(dir, &entry.name))));
                }
                if asked.is_empty() {
                    return Poll::Ready(());
                }
                let before = asked.len();
                asked.retain_mut(|(at, question)| match question.as_mut().poll(cx) {
                    Poll::Ready(answer) => {
                        if let Some(place) = answers.get_mut(*at) {
                            *place = answer;
                        }
                        false
                    }
                    Poll::Pending => true,
                });
                if asked.len() == before {
                    return Poll::Pending;
                }
            }
        })
        .await;
        drop((asked, questions));
        for (entry, answer) in self.entries.iter_mut().zip(answers) {
            entry.metadata = answer;
        }
        self.described = count;
        Ok(())
    }
}

async fn describe(dir: &DynNode, name: &[u8]) -> Option<Box<Metadata>> {
    match dir.getattr_at(&[name], ATTRIBUTES).await {
        Ok(Walked::Through(attr, _)) => Some(Box::new(Metadata::from(&attr))),
        // Asked for again, and told, when the program asks for it.
        Ok(Walked::Link(_) | Walked::Blocked(..)) | Err(_) => None,
    }
}

/// Iterates over the entries of a directory; made by
/// [`Namespace::read_dir`](super::Namespace::read_dir).
///
/// The elements of a union come in order, mount points that no server has at the end. After an error
/// the iteration is over. A union may have 131,072 names; more are [`Error::OutOfMemory`].
pub struct ReadDir {
    ns: Namespace,
    path: Rc<[u8]>,
    listings: vec::IntoIter<Listing>,
    now: Option<Listing>,
    /// Names that were listed already; kept only where they may come again.
    seen: Option<BTreeSet<Vec<u8>>>,
    /// Names of mount points, and whether they are directories.
    points: Vec<(Vec<u8>, bool)>,
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir")
            .field("path", &String::from_utf8_lossy(&self.path))
            .finish_non_exhaustive()
    }
}

impl ReadDir {
    pub(super) fn open(view: View, path: &[u8], metadata: bool) -> Result<ReadDir> {
        let found = view.find(path, true)?;
        if !found.is_dir {
            return Err(Errno::ENOTDIR.into());
        }
        let points = view.table.borrow().names_in(&found.path);
        let mut listings = Vec::new();
        let mut gone = None;
        let elements = found.elements.clone();
        let mut node = match elements.is_empty() {
            true => None,
            false => found.into_walked(),
        };
        for element in &elements {
            match Listing::open(element, node.take(), metadata) {
                Ok(listing) => listings.push(listing),
                Err(error) if error.is_not_found() => gone = Some(error),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = gone
            && listings.is_empty()
            && points.is_empty()
        {
            return Err(error);
        }
        Ok(ReadDir {
            ns: Namespace { table: view.table },
            path: path.into(),
            seen: (listings.len() > 1).then(BTreeSet::new),
            listings: listings.into_iter(),
            now: None,
            points,
        })
    }

    fn end(&mut self) {
        self.now = None;
        self.listings = Vec::new().into_iter();
        self.points.clear();
    }

    fn entry(&self, name: Vec<u8>, kind: Option<FileType>, ino: u64) -> DirEntry {
        DirEntry {
            ns: self.ns.clone(),
            dir: self.path.clone(),
            name,
            kind,
            may_be_link: false,
            ino,
            metadata: None,
        }
    }
}

impl Iterator for ReadDir {
    type Item = Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(now) = &mut self.now else {
                self.now = self.listings.next();
                if self.now.is_some() {
                    continue;
                }
                // What only the name space knows of.
                let (name, is_dir) = self.points.pop()?;
                let entry = self.entry(name, is_dir.then_some(FileType::DIR), 0);
                return Some(Ok(entry));
            };
            let entry = match now.next() {
                Ok(Some(entry)) => entry,
                Err(error) => {
                    self.end();
                    return Some(Err(error));
                }
                Ok(None) => {
                    self.now = None;
                    continue;
                }
            };
            if let Some(seen) = &mut self.seen {
                if !seen.insert(entry.name.clone()) {
                    continue;
                }
                if seen.len() > MOST_NAMES {
                    self.end();
                    return Some(Err(Error::OutOfMemory));
                }
            }
            let point = self.points.iter().position(|(name, _)| *name == entry.name);
            return Some(Ok(match point {
                // What is mounted there is seen, not what it hides.
                Some(at) => {
                    let (name, is_dir) = self.points.swap_remove(at);
                    self.entry(name, is_dir.then_some(FileType::DIR), 0)
                }
                None => DirEntry {
                    may_be_link: entry.may_be_link,
                    metadata: entry.metadata,
                    ..self.entry(entry.name, entry.kind, entry.ino)
                },
            }));
        }
    }
}

/// One entry of a directory.
#[derive(Clone)]
pub struct DirEntry {
    ns: Namespace,
    dir: Rc<[u8]>,
    name: Vec<u8>,
    kind: Option<FileType>,
    may_be_link: bool,
    ino: u64,
    metadata: Option<Box<Metadata>>,
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirEntry")
            .field(&self.file_name_lossy())
            .finish()
    }
}

impl DirEntry {
    /// The bare name, as bytes.
    pub fn file_name(&self) -> &[u8] {
        &self.name
    }

    /// The bare name as text; what is not UTF-8 is replaced by U+FFFD.
    pub fn file_name_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    /// The directory's path as it was given to [`read_dir`](Namespace::read_dir), and the name.
    pub fn path(&self) -> Vec<u8> {
        let mut path = self.dir.to_vec();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(&self.name);
        path
    }

    /// What the entry is, symbolic links not followed. Asks the tree only when it left that out of the
    /// listing.
    ///
    /// # Errors
    /// What the tree says.
    pub fn file_type(&self) -> Result<FileType> {
        match self.kind {
            Some(kind) => Ok(kind),
            None => Ok(self.metadata()?.file_type()),
        }
    }

    /// Whether the entry may be a symbolic link to what [`file_type`](Self::file_type) says: some servers follow links, and
    /// do not tell. A walk through a tree must not enter such a directory.
    pub fn may_be_link(&self) -> bool {
        self.may_be_link
    }

    /// Attributes of the entry, symbolic links not followed; of a mount point, those of what is mounted
    /// there. Those that came with the listing of
    /// [`read_dir_with_metadata`](Namespace::read_dir_with_metadata) are as old as that.
    ///
    /// # Errors
    /// What the tree says.
    pub fn metadata(&self) -> Result<Metadata> {
        if let Some(metadata) = &self.metadata {
            return Ok(**metadata);
        }
        self.ns.symlink_metadata(self.path())
    }

    /// The number that identifies the file in its tree, as the listing says; 0 for mount points.
    pub fn ino(&self) -> u64 {
        self.ino
    }
}
