//! Why there is no vchan, for people.

use core::fmt;
use core::time::Duration;

use crate::hypercall::{DomId, XenError};
use crate::xen::grant::{GrantError, MapError};
use crate::xen::store::{Refusal, StoreError};

/// Why a vchan did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VchanError {
    /// The address is malformed; the text says what is wrong.
    Address(&'static str),
    /// The path in xenstore has this many bytes, and libxenvchan reads 49.
    LongPath(usize),
    /// Both ends would be in this domain.
    Own,
    /// The server has not published the vchan in this time.
    NotPublished(Duration),
    /// It is published, but this domain may not read it.
    NotPermitted,
    /// A node makes no sense.
    BadNode(&'static str),
    /// The server's page can't be mapped.
    Map(MapError),
    /// The rings of these orders do not fit into a vchan.
    Orders(u16, u16),
    /// What is in the server's page makes no sense; the text says which rule is broken.
    BadPage(&'static str),
    /// The server's port does not take this domain: it has another client, or is gone.
    Port(XenError),
    /// There is no event channel for the client.
    NoPort(XenError),
    /// The server has not taken in time what an earlier client sent.
    Busy(Duration),
    /// An earlier client has used what is published, and the server has not taken it back yet.
    Used,
    /// The server published something else while the vchan was set up, again and again.
    Changed,
    /// There is no such domain.
    NoDomain(DomId),
    /// The memory of the rings could not be shared.
    Memory(GrantError),
    /// Xenstore failed.
    Store(StoreError),
}

impl fmt::Display for VchanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VchanError::Address(what) => write!(
                f,
                "malformed address: {what}; an address looks like vchan!DOMID!NAME"
            ),
            VchanError::LongPath(len) => write!(
                f,
                "the path of the vchan in xenstore has {len} bytes, libxenvchan reads 49: take a shorter name"
            ),
            VchanError::Own => {
                f.write_str("the address is this domain's own, and a vchan leads to another one")
            }
            VchanError::NotPublished(timeout) => write!(
                f,
                "waited {} s in vain for the other domain to publish the vchan; is its server running, with this domain's \
                 number?",
                timeout.as_secs()
            ),
            VchanError::NotPermitted => f.write_str(
                "xenstore does not let this domain read the vchan: it is for another one",
            ),
            VchanError::BadNode(node) => {
                write!(f, "the node \"{node}\" of the vchan is no number from 1 on")
            }
            VchanError::Map(error) => write!(f, "the server's memory: {error}"),
            VchanError::Orders(left, right) => write!(
                f,
                "the server's page says that its rings are of orders {left} and {right}, which is no legal pair"
            ),
            VchanError::BadPage(rule) => write!(f, "the server is not usable: {rule}"),
            VchanError::Port(error) => write!(
                f,
                "the server's event channel does not take this domain, it may have a client already: {error}"
            ),
            VchanError::NoPort(error) => write!(f, "no event channel for the client: {error}"),
            VchanError::Busy(timeout) => write!(
                f,
                "waited {} s in vain for the server to take what an earlier client sent",
                timeout.as_secs()
            ),
            VchanError::Used => f.write_str(
                "the server has not taken back what it published for an earlier client; it does when it notices that that one has gone",
            ),
            VchanError::Changed => {
                f.write_str("the server published another vchan each time this one was set up")
            }
            VchanError::NoDomain(domain) => write!(f, "there is no domain {domain}"),
            VchanError::Memory(error) => write!(f, "no memory for the vchan: {error}"),
            VchanError::Store(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for VchanError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            VchanError::Map(error) => Some(error),
            VchanError::Port(error) | VchanError::NoPort(error) => Some(error),
            VchanError::Memory(error) => Some(error),
            VchanError::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StoreError> for VchanError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(Refusal::Access | Refusal::NotPermitted) => {
                VchanError::NotPermitted
            }
            error => VchanError::Store(error),
        }
    }
}

impl From<MapError> for VchanError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Own => VchanError::Own,
            error => VchanError::Map(error),
        }
    }
}
