//! Xenbus: how the two halves of a device find each other and agree on where they are.
//!
//! Each device has a directory on the frontend's side and one on the backend's, with a node `state`
//! in each ([`XenbusState`]; public/io/xenbus.h). Everything here is the same for all kinds of
//! devices; what the other nodes mean is the business of the drivers.
//!
//! ```
//! use xen_guest::platform::Platform;
//! use xen_guest::store::XenStore;
//! use xen_guest::xenbus::{XenbusError, enumerate};
//!
//! /// Lists the 9pfs devices of this domain.
//! fn list<P: Platform>(store: &XenStore<P>) -> Result<(), XenbusError> {
//!     for device in enumerate(store, "9pfs")? {
//!         let tag = device.tag().unwrap_or("without a tag");
//!         println!("{} {tag}: {:?}", device.id(), device.state()?);
//!     }
//!     Ok(())
//! }
//! ```

pub mod backend;
mod claim;
mod device;
mod handshake;
mod state;

use core::fmt;

use crate::store::{IsConflict, StoreError};

pub(crate) use claim::Claims;
pub use claim::DeviceClaim;
pub use device::{Device, enumerate, numbers};
pub use handshake::{Handshake, Step};
pub use state::{BackendState, XenbusState};

/// Why a device can't be brought to where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XenbusError {
    /// Xenstore had an error.
    Store(StoreError),
    /// The device was removed.
    Gone,
    /// The backend stayed in this state for too long; the text says what was waited for.
    Timeout(&'static str, XenbusState),
    /// The backend went to this state instead of connecting.
    Refused(XenbusState),
    /// This node is missing or has no sensible value.
    BadNode(&'static str),
}

impl From<StoreError> for XenbusError {
    fn from(error: StoreError) -> Self {
        XenbusError::Store(error)
    }
}

impl IsConflict for XenbusError {
    fn is_conflict(&self) -> bool {
        matches!(self, XenbusError::Store(error) if error.is_conflict())
    }
}

impl fmt::Display for XenbusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            XenbusError::Store(error) => error.fmt(f),
            XenbusError::Gone => f.write_str("the device was removed"),
            XenbusError::Timeout(what, state) => {
                write!(
                    f,
                    "waited in vain for {what}: the backend is in state {state}"
                )
            }
            XenbusError::Refused(state) => {
                write!(f, "the backend went to state {state} instead of connecting")
            }
            XenbusError::BadNode(node) => {
                write!(f, "xenstore node \"{node}\" is missing or makes no sense")
            }
        }
    }
}

impl core::error::Error for XenbusError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            XenbusError::Store(error) => Some(error),
            _ => None,
        }
    }
}

/// How [`Device::reset`] left the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It waits for the frontend, as the protocol has it.
    InitWait,
    /// It stays closed, or closing, and the device is still online. Some backends (xen-9pfsd) connect from
    /// here when the frontend simply goes on; others never do.
    StaysClosed,
}

/// What it means that a handshake has come to another end than it should.
fn failure(step: Step) -> XenbusError {
    match step {
        Step::Overdue(what, found) => XenbusError::Timeout(what, found),
        Step::Refused(XenbusState::Unknown) => XenbusError::Gone,
        Step::Refused(found) => XenbusError::Refused(found),
        // Of these none is an end that anybody waits for in vain.
        Step::Set(_) | Step::Wait(_) | Step::Offer(_) | Step::Connected | Step::Left => {
            XenbusError::Gone
        }
    }
}

/// What a failure to read a node means for the device it belongs to.
pub fn map_enoent(error: StoreError, node: &'static str) -> XenbusError {
    match error {
        StoreError::Refused(_) | StoreError::BadAnswer(_) => XenbusError::BadNode(node),
        error => XenbusError::Store(error),
    }
}
