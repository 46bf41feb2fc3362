//! Directories that are still to be entered.

use alloc::vec::Vec;

use crate::memory::try_copy;
use crate::{Error, Result};

/// Names, each with a NUL behind it, in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Pending {
    names: Vec<u8>,
    next: usize,
}

impl Pending {
    /// Bytes that they take.
    pub(super) fn size(&self) -> usize {
        self.names.len()
    }

    pub(super) fn push(&mut self, name: &[u8]) -> Result<()> {
        let room = self.names.try_reserve(name.len() + 1);
        room.map_err(|_| Error::OutOfMemory)?;
        self.names.extend_from_slice(name);
        self.names.push(0);
        Ok(())
    }

    /// Takes back the name that was pushed last, if it is this one.
    pub(super) fn take_back(&mut self, name: &[u8]) {
        let Some((_, names)) = self.names.split_last() else {
            return;
        };
        let start = names.iter().rposition(|&byte| byte == 0);
        let start = start.map_or(0, |end| end + 1);
        if names.get(start..) == Some(name) {
            self.names.truncate(start);
        }
    }

    /// Takes the next name; `None` when there is no more.
    pub(super) fn pop(&mut self) -> Result<Option<Vec<u8>>> {
        let name = self.rest().next().map(try_copy).transpose()?;
        if let Some(name) = &name {
            self.next += name.len() + 1;
        }
        Ok(name)
    }

    /// The next names, which stay.
    pub(super) fn ahead(&self, most: usize) -> Result<Vec<Vec<u8>>> {
        self.rest().take(most).map(try_copy).collect()
    }

    fn rest(&self) -> impl Iterator<Item = &[u8]> {
        let rest = self.names.get(self.next..).unwrap_or_default();
        // Behind the last NUL is nothing.
        rest.split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
    }
}

/// Goes on with a name in the directory that a path leads to.
pub(super) fn append(path: &mut Vec<u8>, name: &[u8]) -> Result<()> {
    path.try_reserve(name.len() + 1)
        .map_err(|_| Error::OutOfMemory)?;
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    Ok(())
}
