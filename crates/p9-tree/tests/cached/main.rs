//! A cached tree shows what close-to-open allows of what others do to the tree below, and all of what it does itself; it keeps
//! within its memory.

mod coarse;
mod listings;
mod model;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use p9_tree::files::Fs;
use p9_tree::trees::{CachedNode, MemFile, MemNode, MemTree, Synthetic};
use p9_tree::{NeverWaits, Node, OpenOptions, Result, Walked, block_on};
use p9_wire::{Attr, AttrMask, OpenFlags, Qid, SetAttr, SetAttrMask};

use coarse::bed;
use model::run;

/// How long attributes and links are believed.
const BELIEVED: Duration = Duration::from_secs(1);

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

/// On some machines a look at the clock takes longer than a copy of a page.
#[test]
fn the_clock_is_looked_at_only_where_time_counts() {
    let bed = bed(Duration::from_millis(4), 1 << 20);
    bed.writer.write("/f", vec![7; 50_000]).unwrap();
    bed.pass(Duration::from_secs(10));
    let open = || bed.reader.open("/f").unwrap();
    let file = open();
    let mut page = [0; 4096];
    let mut read = |at| assert_eq!(file.read_at(&mut page, at).unwrap(), 4096);
    let mut cost = |at| {
        let mut asked = (0, 0);
        let looks = bed.looks(|| asked = bed.asked(|| read(at)));
        (looks, asked.0)
    };
    // What is read soon after the stamp was seen is not kept for long.
    assert_eq!((cost(0), cost(0)), ((1, 1), (0, 0)));
    bed.pass(Duration::from_millis(30));
    assert_eq!((cost(4096), cost(8192)), ((1, 1), (0, 1)));
    for at in [0, 1, 5000, 8192] {
        assert_eq!(cost(at), (0, 0), "at {at}");
    }
    // The file's end, and attributes, are believed for a time.
    let end = || assert_eq!(file.read_at(&mut [0; 9], 50_000).unwrap(), 0);
    assert_eq!(bed.looks(end), 1);
    assert_eq!(bed.looks(|| assert!(file.metadata().is_ok())), 1);
    let stat = || assert!(bed.reader.metadata("/f").is_ok());
    stat();
    assert_eq!(bed.looks(stat), 1);
    assert_eq!(bed.looks(|| drop(open())), 1);
    let list = || assert_eq!(bed.reader.read_dir("/").unwrap().count(), 1);
    assert_eq!(bed.looks(list), 1);
    bed.pass(Duration::from_millis(30));
    list();
    assert_eq!(bed.looks(list), 0);
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
    let file = Synthetic::new().read(number);
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
    type File = MemFile;

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

/// A long file need not be read twice before it is known: what came late enough lasts.
#[test]
fn what_was_read_late_enough_is_kept_at_once() {
    let bed = bed(Duration::from_millis(4), 1 << 20);
    let content: Vec<u8> = (0..40 * 4096).map(|at| (at / 4096) as u8).collect();
    bed.writer.write("/f", &content).unwrap();
    let file = bed.reader.open("/f").unwrap();
    for page in 0..40 {
        let mut buffer = [0; 4096];
        assert_eq!(file.read_at(&mut buffer, page * 4096).unwrap(), 4096);
        bed.pass(Duration::from_millis(1));
    }
    let again = || {
        let file = bed.reader.open("/f").unwrap();
        for page in (0..40).rev() {
            let mut buffer = [0; 4096];
            assert_eq!(file.read_at(&mut buffer, page * 4096).unwrap(), 4096);
            assert_eq!(buffer, [page as u8; 4096]);
        }
    };
    assert_eq!(bed.asked(again), (20, 1), "those of the first 20 ms");
    assert_eq!(bed.asked(again), (0, 1));
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
                2 => block_on(&NeverWaits, fs.write("/f", new)).unwrap(),
                3 => block_on(&NeverWaits, file.write_all_at(&new, 0)).unwrap(),
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
    let node = block_on(&NeverWaits, root.walk_at(&[b"f"])).unwrap();
    let Walked::Through(node, _) = node else {
        panic!("there is a file");
    };
    let shorter = SetAttr {
        valid: SetAttrMask::SIZE,
        size: 1,
        ..SetAttr::default()
    };
    // Never polled, it changes nothing; from below, nothing tells.
    drop(node.setattr(&shorter));
    Fs::new(tree.root()).truncate("/f", 1).unwrap();
    assert_eq!(fs.metadata("/f").unwrap().len(), 3);
    fs.truncate("/f", 2).unwrap();
    assert_eq!(fs.metadata("/f").unwrap().len(), 2);
}
