//! A cached tree shows what close-to-open allows of what others do to the tree below, and all of what it does itself; it keeps
//! within its memory.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use p9_tree::files::{File, Fs};
use p9_tree::trees::{CachedFile, CachedNode, MemNode, MemTree};
use p9_tree::{Node, OpenFile, OpenOptions, Result, Walked};
use p9_wire::{Attr, AttrMask, OpenFlags, Qid, Time};
use xen9p_testing::random::Random;

/// How long attributes and links are believed.
const BELIEVED: Duration = Duration::from_secs(1);

const PAGE: usize = 4096;

/// A tree whose files have no versions, and times that are as coarse as said.
#[derive(Clone)]
struct Coarse<N> {
    inner: N,
    tick: Duration,
    /// How many reads and attributes were asked for.
    asked: Rc<Cell<(u64, u64)>>,
    /// Whether answers to reads are under way for a while.
    is_slow: Rc<Cell<bool>>,
}

struct CoarseFile<F>(F, Coarse<()>);

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

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        Ok(self.1.told(self.0.getattr(mask).await?))
    }

    async fn setattr(&self, attr: &p9_wire::SetAttr) -> Result<()> {
        self.0.setattr(attr).await
    }
}

type Root = CachedNode<Coarse<MemNode>>;

/// A tree, the program that sees it through a cache, and another one.
struct Bed {
    reader: Fs<Root>,
    root: Root,
    writer: Fs<MemNode>,
    clock: Rc<Cell<Duration>>,
    asked: Rc<Cell<(u64, u64)>>,
    is_slow: Rc<Cell<bool>>,
}

fn bed(tick: Duration, bytes: usize) -> Bed {
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
    let root = CachedNode::new(below, bytes, move || cache.get());
    Bed {
        reader: Fs::new(root.clone()),
        root,
        writer: Fs::new(tree.root()),
        clock,
        asked,
        is_slow,
    }
}

impl Bed {
    fn pass(&self, time: Duration) {
        self.clock.set(self.clock.get() + time);
    }

    /// How many reads and attributes the tree below is asked for by `work`.
    fn asked(&self, work: impl FnOnce()) -> (u64, u64) {
        let before = self.asked.get();
        work();
        let after = self.asked.get();
        (after.0 - before.0, after.1 - before.1)
    }
}

/// What something was, and since when.
struct Timeline<T>(Vec<(Duration, T)>);

impl<T: PartialEq> Timeline<T> {
    /// Whether it was that at some time from `since` on.
    fn was(&self, what: &T, since: Duration) -> bool {
        let first = self.0.partition_point(|(from, _)| *from < since);
        self.0[first.saturating_sub(1)..]
            .iter()
            .any(|(_, is)| is == what)
    }
}

/// A file, whatever its name is.
#[derive(Default)]
struct Inode {
    versions: Vec<Vec<u8>>,
}

struct Handle {
    file: File<CachedFile<CoarseFile<p9_tree::trees::MemFile>>>,
    inode: usize,
    /// The version that it must show at least.
    least: usize,
    writes: bool,
}

struct Model {
    inodes: Vec<Inode>,
    /// Which file has a name, since when, and how long it was at what time.
    names: Vec<(usize, Duration)>,
    sizes: Vec<Timeline<u64>>,
    link: Timeline<Vec<u8>>,
    /// When the reader changed something last.
    own: Duration,
    handles: Vec<Handle>,
}

const NAMES: [&str; 3] = ["/a", "/b", "/c"];

impl Model {
    fn changed(&mut self, inode: usize, now: Duration, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.inodes[inode]
            .versions
            .last()
            .cloned()
            .unwrap_or_default();
        change(&mut content);
        let len = content.len() as u64;
        self.inodes[inode].versions.push(content);
        if let Some(name) = self.names.iter().position(|(is, _)| *is == inode) {
            self.sizes[name].0.push((now, len));
        }
    }

    fn newest(&self, inode: usize) -> usize {
        self.inodes[inode].versions.len() - 1
    }

    /// Whether the handle may show this at `offset`, where it was asked for `asked` bytes.
    fn allows(&self, handle: &Handle, offset: usize, asked: usize, got: &[u8]) -> bool {
        let versions = &self.inodes[handle.inode].versions[handle.least..];
        let mut at = offset;
        while at < offset + got.len() {
            let end = ((at / PAGE + 1) * PAGE).min(offset + got.len());
            // The end of a file may lie in a page, and what others appended behind it.
            for _ in 0..2 {
                let piece = &got[at - offset..end - offset];
                let same = |version: &Vec<u8>| {
                    let there = version.get(at..).unwrap_or(&[]);
                    there.iter().zip(piece).take_while(|(a, b)| a == b).count()
                };
                at += versions.iter().map(same).max().unwrap_or(0);
            }
            if at != end {
                return false;
            }
        }
        got.len() == asked || versions.iter().any(|version| version.len() <= at)
    }
}

fn put(content: &mut Vec<u8>, at: usize, data: &[u8]) {
    content.resize(content.len().max(at + data.len()), 0);
    content[at..at + data.len()].copy_from_slice(data);
}

/// Random steps of both programs. Returns what the reader saw that it may not see.
fn run(bed: &Bed, seed: u64, steps: usize) -> std::result::Result<(), String> {
    let mut random = Random::new(seed);
    let mut model = Model {
        inodes: Vec::new(),
        names: Vec::new(),
        sizes: Vec::new(),
        link: Timeline(Vec::new()),
        own: Duration::ZERO,
        handles: Vec::new(),
    };
    for (index, name) in NAMES.into_iter().enumerate() {
        let data = random.bytes(20_000);
        bed.writer.write(name, &data).unwrap();
        model.inodes.push(Inode::default());
        model.names.push((index, Duration::ZERO));
        model.sizes.push(Timeline(Vec::new()));
        model.changed(index, bed.clock.get(), |content| *content = data);
    }
    bed.writer.symlink("first", "/l").unwrap();
    model.link.0.push((bed.clock.get(), b"first".to_vec()));
    for step in 0..steps {
        let pause = match random.below(8) {
            0 => Duration::from_millis(random.below(1300) as u64),
            1..=4 => Duration::from_millis(random.below(4) as u64),
            _ => Duration::ZERO,
        };
        bed.pass(pause);
        let now = bed.clock.get();
        let name = random.below(NAMES.len());
        let (path, (inode, named)) = (NAMES[name], model.names[name]);
        // Mostly the same length, so that the size seldom tells.
        let (at, len) = (random.below(5) * PAGE, random.below(2 * PAGE) + 1);
        let data = random.bytes(len);
        let what = format!("seed {seed}, step {step}");
        match random.below(16) {
            0 | 1 => {
                let file = bed.writer.open_with(path, OpenOptions::new().write(true));
                file.unwrap().write_all_at(&data, at as u64).unwrap();
                model.changed(inode, now, |content| put(content, at, &data));
            }
            2 => {
                bed.writer.truncate(path, at as u64 + 1).unwrap();
                model.changed(inode, now, |content| content.resize(at + 1, 0));
            }
            3 => {
                bed.writer.write("/new", &data).unwrap();
                bed.writer.rename("/new", path).unwrap();
                model.inodes.push(Inode::default());
                let inode = model.inodes.len() - 1;
                model.names[name] = (inode, now);
                model.changed(inode, now, |content| *content = data);
            }
            4 => {
                let target = step.to_string().into_bytes();
                bed.writer.remove_file("/l").unwrap();
                bed.writer.symlink(&target, "/l").unwrap();
                model.link.0.push((now, target));
            }
            5..=7 => {
                let writes = random.below(2) == 0;
                let mut options = OpenOptions::new();
                let file = options.read(true).write(writes).open(&bed.reader, path);
                model.handles.push(Handle {
                    file: file.unwrap(),
                    inode,
                    least: model.newest(inode),
                    writes,
                });
                if model.handles.len() > 6 {
                    model.handles.swap_remove(random.below(6));
                }
            }
            8..=11 if !model.handles.is_empty() => {
                let handle = &model.handles[random.below(model.handles.len())];
                let offset = at + random.below(3) * 100;
                let mut buffer = vec![0; random.below(12_000) + 1];
                let count = handle.file.read_at(&mut buffer, offset as u64).unwrap();
                if !model.allows(handle, offset, buffer.len(), &buffer[..count]) {
                    return Err(format!("{what}: {count} bytes of {path} at {offset}"));
                }
            }
            12 => {
                let len = bed.reader.metadata(path).unwrap().len();
                let since = model.own.max(now.saturating_sub(BELIEVED));
                if !model.sizes[name].was(&len, since) {
                    return Err(format!("{what}: {path} has {len} bytes"));
                }
            }
            13 => {
                let link = bed.reader.read_link("/l").unwrap();
                let since = model.own.max(now.saturating_sub(BELIEVED));
                if !model.link.was(&link, since) {
                    return Err(format!("{what}: /l says {link:?}"));
                }
            }
            14 if model.handles.iter().any(|handle| handle.writes) => {
                let handle = model.handles.iter().find(|handle| handle.writes).unwrap();
                let (is_named, inode) = (handle.inode == inode, handle.inode);
                handle.file.write_all_at(&data, at as u64).unwrap();
                model.changed(inode, now, |content| put(content, at, &data));
                let newest = model.newest(inode);
                for handle in &mut model.handles {
                    if handle.inode == inode {
                        handle.least = newest;
                    }
                }
                // Where the other program gave the name to this file just now, that need not be known yet.
                if named + BELIEVED <= now && is_named {
                    let len = model.inodes[inode].versions[newest].len() as u64;
                    let seen = bed.reader.metadata(path).unwrap().len();
                    assert_eq!(seen, len, "{what}: its own change");
                }
            }
            15 => {
                // By another name and back: no name leads where it did in between.
                bed.reader.rename(path, "/moved").unwrap();
                assert!(bed.reader.metadata(path).is_err(), "{what}");
                bed.reader.rename("/moved", path).unwrap();
                model.own = now;
                let len = model.inodes[inode].versions[model.newest(inode)].len() as u64;
                assert_eq!(bed.reader.metadata(path).unwrap().len(), len, "{what}");
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn nothing_is_older_than_close_to_open_allows() {
    for seed in 1..=40 {
        // As the clock that Linux gives files their times by, from 1 to 10 ms; memory for all, and for next to nothing.
        let tick = Duration::from_millis([1, 4, 10][seed as usize % 3]);
        let bed = bed(tick, [1 << 20, 40 << 10][seed as usize % 2]);
        run(&bed, seed, 3000).unwrap();
        let (reads, _) = bed.asked.get();
        assert!(reads > 0);
    }
}

/// Files whose times and versions say nothing at all: a cache that trusts them is one that never asks. The model finds that.
#[test]
fn the_model_finds_a_cache_that_does_not_ask() {
    let found = (1..=10).filter(|&seed| {
        let bed = bed(Duration::from_secs(1 << 30), 1 << 20);
        run(&bed, seed, 3000).is_err()
    });
    assert!(found.count() > 5);
}

#[test]
fn what_did_not_change_is_not_asked_for_again() {
    let bed = bed(Duration::from_millis(4), 1 << 20);
    bed.writer.write("/f", vec![7; 10_000]).unwrap();
    bed.writer.symlink("f", "/l").unwrap();
    bed.pass(Duration::from_secs(10));
    let read = || assert_eq!(bed.reader.read("/f").unwrap(), vec![7; 10_000]);
    read();
    // It may have changed once more within the tick in which it was seen first.
    bed.pass(Duration::from_millis(30));
    read();
    assert_eq!(bed.asked(read), (0, 1), "asked whether it changed");
    let file = bed.reader.open("/f").unwrap();
    let mut buffer = [0; 300];
    let within = || {
        assert_eq!(file.read_at(&mut buffer, 4000).unwrap(), 300);
        assert_eq!(file.metadata().unwrap().len(), 10_000);
        assert_eq!(file.read_at(&mut buffer, 10_000).unwrap(), 0);
    };
    assert_eq!(bed.asked(within), (0, 0));
    let stat = || assert_eq!(bed.reader.metadata("/f").unwrap().len(), 10_000);
    assert_eq!(bed.asked(stat), (0, 1));
    assert_eq!(bed.asked(stat), (0, 0));
    bed.pass(BELIEVED);
    assert_eq!(bed.asked(stat), (0, 1));
    // A file that grows is seen to grow while it stays open.
    bed.writer.write("/f", vec![7; 10_001]).unwrap();
    bed.pass(BELIEVED);
    assert_eq!(file.read_at(&mut buffer, 10_000).unwrap(), 1);
}

/// Files that are made up when they are read say that they are empty, or one size whatever they have.
#[test]
fn what_is_made_up_is_not_kept() {
    let clock = Duration::from_secs(9);
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let tree = MemTree::new();
    let number = move || {
        counted.set(counted.get() + 1);
        Ok(counted.get().to_string().into_bytes())
    };
    let file = p9_tree::trees::Synthetic::new().read(number);
    tree.put_synthetic("/count", file).unwrap();
    let fs = Fs::new(CachedNode::new(tree.root(), 1 << 20, move || clock));
    for time in 1..4 {
        assert_eq!(fs.read("/count").unwrap(), time.to_string().as_bytes());
    }
}

#[test]
fn memory_is_bounded_and_given_back() {
    let limit = 256 << 10;
    let bed = bed(Duration::from_millis(4), limit);
    for number in 0..200 {
        let path = format!("/{number}");
        bed.writer.write(path, vec![number as u8; 10_000]).unwrap();
    }
    bed.pass(BELIEVED);
    let all = |from: usize, to: usize| {
        for number in from..to {
            let content = bed.reader.read(format!("/{number}")).unwrap();
            assert!(content == vec![number as u8; 10_000], "{number}");
        }
    };
    all(0, 200);
    bed.pass(Duration::from_millis(30));
    all(0, 200);
    let (reads, _) = bed.asked(|| all(0, 200));
    assert!(
        reads > 150,
        "{reads} reads of 200 files: far more is kept than there is room for"
    );
    // What fits is kept.
    all(0, 15);
    all(0, 15);
    assert_eq!(bed.asked(|| all(0, 15)).0, 0);
    assert!(bed.root.give_back());
    let (reads, _) = bed.asked(|| all(0, 15));
    assert!(
        (1..=15).contains(&reads),
        "{reads} reads: half was given back"
    );
    while bed.root.give_back() {}
    assert_eq!(bed.asked(|| all(0, 15)).0, 15);
}

/// A tree below whose connection was lost.
#[derive(Clone)]
struct Lossy(MemNode, Rc<Cell<u64>>);

impl Node for Lossy {
    type File = p9_tree::trees::MemFile;

    fn qid(&self) -> Qid {
        self.0.qid()
    }

    fn epoch(&self) -> u64 {
        self.1.get()
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        Ok(Lossy(self.0.walk(name).await?, self.1.clone()))
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        self.0.getattr(mask).await
    }

    async fn open(&self, flags: OpenFlags) -> Result<Self::File> {
        self.0.open(flags).await
    }
}

#[test]
fn all_is_forgotten_when_the_connection_is_lost() {
    let (tree, losses) = (MemTree::new(), Rc::new(Cell::new(0)));
    let lossy = Lossy(tree.root(), losses.clone());
    let time = Rc::new(RefCell::new(Duration::ZERO));
    let clock = time.clone();
    let fs = Fs::new(CachedNode::new(lossy, 1 << 20, move || *clock.borrow()));
    let below = Fs::new(tree.root());
    below.write("/f", "old").unwrap();
    let file = fs.open("/f").unwrap();
    let content = || {
        let mut buffer = [0; 10];
        let count = file.read_at(&mut buffer, 0).unwrap();
        buffer[..count].to_vec()
    };
    assert_eq!(
        (content(), fs.metadata("/f").unwrap().len()),
        (b"old".to_vec(), 3)
    );
    below.write("/f", "newer").unwrap();
    // Both may still be what was asked for.
    assert_eq!(
        (content(), fs.metadata("/f").unwrap().len()),
        (b"old".to_vec(), 3)
    );
    losses.set(1);
    assert_eq!(
        (content(), fs.metadata("/f").unwrap().len()),
        (b"newer".to_vec(), 5)
    );
}

/// The second of two changes within one tick of the clock of files leaves no trace.
#[test]
fn what_changed_twice_at_once_is_asked_for_again() {
    let bed = bed(Duration::from_millis(10), 1 << 20);
    for content in [b"one", b"two", b"six"] {
        bed.writer.write("/f", content).unwrap();
        assert_eq!(bed.reader.read("/f").unwrap(), content);
        bed.pass(Duration::from_millis(3));
    }
}

#[test]
fn an_answer_from_before_a_change_is_not_kept() {
    let bed = bed(Duration::from_millis(4), 1 << 20);
    bed.writer.write("/f", vec![1; 9000]).unwrap();
    bed.pass(BELIEVED);
    let fs = bed.reader.as_async();
    for other in 2..5 {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&bed.reader, "/f");
        let (file, mut buffer) = (file.unwrap().into_async(), [0; 5000]);
        bed.is_slow.set(true);
        {
            let mut read = pin!(file.read_at(&mut buffer, 0));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(read.as_mut().poll(&mut cx).is_pending());
            bed.is_slow.set(false);
            let new = [other; 9000];
            match other {
                2 => p9_tree::block_on(&p9_tree::NeverWaits, fs.write("/f", new)).unwrap(),
                3 => p9_tree::block_on(&p9_tree::NeverWaits, file.write_all_at(&new, 0)).unwrap(),
                // By another program; what was asked for while it is not known is not kept over an open.
                _ => {
                    bed.writer.write("/f", new).unwrap();
                    bed.reader.open("/f").unwrap();
                }
            }
            assert!(read.as_mut().poll(&mut cx).is_ready());
        }
        assert!(bed.reader.read("/f").unwrap() == [other; 9000], "{other}");
    }
}

/// An operation that is given up half-way may be done all the same.
#[test]
fn what_is_given_up_counts_as_done() {
    let tree = MemTree::new();
    let root = CachedNode::new(tree.root(), 1 << 20, || Duration::from_secs(1));
    let fs = Fs::new(root.clone());
    fs.write("/f", "one").unwrap();
    assert_eq!(fs.metadata("/f").unwrap().len(), 3);
    let node = p9_tree::block_on(&p9_tree::NeverWaits, root.walk_at(&[b"f"])).unwrap();
    let Walked::Through(node, _) = node else {
        panic!("there is a file");
    };
    let shorter = p9_wire::SetAttr {
        valid: p9_wire::SetAttrMask::SIZE,
        size: 1,
        ..p9_wire::SetAttr::default()
    };
    // Never polled, it changes nothing; from below, nothing tells.
    drop(node.setattr(&shorter));
    Fs::new(tree.root()).truncate("/f", 1).unwrap();
    assert_eq!(fs.metadata("/f").unwrap().len(), 3);
    fs.truncate("/f", 2).unwrap();
    assert_eq!(fs.metadata("/f").unwrap().len(), 2);
}
