//! After a reconnect: negotiates the same dialect and msize with the new server, and opens the session's files there.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::fid_table::FidStatus;
use super::journal::{Attach, FidSnapshot, Open, identify};
use super::{Config, Session, Violation};
use crate::transport::Transport;
use crate::{Dialect, Error};
use p9_wire::{Fid, MAX_ELEMENTS, Names, Qid, Reply, Request};
use xen9p_time::Instant;

/// A session of its own over the new transport, in which the files get their old numbers.
pub(super) struct Reattach {
    session: Session,
    timeout: Duration,
    /// When all of it has to be over.
    until: Instant,
}

impl Reattach {
    pub(super) fn new(
        transport: Box<dyn Transport>,
        dialect: Dialect,
        msize: u32,
        timeout: Duration,
        until: Instant,
    ) -> Result<Self, Error> {
        let config = Config {
            msize,
            window: 1,
            timeout,
        };
        let session = Session::new(transport, &config)?;
        session.shared.dialect.set(dialect);
        session.with_or((), |engine| {
            engine.prepare_reattach(dialect);
        });
        Ok(Reattach {
            session,
            timeout,
            until,
        })
    }

    /// Does all of it. What has become of each file, in the same order.
    ///
    /// # Errors
    /// [`Error::Stale`]: a tree is another one, and `same_trees` says that none may be.
    pub(super) fn run(
        &self,
        files: &[(Fid, Option<Box<FidSnapshot>>)],
        same_trees: bool,
    ) -> Result<Vec<FidStatus>, Error> {
        let answer = self.session.block_on(async {
            self.negotiate().await?;
            self.find_all(files, same_trees).await
        });
        if answer.is_err() {
            self.session.abort();
        }
        answer
    }

    /// Gives the transport away.
    pub(super) fn into_transport(self) -> Option<Box<dyn Transport>> {
        self.session.into_transport()
    }

    /// Agrees on what was agreed on before.
    async fn negotiate(&self) -> Result<(), Error> {
        let (msize, dialect) = (self.session.msize(), self.session.dialect());
        let version = dialect.version().as_bytes();
        let request = Request::Version { msize, version };
        let answer = self.call(request, |reply| match *reply {
            Reply::Version { msize, version } => Some((msize, Dialect::from_version(version))),
            _ => None,
        });
        match answer.await {
            Ok((_, agreed)) if agreed != Some(dialect) => Err(Error::NoCommonDialect),
            Ok((agreed, _)) if agreed < msize => Err(Error::MessageSize(agreed)),
            Ok((agreed, _)) if agreed > msize => Err(Violation::MessageSizeGrows.into()),
            Ok(_) => Ok(()),
            // As good as "unknown".
            Err(Error::Errno(_) | Error::Unsupported { .. }) => Err(Error::NoCommonDialect),
            Err(error) => Err(error),
        }
    }

    /// Gets all files again, the roots first. What has become of each, in the same order.
    async fn find_all(
        &self,
        files: &[(Fid, Option<Box<FidSnapshot>>)],
        same_trees: bool,
    ) -> Result<Vec<FidStatus>, Error> {
        let mut found = Vec::new();
        found.resize(files.len(), FidStatus::Stale);
        let mut roots = Vec::new();
        for is_root in [true, false] {
            for ((fid, snapshot), status) in files.iter().zip(&mut found) {
                let Some(snapshot) = snapshot else { continue };
                if snapshot.attach.is_some() != is_root || snapshot.singular {
                    continue;
                }
                let root = roots.iter().find(|(root, _)| *root == snapshot.root);
                let same = match (&snapshot.attach, root) {
                    (Some(attach), _) => self.attach(*fid, snapshot, attach).await,
                    (None, Some(&(_, root))) => self.find(*fid, snapshot, root).await,
                    // It was closed before the file was.
                    (None, None) => continue,
                };
                match same {
                    Ok(true) => {
                        *status = FidStatus::Reopened;
                        if is_root {
                            roots.push((snapshot.root, *fid));
                        }
                    }
                    // No file is looked for below it.
                    Ok(false) | Err(Error::Errno(_) | Error::Unsupported { .. })
                        if is_root && same_trees =>
                    {
                        return Err(Error::Stale);
                    }
                    // Some servers keep the fid of a walk that ended early.
                    Ok(false) | Err(Error::Errno(_) | Error::Unsupported { .. }) => {
                        let clunked = self.call(Request::Clunk { fid: *fid }, |_| Some(()));
                        match clunked.await {
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

    async fn attach(
        &self,
        fid: Fid,
        snapshot: &FidSnapshot,
        attach: &Attach,
    ) -> Result<bool, Error> {
        let request = Request::Attach {
            fid,
            afid: Fid::NONE,
            uname: &attach.user,
            aname: &attach.tree,
            n_uname: attach.uid,
        };
        let same = self.call(request, |reply| match reply {
            Reply::Attach { qid } => Some(snapshot.is(*qid)),
            _ => None,
        });
        let same = same.await?;
        Ok(same && self.is_generation(fid, snapshot).await?)
    }

    /// Walks to the file from its root, opens it as it was, and says whether it is the same.
    async fn find(&self, fid: Fid, snapshot: &FidSnapshot, root: Fid) -> Result<bool, Error> {
        let names: Vec<&[u8]> = snapshot.names().collect();
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
            let walked = self.call(request, |reply| match reply {
                Reply::Walk { qids } => Some((qids.len(), qids.last().copied())),
                _ => None,
            });
            let (count, last): (usize, Option<Qid>) = walked.await?;
            if count != part.len() {
                return Ok(false);
            }
            qid = last.or(qid);
            from = fid;
            match parts.next() {
                Some(next) => part = next,
                None => break,
            }
        }
        if !qid.is_none_or(|qid| snapshot.is(qid)) {
            return Ok(false);
        }
        let opened = match snapshot.open {
            None => return Ok(true),
            Some(Open::Linux(flags)) => Request::Lopen { fid, flags },
            Some(Open::Classic(mode)) => Request::Open { fid, mode },
        };
        let same = self.call(opened, |reply| match reply {
            Reply::Lopen { qid, .. } | Reply::Open { qid, .. } => Some(snapshot.is(*qid)),
            _ => None,
        });
        let same = same.await?;
        Ok(same && self.is_generation(fid, snapshot).await?)
    }

    /// Whether the file's generation is the same, if it is known.
    async fn is_generation(&self, fid: Fid, snapshot: &FidSnapshot) -> Result<bool, Error> {
        let Some(generation) = snapshot.generation else {
            return Ok(true);
        };
        let found = self.call(identify(fid), |reply| match reply {
            Reply::Getattr { attr } => Some(attr.generation == generation),
            _ => None,
        });
        found.await
    }

    /// Makes one request, within what is left of the time.
    async fn call<'a, T>(
        &'a self,
        request: Request<'a>,
        read: impl FnMut(&Reply<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let left = self.until - self.session.now();
        let timeout = self.timeout.min(left);
        self.session
            .with_or((), |engine| engine.set_timeout(timeout));
        self.session.call(request, read).await
    }
}
