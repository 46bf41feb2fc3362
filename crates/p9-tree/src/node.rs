//! The traits [`Node`] and [`OpenFile`].

use alloc::vec::Vec;

use p9_wire::{
    Attr, AttrMask, DirEntry, Errno, LockFlags, LockKind, LockStatus, OpenFlags, Qid, QidKind,
    SetAttr, Statfs, UnlinkFlags, XattrFlags,
};

use crate::{Error, Result};

/// A file of a tree: what a fid stands for. Clones mean the same file.
///
/// A node stays with its file when the file is renamed, and outlives its removal where the tree can do that. The root of
/// a tree is a node like any other; how one gets at it is the business of each tree.
///
/// # Names
/// A name is one component: not empty, not "." or "..", without "/" and NUL. Callers check that
/// ([`is_name`](crate::is_name)) before they call, and go back to a parent by keeping the node they came from. Symbolic
/// links are never followed: a node can be a link.
///
/// # Blocking
/// Methods are `async`, so that a tree that is itself remote can be served without holding up other requests. The
/// futures of a tree that never waits, such as one in memory, are ready at the first poll.
///
/// # Errors
/// Every method can fail with what the tree's own peer or disk reports. What a method is not implemented for is refused:
/// EROFS for a change, EOPNOTSUPP for a property that the tree lacks.
#[allow(
    async_fn_in_trait,
    reason = "callers poll the futures on the thread where they make them"
)]
pub trait Node: Clone {
    /// An open file of this tree.
    type File: OpenFile;

    /// The identity of the file, as it was when the node was made: kind, version, and a number that no other file of the
    /// tree has at the same time.
    fn qid(&self) -> Qid;

    /// The file of this name in this directory.
    ///
    /// # Errors
    /// ENOENT; ENOTDIR when this is no directory.
    async fn walk(&self, name: &[u8]) -> Result<Self>;

    /// Walks along `names` and appends each node to `nodes`, as far as the names lead. Override it where one request
    /// can do several steps.
    ///
    /// # Errors
    /// Those of the step that failed; `nodes` then has what came before it.
    async fn walk_along(&self, names: &[&[u8]], nodes: &mut Vec<Self>) -> Result<()> {
        let mut at = self.clone();
        for name in names {
            at = at.walk(name).await?;
            nodes.push(at.clone());
        }
        Ok(())
    }

    /// Walks along `names` to the last. Override it where one request can do several steps.
    ///
    /// # Errors
    /// Only what does not come of the names, such as the loss of a connection; see [`Walked`].
    async fn walk_at(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        let mut at = self.clone();
        for (index, name) in names.iter().enumerate() {
            if let Some(link) = index.checked_sub(1)
                && at.qid().kind.contains(QidKind::SYMLINK)
            {
                return Ok(Walked::Link(link));
            }
            match at.walk(name).await {
                Ok(next) => at = next,
                Err(error) if error.is_of_the_path() => return Ok(Walked::Blocked(index, error)),
                Err(error) => return Err(error),
            }
        }
        let qid = at.qid();
        Ok(Walked::Through(at, qid))
    }

    /// The directory that [`walk_at`](Self::walk_at) leads to, in which a program is about to change a name; `None` where it
    /// leads to anything else. Override it where directories are kept that names are changed in one after the other.
    ///
    /// # Errors
    /// Those of `walk_at`.
    async fn dir_at(&self, names: &[&[u8]]) -> Result<Option<Self>> {
        match self.walk_at(names).await? {
            Walked::Through(node, qid) if qid.kind.contains(QidKind::DIR) => Ok(Some(node)),
            _ => Ok(None),
        }
    }

    /// The attributes of what [`walk_at`](Self::walk_at) leads to. Override it where that takes fewer requests, or none
    /// has to wait for another.
    ///
    /// # Errors
    /// Those of `walk_at` and [`getattr`](Self::getattr).
    async fn getattr_at(&self, names: &[&[u8]], mask: AttrMask) -> Result<Walked<Attr>> {
        match self.walk_at(names).await? {
            Walked::Through(node, qid) => Ok(Walked::Through(node.getattr(mask).await?, qid)),
            Walked::Link(at) => Ok(Walked::Link(at)),
            Walked::Blocked(at, error) => Ok(Walked::Blocked(at, error)),
        }
    }

    /// Opens what [`walk_at`](Self::walk_at) leads to, unless that is a symbolic link, which is told as such. Override it
    /// where that takes fewer requests, or none has to wait for another.
    ///
    /// # Errors
    /// Those of `walk_at` and [`open`](Self::open).
    async fn open_at(&self, names: &[&[u8]], flags: OpenFlags) -> Result<Walked<Self::File>> {
        match self.walk_at(names).await? {
            Walked::Through(_, qid) if qid.kind.contains(QidKind::SYMLINK) => {
                Ok(Walked::Link(names.len().saturating_sub(1)))
            }
            Walked::Through(node, qid) => Ok(Walked::Through(node.into_open(flags).await?, qid)),
            Walked::Link(at) => Ok(Walked::Link(at)),
            Walked::Blocked(at, error) => Ok(Walked::Blocked(at, error)),
        }
    }

    /// The attributes in `mask`, and more where they cost nothing; [`Attr::valid`] says which.
    async fn getattr(&self, mask: AttrMask) -> Result<Attr>;

    /// Changes attributes: those that [`SetAttr::valid`] names, all or none where the tree can do that.
    async fn setattr(&self, _attr: &SetAttr) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Opens the file or directory. Of the flags, access mode, APPEND, TRUNCATE and DIRECTORY count; others are hints.
    ///
    /// # Errors
    /// EISDIR for writing to a directory, ENOTDIR for DIRECTORY on something else, ELOOP for a symbolic link.
    async fn open(&self, flags: OpenFlags) -> Result<Self::File>;

    /// [`open`](Self::open) for callers that need the node no more. Override it where a node can become an open file.
    ///
    /// # Errors
    /// Those of `open`.
    async fn into_open(self, flags: OpenFlags) -> Result<Self::File> {
        self.open(flags).await
    }

    /// Makes a regular file in this directory and opens it. Here and wherever something is made, the group
    /// [`u32::MAX`] leaves the choice to the tree.
    ///
    /// # Errors
    /// EEXIST when the name is taken and the flags have EXCLUSIVE; without it, a regular file of that name is opened.
    async fn create(
        &self,
        _name: &[u8],
        _flags: OpenFlags,
        _mode: u32,
        _gid: u32,
    ) -> Result<Created<Self>> {
        Err(Errno::EROFS.into())
    }

    /// [`create`](Self::create) for programs, which need neither this node any more nor that of the file. Override it where
    /// that takes fewer requests. What a directory whose setgid bit is set gives to new files comes before `gid`.
    ///
    /// # Errors
    /// Those of `create`.
    async fn into_create(
        self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Self::File> {
        Ok(self.create(name, flags, mode, gid).await?.file)
    }

    /// Makes an empty directory in this directory.
    ///
    /// # Errors
    /// EEXIST.
    async fn mkdir(&self, _name: &[u8], _mode: u32, _gid: u32) -> Result<Self> {
        Err(Errno::EROFS.into())
    }

    /// Makes a symbolic link in this directory that says `target`.
    ///
    /// # Errors
    /// EEXIST.
    async fn symlink(&self, _name: &[u8], _target: &[u8], _gid: u32) -> Result<Self> {
        Err(Errno::EROFS.into())
    }

    /// Makes a device, a named pipe, a socket name or an empty regular file in this directory, as `mode` says.
    ///
    /// # Errors
    /// EEXIST, EPERM.
    async fn mknod(
        &self,
        _name: &[u8],
        _mode: u32,
        _major: u32,
        _minor: u32,
        _gid: u32,
    ) -> Result<Self> {
        Err(Errno::EROFS.into())
    }

    /// Makes what is no regular file in this directory, for programs, which do not need its node. Override it where that
    /// takes fewer requests than [`mkdir`](Self::mkdir), [`symlink`](Self::symlink) and [`mknod`](Self::mknod). What a
    /// directory whose setgid bit is set gives to new files and directories comes before `gid` and is added to `mode`.
    ///
    /// # Errors
    /// Those of these three.
    async fn make(&self, name: &[u8], what: Make<'_>, mode: u32, gid: u32) -> Result<()> {
        match what {
            Make::Dir => self.mkdir(name, mode, gid).await.map(drop),
            Make::Symlink(target) => self.symlink(name, target, gid).await.map(drop),
            Make::Node { major, minor } => {
                self.mknod(name, mode, major, minor, gid).await.map(drop)
            }
        }
    }

    /// Gives `original`, a file of the same tree, one more name, in this directory.
    ///
    /// # Errors
    /// EEXIST, EPERM for a directory.
    async fn link(&self, _original: &Self, _name: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Renames what is called `name` in this directory to `new_name` in the directory `to` of the same tree, as rename(2).
    ///
    /// # Errors
    /// Those of rename(2).
    async fn rename(&self, _name: &[u8], _to: &Self, _new_name: &[u8]) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Removes a name from this directory: with [`UnlinkFlags::REMOVE_DIR`] an empty directory, without it anything else.
    ///
    /// # Errors
    /// ENOENT, EISDIR, ENOTDIR, ENOTEMPTY.
    async fn unlink(&self, _name: &[u8], _flags: UnlinkFlags) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Removes the directory `name` and all that is in it, without following symbolic links. Override it where a listing
    /// does not tell links from what they lead to.
    ///
    /// # Errors
    /// Those of [`unlink`](Self::unlink).
    async fn remove_all(&self, name: &[u8]) -> Result<()> {
        crate::remove::remove_all(self, name.to_vec()).await
    }

    /// What this symbolic link says.
    ///
    /// # Errors
    /// EINVAL when it is none.
    async fn readlink(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL.into())
    }

    /// How full the file system is that the file lies on.
    async fn statfs(&self) -> Result<Statfs> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// The value of an extended attribute of at most `max` bytes.
    ///
    /// # Errors
    /// ENODATA when there is none of this name, E2BIG when it is longer.
    async fn xattr(&self, _name: &[u8], _max: usize) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// The names of all extended attributes, each followed by a NUL, of at most `max` bytes.
    ///
    /// # Errors
    /// E2BIG when they are longer.
    async fn list_xattrs(&self, _max: usize) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// EEXIST and ENODATA as the flags ask, ENOSPC.
    async fn set_xattr(&self, _name: &[u8], _value: &[u8], _flags: XattrFlags) -> Result<()> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// ENODATA when there is none of this name.
    async fn remove_xattr(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP.into())
    }
}

/// What [`Node::make`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make<'a> {
    /// A directory.
    Dir,
    /// A symbolic link that says this.
    Symlink(&'a [u8]),
    /// What the mode says, as [`Node::mknod`].
    Node {
        /// The major number of a device.
        major: u32,
        /// The minor number of a device.
        minor: u32,
    },
}

/// How a walk along several names ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked<T> {
    /// Behind the last name: what was asked for, and the identity of the file that the names lead to. That can be a
    /// symbolic link.
    Through(T, Qid),
    /// At a symbolic link that more names come behind; the index of its name.
    Link(usize),
    /// At the name with this index, which can't be walked to, for this reason.
    Blocked(usize, Error),
}

impl<T> Walked<T> {
    /// The same with another form of what was asked for.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Walked<U> {
        match self {
            Walked::Through(found, qid) => Walked::Through(form(found), qid),
            Walked::Link(at) => Walked::Link(at),
            Walked::Blocked(at, error) => Walked::Blocked(at, error),
        }
    }
}

/// A file that [`Node::create`] made, or found, and opened.
#[derive(Debug)]
pub struct Created<N: Node> {
    /// The file.
    pub node: N,
    /// The same, open.
    pub file: N::File,
}

/// An open file or directory of a tree, without a position. Dropping it closes it and gives back its locks.
#[allow(
    async_fn_in_trait,
    reason = "callers poll the futures on the thread where they make them"
)]
pub trait OpenFile {
    /// Reads bytes at `offset`; fewer than asked for only at the end, or where the file has no more for now. 0: the end.
    ///
    /// # Errors
    /// EBADF for a file that is not open for reading, EISDIR for a directory.
    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes bytes at `offset`, or at the end if the file was opened with APPEND; returns how many. 0 only for none.
    ///
    /// # Errors
    /// EBADF for a file that is not open for writing.
    async fn write(&self, _from: &[u8], _offset: u64) -> Result<usize> {
        Err(Errno::EBADF.into())
    }

    /// Hands the entries of a directory to `each`, from the one behind `offset` on (0: the first, else the offset of an
    /// entry seen before), until `each` returns `false`, which means that it did not take that entry. Whether "." and
    /// ".." are among them is left to the tree.
    ///
    /// # Errors
    /// ENOTDIR when this is no directory.
    async fn readdir(
        &self,
        _offset: u64,
        _each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        Err(Errno::ENOTDIR.into())
    }

    /// The attributes in `mask`, as [`Node::getattr`].
    ///
    /// # Errors
    /// EOPNOTSUPP where the tree tells them of nodes only.
    async fn getattr(&self, _mask: AttrMask) -> Result<Attr> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Changes attributes, as [`Node::setattr`].
    ///
    /// # Errors
    /// EROFS where the tree has no changes, or changes them by nodes only.
    async fn setattr(&self, _attr: &SetAttr) -> Result<()> {
        Err(Errno::EROFS.into())
    }

    /// Returns when the content, and unless `data_only` the attributes too, are on stable storage.
    async fn fsync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    /// Takes or gives back a lock on a range of bytes (length 0: to the end) for the process `owner` of the machine
    /// `client`. Never waits: [`LockStatus::BLOCKED`] says that another lock is in the way.
    async fn lock(&self, _lock: &Lock<'_>, _flags: LockFlags) -> Result<LockStatus> {
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Closes the file and reports what there is to report. It is closed even then.
    ///
    /// # Errors
    /// What the tree's peer or disk finds only now, such as the failure of a write.
    async fn close(self) -> Result<()>
    where
        Self: Sized,
    {
        Ok(())
    }

    /// The lock that is in the way of this one, if there is one.
    async fn getlock(&self, _lock: &Lock<'_>) -> Result<Option<HeldLock>> {
        Err(Errno::EOPNOTSUPP.into())
    }
}

/// A lock that a process asks for, or asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock<'a> {
    /// Shared, exclusive, or giving back.
    pub kind: LockKind,
    /// The first byte.
    pub start: u64,
    /// How many bytes; 0: to the end of the file, however far it grows.
    pub length: u64,
    /// The number of the process that asks.
    pub owner: u32,
    /// The name of the machine that asks.
    pub client: &'a [u8],
}

/// A lock that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLock {
    /// Shared or exclusive.
    pub kind: LockKind,
    /// The first byte.
    pub start: u64,
    /// How many bytes; 0: to the end.
    pub length: u64,
    /// The number of the process that holds it, 0 where the tree does not know.
    pub owner: u32,
    /// The name of the machine that holds it.
    pub client: Vec<u8>,
}

/// Whether these bytes are a name that trees take: one component, and neither "." nor "..".
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != b"."
        && name != b".."
        && !name.contains(&b'/')
        && !name.contains(&0)
}

/// The longest name of a file, in bytes.
pub const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component() {
        for name in [&b"a"[..], b"...", b".a", b"\xff", &[b'x'; MAX_NAME]] {
            assert!(is_name(name), "{name:?}");
        }
        for name in [
            &b""[..],
            b".",
            b"..",
            b"a/b",
            b"/",
            b"a\0",
            &[b'x'; MAX_NAME + 1],
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
