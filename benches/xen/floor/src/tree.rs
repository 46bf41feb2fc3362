//! A directory of dom0's, copied to memory. Only what the benchmark's guests do is there.
//!
//! Its subdirectory `control` is dom0's own: there guests and the program that measures them talk with one another.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use p9_tree::{Created, Error, Node, OpenFile, Result};
use p9_wire::{
    Attr, AttrMask, DirEntry, DirEntryKind, Errno, FileKind, OpenFlags, Qid, QidKind, SetAttr,
    SetAttrMask, UnlinkFlags,
};
use xen9pd::host::{HostFile, HostNode, HostTree, Options};
use xen9pd::worker::direct::Direct;
use xen9pd::xen::span::{Sink, Source};

/// The directory that is not copied.
const CONTROL: &str = "control";

/// A file.
#[derive(Clone)]
pub enum FloorNode {
    /// In memory.
    Memory(Arc<Inode>),
    /// In dom0.
    Dom0(HostNode),
}

/// A file in memory.
pub struct Inode {
    number: u64,
    body: Body,
}

enum Body {
    Dir(Mutex<BTreeMap<Vec<u8>, FloorNode>>),
    File(Mutex<Vec<u8>>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inode {
    fn build(body: Body) -> Arc<Inode> {
        // Beyond the numbers of files in dom0.
        static NEXT: AtomicU64 = AtomicU64::new(1 << 62);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Inode { number, body })
    }

    fn dir() -> Arc<Inode> {
        Inode::build(Body::Dir(Mutex::default()))
    }

    fn file(content: Vec<u8>) -> Arc<Inode> {
        Inode::build(Body::File(Mutex::new(content)))
    }

    fn entries(&self) -> Result<MutexGuard<'_, BTreeMap<Vec<u8>, FloorNode>>> {
        match &self.body {
            Body::Dir(entries) => Ok(lock(entries)),
            Body::File(_) => Err(Errno::ENOTDIR.into()),
        }
    }

    fn content(&self) -> Result<MutexGuard<'_, Vec<u8>>> {
        match &self.body {
            Body::File(content) => Ok(lock(content)),
            Body::Dir(_) => Err(Errno::EISDIR.into()),
        }
    }

    fn child(&self, name: &[u8]) -> Result<FloorNode> {
        let child = self.entries()?.get(name).cloned();
        child.ok_or(Errno::ENOENT.into())
    }

    /// Puts a new file into this directory.
    fn add(&self, name: &[u8], inode: Arc<Inode>) -> Result<FloorNode> {
        let mut entries = self.entries()?;
        if entries.contains_key(name) {
            return Err(Errno::EEXIST.into());
        }
        let node = FloorNode::Memory(inode);
        entries.insert(name.to_vec(), node.clone());
        Ok(node)
    }

    fn kind(&self) -> FileKind {
        match &self.body {
            Body::Dir(_) => FileKind::DIR,
            Body::File(_) => FileKind::REGULAR,
        }
    }

    fn qid(&self) -> Qid {
        let kind = match &self.body {
            Body::Dir(_) => QidKind::DIR,
            Body::File(_) => QidKind::empty(),
        };
        Qid {
            kind,
            version: 0,
            path: self.number,
        }
    }

    fn attr(&self) -> Attr {
        let (permissions, size) = match &self.body {
            Body::Dir(_) => (0o755, 0),
            Body::File(content) => (0o644, lock(content).len() as u64),
        };
        Attr {
            valid: AttrMask::BASIC,
            qid: self.qid(),
            mode: self.kind().bits() | permissions,
            nlink: 1,
            size,
            blksize: 4096,
            blocks: size.div_ceil(512),
            ..Attr::default()
        }
    }

    fn setattr(&self, attr: &SetAttr) -> Result<()> {
        if attr.valid.contains(SetAttrMask::SIZE) {
            self.content()?.resize(attr.size as usize, 0);
        }
        Ok(())
    }

    fn open(self: &Arc<Self>, flags: OpenFlags) -> Result<FloorFile> {
        if flags.contains(OpenFlags::TRUNCATE) {
            self.content()?.clear();
        }
        Ok(FloorFile::Memory(self.clone(), Mutex::default()))
    }
}

/// Copies a directory.
///
/// # Errors
/// What can't be read.
pub fn load(directory: &Path) -> std::io::Result<FloorNode> {
    let root = copy(directory)?;
    let control = directory.join(CONTROL);
    if control.is_dir() {
        let tree = HostTree::open(&control, Options::default()).map_err(std::io::Error::other)?;
        let node = tree.root(None).map_err(std::io::Error::other)?;
        let mut entries = root.entries().map_err(std::io::Error::other)?;
        entries.insert(CONTROL.into(), FloorNode::Dom0(node));
    }
    Ok(FloorNode::Memory(root))
}

fn copy(directory: &Path) -> std::io::Result<Arc<Inode>> {
    let dir = Inode::dir();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let inode = match entry.file_type()?.is_dir() {
            true => copy(&entry.path())?,
            false => Inode::file(fs::read(entry.path())?),
        };
        let name = entry.file_name().into_vec();
        dir.add(&name, inode).map_err(std::io::Error::other)?;
    }
    Ok(dir)
}

/// An open file.
pub enum FloorFile {
    /// In memory, with the entries as they were when it was listed.
    Memory(Arc<Inode>, Mutex<Vec<(Vec<u8>, FloorNode)>>),
    /// In dom0.
    Dom0(HostFile),
}

impl Node for FloorNode {
    type File = FloorFile;

    fn qid(&self) -> Qid {
        match self {
            FloorNode::Memory(inode) => inode.qid(),
            FloorNode::Dom0(node) => node.qid(),
        }
    }

    async fn walk(&self, name: &[u8]) -> Result<Self> {
        match self {
            FloorNode::Memory(inode) => inode.child(name),
            FloorNode::Dom0(node) => node.walk(name).await.map(FloorNode::Dom0),
        }
    }

    async fn getattr(&self, mask: AttrMask) -> Result<Attr> {
        match self {
            FloorNode::Memory(inode) => Ok(inode.attr()),
            FloorNode::Dom0(node) => node.getattr(mask).await,
        }
    }

    async fn setattr(&self, attr: &SetAttr) -> Result<()> {
        match self {
            FloorNode::Memory(inode) => inode.setattr(attr),
            FloorNode::Dom0(node) => node.setattr(attr).await,
        }
    }

    async fn open(&self, flags: OpenFlags) -> Result<FloorFile> {
        match self {
            FloorNode::Memory(inode) => inode.open(flags),
            FloorNode::Dom0(node) => node.open(flags).await.map(FloorFile::Dom0),
        }
    }

    async fn create(
        &self,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    ) -> Result<Created<Self>> {
        let dir = match self {
            FloorNode::Memory(dir) => dir,
            FloorNode::Dom0(node) => {
                let Created { node, file } = node.create(name, flags, mode, gid).await?;
                return Ok(Created {
                    node: FloorNode::Dom0(node),
                    file: FloorFile::Dom0(file),
                });
            }
        };
        let node = match dir.child(name) {
            Ok(node) if !flags.contains(OpenFlags::EXCLUSIVE) => node,
            _ => dir.add(name, Inode::file(Vec::new()))?,
        };
        let file = node.open(flags).await?;
        Ok(Created { node, file })
    }

    async fn mkdir(&self, name: &[u8], mode: u32, gid: u32) -> Result<Self> {
        match self {
            FloorNode::Memory(dir) => dir.add(name, Inode::dir()),
            FloorNode::Dom0(node) => node.mkdir(name, mode, gid).await.map(FloorNode::Dom0),
        }
    }

    async fn rename(&self, name: &[u8], to: &Self, new_name: &[u8]) -> Result<()> {
        let (FloorNode::Memory(from), FloorNode::Memory(to)) = (self, to) else {
            return Err(Errno::EXDEV.into());
        };
        let node = from.entries()?.remove(name).ok_or(Errno::ENOENT)?;
        to.entries()?.insert(new_name.to_vec(), node);
        Ok(())
    }

    async fn unlink(&self, name: &[u8], flags: UnlinkFlags) -> Result<()> {
        match self {
            FloorNode::Memory(dir) => {
                let gone = dir.entries()?.remove(name);
                gone.map(drop).ok_or(Errno::ENOENT.into())
            }
            FloorNode::Dom0(node) => node.unlink(name, flags).await,
        }
    }
}

impl OpenFile for FloorFile {
    async fn read(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        match self {
            FloorFile::Memory(inode, _) => {
                let content = inode.content()?;
                let from = behind(&content, offset);
                let count = from.len().min(into.len());
                into[..count].copy_from_slice(&from[..count]);
                Ok(count)
            }
            FloorFile::Dom0(file) => file.read(into, offset).await,
        }
    }

    async fn write(&self, from: &[u8], offset: u64) -> Result<usize> {
        match self {
            FloorFile::Memory(inode, _) => {
                let mut content = inode.content()?;
                room(&mut content, offset, from.len())?.copy_from_slice(from);
                Ok(from.len())
            }
            FloorFile::Dom0(file) => file.write(from, offset).await,
        }
    }

    async fn readdir(
        &self,
        offset: u64,
        each: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let (inode, listing) = match self {
            FloorFile::Memory(inode, listing) => (inode, listing),
            FloorFile::Dom0(file) => return file.readdir(offset, each).await,
        };
        let mut listing = lock(listing);
        if offset == 0 {
            let entries = inode.entries()?;
            let copied = entries
                .iter()
                .map(|(name, node)| (name.clone(), node.clone()));
            *listing = copied.collect();
        }
        for (index, (name, node)) in listing.iter().enumerate().skip(offset as usize) {
            let kind = match node {
                FloorNode::Memory(inode) => inode.kind(),
                FloorNode::Dom0(_) => FileKind::DIR,
            };
            let entry = DirEntry {
                qid: node.qid(),
                offset: index as u64 + 1,
                kind: DirEntryKind::of(kind),
                name,
            };
            if !each(&entry) {
                break;
            }
        }
        Ok(())
    }
}

impl Direct for FloorFile {
    fn read_to(&self, sink: &mut Sink<'_>, offset: u64) -> Result<usize> {
        match self {
            FloorFile::Memory(inode, _) => {
                let content = inode.content()?;
                Ok(sink.copy_from(behind(&content, offset)))
            }
            FloorFile::Dom0(file) => file.read_to(sink, offset),
        }
    }

    fn write_from(&self, source: &Source<'_>, offset: u64) -> Result<usize> {
        match self {
            FloorFile::Memory(inode, _) => {
                let mut content = inode.content()?;
                Ok(source.copy_to(room(&mut content, offset, source.len())?))
            }
            FloorFile::Dom0(file) => file.write_from(source, offset),
        }
    }
}

/// What a file has from `offset` on.
fn behind(content: &[u8], offset: u64) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    content.get(start..).unwrap_or_default()
}

/// The place of `len` bytes at `offset`; the file grows where it has to.
fn room(content: &mut Vec<u8>, offset: u64, len: usize) -> Result<&mut [u8]> {
    let start = usize::try_from(offset).map_err(|_| Error::from(Errno::EFBIG))?;
    let end = start.checked_add(len).ok_or(Errno::EFBIG)?;
    if content.len() < end {
        content.resize(end, 0);
    }
    Ok(&mut content[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use p9_tree::{NeverWaits, block_on};

    fn run<T>(work: impl Future<Output = Result<T>>) -> T {
        block_on(&NeverWaits, work).unwrap()
    }

    fn names(node: &FloorNode) -> Vec<String> {
        let file = run(node.open(OpenFlags::empty()));
        let (mut names, mut offset) = (Vec::new(), 0);
        // One entry for each request, as if no more fitted.
        loop {
            let mut found = None;
            run(file.readdir(offset, &mut |entry| {
                let takes = found.is_none();
                if takes {
                    let name = String::from_utf8(entry.name.to_vec()).unwrap();
                    found = Some((name, entry.offset));
                }
                takes
            }));
            let Some((name, next)) = found else {
                return names;
            };
            names.push(name);
            offset = next;
        }
    }

    #[test]
    fn a_copy_is_worked_on_and_the_original_stays() {
        let directory = std::env::temp_dir().join(format!("bench-floor-{}", std::process::id()));
        fs::create_dir_all(directory.join("files")).unwrap();
        fs::create_dir_all(directory.join(CONTROL)).unwrap();
        fs::write(directory.join("files/a"), b"content").unwrap();
        let root = load(&directory).unwrap();
        assert_eq!(names(&root), [CONTROL, "files"]);
        let files = run(root.walk(b"files"));
        let (read, write) = (OpenFlags::empty(), OpenFlags::READ_WRITE);
        let mut buffer = [0; 16];
        let a = run(run(files.walk(b"a")).open(write));
        assert_eq!(run(a.read(&mut buffer, 3)), 4);
        assert_eq!(&buffer[..4], b"tent");
        assert_eq!(run(a.write(b"!", 8)), 1);
        run(files.create(b"b", write | OpenFlags::EXCLUSIVE, 0o644, 0));
        run(files.rename(b"a", &files, b"c"));
        run(files.unlink(b"b", UnlinkFlags::empty()));
        assert_eq!(names(&files), ["c"]);
        let c = run(files.walk(b"c"));
        assert_eq!(run(c.getattr(AttrMask::BASIC)).size, 9);
        assert_eq!(run(run(c.open(read)).read(&mut buffer, 0)), 9);
        assert_eq!(&buffer[..9], b"content\0!");
        assert_eq!(fs::read(directory.join("files/a")).unwrap(), b"content");
        // This one is not a copy.
        let control = run(root.walk(CONTROL.as_bytes()));
        run(control.create(b"mark-0", write, 0o644, 0));
        assert!(directory.join(CONTROL).join("mark-0").exists());
        assert_eq!(
            names(&control)
                .iter()
                .filter(|name| *name == "mark-0")
                .count(),
            1
        );
        fs::remove_dir_all(&directory).unwrap();
    }
}
