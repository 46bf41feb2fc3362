//! Takes the kernel's requests, and hands each on as a job for the client's thread.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::SystemTime;

use fuser::*;
use xen9p::fs::Result;

use crate::answer::{Answer, Xattr, number};
use crate::mount::Job;
use crate::tree::{Caller, Changes, Place, Tree};

/// The file system as the kernel sees it.
pub struct Adapter {
    jobs: Sender<Job>,
    direct: bool,
}

impl Adapter {
    /// Hands on what is asked by `jobs`. `direct`: see [`Mount::new`](crate::mount::Mount::new).
    pub fn new(jobs: Sender<Job>, direct: bool) -> Self {
        Adapter { jobs, direct }
    }

    fn run<A: Answer>(
        &self,
        reply: A,
        job: impl FnOnce(&mut Tree) -> Result<A::Value> + Send + 'static,
    ) {
        // If the worker has died, dropping the reply answers EIO.
        let _ = self.jobs.send(Box::new(move |tree| match job(tree) {
            Ok(value) => reply.value(value),
            Err(error) => reply.refuse(number(error)),
        }));
    }

    fn opened(&self) -> FopenFlags {
        if self.direct {
            FopenFlags::FOPEN_DIRECT_IO
        } else {
            FopenFlags::empty()
        }
    }
}

fn place(parent: INodeNo, name: &OsStr) -> Place {
    Place {
        parent: parent.0,
        name: name.as_bytes().to_vec(),
    }
}

fn caller(request: &Request) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // An old kernel truncates with a request of its own instead.
        let _ = config.add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let place = place(parent, name);
        self.run(reply, move |tree| tree.lookup(&place));
    }

    fn forget(&self, _: &Request, node: INodeNo, lookups: u64) {
        let _ = self
            .jobs
            .send(Box::new(move |tree| tree.forget(node.0, lookups)));
    }

    fn getattr(&self, _: &Request, node: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        self.run(reply, move |tree| {
            tree.attributes(node.0, handle.map(|h| h.0))
        });
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changes = Changes {
            mode,
            uid,
            gid,
            size,
            accessed,
            modified,
        };
        self.run(reply, move |tree| {
            tree.change(node.0, handle.map(|h| h.0), &changes)
        });
    }

    fn readlink(&self, _: &Request, node: INodeNo, reply: ReplyData) {
        self.run(reply, move |tree| tree.read_link(node.0));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (caller, place) = (caller(request), place(parent, name));
        self.run(reply, move |tree| {
            tree.make_node(caller, &place, mode, rdev)
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (caller, place) = (caller(request), place(parent, name));
        self.run(reply, move |tree| tree.make_dir(caller, &place, mode));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let place = place(parent, name);
        self.run(reply, move |tree| tree.remove_file(&place));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let place = place(parent, name);
        self.run(reply, move |tree| tree.remove_dir(&place));
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (caller, place) = (caller(request), place(parent, name));
        let target = target.as_os_str().as_bytes().to_vec();
        self.run(reply, move |tree| {
            tree.make_symlink(caller, &place, &target)
        });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let (from, to) = (place(parent, name), place(new_parent, new_name));
        self.run(reply, move |tree| tree.rename(&from, &to));
    }

    fn link(
        &self,
        _: &Request,
        node: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let place = place(new_parent, new_name);
        self.run(reply, move |tree| tree.make_link(node.0, &place));
    }

    fn open(&self, _: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.opened();
        self.run(reply, move |tree| Ok((tree.open(node.0, flags.0)?, opened)));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (caller, place, opened) = (caller(request), place(parent, name), self.opened());
        self.run(reply, move |tree| {
            let (attributes, handle) = tree.create(caller, &place, mode, flags)?;
            Ok((attributes, handle, opened))
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.run(reply, move |tree| {
            tree.read(handle.0, offset, size as usize)
        });
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = data.to_vec();
        self.run(reply, move |tree| tree.write(handle.0, offset, &data));
    }

    /// The client buffers nothing, so that closing one of several descriptors is no event for it.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.run(reply, move |tree| tree.close_file(handle.0));
    }

    fn fsync(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.run(reply, move |tree| tree.sync(handle.0, datasync));
    }

    fn opendir(&self, _: &Request, node: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.run(reply, move |tree| {
            Ok((tree.open_dir(node.0)?, FopenFlags::empty()))
        });
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let _ = self.jobs.send(Box::new(move |tree| {
            match tree.read_dir(handle.0, offset, &mut reply) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(number(error)),
            }
        }));
    }

    fn fsyncdir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.run(reply, move |tree| tree.sync_dir(handle.0, datasync));
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.run(reply, move |tree| tree.close_dir(handle.0));
    }

    fn statfs(&self, _: &Request, node: INodeNo, reply: ReplyStatfs) {
        self.run(reply, move |tree| tree.statfs(node.0));
    }

    fn setxattr(
        &self,
        _: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        // XATTR_CREATE and XATTR_REPLACE have no counterpart in the client.
        if flags != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let (name, value) = (name.as_bytes().to_vec(), value.to_vec());
        self.run(reply, move |tree| tree.set_xattr(node.0, &name, &value));
    }

    fn getxattr(&self, _: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.as_bytes().to_vec();
        self.run(Xattr::new(reply, size), move |tree| {
            tree.xattr(node.0, &name)
        });
    }

    fn listxattr(&self, _: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        self.run(Xattr::new(reply, size), move |tree| {
            tree.list_xattrs(node.0)
        });
    }

    fn removexattr(&self, _: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes().to_vec();
        self.run(reply, move |tree| tree.remove_xattr(node.0, &name));
    }
}
