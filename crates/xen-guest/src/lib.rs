//! Drivers for what every Xen domain has.
//!
//! [`Xen`] bundles the handles that device drivers need. Everything here belongs to one thread;
//! what blocks does so for a bounded time, and nothing that a peer or xenstored says leads to a
//! panic.
//!
//! ```
//! use xen_guest::Xen;
//! use xen_guest::event::Events;
//! use xen_guest::platform::Platform;
//! use xen_guest::store::StoreError;
//!
//! /// What the toolstack calls this domain.
//! fn name(platform: impl Platform) -> Result<String, StoreError> {
//!     let xen = Xen::new(Events::new(platform))?;
//!     xen.store.read_text("name")
//! }
//! ```

#![no_std]

extern crate alloc;

pub mod argo;
pub mod clock;
pub mod console;
pub mod event;
pub mod grant;
pub mod hypercall;
pub mod log;
pub mod platform;
pub mod ring;
pub mod shared;
pub mod shutdown;
pub mod store;
pub mod suspend;
pub mod xenbus;

use core::time::Duration;

use event::Events;
use grant::Grants;
use platform::Platform;
use store::{StoreError, XenStore};

/// When [`Xen::wait_until_unmapped`] looks for the first time.
const FIRST_LOOK: Duration = Duration::from_micros(100);

/// What a device driver needs of a domain. Clones are the same domain.
#[derive(Clone, Debug)]
pub struct Xen<P: Platform> {
    /// The machine below.
    pub platform: P,
    /// Event channels.
    pub events: Events<P>,
    /// The grant table.
    pub grants: Grants<P>,
    /// Xenstore.
    pub store: XenStore<P>,
}

impl<P: Platform> Xen<P> {
    /// Takes the domain's grant table and xenstore over. `events` is the table that a console uses, too, if there is
    /// one.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another `Xen` of this domain exists: clone that one. Otherwise as
    /// [`XenStore::connect`].
    pub fn new(events: Events<P>) -> Result<Self, StoreError> {
        Ok(Xen {
            platform: events.platform().clone(),
            grants: Grants::new(events.platform().clone())?,
            store: XenStore::connect(&events)?,
            events,
        })
    }

    /// Waits until no page [is in quarantine](grant), which another domain keeps mapped for some moments after it has
    /// disconnected, but no longer than `timeout`. Returns how many pages are; they are lost with the last clone of [`Grants`], so a
    /// kernel that runs on calls this when its connections are closed, before it drops that.
    pub fn wait_until_unmapped(&self, timeout: Duration) -> usize {
        let begun = self.events.now();
        let end = begun + timeout;
        loop {
            let pages = self.grants.drain();
            let now = self.events.now();
            if pages == 0 || now >= end {
                return pages;
            }
            // Xen tells of no unmapping: looked at less often the longer it takes, whatever events come.
            let interval = FIRST_LOOK.max(now - begun);
            self.events.sleep_until(end.min(now + interval));
        }
    }
}
