//! The trees of a name space, and what is in them.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::pin::Pin;
use core::task::{Context, Poll};

use p9_wire::Errno;

use super::Tree;
use crate::any_node::Boxed;
use crate::drive::block_on_pinned;
use crate::{CleanPath, Driver, DynNode, NewFiles, Node, Result};

/// How a tree is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// In the call, by the tree's driver: futures are then ready when they are polled first.
    Here,
    /// By the caller, who polls.
    Polled,
    /// By the caller for the tree of this number, whose driver the caller uses; in the call for others.
    Within(u64),
}

/// A tree that was mounted.
pub(super) struct Mounted {
    tree: Rc<dyn Tree>,
    pub(super) root: DynNode,
    pub(super) driver: Rc<dyn Driver>,
    pub(super) new_files: NewFiles,
    /// Tells the numbers of its files from those of other trees; the first tree has 0.
    pub(super) number: u64,
}

impl Mounted {
    pub(super) fn new(tree: Rc<dyn Tree>, number: u64) -> Rc<Self> {
        Rc::new(Mounted {
            root: tree.root(),
            driver: tree.driver(),
            new_files: tree.root().new_files(),
            tree,
            number,
        })
    }

    /// Does something with the tree, and waits for it.
    fn run<T>(&self, mut operation: Boxed<'_, T>) -> Result<T> {
        block_on_pinned(&*self.driver, operation.as_mut())
    }

    /// Does something with the tree, waiting as asked for. In a box, as all comes that a tree of any type does, so that
    /// there is one function for each kind of result.
    pub(super) fn wait<'a, T>(&self, wait: Wait, operation: Boxed<'a, T>) -> Waited<'a, T> {
        match self.is_polled(wait) {
            true => Waited::Polled(operation),
            false => Waited::Done(Some(self.run(operation))),
        }
    }

    /// Whether the caller waits for the tree.
    pub(super) fn is_polled(&self, wait: Wait) -> bool {
        match wait {
            Wait::Here => false,
            Wait::Polled => true,
            Wait::Within(number) => number == self.number,
        }
    }
}

/// An operation of a tree that was waited for, or one to poll.
pub(super) enum Waited<'a, T> {
    Done(Option<Result<T>>),
    Polled(Boxed<'a, T>),
}

impl<T> Unpin for Waited<'_, T> {}

impl<T> Future for Waited<'_, T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        match self.get_mut() {
            Waited::Done(result) => {
                Poll::Ready(result.take().unwrap_or(Err(Errno::EDEADLK.into())))
            }
            Waited::Polled(operation) => operation.as_mut().poll(cx),
        }
    }
}

/// A file or directory of a tree.
#[derive(Clone)]
pub(super) struct Element {
    pub(super) tree: Rc<Mounted>,
    pub(super) at: CleanPath,
    /// Whether it takes what is made in a union that it is part of.
    pub(super) create: bool,
    /// Whether it was there before anything was bound, which goes without saying.
    pub(super) original: bool,
}

impl Element {
    pub(super) fn new(tree: Rc<Mounted>, at: CleanPath) -> Self {
        Element {
            tree,
            at,
            create: false,
            original: false,
        }
    }

    /// What lies below it by these names.
    pub(super) fn join(&self, names: &[&[u8]]) -> Result<Element> {
        let mut at = self.at.clone();
        for name in names {
            at.push(name)?;
        }
        Ok(Element::new(self.tree.clone(), at))
    }

    pub(super) fn same_tree(&self, other: &Element) -> bool {
        Rc::ptr_eq(&self.tree.tree, &other.tree.tree)
    }

    pub(super) fn is(&self, other: &Element) -> bool {
        self.same_tree(other) && self.at == other.at
    }

    /// The names on its way from the root of its tree.
    pub(super) fn names(&self) -> Vec<&[u8]> {
        self.at.names().collect()
    }

    /// Its node.
    ///
    /// # Errors
    /// What is in the way, be it a symbolic link: it was none when the element was found.
    pub(super) async fn node(&self, wait: Wait) -> Result<DynNode> {
        if self.at.is_root() {
            return Ok(self.tree.root.clone());
        }
        let names = self.names();
        let walked = self.tree.wait(wait, self.tree.root.any().walk_at(&names));
        walked.await?.through()
    }
}
