//! A 9P client: the session over any [`Transport`](transport::Transport), files, and name spaces made of several trees.
//!
//! No I/O of its own, no unsafe code, no knowledge of Xen or of an architecture.
//!
//! ```
//! use p9_client::fs::{Fs, MountOptions, Result};
//! use p9_client::transport::Transport;
//!
//! /// The greeting on a server that is reached somehow.
//! fn greeting(transport: impl Transport + 'static) -> Result<String> {
//!     let fs = Fs::mount(transport, &MountOptions::new())?;
//!     fs.read_to_string("/hello.txt")
//! }
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod fs;
pub mod session;
pub mod trace;
pub mod transport;

pub use p9_tree::{Error, ns};
pub use p9_wire::Dialect;
