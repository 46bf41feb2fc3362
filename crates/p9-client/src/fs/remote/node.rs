//! [`RemoteNode`] as a [`Node`]: what `operations` does, behind the trait.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::pin::Pin;

use p9_tree::{Created, Driver, Make, NewFiles, Node, Walked};
use p9_wire::{
    Attr, AttrMask, Errno, OpenFlags, Qid, SetAttr, Statfs, UnlinkFlags, XattrFlags, kind,
};

use super::{Handle, RemoteFile, RemoteNode, classic, fid, xattr};
use crate::fs::{Error, Result};

/// Bytes of an extended attribute, if they are no more than asked for.
fn at_most(max: usize, bytes: Vec<u8>) -> Result<Vec<u8>> {
    match bytes.len() <= max {
        true => Ok(bytes),
        false => Err(Errno::E2BIG.into()),
    }
}

/// Operations with their futures in boxes, made in this crate. A future that is not in a box is compiled where it is polled:
/// once for each crate of a program, and into each operation of the files API that it is part of.
mod boxed {
    use super::*;

    type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

    pub(super) fn walk_at<'a>(
        node: &'a RemoteNode,
        names: &'a [&'a [u8]],
    ) -> Boxed<'a, Walked<RemoteNode>> {
        Box::pin(node.walk_at_now(names))
    }

    pub(super) fn dir_at<'a>(
        node: &'a RemoteNode,
        names: &'a [&'a [u8]],
    ) -> Boxed<'a, Walked<RemoteNode>> {
        Box::pin(node.dir_at_now(names))
    }

    pub(super) fn getattr_at<'a>(
        node: &'a RemoteNode,
        names: &'a [&'a [u8]],
        mask: AttrMask,
    ) -> Boxed<'a, Walked<Attr>> {
        Box::pin(node.getattr_at_now(names, mask))
    }

    pub(super) fn open_at<'a>(
        node: &'a RemoteNode,
        names: &'a [&'a [u8]],
        flags: OpenFlags,
    ) -> Boxed<'a, Walked<RemoteFile>> {
        Box::pin(node.open_at_now(names, flags))
    }

    pub(super) fn getattr<'a>(node: &'a RemoteNode, mask: AttrMask) -> Boxed<'a, Attr> {
        Box::pin(node.getattr_now(mask))
    }

    pub(super) fn setattr<'a>(node: &'a RemoteNode, attr: &'a SetAttr) -> Boxed<'a, ()> {
        Box::pin(node.setattr_now(attr))
    }

    pub(super) fn into_open<'a>(node: RemoteNode, flags: OpenFlags) -> Boxed<'a, RemoteFile> {
        Box::pin(node.into_open_now(flags))
    }

    pub(super) fn create<'a>(
        node: &'a RemoteNode,
        name: &'a [u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Boxed<'a, Created<RemoteNode>> {
        Box::pin(node.create_now(name, flags, mode, gid))
    }

    pub(super) fn into_create<'a>(
        node: RemoteNode,
        name: &'a [u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Boxed<'a, RemoteFile> {
        Box::pin(node.into_create_now(name, flags, mode, gid))
    }

    pub(super) fn make<'a>(
        node: RemoteNode,
        name: &'a [u8],
        what: Make<'a>,
        mode: u32,
        gid: u32,
    ) -> Boxed<'a, ()> {
        Box::pin(node.make_now(name, what, mode, gid))
    }

    pub(super) fn link<'a>(
        node: &'a RemoteNode,
        original: &'a RemoteNode,
        name: &'a [u8],
    ) -> Boxed<'a, ()> {
        Box::pin(node.link_now(original, name))
    }

    pub(super) fn rename<'a>(
        node: &'a RemoteNode,
        name: &'a [u8],
        to: &'a RemoteNode,
        new_name: &'a [u8],
    ) -> Boxed<'a, ()> {
        Box::pin(node.rename_now(name, to, new_name))
    }

    pub(super) fn unlink<'a>(
        node: &'a RemoteNode,
        name: &'a [u8],
        flags: UnlinkFlags,
    ) -> Boxed<'a, ()> {
        Box::pin(node.unlink_now(name, flags))
    }

    pub(super) fn remove_all<'a>(node: &'a RemoteNode, name: &'a [u8]) -> Boxed<'a, ()> {
        Box::pin(node.remove_all_now(name))
    }
}

impl Node for RemoteNode {
    type File = RemoteFile;

    fn qid(&self) -> Qid {
        self.qid
    }

    fn driver(&self) -> &dyn Driver {
        self.session()
    }

    fn new_files(&self) -> NewFiles {
        self.mount.new_files
    }

    fn check_flags(&self) -> Result<()> {
        fid::only_linux(self.fid(), kind::TLOPEN)
    }

    fn has_few_fids(&self) -> bool {
        self.session().dialect() != crate::Dialect::Linux
    }

    fn is_kept(&self) -> bool {
        matches!(*self.handle, Handle::Kept(_))
    }

    fn epoch(&self) -> u64 {
        self.session().epoch()
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        match self.walk_at(&[name]).await? {
            Walked::Link(_) => Err(Errno::ENOTDIR.into()),
            walked => walked.through(),
        }
    }

    async fn walk_at(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        boxed::walk_at(self, names).await
    }

    async fn dir_at(&self, names: &[&[u8]]) -> Result<Walked<Self>> {
        boxed::dir_at(self, names).await
    }

    async fn getattr_at(&self, names: &[&[u8]], mask: AttrMask) -> Result<Walked<Attr>> {
        boxed::getattr_at(self, names, mask).await
    }

    async fn open_at(&self, names: &[&[u8]], flags: OpenFlags) -> Result<Walked<RemoteFile>> {
        boxed::open_at(self, names, flags).await
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        boxed::getattr(self, mask).await
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        boxed::setattr(self, attr).await
    }

    async fn open(&self, flags: OpenFlags) -> Result<RemoteFile> {
        self.clone().into_open(flags).await
    }

    async fn into_open(self, flags: OpenFlags) -> Result<RemoteFile> {
        boxed::into_open(self, flags).await
    }

    async fn create(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Created<Self>> {
        boxed::create(self, name, flags, mode, gid).await
    }

    async fn into_create(
        self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<RemoteFile> {
        boxed::into_create(self, name, flags, mode, gid).await
    }

    async fn mkdir(&self, name: &[u8], mode: u32, gid: u32) -> Result<Self> {
        self.clone().make_as(name, Make::Dir, mode, gid).await?;
        self.walk(name).await
    }

    async fn symlink(&self, name: &[u8], target: &[u8], gid: u32) -> Result<Self> {
        let what = Make::Symlink(target);
        self.clone().make_as(name, what, 0o777, gid).await?;
        self.walk(name).await
    }

    async fn mknod(
        &self,
        name: &[u8],
        mode: u32,
        major: u32,
        minor: u32,
        gid: u32,
    ) -> Result<Self> {
        let what = Make::Node { major, minor };
        self.clone().make_as(name, what, mode, gid).await?;
        self.walk(name).await
    }

    async fn make(self, name: &[u8], what: Make<'_>, mode: u32, gid: u32) -> Result<()> {
        boxed::make(self, name, what, mode, gid).await
    }

    async fn link(&self, original: &Self, name: &[u8]) -> Result<()> {
        boxed::link(self, original, name).await
    }

    async fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        boxed::rename(self, name, to, new_name).await
    }

    async fn unlink(&self, name: &[u8], flags: UnlinkFlags) -> Result<()> {
        boxed::unlink(self, name, flags).await
    }

    async fn remove_all(&self, name: &[u8]) -> Result<()> {
        boxed::remove_all(self, name).await
    }

    async fn readlink(&self) -> Result<Vec<u8>> {
        match self.is_linux() {
            true => self.fid().readlink().await,
            false => classic::readlink(self.fid()).await,
        }
    }

    async fn statfs(&self) -> Result<Statfs> {
        fid::only_linux(self.fid(), kind::TSTATFS)?;
        self.fid().statfs().await
    }

    async fn xattr(&self, name: &[u8], max: usize) -> Result<Vec<u8>> {
        let name = xattr::check(name)?;
        let value = xattr::whole(async || xattr::read_all(self.fid(), name).await).await?;
        at_most(max, value)
    }

    async fn list_xattrs(&self, max: usize) -> Result<Vec<u8>> {
        let names = xattr::whole(async || xattr::read_all(self.fid(), b"").await).await?;
        at_most(max, names)
    }

    async fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        if value.is_empty() {
            // A size of 0 means removal to the server.
            return Err(Error::InvalidInput(
                &"an extended attribute without a value",
            ));
        }
        self.put_xattr(name, value, flags).await
    }

    async fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.put_xattr(name, b"", XattrFlags::REPLACE).await
    }
}
