//! `xen9pd`: a daemon for dom0 that serves directories to Xen guests as 9pfs devices.

pub mod broker;
pub mod config;
mod crew;
pub mod host;
pub mod journal;
pub mod listen;
pub mod sandbox;
mod words;
pub mod worker;
pub mod xen;
