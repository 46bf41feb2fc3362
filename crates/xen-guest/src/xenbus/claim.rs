//! That a device has one driver in its domain.

use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::Device;
use crate::platform::Platform;

/// The right to drive a device. At most one exists per device and [`XenStore`](crate::store::XenStore); dropping it gives
/// the right back.
#[derive(Debug)]
pub struct DeviceClaim(Rc<()>);

/// The devices that have a driver: their directories, and how often the domain had been resumed elsewhere when they were
/// claimed, since the devices of before are gone.
#[derive(Debug, Default)]
pub(crate) struct Claims(RefCell<Vec<(String, u64, Weak<()>)>>);

impl Claims {
    fn claim(&self, directory: &str, resumes: u64) -> Option<DeviceClaim> {
        let mut claims = self.0.borrow_mut();
        claims.retain(|(_, made, claim)| *made == resumes && claim.strong_count() > 0);
        if claims.iter().any(|(claimed, ..)| claimed == directory) {
            return None;
        }
        let claim = DeviceClaim(Rc::new(()));
        claims.push((directory.into(), resumes, Rc::downgrade(&claim.0)));
        Some(claim)
    }
}

impl<P: Platform> Device<P> {
    /// Claims the device for a driver; `None` while another claim to it exists. Two connections would be the end of the
    /// first, and some backends don't survive the second.
    pub fn claim(&self) -> Option<DeviceClaim> {
        let resumes = self.store().events().resumes();
        self.store().claims().claim(self.frontend(), resumes)
    }
}
