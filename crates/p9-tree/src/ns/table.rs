//! The mount table: which trees are seen at which paths.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use super::element::{Element, Mounted};
use super::error::MAX_ELEMENTS;
use super::{NsError, Tree};
use crate::CleanPath;

/// Where a bound directory goes in the union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Replace,
    Before,
    After,
}

/// How to bind: in place of what is there, or united with it.
///
/// ```
/// # use xen9p::ns::{Bind, Namespace, NsError};
/// # fn demo(ns: &Namespace) -> Result<(), NsError> {
/// // What is in /overlay hides its namesakes in /etc, and what is new in /etc is made in /overlay.
/// ns.bind("/overlay", "/etc", Bind::BEFORE.create())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    order: Order,
    create: bool,
}

impl Bind {
    /// The new is seen instead of the old (MREPL).
    pub const REPLACE: Bind = Bind::of(Order::Replace);
    /// The new directory is searched before the old ones (MBEFORE).
    pub const BEFORE: Bind = Bind::of(Order::Before);
    /// The new directory is searched after the old ones (MAFTER).
    pub const AFTER: Bind = Bind::of(Order::After);

    const fn of(order: Order) -> Bind {
        Bind {
            order,
            create: false,
        }
    }

    /// Files and directories may be made in the new directory as an element of a union (MCREATE).
    #[must_use]
    pub const fn create(mut self) -> Bind {
        self.create = true;
        self
    }

    /// Whether a union comes of it.
    pub(super) fn unites(self) -> bool {
        self.order != Order::Replace
    }
}

/// The element of a directory that takes what is made in it.
pub(super) fn creator(elements: &[Element]) -> Option<&Element> {
    match elements {
        [only] => Some(only),
        union => union.iter().find(|element| element.create),
    }
}

/// Elements that the table does not hold any more. The caller drops them when the table is free: with the last element of
/// a tree goes the tree, which may wait, and whose own code may use the name space.
pub(super) type Gone = Vec<Element>;

/// Something that trees are seen at.
#[derive(Clone)]
struct Point {
    path: CleanPath,
    is_dir: bool,
    elements: Vec<Element>,
}

/// The last point on the way to a path.
pub(super) struct Nearest {
    /// How many names the way to it has.
    pub(super) depth: usize,
    pub(super) elements: Vec<Element>,
}

#[derive(Clone)]
pub(super) struct Table {
    /// What is seen at the root when nothing is bound over it.
    root: Element,
    /// How many trees were mounted so far.
    mounted: u64,
    points: Vec<Point>,
    pub(super) sealed: bool,
}

impl Table {
    pub(super) fn new(root: Rc<dyn Tree>) -> Self {
        Table {
            root: Element::new(Mounted::new(root, 0), CleanPath::root()),
            mounted: 0,
            points: Vec::new(),
            sealed: false,
        }
    }

    /// A number for a new mount.
    pub(super) fn next_number(&mut self) -> u64 {
        self.mounted += 1;
        self.mounted
    }

    fn position(&self, path: &CleanPath) -> Option<usize> {
        self.points.iter().position(|point| point.path == *path)
    }

    /// The longest part of the path that something is mounted at.
    pub(super) fn nearest(&self, path: &CleanPath) -> Nearest {
        let points = self.points.iter();
        let on_the_way = points.filter(|point| path.below(&point.path).is_some());
        match on_the_way.max_by_key(|point| point.path.as_bytes().len()) {
            Some(point) => Nearest {
                depth: point.path.names().count(),
                elements: point.elements.clone(),
            },
            None => Nearest {
                depth: 0,
                elements: vec![self.root.clone()],
            },
        }
    }

    /// Whether something is mounted below the path; there is a directory then, whatever servers say.
    pub(super) fn leads_on(&self, path: &CleanPath) -> bool {
        let mut points = self.points.iter();
        points.any(|point| point.path.below(path).is_some_and(|rest| !rest.is_empty()))
    }

    /// The same of the directory that the path is in.
    pub(super) fn leads_on_beside(&self, path: &CleanPath) -> bool {
        let mut points = self.points.iter();
        points.any(|point| point.path.is_below_parent_of(path))
    }

    /// Whether the path must stay what it is: something is mounted there or below.
    pub(super) fn holds(&self, path: &CleanPath) -> bool {
        let mut points = self.points.iter();
        path.is_root() || points.any(|point| point.path.below(path).is_some())
    }

    /// The names in a directory that are, or lead to, mount points, each once; and whether it is that of
    /// a directory.
    pub(super) fn names_in(&self, path: &CleanPath) -> Vec<(Vec<u8>, bool)> {
        let mut names: Vec<(Vec<u8>, bool)> = Vec::new();
        for point in &self.points {
            let rest = point.path.below(path).unwrap_or(&[]);
            let mut rest = rest.split(|&byte| byte == b'/').skip(1);
            let Some(name) = rest.next() else { continue };
            let is_dir = point.is_dir || rest.next().is_some();
            match names.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known |= is_dir,
                None => names.push((name.to_vec(), is_dir)),
            }
        }
        names
    }

    /// Puts elements at a path in place of what was there, and returns the latter.
    pub(super) fn replace(
        &mut self,
        path: CleanPath,
        is_dir: bool,
        elements: Vec<Element>,
    ) -> Gone {
        let point = Point {
            path,
            is_dir,
            elements,
        };
        match self.position(&point.path) {
            Some(at) => mem::replace(&mut self.points[at], point).elements,
            None => {
                self.points.push(point);
                Gone::new()
            }
        }
    }

    /// Binds `new`, of which there is at least one, onto `path`, at which `old` is seen now. Returns the elements that
    /// the table does not hold any more.
    pub(super) fn bind(
        &mut self,
        path: CleanPath,
        is_dir: bool,
        mut new: Vec<Element>,
        mut old: Vec<Element>,
        how: Bind,
    ) -> (Gone, core::result::Result<(), NsError>) {
        for element in &mut new {
            element.original = false;
        }
        if let Some(first) = new.first_mut() {
            first.create |= how.create;
        }
        if how.unites() && self.position(&path).is_none() {
            for element in &mut old {
                element.original = true;
            }
        }
        let mut gone = Gone::new();
        let elements: Vec<Element> = match how.order {
            Order::Replace => {
                gone = old;
                new
            }
            Order::Before => new.into_iter().chain(old).collect(),
            Order::After => old.into_iter().chain(new).collect(),
        };
        if elements.len() > MAX_ELEMENTS {
            gone.extend(elements);
            return (gone, Err(NsError::TooManyElements));
        }
        gone.extend(self.replace(path, is_dir, elements));
        (gone, Ok(()))
    }

    /// Takes away what is mounted or bound at the path: all, or those elements that are one of `which`. Returns the
    /// elements that were taken away.
    pub(super) fn unmount(
        &mut self,
        path: &CleanPath,
        which: Option<&[Element]>,
    ) -> core::result::Result<Gone, NsError> {
        let Some(at) = self.position(path) else {
            return Err(match path.is_root() {
                true => NsError::Root,
                false => NsError::NotMounted,
            });
        };
        let old = &self.points[at].elements;
        let gone = |element: &Element| {
            which.is_none_or(|which| which.iter().any(|given| given.is(element)))
        };
        let left: Vec<Element> = old.iter().filter(|&old| !gone(old)).cloned().collect();
        if left.len() == old.len() {
            return Err(NsError::NoSuchElement);
        }
        if !left.iter().all(|element| element.original) {
            return Ok(mem::replace(&mut self.points[at].elements, left));
        }
        // Nothing is left but what is there anyway.
        if !path.is_root() && self.leads_on(path) {
            return Err(NsError::Busy);
        }
        Ok(self.points.swap_remove(at).elements)
    }

    /// The points, by path.
    pub(super) fn list(&self) -> Vec<super::MountPoint> {
        let mut list: Vec<super::MountPoint> = Vec::with_capacity(self.points.len());
        for point in &self.points {
            let path = point.path.as_bytes();
            // There are few: sorting code would be more than it is worth.
            let at = list.partition_point(|before| before.path.as_slice() <= path);
            let point = super::MountPoint {
                path: path.to_vec(),
                is_dir: point.is_dir,
                elements: point.elements.len(),
            };
            list.insert(at, point);
        }
        list
    }
}
