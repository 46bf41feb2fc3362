//! Nodes of any tree behind one type.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::fmt;

use p9_wire::{Attr, AttrMask, OpenFlags, Qid, SetAttr, Statfs, UnlinkFlags, XattrFlags};

use crate::any_node::AnyNode;
use crate::{Created, Driver, DynFile, Make, NewFiles, Node, Result, Walked};

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
