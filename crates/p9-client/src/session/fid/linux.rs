//! The requests of 9P2000.L.

use alloc::vec::Vec;

use super::{Fid, opened};
use crate::Error;
use p9_tree::try_copy;
use p9_wire::{
    Attr, AttrMask, LockFlags, LockKind, LockStatus, OpenFlags, Qid, Reply, Request, SetAttr,
    Statfs, UnlinkFlags, XattrFlags,
};

macro_rules! reply {
    ($variant:ident { $field:ident }) => {
        |reply| match *reply {
            Reply::$variant { $field } => Some($field),
            _ => None,
        }
    };
}

/// The requests of 9P2000.L. In other dialects all of these are [`Error::Unsupported`].
impl Fid {
    /// Opens the file. Returns what it is and the largest read or write (iounit; 0: no limit but
    /// msize).
    ///
    /// # Errors
    /// What the server refuses.
    pub fn lopen(&self, flags: OpenFlags) -> impl Future<Output = Result<(Qid, u32), Error>> {
        let request = Request::Lopen {
            fid: self.number,
            flags,
        };
        self.session.call(request, opened)
    }

    /// Makes a file in this directory and opens it; the fid stands for the file then.
    ///
    /// # Errors
    /// What the server refuses. The fid should not be used after that: xen-9pfsd moves it all the
    /// same.
    pub fn lcreate<'a>(
        &'a mut self,
        name: &'a [u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> impl Future<Output = Result<(Qid, u32), Error>> {
        let request = Request::Lcreate {
            fid: self.number,
            name,
            flags,
            mode,
            gid,
        };
        self.session.call(request, opened)
    }

    /// Attributes of the file.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn getattr(&self, mask: AttrMask) -> impl Future<Output = Result<Attr, Error>> {
        let request = Request::Getattr {
            fid: self.number,
            mask,
        };
        self.session.call(request, reply!(Getattr { attr }))
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// What the server refuses; some of the attributes may have changed then.
    pub fn setattr(&self, attr: SetAttr) -> impl Future<Output = Result<(), Error>> {
        self.session.call_unit(Request::Setattr {
            fid: self.number,
            attr,
        })
    }

    /// About the file system.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn statfs(&self) -> impl Future<Output = Result<Statfs, Error>> {
        let request = Request::Statfs { fid: self.number };
        self.session.call(request, reply!(Statfs { statfs }))
    }

    /// Waits until the file is on stable storage; `data_only`: its attributes need not be.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn fsync(&self, data_only: bool) -> impl Future<Output = Result<(), Error>> {
        self.session.call_unit(Request::Fsync {
            fid: self.number,
            datasync: data_only.into(),
        })
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn readlink(&self) -> Result<Vec<u8>, Error> {
        let request = Request::Readlink { fid: self.number };
        let target = self.session.call(request, |reply| match *reply {
            Reply::Readlink { target } => Some(try_copy(target)),
            _ => None,
        });
        target.await?
    }

    /// Makes a symbolic link in this directory.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn symlink<'a>(
        &'a self,
        name: &'a [u8],
        target: &'a [u8],
        gid: u32,
    ) -> impl Future<Output = Result<(), Error>> {
        self.session.call_unit(Request::Symlink {
            dfid: self.number,
            name,
            target,
            gid,
        })
    }

    /// Makes a hard link to `file` in this directory.
    ///
    /// # Errors
    /// What the server refuses; [`Error::Closed`] for a file of another session.
    pub async fn link(&self, file: &Fid, name: &[u8]) -> Result<(), Error> {
        self.session.same(&file.session)?;
        self.session
            .call_unit(Request::Link {
                dfid: self.number,
                fid: file.number,
                name,
            })
            .await
    }

    /// Makes a device, named pipe or socket in this directory.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn mknod<'a>(
        &'a self,
        name: &'a [u8],
        mode: u32,
        (major, minor): (u32, u32),
        gid: u32,
    ) -> impl Future<Output = Result<(), Error>> {
        self.session.call_unit(Request::Mknod {
            dfid: self.number,
            name,
            mode,
            major,
            minor,
            gid,
        })
    }

    /// Makes a directory in this directory, and tells its qid.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn mkdir<'a>(
        &'a self,
        name: &'a [u8],
        mode: u32,
        gid: u32,
    ) -> impl Future<Output = Result<Qid, Error>> {
        let request = Request::Mkdir {
            dfid: self.number,
            name,
            mode,
            gid,
        };
        self.session.call(request, reply!(Mkdir { qid }))
    }

    /// Moves `old` of this directory to `new` of directory `to`.
    ///
    /// # Errors
    /// What the server refuses; [`Error::Closed`] for a directory of another session.
    pub async fn renameat(&self, old: &[u8], to: &Fid, new: &[u8]) -> Result<(), Error> {
        self.session.same(&to.session)?;
        self.session
            .call_unit(Request::Renameat {
                olddirfid: self.number,
                oldname: old,
                newdirfid: to.number,
                newname: new,
            })
            .await
    }

    /// Moves this file, which must not be open, to `name` in directory `to`.
    ///
    /// # Errors
    /// As [`renameat`](Self::renameat).
    pub async fn rename(&self, to: &Fid, name: &[u8]) -> Result<(), Error> {
        self.session.same(&to.session)?;
        self.session
            .call_unit(Request::Rename {
                fid: self.number,
                dfid: to.number,
                name,
            })
            .await
    }

    /// Removes a name from this directory.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn unlinkat<'a>(
        &'a self,
        name: &'a [u8],
        flags: UnlinkFlags,
    ) -> impl Future<Output = Result<(), Error>> {
        self.session.call_unit(Request::Unlinkat {
            dirfid: self.number,
            name,
            flags,
        })
    }

    /// A fid for an extended attribute of this file, to be read; for an empty name, for the list of
    /// their names, each with a NUL behind it. Returns its size too.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn xattrwalk(&self, name: &[u8]) -> Result<(Fid, u64), Error> {
        let new = Fid::new(&self.session)?;
        let request = Request::Xattrwalk {
            fid: self.number,
            newfid: new.number,
            name,
        };
        let size = self
            .session
            .call(request, reply!(Xattrwalk { size }))
            .await?;
        Ok((new, size))
    }

    /// Makes this fid an extended attribute of its file, to be written; it is set, or with a size of
    /// 0 removed, when the fid is [`close`](Self::close)d.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn xattrcreate<'a>(
        &'a mut self,
        name: &'a [u8],
        size: u64,
        flags: XattrFlags,
    ) -> impl Future<Output = Result<(), Error>> {
        self.session.call_unit(Request::Xattrcreate {
            fid: self.number,
            name,
            size,
            flags,
        })
    }

    /// Takes or releases a lock on bytes of the open file.
    ///
    /// # Errors
    /// What the server refuses.
    pub fn lock<'a>(
        &'a self,
        kind: LockKind,
        start: u64,
        length: u64,
        owner: (u32, &'a [u8]),
    ) -> impl Future<Output = Result<LockStatus, Error>> {
        let request = Request::Lock {
            fid: self.number,
            kind,
            flags: LockFlags::empty(),
            start,
            length,
            proc_id: owner.0,
            client_id: owner.1,
        };
        self.session.call(request, reply!(Lock { status }))
    }
}
