//! Listings of directories, as the tree below gave them.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::time::Duration;

use p9_wire::{Attr, DirEntries, DirEntry};

use super::stamp::Stamp;
use super::store::Cache;

/// Listings may take this share of the cache's room. A longer one is not kept.
pub(super) const LISTINGS_SHARE: usize = 4;

/// What a listing takes besides its entries.
const COST: usize = 128;

/// What an entry takes besides its name: a qid, an offset, a kind, and the length of the name.
const ENTRY: usize = 13 + 8 + 1 + 2;

/// What listings take in all, those included that open directories still hand out.
#[derive(Clone, Default)]
pub(super) struct Used(Rc<Cell<usize>>);

impl Used {
    pub(super) fn get(&self) -> usize {
        self.0.get()
    }
}

/// A whole listing, or the beginning of one: entries as they are on the wire.
pub(super) struct Listing {
    bytes: Vec<u8>,
    cost: usize,
    used: Used,
}

impl Listing {
    fn new(used: Used) -> Self {
        used.0.set(used.0.get() + COST);
        Listing {
            bytes: Vec::new(),
            cost: COST,
            used,
        }
    }

    /// Adds an entry; `false` where there is no memory for it, or it could not be asked for what comes behind it.
    fn push(&mut self, entry: &DirEntry<'_>) -> bool {
        let (start, len) = (self.bytes.len(), ENTRY + entry.name.len());
        if entry.offset == 0 || self.bytes.try_reserve(len).is_err() {
            return false;
        }
        let cost = COST + self.bytes.capacity();
        self.used.0.set(self.used.0.get() + cost - self.cost);
        self.cost = cost;
        self.bytes.resize(start + len, 0);
        let place = self.bytes.get_mut(start..).unwrap_or_default();
        entry.encode(place) == Ok(len)
    }

    /// Where the entries begin that come behind the one with this offset.
    fn find(&self, offset: u64) -> Option<usize> {
        let mut at = 0;
        for entry in DirEntries::new(&self.bytes) {
            let entry = entry.ok()?;
            at += ENTRY + entry.name.len();
            if entry.offset == offset {
                return Some(at);
            }
        }
        None
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.used.0.set(self.used.0.get() - self.cost);
    }
}

/// A directory that was listed.
pub(super) struct Dir {
    stamp: Stamp,
    /// When the stamp was first seen.
    since: Duration,
    /// Whether the listing was read so soon after that that another change may have left the stamp as it is.
    is_early: Cell<bool>,
    listing: RefCell<Option<Rc<Listing>>>,
}

impl Dir {
    /// The listing, if it is one to be believed of a directory that has this stamp now.
    pub(super) fn listing_of(&self, stamp: Stamp) -> Option<Rc<Listing>> {
        let is_it = self.stamp == stamp && !self.is_early.get();
        is_it.then(|| self.listing.borrow().clone())?
    }

    /// A directory that has this stamp now, and whose listing is not known; `known` is what was known before.
    pub(super) fn seen(known: Option<&Rc<Dir>>, stamp: Stamp, now: Duration) -> Rc<Dir> {
        let same = known.filter(|known| known.stamp == stamp);
        match same {
            Some(same) if !same.is_early.get() => same.clone(),
            _ => Rc::new(Dir {
                stamp,
                since: same.map_or(now, |same| same.since),
                is_early: Cell::new(false),
                listing: RefCell::new(None),
            }),
        }
    }

    pub(super) fn has_listing(&self) -> bool {
        self.listing.borrow().is_some()
    }

    /// Forgets the listing, and not since when the directory is as it is.
    pub(super) fn forget(&self) {
        self.listing.borrow_mut().take();
    }

    /// Keeps the listing, which was begun at `begun`. `tick`: how long after a change another one may leave no trace.
    pub(super) fn keep(&self, listing: Listing, begun: Duration, tick: Duration) {
        self.is_early.set(begun < self.since + tick);
        *self.listing.borrow_mut() = Some(Rc::new(listing));
    }
}

/// A listing that an open directory hands out.
pub(super) struct Kept {
    listing: Rc<Listing>,
    epoch: u64,
    /// The offset of the entry that was handed out last, and where the next begins.
    next: (u64, usize),
}

impl Kept {
    /// Hands out what comes behind `offset`; `false` where that is not known, or no longer.
    pub(super) fn hand_out(
        &mut self,
        cache: &Cache,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>, Option<&Attr>) -> bool,
    ) -> bool {
        let place = match self.next {
            _ if offset == 0 => Some(0),
            (last, place) if last == offset => Some(place),
            _ => self.listing.find(offset),
        };
        let Some(mut at) = place.filter(|_| cache.is_of(self.epoch)) else {
            return false;
        };
        let rest = self.listing.bytes.get(at..).unwrap_or_default();
        for entry in DirEntries::new(rest).map_while(Result::ok) {
            if !each(&entry, None) {
                break;
            }
            at += ENTRY + entry.name.len();
            self.next = (entry.offset, at);
        }
        true
    }
}

/// A listing that is noted while the tree below gives it.
pub(super) struct Noted {
    pub(super) dir: Rc<Dir>,
    pub(super) ino: u64,
    pub(super) begun: Duration,
    pub(super) listing: Listing,
    /// The offset of its last entry.
    last: u64,
}

impl Noted {
    /// Whether what comes behind `offset` is what comes next.
    pub(super) fn goes_on_at(&self, offset: u64) -> bool {
        self.last == offset
    }

    /// Notes an entry; `false` where there is no room for it.
    pub(super) fn push(&mut self, cache: &Cache, entry: &DirEntry<'_>) -> bool {
        self.last = entry.offset;
        self.listing.push(entry) && cache.makes_room()
    }
}

/// What an open directory knows of its listing.
#[derive(Default)]
pub(super) enum Listed {
    /// Nothing.
    #[default]
    Unknown,
    /// All of it.
    Kept(Kept),
    /// What it was given so far.
    Noted(Noted),
}

impl Listed {
    /// All of it, which the cache has, in this epoch of what is below.
    pub(super) fn kept(listing: Rc<Listing>, epoch: u64) -> Listed {
        Listed::Kept(Kept {
            listing,
            epoch,
            next: (0, 0),
        })
    }

    /// Nothing yet, of a directory with this number that is listed from the beginning, which begins now.
    pub(super) fn noted(dir: Rc<Dir>, ino: u64, now: Duration, used: Used) -> Listed {
        Listed::Noted(Noted {
            dir,
            ino,
            begun: now,
            listing: Listing::new(used),
            last: 0,
        })
    }
}
