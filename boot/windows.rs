//! Which addresses of those for other domains' pages are taken. Needs no heap, which grows by the memory that has this.

/// Addresses, in pages.
pub(super) const WINDOW_PAGES: usize = 8192;

const BITS: usize = u64::BITS as usize;

/// A bit for each page: taken or not.
pub(super) struct Windows {
    taken: [u64; WINDOW_PAGES / BITS],
}

impl Windows {
    pub(super) const fn new() -> Self {
        Windows {
            taken: [0; WINDOW_PAGES / BITS],
        }
    }

    fn is_taken(&self, page: usize) -> bool {
        self.taken[page / BITS] >> (page % BITS) & 1 != 0
    }

    fn flip(&mut self, start: usize, count: usize) {
        for page in start..start + count {
            self.taken[page / BITS] ^= 1 << (page % BITS);
        }
    }

    /// Takes `count` pages that follow each other, from the lowest place that has them.
    pub(super) fn take(&mut self, count: usize) -> Option<usize> {
        let mut start = 0;
        for page in 0..WINDOW_PAGES {
            if self.is_taken(page) {
                start = page + 1;
            } else if page + 1 - start == count {
                self.flip(start, count);
                return Some(start);
            }
        }
        None
    }

    /// Gives pages back that were taken.
    pub(super) fn give_back(&mut self, start: usize, count: usize) {
        debug_assert!((start..start + count).all(|page| self.is_taken(page)));
        self.flip(start, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_place_that_fits_is_taken() {
        let mut windows = Windows::new();
        assert_eq!(windows.take(100), Some(0));
        assert_eq!(windows.take(WINDOW_PAGES - 101), Some(100));
        assert_eq!(windows.take(2), None);
        windows.give_back(0, 100);
        assert_eq!(windows.take(60), Some(0));
        assert_eq!(windows.take(41), None);
        assert_eq!(windows.take(40), Some(60));
        assert_eq!(windows.take(1), Some(WINDOW_PAGES - 1));
        assert_eq!(windows.take(1), None);
        for (start, count) in [(60, 40), (100, WINDOW_PAGES - 101), (0, 60)] {
            windows.give_back(start, count);
        }
        assert_eq!(windows.take(WINDOW_PAGES), None);
        windows.give_back(WINDOW_PAGES - 1, 1);
        assert_eq!(windows.take(WINDOW_PAGES), Some(0));
    }
}
