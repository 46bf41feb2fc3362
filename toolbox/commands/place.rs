//! Paths on shares, and the file operations that all commands use.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use xen9p::errno::Errno;
use xen9p::fs::{self, Metadata};
use xen9p::ns::{DirEntry, File, Namespace, ReadDir, WithMetadata};

use super::Fail;

/// A path on one of the shares.
pub struct Place {
    pub ns: Namespace,
    /// Bytes: names on a server need not be text.
    pub path: Vec<u8>,
    /// The share's tag and a colon, or nothing: what people see in front of the path.
    pub share: Box<str>,
    /// Length of what was not typed and is not shown: the directory that a relative path starts from, and a slash.
    hidden: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Shown(self.share.as_bytes()), Shown(self.typed()))
    }
}

/// The bytes of all pieces, which are as long as servers and users like.
///
/// # Errors
/// ENOMEM.
pub fn concat(pieces: &[&[u8]]) -> Result<Vec<u8>, Fail> {
    let mut whole = Vec::new();
    let len = pieces.iter().map(|piece| piece.len()).sum();
    whole
        .try_reserve_exact(len)
        .map_err(|_| Fail::out_of_memory())?;
    for piece in pieces {
        whole.extend_from_slice(piece);
    }
    Ok(whole)
}

impl Place {
    /// A path from the root of a share.
    pub fn new(ns: Namespace, share: &str, path: &[u8]) -> Result<Place, Fail> {
        Ok(Place {
            ns,
            path: concat(&[path])?,
            share: share.into(),
            hidden: 0,
        })
    }

    /// What a path means that is typed in a directory.
    pub fn typed_in(ns: Namespace, directory: &[u8], path: &str) -> Result<Place, Fail> {
        // An empty path names nothing, not the directory that one is in.
        let is_below = !path.is_empty() && !path.starts_with('/') && directory.len() > 1;
        let front: [&[u8]; 2] = if is_below {
            [directory, b"/"]
        } else {
            [b"", b""]
        };
        Ok(Place {
            ns,
            path: concat(&[front[0], front[1], path.as_bytes()])?,
            share: "".into(),
            hidden: front[0].len() + front[1].len(),
        })
    }

    /// Another path on the same share, which is shown as this one is: without the directory that both start from.
    pub fn at(&self, path: Vec<u8>) -> Place {
        let front = self.path.get(..self.hidden).unwrap_or_default();
        Place {
            hidden: if path.starts_with(front) {
                front.len()
            } else {
                0
            },
            ns: self.ns.clone(),
            path,
            share: self.share.clone(),
        }
    }

    /// The path as it was typed, or what is below it as that would be typed.
    pub fn typed(&self) -> &[u8] {
        self.path.get(self.hidden..).unwrap_or(&self.path)
    }

    /// The same path once more.
    pub fn again(&self) -> Result<Place, Fail> {
        Ok(self.at(concat(&[&self.path])?))
    }

    /// The entry `name` of this directory.
    pub fn join(&self, name: &[u8]) -> Result<Place, Fail> {
        let slash: &[u8] = if self.path.ends_with(b"/") { b"" } else { b"/" };
        Ok(self.at(concat(&[&self.path, slash, name])?))
    }

    /// The last component of the path as it was written, which may be "." or ".."; empty for the root.
    pub fn name(&self) -> &[u8] {
        let mut names = self.path.rsplit(|byte| *byte == b'/');
        names.find(|name| !name.is_empty()).unwrap_or_default()
    }

    /// Whether the path ends in "." or "..", with slashes behind it or not.
    pub fn ends_in_dots(&self) -> bool {
        matches!(self.name(), b"." | b"..")
    }

    /// Whether the path says by a slash at its end that it leads to a directory.
    pub fn wants_dir(&self) -> bool {
        self.path.ends_with(b"/")
    }

    /// The path without slashes at its end, which would have a link followed.
    fn bare(&self) -> &[u8] {
        let mut bare = self.path.as_slice();
        while let [rest @ .., b'/'] = bare
            && !rest.is_empty()
        {
            bare = rest;
        }
        bare
    }

    /// The path cleaned by text, as every tree cleans it: two paths that are equal then name one file.
    pub fn clean(&self) -> Result<Vec<u8>, Fail> {
        let mut clean = Vec::new();
        clean
            .try_reserve_exact(self.path.len() + 1)
            .map_err(|_| Fail::out_of_memory())?;
        for name in self.path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => {
                    let above = clean.iter().rposition(|byte| *byte == b'/');
                    clean.truncate(above.unwrap_or(0));
                }
                name => {
                    clean.push(b'/');
                    clean.extend_from_slice(name);
                }
            }
        }
        if clean.is_empty() {
            clean.push(b'/');
        }
        Ok(clean)
    }

    /// Whether both mean the same name on the same share, by their texts alone.
    pub fn is(&self, other: &Place) -> Result<bool, Fail> {
        Ok(self.share == other.share && self.clean()? == other.clean()?)
    }

    /// What the path names, a symbolic link itself.
    ///
    /// # Errors
    /// ENOTDIR for what is no directory, a link to one either, if the path ends in a slash.
    pub fn named(&self) -> fs::Result<Metadata> {
        let found = self.ns.symlink_metadata(self.bare())?;
        if self.wants_dir() && !found.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        Ok(found)
    }

    /// What is there, a symbolic link itself; `None` if nothing is.
    pub fn there(&self) -> Result<Option<Metadata>, Fail> {
        match self.ns.symlink_metadata(&self.path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// The failure of an operation on this place.
    pub fn fail(&self, error: fs::Error) -> Fail {
        Fail::from_fs(format_args!("{self}"), error)
    }

    /// Opens the file for reading.
    pub fn open(&self) -> Result<File, Fail> {
        self.ns.open(&self.path).map_err(|error| self.fail(error))
    }

    pub fn metadata(&self) -> Result<Metadata, Fail> {
        self.ns
            .metadata(&self.path)
            .map_err(|error| self.fail(error))
    }

    pub fn symlink_metadata(&self) -> Result<Metadata, Fail> {
        self.ns
            .symlink_metadata(&self.path)
            .map_err(|error| self.fail(error))
    }

    /// Whether the server tells symbolic links from what they lead to. Ask before anything of a directory is moved.
    ///
    /// # Errors
    /// [`fs::Error::HiddenLinks`] if it does not.
    pub fn check_links_are_told(&self) -> fs::Result<()> {
        match self.ns.read_dir(&self.path)?.next() {
            Some(Ok(entry)) if entry.may_be_link() => Err(fs::Error::HiddenLinks),
            _ => Ok(()),
        }
    }

    /// The entries of the directory with their attributes, if they are not there already.
    pub fn with_metadata(&self, entries: Option<WithMetadata>) -> Result<WithMetadata, Fail> {
        match entries {
            Some(entries) => Ok(entries),
            None => {
                let entries = self.ns.read_dir(&self.path);
                Ok(entries.map_err(|error| self.fail(error))?.with_metadata())
            }
        }
    }

    /// Hands on the entries of the directory one after the other, without `.` and `..`.
    pub fn entries(&self, each: impl FnMut(&DirEntry) -> Result<(), Fail>) -> Result<(), Fail> {
        self.entries_of(None, each)
    }

    /// The same, by a listing of the directory if it was begun already.
    pub fn entries_of(
        &self,
        begun: Option<ReadDir>,
        mut each: impl FnMut(&DirEntry) -> Result<(), Fail>,
    ) -> Result<(), Fail> {
        let entries = match begun {
            Some(entries) => entries,
            None => self.ns.read_dir(&self.path).map_err(|e| self.fail(e))?,
        };
        for entry in entries {
            each(&entry.map_err(|error| self.fail(error))?)?;
        }
        Ok(())
    }
}

/// Whether an error is about one path, so that the next one may fare better.
pub fn is_of_the_path(error: fs::Error) -> bool {
    matches!(
        error,
        fs::Error::Errno(_)
            | fs::Error::TooManyLinks
            | fs::Error::NameTooLong
            | fs::Error::InvalidPath(_)
            | fs::Error::Unsupported { .. }
            | fs::Error::HiddenLinks
            | fs::Error::MaybeApplied
    )
}

/// A name or path as it is printed: what would move the cursor or change the terminal is a "?", as are bytes
/// that are no UTF-8.
pub struct Shown<'a>(pub &'a [u8]);

impl Shown<'_> {
    /// How many characters that is.
    pub fn width(&self) -> usize {
        let chunks = self.0.utf8_chunks();
        chunks
            .map(|chunk| chunk.valid().chars().count() + chunk.invalid().len())
            .sum()
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                f.write_char(if c.is_control() { '?' } else { c })?;
            }
            for _ in chunk.invalid() {
                f.write_char('?')?;
            }
        }
        Ok(())
    }
}
