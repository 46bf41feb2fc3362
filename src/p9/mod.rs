//! 9P: the codec and the client session. Pure: no I/O, no unsafe, no knowledge of Xen.
#![forbid(unsafe_code)]

mod error;
pub mod session;
pub mod trace;
pub mod wire;

pub use error::Error;
pub use wire::Dialect;
