//! The mount: has the kernel's requests answered by the one thread that owns the client, which is
//! single-threaded by design.

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fuser::*;
use xen9p::fs::{Fs, MountOptions, Result};
use xen9p::transport::Transport;

use crate::fuse::Adapter;
use crate::tree::Tree;

/// How long the kernel may take to close what is closed.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(10);

pub type Job = Box<dyn FnOnce(&mut Tree) + Send>;

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
        let adapter = Adapter::new(jobs.clone(), direct);
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
