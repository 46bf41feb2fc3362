//! The operations of a node in the form that a trait object can have: each future in a box.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::any::Any;
use core::pin::Pin;

use p9_wire::{Attr, AttrMask, Errno, OpenFlags, Qid, SetAttr, Statfs, UnlinkFlags, XattrFlags};

use crate::{Created, Driver, DynFile, DynNode, Make, NewFiles, Node, Result, Walked};

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

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
