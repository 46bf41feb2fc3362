//! The trait [`Node`].

use alloc::vec::Vec;

use p9_wire::{
    Attr, AttrMask, Errno, OpenFlags, Qid, QidKind, SetAttr, Statfs, UnlinkFlags, XattrFlags,
};

use crate::{Driver, DynNode, NeverWaits, OpenFile, Result, Walked};

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

    /// The same node behind one type for the nodes of all trees: [`DynNode::new`]. Only that type overrides it, so that nothing
    /// stands behind it twice.
    fn into_dyn(self) -> DynNode
    where
        Self: 'static,
        Self::File: 'static,
    {
        DynNode::of_other_type(self)
    }

    /// How callers that block wait for this tree. Override it where a tree waits.
    fn driver(&self) -> &dyn Driver {
        &NeverWaits
    }

    /// What becomes of the mode and the group of what programs make in this directory.
    fn new_files(&self) -> NewFiles {
        NewFiles::default()
    }

    /// Whether [`into_create`](Self::into_create) sees to it that a name is free, and further open flags are carried: not in
    /// 9P2000 and 9P2000.u, where programs have to look first.
    ///
    /// # Errors
    /// EOPNOTSUPP where neither is so.
    fn check_flags(&self) -> Result<()> {
        Ok(())
    }

    /// Whether the server may have few fids, as xen-9pfsd has five: then operations in this directory are done one after the
    /// other, and no node is held longer than one takes.
    fn has_few_fids(&self) -> bool {
        false
    }

    /// Whether [`dir_at`](Self::dir_at) gave this directory without looking, so that another may be in its place by now.
    /// After an error that this would explain, `dir_at` looks again.
    fn is_kept(&self) -> bool {
        false
    }

    /// The same directory, for several operations at the same time that [`driver`](Self::driver) waits for. Override it where
    /// an operation waits for itself.
    fn concurrent(&self) -> Self {
        self.clone()
    }

    /// The same where its version does not matter, which may be one from before: for those who want to know the kind of the
    /// file, or whether two nodes are one file. A tree that has to ask for the version need not.
    fn identity(&self) -> Qid {
        self.qid()
    }

    /// Grows whenever what was known of the tree may not be so any more and nothing else tells, as after the loss of a
    /// connection.
    fn epoch(&self) -> u64 {
        0
    }

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

    /// [`walk_along`](Self::walk_along) for callers that are about to ask for the attributes of the last node, once and at once, and then let go of
    /// it. Override it where a file can be looked at for less than a node costs that stays with its file: such a node may
    /// fail with ESTALE when it is used for anything else after its name became another's.
    ///
    /// # Errors
    /// Those of `walk_along`.
    async fn look_along(&self, names: &[&[u8]], nodes: &mut Vec<Self>) -> Result<()> {
        self.walk_along(names, nodes).await
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

    /// [`walk_at`](Self::walk_at) to a directory in which a program is about to change a name. Override it where directories
    /// are kept that names are changed in one after the other.
    ///
    /// # Errors
    /// Those of `walk_at`.
    async fn dir_at(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        self.walk_at(names).await
    }

    /// The attributes of what [`walk_at`](Self::walk_at) leads to. Override it where that takes fewer requests, or none
    /// has to wait for another.
    ///
    /// # Errors
    /// Those of `walk_at` and [`getattr`](Self::getattr).
    async fn getattr_at(&self, names: &[&[u8]], mask: AttrMask) -> Result<Walked<Attr>> {
        let walked = self.walk_at(names).await?;
        walked.then(async |node| node.getattr(mask).await).await
    }

    /// Opens what [`walk_at`](Self::walk_at) leads to, unless that is a symbolic link, which is told as such. Override it
    /// where that takes fewer requests, or none has to wait for another.
    ///
    /// # Errors
    /// Those of `walk_at` and [`open`](Self::open).
    async fn open_at(&self, names: &[&[u8]], flags: OpenFlags) -> Result<Walked<Self::File>> {
        let walked = self.walk_at(names).await?.stop_at_link(names.len());
        walked.then(async |node| node.into_open(flags).await).await
    }

    /// What the symbolic link says that [`walk_at`](Self::walk_at) leads to. Override it where that is known without asking.
    ///
    /// # Errors
    /// Those of `walk_at`; EINVAL for what is no symbolic link.
    async fn readlink_at(&self, names: &[&[u8]]) -> Result<Walked<Vec<u8>>> {
        let walked = self.walk_at(names).await?;
        let read = async |node: Self| match node.qid().kind.contains(QidKind::SYMLINK) {
            true => node.readlink().await,
            false => Err(Errno::EINVAL.into()),
        };
        walked.then(read).await
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

    /// [`create`](Self::create) for programs, which need neither this node any more nor that of the file, and looked the name
    /// up where [`check_flags`](Self::check_flags) wants it. Override it where that takes fewer requests. What a directory whose setgid bit is set gives to new files comes before `gid`.
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

    /// Makes what is no regular file in this directory, for programs, which need neither this node any more nor that of what
    /// is made. Override it where that takes fewer requests than [`mkdir`](Self::mkdir), [`symlink`](Self::symlink) and [`mknod`](Self::mknod). What a
    /// directory whose setgid bit is set gives to new files and directories comes before `gid` and is added to `mode`.
    ///
    /// # Errors
    /// Those of these three.
    async fn make(self, name: &[u8], what: Make<'_>, mode: u32, gid: u32) -> Result<()> {
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
        crate::remove_all(self, name).await
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

/// What becomes of the mode and the group of new files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewFiles {
    /// Permission bits that they never get.
    pub umask: u32,
    /// The group that they get.
    pub gid: u32,
}

impl Default for NewFiles {
    /// umask 022 and group 0.
    fn default() -> Self {
        NewFiles {
            umask: 0o022,
            gid: 0,
        }
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

/// A file that [`Node::create`] made, or found, and opened.
#[derive(Debug)]
pub struct Created<N: Node> {
    /// The file.
    pub node: N,
    /// The same, open.
    pub file: N::File,
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
