//! Paths: bytes, cleaned by text alone.

use alloc::vec::Vec;

use p9_wire::Errno;

use crate::memory::try_copy;
use crate::{Error, MAX_NAME, Result};

/// Longest path, in bytes (and the longest string of the protocol).
const PATH_MAX: usize = 65_535;

/// What a path ends with, as it was written. All but a name say that it leads to a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// A name.
    #[default]
    Name,
    /// A name and a slash.
    Slash,
    /// ".", with slashes behind it or not.
    Dot,
    /// "..".
    DotDot,
}

impl End {
    fn of(path: &[u8]) -> End {
        let mut names = path.rsplit(|&byte| byte == b'/');
        match names.find(|name| !name.is_empty()) {
            Some(b".") => End::Dot,
            Some(b"..") => End::DotDot,
            _ if path.ends_with(b"/") => End::Slash,
            _ => End::Name,
        }
    }
}

/// A path as trees take it: names from a root on, without ".", ".." and empty ones: what may be walked. Equal are paths
/// of the same names, whatever they end with.
///
/// It may be 64 KiB long, which is much in a small domain: what a program or a link said is copied by
/// [`try_clone`](Self::try_clone), which can fail.
#[derive(Clone, Debug, Default)]
pub struct CleanPath {
    /// The names, each with a `/` in front; empty for the root.
    bytes: Vec<u8>,
    end: End,
}

impl PartialEq for CleanPath {
    fn eq(&self, other: &CleanPath) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for CleanPath {}

impl CleanPath {
    /// The root.
    pub const fn root() -> Self {
        CleanPath {
            bytes: Vec::new(),
            end: End::Name,
        }
    }

    /// Cleans a path. ".." takes the name before it away, and is nothing at the root.
    pub fn new(path: &[u8]) -> Result<Self> {
        let mut clean = CleanPath::root();
        if path.is_empty() {
            return Err(Error::InvalidPath(&"empty path"));
        }
        clean.extend(path)?;
        Ok(clean)
    }

    /// Goes on from here by a relative path, as a symbolic link says; from the root by an absolute
    /// one.
    pub fn follow(&mut self, path: &[u8]) -> Result<()> {
        if path.first() == Some(&b'/') {
            self.bytes.clear();
        }
        self.extend(path)
    }

    /// Goes on from here by a path, even by an absolute one.
    pub fn extend(&mut self, path: &[u8]) -> Result<()> {
        if path.len() > PATH_MAX {
            return Err(Error::NameTooLong);
        }
        self.bytes
            .try_reserve(path.len() + 1)
            .map_err(|_| Error::OutOfMemory)?;
        for name in path.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => {
                    self.pop();
                }
                name => self.push(name)?,
            }
        }
        if self.bytes.len() > PATH_MAX {
            return Err(Error::NameTooLong);
        }
        if !path.is_empty() {
            self.end = End::of(path);
        }
        Ok(())
    }

    /// What it ends with.
    pub fn end(&self) -> End {
        self.end
    }

    /// Whether it says by its end that it leads to a directory.
    pub fn wants_dir(&self) -> bool {
        self.end != End::Name
    }

    fn copy(&self, end: End) -> Result<CleanPath> {
        let bytes = try_copy(&self.bytes)?;
        Ok(CleanPath { bytes, end })
    }

    /// A copy.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], as all copies.
    pub fn try_clone(&self) -> Result<CleanPath> {
        self.copy(self.end)
    }

    /// The same names, and nothing behind the last.
    pub fn bare(&self) -> Result<CleanPath> {
        self.copy(End::Name)
    }

    /// The same names, said to lead to a directory.
    pub fn named_as_dir(&self) -> Result<CleanPath> {
        self.copy(End::Slash)
    }

    /// Refuses to remove what a path leads to that ends in "." or "..", as rmdir(2) does.
    pub fn check_removable(&self) -> Result<()> {
        match self.end {
            _ if self.is_root() => Err(Errno::EBUSY.into()),
            End::Dot => Err(Errno::EINVAL.into()),
            End::DotDot => Err(Errno::ENOTEMPTY.into()),
            End::Name | End::Slash => Ok(()),
        }
    }

    /// Refuses to rename by such a path, as rename(2) does.
    pub fn check_renamable(&self) -> Result<()> {
        match self.end {
            End::Dot | End::DotDot => Err(Errno::EBUSY.into()),
            End::Name | End::Slash => Ok(()),
        }
    }

    /// Goes on by what the symbolic link with index `at` on this path says, and then by the names behind it.
    pub fn through_link(&self, at: usize, target: &[u8]) -> Result<CleanPath> {
        let (mut way, _) = self.split(at)?;
        let (_, rest) = self.split(at + 1)?;
        way.follow(target)?;
        way.follow(rest)?;
        if self.wants_dir() {
            way.end = self.end;
        }
        Ok(way)
    }

    /// Adds a name.
    pub fn push(&mut self, name: &[u8]) -> Result<()> {
        if name.contains(&0) {
            return Err(Error::InvalidPath(&"NUL in a name"));
        }
        if name.len() > MAX_NAME {
            return Err(Error::NameTooLong);
        }
        self.bytes
            .try_reserve(name.len() + 1)
            .map_err(|_| Error::OutOfMemory)?;
        self.bytes.push(b'/');
        self.bytes.extend_from_slice(name);
        self.end = End::Name;
        Ok(())
    }

    /// This path, and names behind it.
    pub fn join(&self, names: &[&[u8]]) -> Result<CleanPath> {
        let more: usize = names.iter().map(|name| name.len() + 1).sum();
        let mut path = CleanPath::root();
        path.bytes
            .try_reserve_exact(self.bytes.len() + more)
            .map_err(|_| Error::OutOfMemory)?;
        path.bytes.extend_from_slice(&self.bytes);
        for name in names {
            path.push(name)?;
        }
        Ok(path)
    }

    /// Takes the last name away; `false` at the root.
    pub fn pop(&mut self) -> bool {
        let len = self.parent_bytes().len();
        let has_name = len < self.bytes.len();
        self.bytes.truncate(len);
        self.end = End::Name;
        has_name
    }

    /// The path without its last name; the root's is the root.
    pub fn parent(&self) -> Result<CleanPath> {
        let bytes = try_copy(self.parent_bytes())?;
        let end = End::Name;
        Ok(CleanPath { bytes, end })
    }

    /// The names but the last, each with a `/` in front.
    fn parent_bytes(&self) -> &[u8] {
        let slash = self.bytes.iter().rposition(|&byte| byte == b'/');
        self.bytes.get(..slash.unwrap_or(0)).unwrap_or(&[])
    }

    /// Whether it is in the same directory as another path.
    pub fn is_beside(&self, other: &CleanPath) -> bool {
        self.parent_bytes() == other.parent_bytes()
    }

    /// Whether it comes below the directory that another path is in.
    pub fn is_below_parent_of(&self, other: &CleanPath) -> bool {
        self.bytes
            .strip_prefix(other.parent_bytes())
            .is_some_and(|rest| rest.starts_with(b"/"))
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        // The first piece is what precedes the first slash: nothing.
        self.bytes.split(|&byte| byte == b'/').skip(1)
    }

    /// What comes below `above`, if that is this path or one on the way to it.
    pub fn below(&self, above: &CleanPath) -> Option<&[u8]> {
        let rest = self.bytes.strip_prefix(above.bytes.as_slice())?;
        (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
    }

    /// The path as a user writes it, with a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        if self.bytes.is_empty() {
            b"/"
        } else {
            &self.bytes
        }
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The last name; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.names().last()
    }

    /// The first `count` names, and the rest as a relative path.
    pub fn split(&self, count: usize) -> Result<(CleanPath, &[u8])> {
        let slashes = self.bytes.iter().enumerate();
        let at = slashes
            .filter(|&(_, &byte)| byte == b'/')
            .nth(count)
            .map_or(self.bytes.len(), |(at, _)| at);
        let (front, rest) = self.bytes.split_at(at);
        let front = CleanPath {
            bytes: try_copy(front)?,
            end: End::Name,
        };
        Ok((front, rest.strip_prefix(b"/").unwrap_or(rest)))
    }

    /// As [`as_bytes`](Self::as_bytes), without a copy.
    pub fn into_bytes(mut self) -> Vec<u8> {
        if self.bytes.is_empty() {
            self.bytes.push(b'/');
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn clean(path: &[u8]) -> Vec<u8> {
        CleanPath::new(path).unwrap().into_bytes()
    }

    #[test]
    fn cleans_by_text_alone() {
        for (path, cleaned) in [
            ("/", "/"),
            (".", "/"),
            ("..", "/"),
            ("a", "/a"),
            ("/a//b/./c/", "/a/b/c"),
            ("a/../b", "/b"),
            ("../../a/..", "/"),
            ("a/b/../../../c", "/c"),
            ("...", "/..."),
        ] {
            assert_eq!(clean(path.as_bytes()), cleaned.as_bytes(), "{path}");
        }
    }

    #[test]
    fn keeps_what_it_ends_with() {
        for (path, end) in [
            ("/a", End::Name),
            ("a", End::Name),
            ("/", End::Slash),
            ("/a/", End::Slash),
            ("/a//", End::Slash),
            ("/./a/", End::Slash),
            ("/a/.", End::Dot),
            ("./", End::Dot),
            ("/a/./", End::Dot),
            ("..", End::DotDot),
            ("/a/..//", End::DotDot),
        ] {
            assert_eq!(
                CleanPath::new(path.as_bytes()).unwrap().end(),
                end,
                "{path}"
            );
        }
        let path = CleanPath::new(b"/a/b/").unwrap();
        assert_eq!(path, path.bare().unwrap());
        assert!(!path.bare().unwrap().wants_dir() && !path.parent().unwrap().wants_dir());
        let through = |path: &[u8], at, target: &[u8]| {
            let path = CleanPath::new(path).unwrap();
            let way = path.through_link(at, target).unwrap();
            (way.wants_dir(), way.into_bytes())
        };
        assert_eq!(through(b"/a/b/", 1, b"c"), (true, b"/a/c".to_vec()));
        assert_eq!(through(b"/a/b/", 0, b"/c"), (true, b"/c/b".to_vec()));
        assert_eq!(through(b"/a/b", 1, b"c/"), (true, b"/a/c".to_vec()));
        assert_eq!(through(b"/a/b", 0, b"c/"), (false, b"/c/b".to_vec()));
    }

    #[test]
    fn refuses_what_no_server_should_see() {
        assert_eq!(CleanPath::new(b""), Err(Error::InvalidPath(&"empty path")));
        assert_eq!(
            CleanPath::new(b"/a\0b"),
            Err(Error::InvalidPath(&"NUL in a name"))
        );
        assert_eq!(CleanPath::new(&[b'a'; 256]), Err(Error::NameTooLong));
        assert!(CleanPath::new(&[b'a'; 255]).is_ok());
        assert_eq!(
            CleanPath::new(&b"a/".repeat(40_000)),
            Err(Error::NameTooLong)
        );
        assert_eq!(CleanPath::new(&vec![b'/'; 65_536]), Err(Error::NameTooLong));
    }

    #[test]
    fn splits_at_a_name() {
        let path = CleanPath::new(b"/a/b/c").unwrap();
        let (front, rest) = path.split(1).unwrap();
        assert_eq!(front.into_bytes(), b"/a");
        assert_eq!(rest, b"b/c");
        let (front, rest) = path.split(3).unwrap();
        assert_eq!(front, path);
        assert_eq!(rest, b"");
        assert_eq!(path.split(0).unwrap().1, b"a/b/c");
    }

    #[test]
    fn lies_below_by_whole_names() {
        let path = CleanPath::new(b"/a/bc").unwrap();
        let below = |above: &[u8]| path.below(&CleanPath::new(above).unwrap());
        assert_eq!(below(b"/"), Some(&b"/a/bc"[..]));
        assert_eq!(below(b"/a"), Some(&b"/bc"[..]));
        assert_eq!(below(b"/a/bc"), Some(&b""[..]));
        assert_eq!(below(b"/a/b"), None);
        assert_eq!(below(b"/a/bc/d"), None);
    }

    #[test]
    fn follows_links_from_where_it_is_or_from_the_root() {
        let mut path = CleanPath::new(b"/a/b").unwrap();
        path.follow(b"../c").unwrap();
        assert_eq!(path.as_bytes(), b"/a/c");
        path.follow(b"/x").unwrap();
        assert_eq!(path.into_bytes(), b"/x");
    }
}
