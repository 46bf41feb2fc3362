//! What can be mounted in a name space.

use alloc::rc::Rc;

use crate::files::Fs;
use crate::trees::{MemTree, ReadOnlyNode};
use crate::{Driver, DynNode, NeverWaits, Node};

/// A tree of files that can be mounted in a [`Namespace`](super::Namespace): a mount of a server, [`MemTree`] in memory,
/// [`ReadOnly`] over others, a name space itself, or [`NodeTree`] for any other [`Node`], such as an
/// [overlay](crate::trees::OverlayNode).
///
/// The name space follows symbolic links and checks names; what else it asks is asked of the root and of the nodes below
/// it. They may use the name space.
pub trait Tree {
    /// The root of the tree.
    fn root(&self) -> DynNode;

    /// How to wait for the tree, for callers that block. Without it, as its root says.
    fn driver(&self) -> Rc<dyn Driver> {
        self.root().driver().share()
    }
}

impl Tree for MemTree {
    fn root(&self) -> DynNode {
        DynNode::new(MemTree::root(self))
    }
}

impl<N: Node<File: 'static> + 'static> Tree for Fs<N> {
    fn root(&self) -> DynNode {
        DynNode::new(self.as_async().root().clone())
    }
}

impl<T: Tree + ?Sized> Tree for Rc<T> {
    fn root(&self) -> DynNode {
        (**self).root()
    }

    fn driver(&self) -> Rc<dyn Driver> {
        (**self).driver()
    }
}

/// A tree that begins with a node, of a type that implements [`Node`] alone.
pub struct NodeTree {
    root: DynNode,
    driver: Rc<dyn Driver>,
}

impl NodeTree {
    /// The tree that begins with `root` and never waits.
    pub fn new(root: impl Node<File: 'static> + 'static) -> Self {
        NodeTree::with_driver(root, Rc::new(NeverWaits))
    }

    /// The tree that begins with `root` and is waited for like this.
    pub fn with_driver(root: impl Node<File: 'static> + 'static, driver: Rc<dyn Driver>) -> Self {
        NodeTree {
            root: DynNode::new(root),
            driver,
        }
    }
}

impl Tree for NodeTree {
    fn root(&self) -> DynNode {
        self.root.clone()
    }

    fn driver(&self) -> Rc<dyn Driver> {
        self.driver.clone()
    }
}

/// A tree that can be read and not changed, whatever the tree under it allows: changes are EROFS and
/// never reach it.
pub struct ReadOnly(Rc<dyn Tree>);

impl ReadOnly {
    /// A read-only view of `tree`.
    pub fn new(tree: impl Tree + 'static) -> Self {
        ReadOnly(Rc::new(tree))
    }

    /// A read-only view of a tree that is shared.
    pub fn of(tree: Rc<dyn Tree>) -> Self {
        ReadOnly(tree)
    }
}

impl Tree for ReadOnly {
    fn root(&self) -> DynNode {
        DynNode::new(ReadOnlyNode::new(self.0.root()))
    }

    fn driver(&self) -> Rc<dyn Driver> {
        self.0.driver()
    }
}
