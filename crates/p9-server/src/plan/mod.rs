//! The first step: what a request asks for, checked against the tables, and what it takes.

mod fids;
mod files;
mod lookup;

pub(crate) use files::opening;

use alloc::vec::Vec;

use p9_tree::{Lock, MAX_NAME, Node};
use p9_wire::{Errno, LockKind, OpenFlags, QidKind, Request, SetAttrMask, UnlinkFlags};

use crate::export::{Login, Policy};
use crate::fid::{NewXattr, Use};
use crate::job::{Answer, Head, Work};
use crate::request::{Then, Ticket};
use crate::server::Server;

/// Why there is nothing to do for a request, or nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Errno(Errno),
    /// The peer has reached a limit.
    Limit(Errno),
    /// The fid is busy with another request.
    Busy,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Refusal::Errno(errno)
    }
}

type Result<T> = core::result::Result<T, Refusal>;
pub(crate) type Planned<'m, N> = Result<(Work<'m, N>, Then)>;

/// Work that the tables have nothing to do with.
fn only<N: Node>(work: Work<'_, N>) -> Planned<'_, N> {
    Ok((work, Then::Nothing))
}

fn ready<'m, N: Node>(answer: Answer<N>) -> Planned<'m, N> {
    only(Work::Done(Ok(answer)))
}

/// Checks a new name of a file.
pub(crate) fn new_name(name: &[u8]) -> Result<()> {
    match name {
        b"" => Err(Errno::ENOENT.into()),
        b"." | b".." => Err(Errno::EEXIST.into()),
        _ => known_name(name),
    }
}

/// Checks a name that a file may have.
fn known_name(name: &[u8]) -> Result<()> {
    match name {
        b"" | b"." | b".." => Err(Errno::EINVAL.into()),
        _ if name.len() > MAX_NAME => Err(Errno::ENAMETOOLONG.into()),
        _ if name.contains(&b'/') => Err(Errno::ENOENT.into()),
        _ if name.contains(&0) => Err(Errno::EINVAL.into()),
        _ => Ok(()),
    }
}

pub(crate) fn copied(bytes: &[u8]) -> core::result::Result<Vec<u8>, Errno> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len())
        .map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

impl<P: Policy> Server<P> {
    pub(crate) fn plan<'m>(
        &mut self,
        ticket: Ticket,
        request: &Request<'m>,
        head: &Head<'m>,
        detached: Option<u32>,
    ) -> Planned<'m, P::Node> {
        match *request {
            // Before there was a table to enter it in.
            Request::Version { .. } => Err(Errno::EPROTO.into()),
            Request::Flush { oldtag } => self.flush(ticket, oldtag),
            Request::Auth {
                afid,
                uname,
                aname,
                n_uname,
            } => {
                let login = Login {
                    uname,
                    n_uname,
                    aname,
                };
                self.auth(afid, &login)
            }
            Request::Attach {
                fid,
                afid,
                uname,
                aname,
                n_uname,
            } => {
                let login = Login {
                    uname,
                    n_uname,
                    aname,
                };
                self.attach(fid, afid, &login)
            }
            Request::Walk { fid, newfid, names } => self.walk(fid, newfid, &names),
            Request::Clunk { fid } => self.clunk(fid),
            Request::Remove { fid } => self.remove(fid),
            Request::Read { fid, offset, count } => self.read(fid, offset, count, head.dialect),
            Request::Write { fid, offset, data } => {
                let count = u32::try_from(data.len()).map_err(|_| Errno::EMSGSIZE)?;
                let count = detached.unwrap_or(count);
                let has_data = detached.is_none();
                match &self.handle(fid)?.usage {
                    Use::Open(_, open) if !open.mode.write => Err(Errno::EBADF.into()),
                    Use::Open(_, open) => only(Work::Write {
                        file: open.file.clone(),
                        offset,
                        count,
                        data: has_data.then_some(data),
                    }),
                    Use::NewXattr(..) | Use::Auth(_) => {
                        Ok((Work::Store { count, has_data }, Then::Store { fid }))
                    }
                    _ => Err(Errno::EBADF.into()),
                }
            }
            Request::Open { fid, mode } => self.classic_open(fid, mode, head.dialect),
            Request::Create {
                fid,
                name,
                perm,
                mode,
                extension,
            } => self.classic_create(fid, name, perm, mode, extension, head.dialect),
            Request::Stat { fid } => self.stat(fid, head.dialect),
            Request::Wstat { fid, stat } => self.wstat(fid, stat, head.dialect),
            Request::Lopen { fid, flags } => self.open(fid, flags, false),
            Request::Lcreate {
                fid,
                name,
                flags,
                mode,
                gid,
            } => {
                let (dir, then) = self.create(fid, name, flags, false)?;
                let work = Work::Create {
                    dir,
                    name,
                    flags: opening(flags) | flags & OpenFlags::EXCLUSIVE,
                    mode: mode & 0o7777,
                    gid,
                };
                Ok((work, then))
            }
            Request::Symlink {
                dfid,
                name,
                target,
                gid,
            } => {
                let dir = self.changed_dir(dfid)?;
                new_name(name)?;
                check_target(target)?;
                only(Work::Symlink {
                    dir,
                    name,
                    target,
                    gid,
                })
            }
            Request::Mknod {
                dfid,
                name,
                mode,
                major,
                minor,
                gid,
            } => {
                let dir = self.changed_dir(dfid)?;
                new_name(name)?;
                only(Work::Mknod {
                    dir,
                    name,
                    mode,
                    major,
                    minor,
                    gid,
                })
            }
            Request::Mkdir {
                dfid,
                name,
                mode,
                gid,
            } => {
                let dir = self.changed_dir(dfid)?;
                new_name(name)?;
                only(Work::Mkdir {
                    dir,
                    name,
                    mode: mode & 0o7777,
                    gid,
                })
            }
            Request::Link { dfid, fid, name } => {
                let dir = self.changed_dir(dfid)?;
                let original = self.changed(fid)?;
                self.same_tree(original, self.at(dfid)?)?;
                new_name(name)?;
                only(Work::Link {
                    dir,
                    original: self.places.node(original.place)?.clone(),
                    name,
                })
            }
            Request::Rename { fid, dfid, name } => {
                let (file, to) = (self.changed(fid)?, self.changed(dfid)?);
                let to_node = self.changed_dir(dfid)?;
                self.same_tree(file, to)?;
                new_name(name)?;
                let work = Work::RenameFile {
                    removal: self.removal(file.place)?,
                    to: to_node,
                    new_name: name,
                };
                let then = Then::RenameFile {
                    file: file.place,
                    to: to.place,
                };
                self.places.hold(file.place);
                self.places.hold(to.place);
                Ok((work, then))
            }
            Request::Renameat {
                olddirfid,
                oldname,
                newdirfid,
                newname,
            } => {
                let (from, to) = (self.changed(olddirfid)?, self.changed(newdirfid)?);
                let (from_node, to_node) =
                    (self.changed_dir(olddirfid)?, self.changed_dir(newdirfid)?);
                self.same_tree(from, to)?;
                for name in [oldname, newname] {
                    match name {
                        b"." | b".." => return Err(Errno::EBUSY.into()),
                        b"" => return Err(Errno::ENOENT.into()),
                        _ => known_name(name)?,
                    }
                }
                let work = Work::Rename {
                    from: from_node,
                    name: oldname,
                    to: to_node,
                    new_name: newname,
                };
                let (from, to) = (from.place, to.place);
                self.places.hold(from);
                self.places.hold(to);
                Ok((work, Then::Rename { from, to }))
            }
            Request::Unlinkat {
                dirfid,
                name,
                flags,
            } => {
                let at = self.changed(dirfid)?;
                let dir = self.changed_dir(dirfid)?;
                if !UnlinkFlags::REMOVE_DIR.contains(flags) {
                    return Err(Errno::EINVAL.into());
                }
                match name {
                    b"." => return Err(Errno::EINVAL.into()),
                    b".." => return Err(Errno::ENOTEMPTY.into()),
                    b"" => return Err(Errno::ENOENT.into()),
                    _ => known_name(name)?,
                }
                self.places.hold(at.place);
                Ok((
                    Work::Unlink { dir, name, flags },
                    Then::Unlink { dir: at.place },
                ))
            }
            Request::Statfs { fid } => only(Work::Statfs(self.node(fid)?)),
            Request::Readlink { fid } => only(Work::Readlink(self.node(fid)?)),
            Request::Getattr { fid, mask } => only(Work::Getattr {
                node: self.node(fid)?,
                file: self.file(fid)?,
                mask,
            }),
            Request::Setattr { fid, attr } => {
                let at = self.changed(fid)?;
                let node = self.places.node(at.place)?.clone();
                if attr.valid.contains(SetAttrMask::SIZE) {
                    check_truncation(&node)?;
                }
                let file = self.file(fid)?;
                only(Work::Setattr { node, file, attr })
            }
            Request::Xattrwalk { fid, newfid, name } => self.xattr_walk(fid, newfid, name),
            Request::Xattrcreate {
                fid,
                name,
                size,
                flags,
            } => {
                let at = self.changed(fid)?;
                if !matches!(self.handle(fid)?.usage, Use::Path(_)) {
                    return Err(Errno::EINVAL.into());
                }
                xattr_name(name)?;
                let size = usize::try_from(size).map_err(|_| Errno::E2BIG)?;
                if size > self.limits.xattr_size {
                    return Err(Refusal::Limit(Errno::E2BIG));
                }
                let name = copied(name)?;
                self.count_xattr(size)?;
                let mut value = Vec::new();
                if value.try_reserve_exact(size).is_err() {
                    self.xattr_bytes -= size;
                    return Err(Errno::ENOMEM.into());
                }
                value.resize(size, 0);
                let new = NewXattr {
                    name,
                    value,
                    written: 0,
                    flags,
                };
                if let Some(handle) = self.fids.get_mut(fid) {
                    handle.usage = Use::NewXattr(at, new);
                }
                ready(Answer::Unit)
            }
            Request::Readdir { fid, offset, count } => {
                let (at, open) = self.opened(fid)?;
                if !open.mode.directory {
                    return Err(Errno::ENOTDIR.into());
                }
                let file = open.file.clone();
                only(Work::Readdir {
                    file,
                    offset,
                    count: self.clamp(count),
                    up: self.up(at.place)?,
                })
            }
            Request::Fsync { fid, datasync } => only(Work::Fsync {
                file: self.opened(fid)?.1.file.clone(),
                data_only: datasync != 0,
            }),
            Request::Lock {
                fid,
                kind,
                flags,
                start,
                length,
                proc_id,
                client_id,
            } => {
                let file = self.opened(fid)?.1.file.clone();
                let lock = Lock {
                    kind,
                    start,
                    length,
                    owner: proc_id,
                    client: client_id,
                };
                match kind {
                    LockKind::UNLOCK => (),
                    LockKind::READ | LockKind::WRITE if self.locks >= self.limits.locks => {
                        return Err(Refusal::Limit(Errno::ENOLCK));
                    }
                    LockKind::READ | LockKind::WRITE => (),
                    _ => return Err(Errno::EINVAL.into()),
                }
                Ok((Work::Lock { file, lock, flags }, Then::Lock { fid }))
            }
            Request::Getlock {
                fid,
                kind,
                start,
                length,
                proc_id,
                client_id,
            } => {
                let file = self.opened(fid)?.1.file.clone();
                let lock = Lock {
                    kind,
                    start,
                    length,
                    owner: proc_id,
                    client: client_id,
                };
                only(Work::Getlock { file, lock })
            }
        }
    }

    fn check_places(&self, more: usize) -> Result<()> {
        match self.places.len().saturating_add(more) > self.limits.places {
            true => Err(Refusal::Limit(Errno::ENFILE)),
            false => Ok(()),
        }
    }

    fn count_xattr(&mut self, bytes: usize) -> Result<()> {
        let sum = self.xattr_bytes.saturating_add(bytes);
        if sum > self.limits.xattr_bytes {
            return Err(Refusal::Limit(Errno::ENOSPC));
        }
        self.xattr_bytes = sum;
        Ok(())
    }
}

pub(crate) fn check_target(target: &[u8]) -> Result<()> {
    match target {
        b"" => Err(Errno::ENOENT.into()),
        _ if target.len() >= 4096 => Err(Errno::ENAMETOOLONG.into()),
        _ if target.contains(&0) => Err(Errno::EINVAL.into()),
        _ => Ok(()),
    }
}

/// An append-only file never gets shorter.
pub(crate) fn check_truncation<N: Node>(node: &N) -> Result<()> {
    match node.identity().kind.contains(QidKind::APPEND) {
        true => Err(Errno::EPERM.into()),
        false => Ok(()),
    }
}

fn xattr_name(name: &[u8]) -> Result<()> {
    match name {
        b"" => Err(Errno::EINVAL.into()),
        _ if name.len() > MAX_NAME => Err(Errno::ERANGE.into()),
        _ if name.contains(&0) => Err(Errno::EINVAL.into()),
        _ => Ok(()),
    }
}
