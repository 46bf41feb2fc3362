//! Names that go, where a share counts what it holds: [`limits`](super::limits).

use p9_tree::Result;
use p9_wire::{Errno, FileKind};
use rustix::fs::RenameFlags;

use super::ledger::Changing;
use super::node::MAX_CREATE_TRIES;
use super::{HostNode, errno};

impl HostNode {
    pub(super) fn name_removed(&self) {
        match self.usage() {
            Some(usage) if self.kind() == FileKind::DIR => usage.directory_removed(),
            _ => {}
        }
    }

    /// Waits until no other takes names from this directory, or `other`, where what goes with them is counted.
    pub(super) fn names(&self, other: &HostNode) -> Result<Option<[Option<Changing<'_>>; 2]>> {
        let usage = self.usage();
        usage
            .map(|usage| usage.names(self.id(), other.id()))
            .transpose()
    }

    /// What goes when `name` is removed or replaced, so that its space is given back when nothing uses it any more.
    pub(super) fn victim(&self, name: &[u8]) -> Result<Option<HostNode>> {
        match self.usage() {
            Some(_) => self.step(name).map(Some),
            None => Ok(None),
        }
    }

    /// Renames where what is replaced is counted: nothing else may be than what was looked at.
    pub(super) fn rename_counted(&self, name: &[u8], to: &HostNode, new_name: &[u8]) -> Result<()> {
        let _names = self.names(to)?;
        let file = self.step(name)?.id();
        let mut alone = RenameFlags::NOREPLACE;
        for _ in 0..MAX_CREATE_TRIES {
            let (victim, flags) = match to.victim(new_name) {
                // To itself: nothing happens.
                Ok(victim) => (
                    victim.filter(|victim| victim.id() != file),
                    RenameFlags::empty(),
                ),
                Err(error) if error.is_not_found() => (None, alone),
                Err(error) => return Err(error),
            };
            match rustix::fs::renameat_with(self.fd()?, name, to.fd()?, new_name, flags) {
                Ok(()) => {
                    if let Some(victim) = &victim {
                        victim.name_removed();
                    }
                    return Ok(());
                }
                // Made since the look: the next one finds it.
                Err(rustix::io::Errno::EXIST) if flags == RenameFlags::NOREPLACE => {}
                // A file system that does not have this flag.
                Err(rustix::io::Errno::INVAL) if flags == RenameFlags::NOREPLACE => {
                    alone = RenameFlags::empty();
                }
                Err(error) => return Err(errno(error)),
            }
        }
        Err(Errno::EAGAIN.into())
    }
}
