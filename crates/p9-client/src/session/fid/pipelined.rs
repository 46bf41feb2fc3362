//! Requests that depend on one another, sent together: a walk, and the use of the fid it
//! makes.
//!
//! Over a transport that keeps the order of a lane they take the time of one answer; over others each
//! waits for the one before it. If the walk ends early the server knows no such fid, and refuses what was
//! sent behind it without having done anything.

use super::Fid;
use super::Walk;
use crate::Error;
use crate::session::request::PendingRequest;
use p9_wire::{Attr, AttrMask, OpenFlags, Payload, Qid, Reply, Request};

/// Result of a pipelined request; `None` if the request before it failed, so that this one did nothing.
type PipelinedResult<T> = Option<Result<T, Error>>;

fn attributes(reply: &Reply<'_>) -> Option<Attr> {
    match *reply {
        Reply::Getattr { attr } => Some(attr),
        _ => None,
    }
}

fn opened(reply: &Reply<'_>) -> Option<(Qid, u32)> {
    match *reply {
        Reply::Lopen { qid, iounit } => Some((qid, iounit)),
        _ => None,
    }
}

fn created(reply: &Reply<'_>) -> Option<(Qid, u32)> {
    match *reply {
        Reply::Lcreate { qid, iounit } => Some((qid, iounit)),
        _ => None,
    }
}

impl Fid {
    /// Walks `names`, of which there is at least one, and asks for the attributes of what they lead to,
    /// for which no fid is kept.
    ///
    /// # Errors
    /// Of the session. What became of the walk and of the question is in the two results.
    pub async fn walk_getattr(
        &self,
        names: &[&[u8]],
        mask: AttrMask,
    ) -> Result<(Result<Walk, Error>, PipelinedResult<Attr>), Error> {
        let session = self.session();
        let new = Fid::new(session)?;
        let request = self.walk_message(&new, names)?;
        let mut walk = session.send(&request).await?;
        let fid = new.number();
        let getattr = Request::Getattr { fid, mask };
        let mut ahead = walk.send_pipelined(&getattr)?;
        if ahead.is_some()
            && let Some(clunk) = walk.send_pipelined(&Request::Clunk { fid })?
        {
            clunk.detach();
        }
        let walked = self.walked(&mut walk, &request, names.len()).await;
        if !walk_ended(&walked, names.len(), &mut ahead)? {
            return Ok((walked, None));
        }
        let attr = match ahead {
            Some(mut pending) => pending.answer(attributes).await,
            None => new.getattr(mask).await,
        };
        Ok((walked, Some(attr)))
    }

    /// Walks `names` and opens what they lead to. The fid is of use if the walk led to its end.
    ///
    /// Not for [`OpenFlags::TRUNCATE`]: a server that leaves the new fid at a file half way, as diod does,
    /// would empty that.
    ///
    /// # Errors
    /// Of the session. What became of the walk and of opening is in the two results.
    pub async fn walk_lopen(
        &self,
        names: &[&[u8]],
        flags: OpenFlags,
    ) -> Result<(Fid, Result<Walk, Error>, PipelinedResult<(Qid, u32)>), Error> {
        debug_assert!(!flags.contains(OpenFlags::TRUNCATE));
        let session = self.session();
        let new = Fid::new(session)?;
        let request = self.walk_message(&new, names)?;
        let mut walk = session.send(&request).await?;
        let fid = new.number();
        let mut ahead = walk.send_pipelined(&Request::Lopen { fid, flags })?;
        let walked = self.walked(&mut walk, &request, names.len()).await;
        if !walk_ended(&walked, names.len(), &mut ahead)? {
            return Ok((new, walked, None));
        }
        let open = match ahead {
            Some(mut pending) => pending.answer(opened).await,
            None => new.lopen(flags).await,
        };
        Ok((new, walked, Some(open)))
    }

    /// Makes a file in this directory and opens it, with a new fid.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn create_in(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<(Fid, Qid, u32), Error> {
        let session = self.session();
        let mut new = Fid::new(session)?;
        let request = self.walk_message(&new, &[])?;
        let mut walk = session.send(&request).await?;
        let mut ahead = walk.send_pipelined(&Request::Lcreate {
            fid: new.number(),
            name,
            flags,
            mode,
            gid,
        })?;
        let walked = self.walked(&mut walk, &request, 0).await;
        walk_ended(&walked, 0, &mut ahead)?;
        walked?;
        let (qid, iounit) = match ahead {
            Some(mut pending) => pending.answer(created).await?,
            None => new.lcreate(name, flags, mode, gid).await?,
        };
        Ok((new, qid, iounit))
    }

    /// Writes all of the data to the open file, no more than fits into a request, and closes it.
    /// Says how much the server took.
    ///
    /// # Errors
    /// What the server refuses, be it writing or closing.
    pub async fn write_and_close(self, data: &[u8]) -> Result<usize, Error> {
        let session = self.session();
        let fid = self.number();
        let request = Request::Write {
            fid,
            offset: 0,
            data: Payload(data, &[]),
        };
        let mut write = session.send(&request).await?;
        let clunk = write.send_pipelined(&Request::Clunk { fid })?;
        let count = crate::session::bulk::answer_written(&mut write, &request, data.len()).await;
        if let Ok(count) = count {
            session.wrote(count);
        }
        let closed = match clunk {
            Some(mut pending) => pending.answer(|_| Some(())).await,
            None => self.close().await,
        };
        let count = count?;
        closed?;
        Ok(count)
    }
}

/// Whether the walk led to its end. If not, what was sent behind it is left to fail.
fn walk_ended(
    walked: &Result<Walk, Error>,
    names: usize,
    ahead: &mut Option<PendingRequest>,
) -> Result<bool, Error> {
    match walked {
        Ok(walk) if walk.names == names => return Ok(true),
        Ok(_) | Err(Error::Errno(_)) => {}
        Err(error) => return Err(*error),
    }
    if let Some(pending) = ahead.take() {
        pending.detach();
    }
    Ok(false)
}
