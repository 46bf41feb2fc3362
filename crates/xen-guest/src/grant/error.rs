//! Why pages could not be shared.

use core::fmt;

use crate::hypercall::XenError;
use crate::platform::Frame;

/// Why pages could not be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrantError {
    /// Memory is short.
    NoMemory,
    /// The grant table could not grow.
    Table(XenError),
    /// This many pages are shared already, which is the limit.
    Limit(usize),
    /// The peer holds on to this many pages that were taken back from it, which is more than the limit.
    Quarantine(usize),
    /// The platform's pages are not page-aligned: it breaks its contract. The number is the address.
    Misaligned(usize),
    /// A page lies higher than a version-1 entry can say (16 TiB).
    OutOfReach(Frame),
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GrantError::NoMemory => f.write_str("out of memory for pages to share"),
            GrantError::Table(error) => write!(
                f,
                "the grant table can't grow: {error}; a larger max_grant_frames helps"
            ),
            GrantError::Limit(pages) => write!(f, "{pages} pages are shared, no more are allowed"),
            GrantError::Quarantine(pages) => write!(
                f,
                "the other domain still maps {pages} pages that were taken back from it; \
                 no new ones are shared with it before it lets go"
            ),
            GrantError::Misaligned(address) => write!(
                f,
                "the platform's pages at {address:#x} are not page-aligned: it breaks its contract"
            ),
            GrantError::OutOfReach(frame) => {
                write!(f, "{frame:?} is too high for a version-1 grant")
            }
        }
    }
}

impl core::error::Error for GrantError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            GrantError::Table(error) => Some(error),
            _ => None,
        }
    }
}
