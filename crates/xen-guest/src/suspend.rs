//! Being saved, and going on: in the same domain or in a new one.
//!
//! `xl save`, `xl migrate` and `xl save -c` have a domain suspend itself by a hypercall, which returns when the domain
//! runs again ([`Suspended`]). In a new domain its memory is as it was, and all else is gone: event channels, grants,
//! what it wrote to xenstore, and every backend. [`Xen::suspend`] is the drivers' part of it; the machine's part is
//! done by the kernel that hosts them.
//!
//! ```
//! use xen_guest::Xen;
//! use xen_guest::hypercall::XenError;
//! use xen_guest::platform::Platform;
//! use xen_guest::suspend::{SuspendError, SuspendReturn, Suspended};
//!
//! /// Obeys `xl save`. `machine` is the kernel's part: the hypercall, and what it has to set up again behind it.
//! fn save<P: Platform>(
//!     xen: &Xen<P>,
//!     machine: impl FnOnce() -> Result<SuspendReturn, XenError>,
//! ) -> Result<(), SuspendError> {
//!     match xen.suspend(machine)? {
//!         Suspended::Resumed => println!("in a new domain: backends have to be looked for"),
//!         Suspended::Cancelled => println!("nothing has happened"),
//!     }
//!     Ok(())
//! }
//! ```

pub mod pv;

use core::fmt;

use super::Xen;
use super::store::StoreError;
use crate::hypercall::XenError;
use crate::platform::Platform;

pub use crate::hypercall::sched::{SuspendReturn, Suspended};

/// Why a domain was not suspended, or can't go on as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SuspendError {
    /// Xenstore still had something to say; nothing was suspended.
    Busy(StoreError),
    /// The machine's part failed with this error; nothing was suspended.
    Machine(XenError),
    /// The domain was resumed elsewhere, where xenstore can't be reached.
    Lost(StoreError),
}

impl fmt::Display for SuspendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SuspendError::Busy(error) => write!(f, "not suspended: {error}"),
            SuspendError::Machine(error) => write!(f, "not suspended: Xen says {error}"),
            SuspendError::Lost(error) => write!(f, "resumed, but {error}"),
        }
    }
}

impl core::error::Error for SuspendError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            SuspendError::Busy(error) | SuspendError::Lost(error) => Some(error),
            SuspendError::Machine(error) => Some(error),
        }
    }
}

impl<P: Platform> Xen<P> {
    /// Suspends the domain by calling `machine`, and has the drivers go on when it returns.
    ///
    /// `machine` makes the hypercall ([`sched::suspend`](crate::hypercall::sched::suspend)) and puts everything back
    /// that the [platform](crate::platform#save-and-restore) answers for. After [`Suspended::Cancelled`] nothing has
    /// changed for the drivers, but that pages of other domains are [lost](super::grant::MappedPages::is_lost) in any case.
    /// After [`Suspended::Resumed`]
    ///
    /// * event channels and shared pages of before are never touched again under their old numbers: dropping them
    ///   gives memory back, and no more. A [`Console`](super::console::Console) goes on by itself;
    /// * xenstore is connected again, and everything watched that was; each [`Watch`](super::store::Watch) fires;
    /// * every connection to a backend is lost: its next use fails with
    ///   `TransportError::Lost`, and what recovers looks for the new backend.
    ///
    /// Call it when no request to xenstore is being waited for, as between two operations or from an idle hook. It waits
    /// for the answers of requests that were given up.
    ///
    /// # Errors
    /// See [`SuspendError`].
    pub fn suspend(
        &self,
        machine: impl FnOnce() -> Result<SuspendReturn, XenError>,
    ) -> Result<Suspended, SuspendError> {
        self.store.quiesce().map_err(SuspendError::Busy)?;
        self.grants.unmap_all();
        let how = machine().map_err(SuspendError::Machine)?.how();
        if how == Suspended::Resumed {
            self.platform.domain_state().count_resume();
            self.events.forget_all();
            self.grants.drain();
            self.store.resumed().map_err(SuspendError::Lost)?;
        }
        Ok(how)
    }
}
