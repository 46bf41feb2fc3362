//! Walks: from a directory to what has a name in it.
//!
//! A step is a confined `openat2` and a statx. Two things make walks cheaper without making them laxer: directories on the way are
//! [kept](super::kept), and a file that the peer only looks at is not opened at all, see [`Look`].

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError, Weak};

use p9_tree::Result;
use p9_wire::{Errno, FileKind};
use rustix::fs::{OFlags, Statx};

use super::{FileId, HostNode, Tree, errno, sys};

/// How a node without a descriptor comes to one.
pub(super) enum Way {
    /// It has always had one.
    Descriptor,
    /// By its name.
    Look(Box<Look>),
    /// By the open file that was made with it, which stays open for others only as long as the peer wants: a program of this machine
    /// can't be run while it is open for writing.
    File(Weak<OwnedFd>),
}

impl Way {
    /// The attributes as they were when the file was looked at, once.
    pub(super) fn take_stat(&self) -> Option<Statx> {
        let Way::Look(look) = self else { return None };
        let mut stat = look.stat.lock().unwrap_or_else(PoisonError::into_inner);
        stat.take()
    }

    /// Opens the file.
    pub(super) fn open(&self, tree: &Tree, id: FileId) -> Result<OwnedFd> {
        match self {
            Way::Descriptor => Err(Errno::ESTALE.into()),
            Way::Look(look) => {
                let fd = tree.step(look.dir.fd()?, &look.name, OFlags::PATH, 0);
                let fd = fd.map_err(errno)?;
                match FileId::of(&sys::stat(&fd).map_err(errno)?) == id {
                    true => Ok(fd),
                    false => Err(Errno::ESTALE.into()),
                }
            }
            Way::File(file) => {
                let file = file.upgrade().ok_or(Errno::ESTALE)?;
                tree.proc.reopen(file.as_fd(), OFlags::PATH).map_err(errno)
            }
        }
    }
}

/// What is known of a file that was looked at by its name, and not opened.
pub(super) struct Look {
    dir: HostNode,
    name: Vec<u8>,
    /// For the one who asks for the attributes next, whose request was there before the look was taken.
    stat: Mutex<Option<Statx>>,
}

impl HostNode {
    /// What comes before a step.
    fn check_step(&self, name: &[u8]) -> Result<()> {
        check_name(name)?;
        if self.kind() != FileKind::DIR {
            return Err(Errno::ENOTDIR.into());
        }
        self.permit(false, 0o1)
    }

    /// One step. The caller has [assumed](Self::assume) the share's user.
    pub(super) fn step(&self, name: &[u8]) -> Result<HostNode> {
        self.check_step(name)?;
        self.open_step(name)
    }

    fn open_step(&self, name: &[u8]) -> Result<HostNode> {
        let fd = self.tree().step(self.fd()?, name, OFlags::PATH, 0);
        HostNode::new(self.attach_arc(), fd.map_err(errno)?)
    }

    /// One step to a directory that others may be walked to from.
    fn pass(&self, name: &[u8]) -> Result<HostNode> {
        self.check_step(name)?;
        let tree = self.tree();
        if !self.may_keep() {
            return self.open_step(name);
        }
        if let Some(known) = self.known(name)? {
            return Ok(known);
        }
        let node = self.open_step(name)?;
        if node.kind() == FileKind::DIR && node.may_keep() {
            tree.kept.put(self.id(), name, node.id(), node.own_fd()?);
        }
        Ok(node)
    }

    /// The directory that is kept for this name, if it is still the one that has it.
    fn known(&self, name: &[u8]) -> Result<Option<HostNode>> {
        let tree = self.tree();
        let Some((id, fd)) = tree.kept.get(self.id(), name) else {
            return Ok(None);
        };
        let stat = match sys::look(self.fd()?, name) {
            Ok(stat) if FileId::of(&stat) == id && tree.is_own_mount(&stat) => stat,
            // The kernel says best what is there now.
            _ => {
                tree.kept.forget(self.id(), name);
                return Ok(None);
            }
        };
        HostNode::with_fd(self.attach_arc(), fd, &stat).map(Some)
    }

    /// Whether descriptors of this directory, or of what is in it, can be kept or left out: where what is open counts, each node
    /// has to say that it is there.
    fn may_keep(&self) -> bool {
        self.is_on_own_mount() && self.usage().is_none()
    }

    /// One step to a file that is about to be looked at, and nothing else.
    fn glance(&self, name: &[u8]) -> Result<HostNode> {
        self.check_step(name)?;
        if !self.may_keep() {
            return self.open_step(name);
        }
        let stat = sys::look(self.fd()?, name).map_err(errno)?;
        if !self.tree().is_own_mount(&stat) {
            // Whether the peer may go there is for the step to say.
            return self.open_step(name);
        }
        let look = Look {
            dir: self.clone(),
            name: name.to_vec(),
            stat: Mutex::new(Some(stat)),
        };
        HostNode::without_fd(self.attach_arc(), Way::Look(Box::new(look)), &stat)
    }

    /// Walks along `names`. With `only_look`, the last node is for [one look](Look).
    pub(super) fn steps(
        &self,
        names: &[&[u8]],
        only_look: bool,
        nodes: &mut Vec<HostNode>,
    ) -> Result<()> {
        let _user = self.assume()?;
        let Some((last, names)) = names.split_last() else {
            return Ok(());
        };
        let mut at = self.clone();
        for name in names {
            at = at.pass(name)?;
            nodes.push(at.clone());
        }
        nodes.push(match only_look {
            true => at.glance(last)?,
            false => at.arrive(last)?,
        });
        Ok(())
    }

    /// The last step of a walk.
    fn arrive(&self, name: &[u8]) -> Result<HostNode> {
        self.check_step(name)?;
        let known = match self.may_keep() {
            true => self.known(name)?,
            false => None,
        };
        known.map_or_else(|| self.open_step(name), Ok)
    }
}

/// Names are checked by the callers of [`Node`](p9_tree::Node). This is the wall of the share, so it looks itself, too.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if p9_tree::is_name(name) {
        Ok(())
    } else if name.len() > p9_tree::MAX_NAME {
        Err(Errno::ENAMETOOLONG.into())
    } else {
        Err(Errno::EINVAL.into())
    }
}
