//! What a cache knows, and until when it believes that.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::mem;
use core::time::Duration;

use p9_wire::{Attr, AttrMask, Qid, Time};

use super::pages::{PAGE, Pages};

/// How long names, attributes and links are believed, and the size of an open file.
pub(super) const BELIEVED: Duration = Duration::from_secs(1);

/// How coarse the times of files may be: Linux's clock for them ticks every 1 to 10 ms. Of two changes within one tick the second
/// leaves no trace, so that data which was read so soon after the first may be older than the stamp says.
const TICK: Duration = Duration::from_millis(20);

/// Names may take this share of the cache's room.
const NAMES_SHARE: usize = 8;

/// What a name takes besides its path, in bytes.
const NAME_COST: usize = 2 * mem::size_of::<Known>();

/// The most files that are known without any data of them.
const MOST_FILES: usize = 256;

/// What changes whenever the content of a file does, as far as its server tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    version: u32,
    pub(super) size: u64,
    mtime: Time,
    ctime: Time,
}

impl Stamp {
    /// The attributes that a stamp is made of.
    pub(super) const MASK: AttrMask = AttrMask::BASIC.union(AttrMask::BTIME);

    /// The stamp of a regular file with these attributes. None where they don't tell enough, or where the content may be made up
    /// when it is read: such files say that they are empty.
    pub(super) fn of(attr: &Attr) -> Option<Stamp> {
        let needed = AttrMask::MODE | AttrMask::SIZE | AttrMask::MTIME | AttrMask::CTIME;
        let is_regular = attr.mode & 0o170_000 == 0o100_000;
        (attr.valid.contains(needed) && is_regular && attr.size > 0).then_some(Stamp {
            version: attr.qid.version,
            size: attr.size,
            mtime: attr.mtime,
            ctime: attr.ctime,
        })
    }
}

/// A regular file that was opened to be read.
pub(super) struct Entry {
    /// By which its pages are found. Another one after each change of ours, so that what was asked for before is not taken for
    /// what came after. None: another file has taken its place, nothing is kept of this one.
    id: Cell<Option<u64>>,
    /// What the pages are of; unknown after a change of ours.
    stamp: Cell<Option<Stamp>>,
    /// Until when the size in the stamp is believed.
    sized_until: Cell<Duration>,
    /// When the stamp was first seen.
    since: Duration,
    /// Whether a page was read so soon after that that another change may have left the stamp as it is.
    is_early: Cell<bool>,
}

impl Entry {
    /// By which a read that begins now will know whether it may be kept.
    pub(super) fn id(&self) -> Option<u64> {
        self.id.get()
    }

    /// How long the file is, if that is believed.
    pub(super) fn size(&self, now: Duration) -> Option<u64> {
        let stamp = self.stamp.get().filter(|_| now < self.sized_until.get());
        stamp.map(|stamp| stamp.size)
    }
}

/// What is known of a path.
#[derive(Default)]
struct Known {
    qid: Qid,
    attr: Option<(AttrMask, Attr, Duration)>,
    link: Option<(Vec<u8>, Duration)>,
}

impl Known {
    /// Whether it is of the file with this number. Trees of trees may number what they walk to otherwise than what they describe.
    fn is_of(&self, ino: u64) -> bool {
        let told = self.attr.as_ref().map(|(_, attr, _)| attr.qid.path);
        self.qid.path == ino || told == Some(ino)
    }
}

#[derive(Default)]
struct Store {
    pages: Pages,
    last_id: u64,
    files: BTreeMap<u64, Rc<Entry>>,
    names: BTreeMap<Vec<u8>, Known>,
    names_used: usize,
    epoch: u64,
}

impl Store {
    fn next_id(&mut self) -> Option<u64> {
        self.last_id += 1;
        Some(self.last_id)
    }

    fn forget_names(&mut self) {
        self.names = BTreeMap::new();
        self.names_used = 0;
    }

    /// Forgets the data of a file.
    fn renew(&mut self, entry: &Entry) {
        if let Some(id) = entry.id.get() {
            self.pages.forget(id);
            entry.id.set(self.next_id());
        }
        entry.stamp.set(None);
    }

    /// Keeps nothing of a file any more.
    fn retire(&mut self, entry: &Entry) {
        self.renew(entry);
        entry.id.set(None);
    }

    fn forget_all(&mut self) {
        self.forget_names();
        for entry in mem::take(&mut self.files).into_values() {
            self.retire(&entry);
        }
    }
}

/// What the nodes and files of a cached tree share.
pub(super) struct Cache {
    store: RefCell<Store>,
    /// How many changes of ours began or ended.
    changes: Cell<u64>,
    /// The same of names.
    changes_of_names: Cell<u64>,
    limit: usize,
    clock: Box<dyn Fn() -> Duration>,
    epoch: Box<dyn Fn() -> u64>,
}

impl Cache {
    pub(super) fn new(
        limit: usize,
        clock: Box<dyn Fn() -> Duration>,
        epoch: Box<dyn Fn() -> u64>,
    ) -> Self {
        let store = Store {
            epoch: epoch(),
            ..Store::default()
        };
        Cache {
            store: RefCell::new(store),
            changes: Cell::new(0),
            changes_of_names: Cell::new(0),
            limit,
            clock,
            epoch,
        }
    }

    pub(super) fn now(&self) -> Duration {
        (self.clock)()
    }

    /// How many changes of ours there were, of everything and of names. After a loss of what is below, all is forgotten first.
    pub(super) fn changes(&self) -> (u64, u64) {
        let epoch = (self.epoch)();
        let mut store = self.store.borrow_mut();
        if mem::replace(&mut store.epoch, epoch) != epoch {
            store.forget_all();
            self.changes.set(self.changes.get() + 1);
        }
        (self.changes.get(), self.changes_of_names.get())
    }

    /// Half of the memory, at least; whether that is any. Nothing while the cache is at work.
    pub(super) fn give_back(&self) -> bool {
        let Ok(mut store) = self.store.try_borrow_mut() else {
            return false;
        };
        let is_any = store.pages.used() > 0 || store.names_used > 0;
        let half = store.pages.used() / 2;
        store.pages.shrink(half);
        store.forget_names();
        is_any
    }

    /// The attributes of what is at a path, and its identity.
    pub(super) fn attr(&self, path: &[u8], mask: AttrMask) -> Option<(Attr, Qid)> {
        let store = self.store.borrow();
        let known = store.names.get(path)?;
        let &(asked, attr, until) = known.attr.as_ref()?;
        (asked.contains(mask) && self.now() < until).then_some((attr, known.qid))
    }

    /// What the symbolic link at a path says; only if it is this one, where that is known.
    pub(super) fn link(&self, path: &[u8], qid: Option<Qid>) -> Option<(Vec<u8>, Qid)> {
        let store = self.store.borrow();
        let known = store.names.get(path)?;
        let (link, until) = known.link.as_ref()?;
        let is_it = qid.is_none_or(|qid| qid == known.qid) && self.now() < *until;
        is_it.then(|| crate::try_copy(link).ok().map(|link| (link, known.qid)))?
    }

    /// Keeps the attributes of what is at a path, which were asked for after so many changes.
    pub(super) fn keep_attr(&self, path: &[u8], mask: AttrMask, attr: Attr, qid: Qid, seen: u64) {
        let until = self.now() + BELIEVED;
        self.know(path, qid, seen, 0, |known| {
            known.attr = Some((mask, attr, until));
        });
    }

    /// The same with what a symbolic link says.
    pub(super) fn keep_link(&self, path: &[u8], link: &[u8], qid: Qid, seen: u64) {
        let (Ok(link), until) = (crate::try_copy(link), self.now() + BELIEVED) else {
            return;
        };
        let cost = link.len();
        self.know(path, qid, seen, cost, |known| {
            known.link = Some((link, until));
        });
    }

    fn know(&self, path: &[u8], qid: Qid, seen: u64, cost: usize, learn: impl FnOnce(&mut Known)) {
        let Ok(path) = crate::try_copy(path) else {
            return;
        };
        if self.changes.get() != seen {
            return;
        }
        let mut store = self.store.borrow_mut();
        // What is there already counts once more: then all goes a little sooner.
        store.names_used += NAME_COST + path.len() + cost;
        if store.names_used > self.limit / NAMES_SHARE {
            return store.forget_names();
        }
        let known = store.names.entry(path).or_default();
        if known.qid != qid {
            *known = Known {
                qid,
                ..Known::default()
            };
        }
        learn(known);
    }

    /// What is kept of the file with this identity, which was opened just now and then asked for these attributes, after so
    /// many changes.
    pub(super) fn opened(&self, attr: &Attr, seen: u64) -> Option<Rc<Entry>> {
        let stamp = Stamp::of(attr)?;
        let now = self.now();
        let mut store = self.store.borrow_mut();
        let is_now = self.changes.get() == seen;
        if let Some(entry) = store.files.get(&attr.qid.path).cloned() {
            if is_now && entry.stamp.get() == Some(stamp) {
                if entry.is_early.replace(false) {
                    store.renew(&entry);
                    entry.stamp.set(Some(stamp));
                }
                entry.sized_until.set(now + BELIEVED);
                return Some(entry);
            }
            store.retire(&entry);
        }
        if store.files.len() >= MOST_FILES {
            let Store { files, pages, .. } = &mut *store;
            files.retain(|_, entry| {
                Rc::strong_count(entry) > 1 || entry.id.get().is_some_and(|id| pages.has(id))
            });
        }
        let entry = Rc::new(Entry {
            id: Cell::new(store.next_id()),
            stamp: Cell::new(is_now.then_some(stamp)),
            sized_until: Cell::new(now + BELIEVED),
            since: now,
            is_early: Cell::new(false),
        });
        store.files.insert(attr.qid.path, entry.clone());
        Some(entry)
    }

    /// Copies what is kept of a file from `offset` on; how many bytes that were.
    pub(super) fn take(&self, entry: &Entry, into: &mut [u8], offset: u64) -> usize {
        let store = self.store.borrow();
        let id = entry.id.get();
        id.map_or(0, |id| store.pages.take(id, into, offset))
    }

    /// Keeps what was read of a file at `offset`. The read began at `begun`, when the file had this `id`.
    pub(super) fn keep(&self, entry: &Entry, id: u64, begun: Duration, bytes: &[u8], offset: u64) {
        if entry.id.get() != Some(id) {
            return;
        }
        if begun < entry.since + TICK {
            entry.is_early.set(true);
        }
        let size = entry.stamp.get().map(|stamp| stamp.size);
        // No file is so long, whatever a server says.
        let end = offset.checked_add(bytes.len() as u64);
        let (Some(_), Some(mut at)) = (end, offset.checked_next_multiple_of(PAGE as u64)) else {
            return;
        };
        let skip = (at - offset) as usize;
        let mut store = self.store.borrow_mut();
        for bytes in bytes.get(skip..).unwrap_or(&[]).chunks(PAGE) {
            // The last page of a file is short.
            if bytes.len() == PAGE || size == Some(at + bytes.len() as u64) {
                store.pages.insert(id, at, bytes, self.limit);
            }
            at += bytes.len() as u64;
        }
    }

    /// A change of ours begins, or ends: of the data of the file with this number, or of any.
    fn changed(&self, what: Change) {
        self.changes.set(self.changes.get() + 1);
        let mut store = self.store.borrow_mut();
        match what {
            Change::Names => {
                self.changes_of_names.set(self.changes_of_names.get() + 1);
                store.forget_names();
            }
            Change::Data(Some(ino)) => {
                store.names.retain(|_, known| !known.is_of(ino));
                if let Some(entry) = store.files.get(&ino).cloned() {
                    store.renew(&entry);
                }
            }
            Change::Data(None) => {
                store.forget_names();
                let all: Vec<Rc<Entry>> = store.files.values().cloned().collect();
                for entry in all {
                    store.renew(&entry);
                }
            }
        }
    }

    /// Says that a change of ours begins. It ends when the answer is dropped, even with a future half-way.
    pub(super) fn change(&self, what: Change) -> Changing<'_> {
        self.changed(what);
        Changing(self, what)
    }
}

/// What a change is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// Names are made, removed, given to other files.
    Names,
    /// Data and attributes of the file with this number, or of one whose number is not known.
    Data(Option<u64>),
}

/// A change that is under way.
pub(super) struct Changing<'a>(&'a Cache, Change);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.changed(self.1);
    }
}
