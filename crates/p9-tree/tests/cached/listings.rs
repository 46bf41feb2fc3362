//! Listings of directories: what one of two programs may see of the other's changes, and what it is not asked for again.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use p9_tree::files::aio::{DirEntry, ReadDir};
use p9_tree::files::{self, Fs};
use p9_tree::trees::{CachedNode, MemTree};
use p9_tree::{NeverWaits, Node, OpenOptions, block_on};

use crate::BELIEVED;
use crate::coarse::{Bed, ENTRIES, Root, bed};

/// Names, and the files that have them.
type Names = BTreeSet<(Vec<u8>, u64)>;

/// What is in the root now.
fn there(bed: &Bed) -> Names {
    all(bed.writer.read_dir("/").unwrap())
}

/// What the reader is told of it.
fn listed(bed: &Bed) -> Names {
    all(bed.reader.read_dir("/").unwrap())
}

fn all<N: Node>(entries: files::ReadDir<N>) -> Names {
    let named = entries.map(|entry| entry.map(|entry| (entry.file_name().to_vec(), entry.ino())));
    named.collect::<p9_tree::Result<_>>().unwrap()
}

fn next(dir: &mut ReadDir<Root>) -> Option<DirEntry<Root>> {
    let next = async { dir.next().await.transpose() };
    block_on(&NeverWaits, next).unwrap()
}

/// A listing of the root that the reader goes through while names change.
pub struct Listing {
    dir: ReadDir<Root>,
    /// What was there all the time since it was begun, and what was for some of it. None: it was not begun.
    times: Option<(Names, Names)>,
    shown: Names,
}

impl Listing {
    pub fn open(bed: &Bed) -> Self {
        Listing {
            dir: block_on(&NeverWaits, bed.reader.as_async().read_dir("/")).unwrap(),
            times: None,
            shown: Names::new(),
        }
    }

    pub fn begin_again(&mut self) {
        self.dir.seek(0);
        self.times = None;
        self.shown.clear();
    }

    /// Reads so many entries; an error says what is wrong with them.
    pub fn read(&mut self, bed: &Bed, count: usize) -> Result<(), String> {
        let (always, ever) = self.times.get_or_insert_with(|| (there(bed), there(bed)));
        for _ in 0..count {
            let Some(entry) = next(&mut self.dir) else {
                let missing = always.difference(&self.shown).next();
                if let Some(missing) = missing {
                    return Err(format!("the listing has no {missing:?}"));
                }
                self.begin_again();
                break;
            };
            let entry = (entry.file_name().to_vec(), entry.ino());
            if !ever.contains(&entry) || !self.shown.insert(entry.clone()) {
                return Err(format!("the listing has {entry:?}"));
            }
        }
        Ok(())
    }

    /// To be called after each change.
    pub fn note(&mut self, bed: &Bed) {
        if let Some((always, ever)) = &mut self.times {
            let now = there(bed);
            *always = always.intersection(&now).cloned().collect();
            ever.extend(now);
        }
    }
}

/// Lists the root to its end by the reader; how many entries there are.
fn names(bed: &Bed) -> usize {
    listed(bed).len()
}

/// Twelve files, which are old enough.
fn twelve(bytes: usize) -> Bed {
    let bed = bed(Duration::from_millis(4), bytes);
    for number in 0..12 {
        bed.writer.write(format!("/{number}"), b"content").unwrap();
    }
    bed.pass(BELIEVED);
    bed
}

#[test]
fn an_unchanged_directory_is_not_listed_again() {
    let bed = twelve(1 << 20);
    let parts = (12_usize.div_ceil(ENTRIES) + 1) as u64;
    let list = || assert_eq!(names(&bed), 12);
    assert_eq!(bed.asked(list), (parts, 1));
    // It may have changed once more within the tick in which it was seen first.
    bed.pass(Duration::from_millis(30));
    assert_eq!(bed.asked(list), (parts, 1));
    assert_eq!(bed.asked(list), (0, 1), "asked whether it changed");
    bed.pass(BELIEVED * 100);
    assert_eq!(bed.asked(list), (0, 1));
    bed.writer.write("/other", b"").unwrap();
    assert_eq!(names(&bed), 13);
    bed.pass(BELIEVED);
    assert_eq!(names(&bed), 13);
    // Its own changes are known at once.
    bed.reader.remove_file("/other").unwrap();
    let (reads, _) = bed.asked(|| assert_eq!(names(&bed), 12));
    assert_eq!(reads, parts);
    // Those of files' data are none of the directory.
    bed.pass(BELIEVED);
    names(&bed);
    let file = bed.reader.open_with("/3", OpenOptions::new().write(true));
    file.unwrap().write_all_at(b"more", 0).unwrap();
    bed.reader.truncate("/3", 1).unwrap();
    assert_eq!(bed.asked(list), (0, 1));
}

/// Whatever the times say of it.
#[test]
fn its_own_changes_are_known_where_times_are_coarse() {
    let hour = Duration::from_secs(3600);
    let bed = bed(hour, 1 << 20);
    bed.clock.set(hour * 2);
    let fs = &bed.reader;
    let changes: [&dyn Fn(); 6] = [
        &|| fs.write("/a", b"").unwrap(),
        &|| fs.create_dir("/b").unwrap(),
        &|| fs.symlink("a", "/c").unwrap(),
        &|| fs.rename("/a", "/d").unwrap(),
        &|| fs.remove_dir("/b").unwrap(),
        &|| fs.remove_file("/c").unwrap(),
    ];
    for change in changes {
        // Twice, so that it is kept and trusted.
        for _ in 0..2 {
            names(&bed);
            bed.pass(BELIEVED);
        }
        change();
        assert_eq!(listed(&bed), there(&bed));
        // So is one that is made while the directory is being listed: what was listed is not kept.
        bed.pass(BELIEVED);
        let mut listing = Listing::open(&bed);
        listing.read(&bed, 1).unwrap();
        fs.write("/meanwhile", b"").unwrap();
        listing.note(&bed);
        assert_eq!(listed(&bed), there(&bed));
        listing.read(&bed, 50).unwrap();
        bed.pass(BELIEVED);
        assert_eq!(listed(&bed), there(&bed));
        fs.remove_file("/meanwhile").unwrap();
    }
}

/// A listing that is left half-way, or begun behind its beginning, is none that could be kept.
#[test]
fn half_a_listing_is_not_taken_for_the_whole() {
    let bed = twelve(1 << 20);
    for _ in 0..3 {
        let mut entries = bed.reader.read_dir("/").unwrap();
        assert!(entries.by_ref().take(7).all(|entry| entry.is_ok()));
        bed.pass(BELIEVED);
    }
    assert_eq!(names(&bed), 12);
    let fs = bed.reader.as_async();
    let mut dir = block_on(&NeverWaits, fs.read_dir("/")).unwrap();
    let rest = |dir: &mut ReadDir<Root>| {
        let mut cookies = Vec::new();
        while let Some(entry) = next(dir) {
            cookies.push(entry.cookie());
        }
        cookies
    };
    let all = rest(&mut dir);
    assert_eq!(all.len(), 12);
    for (index, &cookie) in all.iter().enumerate().rev() {
        dir.seek(cookie);
        let (reads, _) = bed.asked(|| assert_eq!(rest(&mut dir), all[index + 1..]));
        assert!(index == 11 || reads == 0, "{reads} reads of what is known");
    }
    bed.pass(BELIEVED);
    assert_eq!(names(&bed), 12);
}

#[test]
fn one_that_is_too_long_is_not_kept() {
    // A quarter is for listings.
    for (bytes, reads) in [(8 << 10, 0), (1 << 10, 4), (0, 4)] {
        let bed = twelve(bytes);
        names(&bed);
        bed.pass(BELIEVED);
        names(&bed);
        let asked = bed.asked(|| assert_eq!(names(&bed), 12));
        assert_eq!(
            asked,
            (reads, u64::from(bytes > 0)),
            "room for {bytes} bytes"
        );
    }
}

#[test]
fn its_memory_is_given_back() {
    let bed = twelve(1 << 20);
    names(&bed);
    bed.pass(BELIEVED);
    names(&bed);
    assert_eq!(bed.asked(|| assert_eq!(names(&bed), 12)).0, 0);
    assert!(bed.root.give_back());
    assert!(!bed.root.give_back());
    assert!(bed.asked(|| assert_eq!(names(&bed), 12)).0 > 0);
}

/// Many directories take no more than their share, and data what is left.
#[test]
fn many_listings_keep_within_their_share() {
    let limit = 64 << 10;
    let bed = bed(Duration::from_millis(4), limit);
    for dir in 0..60 {
        bed.writer.create_dir(format!("/{dir}")).unwrap();
        for number in 0..20 {
            let path = format!("/{dir}/a-name-of-some-length-{number}");
            bed.writer.write(path, b"").unwrap();
        }
    }
    bed.writer.write("/f", vec![1; 40 << 10]).unwrap();
    bed.pass(BELIEVED);
    let each = || {
        for dir in 0..60 {
            let entries = bed.reader.read_dir(format!("/{dir}")).unwrap();
            assert_eq!(all(entries).len(), 20);
        }
        assert!(bed.reader.read("/f").unwrap() == vec![1; 40 << 10]);
    };
    each();
    bed.pass(BELIEVED);
    each();
    let (reads, _) = bed.asked(each);
    // Each has some 1,000 bytes, and is read in five parts.
    assert!(
        reads > 40 * 5,
        "{reads} reads: far more is kept than there is room for"
    );
    let last = || {
        let entries = bed.reader.read_dir("/59").unwrap();
        assert_eq!(all(entries).len(), 20);
        assert!(bed.reader.read("/f").unwrap() == vec![1; 40 << 10]);
    };
    assert_eq!(bed.asked(last).0, 0, "what was listed last, and the data");
}

/// Directories whose entries may be made up say that they are empty, as those of a tree in memory do.
#[test]
fn what_may_be_made_up_is_not_kept() {
    let tree = MemTree::new();
    let time = Rc::new(RefCell::new(Duration::from_secs(9)));
    let clock = time.clone();
    let fs = Fs::new(CachedNode::new(tree.root(), 1 << 20, move || {
        *clock.borrow()
    }));
    let below = Fs::new(tree.root());
    for number in 1..5 {
        // Its clock stands still: nothing tells of the change.
        below.write(format!("/{number}"), b"").unwrap();
        assert_eq!(fs.read_dir("/").unwrap().count(), number);
        *time.borrow_mut() += BELIEVED;
    }
}
