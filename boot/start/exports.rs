//! Who serves trees to other domains, whenever the app waits for something.

use super::system;
use crate::time::Instant;

/// What is served to other domains, for all who wait. A trait object, so that an image whose app serves nothing has no
/// server in it.
pub(super) trait Serve {
    /// Does what there is to do. Called at each event of a client, wherever the app waits, and now and then.
    fn poll(&self);

    /// When to look again even if nothing happens.
    fn next_check(&self) -> Instant;

    /// Disconnects all clients.
    fn close(&self);
}

/// Looks after what is served, if anything is.
pub(super) fn poll() {
    if let Some(exports) = system().exports.get() {
        exports.poll();
    }
}

/// When to look again even if nothing happens.
pub(super) fn next_check() -> Instant {
    let exports = system().exports.get();
    exports.map_or(Instant::NEVER, |exports| exports.next_check())
}
