//! A handle to a file on the server, and the requests that every dialect has; those of 9P2000.L
//! follow in a second block.

mod classic;
mod pipelined;
mod way;

use alloc::vec::Vec;
use core::fmt;

use crate::session::request::{PendingRequest, into};
use crate::session::violation::Violation;
use crate::session::{Deferred, Session};
use crate::{Dialect, Error};
use p9_tree::try_copy;
use p9_wire::{
    self as wire, Attr, AttrMask, LockFlags, LockKind, LockStatus, MAX_ELEMENTS, Names, OpenFlags,
    Qid, Reply, Request, SetAttr, Statfs, UnlinkFlags, XattrFlags,
};

/// A fid: the client's handle to a file on the server.
///
/// Dropping it tells the server so (Tclunk) with the next requests that go out, without waiting for
/// the answer; [`close`](Self::close) waits. Methods are the requests of the protocol; they check
/// what the server answers, but not whether the request makes sense.
pub struct Fid {
    session: Session,
    number: wire::Fid,
}

/// How far a walk went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// How many of the names were walked.
    pub names: usize,
    /// What the last name walked leads to; `None` when that is none.
    pub last: Option<Qid>,
}

impl fmt::Debug for Fid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fid({})", self.number.0)
    }
}

impl Drop for Fid {
    fn drop(&mut self) {
        self.session.with_or_later(Deferred::DropFid(self.number));
    }
}

/// What the server says of a file that it has opened: which it is, and the largest read or write.
fn opened(reply: &Reply<'_>) -> Option<(Qid, u32)> {
    match *reply {
        Reply::Open { qid, iounit }
        | Reply::Create { qid, iounit }
        | Reply::Lopen { qid, iounit }
        | Reply::Lcreate { qid, iounit } => Some((qid, iounit)),
        _ => None,
    }
}

macro_rules! reply {
    ($variant:ident { $field:ident }) => {
        |reply| match *reply {
            Reply::$variant { $field } => Some($field),
            _ => None,
        }
    };
}

impl Fid {
    /// A number that the server does not know yet.
    pub(super) fn new(session: &Session) -> Result<Fid, Error> {
        let number = session.with_link_or(Err(Error::WouldBlock), |engine, link| {
            engine.alive()?;
            if engine.dialect() == Dialect::Unix {
                // xen-9pfsd allows no more than five fids: those given up go first.
                if let Some(transport) = link.transport() {
                    engine.send_due(transport);
                }
            }
            engine.fids().alloc().ok_or(Error::OutOfMemory)
        })?;
        Ok(Fid {
            session: session.clone(),
            number,
        })
    }

    /// The number on the wire.
    pub fn number(&self) -> wire::Fid {
        self.number
    }

    /// The session that the fid belongs to.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Walks `names`, at most 16, and gives a new fid for what they lead to; for no names, one for
    /// the same file. When the way ends early the fid is of no use, and [`Walk`] says how far it
    /// went.
    ///
    /// # Errors
    /// When not even the first name could be walked; [`Error::InvalidInput`] for more than 16 names.
    pub async fn walk(&self, names: &[&[u8]]) -> Result<(Fid, Walk), Error> {
        let new = Fid::new(&self.session)?;
        let walk = self.walk_request(new.number, names).await?;
        Ok((new, walk))
    }

    /// Walks `names`, at most 16, and makes this fid stand for what they lead to. When the way ends
    /// early the fid stays what it was.
    ///
    /// # Errors
    /// As [`walk`](Self::walk).
    pub async fn walk_on(&mut self, names: &[&[u8]]) -> Result<Walk, Error> {
        self.walk_request(self.number, names).await
    }

    async fn walk_request(&self, newfid: wire::Fid, names: &[&[u8]]) -> Result<Walk, Error> {
        let request = self.walk_to(newfid, names)?;
        let mut pending = self.session.send(&request).await?;
        self.walked(&mut pending, &request, names.len()).await
    }

    fn walk_to<'a>(&self, newfid: wire::Fid, names: &[&'a [u8]]) -> Result<Request<'a>, Error> {
        debug_assert!(names.len() <= MAX_ELEMENTS);
        Ok(Request::Walk {
            fid: self.number,
            newfid,
            names: Names::from_slice(names)
                .ok_or(Error::InvalidInput(&"more than 16 names in a walk"))?,
        })
    }

    /// The request to walk to a fid that the server does not know yet.
    pub(super) fn walk_message<'a>(
        &self,
        new: &Fid,
        names: &[&'a [u8]],
    ) -> Result<Request<'a>, Error> {
        self.walk_to(new.number, names)
    }

    /// The answer to `request`, a walk of so many names.
    pub(super) async fn walked(
        &self,
        pending: &mut PendingRequest,
        request: &Request<'_>,
        names: usize,
    ) -> Result<Walk, Error> {
        pending.arrive(request).await?;
        self.walk_answer(pending, names).await
    }

    /// The same for a walk that others were sent behind: if it is lost with the connection, so are they.
    pub(super) async fn walk_answer(
        &self,
        pending: &mut PendingRequest,
        names: usize,
    ) -> Result<Walk, Error> {
        let mut found = None;
        let read = |reply: &Reply<'_>| match reply {
            Reply::Walk { qids } => Some(Walk {
                names: qids.len(),
                last: qids.last().copied(),
            }),
            _ => None,
        };
        pending.answer(&mut into(&mut found, read)).await?;
        let walk = found.ok_or(Error::Closed)?;
        if walk.names > names {
            return Err(self.session.protocol_error(Violation::TooManyNames));
        }
        if walk.names == 0 && names > 0 {
            return Err(self.session.protocol_error(Violation::NoNames));
        }
        Ok(walk)
    }

    /// Tells the server that the file is no longer used, and waits for the answer. The fid is gone
    /// even if that is an error.
    ///
    /// # Errors
    /// What the server says about closing the file, or about setting the extended attribute.
    pub async fn close(self) -> Result<(), Error> {
        self.session
            .call_unit(Request::Clunk { fid: self.number })
            .await
    }

    /// Removes the file. The fid is gone even if that fails, so this must not be the root's.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn remove(self) -> Result<(), Error> {
        self.session
            .call_unit(Request::Remove { fid: self.number })
            .await
    }

    /// Reads `into.len()` bytes at most, in one request; 0 is the end.
    ///
    /// # Errors
    /// What the server refuses. [`Error::InvalidInput`] for more than fits into a message.
    pub async fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        let request = Request::Read {
            fid: self.number,
            offset,
            count: self.count(into.len())?,
        };
        self.session.fetch(request, into).await
    }

    /// Reads entries of the open directory, `into.len()` bytes at most, in one request; 0 is the end.
    /// `offset` is 0 or that of the last entry read.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn readdir(&self, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        let request = Request::Readdir {
            fid: self.number,
            offset,
            count: self.count(into.len())?,
        };
        self.session.fetch(request, into).await
    }

    fn count(&self, len: usize) -> Result<u32, Error> {
        let most = self.session.msize() - wire::IO_HEADER_LEN;
        u32::try_from(len)
            .ok()
            .filter(|&count| count <= most)
            .ok_or(Error::InvalidInput(&"more bytes than fit into a message"))
    }
}

/// The requests of 9P2000.L. In other dialects all of these are [`Error::Unsupported`].
impl Fid {
    /// Opens the file. Returns what it is and the largest read or write (iounit; 0: no limit but
    /// msize).
    ///
    /// # Errors
    /// What the server refuses.
    pub fn lopen(&self, flags: OpenFlags) -> impl Future<Output = Result<(Qid, u32), Error>> {
        let request = Request::Lopen {
            fid: self.number,
            flags,
        };
        self.session.call(request, opened)
    }

    /// Makes a file in this directory and opens it; the fid stands for the file then.
    ///
    /// # Errors
    /// What the server refuses. The fid should not be used after that: xen-9pfsd moves it all the
    /// same.
    pub fn lcreate<'a>(
        &'a mut self,
        name: &'a [u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> impl Future<Output = Result<(Qid, u32), Error>> {
        let request = Request::Lcreate {
            fid: self.number,
            name,
            flags,
            mode,
            gid,
        };
        self.session.call(request, opened)
    }

    /// Attributes of the file.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn getattr(&self, mask: AttrMask) -> impl Future<Output = Result<Attr, Error>> {
        let request = Request::Getattr {
            fid: self.number,
            mask,
        };
        self.session.call(request, reply!(Getattr { attr }))
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// What the server refuses; some of the attributes may have changed then.
    pub fn setattr(&self, attr: SetAttr) -> impl Future<Output = Result<(), Error>> {
        self.session.call_unit(Request::Setattr {
            fid: self.number,
            attr,
        })
    }

    /// About the file system.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn statfs(&self) -> impl Future<Output = Result<Statfs, Error>> {
        let request = Request::Statfs { fid: self.number };
        self.session.call(request, reply!(Statfs { statfs }))
    }

    /// Waits until the file is on stable storage; `data_only`: its attributes need not be.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn fsync(&self, data_only: bool) -> impl Future<Output = Result<(), Error>> {
        self.session.call_unit(Request::Fsync {
            fid: self.number,
            datasync: data_only.into(),
        })
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn readlink(&self) -> Result<Vec<u8>, Error> {
        let request = Request::Readlink { fid: self.number };
        let target = self.session.call(request, |reply| match *reply {
            Reply::Readlink { target } => Some(try_copy(target)),
            _ => None,
        });
        target.await?
    }

    /// Makes a symbolic link in this directory.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn symlink<'a>(
        &'a self,
        name: &'a [u8],
        target: &'a [u8],
        gid: u32,
    ) -> impl Future<Output = Result<(), Error>> {
        self.session.call_unit(Request::Symlink {
            dfid: self.number,
            name,
            target,
            gid,
        })
    }

    /// Makes a hard link to `file` in this directory.
    ///
    /// # Errors
    /// What the server refuses; [`Error::Closed`] for a file of another session.
    pub async fn link(&self, file: &Fid, name: &[u8]) -> Result<(), Error> {
        self.session.same(&file.session)?;
        self.session
            .call_unit(Request::Link {
                dfid: self.number,
                fid: file.number,
                name,
            })
            .await
    }

    /// Makes a device, named pipe or socket in this directory.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn mknod<'a>(
        &'a self,
        name: &'a [u8],
        mode: u32,
        (major, minor): (u32, u32),
        gid: u32,
    ) -> impl Future<Output = Result<(), Error>> {
        self.session.call_unit(Request::Mknod {
            dfid: self.number,
            name,
            mode,
            major,
            minor,
            gid,
        })
    }

    /// Makes a directory in this directory, and tells its qid.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn mkdir<'a>(
        &'a self,
        name: &'a [u8],
        mode: u32,
        gid: u32,
    ) -> impl Future<Output = Result<Qid, Error>> {
        let request = Request::Mkdir {
            dfid: self.number,
            name,
            mode,
            gid,
        };
        self.session.call(request, reply!(Mkdir { qid }))
    }

    /// Moves `old` of this directory to `new` of directory `to`.
    ///
    /// # Errors
    /// What the server refuses; [`Error::Closed`] for a directory of another session.
    pub async fn renameat(&self, old: &[u8], to: &Fid, new: &[u8]) -> Result<(), Error> {
        self.session.same(&to.session)?;
        self.session
            .call_unit(Request::Renameat {
                olddirfid: self.number,
                oldname: old,
                newdirfid: to.number,
                newname: new,
            })
            .await
    }

    /// Moves this file, which must not be open, to `name` in directory `to`.
    ///
    /// # Errors
    /// As [`renameat`](Self::renameat).
    pub async fn rename(&self, to: &Fid, name: &[u8]) -> Result<(), Error> {
        self.session.same(&to.session)?;
        self.session
            .call_unit(Request::Rename {
                fid: self.number,
                dfid: to.number,
                name,
            })
            .await
    }

    /// Removes a name from this directory.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn unlinkat<'a>(
        &'a self,
        name: &'a [u8],
        flags: UnlinkFlags,
    ) -> impl Future<Output = Result<(), Error>> {
        self.session.call_unit(Request::Unlinkat {
            dirfid: self.number,
            name,
            flags,
        })
    }

    /// A fid for an extended attribute of this file, to be read; for an empty name, for the list of
    /// their names, each with a NUL behind it. Returns its size too.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn xattrwalk(&self, name: &[u8]) -> Result<(Fid, u64), Error> {
        let new = Fid::new(&self.session)?;
        let request = Request::Xattrwalk {
            fid: self.number,
            newfid: new.number,
            name,
        };
        let size = self
            .session
            .call(request, reply!(Xattrwalk { size }))
            .await?;
        Ok((new, size))
    }

    /// Makes this fid an extended attribute of its file, to be written; it is set, or with a size of
    /// 0 removed, when the fid is [`close`](Self::close)d.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn xattrcreate<'a>(
        &'a mut self,
        name: &'a [u8],
        size: u64,
        flags: XattrFlags,
    ) -> impl Future<Output = Result<(), Error>> {
        self.session.call_unit(Request::Xattrcreate {
            fid: self.number,
            name,
            size,
            flags,
        })
    }

    /// Takes or releases a lock on bytes of the open file.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn lock<'a>(
        &'a self,
        kind: LockKind,
        start: u64,
        length: u64,
        owner: (u32, &'a [u8]),
    ) -> impl Future<Output = Result<LockStatus, Error>> {
        let request = Request::Lock {
            fid: self.number,
            kind,
            flags: LockFlags::empty(),
            start,
            length,
            proc_id: owner.0,
            client_id: owner.1,
        };
        self.session.call(request, reply!(Lock { status }))
    }
}
