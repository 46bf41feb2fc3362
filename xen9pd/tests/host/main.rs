//! Host directories as trees: what a peer can do with a share, and what it can't, on real file systems of this machine.
//!
//! Root's part (owners, devices) says so on stderr and is left out when others run this.

mod limits;
mod listing;
mod locks;
mod operations;
mod owners;
mod walks;
mod walls;
mod xattrs;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use p9_tree::{Error, Node, OpenFile};
use p9_wire::{Attr, AttrMask, DirEntryKind, Errno, OpenFlags, SetAttr, SetAttrMask};
use tempfile::TempDir;
use xen9pd::host::{HostNode, HostTree, Options};

/// In a create, no group.
const NO_GROUP: u32 = u32::MAX;

/// What an operation of a host directory comes to: it never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a host directory waited"),
    }
}

fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> Errno {
    result.expect_err("has to fail").errno()
}

/// A share in a directory of its own, next to things that are none of the peer's business.
struct Share {
    _dir: TempDir,
    inside: PathBuf,
    outside: PathBuf,
    tree: HostTree,
    root: HostNode,
}

impl Share {
    fn new(options: Options) -> Share {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        for dir in [&inside, &outside] {
            std::fs::create_dir(dir).unwrap();
        }
        std::fs::write(outside.join("secret"), "secret").unwrap();
        let tree = HostTree::open(&inside, options).unwrap();
        let root = tree.root(None).unwrap();
        Share {
            _dir: dir,
            inside,
            outside,
            tree,
            root,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inside.join(name)
    }

    /// The node at the end of a path of plain names.
    fn node(&self, path: &str) -> Result<HostNode, Error> {
        path.split('/')
            .try_fold(self.root.clone(), |at, name| now(at.walk(name.as_bytes())))
    }

    fn make(&self, name: &str, content: &[u8]) -> HostNode {
        std::fs::write(self.path(name), content).unwrap();
        self.node(name).unwrap()
    }
}

fn default_share() -> Share {
    Share::new(Options::default())
}

fn attr(node: &HostNode) -> Attr {
    now(node.getattr(AttrMask::ALL)).unwrap()
}

fn create(dir: &HostNode, name: &str, mode: u32, gid: u32) -> Result<HostNode, Error> {
    let flags = OpenFlags::READ_WRITE | OpenFlags::EXCLUSIVE;
    now(dir.create(name.as_bytes(), flags, mode, gid)).map(|created| created.node)
}

fn chmod(node: &HostNode, mode: u32) -> Result<(), Error> {
    now(node.setattr(&SetAttr {
        valid: SetAttrMask::MODE,
        mode,
        ..SetAttr::default()
    }))
}

fn set_len(node: &HostNode, size: u64) -> Result<(), Error> {
    now(node.setattr(&SetAttr {
        valid: SetAttrMask::SIZE,
        size,
        ..SetAttr::default()
    }))
}

fn read(node: &HostNode) -> Result<Vec<u8>, Error> {
    let file = now(node.open(OpenFlags::empty()))?;
    let mut content = vec![0; 1 << 16];
    let len = now(file.read(&mut content, 0))?;
    content.truncate(len);
    Ok(content)
}

/// The entries behind `offset`, at most `max`: their names, kinds and offsets.
fn list(
    file: &impl OpenFile,
    offset: u64,
    max: usize,
) -> Result<Vec<(String, DirEntryKind, u64)>, Error> {
    let mut entries = Vec::new();
    now(file.readdir(offset, &mut |entry| {
        if entries.len() == max {
            return false;
        }
        let name = String::from_utf8_lossy(entry.name).into_owned();
        entries.push((name, entry.kind, entry.offset));
        true
    }))?;
    Ok(entries)
}

/// Whether the test runs as root; says so if it does not.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can change owners");
    }
    root
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Sets a flag when the test is over, also if it is because something was wrong: what works against it must end.
struct Stop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
