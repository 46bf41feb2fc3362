//! Nodes of any tree behind one type.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::pin::Pin;

use p9_wire::{Attr, AttrMask, Errno, OpenFlags, Qid, SetAttr, Statfs, UnlinkFlags, XattrFlags};

use crate::{Created, Driver, DynFile, Make, NewFiles, Node, Result, Walked};

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// A node of a tree of any type, for what is made of several trees, such as a name space.
///
/// # Cost
/// Each operation allocates once for its future, each node and each open file that it gives once more; a walk along
/// several names, and opening or asking for attributes behind one, is a single operation. Nothing else is copied, and no
/// request is added: what a tree overrides to be fast is what is called. `tests/erased.rs` counts that.
#[derive(Clone)]
pub struct DynNode(Rc<dyn AnyNode>);

impl fmt::Debug for DynNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DynNode").field(&Node::qid(self)).finish()
    }
}

impl DynNode {
    /// The same node behind this type; one that has it already stays as it is.
    pub fn new(node: impl Node<File: 'static> + 'static) -> Self {
        node.into_dyn()
    }

    pub(crate) fn of_other_type(node: impl Node<File: 'static> + 'static) -> Self {
        DynNode(Rc::new(node))
    }

    /// Its operations as they are behind this type: each future in a box already.
    pub(crate) fn any(&self) -> &dyn AnyNode {
        &*self.0
    }

    pub(crate) fn into_any(self) -> Rc<dyn AnyNode> {
        self.0
    }

    /// The node itself, if it is of this type.
    pub fn downcast<N: Node + 'static>(&self) -> Option<&N> {
        self.0.as_any().downcast_ref()
    }
}

/// What [`Node`] is without what keeps it from being a trait object.
pub(crate) trait AnyNode {
    fn as_any(&self) -> &dyn Any;
    fn concurrent(&self) -> DynNode;
    fn qid(&self) -> Qid;
    fn driver(&self) -> &dyn Driver;
    fn new_files(&self) -> NewFiles;
    fn check_flags(&self) -> Result<()>;
    fn has_few_fids(&self) -> bool;
    fn is_kept(&self) -> bool;
    fn epoch(&self) -> u64;
    fn walk<'a>(&'a self, name: &'a [u8]) -> Boxed<'a, DynNode>;
    fn walk_along<'a>(
        &'a self,
        names: &'a [&'a [u8]],
        nodes: &'a mut Vec<DynNode>,
    ) -> Boxed<'a, ()>;
    fn walk_at<'a>(&'a self, names: &'a [&'a [u8]]) -> Boxed<'a, Walked<DynNode>>;
    fn dir_at<'a>(&'a self, names: &'a [&'a [u8]]) -> Boxed<'a, Walked<DynNode>>;
    fn getattr_at<'a>(&'a self, names: &'a [&'a [u8]], mask: AttrMask) -> Boxed<'a, Walked<Attr>>;
    fn open_at<'a>(&'a self, names: &'a [&'a [u8]], flags: OpenFlags)
    -> Boxed<'a, Walked<DynFile>>;
    fn readlink_at<'a>(&'a self, names: &'a [&'a [u8]]) -> Boxed<'a, Walked<Vec<u8>>>;
    fn getattr(&self, mask: AttrMask) -> Boxed<'_, Attr>;
    fn setattr<'a>(&'a self, attr: &'a SetAttr) -> Boxed<'a, ()>;
    fn open(&self, flags: OpenFlags) -> Boxed<'_, DynFile>;
    fn into_open(self: Rc<Self>, flags: OpenFlags) -> Boxed<'static, DynFile>;
    fn create<'a>(
        &'a self,
        name: &'a [u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Boxed<'a, Created<DynNode>>;
    fn into_create<'a>(
        self: Rc<Self>,
        name: &'a [u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Boxed<'a, DynFile>;
    fn mkdir<'a>(&'a self, name: &'a [u8], mode: u32, gid: u32) -> Boxed<'a, DynNode>;
    fn symlink<'a>(&'a self, name: &'a [u8], target: &'a [u8], gid: u32) -> Boxed<'a, DynNode>;
    fn mknod<'a>(
        &'a self,
        name: &'a [u8],
        mode: u32,
        device: (u32, u32),
        gid: u32,
    ) -> Boxed<'a, DynNode>;
    fn make<'a>(
        self: Rc<Self>,
        name: &'a [u8],
        what: Make<'a>,
        mode: u32,
        gid: u32,
    ) -> Boxed<'a, ()>;
    fn link<'a>(&'a self, original: &'a DynNode, name: &'a [u8]) -> Boxed<'a, ()>;
    fn rename<'a>(&'a self, name: &'a [u8], to: &'a DynNode, new_name: &'a [u8]) -> Boxed<'a, ()>;
    fn unlink<'a>(&'a self, name: &'a [u8], flags: UnlinkFlags) -> Boxed<'a, ()>;
    fn remove_all<'a>(&'a self, name: &'a [u8]) -> Boxed<'a, ()>;
    fn readlink(&self) -> Boxed<'_, Vec<u8>>;
    fn statfs(&self) -> Boxed<'_, Statfs>;
    fn xattr<'a>(&'a self, name: &'a [u8], max: usize) -> Boxed<'a, Vec<u8>>;
    fn list_xattrs(&self, max: usize) -> Boxed<'_, Vec<u8>>;
    fn set_xattr<'a>(&'a self, name: &'a [u8], value: &'a [u8], flags: XattrFlags)
    -> Boxed<'a, ()>;
    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> Boxed<'a, ()>;
}

/// The node of another, if both are of one type: else they are of different trees.
fn same_type<N: Node + 'static>(node: &DynNode) -> Result<&N> {
    node.downcast().ok_or(Errno::EXDEV.into())
}

impl<N: Node<File: 'static> + 'static> AnyNode for N {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn concurrent(&self) -> DynNode {
        DynNode::new(Node::concurrent(self))
    }

    fn qid(&self) -> Qid {
        Node::qid(self)
    }

    fn driver(&self) -> &dyn Driver {
        Node::driver(self)
    }

    fn new_files(&self) -> NewFiles {
        Node::new_files(self)
    }

    fn check_flags(&self) -> Result<()> {
        Node::check_flags(self)
    }

    fn has_few_fids(&self) -> bool {
        Node::has_few_fids(self)
    }

    fn is_kept(&self) -> bool {
        Node::is_kept(self)
    }

    fn epoch(&self) -> u64 {
        Node::epoch(self)
    }

    fn walk<'a>(&'a self, name: &'a [u8]) -> Boxed<'a, DynNode> {
        Box::pin(async move { Node::walk(self, name).await.map(DynNode::new) })
    }

    fn walk_along<'a>(
        &'a self,
        names: &'a [&'a [u8]],
        nodes: &'a mut Vec<DynNode>,
    ) -> Boxed<'a, ()> {
        Box::pin(async move {
            let mut found = Vec::new();
            let walked = Node::walk_along(self, names, &mut found).await;
            nodes.extend(found.into_iter().map(DynNode::new));
            walked
        })
    }

    fn walk_at<'a>(&'a self, names: &'a [&'a [u8]]) -> Boxed<'a, Walked<DynNode>> {
        Box::pin(async move { Ok(Node::walk_at(self, names).await?.map(DynNode::new)) })
    }

    fn dir_at<'a>(&'a self, names: &'a [&'a [u8]]) -> Boxed<'a, Walked<DynNode>> {
        Box::pin(async move { Ok(Node::dir_at(self, names).await?.map(DynNode::new)) })
    }

    fn getattr_at<'a>(&'a self, names: &'a [&'a [u8]], mask: AttrMask) -> Boxed<'a, Walked<Attr>> {
        Box::pin(Node::getattr_at(self, names, mask))
    }

    fn open_at<'a>(
        &'a self,
        names: &'a [&'a [u8]],
        flags: OpenFlags,
    ) -> Boxed<'a, Walked<DynFile>> {
        Box::pin(async move { Ok(Node::open_at(self, names, flags).await?.map(DynFile::new)) })
    }

    fn readlink_at<'a>(&'a self, names: &'a [&'a [u8]]) -> Boxed<'a, Walked<Vec<u8>>> {
        Box::pin(Node::readlink_at(self, names))
    }

    fn getattr(&self, mask: AttrMask) -> Boxed<'_, Attr> {
        Box::pin(Node::getattr(self, mask))
    }

    fn setattr<'a>(&'a self, attr: &'a SetAttr) -> Boxed<'a, ()> {
        Box::pin(Node::setattr(self, attr))
    }

    fn open(&self, flags: OpenFlags) -> Boxed<'_, DynFile> {
        Box::pin(async move { Node::open(self, flags).await.map(DynFile::new) })
    }

    fn into_open(self: Rc<Self>, flags: OpenFlags) -> Boxed<'static, DynFile> {
        Box::pin(async move {
            match Rc::try_unwrap(self) {
                Ok(node) => Node::into_open(node, flags).await,
                Err(node) => Node::open(&*node, flags).await,
            }
            .map(DynFile::new)
        })
    }

    fn create<'a>(
        &'a self,
        name: &'a [u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Boxed<'a, Created<DynNode>> {
        Box::pin(async move {
            let Created { node, file } = Node::create(self, name, flags, mode, gid).await?;
            Ok(Created {
                node: DynNode::new(node),
                file: DynFile::new(file),
            })
        })
    }

    fn into_create<'a>(
        self: Rc<Self>,
        name: &'a [u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Boxed<'a, DynFile> {
        Box::pin(async move {
            let node = Rc::unwrap_or_clone(self);
            let made = Node::into_create(node, name, flags, mode, gid).await;
            made.map(DynFile::new)
        })
    }

    fn mkdir<'a>(&'a self, name: &'a [u8], mode: u32, gid: u32) -> Boxed<'a, DynNode> {
        Box::pin(async move { Node::mkdir(self, name, mode, gid).await.map(DynNode::new) })
    }

    fn symlink<'a>(&'a self, name: &'a [u8], target: &'a [u8], gid: u32) -> Boxed<'a, DynNode> {
        Box::pin(async move {
            let made = Node::symlink(self, name, target, gid).await;
            made.map(DynNode::new)
        })
    }

    fn mknod<'a>(
        &'a self,
        name: &'a [u8],
        mode: u32,
        (major, minor): (u32, u32),
        gid: u32,
    ) -> Boxed<'a, DynNode> {
        Box::pin(async move {
            let made = Node::mknod(self, name, mode, major, minor, gid).await;
            made.map(DynNode::new)
        })
    }

    fn make<'a>(
        self: Rc<Self>,
        name: &'a [u8],
        what: Make<'a>,
        mode: u32,
        gid: u32,
    ) -> Boxed<'a, ()> {
        Box::pin(Node::make(Rc::unwrap_or_clone(self), name, what, mode, gid))
    }

    fn link<'a>(&'a self, original: &'a DynNode, name: &'a [u8]) -> Boxed<'a, ()> {
        Box::pin(async move { Node::link(self, same_type(original)?, name).await })
    }

    fn rename<'a>(&'a self, name: &'a [u8], to: &'a DynNode, new_name: &'a [u8]) -> Boxed<'a, ()> {
        Box::pin(async move { Node::rename(self, name, same_type(to)?, new_name).await })
    }

    fn unlink<'a>(&'a self, name: &'a [u8], flags: UnlinkFlags) -> Boxed<'a, ()> {
        Box::pin(Node::unlink(self, name, flags))
    }

    fn remove_all<'a>(&'a self, name: &'a [u8]) -> Boxed<'a, ()> {
        Box::pin(Node::remove_all(self, name))
    }

    fn readlink(&self) -> Boxed<'_, Vec<u8>> {
        Box::pin(Node::readlink(self))
    }

    fn statfs(&self) -> Boxed<'_, Statfs> {
        Box::pin(Node::statfs(self))
    }

    fn xattr<'a>(&'a self, name: &'a [u8], max: usize) -> Boxed<'a, Vec<u8>> {
        Box::pin(Node::xattr(self, name, max))
    }

    fn list_xattrs(&self, max: usize) -> Boxed<'_, Vec<u8>> {
        Box::pin(Node::list_xattrs(self, max))
    }

    fn set_xattr<'a>(
        &'a self,
        name: &'a [u8],
        value: &'a [u8],
        flags: XattrFlags,
    ) -> Boxed<'a, ()> {
        Box::pin(Node::set_xattr(self, name, value, flags))
    }

    fn remove_xattr<'a>(&'a self, name: &'a [u8]) -> Boxed<'a, ()> {
        Box::pin(Node::remove_xattr(self, name))
    }
}

impl Node for DynNode {
    type File = DynFile;

    fn into_dyn(self) -> DynNode {
        self
    }

    fn qid(&self) -> Qid {
        self.0.qid()
    }

    fn driver(&self) -> &dyn Driver {
        self.0.driver()
    }

    fn new_files(&self) -> NewFiles {
        self.0.new_files()
    }

    fn check_flags(&self) -> Result<()> {
        self.0.check_flags()
    }

    fn has_few_fids(&self) -> bool {
        self.0.has_few_fids()
    }

    fn is_kept(&self) -> bool {
        self.0.is_kept()
    }

    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    fn concurrent(&self) -> Self {
        self.0.concurrent()
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        self.0.walk(name).await
    }

    async fn walk_along(&self, names: &[&[u8]], nodes: &mut Vec<Self>) -> Result<()> {
        self.0.walk_along(names, nodes).await
    }

    async fn walk_at(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        self.0.walk_at(names).await
    }

    async fn dir_at(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        self.0.dir_at(names).await
    }

    async fn getattr_at(&self, names: &[&[u8]], mask: AttrMask) -> Result<Walked<Attr>> {
        self.0.getattr_at(names, mask).await
    }

    async fn open_at(&self, names: &[&[u8]], flags: OpenFlags) -> Result<Walked<DynFile>> {
        self.0.open_at(names, flags).await
    }

    async fn readlink_at(&self, names: &[&[u8]]) -> Result<Walked<Vec<u8>>> {
        self.0.readlink_at(names).await
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        self.0.getattr(mask).await
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        self.0.setattr(attr).await
    }

    async fn open(&self, flags: OpenFlags) -> Result<DynFile> {
        self.0.open(flags).await
    }

    async fn into_open(self, flags: OpenFlags) -> Result<DynFile> {
        self.0.into_open(flags).await
    }

    async fn create(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Created<Self>> {
        self.0.create(name, flags, mode, gid).await
    }

    async fn into_create(
        self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<DynFile> {
        self.0.into_create(name, flags, mode, gid).await
    }

    async fn mkdir(&self, name: &[u8], mode: u32, gid: u32) -> Result<Self> {
        self.0.mkdir(name, mode, gid).await
    }

    async fn symlink(&self, name: &[u8], target: &[u8], gid: u32) -> Result<Self> {
        self.0.symlink(name, target, gid).await
    }

    async fn mknod(
        &self,
        name: &[u8],
        mode: u32,
        major: u32,
        minor: u32,
        gid: u32,
    ) -> Result<Self> {
        self.0.mknod(name, mode, (major, minor), gid).await
    }

    async fn make(self, name: &[u8], what: Make<'_>, mode: u32, gid: u32) -> Result<()> {
        self.0.make(name, what, mode, gid).await
    }

    async fn link(&self, original: &Self, name: &[u8]) -> Result<()> {
        self.0.link(original, name).await
    }

    async fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        self.0.rename(name, to, new_name).await
    }

    async fn unlink(&self, name: &[u8], flags: UnlinkFlags) -> Result<()> {
        self.0.unlink(name, flags).await
    }

    async fn remove_all(&self, name: &[u8]) -> Result<()> {
        self.0.remove_all(name).await
    }

    async fn readlink(&self) -> Result<Vec<u8>> {
        self.0.readlink().await
    }

    async fn statfs(&self) -> Result<Statfs> {
        self.0.statfs().await
    }

    async fn xattr(&self, name: &[u8], max: usize) -> Result<Vec<u8>> {
        self.0.xattr(name, max).await
    }

    async fn list_xattrs(&self, max: usize) -> Result<Vec<u8>> {
        self.0.list_xattrs(max).await
    }

    async fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        self.0.set_xattr(name, value, flags).await
    }

    async fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.0.remove_xattr(name).await
    }
}
