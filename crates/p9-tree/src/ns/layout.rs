//! A name space as options describe it: `mount=share:/,ro=logs:/var/log bind=before:/overlay:/etc`.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{Bind, MemTree, Namespace, NsError, ReadOnly, Tree};
use crate::CleanPath;

/// What is wrong with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionError {
    /// An entry of a mount option is not `TAG:/PATH` or `ro=TAG:/PATH`; counted from 1.
    Mount(usize),
    /// An entry of a bind option is not `HOW:/NEW:/OLD`; counted from 1.
    Bind(usize),
    /// An entry of a bind option does not begin with `replace`, `before` or `after`, optionally with
    /// `+create`; counted from 1.
    How(usize),
    /// An entry has a path with an impossible name; counted from 1.
    Path(usize),
    /// An entry mounts at a path where another is mounted already; counted from 1.
    Twice(usize),
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionError::Mount(at) => write!(
                f,
                "entry {at} of the mount option is malformed; write TAG:/PATH or ro=TAG:/PATH"
            ),
            OptionError::Bind(at) => write!(
                f,
                "entry {at} of the bind option is malformed; write before:/NEW:/OLD"
            ),
            OptionError::How(at) => write!(
                f,
                "entry {at} of the bind option has to begin with replace, before or after, and may go on \
                 with +create"
            ),
            OptionError::Path(at) => write!(f, "entry {at} has a path with an impossible name"),
            OptionError::Twice(at) => {
                write!(
                    f,
                    "entry {at} of the mount option mounts where another one does"
                )
            }
        }
    }
}

impl core::error::Error for OptionError {}

/// Why a name space could not be put together as described; entries are counted from 1, over all
/// options of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError<E> {
    /// The tree to mount can't be had.
    Source(usize, E),
    /// Mounting it failed.
    Mount(usize, NsError),
    /// Binding failed.
    Bind(usize, NsError),
}

impl<E: fmt::Display> fmt::Display for LayoutError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::Source(at, error) => write!(f, "mount entry {at}: {error}"),
            LayoutError::Mount(at, error) => write!(f, "mount entry {at}: {error}"),
            LayoutError::Bind(at, error) => write!(f, "bind entry {at}: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for LayoutError<E> {}

/// A tree to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MountOption {
    /// The share's tag, or whatever else says which tree.
    pub source: String,
    /// Where to mount it.
    pub at: String,
    /// Whether changes are refused.
    pub read_only: bool,
}

/// A bind to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BindOption {
    /// What to bind.
    pub new: String,
    /// Where to.
    pub old: String,
    /// How.
    pub how: Bind,
}

/// A name space to be: mounts, then binds, in order.
///
/// ```
/// use std::rc::Rc;
/// use xen9p::ns::{Layout, MemTree, Tree};
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let mut layout = Layout::new();
/// layout.add_mounts("share:/,ro=logs:/var/log")?;
/// layout.add_binds("replace:/var/log/tag:/tag")?;
/// let ns = layout.build(|tag| {
///     let tree = MemTree::new();
///     tree.put("/tag", tag)?;
///     Ok::<Rc<dyn Tree>, xen9p::fs::Error>(Rc::new(tree))
/// })?;
/// assert_eq!(ns.read_to_string("/tag")?, "logs");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    mounts: Vec<MountOption>,
    binds: Vec<BindOption>,
}

impl Layout {
    /// Nothing but an empty root.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree to mount.
    pub fn mounts(&self) -> &[MountOption] {
        &self.mounts
    }

    /// The file to bind.
    pub fn binds(&self) -> &[BindOption] {
        &self.binds
    }

    /// Adds the mounts of an option's value: `[ro=]TAG:/PATH`, more of them after commas. A tag ends at
    /// the first ":/".
    ///
    /// # Errors
    /// [`OptionError`]; nothing has been added then.
    pub fn add_mounts(&mut self, value: &str) -> Result<(), OptionError> {
        let mut mounts = self.mounts.clone();
        for (at, entry) in (1..).zip(value.split(',')) {
            let (read_only, entry) = match entry.strip_prefix("ro=") {
                Some(entry) => (true, entry),
                None => (false, entry),
            };
            let (source, path) = split_path(entry).ok_or(OptionError::Mount(at))?;
            if source.is_empty() {
                return Err(OptionError::Mount(at));
            }
            let path = clean(path).ok_or(OptionError::Path(at))?;
            if mounts.iter().any(|mount| mount.at == path) {
                return Err(OptionError::Twice(at));
            }
            mounts.push(MountOption {
                source: source.into(),
                at: path,
                read_only,
            });
        }
        self.mounts = mounts;
        Ok(())
    }

    /// Adds the binds of an option's value: `HOW:/NEW:/OLD`, more of them after commas. HOW is `replace`,
    /// `before` or `after`, or one of these and `+create`.
    ///
    /// # Errors
    /// [`OptionError`]; nothing has been added then.
    pub fn add_binds(&mut self, value: &str) -> Result<(), OptionError> {
        let mut binds = self.binds.clone();
        for (at, entry) in (1..).zip(value.split(',')) {
            let (how, paths) = split_path(entry).ok_or(OptionError::Bind(at))?;
            let (order, create) = match how.strip_suffix("+create") {
                Some(order) => (order, true),
                None => (how, false),
            };
            let how = match order {
                "replace" => Bind::REPLACE,
                "before" => Bind::BEFORE,
                "after" => Bind::AFTER,
                _ => return Err(OptionError::How(at)),
            };
            let (new, old) = split_path(paths).ok_or(OptionError::Bind(at))?;
            binds.push(BindOption {
                new: clean(new).ok_or(OptionError::Path(at))?,
                old: clean(old).ok_or(OptionError::Path(at))?,
                how: if create { how.create() } else { how },
            });
        }
        self.binds = binds;
        Ok(())
    }

    /// Whether a tree is mounted at "/".
    pub fn has_root(&self) -> bool {
        self.mounts.iter().any(|mount| mount.at == "/")
    }

    /// Puts the name space together; `open` gives the tree for a tag and is asked once for each. What is to
    /// be mounted at "/" becomes the root; without it the root is empty and read-only.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn build<E>(
        &self,
        open: impl FnMut(&str) -> Result<Rc<dyn Tree>, E>,
    ) -> Result<Namespace, LayoutError<E>> {
        let empty = Rc::new(ReadOnly::new(MemTree::with_limit(0)));
        self.build_over(empty, open)
    }

    /// As [`build`](Self::build), with `root` as the root when no tree is mounted at "/".
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn build_over<E>(
        &self,
        root: Rc<dyn Tree>,
        mut open: impl FnMut(&str) -> Result<Rc<dyn Tree>, E>,
    ) -> Result<Namespace, LayoutError<E>> {
        let mut trees: Vec<(&str, Rc<dyn Tree>)> = Vec::new();
        for (at, mount) in (1..).zip(&self.mounts) {
            if trees.iter().all(|(source, _)| *source != mount.source) {
                let tree = open(&mount.source).map_err(|error| LayoutError::Source(at, error))?;
                trees.push((&mount.source, tree));
            }
        }
        let tree_of = |mount: &MountOption| -> Option<Rc<dyn Tree>> {
            let found = trees.iter().find(|(source, _)| *source == mount.source);
            let tree = found?.1.clone();
            Some(match mount.read_only {
                true => Rc::new(ReadOnly::of(tree)),
                false => tree,
            })
        };
        let mounted = self.mounts.iter().find(|mount| mount.at == "/");
        let ns = Namespace::with_root(mounted.and_then(tree_of).unwrap_or(root));
        for (at, mount) in (1..).zip(&self.mounts) {
            if mount.at != "/"
                && let Some(tree) = tree_of(mount)
            {
                let mounted = ns.mount_shared(tree, &mount.at);
                mounted.map_err(|error| LayoutError::Mount(at, error))?;
            }
        }
        for (at, bind) in (1..).zip(&self.binds) {
            let bound = ns.bind(&bind.new, &bind.old, bind.how);
            bound.map_err(|error| LayoutError::Bind(at, error))?;
        }
        Ok(ns)
    }
}

/// Splits before the first absolute path that follows a colon.
fn split_path(entry: &str) -> Option<(&str, &str)> {
    let colon = entry.as_bytes().windows(2).position(|two| two == b":/")?;
    Some((entry.get(..colon)?, entry.get(colon + 1..)?))
}

fn clean(path: &str) -> Option<String> {
    let path = CleanPath::new(path.as_bytes()).ok()?;
    String::from_utf8(path.into_bytes()).ok()
}
