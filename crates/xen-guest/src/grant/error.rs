//! What can go wrong with grants, how much of them there may be, and how much there is.

use core::fmt;

use super::{GrantRef, PER_FRAME};
use crate::hypercall::XenError;
use crate::hypercall::grant_table::GrantStatus;
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

/// How much may be shared and mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pages shared at a time, those in quarantine not counted.
    pub pages: usize,
    /// Pages of other domains mapped at a time.
    pub mapped: usize,
    /// Pages that one domain keeps in quarantine above which nothing new is shared with it. Others are not concerned.
    pub quarantine: usize,
}

impl Default for Limits {
    /// As many pages as fit in Xen's default table of 64 frames, and an eighth of that in
    /// quarantine: four 9pfs devices with four rings of the largest kind each fit twice. A quarter as many may be
    /// mapped.
    fn default() -> Self {
        Limits {
            pages: 64 * PER_FRAME as usize,
            mapped: 16 * PER_FRAME as usize,
            quarantine: 8 * PER_FRAME as usize,
        }
    }
}

/// Where all pages and references are: each of these is back where it was when a device has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Pages shared now, and pages that may be lent.
    pub shared_pages: usize,
    /// Pages in quarantine now.
    pub quarantined_pages: usize,
    /// References in quarantine now.
    pub quarantined_refs: usize,
    /// References in use, those in quarantine included.
    pub used_refs: usize,
    /// Pages that ever went to quarantine.
    pub total_quarantined_pages: u64,
    /// Pages of other domains that are mapped now.
    pub mapped_pages: usize,
    /// Pages that were ever mapped.
    pub total_mapped_pages: u64,
    /// Pages that Xen did not unmap: their addresses are used no more until it does.
    pub stuck_pages: usize,
}

/// Why pages of another domain could not be mapped. None of them is, then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// There is no room for so many pages in the address space, or this kernel maps no pages of others at all.
    NoWindow(usize),
    /// This many pages are mapped already, which is the limit.
    Limit(usize),
    /// The pages are this domain's own.
    Own,
    /// Out of memory.
    NoMemory,
    /// Xen refused the whole call.
    Xen(XenError),
    /// Xen refused this reference, and says why.
    Refused(GrantRef, GrantStatus),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::NoWindow(pages) => {
                write!(
                    f,
                    "there is no place to map {pages} pages of another domain"
                )
            }
            MapError::Limit(pages) => write!(
                f,
                "{pages} pages of other domains are mapped, no more are allowed"
            ),
            MapError::Own => f.write_str("a domain does not map pages of its own"),
            MapError::NoMemory => f.write_str("out of memory for mapping pages"),
            MapError::Xen(error) => write!(f, "Xen maps no pages: {error}"),
            MapError::Refused(reference, status) => {
                write!(f, "Xen does not map grant reference {reference}: {status}")
            }
        }
    }
}

impl core::error::Error for MapError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            MapError::Xen(error) => Some(error),
            _ => None,
        }
    }
}

/// Why bytes were not copied to or from another domain. Some of those of the target may be written all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyError {
    /// The bytes are not all in these pages.
    OutOfBounds,
    /// Xen refused the whole call.
    Xen(XenError),
    /// Xen refused this reference of the other domain's, and says why.
    Refused(GrantRef, GrantStatus),
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyError::OutOfBounds => f.write_str("the bytes are not all in the pages"),
            CopyError::Xen(error) => write!(f, "Xen copies nothing: {error}"),
            CopyError::Refused(reference, status) => {
                write!(
                    f,
                    "Xen does not copy by grant reference {reference}: {status}"
                )
            }
        }
    }
}

impl core::error::Error for CopyError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            CopyError::Xen(error) => Some(error),
            _ => None,
        }
    }
}
