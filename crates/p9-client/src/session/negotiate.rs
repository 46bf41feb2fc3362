//! The beginning of a session: dialect, message size, attach.

use alloc::rc::Rc;

use super::{Fid, MIN_MSIZE, Session, Violation};
use crate::{Dialect, Error};
use p9_wire::{self as wire, Qid, Reply, Request};

impl Session {
    /// Agrees with the server on one of `dialects`, tried in this order, and on the message size.
    ///
    /// A server says no with "unknown", with an error, or by offering a lower dialect, which is
    /// taken if it is one of those wanted.
    ///
    /// # Errors
    /// [`Error::NoCommonDialect`], [`Error::MessageSize`].
    pub async fn negotiate(&self, dialects: &[Dialect]) -> Result<(), Error> {
        let wanted = self.msize();
        for &dialect in dialects {
            let version = dialect.version().as_bytes();
            let request = Request::Version {
                msize: wanted,
                version,
            };
            let answer = self
                .call(request, |reply| match *reply {
                    Reply::Version { msize, version } => {
                        Some((msize, Dialect::from_version(version)))
                    }
                    _ => None,
                })
                .await;
            let (msize, agreed) = match answer {
                Ok((msize, Some(agreed))) if dialects.contains(&agreed) => (msize, agreed),
                Ok(_) | Err(Error::Errno(_)) => continue,
                Err(error) => return Err(error),
            };
            if msize > wanted {
                return Err(self.protocol_error(Violation::MessageSizeGrows));
            }
            if msize < MIN_MSIZE {
                return Err(Error::MessageSize(msize));
            }
            self.shared.dialect.set(agreed);
            self.shared.msize.set(msize);
            self.with_or((), |engine| engine.agree(agreed, msize));
            log::info!("9P session: {agreed}, messages up to {msize} bytes");
            return Ok(());
        }
        Err(Error::NoCommonDialect)
    }

    /// Opens the root of a tree. `user` and `uid` name the user, `tree` the tree (aname); `auth` is the
    /// file that [`auth`](Self::auth) gave and on which the server was convinced.
    ///
    /// # Errors
    /// What the server refuses; [`Error::Closed`] for a file of another session; [`Error::InvalidInput`] for
    /// `auth` in a session that [recovers](Self::set_recovery).
    pub async fn attach(
        &self,
        auth: Option<&Fid>,
        user: &[u8],
        uid: u32,
        tree: &[u8],
    ) -> Result<(Fid, Qid), Error> {
        if let Some(auth) = auth {
            self.same(auth.session())?;
            self.can_prove()?;
        }
        let root = Fid::new(self)?;
        let request = Request::Attach {
            fid: root.number(),
            afid: auth.map_or(wire::Fid::NONE, Fid::number),
            uname: user,
            aname: tree,
            n_uname: uid,
        };
        let qid = self
            .call(request, |reply| match *reply {
                Reply::Attach { qid } => Some(qid),
                _ => None,
            })
            .await?;
        Ok((root, qid))
    }

    /// Asks for a file to authenticate on: the program reads and writes the authentication protocol
    /// on it and then gives it to [`attach`](Self::attach).
    ///
    /// # Errors
    /// A server that wants no authentication answers with an error. Where it wants one and the session
    /// [recovers](Self::set_recovery), that is [`Error::InvalidInput`]: what convinced one server is nothing to the
    /// next, and the program can't be asked to begin again in the middle of another operation.
    pub async fn auth(&self, user: &[u8], uid: u32, tree: &[u8]) -> Result<(Fid, Qid), Error> {
        let afid = Fid::new(self)?;
        let request = Request::Auth {
            afid: afid.number(),
            uname: user,
            aname: tree,
            n_uname: uid,
        };
        let qid = self
            .call(request, |reply| match *reply {
                Reply::Auth { aqid } => Some(aqid),
                _ => None,
            })
            .await?;
        self.can_prove()?;
        Ok((afid, qid))
    }

    /// Refuses to authenticate where that would have to be done again after a loss.
    fn can_prove(&self) -> Result<(), Error> {
        match self.with_or(false, |engine| engine.recovers()) {
            false => Ok(()),
            true => Err(Error::InvalidInput(
                &"this server wants authentication, which can't be repeated after a loss of the connection; mount without recovery",
            )),
        }
    }

    /// Refuses what belongs to another session.
    pub(super) fn same(&self, other: &Session) -> Result<(), Error> {
        let same = Rc::ptr_eq(&self.shared, &other.shared);
        if same { Ok(()) } else { Err(Error::Closed) }
    }

    /// The server broke a rule: ends what that ends, and returns the error.
    pub(crate) fn protocol_error(&self, violation: Violation) -> Error {
        let error = violation.into();
        self.with_or(error, |engine| engine.protocol_error(error))
    }
}
