//! How 9P messages travel: the trait [`Transport`], the rings of a Xen 9pfs device, vchans, and Argo's messages; and what else
//! travels between domains, messages and buffers.

#[cfg(feature = "argo")]
pub mod argo;
mod desk;
pub mod export;
#[cfg(feature = "idc")]
pub mod idc;
pub mod serving;
pub mod vchan;
pub mod xen9pfs;

pub use p9_client::transport::*;
