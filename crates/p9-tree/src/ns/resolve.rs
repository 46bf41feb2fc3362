//! From paths to what they mean: mount points, unions, symbolic links.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use p9_wire::{Errno, QidKind};

use super::NsError;
use super::element::{Element, Wait, through};
use super::table::{Table, creator};
use crate::{CleanPath, DynNode, End, Error, Result, Walked};

/// How many symbolic links are followed on the way of one path.
const MAX_LINKS: usize = 40;

/// What a path means.
pub(super) struct Found {
    /// The path without links.
    pub(super) path: CleanPath,
    /// What is seen there: one, or several directories that are united, or none for a directory that
    /// only leads to mount points.
    pub(super) elements: Vec<Element>,
    /// The node of the first, if it was walked to.
    node: Option<DynNode>,
    pub(super) is_dir: bool,
    /// What a symbolic link says that was not followed.
    pub(super) link: Option<Vec<u8>>,
}

impl Found {
    /// What operations act on.
    ///
    /// # Errors
    /// EROFS for a directory that only leads to mount points.
    pub(super) fn element(&self) -> Result<&Element> {
        self.elements.first().ok_or(Errno::EROFS.into())
    }

    /// The node that was walked to.
    pub(super) fn into_walked(self) -> Option<DynNode> {
        self.node
    }

    /// The node of the first element.
    ///
    /// # Errors
    /// EROFS for a directory that only leads to mount points.
    pub(super) fn into_node(self) -> Result<DynNode> {
        match self.node {
            Some(node) => Ok(node),
            None => self.element()?.node_here(),
        }
    }
}

/// Where a path leads.
pub(super) enum Lookup {
    Found(Found),
    /// Only the last name is missing in this directory.
    Missing(Found, Vec<u8>),
}

enum Step {
    End(Lookup),
    /// The name with this index is a symbolic link that says this.
    Link(usize, Vec<u8>),
}

/// A place for something new: the element and node of its directory, and its name there.
pub(super) struct Place {
    pub(super) dir: Element,
    pub(super) node: DynNode,
    pub(super) name: Vec<u8>,
}

/// A name space, and how its trees are waited for.
#[derive(Clone)]
pub(super) struct View {
    pub(super) table: Rc<RefCell<Table>>,
    pub(super) wait: Wait,
}

impl View {
    /// What a path leads to; a symbolic link at its end is followed or not.
    pub(super) fn find(&self, path: &[u8], follow: bool) -> Result<Found> {
        match self.lookup(CleanPath::new(path)?, follow)? {
            Lookup::Found(found) => Ok(found),
            Lookup::Missing(..) => Err(Errno::ENOENT.into()),
        }
    }

    /// What a tree finds at one go where a path leads, which saves looking the path up first. `None` where several
    /// trees may have it, or only mount points lead there; then it is to be looked up.
    pub(super) fn at_once<T>(
        &self,
        path: &CleanPath,
        ask: impl FnOnce(&Element) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        if path.wants_dir() {
            return Ok(None);
        }
        let nearest = self.table.borrow().nearest(path);
        let [element] = &nearest.elements[..] else {
            return Ok(None);
        };
        if nearest.rest.is_empty() {
            return Ok(None);
        }
        match ask(&element.join(&nearest.rest)?) {
            // Mount points may lead there.
            Err(error) if error.is_not_found() && self.table.borrow().leads_on(path) => Ok(None),
            result => result,
        }
    }

    /// Where a path leads.
    pub(super) fn lookup(&self, mut path: CleanPath, follow: bool) -> Result<Lookup> {
        // What is said to be a directory is looked for behind a link.
        let follow = follow || path.wants_dir();
        for _ in 0..=MAX_LINKS {
            let (at, target) = match self.step(&path, follow)? {
                Step::End(Lookup::Found(found)) if path.wants_dir() && !found.is_dir => {
                    return Err(Errno::ENOTDIR.into());
                }
                Step::End(lookup) => return Ok(lookup),
                Step::Link(at, target) => (at, target),
            };
            if target.is_empty() {
                return Err(Errno::ENOENT.into());
            }
            path = path.through_link(at, &target)?;
        }
        Err(Error::TooManyLinks)
    }

    /// Follows a path to its end or to the first symbolic link.
    fn step(&self, path: &CleanPath, follow: bool) -> Result<Step> {
        // Trees are asked with the table free: they may use the name space.
        let nearest = self.table.borrow().nearest(path);
        let found = |elements, node, is_dir, link| {
            Ok(Step::End(Lookup::Found(Found {
                path: path.clone(),
                elements,
                node,
                is_dir,
                link,
            })))
        };
        if nearest.rest.is_empty() {
            return found(nearest.elements, None, nearest.is_dir, None);
        }
        let last = path.names().count() - 1;
        // The first element that has the first name decides.
        let mut missing = nearest.depth;
        let mut there = None;
        for element in &nearest.elements {
            let whole = element.join(&nearest.rest)?;
            let depth = element.at.names().count();
            let tree = whole.tree.clone();
            let walked = tree.run(tree.root.any().walk_at(&whole.names()))?;
            let (at, link) = match walked {
                Walked::Through(node, qid) if qid.kind.contains(QidKind::SYMLINK) => {
                    (whole.at.names().count() - 1, Some(node))
                }
                Walked::Through(node, qid) => {
                    let is_dir = qid.kind.contains(QidKind::DIR);
                    return found(vec![whole], Some(node), is_dir, None);
                }
                Walked::Link(at) => (at, None),
                Walked::Blocked(at, error) if error.is_not_found() => {
                    if at > depth {
                        missing = nearest.depth + (at - depth);
                        there = Some(Element::new(tree, whole.at.parent()));
                        break;
                    }
                    // It lacks the first name, or is itself no longer where it was bound from.
                    continue;
                }
                Walked::Blocked(_, error) => return Err(error),
            };
            if at < depth {
                continue;
            }
            let node = match link {
                Some(node) => node,
                None => {
                    let names = whole.names();
                    let names = names.get(..=at).unwrap_or(&names);
                    through(tree.run(tree.root.any().walk_at(names))?)?
                }
            };
            let target = tree.run(node.any().readlink())?;
            let at = nearest.depth + (at - depth);
            if at == last && !follow {
                return found(vec![whole], Some(node), false, Some(target));
            }
            return Ok(Step::Link(at, target));
        }

        // Elements are dropped with the table free: with the last one goes the tree.
        if self.table.borrow().leads_on(path) {
            return found(Vec::new(), None, true, None);
        }
        let parent = path.parent();
        let elements = if missing == last {
            there.map_or(nearest.elements, |there| vec![there])
        } else if self.table.borrow().leads_on(&parent) {
            Vec::new()
        } else {
            return Err(Errno::ENOENT.into());
        };
        let parent = Found {
            path: parent,
            elements,
            node: None,
            is_dir: true,
            link: None,
        };
        let name = path.file_name().unwrap_or_default().to_vec();
        Ok(Step::End(Lookup::Missing(parent, name)))
    }

    /// The directory of what `path` names, where one tree alone has it, no symbolic link is on the way, and nothing is
    /// mounted there or below: then the tree itself can be asked, which saves looking the path up first. What it refuses
    /// is to be looked up all the same, for the rules of the name space may have another reason. `None`: to be looked up.
    pub(super) fn place_at_once(&self, path: &CleanPath) -> Result<Option<Place>> {
        let (nearest, held) = {
            let table = self.table.borrow();
            (table.nearest(path), table.holds(path))
        };
        let [element] = &nearest.elements[..] else {
            return Ok(None);
        };
        if held || nearest.rest.is_empty() || path.wants_dir() {
            return Ok(None);
        }
        let whole = element.join(&nearest.rest)?;
        let Some(name) = whole.at.file_name().map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        let dir = Element::new(whole.tree.clone(), whole.at.parent());
        let (tree, names) = (&dir.tree, dir.names());
        if names.is_empty() {
            let node = tree.root.clone();
            let place = Place { dir, node, name };
            return Ok(Some(place));
        }
        Ok(match tree.run(tree.root.any().dir_at(&names))? {
            Walked::Through(node, qid) if qid.kind.contains(QidKind::DIR) => {
                Some(Place { dir, node, name })
            }
            _ => None,
        })
    }

    /// The element that takes a new name in a directory.
    ///
    /// # Errors
    /// EROFS when there is none: no element of a union takes new files, or the directory only leads to
    /// mount points. ENOTDIR if it is no directory.
    pub(super) fn place(&self, parent: &Found, name: &[u8]) -> Result<Place> {
        if !parent.is_dir {
            return Err(Errno::ENOTDIR.into());
        }
        let dir = creator(&parent.elements).ok_or(Errno::EROFS)?.clone();
        let node = dir.node_here()?;
        Ok(Place {
            dir,
            node,
            name: name.to_vec(),
        })
    }

    /// Where something new goes; EEXIST if the name is taken, ENOENT if the path says by its end that it leads to a
    /// directory. A new directory's path may end with a slash.
    pub(super) fn vacant(&self, path: &CleanPath, is_dir: bool) -> Result<Place> {
        match (self.lookup(path.bare(), false)?, path.end()) {
            (Lookup::Found(_), _) => Err(Errno::EEXIST.into()),
            (Lookup::Missing(..), End::Dot | End::DotDot) => Err(Errno::ENOENT.into()),
            (Lookup::Missing(..), End::Slash) if !is_dir => Err(Errno::ENOENT.into()),
            (Lookup::Missing(parent, name), _) => self.place(&parent, &name),
        }
    }

    /// The directory of an element in its tree, and the element's name there.
    ///
    /// # Errors
    /// `at_root` for the root of a tree.
    pub(super) fn place_of(&self, element: &Element, at_root: Errno) -> Result<Place> {
        let name = element.at.file_name().ok_or(at_root)?.to_vec();
        let dir = Element::new(element.tree.clone(), element.at.parent());
        let node = dir.node_here()?;
        Ok(Place { dir, node, name })
    }

    /// What a path names, to be removed or renamed.
    ///
    /// # Errors
    /// EBUSY when something is mounted there or below. ENOTDIR for what is no directory, a link to one either, if
    /// the path says by its end that it is.
    pub(super) fn movable(&self, path: &CleanPath) -> Result<Found> {
        let Lookup::Found(found) = self.lookup(path.bare(), false)? else {
            return Err(Errno::ENOENT.into());
        };
        if path.wants_dir() && !found.is_dir {
            return Err(Errno::ENOTDIR.into());
        }
        if self.table.borrow().holds(&found.path) {
            return Err(Errno::EBUSY.into());
        }
        Ok(found)
    }

    /// The path to mount at, and whether a directory or something else is there. Names that are missing
    /// are no hindrance.
    pub(super) fn mount_path(
        &self,
        path: &[u8],
    ) -> core::result::Result<(CleanPath, Option<bool>), NsError> {
        let mut way = CleanPath::new(path).map_err(NsError::NoPlace)?;
        let mut missing: Vec<Vec<u8>> = Vec::new();
        let (mut path, is_dir) = loop {
            match self.lookup(way.clone(), true) {
                Ok(Lookup::Found(found)) => break (found.path, Some(found.is_dir)),
                Ok(Lookup::Missing(parent, name)) => {
                    missing.push(name);
                    break (parent.path, Some(true));
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
}
