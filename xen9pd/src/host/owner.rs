//! Whose files are, and on whose behalf something is done to them: [`Owners`] at work.

use std::os::fd::OwnedFd;

use p9_tree::Result;
use p9_wire::{Errno, ModeBits};
use rustix::fs::{Mode, OFlags};

use super::options::{Options, Owners, ShareError};
use super::rights::{self, Assumed, Identity, Privilege};
use super::{HostNode, errno, sys};

/// In a request, no group.
const NO_GROUP: u32 = u32::MAX;

/// Whether the user that everything is done as may look up names in the root. A guest would be told of each file that it may
/// not be reached, and the administrator of nothing.
pub(super) fn check_search(
    root: &OwnedFd,
    options: &Options,
    privilege: Privilege,
) -> std::result::Result<(), ShareError> {
    let Owners::Squash { uid, gid } = options.owners else {
        return Ok(());
    };
    let identity = Identity {
        uid,
        gid,
        capable: false,
    };
    let _assumed = identity.assume(privilege).map_err(ShareError::Root)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The kernel asks for the right to search before it looks what the name is.
    match rustix::fs::openat(root, ".", flags, Mode::empty()) {
        Ok(_) => Ok(()),
        Err(rustix::io::Errno::ACCESS) => Err(ShareError::Unsearchable { uid, gid }),
        Err(error) => Err(ShareError::Root(error)),
    }
}

impl HostNode {
    /// Becomes the user that everything in this share is done as.
    pub(super) fn assume(&self) -> Result<Option<Assumed>> {
        match self.tree().options.owners {
            Owners::None | Owners::Map(_) => Ok(None),
            Owners::Squash { uid, gid } => {
                let identity = Identity {
                    uid,
                    gid,
                    capable: false,
                };
                let assumed = identity.assume(self.tree().privilege).map_err(errno)?;
                Ok(Some(assumed))
            }
        }
    }

    /// Becomes the user that will own a file that is made now. The kernel then sets the owner as the file comes to
    /// be: there is no moment at which another could have put something else in its place.
    pub(super) fn assume_owner(&self, group: u32, mode: u32) -> Result<Option<Assumed>> {
        let own = self.tree().privilege;
        let user = self.attach().user.unwrap_or(own.uid());
        let group = if group == NO_GROUP { own.gid() } else { group };
        let owner = match self.tree().options.owners {
            Owners::Squash { .. } => None,
            Owners::None => Some((user, group)),
            Owners::Map(map) => match (map.users.here(user), map.groups.here(group)) {
                (Some(user), Some(group)) => Some((user, group)),
                _ => return Err(Errno::EOVERFLOW.into()),
            },
        };
        match owner {
            None => self.assume(),
            Some((uid, gid)) => {
                let identity = Identity {
                    uid,
                    gid,
                    capable: true,
                };
                // Without it, the kernel takes this bit off what is made in a directory of another group.
                if identity.uid == own.uid() && mode & ModeBits::SET_GID.bits() != 0 {
                    rights::with_fsetid(|| Ok(())).map_err(errno)?;
                }
                Ok(Some(identity.assume(own).map_err(errno)?))
            }
        }
    }

    /// Refuses what a file's owner does not leave to the peer, where that is none of the peer's users: to change it, or to
    /// do what needs one of the bits `needed` of the permissions for all.
    pub(super) fn permit(&self, changes: bool, needed: u16) -> Result<()> {
        let Owners::Map(map) = self.tree().options.owners else {
            return Ok(());
        };
        let stat = sys::stat(self.fd()?).map_err(errno)?;
        let users = map.users.there(stat.stx_uid);
        let is_own = users.is_some() && map.groups.there(stat.stx_gid).is_some();
        match is_own || !changes && stat.stx_mode & needed == needed {
            true => Ok(()),
            false => Err(Errno::EACCES.into()),
        }
    }

    /// See [`rights::lower_fsetid`]; a user who is not root has no CAP_FSETID.
    pub(super) fn lower_fsetid(&self) -> Result<()> {
        match self.tree().options.owners {
            Owners::None | Owners::Map(_) => rights::lower_fsetid().map_err(errno),
            Owners::Squash { .. } => Ok(()),
        }
    }
}
