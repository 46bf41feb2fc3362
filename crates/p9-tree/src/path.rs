//! Paths: bytes, cleaned by text alone.

use alloc::vec::Vec;

use crate::{Error, MAX_NAME, Result};

/// Longest path, in bytes (and the longest string of the protocol).
const PATH_MAX: usize = 65_535;

/// A path as trees take it: names from a root on, without ".", ".." and empty ones: what may be walked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanPath {
    /// The names, each with a `/` in front; empty for the root.
    bytes: Vec<u8>,
}

impl CleanPath {
    /// The root.
    pub const fn root() -> Self {
        CleanPath { bytes: Vec::new() }
    }

    /// Cleans a path. ".." takes the name before it away, and is nothing at the root.
    pub fn new(path: &[u8]) -> Result<Self> {
        let mut clean = CleanPath::root();
        if path.is_empty() {
            return Err(Error::InvalidPath("empty path"));
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
        Ok(())
    }

    /// Adds a name.
    pub fn push(&mut self, name: &[u8]) -> Result<()> {
        if name.contains(&0) {
            return Err(Error::InvalidPath("NUL in a name"));
        }
        if name.len() > MAX_NAME {
            return Err(Error::NameTooLong);
        }
        self.bytes
            .try_reserve(name.len() + 1)
            .map_err(|_| Error::OutOfMemory)?;
        self.bytes.push(b'/');
        self.bytes.extend_from_slice(name);
        Ok(())
    }

    /// Takes the last name away; `false` at the root.
    pub fn pop(&mut self) -> bool {
        let slash = self.bytes.iter().rposition(|&byte| byte == b'/');
        self.bytes.truncate(slash.unwrap_or(0));
        slash.is_some()
    }

    /// The path without its last name; the root's is the root.
    pub fn parent(&self) -> CleanPath {
        let mut parent = self.clone();
        parent.pop();
        parent
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
    pub fn split(&self, count: usize) -> (CleanPath, &[u8]) {
        let slashes = self.bytes.iter().enumerate();
        let at = slashes
            .filter(|&(_, &byte)| byte == b'/')
            .nth(count)
            .map_or(self.bytes.len(), |(at, _)| at);
        let (front, rest) = self.bytes.split_at(at);
        let front = CleanPath {
            bytes: front.to_vec(),
        };
        (front, rest.strip_prefix(b"/").unwrap_or(rest))
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
    fn refuses_what_no_server_should_see() {
        assert_eq!(CleanPath::new(b""), Err(Error::InvalidPath("empty path")));
        assert_eq!(
            CleanPath::new(b"/a\0b"),
            Err(Error::InvalidPath("NUL in a name"))
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
        let (front, rest) = path.split(1);
        assert_eq!(front.into_bytes(), b"/a");
        assert_eq!(rest, b"b/c");
        let (front, rest) = path.split(3);
        assert_eq!(front, path);
        assert_eq!(rest, b"");
        assert_eq!(path.split(0).1, b"a/b/c");
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
        assert_eq!(path.clone().into_bytes(), b"/a/c");
        path.follow(b"/x").unwrap();
        assert_eq!(path.into_bytes(), b"/x");
    }
}
