//! What the tables know of a fid, and what it may be used for.

use alloc::sync::Arc;

use p9_tree::Node;
use p9_wire::{Errno, Fid, Qid, QidKind};

use super::{Refusal, Result, copied};
use crate::export::{Policy, Rights};
use crate::fid::{At, Handle, Open, Use};
use crate::job::Removal;
use crate::place::PlaceId;
use crate::server::Server;

impl<P: Policy> Server<P> {
    /// A fid that is in use and not busy.
    pub(crate) fn handle(&self, fid: Fid) -> Result<&Handle<P::Node, P::Authentication>> {
        match self.fids.get(fid) {
            None => Err(Errno::EBADF.into()),
            Some(handle) if handle.busy => Err(Refusal::Busy),
            Some(handle) => Ok(handle),
        }
    }

    /// Where a fid of a file leads.
    pub(crate) fn at(&self, fid: Fid) -> Result<At> {
        match &self.handle(fid)?.usage {
            Use::Path(at) | Use::Open(at, _) => Ok(*at),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    pub(crate) fn node(&self, fid: Fid) -> Result<P::Node> {
        Ok(self.places.node(self.at(fid)?.place)?.clone())
    }

    /// Where a fid leads, for a change of its file.
    pub(crate) fn changed(&self, fid: Fid) -> Result<At> {
        let at = self.at(fid)?;
        match at.rights {
            Rights::ReadOnly => Err(Errno::EROFS.into()),
            Rights::ReadWrite => Ok(at),
        }
    }

    /// The directory of a fid, for making or removing a name in it.
    pub(crate) fn changed_dir(&self, fid: Fid) -> Result<P::Node> {
        let node = self.places.node(self.changed(fid)?.place)?;
        match node.identity().kind.contains(QidKind::DIR) {
            true => Ok(node.clone()),
            false => Err(Errno::ENOTDIR.into()),
        }
    }

    /// The open file of a fid, if it is open.
    pub(super) fn file(&self, fid: Fid) -> Result<Option<Arc<<P::Node as Node>::File>>> {
        match &self.handle(fid)?.usage {
            Use::Open(_, open) => Ok(Some(open.file.clone())),
            _ => Ok(None),
        }
    }

    pub(crate) fn opened(&self, fid: Fid) -> Result<(At, &Open<<P::Node as Node>::File>)> {
        match &self.handle(fid)?.usage {
            Use::Open(at, open) => Ok((*at, open)),
            _ => Err(Errno::EBADF.into()),
        }
    }

    pub(super) fn same_tree(&self, one: At, other: At) -> Result<()> {
        match one.tree == other.tree {
            true => Ok(()),
            false => Err(Errno::EXDEV.into()),
        }
    }

    /// What ".." of a directory is to the peer.
    pub(super) fn up(&self, place: PlaceId) -> Result<Qid> {
        Ok(self.places.node(self.places.up(place)?)?.identity())
    }

    /// The parent and name of a file, for removing or renaming it.
    pub(crate) fn removal(&self, place: PlaceId) -> core::result::Result<Removal<P::Node>, Errno> {
        let (parent, name) = self.places.entry(place)?;
        Ok(Removal {
            parent: self.places.node(parent)?.clone(),
            name: copied(name)?,
            file: self.places.node(place)?.clone(),
        })
    }

    /// Checks that a fid can be given a meaning, before it is promised one.
    pub(super) fn check_new(&self, fid: Fid) -> Result<()> {
        match self.fids.get(fid) {
            _ if fid == Fid::NONE => Err(Errno::EINVAL.into()),
            Some(handle) if handle.busy => Err(Refusal::Busy),
            Some(_) => Err(Errno::EINVAL.into()),
            None if self.fids.len() >= self.limits.fids => Err(Refusal::Limit(Errno::EMFILE)),
            None => Ok(()),
        }
    }

    pub(super) fn promise(&mut self, fid: Fid) -> Result<()> {
        let handle = Handle {
            busy: true,
            usage: Use::Promised,
        };
        Ok(self.fids.insert(fid, handle)?)
    }

    pub(crate) fn set_busy(&mut self, fid: Fid, busy: bool) {
        if let Some(handle) = self.fids.get_mut(fid) {
            handle.busy = busy;
        }
    }
}
