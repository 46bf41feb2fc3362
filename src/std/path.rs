//! Paths with the methods of `std::path`: bytes, since the names on a server need not be text.

use alloc::borrow::{Cow, ToOwned};
use alloc::string::String;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::fmt;
use core::ops::Deref;

use super::fs;
use crate::tree::{Metadata, Result};

/// A path. As with `str`, it is used by reference; [`PathBuf`] owns one. Two are equal if their bytes are.
///
/// ```
/// use xen9p::std::path::{Path, PathBuf};
///
/// let path = Path::new("/data/2026/report.txt");
/// assert_eq!(path.file_name(), Some(Path::new("report.txt")));
/// assert_eq!(path.file_stem(), Some(Path::new("report")));
/// assert!(path.extension().is_some_and(|extension| extension == "txt"));
/// assert_eq!(path.parent(), Some(Path::new("/data/2026")));
/// assert_eq!(path.parent().unwrap().join("other"), PathBuf::from("/data/2026/other"));
/// assert_eq!(path.with_extension("csv").display().to_string(), "/data/2026/report.csv");
/// ```
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Path {
    bytes: [u8],
}

impl Path {
    /// These bytes as a path.
    pub fn new<S: AsRef<[u8]> + ?Sized>(bytes: &S) -> &Path {
        let bytes: *const [u8] = bytes.as_ref();
        // SAFETY: a `Path` is its one field and has the layout of it, which is that of the slice; it has no invariant. The
        // result borrows what `bytes` borrowed, by the signature.
        unsafe { &*(bytes as *const Path) }
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same under the name that `OsStr` has for it.
    pub const fn as_encoded_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The path as text, if it is text.
    pub const fn to_str(&self) -> Option<&str> {
        match str::from_utf8(&self.bytes) {
            Ok(text) => Some(text),
            Err(_) => None,
        }
    }

    /// The path as text; what is not UTF-8 is replaced by U+FFFD.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// The same, to be printed.
    pub const fn display(&self) -> Display<'_> {
        Display { path: self }
    }

    /// A path that owns its bytes.
    pub fn to_path_buf(&self) -> PathBuf {
        PathBuf::from(self.bytes.to_vec())
    }

    /// Whether it begins with a slash.
    pub fn is_absolute(&self) -> bool {
        self.bytes.starts_with(b"/")
    }

    /// Whether it does not.
    pub fn is_relative(&self) -> bool {
        !self.is_absolute()
    }

    /// Without slashes, and names ".", behind the last name.
    fn trimmed(&self) -> &[u8] {
        let mut bytes = &self.bytes;
        loop {
            bytes = match bytes {
                [rest @ .., b'/'] if !rest.is_empty() => rest,
                [rest @ .., b'/', b'.'] => &bytes[..rest.len() + 1],
                _ => return bytes,
            };
        }
    }

    /// What precedes the last name, and that.
    fn split_last(&self) -> Option<(&Path, &[u8])> {
        let bytes = self.trimmed();
        if matches!(bytes, b"" | b"/") {
            return None;
        }
        let start = bytes.iter().rposition(|&byte| byte == b'/');
        let (front, name) = bytes.split_at(start.map_or(0, |slash| slash + 1));
        Some((Path::new(Path::new(front).trimmed()), name))
    }

    /// The path without its last name; `None` for the root and for an empty path.
    pub fn parent(&self) -> Option<&Path> {
        Some(self.split_last()?.0)
    }

    /// The last name; `None` if there is none, or it is "..".
    pub fn file_name(&self) -> Option<&Path> {
        match self.split_last()?.1 {
            b"." | b".." => None,
            name => Some(Path::new(name)),
        }
    }

    /// The last name, in front of its last dot and behind it.
    fn stem_and_extension(&self) -> Option<(&Path, Option<&Path>)> {
        let name = self.file_name()?;
        match name.bytes.iter().rposition(|&byte| byte == b'.') {
            None | Some(0) => Some((name, None)),
            Some(dot) => {
                let (stem, end) = (&name.bytes[..dot], &name.bytes[dot + 1..]);
                Some((Path::new(stem), Some(Path::new(end))))
            }
        }
    }

    /// The last name without the extension.
    pub fn file_stem(&self) -> Option<&Path> {
        Some(self.stem_and_extension()?.0)
    }

    /// What follows the last dot of the last name, unless that dot is its first byte.
    pub fn extension(&self) -> Option<&Path> {
        self.stem_and_extension()?.1
    }

    /// The path and, below it, another; only the other if that is absolute.
    pub fn join<P: AsRef<Path>>(&self, path: P) -> PathBuf {
        let mut joined = self.to_path_buf();
        joined.push(path);
        joined
    }

    /// The path with another last name.
    pub fn with_file_name<P: AsRef<Path>>(&self, name: P) -> PathBuf {
        let mut changed = self.to_path_buf();
        changed.set_file_name(name);
        changed
    }

    /// The path with another extension, or with none for an empty one.
    pub fn with_extension<P: AsRef<Path>>(&self, extension: P) -> PathBuf {
        let mut changed = self.to_path_buf();
        changed.set_extension(extension);
        changed
    }

    /// The names, without empty ones and without ".": ".." is one of them.
    pub fn names(&self) -> impl Iterator<Item = &Path> {
        let names = self.bytes.split(|&byte| byte == b'/');
        names
            .filter(|name| !matches!(*name, b"" | b"."))
            .map(Path::new)
    }

    /// Whether it is `base` or lies below it, by whole names.
    pub fn starts_with<P: AsRef<Path>>(&self, base: P) -> bool {
        let base = base.as_ref();
        let mut names = self.names();
        (self.is_absolute() == base.is_absolute() || base.bytes.is_empty())
            && base.names().all(|name| names.next() == Some(name))
    }

    /// Whether it leads to something, as far as that can be told.
    pub fn exists(&self) -> bool {
        fs::exists(self).unwrap_or(false)
    }

    /// Whether it leads to a directory.
    pub fn is_dir(&self) -> bool {
        fs::metadata(self).is_ok_and(|found| found.is_dir())
    }

    /// Whether it leads to a regular file.
    pub fn is_file(&self) -> bool {
        fs::metadata(self).is_ok_and(|found| found.is_file())
    }

    /// Attributes of what it leads to.
    ///
    /// # Errors
    /// Those of [`fs::metadata`].
    pub fn metadata(&self) -> Result<Metadata> {
        fs::metadata(self)
    }

    /// The entries of the directory that it leads to.
    ///
    /// # Errors
    /// Those of [`fs::read_dir`].
    pub fn read_dir(&self) -> Result<fs::ReadDir> {
        fs::read_dir(self)
    }
}

impl Default for &Path {
    fn default() -> Self {
        Path::new("")
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bytes.escape_ascii())
    }
}

impl ToOwned for Path {
    type Owned = PathBuf;

    fn to_owned(&self) -> PathBuf {
        self.to_path_buf()
    }
}

/// Prints a path; made by [`Path::display`].
#[derive(Debug)]
pub struct Display<'a> {
    path: &'a Path,
}

impl fmt::Display for Display<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.path.to_string_lossy())
    }
}

/// A path that owns its bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathBuf {
    bytes: Vec<u8>,
}

impl PathBuf {
    /// An empty one.
    pub const fn new() -> PathBuf {
        PathBuf { bytes: Vec::new() }
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        self
    }

    /// Goes on by `path`, or to it if it is absolute.
    pub fn push<P: AsRef<Path>>(&mut self, path: P) {
        let path = path.as_ref();
        if path.is_absolute() {
            self.bytes.clear();
        } else if !self.bytes.is_empty() && !self.bytes.ends_with(b"/") {
            self.bytes.push(b'/');
        }
        self.bytes.extend_from_slice(&path.bytes);
    }

    /// Takes the last name away; `false` if there is none.
    pub fn pop(&mut self) -> bool {
        match self.parent().map(|parent| parent.bytes.len()) {
            Some(len) => {
                self.bytes.truncate(len);
                true
            }
            None => false,
        }
    }

    /// Replaces the last name, or adds one if there is none.
    pub fn set_file_name<P: AsRef<Path>>(&mut self, name: P) {
        if self.file_name().is_some() {
            self.pop();
        }
        self.push(name);
    }

    /// Replaces the extension, takes it away for an empty one; `false` if there is no last name.
    pub fn set_extension<P: AsRef<Path>>(&mut self, extension: P) -> bool {
        let Some((stem, old)) = self.stem_and_extension() else {
            return false;
        };
        let name = stem.bytes.len() + old.map_or(0, |old| old.bytes.len() + 1);
        let end = self.trimmed().len() - name + stem.bytes.len();
        self.bytes.truncate(end);
        let extension = extension.as_ref();
        if !extension.bytes.is_empty() {
            self.bytes.push(b'.');
            self.bytes.extend_from_slice(&extension.bytes);
        }
        true
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The path as text, or itself if it is no text.
    ///
    /// # Errors
    /// The path.
    pub fn into_string(self) -> core::result::Result<String, PathBuf> {
        String::from_utf8(self.bytes).map_err(|error| PathBuf::from(error.into_bytes()))
    }

    /// The same: a name is a path.
    pub fn into_os_string(self) -> PathBuf {
        self
    }
}

impl Deref for PathBuf {
    type Target = Path;

    fn deref(&self) -> &Path {
        Path::new(&self.bytes)
    }
}

impl fmt::Debug for PathBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Borrow<Path> for PathBuf {
    fn borrow(&self) -> &Path {
        self
    }
}

impl<S: AsRef<[u8]> + ?Sized> From<&S> for PathBuf {
    fn from(bytes: &S) -> PathBuf {
        PathBuf::from(bytes.as_ref().to_vec())
    }
}

impl From<String> for PathBuf {
    fn from(text: String) -> PathBuf {
        PathBuf::from(text.into_bytes())
    }
}

impl From<Vec<u8>> for PathBuf {
    fn from(bytes: Vec<u8>) -> PathBuf {
        PathBuf { bytes }
    }
}

macro_rules! as_ref {
    ($($of:ty),*) => {$(
        impl AsRef<Path> for $of {
            fn as_ref(&self) -> &Path {
                Path::new(self)
            }
        }
    )*};
}

as_ref!(str, String, [u8], Vec<u8>);

impl<const N: usize> AsRef<Path> for [u8; N] {
    fn as_ref(&self) -> &Path {
        Path::new(self)
    }
}

impl AsRef<Path> for Path {
    fn as_ref(&self) -> &Path {
        self
    }
}

impl AsRef<Path> for PathBuf {
    fn as_ref(&self) -> &Path {
        self
    }
}

impl AsRef<[u8]> for Path {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for PathBuf {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

macro_rules! equal_to_text {
    ($($of:ty, $text:ty);*) => {$(
        impl PartialEq<$text> for $of {
            fn eq(&self, text: &$text) -> bool {
                &self.bytes == text.as_bytes()
            }
        }
    )*};
}

equal_to_text!(Path, str; Path, &str; PathBuf, str; PathBuf, &str);

impl PartialEq<Path> for PathBuf {
    fn eq(&self, other: &Path) -> bool {
        **self == *other
    }
}

impl PartialEq<PathBuf> for Path {
    fn eq(&self, other: &PathBuf) -> bool {
        *self == **other
    }
}
