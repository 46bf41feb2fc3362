//! What is in the benchmark's files, so that any page read or written can be told from any other: by the guests, and
//! by dom0, which makes the files that are read and checks those that were written.

use alloc::format;
use alloc::string::String;

/// A page of a file; reads and writes at random places are of this size.
pub const PAGE: usize = 4096;

/// Size of the files that are read and written at random places, and in calls of 1 MiB.
pub const BIG: u64 = 64 << 20;

/// Part of such a file that is read and written in calls of 4 KiB.
pub const IN_PAGES: u64 = 2 << 20;

/// Size of each of many small files.
pub const SMALL: usize = 1024;

/// Pages that are read or written at random places, one at a time and several.
pub const RANDOM: [(u64, usize); 2] = [(256, 1), (1024, 16)];

/// What the directories with many files hold, and what is done there.
#[derive(Clone, Copy, Debug)]
pub struct Amounts {
    /// Files made, read, renamed and removed.
    pub files: usize,
    /// Paths, four levels deep, whose attributes are asked for.
    pub paths: usize,
    /// Entries of the directory that is listed.
    pub entries: usize,
    /// Files of the tree that is copied.
    pub tree: usize,
    /// Bytes of the file that is written, in order and then at random places.
    pub written: u64,
}

impl Amounts {
    /// One `scale`th of the full amounts, for this kind of guest and mount.
    pub fn new(scale: usize, mode: &str) -> Amounts {
        let part = |full: usize| (full / scale.max(1)).max(10);
        Amounts {
            files: part(1000),
            paths: part(2000),
            entries: part(5000),
            tree: part(500),
            // With that cache, which is one for reading, Linux writes every page by itself.
            written: if mode == "linux_cached" {
                BIG / 16
            } else {
                BIG
            },
        }
    }
}

/// Tells contents apart: the file that dom0 made, and what guests write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

/// What dom0 puts into files.
pub const MADE: Seed = Seed(1);
/// What guests write in order.
pub const WRITTEN: Seed = Seed(2);
/// What guests write at random places.
pub const SCATTERED: Seed = Seed(3);

impl Seed {
    /// The first and the last eight bytes of the page at `offset`.
    fn stamp(self, offset: u64) -> [u8; 8] {
        let mixed = (offset ^ self.0 << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).to_le_bytes()
    }

    /// Makes `pages`, which [`fill`] was called for before, those at `offset`.
    pub fn put(self, pages: &mut [u8], offset: u64) {
        for (index, page) in pages.chunks_mut(PAGE).enumerate() {
            let stamp = self.stamp(offset + (index * PAGE) as u64);
            let (first, last) = (0, page.len() - 8);
            page[first..first + 8].copy_from_slice(&stamp);
            page[last..last + 8].copy_from_slice(&stamp);
        }
    }

    /// Whether `pages` begin and end like those at `offset`: as much as can be looked at without slowing down what is
    /// measured.
    pub fn looks_right(self, pages: &[u8], offset: u64) -> bool {
        pages.chunks(PAGE).enumerate().all(|(index, page)| {
            let stamp = self.stamp(offset + (index * PAGE) as u64);
            page.len() >= 16 && page.starts_with(&stamp) && page.ends_with(&stamp)
        })
    }
}

/// Fills pages with what all have in common.
pub fn fill(pages: &mut [u8]) {
    for page in pages.chunks_mut(PAGE) {
        for (at, byte) in page.iter_mut().enumerate() {
            *byte = (at * 7 + at / 256) as u8;
        }
    }
}

/// Places of `count` pages in a file of `size` bytes, a power of two, in no order, none twice.
pub fn places(size: u64, count: u64, depth: usize) -> impl Iterator<Item = u64> {
    let pages = size / PAGE as u64;
    // An odd factor makes this a permutation of the pages.
    let start = depth as u64 * 977;
    (start..start + count).map(move |n| n.wrapping_mul(0x5851_f42d) % pages * PAGE as u64)
}

/// Path of the `number`th file whose attributes are asked for, four levels deep.
pub fn deep(number: usize) -> String {
    let (a, b, c) = (number / 250, number / 25 % 10, number / 5 % 5);
    format!("deep/a{a}/b{b}/c{c}/f{number}")
}
