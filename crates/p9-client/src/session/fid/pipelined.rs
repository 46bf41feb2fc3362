//! Requests that depend on one another, sent together: a walk, and the use of the fid it
//! makes.
//!
//! Over a transport that keeps the order of a lane they take the time of one answer; over others each
//! waits for the one before it. If the walk ends early the server knows no such fid, and refuses what was
//! sent behind it without having done anything.

use super::way::Way;
use super::{Fid, opened};
use crate::Error;
use crate::session::engine::RETRYABLE_LOSS;
use crate::session::request::{ReadReply, Retries, into};
use p9_tree::Walked;
use p9_wire::{self as wire, Attr, AttrMask, OpenFlags, Payload, Qid, Reply, Request};

/// What is asked of a fid that a walk makes.
#[derive(Clone, Copy)]
enum Question<'a> {
    /// No fid is kept for this one.
    Getattr(AttrMask),
    Lopen(OpenFlags),
    Lcreate {
        name: &'a [u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    },
}

impl<'a> Question<'a> {
    fn of(self, fid: wire::Fid) -> Request<'a> {
        match self {
            Question::Getattr(mask) => Request::Getattr { fid, mask },
            Question::Lopen(flags) => Request::Lopen { fid, flags },
            Question::Lcreate {
                name,
                flags,
                mode,
                gid,
            } => Request::Lcreate {
                fid,
                name,
                flags,
                mode,
                gid,
            },
        }
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
        let mut found = None;
        let read = |reply: &Reply<'_>| match *reply {
            Reply::Getattr { attr } => Some(attr),
            _ => None,
        };
        let question = Question::Getattr(mask);
        let walked = self
            .walk_and_ask(qid, names, question, &mut into(&mut found, read))
            .await?;
        let answer = async |(_, answer): (Fid, Result<(), Error>)| {
            answer?;
            found.ok_or(Error::Closed)
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
        let mut found = None;
        let question = Question::Lopen(flags);
        let walked = self
            .walk_and_ask(qid, names, question, &mut into(&mut found, opened))
            .await?;
        Ok(walked.map(|(fid, answer)| (fid, answer.and(found.ok_or(Error::Closed)))))
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
        let mut found = None;
        let question = Question::Lcreate {
            name,
            flags,
            mode,
            gid,
        };
        let walked = self
            .walk_and_ask(Qid::default(), &[], question, &mut into(&mut found, opened))
            .await?;
        let (fid, answer) = walked.through()?;
        let (qid, iounit) = answer.and(found.ok_or(Error::Closed))?;
        Ok((fid, qid, iounit))
    }

    /// Walks `names`, at most 16, from this file, which has the identity `qid`, and asks `question` of the fid that this makes.
    /// Gives the fid, and what became of the question, whose answer `read` has seen.
    ///
    /// All of it is done again when a request behind the walk is lost with the connection: the fid that the walk made may be gone,
    /// and had nothing done to it that would be wrong twice.
    async fn walk_and_ask(
        &self,
        qid: Qid,
        names: &[&[u8]],
        question: Question<'_>,
        read: &mut ReadReply<'_>,
    ) -> Result<Walked<(Fid, Result<(), Error>)>, Error> {
        let mut retries = Retries::default();
        loop {
            match self.walk_and_ask_once(qid, names, question, read).await {
                Err(error) if retries.again(error) => {}
                result => return result,
            }
        }
    }

    async fn walk_and_ask_once(
        &self,
        qid: Qid,
        names: &[&[u8]],
        question: Question<'_>,
        read: &mut ReadReply<'_>,
    ) -> Result<Walked<(Fid, Result<(), Error>)>, Error> {
        let session = self.session();
        let new = Fid::new(session)?;
        let request = self.walk_message(&new, names)?;
        let mut walk = session.send(&request).await?;
        let fid = new.number();
        let mut ahead = walk.send_pipelined(&question.of(fid))?;
        if ahead.is_some()
            && matches!(question, Question::Getattr(_))
            && let Some(clunk) = walk.send_pipelined(&Request::Clunk { fid })?
        {
            clunk.detach();
        }
        let walked = match &mut ahead {
            None => self.walked(&mut walk, &request, names.len()).await,
            Some(pending) => match self.walk_answer(&mut walk, names.len()).await {
                // What was refused was not done; of what was not answered, only the lost server knows.
                Err(lost @ RETRYABLE_LOSS) if matches!(question, Question::Lcreate { .. }) => {
                    Err(match pending.answer(read).await {
                        Err(Error::Errno(_)) => lost,
                        Err(error) => error,
                        Ok(()) => Error::MaybeApplied,
                    })
                }
                walked => walked,
            },
        };
        let walked = Way::new(qid).go(walked, names.len())?;
        if !matches!(walked, Walked::Through(..))
            && let Some(pending) = ahead.take()
        {
            // Left to fail.
            pending.detach();
        }
        let qid = match walked {
            Walked::Through((), qid) => qid,
            Walked::Link(at) => return Ok(Walked::Link(at)),
            Walked::Blocked(at, error) => return Ok(Walked::Blocked(at, error)),
        };
        let answer = match &mut ahead {
            Some(pending) => match pending.answer(read).await {
                Err(error @ RETRYABLE_LOSS) => return Err(error),
                answer => answer,
            },
            None => {
                let read = |reply: &Reply<'_>| read(reply).ok();
                session.call(question.of(fid), read).await
            }
        };
        Ok(Walked::Through((new, answer), qid))
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
            Some(mut pending) => pending.answer(&mut |_| Ok(())).await,
            None => self.close().await,
        };
        let count = count?;
        closed?;
        Ok(count)
    }
}
