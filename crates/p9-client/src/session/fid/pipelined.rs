//! Requests that depend on one another, sent together: a walk, and the use of the fid it
//! makes.
//!
//! Over a transport that keeps the order of a lane they take the time of one answer; over others each
//! waits for the one before it. If the walk ends early the server knows no such fid, and refuses what was
//! sent behind it without having done anything.

use super::Fid;
use super::way::Way;
use crate::Error;
use crate::session::engine::RETRYABLE_LOSS;
use crate::session::request::{PendingRequest, Retries};
use p9_tree::Walked;
use p9_wire::{Attr, AttrMask, OpenFlags, Payload, Qid, Reply, Request};

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
    /// Walks `names`, at least one and at most 16, from this file, which has the identity `qid`, and asks for the attributes
    /// of what they lead to, for which no fid is kept.
    ///
    /// # Errors
    /// Of the session, and what the server says to the question. What became of the walk is in the result.
    pub async fn walk_getattr(
        &self,
        qid: Qid,
        names: &[&[u8]],
        mask: AttrMask,
    ) -> Result<Walked<Attr>, Error> {
        again(async || self.walk_getattr_once(qid, names, mask).await).await
    }

    async fn walk_getattr_once(
        &self,
        qid: Qid,
        names: &[&[u8]],
        mask: AttrMask,
    ) -> Result<Walked<Attr>, Error> {
        let session = self.session();
        let new = Fid::new(session)?;
        let request = self.walk_message(&new, names)?;
        let mut walk = session.send(&request).await?;
        let fid = new.number();
        let mut ahead = walk.send_pipelined(&Request::Getattr { fid, mask })?;
        if ahead.is_some()
            && let Some(clunk) = walk.send_pipelined(&Request::Clunk { fid })?
        {
            clunk.detach();
        }
        let walked = match ahead {
            Some(_) => self.walk_answer(&mut walk, names.len()).await,
            None => self.walked(&mut walk, &request, names.len()).await,
        };
        let walked = ended(Way::new(qid).go(walked, names.len()), &mut ahead)?;
        let answer = async |()| match ahead {
            Some(mut pending) => pending.answer(attributes).await,
            None => new.getattr(mask).await,
        };
        walked.then(answer).await
    }

    /// Walks `names`, at least one and at most 16, from this file, which has the identity `qid`, and opens what they lead to.
    /// Gives the fid, and what became of opening it.
    ///
    /// Not for [`OpenFlags::TRUNCATE`]: a server that leaves the new fid at a file half way, as diod does,
    /// would empty that.
    ///
    /// # Errors
    /// Of the session. What became of the walk is in the result.
    #[allow(clippy::type_complexity, reason = "a fid, and what Rlopen says")]
    pub async fn walk_lopen(
        &self,
        qid: Qid,
        names: &[&[u8]],
        flags: OpenFlags,
    ) -> Result<Walked<(Fid, Result<(Qid, u32), Error>)>, Error> {
        debug_assert!(!flags.contains(OpenFlags::TRUNCATE));
        again(async || self.walk_lopen_once(qid, names, flags).await).await
    }

    #[allow(clippy::type_complexity, reason = "a fid, and what Rlopen says")]
    async fn walk_lopen_once(
        &self,
        qid: Qid,
        names: &[&[u8]],
        flags: OpenFlags,
    ) -> Result<Walked<(Fid, Result<(Qid, u32), Error>)>, Error> {
        let session = self.session();
        let new = Fid::new(session)?;
        let request = self.walk_message(&new, names)?;
        let mut walk = session.send(&request).await?;
        let fid = new.number();
        let mut ahead = walk.send_pipelined(&Request::Lopen { fid, flags })?;
        let walked = match ahead {
            Some(_) => self.walk_answer(&mut walk, names.len()).await,
            None => self.walked(&mut walk, &request, names.len()).await,
        };
        let walked = ended(Way::new(qid).go(walked, names.len()), &mut ahead)?;
        let answer = async |()| {
            let open = match ahead {
                Some(mut pending) => match pending.answer(opened).await {
                    Err(error @ RETRYABLE_LOSS) => return Err(error),
                    open => open,
                },
                None => new.lopen(flags).await,
            };
            Ok((new, open))
        };
        walked.then(answer).await
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
        again(async || self.create_in_once(name, flags, mode, gid).await).await
    }

    async fn create_in_once(
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
        let walked = match &mut ahead {
            Some(pending) => match self.walk_answer(&mut walk, 0).await {
                // What was refused was not done; of what was not answered, only the lost server knows.
                Err(lost @ RETRYABLE_LOSS) => Err(match pending.answer(created).await {
                    Err(Error::Errno(_)) => lost,
                    Err(error) => error,
                    Ok(_) => Error::MaybeApplied,
                }),
                walked => walked,
            },
            None => self.walked(&mut walk, &request, 0).await,
        };
        let walked = Way::new(Qid::default()).go(walked, 0);
        ended(walked, &mut ahead)?.through()?;
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
        // Where the connection may be found again, the fid is needed until the data is there.
        let clunk = match session.recovers() {
            true => None,
            false => write.send_pipelined(&Request::Clunk { fid })?,
        };
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

/// Does all of it again when a request behind the walk is lost with the connection: the fid that the walk made may be gone, and
/// had nothing done to it that would be wrong twice.
async fn again<T>(all: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    let mut retries = Retries::default();
    loop {
        match all().await {
            Err(error) if retries.again(error) => {}
            result => return result,
        }
    }
}

/// How a walk ended. If not at its end, what was sent behind it is left to fail.
fn ended<T>(
    walked: Result<Walked<T>, Error>,
    ahead: &mut Option<PendingRequest>,
) -> Result<Walked<T>, Error> {
    if let Ok(Walked::Link(_) | Walked::Blocked(..)) = walked
        && let Some(pending) = ahead.take()
    {
        pending.detach();
    }
    walked
}
