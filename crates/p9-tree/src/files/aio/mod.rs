//! The asynchronous face: the operations of [`files`](super) as `async` functions for any executor.
//!
//! The functions use nothing but `core::task`. Dropping a future gives the operation up; a tree on a server takes its
//! requests back.

mod copy_each;
mod copying;
mod dir;
mod each;
mod file;
mod lookup;
mod names;
mod open;
mod several;
mod whole;

use alloc::string::String;
use alloc::vec::Vec;

use p9_wire::{AttrMask, Errno, QidKind, SetAttr, SetAttrMask, XattrFlags};

use crate::files::failed;
use crate::{
    CleanPath, Driver, Error, FileTimes, FileType, Metadata, Node, OpenOptions, Permissions,
    Result, StatFs, Walked,
};

pub use copy_each::CopyingFiles;
pub use copying::{CopyError, Copying};
pub use dir::{DirEntry, ReadDir};
pub use each::{Each, Removing, WithMetadata};
pub use file::File;
pub(crate) use lookup::{Found, Lookup};
pub(in crate::files) use several::{
    CopyingDir, DIRS_AT_ONCE, MOST_AHEAD, RemovingDir, Several, Tasks,
};

/// What is asked for of a file.
pub(super) const ATTRIBUTES: AttrMask = AttrMask::BASIC.union(AttrMask::BTIME);

/// The largest value of an extended attribute, in bytes (Linux's XATTR_SIZE_MAX and XATTR_LIST_MAX).
const MAX_XATTR: usize = 64 << 10;

/// A tree of files, by paths; see [`files::Fs`](crate::files::Fs), whose methods these are.
///
/// ```
/// use xen9p::tree::files::aio::Fs;
/// use xen9p::tree::{Node, Result};
///
/// async fn newest<N: Node>(fs: &Fs<N>, path: &str) -> Result<Option<Vec<u8>>> {
///     let mut newest = None;
///     let mut listing = fs.read_dir(path).await?;
///     while let Some(entry) = listing.next().await {
///         let entry = entry?;
///         let modified = entry.metadata().await?.modified();
///         newest = newest.max(Some((modified, entry.path())));
///     }
///     Ok(newest.map(|(_, path)| path))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Fs<N> {
    root: N,
}

impl<N: Node> Fs<N> {
    fs_operations!(asynchronous);

    /// Copies the content and the permission bits of a file, as [`files::Fs::copy`](crate::files::Fs::copy).
    ///
    /// # Errors
    /// As there.
    pub async fn copy(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<u64> {
        let copied = self.copy_file(from.as_ref(), to.as_ref()).await;
        copied.map_err(failed)
    }

    /// The tree that begins with `root`.
    pub fn new(root: N) -> Self {
        Fs { root }
    }

    /// The root of the tree.
    pub fn root(&self) -> &N {
        &self.root
    }

    /// The node that a path leads to. A symbolic link at its end is followed or not; those before it always are.
    ///
    /// # Errors
    /// What the tree says: ENOENT, ENOTDIR, ELOOP and so on.
    pub async fn node_at(&self, path: impl AsRef<[u8]>, follow: bool) -> Result<N> {
        let found = self.find(path.as_ref(), follow).await;
        found.map(|found| found.node).map_err(failed)
    }

    /// Gives the root back.
    pub fn into_root(self) -> N {
        self.root
    }

    pub(super) fn driver(&self) -> &dyn Driver {
        self.root.driver()
    }

    pub(super) async fn stat(&self, path: &[u8], follow: bool) -> Result<Metadata> {
        let path = CleanPath::new(path)?;
        if !path.is_root() {
            let names: Vec<&[u8]> = path.names().collect();
            match self.root.getattr_at(&names, ATTRIBUTES).await? {
                Walked::Through(_, qid)
                    if (follow || path.wants_dir()) && qid.kind.contains(QidKind::SYMLINK) => {}
                Walked::Through(_, qid) if path.wants_dir() && !qid.kind.contains(QidKind::DIR) => {
                    return Err(Errno::ENOTDIR.into());
                }
                Walked::Through(attr, _) => return Ok(Metadata::from(&attr)),
                Walked::Link(_) => {}
                Walked::Blocked(_, error) => return Err(error),
            }
        }
        let found = self.find_clean(path, follow).await?;
        let attr = found.node.getattr(ATTRIBUTES).await?;
        Ok(Metadata::from(&attr))
    }

    pub(super) async fn is_there(&self, path: &[u8]) -> Result<bool> {
        match self.find(path, true).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn change(&self, path: &[u8], follow: bool, attr: SetAttr) -> Result<()> {
        let found = self.find(path, follow).await?;
        match attr.valid.is_empty() {
            true => Ok(()),
            false => found.node.setattr(&attr).await,
        }
    }

    pub(super) async fn resize(&self, path: &[u8], size: u64) -> Result<()> {
        let found = self.find(path, true).await?;
        if found.is_dir() {
            return Err(Errno::EISDIR.into());
        }
        found.node.setattr(&size_of(size)).await
    }

    pub(super) async fn stat_system(&self, path: &[u8]) -> Result<StatFs> {
        let found = self.find(path, true).await?;
        Ok(StatFs::from(&found.node.statfs().await?))
    }

    pub(super) async fn get_xattr(&self, path: &[u8], name: &[u8]) -> Result<Vec<u8>> {
        let found = self.find(path, true).await?;
        found.node.xattr(name, MAX_XATTR).await
    }

    pub(super) async fn xattr_names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let found = self.find(path, true).await?;
        let list = found.node.list_xattrs(MAX_XATTR).await?;
        let names = list.split(|&byte| byte == 0);
        let names = names.filter(|name| !name.is_empty());
        Ok(names.map(<[u8]>::to_vec).collect())
    }

    pub(super) async fn put_xattr(&self, path: &[u8], name: &[u8], value: &[u8]) -> Result<()> {
        let found = self.find(path, true).await?;
        found.node.set_xattr(name, value, XattrFlags::empty()).await
    }

    pub(super) async fn drop_xattr(&self, path: &[u8], name: &[u8]) -> Result<()> {
        let found = self.find(path, true).await?;
        found.node.remove_xattr(name).await
    }
}

/// A change of owner and group.
pub(super) fn owner_of(uid: Option<u32>, gid: Option<u32>) -> SetAttr {
    let mut attr = SetAttr::default();
    attr.valid.set(SetAttrMask::UID, uid.is_some());
    attr.valid.set(SetAttrMask::GID, gid.is_some());
    (attr.uid, attr.gid) = (uid.unwrap_or(0), gid.unwrap_or(0));
    attr
}

/// A change of the permission bits; `kind` is what the file is, if that is known.
pub(super) fn mode_of(permissions: Permissions, kind: Option<FileType>) -> SetAttr {
    SetAttr {
        valid: SetAttrMask::MODE,
        mode: kind.map_or(0, FileType::mode) | permissions.mode(),
        ..SetAttr::default()
    }
}

/// A change of the size.
pub(super) fn size_of(size: u64) -> SetAttr {
    SetAttr {
        valid: SetAttrMask::SIZE,
        size,
        ..SetAttr::default()
    }
}

/// Whether an error could mean that a directory is not where it was.
fn may_be_stale(error: Error) -> bool {
    matches!(
        error,
        Error::Stale
            | Error::Errno(
                Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ESTALE | Errno::EIO
            )
    )
}
