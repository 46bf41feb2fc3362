//! Trees of files: the one trait between those who have files and those who use or serve them.
//!
//! A 9P connection, memory, a directory of a host, a view of another tree: each is a tree, and implements [`Node`] and
//! [`OpenFile`]. A 9P server and the files API call them. So any two meet here, and a tree that one domain has can be
//! used by its own program, mounted in a name space, or served to another domain.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
mod node;

pub use error::{Error, TransportError};
pub use node::{Created, HeldLock, Lock, MAX_NAME, Node, OpenFile, is_name};

/// What operations on files return.
pub type Result<T> = core::result::Result<T, Error>;
