//! One after the other.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};

/// What one operation at a time may have.
#[derive(Default)]
pub(super) struct Turn {
    taken: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

/// A turn that was taken; dropping it lets the next one go.
pub(super) struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.taken.set(false);
        let waiting = self.0.waiting.take();
        for waker in waiting {
            waker.wake();
        }
    }
}

impl Turn {
    /// Waits until the operation before has ended.
    pub(super) async fn take(&self) -> Taken<'_> {
        poll_fn(|cx| {
            if self.taken.replace(true) {
                self.waiting.borrow_mut().push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        Taken(self)
    }
}
