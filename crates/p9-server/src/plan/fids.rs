//! Requests that make, move and forget fids.

use alloc::vec::Vec;

use p9_tree::Node;
use p9_wire::{Errno, Fid, Qid, QidKind, Tag};

use super::{Planned, Refusal, copied, only, ready};
use crate::export::{Login, Policy};
use crate::fid::{AuthFid, Handle, Open, Use};
use crate::job::{Answer, Way, Work};
use crate::request::{Then, Ticket};
use crate::server::Server;

impl<P: Policy> Server<P> {
    pub(super) fn flush<'m>(&mut self, ticket: Ticket, oldtag: Tag) -> Planned<'m, P::Node> {
        let Some(old) = self.requests.by_tag(oldtag).filter(|old| *old != ticket) else {
            return ready(Answer::Unit);
        };
        if self.requests.cancel(old) {
            return ready(Answer::Unit);
        }
        Ok((Work::Done(Ok(Answer::Unit)), Then::Flush { of: old }))
    }

    pub(super) fn auth<'m>(&mut self, afid: Fid, login: &Login<'_>) -> Planned<'m, P::Node> {
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

    pub(super) fn attach<'m>(
        &mut self,
        fid: Fid,
        afid: Fid,
        login: &Login<'m>,
    ) -> Planned<'m, P::Node> {
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

    pub(super) fn walk<'m>(
        &mut self,
        fid: Fid,
        newfid: Fid,
        names: &[&[u8]],
    ) -> Planned<'m, P::Node> {
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
        let mut way = self.spare_way.take().unwrap_or(Way::new());
        way.only_look = false;
        let work = Work::Walk {
            from: self.places.node(from.place)?.clone(),
            above,
            way,
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

    pub(super) fn clunk<'m>(&mut self, fid: Fid) -> Planned<'m, P::Node> {
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

    pub(super) fn remove<'m>(&mut self, fid: Fid) -> Planned<'m, P::Node> {
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
}
