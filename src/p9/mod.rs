//! 9P: the codec and the client session. Pure: no I/O, no unsafe, no knowledge of Xen.
#![forbid(unsafe_code)]

pub mod wire;
