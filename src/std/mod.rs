//! The files of an app with the names that `std` has: `xen9p::std::fs` for `std::fs`, `xen9p::std::io` for `std::io`,
//! `xen9p::std::path` for `std::path`.
//!
//! Functions such as [`fs::read_to_string`] and [`fs::File::open`] work on the app's files: in an image the name space that
//! `main` gets, or would get; anywhere else the one that [`set_files`] names. A program that was written for `std` changes its
//! `use` lines; docs/from-std.md lists function by function what is the same and what differs.
//!
//! ```
//! use xen9p::ns::{MemTree, Namespace};
//! use xen9p::std::fs::{self, File};
//! use xen9p::std::io::{self, BufRead, BufReader, Write};
//!
//! fn app() -> io::Result<usize> {
//!     let mut file = File::create("/numbers")?;
//!     for n in 1..=3 {
//!         writeln!(file, "{n}")?;
//!     }
//!     fs::rename("/numbers", "/few-numbers")?;
//!     Ok(BufReader::new(File::open("/few-numbers")?).lines().count())
//! }
//!
//! // In an image the files are there already.
//! thread_local!(static FILES: Namespace = Namespace::new(MemTree::new()));
//! xen9p::std::set_files(|| FILES.try_with(Namespace::clone).ok());
//! assert_eq!(app(), Ok(3));
//! ```

pub mod fs;
mod open;
pub mod path;

use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::ns::Namespace;
use crate::tree::{Error, Result};

/// Streams of bytes: `std::io`.
pub mod io {
    pub use crate::tree::io::*;
}

/// Names as the system has them: `std::ffi`. A name is a [path](path::Path) of one name.
pub mod ffi {
    pub use super::path::{Path as OsStr, PathBuf as OsString};
}

/// What only Unix has: `std::os::unix`.
pub mod os {
    /// `std::os::unix`.
    pub mod unix {
        /// `std::os::unix::fs`.
        pub mod fs {
            pub use crate::std::fs::{chown, lchown, symlink};
        }
    }
}

/// Gives the files that are used, if there are any just now.
type Source = fn() -> Option<Namespace>;

/// A `Source`, or null.
static SOURCE: AtomicPtr<()> = AtomicPtr::new(null_mut());

/// Has the functions here work on the files that `source` gives: each calls it once. An image does that by itself. A program with
/// threads gives each thread files of its own.
pub fn set_files(source: Source) {
    SOURCE.store(source as *mut (), Ordering::Release);
}

/// The files that the functions here work on.
///
/// # Errors
/// [`Error::InvalidInput`] where no files are set, as in an image whose `main` takes a single share; [`Error::Closed`] where
/// there are none now.
pub fn files() -> Result<Namespace> {
    let source = SOURCE.load(Ordering::Acquire);
    if source.is_null() {
        return Err(Error::InvalidInput(
            &"no files are set for the functions of std: have main take a name space, or nothing",
        ));
    }
    // SAFETY: `set_files` alone stores into it, and what it stores is a function of this type.
    let source = unsafe { transmute::<*mut (), Source>(source) };
    source().ok_or(Error::Closed)
}
