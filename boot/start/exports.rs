//! Who serves trees to other domains, whenever the app waits for something.

use alloc::vec::Vec;

use super::system;
use crate::ns::Tree;
use crate::server::Rights;
use crate::time::Instant;
use crate::transport::serving::{ExportError, Exported, Target};

/// What is served to other domains, for all who wait. A trait object, so that an image whose app serves nothing has no
/// server in it.
pub(super) trait Serve {
    /// Does what there is to do. Called at each event of a client, wherever the app waits, and now and then.
    fn poll(&self);

    /// When to look again even if nothing happens.
    fn next_check(&self) -> Instant;

    /// Serves a tree from now on.
    fn serve(
        &self,
        source: &str,
        tree: &dyn Tree,
        target: &Target,
        rights: Rights,
    ) -> Result<(), ExportError>;

    /// Serves something no more.
    fn end(&self, source: &str, target: &Target) -> Result<(), ExportError>;

    /// Disconnects all clients, and serves nothing more.
    fn close(&self);

    /// What is served.
    fn list(&self) -> Vec<Exported>;
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

/// Serves a tree to another domain from now on, whenever the app waits: for files, for keys, for time to pass. `source` is what
/// it is known by and, for 9pfs devices, their path. [`directory`](crate::transport::serving::directory) makes a tree of a
/// directory of the name space.
///
/// For apps that take a [`Namespace`](crate::ns::Namespace).
///
/// # Errors
/// See [`ExportError`].
pub fn serve(
    source: &str,
    tree: &dyn Tree,
    target: &Target,
    rights: Rights,
) -> Result<(), ExportError> {
    let exports = system().exports.get().ok_or(ExportError::NoServer)?;
    exports.serve(source, tree, target, rights)
}

/// Serves something no more: its clients are disconnected.
///
/// # Errors
/// See [`ExportError`].
pub fn unserve(source: &str, target: &Target) -> Result<(), ExportError> {
    let exports = system().exports.get().ok_or(ExportError::NoServer)?;
    exports.end(source, target)
}

/// What is served to other domains, by the command line or by [`serve`], and how that goes.
pub fn exports() -> Vec<Exported> {
    let exports = system().exports.get();
    exports.map_or_else(Vec::new, |exports| exports.list())
}
