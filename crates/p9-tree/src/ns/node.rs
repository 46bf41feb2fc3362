//! A file as a name space shows it.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use p9_wire::{Errno, Qid, QidKind};

use super::element::{Element, Mounted, Wait};
use super::table::{Table, creator};
use super::{Namespace, Tree};
use crate::{CleanPath, DynNode, Node, Result, Walked};

/// What tells the numbers of the files of one tree from those of another.
const OTHER_TREE: u64 = 0xd6e8_feb8_6659_fd93;

/// A file as a [`Namespace`] shows it, by the rules of that; given out by [`Namespace::node`].
///
/// It is a node of the tree that the file was found in and stays with it. Mount points below a directory are found by the
/// path that it was walked to by. The numbers of files are those of their trees, each tree's mixed in another way.
#[derive(Clone)]
pub struct NsNode {
    pub(super) view: View,
    /// `None` for the root, which is what the name space has there at the time.
    pub(super) seen: Option<Rc<Seen>>,
}

/// A name space, and how its trees are waited for.
#[derive(Clone)]
pub(super) struct View {
    pub(super) table: Rc<core::cell::RefCell<Table>>,
    pub(super) wait: Wait,
}

/// What is seen at a path.
pub(super) struct Seen {
    pub(super) path: CleanPath,
    /// One, or several directories that are united, or none for a directory that only leads to mount points.
    pub(super) elements: Vec<Element>,
    /// The node of the first element, if it was walked to.
    pub(super) node: Option<DynNode>,
    pub(super) qid: Qid,
}

/// A directory in which a name is changed: the element of it, its node, and the name.
pub(super) struct Place {
    pub(super) dir: Element,
    pub(super) node: DynNode,
    pub(super) name: Vec<u8>,
}

/// Where names lead from a node: from which elements on, and by which of the names.
pub(super) struct Way {
    pub(super) path: CleanPath,
    pub(super) elements: Vec<Element>,
    node: Option<DynNode>,
    /// How many names lead to the elements.
    skip: usize,
}

/// The way through one element.
pub(super) struct Through<'a> {
    /// What the names lead to.
    pub(super) element: Element,
    /// Where to walk from in its tree, and how many names come before those of the way.
    pub(super) from: DynNode,
    before: usize,
    skip: usize,
    names: &'a [&'a [u8]],
}

impl Through<'_> {
    /// All names to be walked.
    pub(super) fn names(&self) -> Vec<&[u8]> {
        match self.before {
            0 => self.names.to_vec(),
            _ => self.element.names(),
        }
    }

    /// A name of those, as one of the way's; `None` for one that comes before them.
    fn index(&self, at: usize) -> Option<usize> {
        at.checked_sub(self.before).map(|at| self.skip + at)
    }
}

impl fmt::Debug for NsNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path();
        let path = String::from_utf8_lossy(path.as_bytes());
        f.debug_tuple("NsNode").field(&path).finish()
    }
}

impl Tree for Namespace {
    fn root(&self) -> DynNode {
        DynNode::new(self.node_waiting(Wait::Here))
    }
}

/// The identity of a tree's file in the name space.
pub(super) fn qid_in(tree: &Mounted, qid: Qid) -> Qid {
    Qid {
        path: qid.path ^ tree.number.wrapping_mul(OTHER_TREE),
        ..qid
    }
}

/// The identity of a directory that only leads to mount points, by its path (FNV-1a).
pub(super) fn qid_of(path: &CleanPath) -> Qid {
    let hash = path
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    Qid {
        kind: QidKind::DIR,
        version: 0,
        path: hash,
    }
}

impl Seen {
    fn new(path: CleanPath, elements: Vec<Element>, node: Option<DynNode>) -> Self {
        let qid = match (elements.first(), &node) {
            (Some(first), Some(node)) => qid_in(&first.tree, node.qid()),
            _ => qid_of(&path),
        };
        Seen {
            path,
            elements,
            node,
            qid,
        }
    }

    /// The root, as the table has it now.
    fn root(table: &Table) -> Self {
        let path = CleanPath::root();
        let elements = table.nearest(&path).elements;
        let first = elements.first();
        // What is bound over the root from within a tree is walked to when it is needed.
        let node = first.filter(|first| first.at.is_root());
        let node = node.map(|first| first.tree.root.clone());
        Seen::new(path, elements, node)
    }

    pub(super) fn is_dir(&self) -> bool {
        self.qid.kind.contains(QidKind::DIR)
    }
}

impl NsNode {
    pub(super) fn root(view: View) -> Self {
        NsNode { view, seen: None }
    }

    /// What is at a path, as its elements and the node of the first.
    pub(super) fn at(
        &self,
        path: CleanPath,
        elements: Vec<Element>,
        node: Option<DynNode>,
    ) -> Self {
        NsNode {
            view: self.view.clone(),
            seen: Some(Rc::new(Seen::new(path, elements, node))),
        }
    }

    /// What is seen here.
    pub(super) fn seen(&self) -> Rc<Seen> {
        match &self.seen {
            Some(seen) => seen.clone(),
            None => Rc::new(Seen::root(&self.view.table.borrow())),
        }
    }

    fn into_seen(self) -> Rc<Seen> {
        match self.seen {
            Some(seen) => seen,
            None => Rc::new(Seen::root(&self.view.table.borrow())),
        }
    }

    /// What keeps the tree of the first element mounted, if it was walked to.
    pub(super) fn first_tree(&self) -> Option<&Rc<Mounted>> {
        Some(&self.seen.as_ref()?.elements.first()?.tree)
    }

    fn path(&self) -> CleanPath {
        let seen = self.seen.as_ref();
        seen.map_or_else(CleanPath::root, |seen| seen.path.clone())
    }

    pub(super) fn path_of(&self, name: &[u8]) -> Result<CleanPath> {
        let mut path = self.path();
        path.push(name)?;
        Ok(path)
    }

    /// The first element and its node.
    ///
    /// # Errors
    /// `otherwise` for a directory that only leads to mount points.
    pub(super) async fn real(&self, otherwise: Errno) -> Result<(Element, DynNode)> {
        let seen = self.seen();
        let first = seen.elements.first().ok_or(otherwise)?;
        Ok((first.clone(), self.node_of(&seen, first).await?))
    }

    /// The node of an element of this directory.
    pub(super) async fn node_of(&self, seen: &Seen, element: &Element) -> Result<DynNode> {
        match (&seen.node, seen.elements.first()) {
            (Some(node), Some(first)) if first.is(element) => Ok(node.clone()),
            _ => element.node(self.view.wait).await,
        }
    }

    /// One of the elements and its node, which is no one else's if this node was not and the element is the first.
    ///
    /// # Errors
    /// EROFS when there is none.
    pub(super) async fn into_element(
        self,
        choose: fn(&[Element]) -> Option<&Element>,
    ) -> Result<(Element, DynNode)> {
        let wait = self.view.wait;
        let mut seen = self.into_seen();
        let element = choose(&seen.elements).ok_or(Errno::EROFS)?.clone();
        let is_first = seen
            .elements
            .first()
            .is_some_and(|first| first.is(&element));
        let node = match Rc::get_mut(&mut seen) {
            Some(seen) if is_first => seen.node.take(),
            None if is_first => seen.node.clone(),
            _ => None,
        };
        match node {
            Some(node) => Ok((element, node)),
            None => element.node(wait).await.map(|node| (element, node)),
        }
    }

    /// The element that takes what is made in this directory.
    async fn into_taker(self) -> Result<(Element, DynNode)> {
        match self.seen().is_dir() {
            true => self.into_element(creator).await,
            false => Err(Errno::ENOTDIR.into()),
        }
    }

    /// The same for a name that is free. Where one tree alone may have it, that is left to the tree to say.
    pub(super) async fn into_vacant(self, name: &[u8]) -> Result<(Element, DynNode)> {
        let path = self.path_of(name)?;
        if self.view.table.borrow().holds(&path) {
            return Err(Errno::EEXIST.into());
        }
        if self.seen().elements.len() > 1 {
            match self.walk(name).await {
                Ok(_) => return Err(Errno::EEXIST.into()),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        self.into_taker().await
    }

    /// The directory that takes a name which is not there.
    pub(super) async fn taking(&self, name: &[u8]) -> Result<Place> {
        let (dir, node) = self.clone().into_taker().await?;
        let name = name.to_vec();
        Ok(Place { dir, node, name })
    }

    /// The element that has this name in this directory, to be removed or renamed: its directory there, and its name.
    pub(super) async fn movable(&self, name: &[u8]) -> Result<Place> {
        let path = self.path_of(name)?;
        if self.view.table.borrow().holds(&path) {
            return Err(Errno::EBUSY.into());
        }
        let seen = self.seen();
        if let [only] = &seen.elements[..] {
            let (dir, name) = (only.clone(), name.to_vec());
            let node = self.node_of(&seen, only).await?;
            return Ok(Place { dir, node, name });
        }
        let there = self.walk(name).await?.seen();
        let element = there.elements.first().ok_or(Errno::EROFS)?;
        let dir = Element::new(element.tree.clone(), element.at.parent()?);
        let node = self.node_of(&seen, &dir).await?;
        let name = element.at.file_name().ok_or(Errno::EBUSY)?.to_vec();
        Ok(Place { dir, node, name })
    }

    /// Where names lead from here.
    pub(super) fn way(&self, names: &[&[u8]]) -> Result<Way> {
        let mut path = self.path();
        let depth = path.names().count();
        for name in names {
            path.push(name)?;
        }
        // Trees are asked with the table free: they may use the name space.
        let nearest = self.view.table.borrow().nearest(&path);
        Ok(match &self.seen {
            Some(seen) if nearest.depth <= depth => Way {
                path,
                elements: seen.elements.clone(),
                node: seen.node.clone(),
                skip: 0,
            },
            _ => Way {
                path,
                elements: nearest.elements,
                node: None,
                skip: nearest.depth.saturating_sub(depth),
            },
        })
    }

    /// The way by `names` through one of its elements.
    fn through<'a>(
        &self,
        way: &Way,
        element: &Element,
        names: &'a [&'a [u8]],
    ) -> Result<Through<'a>> {
        let names = names.get(way.skip..).unwrap_or(&[]);
        let (from, before) = match (&way.node, way.elements.first()) {
            (Some(node), Some(first)) if first.is(element) => (node.clone(), 0),
            _ => (element.tree.root.clone(), element.at.names().count()),
        };
        Ok(Through {
            element: element.join(names)?,
            from,
            before,
            skip: way.skip,
            names,
        })
    }

    /// The way by `names`, if one tree alone may have what is there: then all can be asked for at once.
    pub(super) fn alone<'a>(
        &self,
        way: &Way,
        names: &'a [&'a [u8]],
    ) -> Result<Option<Through<'a>>> {
        match &way.elements[..] {
            [only] if names.len() > way.skip => self.through(way, only, names).map(Some),
            _ => Ok(None),
        }
    }

    /// What a tree said to be at the end of a way, or on it; `None` if mount points may lead there all the same.
    pub(super) fn told<T>(
        &self,
        way: &Way,
        through: &Through<'_>,
        walked: Walked<T>,
    ) -> Option<Walked<T>> {
        match walked {
            Walked::Through(..) => Some(walked),
            Walked::Link(at) => through.index(at).map(Walked::Link),
            Walked::Blocked(at, error) => {
                let table = self.view.table.borrow();
                let at = through.index(at);
                let is_last = at.is_some_and(|at| at + 1 == way.skip + through.names.len());
                let leads = || table.leads_on_beside(&way.path);
                match error.is_not_found() {
                    true if table.leads_on(&way.path) || (!is_last && leads()) => None,
                    true => at.map(|at| Walked::Blocked(at, error)),
                    false => Some(Walked::Blocked(at.unwrap_or(way.skip), error)),
                }
            }
        }
    }

    /// Walks by names, of which there is at least one.
    pub(super) async fn walk_way(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        let way = self.way(names)?;
        if names.len() == way.skip {
            let node = match way.elements.first() {
                Some(first) => match first.node(self.view.wait).await {
                    Ok(node) => Some(node),
                    // Gone since it was bound.
                    Err(error) if error.is_not_found() && way.elements.len() > 1 => None,
                    Err(error) => return Err(error),
                },
                None => None,
            };
            let found = self.at(way.path, way.elements, node);
            let qid = found.qid();
            return Ok(Walked::Through(found, qid));
        }
        // The first element that has the first name decides.
        let mut missing = way.skip;
        for element in &way.elements {
            let through = self.through(&way, element, names)?;
            let asked = through.names();
            let walked = through.from.any().walk_at(&asked);
            let walked = element.tree.wait(self.view.wait, walked).await?;
            match walked {
                Walked::Through(node, _) => {
                    let found = self.at(way.path.try_clone()?, vec![through.element], Some(node));
                    let qid = found.qid();
                    return Ok(Walked::Through(found, qid));
                }
                // It is itself no longer where it was bound from, if what stopped the walk comes before.
                Walked::Link(at) => match through.index(at) {
                    Some(at) => return Ok(Walked::Link(at)),
                    None => continue,
                },
                Walked::Blocked(at, error) if error.is_not_found() => match through.index(at) {
                    Some(at) if at > way.skip => {
                        missing = at;
                        break;
                    }
                    // It lacks the first name.
                    _ => continue,
                },
                Walked::Blocked(at, error) => {
                    let at = through.index(at).unwrap_or(way.skip);
                    return Ok(Walked::Blocked(at, error));
                }
            }
        }
        // Elements are dropped with the table free: with the last one goes the tree.
        if self.view.table.borrow().leads_on(&way.path) {
            let found = self.at(way.path, Vec::new(), None);
            let qid = found.qid();
            return Ok(Walked::Through(found, qid));
        }
        if self.view.table.borrow().leads_on_beside(&way.path) {
            missing = names.len().saturating_sub(1);
        }
        Ok(Walked::Blocked(missing, Errno::ENOENT.into()))
    }
}
