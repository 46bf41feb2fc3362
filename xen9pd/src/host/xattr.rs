//! Extended attributes, by descriptor.

use p9_tree::Result;
use p9_wire::{Errno, FileKind, XattrFlags};
use rustix::fs::{OFlags, XattrFlags as SetFlags};

use super::{HostNode, Options, Owners, Xattrs, errno};

/// The most that Linux has for a value, and for the names of a file together.
const MAX_XATTR: usize = 64 << 10;

/// What a peer sees with [`Xattrs::User`].
const SHOWN: [&[u8]; 3] = [
    b"user.",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
];

impl Options {
    fn shows(&self, name: &[u8]) -> bool {
        // There are numbers of users in lists for access control, and in some that mean something to this machine.
        let holds_ids = !name.starts_with(b"user.");
        if holds_ids && matches!(self.owners, Owners::Map(_)) {
            return false;
        }
        match self.xattrs {
            Xattrs::None => false,
            Xattrs::User => SHOWN
                .iter()
                .any(|&shown| name == shown || shown.ends_with(b".") && name.starts_with(shown)),
            Xattrs::All => true,
        }
    }
}

impl HostNode {
    pub(super) fn get_xattr(&self, name: &[u8], max: usize) -> Result<Vec<u8>> {
        if !self.check_xattr(name)? || !self.has_content() {
            return Err(Errno::ENODATA.into());
        }
        let fd = self.reopen(OFlags::RDONLY)?;
        // An empty buffer would ask for the length only.
        let mut value = vec![0; max.clamp(1, MAX_XATTR)];
        let len = rustix::fs::fgetxattr(&fd, name, &mut value[..]).map_err(too_long)?;
        if len > max {
            return Err(Errno::E2BIG.into());
        }
        value.truncate(len);
        Ok(value)
    }

    pub(super) fn xattr_names(&self, max: usize) -> Result<Vec<u8>> {
        let options = &self.tree().options;
        if options.xattrs == Xattrs::None {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if !self.has_content() {
            return Ok(Vec::new());
        }
        let fd = self.reopen(OFlags::RDONLY)?;
        let mut names = vec![0; MAX_XATTR];
        let len = rustix::fs::flistxattr(&fd, &mut names[..]).map_err(too_long)?;
        names.truncate(len);
        let mut shown = Vec::new();
        for name in names.split_inclusive(|&byte| byte == 0) {
            if options.shows(name.strip_suffix(b"\0").unwrap_or(name)) {
                shown.extend_from_slice(name);
            }
        }
        if shown.len() > max {
            return Err(Errno::E2BIG.into());
        }
        Ok(shown)
    }

    pub(super) fn put_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        if !self.check_xattr(name)? || !self.has_content() {
            return Err(Errno::EPERM.into());
        }
        let fd = self.reopen(OFlags::RDONLY)?;
        let mut set = SetFlags::empty();
        set.set(SetFlags::CREATE, flags.contains(XattrFlags::CREATE));
        set.set(SetFlags::REPLACE, flags.contains(XattrFlags::REPLACE));
        rustix::fs::fsetxattr(&fd, name, value, set).map_err(errno)
    }

    pub(super) fn take_xattr(&self, name: &[u8]) -> Result<()> {
        if !self.check_xattr(name)? || !self.has_content() {
            return Err(Errno::ENODATA.into());
        }
        let fd = self.reopen(OFlags::RDONLY)?;
        rustix::fs::fremovexattr(&fd, name).map_err(errno)
    }

    /// Whether the peer may know of attributes of this name.
    fn check_xattr(&self, name: &[u8]) -> Result<bool> {
        let options = &self.tree().options;
        if options.xattrs == Xattrs::None {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if name.is_empty() || name.len() > p9_tree::MAX_NAME || name.contains(&0) {
            return Err(Errno::EINVAL.into());
        }
        Ok(options.shows(name))
    }

    /// Whether this is one of the files that can have attributes of users: Linux gives them to nothing else, and
    /// attributes are reached through an open file here.
    fn has_content(&self) -> bool {
        matches!(self.kind(), FileKind::REGULAR | FileKind::DIR)
    }
}

fn too_long(error: rustix::io::Errno) -> p9_tree::Error {
    match error {
        rustix::io::Errno::RANGE => Errno::E2BIG.into(),
        error => errno(error),
    }
}
