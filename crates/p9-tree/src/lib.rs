//! Trees of files: the one trait between those who have files and those who use or serve them.
//!
//! A 9P connection, memory, a directory of a host, a view of another tree: each is a tree, and implements [`Node`] and
//! [`OpenFile`]. A 9P server and the files API call them. So any two meet here, and a tree that one domain has can be
//! used by its own program, mounted in a name space, or served to another domain.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod any_node;
mod drive;
mod erased;
mod erased_file;
mod error;
pub mod files;
mod in_order;
pub mod io;
mod kind;
mod memory;
mod metadata;
mod node;
pub mod ns;
mod open_file;
mod options;
mod path;
mod remove;
mod span;
mod times;
pub mod trees;
mod types;
mod walked;

pub use drive::{Driver, NeverWaits, block_on};
pub use erased::DynNode;
pub use erased_file::DynFile;
pub use error::{Error, Text, TransportError};
pub use kind::ErrorKind;
pub use memory::try_copy;
pub use metadata::{FileType, Metadata, Permissions, StatFs};
pub use node::{Created, MAX_NAME, Make, NewFiles, Node, is_name};
pub use open_file::{HeldLock, Lock, OpenFile};
pub use options::{OpenOptions, OpenPath};
pub use path::{CleanPath, End};
pub use remove::remove_all;
pub use span::Span;
pub use times::{FileTimes, SystemTime};
pub use types::{LockRange, SeekFrom};
pub use walked::Walked;

/// What operations on files return.
pub type Result<T> = core::result::Result<T, Error>;
