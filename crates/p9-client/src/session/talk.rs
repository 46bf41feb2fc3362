//! The first words with a new server: what was agreed on with the one before, and its files.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::fids::Standing;
use super::record::{Attach, Open, Record, identify};
use super::violation::Violation;
use crate::transport::{Lane, Transport};
use crate::{Dialect, Error};
use p9_wire::{Fid, HEADER_LEN, MAX_ELEMENTS, Names, Qid, Reader, Reply, Request, Tag, kind};
use xen9p_time::Instant;

/// A conversation with a new server, one request at a time.
pub(super) struct Talk<'a> {
    pub(super) transport: &'a mut dyn Transport,
    pub(super) dialect: Dialect,
    pub(super) msize: u32,
    pub(super) timeout: Duration,
    /// When all of it has to be over.
    pub(super) until: Instant,
    pub(super) message: Vec<u8>,
}

impl Talk<'_> {
    /// Agrees on what was agreed on before.
    pub(super) fn introduce(&mut self) -> Result<(), Error> {
        if self.transport.max_message() < self.msize {
            return Err(Error::MessageSize(self.transport.max_message()));
        }
        let (msize, dialect) = (self.msize, self.dialect);
        let version = dialect.version().as_bytes();
        let request = Request::Version { msize, version };
        let answer = self.call(&request, |reply| match *reply {
            Reply::Version { version, .. } if Dialect::from_version(version) != Some(dialect) => {
                Err(Error::NoCommonDialect)
            }
            Reply::Version { msize: agreed, .. } if agreed < msize => {
                Err(Error::MessageSize(agreed))
            }
            Reply::Version { msize: agreed, .. } if agreed > msize => {
                Err(Error::from(Violation::MessageSizeGrows))
            }
            _ => Ok(()),
        });
        match answer {
            // As good as "unknown".
            Err(Error::Errno(_) | Error::Unsupported { .. }) => Err(Error::NoCommonDialect),
            answer => answer,
        }
    }

    /// Gets all files again, the roots first. What has become of each, in the same order.
    pub(super) fn find_all(
        &mut self,
        files: &[(Fid, Option<Box<Record>>)],
    ) -> Result<Vec<Standing>, Error> {
        let mut found = Vec::new();
        found.resize(files.len(), Standing::Stale);
        let mut roots = Vec::new();
        for is_root in [true, false] {
            for ((fid, record), standing) in files.iter().zip(&mut found) {
                let Some(record) = record else { continue };
                if record.attach.is_some() != is_root || record.singular {
                    continue;
                }
                let root = roots.iter().find(|(root, _)| *root == record.root);
                let same = match (&record.attach, root) {
                    (Some(attach), _) => self.attach(*fid, record, attach),
                    (None, Some(&(_, root))) => self.find(*fid, record, root),
                    // It was closed before the file was.
                    (None, None) => continue,
                };
                match same {
                    Ok(true) => {
                        *standing = Standing::Revived;
                        if is_root {
                            roots.push((record.root, *fid));
                        }
                    }
                    // Some servers keep the fid of a walk that ended early.
                    Ok(false) | Err(Error::Errno(_) | Error::Unsupported { .. }) => {
                        match self.call(&Request::Clunk { fid: *fid }, |_| Ok(())) {
                            Ok(()) | Err(Error::Errno(_) | Error::Unsupported { .. }) => {}
                            Err(error) => return Err(error),
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    fn attach(&mut self, fid: Fid, record: &Record, attach: &Attach) -> Result<bool, Error> {
        let request = Request::Attach {
            fid,
            afid: Fid::NONE,
            uname: &attach.user,
            aname: &attach.tree,
            n_uname: attach.uid,
        };
        self.call(&request, |reply| match reply {
            Reply::Attach { qid } => Ok(record.is(*qid)),
            _ => Ok(false),
        })
    }

    /// Walks to the file from its root, opens it as it was, and says whether it is the same.
    fn find(&mut self, fid: Fid, record: &Record, root: Fid) -> Result<bool, Error> {
        let names: Vec<&[u8]> = record.names().collect();
        let mut from = root;
        let mut qid = None;
        let mut parts = names.chunks(MAX_ELEMENTS);
        // At least one walk, if only to the root itself.
        let mut part = parts.next().unwrap_or(&[]);
        loop {
            let request = Request::Walk {
                fid: from,
                newfid: fid,
                names: Names::from_slice(part).unwrap_or_default(),
            };
            let last: Option<Qid> = self.call(&request, |reply| match reply {
                Reply::Walk { qids } if qids.len() == part.len() => Ok(qids.last().copied()),
                _ => Err(Error::Errno(p9_wire::Errno::ENOENT)),
            })?;
            qid = last.or(qid);
            from = fid;
            match parts.next() {
                Some(next) => part = next,
                None => break,
            }
        }
        if !qid.is_none_or(|qid| record.is(qid)) {
            return Ok(false);
        }
        let opened = match record.open {
            None => return Ok(true),
            Some(Open::Linux(flags)) => Request::Lopen { fid, flags },
            Some(Open::Classic(mode)) => Request::Open { fid, mode },
        };
        let same = self.call(&opened, |reply| match reply {
            Reply::Lopen { qid, .. } | Reply::Open { qid, .. } => Ok(record.is(*qid)),
            _ => Ok(false),
        })?;
        match record.generation {
            Some(generation) if same => self.call(&identify(fid), |reply| match reply {
                Reply::Getattr { attr } => Ok(attr.generation == generation),
                _ => Ok(false),
            }),
            _ => Ok(same),
        }
    }

    /// Makes one request and waits for its reply.
    fn call<T>(
        &mut self,
        request: &Request<'_>,
        read: impl FnOnce(&Reply<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let tag = match request {
            Request::Version { .. } => Tag::NONE,
            _ => Tag(0),
        };
        let lane = Lane(tag.0 % self.transport.lanes().max(1));
        let limit = request.max_reply(self.dialect, self.msize);
        let needed = loop {
            match request.encode_head(tag, self.dialect, &mut self.message) {
                Ok(len) => break len,
                Err(p9_wire::WireError::Room { needed }) => self.message.resize(needed, 0),
                Err(_) => return Err(Error::NameTooLong),
            }
        };
        let deadline = (self.transport.now() + self.timeout).min(self.until);
        let head = self.message.get(..needed).unwrap_or(&[]);
        if !self.transport.send(lane, &[head], limit)? {
            return Err(Error::Protocol("no room for a first request"));
        }
        self.transport.flush()?;
        let header = loop {
            if let Some(header) = self.transport.peek(lane)? {
                break header;
            }
            if self.transport.now() >= deadline {
                return Err(Error::TimedOut);
            }
            self.transport.wait(deadline)?;
        };
        let is_error = matches!(header.kind, kind::RLERROR | kind::RERROR);
        if header.tag != tag.0 || (header.kind != request.kind() + 1 && !is_error) {
            return Err(Error::from(Violation::WrongType));
        }
        if header.size > limit {
            return Err(Error::from(Violation::TooLarge));
        }
        self.message.resize(header.size as usize, 0);
        self.transport.copy_out(lane, 0, &mut self.message);
        self.transport.consume(lane);
        self.transport.release(lane, limit);
        // As it was when it was looked at; a hostile server may have changed it since.
        if let Some(place) = self.message.first_chunk_mut::<HEADER_LEN>() {
            place[..4].copy_from_slice(&header.size.to_le_bytes());
            place[4] = header.kind;
        }
        let (_, reply) =
            Reply::decode(Reader::new(&self.message, self.dialect)).map_err(Error::Malformed)?;
        match reply.errno() {
            Some(errno) => Err(Error::refusal(errno, request.kind(), self.dialect)),
            None => read(&reply),
        }
    }
}
