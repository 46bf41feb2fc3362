//! [`DomainState`]: what the drivers keep once per domain, however many handles there are.

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::Platform;

/// A part of a domain that one driver can use, and no second one beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// The grant table: [`Grants`](crate::grant::Grants).
    GrantTable,
    /// Xenstore's ring: [`XenStore`](crate::store::XenStore).
    XenstoreRing,
    /// The console's ring: [`Console`](crate::console::Console).
    ConsoleRing,
}

impl Resource {
    /// Its bit in [`DomainState::claimed`].
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The resource has a driver already: clone that one's handle instead of making a second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse(pub Resource);

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, handle) = match self.0 {
            Resource::GrantTable => ("grant table", "`Grants`"),
            Resource::XenstoreRing => ("xenstore ring", "`XenStore`"),
            Resource::ConsoleRing => ("console ring", "`Console`"),
        };
        write!(
            f,
            "the domain's {what} is in use already: clone the {handle} that exists"
        )
    }
}

impl core::error::Error for InUse {}

/// What the drivers keep once per domain: which [resources](Resource) have a driver, and how often the domain was
/// resumed elsewhere. A [`Platform`] stores it, and does nothing with it.
///
/// ```
/// use xen9p::platform::DomainState;
///
/// static STATE: DomainState = DomainState::new();
/// ```
#[derive(Debug, Default)]
pub struct DomainState {
    claimed: AtomicU8,
    resumes: AtomicU64,
    /// The number of the last request of the last [`XenStore`](crate::store::XenStore) that is gone.
    last_store_request: AtomicU32,
}

impl DomainState {
    /// The state of a domain that no driver has used yet.
    pub const fn new() -> Self {
        DomainState {
            claimed: AtomicU8::new(0),
            resumes: AtomicU64::new(0),
            last_store_request: AtomicU32::new(0),
        }
    }

    /// How often the domain was resumed elsewhere: event channels and grants of an earlier time are gone.
    pub fn resumes(&self) -> u64 {
        self.resumes.load(Ordering::Relaxed)
    }

    pub(crate) fn last_store_request(&self) -> u32 {
        self.last_store_request.load(Ordering::Relaxed)
    }

    pub(crate) fn set_last_store_request(&self, number: u32) {
        self.last_store_request.store(number, Ordering::Relaxed);
    }

    /// Notes that the domain was resumed elsewhere.
    pub(crate) fn count_resume(&self) {
        self.resumes.fetch_add(1, Ordering::Relaxed);
    }
}

/// The right to be the one driver of a [`Resource`]. At most one exists per domain and resource; dropping it gives the
/// right back.
pub(crate) struct Claim<P: Platform> {
    platform: P,
    resource: Resource,
}

impl<P: Platform> Claim<P> {
    /// Claims `resource` of the domain.
    ///
    /// # Errors
    /// Another claim to it exists.
    pub(crate) fn new(platform: &P, resource: Resource) -> Result<Self, InUse> {
        let claimed = &platform.domain_state().claimed;
        match claimed.fetch_or(resource.bit(), Ordering::AcqRel) & resource.bit() {
            0 => Ok(Claim {
                platform: platform.clone(),
                resource,
            }),
            _ => Err(InUse(resource)),
        }
    }
}

impl<P: Platform> Drop for Claim<P> {
    fn drop(&mut self) {
        let claimed = &self.platform.domain_state().claimed;
        claimed.fetch_and(!self.resource.bit(), Ordering::AcqRel);
    }
}
