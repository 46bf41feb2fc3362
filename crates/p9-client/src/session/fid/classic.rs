//! The requests of 9P2000 and 9P2000.u.

use super::{Fid, opened};
use crate::Error;
use p9_wire::{DirMode, OpenMode, Qid, Reply, Request, Stat};

/// The requests of 9P2000 and 9P2000.u. In 9P2000.L all of these are [`Error::Unsupported`].
impl Fid {
    /// Opens the file. Returns what it is and the largest read or write (iounit; 0: no limit but
    /// msize).
    ///
    /// # Errors
    /// What the server refuses.
    pub fn open(&self, mode: OpenMode) -> impl Future<Output = Result<(Qid, u32), Error>> {
        let request = Request::Open {
            fid: self.number(),
            mode,
        };
        self.session().call(request, opened)
    }

    /// Makes a file, directory, link or device in this directory and opens it; the fid stands for it
    /// then. What `extension` says depends on the kind, see [`DirMode`]; 9P2000 has none.
    ///
    /// # Errors
    /// What the server refuses. The fid should not be used after that: xen-9pfsd moves it all the
    /// same.
    pub fn create<'a>(
        &'a mut self,
        name: &'a [u8],
        perm: DirMode,
        mode: OpenMode,
        extension: &'a [u8],
    ) -> impl Future<Output = Result<(Qid, u32), Error>> {
        let request = Request::Create {
            fid: self.number(),
            name,
            perm,
            mode,
            extension,
        };
        self.session().call(request, opened)
    }

    /// Hands the attributes to `read` and returns what that makes of them. xen-9pfsd dies of this if
    /// the fid is its root's.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn stat<'a, T>(
        &'a self,
        mut read: impl FnMut(&Stat<'_>) -> T + 'a,
    ) -> impl Future<Output = Result<T, Error>> {
        let request = Request::Stat { fid: self.number() };
        self.session().call(request, move |reply| match reply {
            Reply::Stat { stat } => Some(read(stat)),
            _ => None,
        })
    }

    /// Changes attributes, those that differ from [`Stat::UNCHANGED`].
    ///
    /// # Errors
    /// What the server refuses; in 9P2000 nothing has changed then.
    pub fn wstat<'a>(&'a self, stat: Stat<'a>) -> impl Future<Output = Result<(), Error>> {
        self.session().call_unit(Request::Wstat {
            fid: self.number(),
            stat,
        })
    }
}
