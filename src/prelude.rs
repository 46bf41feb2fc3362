//! What an app uses all the time: `use xen9p::prelude::*;`.
//!
//! The modules [`fs`], [`io`] and [`path`] are those of [`std`](crate::std), on the app's files; the types of `alloc` are those
//! that are in the prelude of `std`; [`log`] has `log::info!` and its like, which an image prints as its option `log=` says.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! use xen9p::prelude::*;
//!
//! xen9p::entry!(main);
//!
//! fn main() -> io::Result<()> {
//!     for (number, line) in BufReader::new(File::open("/hello.txt")?).lines().enumerate() {
//!         println!("{}: {}", number + 1, line?);
//!     }
//!     log::info!("that was all");
//!     Ok(())
//! }
//! ```

pub use alloc::borrow::ToOwned;
pub use alloc::boxed::Box;
pub use alloc::string::{String, ToString};
pub use alloc::vec::Vec;
pub use alloc::{format, vec};

pub use log;

pub use crate::std::fs::{self, File, OpenOptions};
pub use crate::std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
pub use crate::std::path::{self, Path, PathBuf};

#[cfg(feature = "rt")]
pub use crate::rt::{self, ExitCode};
#[cfg(feature = "rt")]
pub use crate::{print, println};
