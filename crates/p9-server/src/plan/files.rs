//! Requests that open, make and read files.

use p9_tree::Node;
use p9_wire::{Dialect, Errno, Fid, OpenFlags, QidKind};

use super::{Planned, Refusal, Result, new_name, only, xattr_name};
use crate::export::Policy;
use crate::fid::{At, Mode, Use};
use crate::job::Work;
use crate::request::Then;
use crate::server::Server;

impl<P: Policy> Server<P> {
    pub(super) fn read<'m>(
        &mut self,
        fid: Fid,
        offset: u64,
        count: u32,
        dialect: Dialect,
    ) -> Planned<'m, P::Node> {
        let count = self.clamp(count);
        match &self.handle(fid)?.usage {
            Use::Open(_, open) if open.mode.directory && dialect == Dialect::Linux => {
                Err(Errno::EISDIR.into())
            }
            Use::Open(..) if dialect != Dialect::Linux && self.opened(fid)?.1.mode.directory => {
                self.list(fid, offset, count, dialect)
            }
            Use::Open(_, open) if !open.mode.read => Err(Errno::EBADF.into()),
            Use::Open(_, open) => only(Work::Read {
                file: open.file.clone(),
                offset,
                count,
            }),
            Use::Xattr(_, value) => only(Work::ReadXattr {
                value: value.clone(),
                offset,
                count,
            }),
            Use::Auth(_) => Ok((Work::AuthRead { count }, Then::AuthRead { fid })),
            _ => Err(Errno::EBADF.into()),
        }
    }

    pub(crate) fn open<'m>(
        &mut self,
        fid: Fid,
        flags: OpenFlags,
        remove_on_clunk: bool,
    ) -> Planned<'m, P::Node> {
        let at = self.at(fid)?;
        if !matches!(self.handle(fid)?.usage, Use::Path(_)) {
            return Err(Errno::EINVAL.into());
        }
        let node = self.places.node(at.place)?.clone();
        let kind = node.identity().kind;
        let directory = kind.contains(QidKind::DIR);
        let mode = mode_of(flags, directory)?;
        let changes = mode.write || flags.contains(OpenFlags::TRUNCATE);
        let mut flags = opening(flags);
        if directory && changes {
            return Err(Errno::EISDIR.into());
        }
        if changes || remove_on_clunk {
            self.changed(fid)?;
        }
        if !directory && flags.contains(OpenFlags::DIRECTORY) {
            return Err(Errno::ENOTDIR.into());
        }
        if kind.contains(QidKind::SYMLINK) {
            return Err(Errno::ELOOP.into());
        }
        if kind.contains(QidKind::APPEND) {
            if flags.contains(OpenFlags::TRUNCATE) {
                return Err(Errno::EPERM.into());
            }
            flags |= OpenFlags::APPEND;
        }
        if kind.contains(QidKind::EXCLUSIVE) && self.is_open_elsewhere(&node, at) {
            return Err(Errno::EBUSY.into());
        }
        self.count_open(directory)?;
        self.set_busy(fid, true);
        let then = Then::Open {
            fid,
            mode,
            remove_on_clunk,
        };
        Ok((Work::Open { node, flags }, then))
    }

    /// Whether another fid has this file open, or is about to.
    fn is_open_elsewhere(&self, node: &P::Node, at: At) -> bool {
        let path = node.identity().path;
        self.fids.handles().any(|handle| match &handle.usage {
            Use::Open(other, _) | Use::Path(other) => {
                let open = handle.busy || matches!(handle.usage, Use::Open(..));
                let other_node = self.places.node(other.place);
                open && other.tree == at.tree
                    && other_node.is_ok_and(|node| node.identity().path == path)
            }
            _ => false,
        })
    }

    /// Counts one more open file.
    pub(crate) fn count_open(&mut self, directory: bool) -> Result<()> {
        if self.open_files >= self.limits.open_files
            || directory && self.open_directories >= self.limits.open_directories
        {
            return Err(Refusal::Limit(Errno::EMFILE));
        }
        self.open_files += 1;
        self.open_directories += usize::from(directory);
        Ok(())
    }

    /// What Tlcreate and Tcreate of a regular file have in common; returns the directory.
    pub(crate) fn create(
        &mut self,
        fid: Fid,
        name: &[u8],
        flags: OpenFlags,
        remove_on_clunk: bool,
    ) -> Result<(P::Node, Then)> {
        if !matches!(self.handle(fid)?.usage, Use::Path(_)) {
            return Err(Errno::EINVAL.into());
        }
        let dir = self.changed_dir(fid)?;
        new_name(name)?;
        let mode = mode_of(flags, false)?;
        self.check_places(1)?;
        self.count_open(false)?;
        self.set_busy(fid, true);
        let then = Then::Create {
            fid,
            mode,
            remove_on_clunk,
        };
        Ok((dir, then))
    }

    pub(super) fn xattr_walk<'m>(
        &mut self,
        fid: Fid,
        newfid: Fid,
        name: &'m [u8],
    ) -> Planned<'m, P::Node> {
        let at = self.at(fid)?;
        let node = self.places.node(at.place)?.clone();
        self.check_new(newfid)?;
        if !name.is_empty() {
            xattr_name(name)?;
        }
        let max = self.limits.xattr_size;
        self.count_xattr(max)?;
        if let Err(refusal) = self.promise(newfid) {
            self.xattr_bytes -= max;
            return Err(refusal);
        }
        self.places.hold(at.place);
        let then = Then::Xattr {
            fid: newfid,
            at,
            bytes: max,
        };
        Ok((Work::Xattr { node, name, max }, then))
    }
}

/// The flags that trees look at.
pub(crate) fn opening(flags: OpenFlags) -> OpenFlags {
    flags
        & (OpenFlags::WRITE_ONLY
            | OpenFlags::READ_WRITE
            | OpenFlags::TRUNCATE
            | OpenFlags::APPEND
            | OpenFlags::NONBLOCK
            | OpenFlags::DATA_SYNC
            | OpenFlags::SYNC
            | OpenFlags::DIRECT
            | OpenFlags::DIRECTORY
            | OpenFlags::NO_FOLLOW
            | OpenFlags::NO_ATIME)
}

pub(crate) fn mode_of(flags: OpenFlags, directory: bool) -> Result<Mode> {
    match flags.contains(OpenFlags::WRITE_ONLY | OpenFlags::READ_WRITE) {
        true => Err(Errno::EINVAL.into()),
        false => Ok(Mode::new(flags, directory)),
    }
}
