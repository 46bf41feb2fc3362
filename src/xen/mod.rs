//! Drivers for what every Xen domain has.

pub mod clock;
pub mod event;
