//! Being asked to stop, and stopping: [`ShutdownWatch`], [`shutdown`], [`Xen::suspend`].
//!
//! `xl shutdown`, `xl reboot` and `xl save` write a word to `control/shutdown`; the domain
//! acknowledges by clearing the node and then does it (docs/misc/xenstore-paths.pandoc). Nodes
//! `control/feature-*` say in advance what it can do.
//!
//! [`Xen::suspend`]: super::Xen::suspend
//!
//! ```
//! use xen_guest::Xen;
//! use xen_guest::platform::Platform;
//! use xen_guest::shutdown::{ShutdownWatch, shutdown};
//! use xen_guest::store::StoreError;
//!
//! /// Works until the toolstack asks for an end, and obeys.
//! fn run<P: Platform>(xen: &Xen<P>, mut work: impl FnMut()) -> Result<(), StoreError> {
//!     let watch = ShutdownWatch::new(&xen.store, false)?;
//!     loop {
//!         if let Some(reason) = watch.take()?.and_then(|request| request.reason()) {
//!             // Does not come back where Xen does as it is asked.
//!             let _ = shutdown(&xen.platform, reason);
//!         }
//!         work();
//!     }
//! }
//! ```

use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use super::store::{Refusal, StoreError, Watch, XenStore};
use crate::platform::Platform;

pub use crate::hypercall::sched::{ShutdownReason, shutdown};

const NODE: &str = "control/shutdown";

/// What the toolstack asks of this domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShutdownRequest {
    /// End the program and power off.
    PowerOff,
    /// End the program and be started again.
    Reboot,
    /// Be saved: [`Xen::suspend`](super::Xen::suspend).
    Suspend,
    /// Stop at once, without care.
    Halt,
    /// Crash, to be looked at.
    Crash,
}

impl ShutdownRequest {
    fn from_word(word: &[u8]) -> Option<Self> {
        match word {
            b"poweroff" => Some(ShutdownRequest::PowerOff),
            b"reboot" => Some(ShutdownRequest::Reboot),
            b"suspend" => Some(ShutdownRequest::Suspend),
            b"halt" => Some(ShutdownRequest::Halt),
            b"crash" => Some(ShutdownRequest::Crash),
            _ => None,
        }
    }

    /// The reason to give to [`shutdown`] when obeying; `None` for [`Suspend`](Self::Suspend), after which the domain
    /// goes on.
    pub fn reason(self) -> Option<ShutdownReason> {
        match self {
            ShutdownRequest::PowerOff | ShutdownRequest::Halt => Some(ShutdownReason::PowerOff),
            ShutdownRequest::Reboot => Some(ShutdownReason::Reboot),
            ShutdownRequest::Suspend => None,
            ShutdownRequest::Crash => Some(ShutdownReason::Crash),
        }
    }
}

/// The watch on the toolstack's wishes.
pub struct ShutdownWatch<P: Platform> {
    store: XenStore<P>,
    watch: Watch<P>,
    can_suspend: bool,
    /// The domain's [`resumes`](crate::platform::DomainState::resumes) when the announcement was made.
    announced: Cell<u64>,
    /// The watch has fired, and xenstore has not said yet what there is.
    unanswered: Cell<bool>,
}

impl<P: Platform> ShutdownWatch<P> {
    /// Announces what this domain can do, and listens. Say `can_suspend` only when the program handles
    /// [`ShutdownRequest::Suspend`]: otherwise `xl save` is refused cleanly.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn new(store: &XenStore<P>, can_suspend: bool) -> Result<Self, StoreError> {
        let (watch, ()) = store.watch_beside(NODE, || announce(store, can_suspend))?;
        Ok(ShutdownWatch {
            store: store.clone(),
            watch,
            can_suspend,
            announced: Cell::new(store.events().resumes()),
            unanswered: Cell::new(false),
        })
    }

    /// What the toolstack asks for, if it does; the request is acknowledged then, and the domain
    /// owes it. Does not wait, but for xenstore's answers when the watch has fired.
    ///
    /// An unknown word, and a suspend that was not announced, are acknowledged too, so
    /// that the toolstack learns at once that nothing will come of it, and reported to the log.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn take(&self) -> Result<Option<ShutdownRequest>, StoreError> {
        if self.announced.get() != self.store.events().resumes() {
            announce(&self.store, self.can_suspend)?;
            self.announced.set(self.store.events().resumes());
        }
        let fired = !self.watch.take_all()?.is_empty();
        // Not before xenstore has answered what it owes: a program that looks often does not wait for it each time.
        let again = self.unanswered.get() && self.store.is_quiet();
        if !fired && !again {
            return Ok(None);
        }
        self.unanswered.set(true);
        let word = match self.store.read(NODE) {
            word if is_none(&word) => Vec::new(),
            Ok(_) => self.acknowledge()?,
            Err(error) => return Err(error),
        };
        self.unanswered.set(false);
        if word.is_empty() {
            return Ok(None);
        }
        match ShutdownRequest::from_word(&word) {
            Some(ShutdownRequest::Suspend) if !self.can_suspend => {
                log::warn!("asked to suspend, which this domain can't");
                Ok(None)
            }
            None => {
                log::warn!("asked for an unknown kind of shutdown");
                Ok(None)
            }
            request => Ok(request),
        }
    }

    /// Takes the word and clears its node, unless another has been written meanwhile: then that one.
    fn acknowledge(&self) -> Result<Vec<u8>, StoreError> {
        self.store.transaction(|transaction| {
            let word = transaction.read(NODE);
            if is_none(&word) {
                return Ok(Vec::new());
            }
            let word = word?;
            transaction.write(NODE, b"")?;
            Ok(word)
        })
    }
}

/// Whether xenstore has answered that nothing is asked for: no word, or none for this domain.
fn is_none(word: &Result<Vec<u8>, StoreError>) -> bool {
    match word {
        Ok(word) => word.is_empty(),
        // That would say nothing: it has to be asked again.
        Err(StoreError::Refused(Refusal::Again)) => false,
        Err(error) => matches!(error, StoreError::Refused(_)),
    }
}

/// Says what this domain can do.
fn announce<P: Platform>(store: &XenStore<P>, can_suspend: bool) -> Result<(), StoreError> {
    let word = |able| if able { &b"1"[..] } else { b"0" };
    let features = [
        ("control/feature-poweroff", word(true)),
        ("control/feature-reboot", word(true)),
        ("control/feature-suspend", word(can_suspend)),
    ];
    for ((node, _), written) in features.into_iter().zip(store.write_all(features)) {
        match written {
            Ok(()) => {}
            // An old toolstack keeps the nodes to itself, and does without them.
            Err(StoreError::Refused(refusal)) => {
                log::debug!("{node} can't be written: {}", refusal.name());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl<P: Platform> fmt::Debug for ShutdownWatch<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownWatch")
            .field("can_suspend", &self.can_suspend)
            .finish_non_exhaustive()
    }
}
