//! The requests of 9P2000 and 9P2000.u.

use super::Fid;
use crate::p9::Error;
use crate::p9::wire::{DirMode, OpenMode, Qid, Reply, Request, Stat};

/// The requests of 9P2000 and 9P2000.u. In 9P2000.L all of these are [`Error::Unsupported`].
impl Fid {
    /// Opens the file. Returns what it is and the largest read or write (iounit; 0: no limit but
    /// msize).
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn open(&self, mode: OpenMode) -> Result<(Qid, u32), Error> {
        let request = Request::Open {
            fid: self.number(),
            mode,
        };
        self.session()
            .call(request, |reply| match *reply {
                Reply::Open { qid, iounit } => Some((qid, iounit)),
                _ => None,
            })
            .await
    }

    /// Makes a file, directory, link or device in this directory and opens it; the fid stands for it
    /// then. What `extension` says depends on the kind, see [`DirMode`]; 9P2000 has none.
    ///
    /// # Errors
    /// What the server refuses. The fid should not be used after that: xen-9pfsd moves it all the
    /// same.
    pub async fn create(
        &mut self,
        name: &[u8],
        perm: DirMode,
        mode: OpenMode,
        extension: &[u8],
    ) -> Result<(Qid, u32), Error> {
        let request = Request::Create {
            fid: self.number(),
            name,
            perm,
            mode,
            extension,
        };
        self.session()
            .call(request, |reply| match *reply {
                Reply::Create { qid, iounit } => Some((qid, iounit)),
                _ => None,
            })
            .await
    }

    /// Hands the attributes to `read` and returns what that makes of them. xen-9pfsd dies of this if
    /// the fid is its root's.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn stat<T>(&self, read: impl FnOnce(&Stat<'_>) -> T) -> Result<T, Error> {
        let request = Request::Stat { fid: self.number() };
        self.session()
            .call(request, |reply| match reply {
                Reply::Stat { stat } => Some(read(stat)),
                _ => None,
            })
            .await
    }

    /// Changes attributes, those that differ from [`Stat::UNCHANGED`].
    ///
    /// # Errors
    /// What the server refuses; in 9P2000 nothing has changed then.
    pub async fn wstat(&self, stat: Stat<'_>) -> Result<(), Error> {
        self.session()
            .order(Request::Wstat {
                fid: self.number(),
                stat,
            })
            .await
    }
}
