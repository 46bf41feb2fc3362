//! Why a connection did not come about, for people.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use super::ring::Order;
use crate::hypercall::XenError;
use crate::xen::grant::GrantError;
use crate::xen::store::StoreError;
use crate::xen::xenbus::{XenbusError, XenbusState};

/// Why connecting to a 9pfs device failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The domain has no 9pfs device at all.
    NoDevice,
    /// No device has the tag; these are there, with commas between them.
    NoSuchTag(String),
    /// The backend did not do in time what this side waited for.
    Waited {
        /// What that was.
        what: &'static str,
        /// Where the backend is instead.
        found: XenbusState,
        /// How long this side waited.
        timeout: Duration,
    },
    /// The backend went to this state instead of connecting.
    Refused(XenbusState),
    /// The device is connected already, and that connection is not closed.
    InUse,
    /// The device was removed meanwhile.
    Gone,
    /// A node of the device's is missing or makes no sense.
    BadNode(&'static str),
    /// The backend speaks only versions of the protocol that are unknown here.
    Version,
    /// The backend's node says that it allows no ring.
    NoRing(&'static str),
    /// The backend allows only rings that are too small for a 9P session.
    SmallRings,
    /// The rings' memory could not be shared.
    Memory(GrantError),
    /// No event channel could be opened.
    Port(XenError),
    /// Xenstore failed.
    Store(StoreError),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::NoDevice => f.write_str(
                "this domain has no 9pfs device; add p9=[ \"tag=…,path=…,security_model=none\" ] to its xl config",
            ),
            ConnectError::NoSuchTag(tags) => {
                write!(f, "no 9pfs device with that tag; there are: {tags}")
            }
            ConnectError::Waited {
                what,
                found,
                timeout,
            } => {
                write!(
                    f,
                    "waited {} s in vain for {what}: the 9pfs backend is in state {found}; ",
                    timeout.as_secs()
                )?;
                f.write_str(match found {
                    XenbusState::Unknown | XenbusState::Initialising => {
                        "is QEMU (with 9pfs) or xen-9pfsd running in the backend's domain?"
                    }
                    _ => "its log in the backend's domain may say why",
                })
            }
            ConnectError::Refused(state) => write!(
                f,
                "the 9pfs backend went to state {state} instead of connecting; its log may say why"
            ),
            ConnectError::InUse => f.write_str(
                "the 9pfs device is connected already: use the mount that there is, or close it first",
            ),
            ConnectError::Gone => f.write_str("the 9pfs device was removed while connecting"),
            ConnectError::BadNode(node) => XenbusError::BadNode(node).fmt(f),
            ConnectError::Version => f.write_str(
                "the 9pfs backend does not offer version 1 of the protocol (node \"versions\"), \
                 the only one known here",
            ),
            ConnectError::NoRing(node) => write!(
                f,
                "the 9pfs backend allows no ring: its node \"{node}\" is 0"
            ),
            ConnectError::SmallRings => write!(
                f,
                "the 9pfs backend allows rings of page order 1 at most (its node \"max-ring-page-order\"); \
                 a 9P session needs order {}, that is {} KiB in each direction",
                Order::MIN.get(),
                Order::MIN.bytes() >> 10
            ),
            ConnectError::Memory(error) => write!(f, "no memory for the 9pfs rings: {error}"),
            ConnectError::Port(error) => {
                write!(f, "no event channel for the 9pfs rings: {error}")
            }
            ConnectError::Store(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ConnectError::Memory(error) => Some(error),
            ConnectError::Port(error) => Some(error),
            ConnectError::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<XenbusError> for ConnectError {
    /// A timeout becomes a [`Waited`](ConnectError::Waited); the caller fills in how long it was.
    fn from(error: XenbusError) -> Self {
        match error {
            XenbusError::Store(error) => ConnectError::Store(error),
            XenbusError::Timeout(what, found) => ConnectError::Waited {
                what,
                found,
                timeout: Duration::ZERO,
            },
            XenbusError::BadNode(node) => ConnectError::BadNode(node),
            XenbusError::Refused(state) => ConnectError::Refused(state),
            XenbusError::Gone => ConnectError::Gone,
        }
    }
}
