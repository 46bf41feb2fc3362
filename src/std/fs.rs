//! The functions and types of `std::fs`, on the [app's files](super::files).
//!
//! ```
//! use xen9p::std::fs::{self, OpenOptions};
//! use xen9p::std::io::Write;
//! # use xen9p::ns::{MemTree, Namespace};
//! # thread_local!(static FILES: Namespace = Namespace::new(MemTree::new()));
//! # xen9p::std::set_files(|| FILES.try_with(Namespace::clone).ok());
//!
//! fs::create_dir_all("/var/log")?;
//! let mut log = OpenOptions::new().append(true).create(true).open("/var/log/app")?;
//! writeln!(log, "started")?;
//! for entry in fs::read_dir("/var/log")? {
//!     let entry = entry?;
//!     assert_eq!(entry.path().display().to_string(), "/var/log/app");
//!     assert_eq!(entry.metadata()?.len(), 8);
//! }
//! # Ok::<(), xen9p::std::io::Error>(())
//! ```

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Deref;

use super::files;
use super::path::{Path, PathBuf};
use crate::ns;
use crate::tree::Result;

pub use super::open::{DirBuilder, File, OpenOptions};
pub use crate::tree::files::CopiedTree;
pub use crate::tree::{FileTimes, FileType, Metadata, Permissions};

/// Functions that are methods of the files.
macro_rules! functions {
    ($($(#[$doc:meta])* fn $name:ident($($path:ident),+; $($arg:ident: $ty:ty),*) -> $out:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// Those of [`files`], and those of the method of [`tree::files::Fs`](crate::tree::files::Fs).
        pub fn $name($($path: impl AsRef<Path>,)+ $($arg: $ty),*) -> Result<$out> {
            files()?.$name($($path.as_ref(),)+ $($arg),*).map(Into::into)
        }
    )*};
}

functions! {
    /// The whole content of a file.
    fn read(path;) -> Vec<u8>;

    /// The whole content of a text file.
    fn read_to_string(path;) -> String;

    /// Makes or replaces a file with this content.
    fn write(path; content: impl AsRef<[u8]>) -> ();

    /// Copies the content and the permission bits of a file; returns the number of bytes.
    fn copy(from, to;) -> u64;

    /// Copies a whole directory to a new one; `std` has no such function.
    fn copy_dir_all(from, to;) -> CopiedTree;

    /// Renames, replacing a file of the new name.
    fn rename(from, to;) -> ();

    /// Removes a file, or a symbolic link itself.
    fn remove_file(path;) -> ();

    /// Removes an empty directory.
    fn remove_dir(path;) -> ();

    /// Removes a directory and all below it; symbolic links are not followed.
    fn remove_dir_all(path;) -> ();

    /// Makes an empty directory.
    fn create_dir(path;) -> ();

    /// Makes a directory, and those on the way to it that are missing.
    fn create_dir_all(path;) -> ();

    /// Attributes of what the path leads to.
    fn metadata(path;) -> Metadata;

    /// Attributes of what the path names; of a symbolic link its own.
    fn symlink_metadata(path;) -> Metadata;

    /// Whether the path leads to something.
    fn exists(path;) -> bool;

    /// The path from the root, without links, "." and "..".
    fn canonicalize(path;) -> PathBuf;

    /// What a symbolic link says.
    fn read_link(path;) -> PathBuf;

    /// Gives a file another name.
    fn hard_link(original, link;) -> ();

    /// Makes a symbolic link that says `target`.
    fn symlink(target, link;) -> ();

    /// Changes the permission bits.
    fn set_permissions(path; permissions: Permissions) -> ();

    /// Changes access and modification time.
    fn set_times(path; times: FileTimes) -> ();

    /// Changes owner and group; `None` leaves one as it is.
    fn chown(path; uid: Option<u32>, gid: Option<u32>) -> ();

    /// The same, of a symbolic link itself.
    fn lchown(path; uid: Option<u32>, gid: Option<u32>) -> ();

    /// The entries of a directory, without "." and "..".
    fn read_dir(path;) -> ReadDir;

    /// All that is below a directory; `std` has no such function. See [`WalkDir`](crate::tree::files::WalkDir).
    fn walk_dir(path;) -> WalkDir;
}

macro_rules! entries {
    ($($(#[$doc:meta])* $name:ident($of:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name($of);

        impl From<$of> for $name {
            fn from(inner: $of) -> $name {
                $name(inner)
            }
        }

        impl Iterator for $name {
            type Item = Result<DirEntry>;

            fn next(&mut self) -> Option<Self::Item> {
                Some(self.0.next()?.map(DirEntry))
            }
        }
    )*};
}

entries! {
    /// Iterates over the entries of a directory; made by [`read_dir`].
    ReadDir(ns::ReadDir);

    /// Iterates over all that is below a directory; made by [`walk_dir`].
    WalkDir(ns::WalkDir);
}

/// One entry of a directory; beside what is here, it is a [`ns::DirEntry`].
#[derive(Clone, Debug)]
pub struct DirEntry(ns::DirEntry);

impl DirEntry {
    /// The directory's path as it was given, and the name.
    pub fn path(&self) -> PathBuf {
        self.0.path().into()
    }

    /// The bare name.
    pub fn file_name(&self) -> PathBuf {
        self.0.file_name().into()
    }
}

impl Deref for DirEntry {
    type Target = ns::DirEntry;

    fn deref(&self) -> &ns::DirEntry {
        &self.0
    }
}
