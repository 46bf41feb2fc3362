//! Drivers for what every Xen domain has.

pub mod event;
