//! A private name space: several trees of files seen as one, put together as the program likes.
//!
//! A [`Namespace`] begins with a tree at its root. Others are [mounted](Namespace::mount) into it: 9P
//! mounts (`Fs`), trees in memory with files made up by the program
//! ([`MemTree`]), read-only views ([`ReadOnly`]), or anything else that implements [`Tree`]. What is in
//! it can be [bound](Namespace::bind) to further places, instead of what is there or united with it.
//! The operations on files are those of `Fs`, with the same names.
//!
//! ```
//! use xen9p::fs::Error;
//! use xen9p::ns::{Bind, MemTree, Namespace, ReadOnly, Synthetic};
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! // In an image these would be shares: `xen9p::rt::share("data")`.
//! let (root, defaults, overlay) = (MemTree::new(), MemTree::new(), MemTree::new());
//! defaults.put("/motd", "hello")?;
//! defaults.put("/hosts", "127.0.0.1 localhost")?;
//! overlay.put("/motd", "welcome")?;
//! let dev = MemTree::new();
//! dev.put_synthetic("/time", Synthetic::new().read(|| Ok(b"12:00".to_vec())))?;
//!
//! let ns = Namespace::new(root);
//! ns.mount(ReadOnly::new(defaults), "/etc")?;
//! ns.mount(overlay, "/overlay")?;
//! ns.mount(dev, "/dev")?;
//!
//! // What is in /overlay comes before its namesakes, and takes what is made in /etc.
//! ns.bind("/overlay", "/etc", Bind::BEFORE.create())?;
//! assert_eq!(ns.read_to_string("/etc/motd")?, "welcome");
//! assert_eq!(ns.read_to_string("/etc/hosts")?, "127.0.0.1 localhost");
//! ns.write("/etc/passwd", "root")?;
//! assert_eq!(ns.read_to_string("/overlay/passwd")?, "root");
//! assert_eq!(ns.read_to_string("/dev/time")?, "12:00");
//!
//! // A part of the program gets a name space of its own, in which it can see no more than this.
//! let jail = ns.fork();
//! jail.bind("/etc", "/", Bind::REPLACE)?;
//! jail.seal();
//! assert_eq!(jail.read_to_string("/../../motd")?, "welcome");
//! assert_eq!(ns.metadata("/motd"), Err(Error::Errno(xen9p::errno::Errno::ENOENT)));
//! # Ok(())
//! # }
//! ```
//!
//! # Rules
//!
//! * **Paths** are cleaned by text alone: ".." takes away the name before it, and is nothing at the
//!   root. Symbolic links are followed by the name space, 40 at most: an absolute one starts at the root
//!   of the name space and a relative one at the directory that it is seen in, so that no link leads out
//!   of the name space or under a mount.
//! * **Mount points** are paths without links. What is mounted at a path is seen there whether or not the
//!   tree below has such a name; a directory lists the names of the mount points in it, and those
//!   that lead to them.
//! * **A union** has its elements searched in order, for the first name after the union; the element that
//!   has it is then the only one asked. An element that has no such name is passed over, any other
//!   error is the answer. Listings have each name once, that of the first element.
//! * **Making** something in a union takes the first element bound with [`Bind::create`]; without one
//!   it is EROFS. **Removing, renaming and changing** act on the element where the name was found;
//!   what had been hidden by it appears.
//! * **Between trees** nothing can be renamed or hard-linked: EXDEV. Clones of one
//!   `Fs` that were mounted separately are different trees, binds of one mount are not.
//! * **Names in use** as mount points, or on the way to one, can't be removed or renamed: EBUSY.
//! * **Cost**: where one tree alone may have a path an operation takes as many requests as on `Fs`. In a union the path is
//!   looked up: one walk for each element that lacks the name. As trees of different types stand behind one type, each
//!   operation of a tree allocates once, and once more for a node or an open file that it gives; reading and writing open
//!   files allocate nothing.
//! * **Open files** stay usable when what they came from is unmounted.
//!
//! # Differences to Plan 9
//!
//! Measured against bind(2) and the kernel's `chan.c`:
//!
//! * Mounts belong to a path, not to the identity (qid) of the file mounted on: another name of the same
//!   file does not show the mount, and mounts below `new` are not seen below `old` after a bind. Qids
//!   can't serve, for QEMU may give files of two host file systems the same one.
//! * A mount makes up its mount point when that is missing; only a bind needs one that is there.
//! * A mount replaces; to unite it with something, mount it elsewhere and bind it from there.
//! * Something bound by [`Bind::REPLACE`] alone is no union, and takes new files without `create`.
//! * Listings of unions have no duplicates, and an element that can't be read is an error unless it is
//!   simply gone (Plan 9 passes over both). So is a name that an element fails to look up.
//! * Creating asks for the name first and then makes it, and a symbolic link that leads nowhere is
//!   followed to where the file will be made, as Unix does.
//! * Name spaces can be [sealed](Namespace::seal) (as RFNOMNT does); what is forked from a sealed one is
//!   sealed too.

mod dial;
mod element;
mod error;
mod file;
mod layout;
mod node;
mod operations;
mod table;
mod tree;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::ops::Deref;

use p9_wire::{Errno, QidKind};

use self::element::{Element, Mounted, Wait};
use self::node::{Seen, View};
use self::table::Table;
use crate::files::aio::{Found, Lookup};
use crate::{CleanPath, DynFile, DynNode, Error, Node, OpenOptions, OpenPath, block_on, files};

pub use self::dial::{DialError, Dialers};
pub use self::error::NsError;
pub use self::file::NsFile;
pub use self::layout::{BindOption, Layout, LayoutError, MountOption, OptionError};
pub use self::node::NsNode;
pub use self::table::Bind;
pub use crate::trees::{MemTree, Synthetic};

pub use self::tree::{NodeTree, ReadOnly, Tree};
pub use crate::NewFiles;

/// An open file of a name space.
pub type File = files::File<DynFile>;

/// The entries of a directory of a name space: those of its trees, each name once, and the mount points in it. A directory
/// that several trees make, or that has mount points in it, may have 131,072 names; more are [`Error::OutOfMemory`].
pub type ReadDir = files::ReadDir<DynNode>;

/// The same with their attributes.
pub type WithMetadata = files::WithMetadata<DynNode>;

/// All that is below a directory of a name space.
pub type WalkDir = files::WalkDir<DynNode>;

/// One of these entries.
pub type DirEntry = files::DirEntry<DynNode>;

/// A name space. Clones are cheap and mean the same one; [`fork`](Self::fork) makes a private copy.
///
/// See the [module](self) for the rules. Changes of the name space fail with [`NsError`], operations on
/// files with [`Error`]; both block as the trees do.
///
/// What can be done with files are the methods of [`files::Fs`], which it is as well: those of every tree.
#[derive(Clone)]
pub struct Namespace {
    table: Rc<RefCell<Table>>,
    /// Of any type: its futures are in boxes then, and an image has one copy of each.
    files: files::Fs<DynNode>,
}

impl Deref for Namespace {
    type Target = files::Fs<DynNode>;

    fn deref(&self) -> &Self::Target {
        &self.files
    }
}

impl OpenPath for Namespace {
    type File = File;

    fn open_path(&self, path: &[u8], options: &OpenOptions) -> crate::Result<File> {
        self.open_with(path, options)
    }
}

/// A place where something is mounted or bound, as [`Namespace::mount_points`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MountPoint {
    /// Where it is.
    pub path: Vec<u8>,
    /// Whether a directory is seen there.
    pub is_dir: bool,
    /// How many directories are united there; 1 if it is no union.
    pub elements: usize,
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.mount_points();
        let paths = paths
            .iter()
            .map(|point| String::from_utf8_lossy(&point.path));
        f.debug_list().entries(paths).finish()
    }
}

impl Namespace {
    /// A name space with this tree at its root.
    pub fn new(root: impl Tree + 'static) -> Namespace {
        Namespace::with_root(Rc::new(root))
    }

    /// As [`new`](Self::new), for a tree that is shared.
    pub fn with_root(root: Rc<dyn Tree>) -> Namespace {
        Namespace::over(Table::new(root))
    }

    fn over(table: Table) -> Namespace {
        let table = Rc::new(RefCell::new(table));
        let view = View {
            table: table.clone(),
            wait: Wait::Here,
        };
        let files = files::Fs::new(DynNode::new(NsNode::root(view)));
        Namespace { table, files }
    }

    /// The root of the name space as a node, for a server that gives it to others: what waits is for the caller who polls
    /// to wait for, and what was mounted by [`Tree::driver`] is not asked.
    pub fn node(&self) -> NsNode {
        self.node_waiting(Wait::Polled)
    }

    /// As [`node`](Self::node), for what is seen at a path. Waits while it looks there; links on the way are followed.
    ///
    /// # Errors
    /// There is nothing, or a tree on the way fails.
    pub fn node_at(&self, path: impl AsRef<[u8]>) -> crate::Result<NsNode> {
        let (seen, path) = self.find(path.as_ref())?;
        let mut node = self.node();
        if !path.is_root() {
            node.seen = Some(seen);
        }
        Ok(node)
    }

    fn node_waiting(&self, wait: Wait) -> NsNode {
        NsNode::root(View {
            table: self.table.clone(),
            wait,
        })
    }

    /// A copy that changes apart from this one; the trees and their files are the same.
    #[must_use]
    pub fn fork(&self) -> Namespace {
        Namespace::over(self.table.borrow().clone())
    }

    /// Forbids every further mount, bind and unmount, for all clones and for what is forked from them.
    pub fn seal(&self) {
        self.table.borrow_mut().sealed = true;
    }

    /// Whether it was sealed.
    pub fn is_sealed(&self) -> bool {
        self.table.borrow().sealed
    }

    /// What is mounted and bound, by path; without the tree that the name space began with.
    pub fn mount_points(&self) -> Vec<MountPoint> {
        self.table.borrow().list()
    }

    /// Shows a tree at a path, instead of what is there. The path and the directories on its way need
    /// not exist.
    ///
    /// # Errors
    /// [`NsError::KindDiffers`] when a tree that begins with a directory would be mounted on something
    /// else; [`NsError::NoPlace`] when something other than a directory is on the way.
    pub fn mount(
        &self,
        tree: impl Tree + 'static,
        at: impl AsRef<[u8]>,
    ) -> core::result::Result<(), NsError> {
        self.mount_shared(Rc::new(tree), at)
    }

    /// As [`mount`](Self::mount), for a tree that is shared. Mounted at several paths, it is one tree
    /// within which files can be renamed.
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub fn mount_shared(
        &self,
        tree: Rc<dyn Tree>,
        at: impl AsRef<[u8]>,
    ) -> core::result::Result<(), NsError> {
        self.check_open()?;
        let (path, is_dir) = self.mount_path(at.as_ref())?;
        let number = self.table.borrow_mut().next_number();
        let mounted = Mounted::new(tree, number);
        let root = mounted.root.qid().kind;
        let tree_is_dir = root.contains(QidKind::DIR);
        if is_dir.is_some_and(|is_dir| is_dir != tree_is_dir) {
            return Err(NsError::KindDiffers);
        }
        let element = Element::new(mounted, CleanPath::root());
        let gone = {
            let mut table = self.table.borrow_mut();
            table.replace(path, tree_is_dir, vec![element])
        };
        drop(gone);
        Ok(())
    }

    /// Shows what is at `new` also at `old`: instead of what is there, or, for directories, united with
    /// it. Both have to be there; symbolic links are followed. What `new` is at this time is bound: later
    /// changes of the name space at `new` do not show at `old`, and binds never run in circles.
    ///
    /// # Errors
    /// [`NsError::NoSource`] and [`NsError::NoPlace`] when `new` or `old` is not there;
    /// [`NsError::KindDiffers`] when only one is a directory; [`NsError::FileUnion`];
    /// [`NsError::TooManyElements`] for a union of more than 40.
    pub fn bind(
        &self,
        new: impl AsRef<[u8]>,
        old: impl AsRef<[u8]>,
        how: Bind,
    ) -> core::result::Result<(), NsError> {
        self.check_open()?;
        let (from, _) = self.find(new.as_ref()).map_err(NsError::NoSource)?;
        let (onto, path) = self.find(old.as_ref()).map_err(NsError::NoPlace)?;
        if from.elements.is_empty() {
            // A directory made of mount points alone; those would not come along.
            return Err(NsError::NoSource(Errno::ENOENT.into()));
        }
        if from.is_dir() != onto.is_dir() {
            return Err(NsError::KindDiffers);
        }
        if how.unites() && !from.is_dir() {
            return Err(NsError::FileUnion);
        }
        let (gone, bound) = {
            let mut table = self.table.borrow_mut();
            let (new, under) = (from.elements.clone(), onto.elements.clone());
            table.bind(path, onto.is_dir(), new, under, how)
        };
        drop(gone);
        bound
    }

    /// Takes away all that is mounted or bound at a path; what was there before is seen again.
    ///
    /// # Errors
    /// [`NsError::NotMounted`]; [`NsError::Busy`] when something else is mounted below;
    /// [`NsError::Root`] for the tree that the name space began with.
    pub fn unmount(&self, old: impl AsRef<[u8]>) -> core::result::Result<(), NsError> {
        self.check_open()?;
        let path = self.point_path(old.as_ref())?;
        let gone = self.table.borrow_mut().unmount(&path, None)?;
        drop(gone);
        Ok(())
    }

    /// Takes what was bound from `new` out of the union at `old`. `new` must still show what was bound.
    ///
    /// # Errors
    /// As [`unmount`](Self::unmount); [`NsError::NoSource`] when `new` is not there,
    /// [`NsError::NoSuchElement`] when it is not part of the union.
    pub fn unmount_from(
        &self,
        new: impl AsRef<[u8]>,
        old: impl AsRef<[u8]>,
    ) -> core::result::Result<(), NsError> {
        self.check_open()?;
        let path = self.point_path(old.as_ref())?;
        let (new, _) = self.find(new.as_ref()).map_err(NsError::NoSource)?;
        let gone = {
            let mut table = self.table.borrow_mut();
            table.unmount(&path, Some(&new.elements))?
        };
        drop(gone);
        Ok(())
    }

    /// What is seen at a path, and the path without links.
    fn find(&self, path: &[u8]) -> crate::Result<(Rc<Seen>, CleanPath)> {
        let files = self.files.as_async();
        let Found { node, path, .. } = block_on(files.root().driver(), files.find(path, true))?;
        let node = node.downcast::<NsNode>().ok_or(Errno::ESTALE)?;
        Ok((node.seen(), path))
    }

    /// The path to mount at, and whether a directory or something else is there. Names that are missing
    /// are no hindrance.
    fn mount_path(&self, path: &[u8]) -> core::result::Result<(CleanPath, Option<bool>), NsError> {
        let files = self.files.as_async();
        let mut way = CleanPath::new(path).map_err(NsError::NoPlace)?;
        let mut missing: Vec<Vec<u8>> = Vec::new();
        let (mut path, is_dir) = loop {
            let lookup = files.lookup(way.try_clone().map_err(NsError::NoPlace)?, true);
            match block_on(files.root().driver(), lookup) {
                Ok(Lookup::Found(found)) => {
                    let path = found.path.bare().map_err(NsError::NoPlace)?;
                    break (path, Some(found.is_dir()));
                }
                Ok(Lookup::Missing(path)) => {
                    missing.extend(path.file_name().map(<[u8]>::to_vec));
                    let parent = path.parent().map_err(NsError::NoPlace)?;
                    break (parent, Some(true));
                }
                Err(Error::Errno(Errno::ENOENT)) if !way.is_root() => {
                    missing.extend(way.file_name().map(<[u8]>::to_vec));
                    way.pop();
                }
                Err(error) => return Err(NsError::NoPlace(error)),
            }
        };
        if missing.is_empty() {
            return Ok((path, is_dir));
        }
        if is_dir == Some(false) {
            return Err(NsError::NoPlace(Errno::ENOTDIR.into()));
        }
        for name in missing.iter().rev() {
            path.push(name).map_err(NsError::NoPlace)?;
        }
        Ok((path, None))
    }

    /// The path of a mount point. The last name is not looked up: it may lead to something that is gone.
    fn point_path(&self, path: &[u8]) -> core::result::Result<CleanPath, NsError> {
        let find = || -> crate::Result<CleanPath> {
            let path = CleanPath::new(path)?;
            let Some(name) = path.file_name() else {
                return Ok(path);
            };
            let (_, mut parent) = self.find(path.parent()?.as_bytes())?;
            parent.push(name)?;
            Ok(parent)
        };
        find().map_err(NsError::NoPlace)
    }

    fn check_open(&self) -> core::result::Result<(), NsError> {
        if self.is_sealed() {
            return Err(NsError::Sealed);
        }
        Ok(())
    }
}
