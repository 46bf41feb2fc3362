//! The page allocator: free pages as a list of runs, sorted by address, each run described by its
//! own first page. It takes no memory of its own and has no upper limit.

use core::ptr::NonNull;

use crate::platform::{PAGE_SIZE, Page};

/// A run of free pages; lives at its start.
struct Run {
    next: Option<NonNull<Run>>,
    pages: usize,
}

impl Run {
    /// The address after the run.
    fn end(run: NonNull<Run>) -> usize {
        // SAFETY: every run on the list is a free page of ours that holds a `Run`.
        run.addr().get() + unsafe { run.as_ref() }.pages * PAGE_SIZE
    }
}

/// Free pages.
pub(super) struct Pages {
    first: Option<NonNull<Run>>,
    free: usize,
}

// SAFETY: the pages on the list belong to the list, on any thread.
unsafe impl Send for Pages {}

impl Pages {
    pub(super) const fn new() -> Self {
        Pages {
            first: None,
            free: 0,
        }
    }

    /// How many pages are free.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Adds `count` pages, joining them to their neighbours.
    ///
    /// # Safety
    /// The pages are mapped read-write, `start` is page-aligned, and no other code uses them.
    pub(super) unsafe fn add(&mut self, start: NonNull<Page>, count: usize) {
        if count == 0 {
            return;
        }
        let start = start.cast::<Run>();
        let (mut before, mut after) = (None::<NonNull<Run>>, self.first);
        while let Some(run) = after.filter(|run| *run < start) {
            before = after;
            // SAFETY: every run on the list holds a `Run`.
            after = unsafe { run.as_ref() }.next;
        }

        let mut run = Run {
            next: after,
            pages: count,
        };
        if let Some(next) = after
            && next.addr().get() == start.addr().get() + count * PAGE_SIZE
        {
            // SAFETY: as above; the page stops being a run of its own here.
            let next = unsafe { next.read() };
            run = Run {
                next: next.next,
                pages: count + next.pages,
            };
        }
        self.free += count;
        match before {
            // SAFETY: `before` is on the list, and no other reference to it is alive.
            Some(mut before) if Run::end(before) == start.addr().get() => unsafe {
                before.as_mut().next = run.next;
                before.as_mut().pages += run.pages;
            },
            // SAFETY: as above; and the caller gave us the page at `start`.
            Some(mut before) => unsafe {
                start.write(run);
                before.as_mut().next = Some(start);
            },
            None => {
                // SAFETY: the caller gave us the page at `start`.
                unsafe { start.write(run) };
                self.first = Some(start);
            }
        }
    }

    /// Takes `count` pages that follow each other, from the lowest place that has them. Their
    /// content is anything.
    pub(super) fn take(&mut self, count: usize) -> Option<NonNull<Page>> {
        debug_assert!(count > 0);
        let (mut before, mut here) = (None::<NonNull<Run>>, self.first);
        loop {
            let run = here?;
            // SAFETY: every run on the list holds a `Run`; it is read before anything is written.
            let Run { next, pages } = unsafe { run.read() };
            if pages < count {
                before = here;
                here = next;
                continue;
            }
            let rest = if pages == count {
                next
            } else {
                // SAFETY: the run is longer than `count` pages, so this page is still in it.
                let rest = unsafe { run.cast::<Page>().add(count) }.cast::<Run>();
                let pages = pages - count;
                // SAFETY: it is a free page of ours.
                unsafe { rest.write(Run { next, pages }) };
                Some(rest)
            };
            match before {
                // SAFETY: `before` is on the list, and no other reference to it is alive.
                Some(mut before) => unsafe { before.as_mut().next = rest },
                None => self.first = rest,
            }
            self.free -= count;
            return Some(run.cast());
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::vec::Vec;

    /// Memory to hand out: `N` pages, given back when the test is over.
    struct Arena {
        start: NonNull<Page>,
        layout: Layout,
    }

    impl Arena {
        fn new(pages: usize) -> Self {
            let layout = Layout::array::<Page>(pages).unwrap();
            // SAFETY: the layout is not empty.
            let start = NonNull::new(unsafe { alloc_zeroed(layout) }.cast()).unwrap();
            Arena { start, layout }
        }

        fn page(&self, index: usize) -> NonNull<Page> {
            // SAFETY: the tests stay inside the arena.
            unsafe { self.start.add(index) }
        }

        fn index(&self, page: NonNull<Page>) -> usize {
            (page.addr().get() - self.start.addr().get()) / PAGE_SIZE
        }
    }

    impl Drop for Arena {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.start.as_ptr().cast(), self.layout) };
        }
    }

    fn runs(pages: &Pages) -> usize {
        let mut count = 0;
        let mut here = pages.first;
        while let Some(run) = here {
            count += 1;
            // SAFETY: every run on the list holds a `Run`.
            here = unsafe { run.as_ref() }.next;
        }
        count
    }

    #[test]
    fn takes_the_lowest_place_that_fits() {
        let arena = Arena::new(16);
        let mut pages = Pages::new();
        // SAFETY: two ranges of the arena that do not touch.
        unsafe {
            pages.add(arena.page(8), 8);
            pages.add(arena.page(0), 3);
        }
        assert_eq!(pages.take(4).map(|page| arena.index(page)), Some(8));
        assert_eq!(pages.take(3).map(|page| arena.index(page)), Some(0));
        assert_eq!(pages.take(5), None);
        assert_eq!(pages.take(4).map(|page| arena.index(page)), Some(12));
        assert_eq!((pages.take(1), pages.free()), (None, 0));
    }

    #[test]
    fn everything_joins_up_again_in_any_order() {
        const COUNT: usize = 61;
        let arena = Arena::new(COUNT);
        // 7 and 61 share no factor: every index comes up once, neighbours at different times.
        let mut order = (0..COUNT).map(|i| i * 7 % COUNT).collect::<Vec<_>>();
        for round in 0..COUNT {
            let mut pages = Pages::new();
            order.rotate_left(round);
            for &index in &order {
                // SAFETY: each page of the arena, once.
                unsafe { pages.add(arena.page(index), 1) };
            }
            assert_eq!((pages.free(), runs(&pages)), (COUNT, 1));
            assert_eq!(pages.take(COUNT), Some(arena.page(0)));
        }
    }
}
