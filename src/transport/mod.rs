//! How 9P messages travel: the trait [`Transport`], and the rings of a Xen 9pfs device.

pub mod xen9pfs;

pub use p9_client::transport::*;
