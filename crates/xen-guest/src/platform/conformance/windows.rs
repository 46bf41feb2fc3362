//! Windows for pages of other domains.

use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::{Outcome, Pages, violation};
use crate::platform::{PAGE_SIZE, Page, Platform, View};
use crate::shared::SharedMemory;

/// A window that goes back when it is dropped.
struct Window<'a, P: Platform> {
    platform: &'a P,
    first: NonNull<Page>,
}

impl<P: Platform> Window<'_, P> {
    const COUNT: NonZeroUsize = NonZeroUsize::new(3).unwrap();

    fn page(&self, index: usize) -> NonNull<Page> {
        assert!(index < Self::COUNT.get());
        // SAFETY: below the count.
        unsafe { self.first.add(index) }
    }
}

impl<P: Platform> Drop for Window<'_, P> {
    fn drop(&mut self) {
        for index in 0..Self::COUNT.get() {
            // SAFETY: a page of the window, which is not used any more.
            unsafe { self.platform.set_window(self.page(index), View::Empty) };
        }
        // SAFETY: allocated with this count, and empty.
        unsafe { self.platform.free_window(self.first, Self::COUNT) };
    }
}

/// What can be seen of a window without another domain: a page of one's own in it. A platform may have none.
pub(super) fn check<P: Platform>(platform: &P) -> Outcome {
    let own = Pages::new(platform, Window::<P>::COUNT.get())?;
    own.range()?;
    own.mark(0xcafe);
    for round in 0..2 {
        let Some(first) = platform.alloc_window(Window::<P>::COUNT) else {
            return match round {
                0 => Ok(()),
                _ => violation("a window that was given back is not there again", round),
            };
        };
        if !first.addr().get().is_multiple_of(PAGE_SIZE) {
            let address = first.addr().get() as u64;
            return violation(
                "alloc_window returned an address that is not page-aligned",
                address,
            );
        }
        let window = Window { platform, first };
        let addresses = [0, 1, 2].map(|index| platform.window_address(window.page(index)));
        let [a, b, c] = addresses;
        let pages = addresses
            .iter()
            .all(|at| at.is_multiple_of(PAGE_SIZE as u64));
        if a == b || b == c || a == c || !pages {
            return violation("two pages of a window are one to Xen, or are none", a);
        }
        for index in 0..Window::<P>::COUNT.get() {
            let frame = platform.frame(own.page(index));
            // SAFETY: a page of the window, where nothing is; the frame is a page of ours, accessed by atomics alone.
            unsafe { platform.set_window(window.page(index), View::Own(frame)) };
        }
        for index in 0..Window::<P>::COUNT.get() {
            // SAFETY: mapped just now, and accessed by this alone until the window is emptied.
            let seen = unsafe { SharedMemory::new(window.page(index).cast(), PAGE_SIZE) };
            let word = seen.word::<u64>(0);
            if word.load(Ordering::Relaxed) != own.word(index, 0) {
                return violation("a window does not show the page that was set", index as u64);
            }
            word.store(round << 32 | index as u64, Ordering::Relaxed);
            if own.word(index, 0) != round << 32 | index as u64 {
                return violation(
                    "what is written to a window does not reach the page",
                    index as u64,
                );
            }
        }
    }
    Ok(())
}
