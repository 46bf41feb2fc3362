//! What an administrator can say about a share.

use std::fmt;

use super::ids::IdMap;
use super::rights::Privilege;

/// How a directory is shared. The default: read-write, [`Owners::None`], no devices, `user.` attributes, no limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether every change is refused (EROFS).
    pub read_only: bool,
    /// Whose the files are.
    pub owners: Owners,
    /// Whether the peer may make device nodes. It can never open one here, but programs of this machine could.
    pub devices: bool,
    /// Which extended attributes the peer sees.
    pub xattrs: Xattrs,
    /// Whether file systems that are mounted below the directory are part of the share.
    pub cross_mounts: bool,
    /// How much the peer can use up.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            read_only: false,
            owners: Owners::None,
            devices: false,
            xattrs: Xattrs::User,
            cross_mounts: true,
            limits: Limits::default(),
        }
    }
}

/// Whose the files of a share are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// Files are as they are here: the peer's root is root of the share. New files belong to the user of the Tattach and
    /// the group that the request names, chown works. A process that is not root shares with its own rights, and all
    /// new files are its own.
    #[default]
    None,
    /// All is done with the rights of this user and group, whatever user the peer names: new files belong to them,
    /// the kernel checks their permissions, chown works as far as it does for them.
    Squash {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// As with `None`, but the peer's users and groups are others here: its root is not root. A file of a user or group
    /// that is none of the peer's can't be changed, and be read as far as everyone may.
    Map(IdMap),
}

/// Which extended attributes the peer sees and sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xattrs {
    /// None: each request for one is answered with EOPNOTSUPP.
    None,
    /// `user.` and the access control lists, `system.posix_acl_access` and `system.posix_acl_default`.
    #[default]
    User,
    /// All, `security.` and `trusted.` too, which mean something to this machine.
    All,
}

/// How much of this machine a peer can use up through a share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and everything else that has an inode, those that were there before included. Beyond: EDQUOT.
    pub max_files: Option<u64>,
    /// Bytes: the sizes of all regular files, each rounded up to 4 KiB, those that were there before included, holes too.
    /// Beyond: EDQUOT.
    pub max_space: Option<u64>,
    /// Files and directories open at the same time. Beyond: EMFILE.
    pub max_open_files: Option<u64>,
}

impl Limits {
    /// Whether what the share holds has to be counted, in a [`Ledger`](super::Ledger).
    pub fn counts(&self) -> bool {
        self.max_files.is_some() || self.max_space.is_some()
    }
}

/// Why a directory can't be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShareError {
    /// The directory can't be opened or looked at.
    Root(rustix::io::Errno),
    /// The path leads to something else.
    NotADirectory,
    /// `/proc` is not there.
    Proc(rustix::io::Errno),
    /// What the share holds can't be counted, which its limits need.
    Count(rustix::io::Errno),
    /// There is no place for the numbers that limits need.
    Ledger,
    /// A map of owners needs a process that may become all of them.
    CannotMap,
    /// Squashing to a user that this process can't become.
    CannotSquash {
        /// The user asked for.
        uid: u32,
        /// The group asked for.
        gid: u32,
    },
    /// The user that everything is done as may not look up a name in the directory.
    Unsearchable {
        /// That user.
        uid: u32,
        /// That user's group.
        gid: u32,
    },
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShareError::Root(error) => write!(f, "the directory can't be opened: {error}"),
            ShareError::NotADirectory => f.write_str("it is not a directory"),
            ShareError::Proc(error) => write!(
                f,
                "/proc/self/fd can't be opened ({error}): mount /proc before xen9pd starts"
            ),
            ShareError::Count(error) => write!(
                f,
                "its files can't be counted, which max-files and max-space need: {error}"
            ),
            ShareError::Ledger => f.write_str("there is no place to count its files in"),
            ShareError::CannotMap => {
                f.write_str("owners = map= needs root's rights: run xen9pd as root")
            }
            ShareError::CannotSquash { uid, gid } => write!(
                f,
                "owners = squash={uid}:{gid} needs a process that may become that user: run xen9pd as root, or as user {uid} and group {gid}"
            ),
            ShareError::Unsearchable { uid, gid } => write!(
                f,
                "user {uid} of group {gid}, as which owners = squash={uid}:{gid} does everything, may look up nothing in it: give that user the right to search it (chmod o+x, setfacl), or squash to its owner"
            ),
        }
    }
}

impl std::error::Error for ShareError {}

impl Options {
    pub(super) fn check(&self, privilege: Privilege) -> Result<(), ShareError> {
        match self.owners {
            Owners::Squash { uid, gid } if !privilege.may_become(uid, gid) => {
                Err(ShareError::CannotSquash { uid, gid })
            }
            Owners::Map(_) if !privilege.is_root() => Err(ShareError::CannotMap),
            _ => Ok(()),
        }
    }
}
