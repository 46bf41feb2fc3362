//! What a cache knows, and until when it believes that.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::mem;
use core::time::Duration;

use p9_wire::{Attr, AttrMask, Qid};

use super::listings::{Dir, LISTINGS_SHARE, Listed, Noted, Used};
use super::pages::{PAGE, Pages};
use super::stamp::Stamp;

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

/// A regular file that was opened to be read.
pub(super) struct Entry {
    /// By which its pages are found. Others after each change of ours, so that what was asked for before is not taken for
    /// what came after. None: another file has taken its place, nothing is kept of this one.
    ids: Cell<Option<Ids>>,
    /// What the pages are of; unknown after a change of ours.
    stamp: Cell<Option<Stamp>>,
    /// Until when the size in the stamp is believed.
    sized_until: Cell<Duration>,
    /// When the stamp was first seen; none when that is known to be a tick ago.
    since: Cell<Option<Duration>>,
}

/// By which the pages of a file are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    /// Those that may be kept as long as the stamp is the same.
    pub(super) lasting: u64,
    /// Those that were read so soon after the stamp was first seen that another change may have left it as it is. They are
    /// kept until the file is opened once more.
    pub(super) early: u64,
}

impl Entry {
    /// By which a read that begins now will know whether it may be kept.
    pub(super) fn ids(&self) -> Option<Ids> {
        self.ids.get()
    }

    /// Whether the file is believed to end at `offset`, or before.
    pub(super) fn ends_at(&self, offset: u64, cache: &Cache) -> bool {
        let stamp = self.stamp.get();
        stamp.is_some_and(|stamp| offset >= stamp.size) && cache.now() < self.sized_until.get()
    }

    /// Whether what is read from now on may be older than the stamp says.
    pub(super) fn is_early(&self, cache: &Cache) -> bool {
        let since = self.since.get();
        let still = since.filter(|&since| cache.now() < since + TICK);
        self.since.set(still);
        still.is_some()
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
    dirs: BTreeMap<u64, Rc<Dir>>,
    names: BTreeMap<Vec<u8>, Known>,
    names_used: usize,
    epoch: u64,
}

impl Store {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn next_ids(&mut self) -> Option<Ids> {
        Some(Ids {
            lasting: self.next_id(),
            early: self.next_id(),
        })
    }

    /// Forgets the pages of a file that were read early, and those that are under way.
    fn forget_early(&mut self, entry: &Entry) {
        if let Some(ids) = entry.ids.get() {
            self.pages.forget(ids.early);
            let early = self.next_id();
            entry.ids.set(Some(Ids { early, ..ids }));
        }
    }

    fn forget_names(&mut self) {
        self.names = BTreeMap::new();
        self.names_used = 0;
    }

    /// Forgets the data of a file.
    fn renew(&mut self, entry: &Entry) {
        if let Some(ids) = entry.ids.get() {
            self.pages.forget(ids.lasting);
            self.pages.forget(ids.early);
            entry.ids.set(self.next_ids());
        }
        entry.stamp.set(None);
    }

    /// Keeps nothing of a file any more.
    fn retire(&mut self, entry: &Entry) {
        self.renew(entry);
        entry.ids.set(None);
    }

    fn forget_dirs(&mut self) {
        self.dirs = BTreeMap::new();
    }

    fn forget_all(&mut self) {
        self.forget_names();
        self.forget_dirs();
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
    listings_used: Used,
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
            listings_used: Used::default(),
            clock,
            epoch,
        }
    }

    /// Whether there is room for anything.
    pub(super) fn remembers(&self) -> bool {
        self.limit > 0
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
        let is_any = store.pages.used() > 0
            || store.names_used > 0
            || store.dirs.values().any(|dir| dir.has_listing());
        let half = store.pages.used() / 2;
        store.pages.shrink(half);
        store.forget_names();
        store.forget_dirs();
        is_any
    }

    /// What listings take.
    pub(super) fn listings_used(&self) -> Used {
        self.listings_used.clone()
    }

    /// Makes room for listings that have become longer; `false` where they take too much all the same.
    pub(super) fn makes_room(&self) -> bool {
        let most = self.limit / LISTINGS_SHARE;
        let mut store = self.store.borrow_mut();
        if self.listings_used.get() > most {
            // Those that are handed out just now stay.
            store.dirs.values().for_each(|dir| dir.forget());
        }
        store.pages.shrink(self.room_for_pages());
        self.listings_used.get() <= most
    }

    fn room_for_pages(&self) -> usize {
        self.limit.saturating_sub(self.listings_used.get())
    }

    /// How many changes of names there were, and the epoch of what is below, which [`listed`](Self::listed) wants to know.
    pub(super) fn moment(&self) -> (u64, u64) {
        let (_, names) = self.changes();
        (names, self.store.borrow().epoch)
    }

    /// Whether nothing was lost since that epoch began.
    pub(super) fn is_of(&self, epoch: u64) -> bool {
        self.moment().1 == epoch
    }

    /// What is known of the listing of a directory that has these attributes, which were asked for at this moment.
    pub(super) fn listed(&self, attr: &Attr, moment: (u64, u64)) -> Listed {
        let (Some(stamp), true) = (Stamp::of_dir(attr), self.moment() == moment) else {
            return Listed::Unknown;
        };
        let ino = attr.qid.path;
        let known = self.store.borrow().dirs.get(&ino).cloned();
        let listing = known.as_ref().and_then(|dir| dir.listing_of(stamp));
        if let Some(listing) = listing {
            return Listed::kept(listing, moment.1);
        }
        let now = self.now();
        let dir = Dir::seen(known.as_ref(), stamp, now);
        let mut store = self.store.borrow_mut();
        if store.dirs.len() >= MOST_FILES {
            store.dirs.retain(|_, dir| dir.has_listing());
        }
        store.dirs.insert(ino, dir.clone());
        drop(store);
        Listed::noted(dir, ino, now, self.listings_used())
    }

    /// Keeps a listing that has come to its end, unless the directory may have changed meanwhile.
    pub(super) fn keep_listing(&self, noted: Noted) {
        // What was known may be gone with the connection.
        self.changes();
        let Noted {
            dir,
            ino,
            begun,
            listing,
            ..
        } = noted;
        let store = self.store.borrow();
        if store.dirs.get(&ino).is_some_and(|is| Rc::ptr_eq(is, &dir)) {
            dir.keep(listing, begun, TICK);
        }
    }

    /// The attributes of what is at a path, and its identity.
    pub(super) fn attr(&self, path: &[u8], mask: AttrMask) -> Option<(Attr, Qid)> {
        let ((asked, attr, until), qid) = {
            let store = self.store.borrow();
            let known = store.names.get(path)?;
            (known.attr?, known.qid)
        };
        (asked.contains(mask) && self.now() < until).then_some((attr, qid))
    }

    /// What the symbolic link at a path says; only if it is this one, where that is known.
    pub(super) fn link(&self, path: &[u8], qid: Option<Qid>) -> Option<(Vec<u8>, Qid)> {
        let (link, until, of) = {
            let store = self.store.borrow();
            let known = store.names.get(path)?;
            let (link, until) = known.link.as_ref()?;
            (crate::try_copy(link).ok()?, *until, known.qid)
        };
        (qid.is_none_or(|qid| qid == of) && self.now() < until).then_some((link, of))
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
    /// many changes. `now`: when they were there.
    pub(super) fn opened(&self, attr: &Attr, seen: u64, now: Duration) -> Option<Rc<Entry>> {
        let stamp = Stamp::of(attr)?;
        let mut store = self.store.borrow_mut();
        let is_now = self.changes.get() == seen;
        if let Some(entry) = store.files.get(&attr.qid.path).cloned() {
            if is_now && entry.stamp.get() == Some(stamp) {
                store.forget_early(&entry);
                entry.sized_until.set(now + BELIEVED);
                return Some(entry);
            }
            store.retire(&entry);
        }
        if store.files.len() >= MOST_FILES {
            let Store { files, pages, .. } = &mut *store;
            files.retain(|_, entry| {
                Rc::strong_count(entry) > 1 || entry.ids.get().is_some_and(|ids| pages.has(ids))
            });
        }
        let entry = Rc::new(Entry {
            ids: Cell::new(store.next_ids()),
            stamp: Cell::new(is_now.then_some(stamp)),
            sized_until: Cell::new(now + BELIEVED),
            since: Cell::new(Some(now)),
        });
        store.files.insert(attr.qid.path, entry.clone());
        Some(entry)
    }

    /// Copies what is kept of a file from `offset` on; how many bytes that were.
    pub(super) fn take(&self, entry: &Entry, into: &mut [u8], offset: u64) -> usize {
        let store = self.store.borrow();
        let ids = entry.ids.get();
        ids.map_or(0, |ids| store.pages.take(ids, into, offset))
    }

    /// Keeps what was read of a file at `offset`. When the read began, the file had these `ids`, and it [was early](Entry::is_early)
    /// or not.
    pub(super) fn keep(&self, entry: &Entry, ids: Ids, is_early: bool, bytes: &[u8], offset: u64) {
        let Some(now) = entry.ids.get() else {
            return;
        };
        let (id, is_same) = match is_early {
            true => (ids.early, ids == now),
            false => (ids.lasting, ids.lasting == now.lasting),
        };
        if !is_same {
            return;
        }
        let size = entry.stamp.get().map(|stamp| stamp.size);
        // No file is so long, whatever a server says.
        let end = offset.checked_add(bytes.len() as u64);
        let (Some(_), Some(mut at)) = (end, offset.checked_next_multiple_of(PAGE as u64)) else {
            return;
        };
        let skip = (at - offset) as usize;
        let room = self.room_for_pages();
        let mut store = self.store.borrow_mut();
        for bytes in bytes.get(skip..).unwrap_or(&[]).chunks(PAGE) {
            // The last page of a file is short.
            if bytes.len() == PAGE || size == Some(at + bytes.len() as u64) {
                store.pages.insert(id, at, bytes, room);
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
                store.forget_dirs();
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
