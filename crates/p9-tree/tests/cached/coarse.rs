//! A tree in memory whose files tell as little of their changes as said, and two programs on it, one of them with a cache.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use p9_tree::files::Fs;
use p9_tree::trees::{CachedNode, MemNode, MemTree};
use p9_tree::{Node, OpenFile, Result};
use p9_wire::{Attr, AttrMask, DirEntry, OpenFlags, Qid, Time};

/// How many entries of a listing come at once.
pub const ENTRIES: usize = 5;

/// A tree whose files have no versions, and times that are as coarse as said.
#[derive(Clone)]
pub struct Coarse<N> {
    inner: N,
    tick: Duration,
    /// How many reads, parts of listings included, and attributes were asked for.
    asked: Rc<Cell<(u64, u64)>>,
    /// Whether answers to reads are under way for a while.
    is_slow: Rc<Cell<bool>>,
}

pub struct CoarseFile<F>(F, Coarse<()>);

impl<N> Coarse<N> {
    fn with<M>(&self, inner: M) -> Coarse<M> {
        Coarse {
            inner,
            tick: self.tick,
            asked: self.asked.clone(),
            is_slow: self.is_slow.clone(),
        }
    }

    fn told(&self, mut attr: Attr) -> Attr {
        let (reads, attrs) = self.asked.get();
        self.asked.set((reads, attrs + 1));
        attr.qid.version = 0;
        if attr.mode & 0o170_000 == 0o040_000 {
            // As those of disks; an empty one may be made up.
            attr.size = 4096;
        }
        for time in [&mut attr.mtime, &mut attr.ctime] {
            let nanos = Duration::new(time.secs, time.nanos as u32).as_nanos();
            let tick = self.tick.as_nanos();
            let coarse = Duration::from_nanos((nanos / tick * tick) as u64);
            let (secs, nanos) = (coarse.as_secs(), u64::from(coarse.subsec_nanos()));
            *time = Time { secs, nanos };
        }
        attr
    }
}

impl<N: Node> Node for Coarse<N> {
    type File = CoarseFile<N::File>;

    fn qid(&self) -> Qid {
        Qid {
            version: 0,
            ..self.inner.qid()
        }
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        Ok(self.with(self.inner.walk(name).await?))
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        Ok(self.told(self.inner.getattr(mask).await?))
    }

    async fn setattr(&self, attr: &p9_wire::SetAttr) -> Result<()> {
        self.inner.setattr(attr).await
    }

    async fn open(&self, flags: OpenFlags) -> Result<Self::File> {
        Ok(CoarseFile(self.inner.open(flags).await?, self.with(())))
    }

    async fn into_create(
        self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Self::File> {
        let like = self.with(());
        let file = self.inner.into_create(name, flags, mode, gid).await?;
        Ok(CoarseFile(file, like))
    }

    async fn mkdir(&self, name: &[u8], mode: u32, gid: u32) -> Result<Self> {
        Ok(self.with(self.inner.mkdir(name, mode, gid).await?))
    }

    async fn symlink(&self, name: &[u8], target: &[u8], gid: u32) -> Result<Self> {
        Ok(self.with(self.inner.symlink(name, target, gid).await?))
    }

    async fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        self.inner.rename(name, &to.inner, new_name).await
    }

    async fn unlink(&self, name: &[u8], flags: p9_wire::UnlinkFlags) -> Result<()> {
        self.inner.unlink(name, flags).await
    }

    async fn readlink(&self) -> Result<Vec<u8>> {
        self.inner.readlink().await
    }
}

impl<F: OpenFile> OpenFile for CoarseFile<F> {
    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        let (reads, attrs) = self.1.asked.get();
        self.1.asked.set((reads + 1, attrs));
        let read = self.0.read(into, offset).await;
        let mut is_slow = self.1.is_slow.get();
        poll_fn(|_| match std::mem::take(&mut is_slow) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
        read
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        self.0.write(from, offset).await
    }

    async fn readdir(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let (reads, attrs) = self.1.asked.get();
        self.1.asked.set((reads + 1, attrs));
        self.0.readdir(offset, each).await
    }

    async fn readdir_some(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> Result<()> {
        let mut count = 0;
        let mut few = |entry: &DirEntry<'_>| {
            count += 1;
            count <= ENTRIES && each(entry, None)
        };
        self.readdir(offset, &mut few).await
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        Ok(self.1.told(self.0.getattr(mask).await?))
    }

    async fn setattr(&self, attr: &p9_wire::SetAttr) -> Result<()> {
        self.0.setattr(attr).await
    }
}

pub type Root = CachedNode<Coarse<MemNode>>;

/// A tree, the program that sees it through a cache, and another one.
pub struct Bed {
    pub reader: Fs<Root>,
    pub root: Root,
    pub writer: Fs<MemNode>,
    pub clock: Rc<Cell<Duration>>,
    /// How often the cache looked at the clock.
    pub looks: Rc<Cell<u64>>,
    pub asked: Rc<Cell<(u64, u64)>>,
    pub is_slow: Rc<Cell<bool>>,
}

/// Files whose times are as coarse as `tick`, and a cache of so many bytes.
pub fn bed(tick: Duration, bytes: usize) -> Bed {
    let clock = Rc::new(Cell::new(Duration::from_secs(1)));
    let (files, cache) = (clock.clone(), clock.clone());
    let tree = MemTree::with_clock(64 << 20, move || files.get().into());
    let (asked, is_slow) = (Rc::default(), Rc::default());
    let below = Coarse {
        inner: tree.root(),
        tick,
        asked: Rc::clone(&asked),
        is_slow: Rc::clone(&is_slow),
    };
    let looks = Rc::new(Cell::new(0));
    let counted = looks.clone();
    let root = CachedNode::new(below, bytes, move || {
        counted.set(counted.get() + 1);
        cache.get()
    });
    Bed {
        reader: Fs::new(root.clone()),
        root,
        writer: Fs::new(tree.root()),
        clock,
        looks,
        asked,
        is_slow,
    }
}

impl Bed {
    pub fn pass(&self, time: Duration) {
        self.clock.set(self.clock.get() + time);
    }

    /// How many reads and attributes the tree below is asked for by `work`.
    pub fn asked(&self, work: impl FnOnce()) -> (u64, u64) {
        let before = self.asked.get();
        work();
        let after = self.asked.get();
        (after.0 - before.0, after.1 - before.1)
    }

    /// How often `work` has the cache look at the clock.
    pub fn looks(&self, work: impl FnOnce()) -> u64 {
        let before = self.looks.get();
        work();
        self.looks.get() - before
    }
}
