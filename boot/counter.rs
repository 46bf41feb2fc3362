//! A counter in a static.

use core::sync::atomic::{AtomicU64, Ordering};

/// Counts what one thread does: no locked instruction, so it costs as much as any increment.
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    /// One more.
    #[inline]
    pub(super) fn count(&self) {
        self.0.store(self.get() + 1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
