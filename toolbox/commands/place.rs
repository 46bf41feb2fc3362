//! Paths on shares, and the file operations that all commands use.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use xen9p::errno::Errno;
use xen9p::fs::{self, FileType, Metadata};
use xen9p::ns::{File, Namespace};

use super::Fail;

/// A path on one of the shares.
#[derive(Clone)]
pub struct Place {
    pub ns: Namespace,
    /// Bytes: names on a server need not be text.
    pub path: Vec<u8>,
    /// The share's tag and a colon, or nothing: what people see in front of the path.
    pub share: Box<str>,
}

/// One entry of a directory.
pub struct Entry {
    pub name: Vec<u8>,
    pub kind: FileType,
}

/// A name in a directory, and what is known of it.
pub type Described = (Vec<u8>, fs::Result<Metadata>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.share, String::from_utf8_lossy(&self.path))
    }
}

impl Fail {
    /// The failure of doing `what` because of `error`.
    pub fn from_fs(what: fmt::Arguments<'_>, error: fs::Error) -> Fail {
        match error {
            fs::Error::Interrupted => Fail::Interrupted,
            error => Fail::Error(format!("{what}: {error}")),
        }
    }
}

impl Place {
    /// The entry `name` of this directory.
    pub fn join(&self, name: &[u8]) -> Place {
        let mut path = self.path.clone();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Place {
            path,
            ..self.clone()
        }
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

    /// The same without slashes at its end, which would have a link followed.
    pub fn bare(&self) -> Place {
        let mut bare = self.clone();
        while bare.path.len() > 1 && bare.path.ends_with(b"/") {
            bare.path.pop();
        }
        bare
    }

    /// The path cleaned by text, as every tree cleans it: two paths that are equal then name one file.
    pub fn clean(&self) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        for name in self.path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        let mut clean = Vec::with_capacity(self.path.len() + 1);
        for name in names {
            clean.push(b'/');
            clean.extend_from_slice(name);
        }
        if clean.is_empty() {
            clean.push(b'/');
        }
        clean
    }

    /// Whether both mean the same name on the same share, by their texts alone.
    pub fn is(&self, other: &Place) -> bool {
        self.share == other.share && self.clean() == other.clean()
    }

    /// What the path names, a symbolic link itself.
    ///
    /// # Errors
    /// ENOTDIR for what is no directory, a link to one either, if the path ends in a slash.
    pub fn named(&self) -> fs::Result<Metadata> {
        let found = self.ns.symlink_metadata(self.bare().path)?;
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

    /// As [`list`](Self::list): names with what is known of them.
    pub fn list_with_metadata(&self) -> Result<Vec<Described>, Fail> {
        let entries = self.ns.read_dir_with_metadata(&self.path);
        let named = entries.map_err(|e| self.fail(e))?.map(|entry| {
            let entry = entry.map_err(|error| self.fail(error))?;
            Ok((entry.file_name().into(), entry.metadata()))
        });
        named.collect()
    }

    /// The entries of the directory, without `.` and `..`.
    pub fn list(&self) -> Result<Vec<Entry>, Fail> {
        let entries = self.ns.read_dir(&self.path).map_err(|e| self.fail(e))?;
        let mut list = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| self.fail(error))?;
            list.push(Entry {
                name: entry.file_name().into(),
                kind: entry.file_type().map_err(|error| self.fail(error))?,
            });
        }
        Ok(list)
    }
}
