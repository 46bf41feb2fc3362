//! The mount: takes the kernel's requests and has them answered by the one thread that owns the
//! client, which is single-threaded by design.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use fuser::*;
use xen9p::fs::{Error, Fs, MountOptions, Result, StatFs};
use xen9p::transport::Transport;

use crate::tree::{Caller, Changes, Handle, Place, Tree};

/// How long the kernel may keep what it was told. Nothing of a file: every look at it is a question to
/// the server. A directory it may keep, as no other user changes it; without that, the kernel asks for
/// each name of a path of 4,095 bytes again, from the root, in every call that takes the path.
fn kept_for(attributes: &FileAttr) -> Duration {
    match attributes.kind {
        FileType::Directory => Duration::from_secs(1),
        _ => Duration::ZERO,
    }
}

/// How long the kernel may take to close what is closed.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce(&mut Tree) + Send>;

/// A mounted client. [`end`](Self::end) it: dropped, it only unmounts.
pub struct Mount {
    session: BackgroundSession,
    jobs: Sender<Job>,
    worker: JoinHandle<Result<usize>>,
}

impl Mount {
    /// Mounts the client's view of a server on a directory. `connect` is called in the thread that
    /// will own the client. With `direct`, the kernel's page cache is out of the way: each read and
    /// write reaches the client as it is, but a file can't be mapped shared.
    pub fn new<T: Transport + 'static>(
        at: &Path,
        options: MountOptions,
        direct: bool,
        connect: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<Mount> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (report, connected) = mpsc::channel();
        let worker = thread::Builder::new()
            .name("client".into())
            .spawn(move || {
                let mounted = connect()
                    .and_then(|transport| Fs::mount(transport, &options).map_err(io::Error::other));
                let root = match mounted {
                    Ok(root) => root,
                    Err(error) => {
                        let _ = report.send(Err(error));
                        return Ok(0);
                    }
                };
                let _ = report.send(Ok(()));
                let mut tree = Tree::new(root, options);
                for job in inbox {
                    job(&mut tree);
                }
                tree.close()
            })?;
        connected.recv().map_err(io::Error::other)??;
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.mount_options = vec![
            MountOption::FSName("xen9p".into()),
            MountOption::DefaultPermissions,
            MountOption::Dev,
            MountOption::Suid,
        ];
        let adapter = Adapter {
            jobs: jobs.clone(),
            direct,
        };
        let session = Session::new(adapter, at, &config)?.spawn()?;
        Ok(Mount {
            session,
            jobs,
            worker,
        })
    }

    /// Unmounts and ends the connection; complains if that did not go in good order.
    pub fn end(self) -> io::Result<()> {
        // The kernel closes files some time after their users have, and not at all once unmounted.
        let deadline = Instant::now() + UNMOUNT_TIMEOUT;
        while self.open()? > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        self.session.umount_and_join()?;
        drop(self.jobs);
        match self.worker.join() {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(open)) => Err(io::Error::other(format!("{open} files were still open"))),
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(_) => Err(io::Error::other("the client panicked")),
        }
    }

    /// How many files and directories are open.
    fn open(&self) -> io::Result<usize> {
        let (report, open) = mpsc::channel();
        let job: Job = Box::new(move |tree| {
            let _ = report.send(tree.open_handles());
        });
        let died = || io::Error::other("the client panicked");
        self.jobs.send(job).map_err(|_| died())?;
        open.recv().map_err(|_| died())
    }
}

/// A place for the answer to a request.
trait Answer: Send + 'static {
    type Value;

    fn value(self, value: Self::Value);
    fn refuse(self, error: Errno);
}

macro_rules! answers {
    ($($reply:ty, $value:ty: |$to:ident, $it:ident| $give:expr;)*) => {$(
        impl Answer for $reply {
            type Value = $value;

            fn value(self, $it: $value) {
                let $to = self;
                $give
            }

            fn refuse(self, error: Errno) {
                self.error(error);
            }
        }
    )*};
}

answers! {
    ReplyEmpty, (): |to, _it| to.ok();
    ReplyEntry, FileAttr: |to, it| to.entry(&kept_for(&it), &it, Generation(0));
    ReplyAttr, FileAttr: |to, it| to.attr(&kept_for(&it), &it);
    ReplyData, Vec<u8>: |to, it| to.data(&it);
    ReplyWrite, u32: |to, it| to.written(it);
    ReplyOpen, (Handle, FopenFlags): |to, it| to.opened(FileHandle(it.0), it.1);
    ReplyCreate, (FileAttr, Handle, FopenFlags):
        |to, it| to.created(&kept_for(&it.0), &it.0, Generation(0), FileHandle(it.1), it.2);
    ReplyStatfs, StatFs: |to, it| to.statfs(
        it.blocks, it.blocks_free, it.blocks_available, it.files, it.files_free,
        it.block_size, it.name_max, it.block_size,
    );
}

/// An attribute's value, or its size, as the kernel asked.
struct Xattr(ReplyXattr, u32);

impl Answer for Xattr {
    type Value = Vec<u8>;

    fn value(self, value: Vec<u8>) {
        match self.1 {
            0 => self.0.size(value.len() as u32),
            room if value.len() > room as usize => self.0.error(Errno::ERANGE),
            _ => self.0.data(&value),
        }
    }

    fn refuse(self, error: Errno) {
        self.0.error(error);
    }
}

/// The kernel's number for an error. Any that is not the server's plain refusal is worth a line:
/// no test should bring the connection or the protocol into trouble.
fn number(error: Error) -> Errno {
    if !matches!(
        error,
        Error::Errno(_) | Error::Unsupported { .. } | Error::NameTooLong
    ) {
        eprintln!("posix: the client says: {error}");
    }
    Errno::from_i32(error.errno().number().into())
}

struct Adapter {
    jobs: Sender<Job>,
    direct: bool,
}

impl Adapter {
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
        self.run(Xattr(reply, size), move |tree| tree.xattr(node.0, &name));
    }

    fn listxattr(&self, _: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        self.run(Xattr(reply, size), move |tree| tree.list_xattrs(node.0));
    }

    fn removexattr(&self, _: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes().to_vec();
        self.run(reply, move |tree| tree.remove_xattr(node.0, &name));
    }
}
