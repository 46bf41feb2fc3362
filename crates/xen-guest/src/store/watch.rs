//! Watches: being told when something changes.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

use super::wire::{self, Kind};
use super::{NO_TRANSACTION, StoreError, XenStore};
use crate::platform::Platform;
use xen9p_time::Instant;

/// Different paths that one watch remembers; beyond them it only remembers that it lost count.
const PATHS_MAX: usize = 32;

/// What a watch saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The node at this path, or something that it belongs to, may have changed. The path is
    /// relative when the watch's is.
    Changed(String),
    /// More nodes changed than were remembered: look at everything.
    Overflow,
}

/// The events of one watch that were not taken yet. Equal ones are one.
pub(super) struct Queue {
    /// What is watched.
    path: String,
    paths: RefCell<VecDeque<String>>,
    overflow: Cell<bool>,
}

impl Queue {
    pub(super) fn new(path: String) -> Self {
        Queue {
            path,
            paths: RefCell::default(),
            overflow: Cell::new(false),
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Adds an event. A path that is no UTF-8 can only be looked for by looking at everything.
    pub(super) fn add(&self, path: &[u8]) {
        let mut paths = self.paths.borrow_mut();
        match core::str::from_utf8(path) {
            Ok(path) if paths.iter().any(|known| known == path) => {}
            Ok(path) if paths.len() < PATHS_MAX => paths.push_back(path.into()),
            _ => self.overflow.set(true),
        }
    }

    fn take(&self) -> Option<WatchEvent> {
        if self.overflow.take() {
            self.paths.borrow_mut().clear();
            return Some(WatchEvent::Overflow);
        }
        let path = self.paths.borrow_mut().pop_front()?;
        Some(WatchEvent::Changed(path))
    }
}

/// A watch on a node and everything below it. The first event comes at once, without a change.
/// Dropping it ends the watch, without waiting. It goes on, with another first event, after the domain was
/// saved and resumed.
#[must_use = "dropping the handle ends the watch"]
pub struct Watch<P: Platform> {
    store: XenStore<P>,
    token: u32,
    queue: Rc<Queue>,
}

impl<P: Platform> XenStore<P> {
    /// Watches a node and everything below it.
    ///
    /// # Errors
    /// [`Refusal::NoSpace`](super::Refusal::NoSpace) or [`Refusal::TooBig`](super::Refusal::TooBig) when the domain has as many watches as it may
    /// have; see [`StoreError`].
    pub fn watch(&self, path: &str) -> Result<Watch<P>, StoreError> {
        self.watch_beside(path, || Ok(())).map(|(watch, ())| watch)
    }

    /// [`watch`](Self::watch), and what `then` does beside it: the watch leaves with the first request that `then` waits for, so that
    /// both take no longer than one of them.
    ///
    /// # Errors
    /// As [`watch`](Self::watch); what `then` returns.
    pub(crate) fn watch_beside<T>(
        &self,
        path: &str,
        then: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<(Watch<P>, T), StoreError> {
        wire::check_path(path)?;
        let queue = Rc::new(Queue::new(path.into()));
        let token = self
            .inner
            .connection
            .borrow_mut()
            .add_watch(Rc::clone(&queue));
        if let Some(driver) = self.events().platform().store_driver() {
            // Watched before there is a handle, whose end would be one of the watch.
            let watched = driver.watch(path, token);
            return match watched {
                Ok(()) => {
                    let watch = Watch::new(self.clone(), token, queue);
                    then().map(|done| (watch, done))
                }
                Err(error) => {
                    self.inner.connection.borrow_mut().remove_watch(token);
                    Err(error)
                }
            };
        }
        let request = self.submit_watch(path, token).inspect_err(|_| {
            self.inner.connection.borrow_mut().remove_watch(token);
        })?;
        // Made before the answer, so that a failed one is taken back like any other.
        let watch = Watch::new(self.clone(), token, queue);
        let deadline = self.deadline();
        let done = then();
        self.answer(Kind::WATCH, request, deadline)?;
        done.map(|done| (watch, done))
    }

    /// Takes in that a watch fired which the kernel's own [driver](Platform::store_driver) made: the path that xenstore
    /// says has changed, and the token. Tokens that mean no watch are those of watches that are gone.
    ///
    /// From wherever the platform may call the drivers, and from within its `wait` and the driver's `request`; never
    /// from an interrupt handler.
    pub fn watch_fired(&self, path: &[u8], token: u32) {
        self.inner.connection.borrow().fired(path, token);
        // Waiters look again.
        self.inner.events.bump();
    }

    pub(super) fn submit_watch(&self, path: &str, token: u32) -> Result<u32, StoreError> {
        let text = alloc::format!("{token}");
        let payload: [&[u8]; 4] = [path.as_bytes(), b"\0", text.as_bytes(), b"\0"];
        self.submit(Kind::WATCH, NO_TRANSACTION, &payload)
    }

    /// Ends a watch, as far as that needs no waiting.
    fn unwatch(&self, path: &str, token: u32) {
        if let Some(driver) = self.events().platform().store_driver() {
            self.inner.connection.borrow_mut().remove_watch(token);
            return driver.unwatch(path, token);
        }
        let text = alloc::format!("{token}");
        let payload: [&[u8]; 4] = [path.as_bytes(), b"\0", text.as_bytes(), b"\0"];
        {
            let mut connection = self.inner.connection.borrow_mut();
            connection.remove_watch(token);
            // Fails only when the connection is over.
            if let Ok(request) = connection.submit(Kind::UNWATCH, NO_TRANSACTION, &payload) {
                connection.abandon(request);
            }
        }
        self.inner.pump();
    }
}

impl<P: Platform> Watch<P> {
    pub(super) fn new(store: XenStore<P>, token: u32, queue: Rc<Queue>) -> Self {
        Watch {
            store,
            token,
            queue,
        }
    }

    /// The path that is watched, as it was given.
    pub fn path(&self) -> &str {
        self.queue.path()
    }

    /// The next event if there is one. Never blocks.
    ///
    /// # Errors
    /// The connection broke, so that no event can come any more.
    pub fn take(&self) -> Result<Option<WatchEvent>, StoreError> {
        let alive = self.store.poll();
        match self.queue.take() {
            Some(event) => Ok(Some(event)),
            None => alive.map(|()| None),
        }
    }

    /// All events that have come. Never blocks, and comes to an end however fast others write: what comes meanwhile
    /// is for the next call.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_all(&self) -> Result<Vec<WatchEvent>, StoreError> {
        let alive = self.store.poll();
        let events: Vec<_> = core::iter::from_fn(|| self.queue.take()).collect();
        match events.is_empty() {
            false => Ok(events),
            true => alive.map(|()| events),
        }
    }

    /// Waits for the next event until `deadline`; `None` when it passed.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn wait(&self, deadline: Instant) -> Result<Option<WatchEvent>, StoreError> {
        let events = self.store.events();
        loop {
            let seen = events.generation();
            if let Some(event) = self.take()? {
                return Ok(Some(event));
            }
            if events.now() >= deadline {
                return Ok(None);
            }
            events.wait(seen, deadline);
        }
    }
}

impl<P: Platform> Drop for Watch<P> {
    fn drop(&mut self) {
        self.store.unwatch(self.path(), self.token);
    }
}

impl<P: Platform> fmt::Debug for Watch<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
