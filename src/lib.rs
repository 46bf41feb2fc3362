//! Files for programs that run directly on Xen.
//!
//! The library is a stack of floors; each knows only the ones below it:
//!
//! | floor | what it does |
//! |---|---|
//! | [`ns`] | a private name space: several mounts as one tree, binds, union directories |
//! | [`fs`] | `File`, `OpenOptions`, `ReadDir` …: the names and habits of `std::fs` |
//! | [`p9`] | the 9P codec and the client session; knows nothing of Xen |
//! | [`transport`] | how 9P messages travel: the Xen 9pfs rings, or anything that implements [`transport::Transport`] |
//! | [`xen`] | grant table, event channels, xenstore, xenbus, console, clock, shutdown |
//! | [`hypercall`] | typed hypercalls |
//! | [`sys`] | Xen's public ABI, generated |
//!
//! Whoever hosts the drivers implements [`platform::Platform`]; with the feature `rt` the library
//! brings its own implementation and boots as a bare PVH or PV domain.
#![no_std]

extern crate alloc;

pub mod errno;
pub mod fs;
pub mod hypercall;
pub mod ns;
pub mod p9;
pub mod platform;
pub mod sys;
pub mod time;
pub mod transport;
pub mod xen;

#[cfg(feature = "rt")]
#[path = "../boot/mod.rs"]
pub mod rt;
