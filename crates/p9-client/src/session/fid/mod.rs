//! A handle to a file on the server, and the requests that every dialect has.

mod classic;
mod linux;
mod pipelined;
mod way;

use core::fmt;

use crate::session::request::{PendingRequest, into};
use crate::session::violation::Violation;
use crate::session::{Deferred, Session};
use crate::{Dialect, Error};
use p9_wire::{self as wire, MAX_ELEMENTS, Names, Qid, Reply, Request};

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
