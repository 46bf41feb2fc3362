//! Names of a directory's entries, as many as memory has room for.
//!
//! How many entries a directory has is the server's word. Names are kept in few large pieces, for an
//! allocator is slow with many small ones; what finds no room is worked off in further passes of the listing.

use alloc::vec::Vec;

use xen9p::fs::{self, Metadata};

use super::place::concat;
use super::{Fail, Shell, sort};

/// Sizes of the pieces of memory: the first, and from which on they do not grow.
const FIRST_BLOCK: usize = 512;
const LARGEST_BLOCK: usize = 64 << 10;

/// The share of the free memory that one directory may take, and bounds of that in bytes.
const SHARE: usize = 8;
const LEAST_ROOM: usize = 16 << 10;
const MOST_ROOM: usize = 64 << 20;

/// How many directories are looked into at the same time, and how many were of all levels of a tree together.
const DIRS_AT_ONCE: usize = 8;
const MOST_AHEAD: usize = 32;

/// A list of names.
#[derive(Default)]
pub struct Names {
    /// Each name behind its length, two bytes.
    blocks: Vec<Vec<u8>>,
    /// Where each is: its block, and the place there in the lower 16 bits.
    places: Vec<u32>,
}

impl Names {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        let blocks = self.blocks.iter().map(Vec::capacity).sum::<usize>();
        blocks + self.places.capacity() * size_of::<u32>()
    }

    pub fn get(&self, nth: usize) -> &[u8] {
        self.at(self.places[nth])
    }

    pub fn last(&self) -> Option<&[u8]> {
        self.places.last().map(|&place| self.at(place))
    }

    fn at(&self, place: u32) -> &[u8] {
        let rest = &self.blocks[(place >> 16) as usize][(place & 0xffff) as usize..];
        let len = usize::from(u16::from_le_bytes([rest[0], rest[1]]));
        &rest[2..2 + len]
    }

    /// Adds a name.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn push(&mut self, name: &[u8]) -> Result<(), Fail> {
        let len = u16::try_from(name.len()).map_err(|_| Fail::out_of_memory())?;
        let need = name.len() + 2;
        let room = self
            .blocks
            .last()
            .map_or(0, |block| block.capacity() - block.len());
        if room < need {
            let last = self.blocks.last().map_or(0, Vec::capacity);
            let size = (2 * last).clamp(FIRST_BLOCK, LARGEST_BLOCK).max(need);
            let mut block = Vec::new();
            block
                .try_reserve_exact(size)
                .map_err(|_| Fail::out_of_memory())?;
            self.blocks
                .try_reserve(1)
                .map_err(|_| Fail::out_of_memory())?;
            self.blocks.push(block);
        }
        self.places
            .try_reserve(1)
            .map_err(|_| Fail::out_of_memory())?;
        let nth = self.blocks.len() - 1;
        let block = &mut self.blocks[nth];
        // A block is not larger than places can tell, but for one name that has it alone.
        self.places.push((nth << 16 | block.len()) as u32);
        block.extend_from_slice(&len.to_le_bytes());
        block.extend_from_slice(name);
        Ok(())
    }

    /// The names from the nth on that are to be looked into at the same time, when so many others were already.
    pub fn ahead(&self, nth: usize, held: usize) -> Result<Vec<Vec<u8>>, Fail> {
        let count = DIRS_AT_ONCE.min(MOST_AHEAD.saturating_sub(held));
        let count = count.min(self.len() - nth);
        let mut names = Vec::new();
        if count > 1 {
            names
                .try_reserve_exact(count)
                .map_err(|_| Fail::out_of_memory())?;
            for nth in nth..nth + count {
                names.push(concat(&[self.get(nth)])?);
            }
        }
        Ok(names)
    }

    pub fn sort(&mut self) {
        let mut places = core::mem::take(&mut self.places);
        sort::sort_by(&mut places, |&a, &b| self.at(a).cmp(self.at(b)));
        self.places = places;
    }

    /// Whether a sorted list has this name.
    pub fn has(&self, name: &[u8]) -> bool {
        let found = self
            .places
            .binary_search_by(|&place| self.at(place).cmp(name));
        found.is_ok()
    }

    /// Those that do not begin with a dot, in new memory.
    pub fn without_hidden(self) -> Result<Names, Fail> {
        let mut shown = Names::default();
        for name in (0..self.len()).map(|nth| self.get(nth)) {
            if !name.starts_with(b".") {
                shown.push(name)?;
            }
        }
        Ok(shown)
    }

    /// Keeps the first `count`, in new memory.
    fn keep(&mut self, count: usize) -> Result<(), Fail> {
        let mut kept = Names::default();
        for nth in 0..count {
            kept.push(self.get(nth))?;
        }
        *self = kept;
        Ok(())
    }
}

/// The first names of a directory in their order, behind a given one, as many as there is room for.
pub struct Selection {
    names: Names,
    after: Option<Vec<u8>>,
    /// The last name that is selected, when others behind it had to be left out.
    bound: Option<Vec<u8>>,
    room: usize,
}

impl Selection {
    /// Of the names behind `after`.
    pub fn behind(shell: &Shell<'_>, after: Option<Vec<u8>>) -> Selection {
        Selection {
            names: Names::default(),
            after,
            bound: None,
            room: room(shell),
        }
    }

    /// Offers a name of the directory.
    pub fn offer(&mut self, name: &[u8]) -> Result<(), Fail> {
        let is_behind = |bound: &Option<Vec<u8>>| bound.as_deref().is_some_and(|it| name > it);
        if self.after.is_some() && !is_behind(&self.after) || is_behind(&self.bound) {
            return Ok(());
        }
        self.names.push(name)?;
        if self.names.size() > self.room && self.names.len() > 1 {
            self.names.sort();
            self.names.keep(self.names.len() / 2)?;
            let last = self.names.last().map(|last| concat(&[last]));
            self.bound = last.transpose()?;
        }
        Ok(())
    }

    /// The names in their order, and the last one if there are more behind it.
    pub fn finish(mut self) -> (Names, Option<Vec<u8>>) {
        self.names.sort();
        (self.names, self.bound)
    }
}

/// How many bytes the names of one directory may take: a share of what is free, so that directories below it
/// find room, too.
fn room(shell: &Shell<'_>) -> usize {
    (shell.host.spare_memory() / SHARE).clamp(LEAST_ROOM, MOST_ROOM)
}

/// Entries with their attributes, as long as they fit.
#[derive(Default)]
pub struct Details {
    names: Names,
    found: Vec<fs::Result<Metadata>>,
    order: Vec<u32>,
}

impl Details {
    /// Adds an entry; `false` if it found no room.
    pub fn push(&mut self, shell: &Shell<'_>, name: &[u8], found: fs::Result<Metadata>) -> bool {
        let size = self.names.size() + self.found.capacity() * size_of_val(&found);
        if size > room(shell) || self.found.try_reserve(1).is_err() {
            return false;
        }
        if self.order.try_reserve(1).is_err() || self.names.push(name).is_err() {
            return false;
        }
        self.order.push(self.found.len() as u32);
        self.found.push(found);
        true
    }

    pub fn sort(&mut self, order: Order, reverse: bool) {
        let Details {
            names,
            found,
            order: nths,
        } = self;
        sort::sort_by(nths, |&a, &b| {
            let (a, b) = (a as usize, b as usize);
            let key = |nth: usize| match (order, found[nth]) {
                (Order::Newest, Ok(found)) => (
                    found.modified().secs(),
                    found.modified().subsec_nanos().into(),
                ),
                (Order::Largest, Ok(found)) => (0, found.len()),
                _ => (0, 0),
            };
            let order = key(b)
                .cmp(&key(a))
                .then_with(|| names.get(a).cmp(names.get(b)));
            if reverse { order.reverse() } else { order }
        });
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// The Nth in the order.
    pub fn get(&self, nth: usize) -> (&[u8], fs::Result<Metadata>) {
        let nth = self.order[nth] as usize;
        (self.names.get(nth), self.found[nth])
    }
}

/// What entries are sorted by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Name,
    /// The latest change first.
    Newest,
    Largest,
}
