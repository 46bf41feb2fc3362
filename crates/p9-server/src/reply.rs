//! Encoding what came of a job.

use p9_wire::{Dialect, Errno, LockKind, READ_HEADER_LEN, Reply, Request, Tag, kind};

use crate::complete::Completion;
use crate::export::Policy;
use crate::job::{Answer, Head};
use crate::server::Server;

impl<P: Policy> Server<P> {
    /// Encodes a reply, or an error that says why it can't be.
    pub(crate) fn encode(
        &self,
        head: &Head<'_>,
        outcome: Result<Answer<P::Node>, Errno>,
        into: &mut [u8],
    ) -> Completion {
        let max = into.len().min(head.msize as usize);
        let Some(into) = into.get_mut(..max) else {
            return Completion::default();
        };
        let encoded = outcome.and_then(|answer| self.encode_answer(head, answer, into));
        let completion = encoded.or_else(|errno| {
            error(head.tag, head.errors, errno, into).map(|len| Completion { len, moved: 0 })
        });
        completion.unwrap_or_default()
    }

    fn encode_answer(
        &self,
        head: &Head<'_>,
        answer: Answer<P::Node>,
        into: &mut [u8],
    ) -> Result<Completion, Errno> {
        let Some(request) = &head.request else {
            return Err(Errno::EPROTO);
        };
        // open(5): anything else is a promise not to move less at a time than that, and a tree may.
        let iounit = 0;
        let reply = match (&answer, request) {
            (Answer::Data(len), _) => return data_head(head, request, *len, 0, into),
            (Answer::Moved(len), Request::Read { .. } | Request::Readdir { .. }) => {
                return data_head(head, request, 0, *len, into);
            }
            (Answer::Moved(len), Request::Xattrwalk { .. }) => {
                Reply::Xattrwalk { size: *len as u64 }
            }
            (Answer::Version { msize, dialect }, _) => Reply::Version {
                msize: *msize,
                version: dialect.map_or(&b"unknown"[..], |dialect| dialect.version().as_bytes()),
            },
            (Answer::Auth(aqid), _) => Reply::Auth { aqid: *aqid },
            (Answer::Walked { qids, .. }, _) => Reply::Walk { qids: *qids },
            (Answer::Attr(attr), _) => Reply::Getattr { attr: *attr },
            (Answer::Statfs(statfs), _) => Reply::Statfs { statfs: *statfs },
            (Answer::Bytes(target), _) => Reply::Readlink { target },
            (Answer::Written(count), _) => Reply::Write { count: *count },
            (Answer::Status(status), _) => Reply::Lock { status: *status },
            (Answer::Stat(stat), _) => Reply::Stat { stat: stat.stat() },
            (Answer::Qid(qid), request) => {
                let qid = *qid;
                match request {
                    Request::Attach { .. } => Reply::Attach { qid },
                    Request::Lopen { .. } => Reply::Lopen { qid, iounit },
                    Request::Lcreate { .. } => Reply::Lcreate { qid, iounit },
                    Request::Open { .. } => Reply::Open { qid, iounit },
                    Request::Create { .. } => Reply::Create { qid, iounit },
                    Request::Symlink { .. } => Reply::Symlink { qid },
                    Request::Mknod { .. } => Reply::Mknod { qid },
                    Request::Mkdir { .. } => Reply::Mkdir { qid },
                    _ => return Err(Errno::EIO),
                }
            }
            (
                Answer::Held(held),
                Request::Getlock {
                    start,
                    length,
                    proc_id,
                    client_id,
                    ..
                },
            ) => match held {
                Some(held) => Reply::Getlock {
                    kind: held.kind,
                    start: held.start,
                    length: held.length,
                    proc_id: held.owner,
                    client_id: &held.client,
                },
                None => Reply::Getlock {
                    kind: LockKind::UNLOCK,
                    start: *start,
                    length: *length,
                    proc_id: *proc_id,
                    client_id,
                },
            },
            (Answer::Unit, request) => match request {
                Request::Flush { .. } => Reply::Flush,
                Request::Clunk { .. } => Reply::Clunk,
                Request::Remove { .. } => Reply::Remove,
                Request::Wstat { .. } => Reply::Wstat,
                Request::Rename { .. } => Reply::Rename,
                Request::Renameat { .. } => Reply::Renameat,
                Request::Setattr { .. } => Reply::Setattr,
                Request::Xattrcreate { .. } => Reply::Xattrcreate,
                Request::Fsync { .. } => Reply::Fsync,
                Request::Link { .. } => Reply::Link,
                Request::Unlinkat { .. } => Reply::Unlinkat,
                _ => return Err(Errno::EIO),
            },
            _ => return Err(Errno::EIO),
        };
        let len = reply.encode(head.tag, head.dialect, into);
        match len {
            Ok(len) => Ok(Completion { len, moved: 0 }),
            Err(_) => Err(Errno::EMSGSIZE),
        }
    }
}

/// Writes the head of an Rread or Rreaddir in front of `len` bytes of data in the buffer, or `moved` elsewhere.
fn data_head(
    head: &Head<'_>,
    request: &Request<'_>,
    len: usize,
    moved: usize,
    into: &mut [u8],
) -> Result<Completion, Errno> {
    let kind = match request {
        Request::Readdir { .. } => kind::RREADDIR,
        Request::Read { .. } => kind::RREAD,
        _ => return Err(Errno::EIO),
    };
    let count = u32::try_from(len + moved).map_err(|_| Errno::EIO)?;
    let size = count
        .checked_add(READ_HEADER_LEN as u32)
        .ok_or(Errno::EIO)?;
    let whole = READ_HEADER_LEN + len;
    if whole > into.len() || size > head.msize {
        return Err(Errno::EIO);
    }
    let front: &mut [u8; READ_HEADER_LEN] = into.first_chunk_mut().ok_or(Errno::EMSGSIZE)?;
    let [s0, s1, s2, s3] = size.to_le_bytes();
    let [t0, t1] = head.tag.0.to_le_bytes();
    let [c0, c1, c2, c3] = count.to_le_bytes();
    *front = [s0, s1, s2, s3, kind, t0, t1, c0, c1, c2, c3];
    Ok(Completion { len: whole, moved })
}

/// Encodes an error in the dialect's form.
fn error(tag: Tag, dialect: Dialect, errno: Errno, into: &mut [u8]) -> Result<usize, Errno> {
    let number = errno.number().into();
    let reply = match dialect {
        Dialect::Linux => Reply::Lerror { ecode: number },
        Dialect::Unix | Dialect::Plan9 => Reply::Error {
            ename: errno.text().as_bytes(),
            errno: number,
        },
    };
    reply
        .encode(tag, dialect, into)
        .map_err(|_| Errno::EMSGSIZE)
}
