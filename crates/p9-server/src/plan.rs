//! The first step: what a request asks for, checked against the tables, and what it takes.

use alloc::vec::Vec;

use p9_tree::{Lock, MAX_NAME, Node};
use p9_wire::{
    Dialect, Errno, Fid, LockKind, OpenFlags, Qid, QidKind, Request, SetAttrMask, Tag, UnlinkFlags,
};

use crate::export::{Login, Policy, Rights};
use crate::fid::{At, AuthFid, Handle, Mode, NewXattr, Open, Use};
use crate::job::{Answer, Head, Removal, Work};
use crate::place::PlaceId;
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

/// Checks a name that is to be given to a file.
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
        _ if name.contains(&b'/') || name.contains(&0) => Err(Errno::EINVAL.into()),
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
                mask,
            }),
            Request::Setattr { fid, attr } => {
                let at = self.changed(fid)?;
                let node = self.places.node(at.place)?.clone();
                if attr.valid.contains(SetAttrMask::SIZE) {
                    check_truncation(&node)?;
                }
                only(Work::Setattr { node, attr })
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

    /// Where a fid leads whose file is to be changed.
    pub(crate) fn changed(&self, fid: Fid) -> Result<At> {
        let at = self.at(fid)?;
        match at.rights {
            Rights::ReadOnly => Err(Errno::EROFS.into()),
            Rights::ReadWrite => Ok(at),
        }
    }

    /// The directory of a fid in which a name is to be made or removed.
    pub(crate) fn changed_dir(&self, fid: Fid) -> Result<P::Node> {
        let node = self.places.node(self.changed(fid)?.place)?;
        match node.qid().kind.contains(QidKind::DIR) {
            true => Ok(node.clone()),
            false => Err(Errno::ENOTDIR.into()),
        }
    }

    pub(crate) fn opened(&self, fid: Fid) -> Result<(At, &Open<<P::Node as Node>::File>)> {
        match &self.handle(fid)?.usage {
            Use::Open(at, open) => Ok((*at, open)),
            _ => Err(Errno::EBADF.into()),
        }
    }

    fn same_tree(&self, one: At, other: At) -> Result<()> {
        match one.tree == other.tree {
            true => Ok(()),
            false => Err(Errno::EXDEV.into()),
        }
    }

    /// What ".." of a directory is to the peer.
    fn up(&self, place: PlaceId) -> Result<Qid> {
        Ok(self.places.node(self.places.up(place)?)?.qid())
    }

    /// The parent and name of a file that is to be removed or renamed.
    pub(crate) fn removal(&self, place: PlaceId) -> core::result::Result<Removal<P::Node>, Errno> {
        let (parent, name) = self.places.entry(place)?;
        Ok(Removal {
            parent: self.places.node(parent)?.clone(),
            name: copied(name)?,
            file: self.places.node(place)?.clone(),
        })
    }

    /// Checks that a fid can be given a meaning, before it is promised one.
    fn check_new(&self, fid: Fid) -> Result<()> {
        match self.fids.get(fid) {
            _ if fid == Fid::NONE => Err(Errno::EINVAL.into()),
            Some(handle) if handle.busy => Err(Refusal::Busy),
            Some(_) => Err(Errno::EINVAL.into()),
            None if self.fids.len() >= self.limits.fids => Err(Refusal::Limit(Errno::EMFILE)),
            None => Ok(()),
        }
    }

    fn promise(&mut self, fid: Fid) -> Result<()> {
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

    fn flush<'m>(&mut self, ticket: Ticket, oldtag: Tag) -> Planned<'m, P::Node> {
        let Some(old) = self.requests.by_tag(oldtag).filter(|old| *old != ticket) else {
            return ready(Answer::Unit);
        };
        if self.requests.cancel(old) {
            return ready(Answer::Unit);
        }
        Ok((Work::Done(Ok(Answer::Unit)), Then::Flush { of: old }))
    }

    fn auth<'m>(&mut self, afid: Fid, login: &Login<'_>) -> Planned<'m, P::Node> {
        self.check_new(afid)?;
        let auth = AuthFid {
            conversation: self.policy.authenticate(login)?,
            uname: copied(login.uname)?,
            n_uname: login.n_uname,
            aname: copied(login.aname)?,
        };
        let handle = Handle {
            busy: false,
            usage: Use::Auth(auth),
        };
        self.fids.insert(afid, handle)?;
        ready(Answer::Auth(Qid {
            kind: QidKind::AUTH,
            version: 0,
            path: afid.0.into(),
        }))
    }

    fn attach<'m>(&mut self, fid: Fid, afid: Fid, login: &Login<'m>) -> Planned<'m, P::Node> {
        self.check_new(fid)?;
        self.check_places(1)?;
        let proof = match afid {
            Fid::NONE => None,
            _ => match self.fids.get(afid).map(|handle| &handle.usage) {
                Some(Use::Auth(auth)) => {
                    let same = (&auth.uname[..], auth.n_uname, &auth.aname[..])
                        == (login.uname, login.n_uname, login.aname);
                    if !same {
                        return Err(Errno::EACCES.into());
                    }
                    Some(&auth.conversation)
                }
                _ => return Err(Errno::EBADF.into()),
            },
        };
        let export = self.policy.attach(login, proof)?;
        self.promise(fid)?;
        let work = Work::Attach {
            root: export.root,
            below: export.below,
            depth: self.limits.depth,
        };
        let then = Then::Attach {
            fid,
            tree: export.tree,
            rights: export.rights,
        };
        Ok((work, then))
    }

    fn check_places(&self, more: usize) -> Result<()> {
        match self.places.len().saturating_add(more) > self.limits.places {
            true => Err(Refusal::Limit(Errno::ENFILE)),
            false => Ok(()),
        }
    }

    fn walk<'m>(&mut self, fid: Fid, newfid: Fid, names: &[&[u8]]) -> Planned<'m, P::Node> {
        let from = self.at(fid)?;
        let moves = newfid == fid;
        if moves && !matches!(self.handle(fid)?.usage, Use::Path(_)) {
            return Err(Errno::EINVAL.into());
        }
        if !moves {
            self.check_new(newfid)?;
        }
        self.check_places(names.len())?;
        let ups = names.iter().filter(|name| **name == b"..").count();
        let downs = names.len() - ups;
        if downs > 0 && self.places.depth(from.place) + downs > self.limits.depth {
            return Err(Refusal::Limit(Errno::ENAMETOOLONG));
        }
        let mut above = Vec::new();
        above.try_reserve_exact(ups).map_err(|_| Errno::ENOMEM)?;
        let mut at = from.place;
        for _ in 0..ups {
            let up = self.places.up(at)?;
            if up == at {
                break;
            }
            at = up;
            above.push(self.places.node(at)?.clone());
        }
        let work = Work::Walk {
            from: self.places.node(from.place)?.clone(),
            above,
        };
        let then = match moves {
            true => {
                self.set_busy(fid, true);
                Then::Move { fid, from }
            }
            false => {
                self.promise(newfid)?;
                Then::Bind { fid: newfid, from }
            }
        };
        self.places.hold(from.place);
        Ok((work, then))
    }

    fn clunk<'m>(&mut self, fid: Fid) -> Planned<'m, P::Node> {
        self.handle(fid)?;
        let Some(handle) = self.fids.remove(fid) else {
            return Err(Errno::EBADF.into());
        };
        let at = handle.usage.at();
        let work = match handle.usage {
            Use::Open(at, open) => {
                self.forget_open(&open);
                let removal = match open.remove_on_clunk {
                    true => self.removal(at.place).map(Some),
                    false => Ok(None),
                };
                Work::Close {
                    file: Some(open.file),
                    removal,
                    remove: false,
                }
            }
            Use::Xattr(_, value) => {
                self.xattr_bytes -= value.len();
                Work::Done(Ok(Answer::Unit))
            }
            Use::NewXattr(at, new) => {
                self.xattr_bytes -= new.value.len();
                match self.places.node(at.place) {
                    Ok(node) if new.written == new.value.len() => Work::SetXattr {
                        node: node.clone(),
                        name: new.name,
                        value: new.value,
                        flags: new.flags,
                    },
                    _ => Work::Done(Err(Errno::EINVAL)),
                }
            }
            Use::Path(_) | Use::Auth(_) | Use::Promised => Work::Done(Ok(Answer::Unit)),
        };
        if let Some(at) = at {
            self.places.release(at.place);
        }
        only(work)
    }

    /// An open file is about to be closed: it does not count any more.
    pub(crate) fn forget_open(&mut self, open: &Open<<P::Node as Node>::File>) {
        self.open_files -= 1;
        self.open_directories -= usize::from(open.mode.directory);
        self.locks -= open.locks.len();
    }

    fn remove<'m>(&mut self, fid: Fid) -> Planned<'m, P::Node> {
        let at = match self.handle(fid)?.usage {
            Use::Path(at) | Use::Open(at, _) => at,
            // The fid goes all the same.
            _ => {
                self.clunk(fid)?;
                return Err(Errno::EINVAL.into());
            }
        };
        let removal = match self.changed(fid) {
            Ok(_) => self.removal(at.place).map_err(Refusal::Errno),
            Err(refusal) => Err(refusal),
        };
        let file = match self.fids.remove(fid).map(|handle| handle.usage) {
            Some(Use::Open(_, open)) => {
                self.forget_open(&open);
                Some(open.file)
            }
            _ => None,
        };
        let removal = removal.map(Some).map_err(|refusal| match refusal {
            Refusal::Errno(errno) | Refusal::Limit(errno) => errno,
            Refusal::Busy => Errno::EBUSY,
        });
        let work = Work::Close {
            file,
            removal,
            remove: true,
        };
        Ok((work, Then::Remove { file: at.place }))
    }

    fn read<'m>(
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
        let kind = node.qid().kind;
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

    /// Whether another fid has this file open.
    fn is_open_elsewhere(&self, node: &P::Node, at: At) -> bool {
        let path = node.qid().path;
        self.fids.uses().any(|usage| match usage {
            Use::Open(other, _) => {
                let other_node = self.places.node(other.place);
                other.tree == at.tree && other_node.is_ok_and(|node| node.qid().path == path)
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
        let dir = self.changed_dir(fid)?;
        if !matches!(self.handle(fid)?.usage, Use::Path(_)) {
            return Err(Errno::EINVAL.into());
        }
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

    fn xattr_walk<'m>(&mut self, fid: Fid, newfid: Fid, name: &'m [u8]) -> Planned<'m, P::Node> {
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

    fn count_xattr(&mut self, bytes: usize) -> Result<()> {
        let sum = self.xattr_bytes.saturating_add(bytes);
        if sum > self.limits.xattr_bytes {
            return Err(Refusal::Limit(Errno::ENOSPC));
        }
        self.xattr_bytes = sum;
        Ok(())
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
    match node.qid().kind.contains(QidKind::APPEND) {
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
