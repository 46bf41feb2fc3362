//! Why there is no connection, for people.

use core::fmt;
use core::time::Duration;

use crate::hypercall::{DomId, XenError};
use crate::xen::argo::ArgoError;
use crate::xen::store::StoreError;

/// Why a connection by Argo did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialError {
    /// The address is malformed; the text says what is wrong.
    Address(&'static str),
    /// Both ends would be in this domain.
    Own,
    /// There is no Argo, no memory, or no ring.
    Argo(ArgoError),
    /// The other domain had no ring for this one at the port in this time.
    NotThere(Duration),
    /// The other domain's ring is too small for 9P: the largest message that it takes, in bytes.
    Small(u32),
    /// There is no such domain.
    NoDomain(DomId),
    /// The domain has a ring for the other one at this port.
    Taken(u32),
    /// What is in the ring of this domain makes no sense; the text says which rule is broken.
    BadRing(&'static &'static str),
    /// Xen does not say what it should.
    Xen(XenError),
    /// The domain can't find out its own number.
    Store(StoreError),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Address(what) => write!(
                f,
                "malformed address: {what}; an address looks like argo!DOMID!PORT"
            ),
            DialError::Own => f.write_str(
                "the address is this domain's own, and a connection leads to another one",
            ),
            DialError::Argo(error) => write!(f, "Argo: {error}"),
            DialError::NotThere(timeout) => write!(
                f,
                "waited {} s in vain for the other domain to have an Argo ring at this port; is its server running, with \
                 this domain's number?",
                timeout.as_secs()
            ),
            DialError::Small(most) => write!(
                f,
                "the other domain's Argo ring takes messages of at most {most} bytes, which is too little for 9P"
            ),
            DialError::NoDomain(domain) => write!(f, "there is no domain {domain} that uses Argo"),
            DialError::Taken(port) => write!(
                f,
                "this domain has an Argo ring for the other one at port {port} already"
            ),
            DialError::BadRing(rule) => write!(f, "the Argo ring is broken: {rule}"),
            DialError::Xen(error) => write!(f, "Argo: Xen says {error}"),
            DialError::Store(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for DialError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            DialError::Argo(error) => Some(error),
            DialError::Xen(error) => Some(error),
            DialError::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ArgoError> for DialError {
    fn from(error: ArgoError) -> Self {
        DialError::Argo(error)
    }
}
