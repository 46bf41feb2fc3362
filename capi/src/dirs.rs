//! Directories that are listed.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ffi::c_char;

use xen9p::errno::Errno;
use xen9p::fs::FileType;
use xen9p::p9::wire::OpenFlags;
use xen9p::tree::{Node as _, OpenFile as _};

use crate::error::{Fail, Result, Tried};
use crate::handles::{Kind, Open, wrong};
use crate::mount::Mount;
use crate::operations::submit;
use crate::paths::{Place, child, place};
use crate::state::{enter, enter_status, give, handles};
use crate::tree::{TreeDir, TreeFile};
use crate::xen9p_handle;

/// An entry of a directory.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct xen9p_dirent {
    /// The number that identifies the file on its server.
    pub ino: u64,
    /// Where the listing goes on behind this entry, for xen9p_seekdir().
    pub cookie: u64,
    /// What it is, as the bits of st_mode for the kind (0040000 a directory, 0100000 a file); 0: ask for its attributes.
    pub kind: u32,
    /// Length of the name in bytes.
    pub length: u32,
    /// The name, with a final NUL.
    pub name: [c_char; 256],
}

/// A directory that is listed.
pub(crate) enum Dir {
    Path(TreeDir),
    Node(NodeDir),
}

/// The directory that a handle means; `None` while a call works on it.
pub(crate) type SharedDir = Rc<Cell<Option<Dir>>>;

/// The one call that works on a directory.
struct Turn {
    shared: SharedDir,
    dir: Option<Dir>,
}

impl Turn {
    fn new(shared: SharedDir) -> Result<Self> {
        let dir = shared.take();
        match dir.is_some() {
            true => Ok(Turn { shared, dir }),
            false => Err(read_elsewhere()),
        }
    }

    fn dir(&mut self) -> Result<&mut Dir> {
        self.dir.as_mut().ok_or_else(read_elsewhere)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.set(self.dir.take());
    }
}

/// How many entries are fetched at a time.
const BATCH: usize = 64;

/// One that was opened by its node.
pub(crate) struct NodeDir {
    file: TreeFile,
    offset: u64,
    ready: VecDeque<Entry>,
}

struct Entry {
    ino: u64,
    cookie: u64,
    kind: Option<FileType>,
    name: Vec<u8>,
}

impl NodeDir {
    async fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            let before = self.offset;
            let ready = &mut self.ready;
            let offset = &mut self.offset;
            let mut each = |entry: &xen9p::p9::wire::DirEntry<'_>| {
                if ready.len() >= BATCH {
                    return false;
                }
                *offset = entry.offset;
                if entry.name != b"." && entry.name != b".." {
                    ready.push_back(Entry {
                        ino: entry.qid.path,
                        cookie: entry.offset,
                        kind: FileType::from_dirent(entry.kind.0),
                        name: entry.name.to_vec(),
                    });
                }
                true
            };
            self.file.readdir(before, &mut each).await?;
            if self.offset == before {
                return Ok(None);
            }
        }
    }
}

impl Dir {
    async fn next(&mut self) -> Result<Option<Entry>> {
        match self {
            Dir::Path(listing) => {
                let Some(entry) = listing.next().await.transpose()? else {
                    return Ok(None);
                };
                Ok(Some(Entry {
                    ino: entry.ino(),
                    cookie: entry.cookie(),
                    kind: entry.known_type(),
                    name: entry.file_name().to_vec(),
                }))
            }
            Dir::Node(listing) => listing.next().await,
        }
    }

    fn seek(&mut self, cookie: u64) {
        match self {
            Dir::Path(listing) => listing.seek(cookie),
            Dir::Node(listing) => {
                listing.offset = cookie;
                listing.ready.clear();
            }
        }
    }
}

async fn open(place: Place) -> Result<Dir> {
    let node = match place {
        Place::Path(fs, path) => return Ok(Dir::Path(fs.read_dir(path).await?)),
        Place::Name(dir, name) => child(&dir, name).await?,
        Place::Node(node) => node,
        Place::File(_) => return Err(wrong("a mount or a node")),
    };
    Ok(Dir::Node(NodeDir {
        file: node.open(OpenFlags::DIRECTORY).await?,
        offset: 0,
        ready: VecDeque::new(),
    }))
}

/// Opens a directory to be listed; NULL as the path opens the node.
///
/// # Safety
/// Pointers are NULL or valid; `path` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_opendir(
    at: xen9p_handle,
    path: *const c_char,
    dir: *mut xen9p_handle,
    op: *mut xen9p_handle,
) -> i32 {
    // SAFETY: the caller's promise.
    let tried = unsafe { Tried::at("opendir", path) };
    enter(tried, || {
        // SAFETY: the caller's promise.
        let (mount, place) = unsafe { place(at, path) }?;
        if dir.is_null() {
            return Err(Fail::null("dir"));
        }
        let of = mount.clone();
        let future = async move {
            let opened = open(place).await?;
            let kind = Kind::Dir(Rc::new(Cell::new(Some(opened))));
            // SAFETY: the caller's promise.
            unsafe { give(dir, "dir", Open { mount: of, kind }) }?;
            Ok(0)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

fn dir(handle: xen9p_handle) -> Result<(Rc<Mount>, SharedDir)> {
    let open = handles(|handles| handles.get(handle))?;
    match open.kind {
        Kind::Dir(dir) => Ok((open.mount, dir)),
        _ => Err(wrong("a directory")),
    }
}

fn read_elsewhere() -> Fail {
    Fail::new(Errno::EBUSY, "the directory is being read by another call")
}

/// The next entry of a directory, without "." and "..": 1, or 0 when there is none left. One call at a time on a directory:
/// -EBUSY.
///
/// # Safety
/// Pointers are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_readdir(
    handle: xen9p_handle,
    into: *mut xen9p_dirent,
    op: *mut xen9p_handle,
) -> i32 {
    let tried = Tried::new("readdir");
    enter(tried, || {
        let (mount, dir) = dir(handle)?;
        if into.is_null() {
            return Err(Fail::null("into"));
        }
        let future = async move {
            let entry = {
                let mut turn = Turn::new(dir)?;
                turn.dir()?.next().await?
            };
            let Some(entry) = entry else {
                return Ok(0);
            };
            let mut found = xen9p_dirent {
                ino: entry.ino,
                cookie: entry.cookie,
                kind: entry.kind.map_or(0, FileType::mode),
                length: entry.name.len() as u32,
                name: [0; 256],
            };
            match found.name.get_mut(..entry.name.len()) {
                Some(place) if entry.name.len() < 256 => {
                    for (to, from) in place.iter_mut().zip(&entry.name) {
                        *to = *from as c_char;
                    }
                }
                _ => {
                    return Err(Fail::new(
                        Errno::ENAMETOOLONG,
                        "the server lists a name of over 255 bytes",
                    ));
                }
            }
            // SAFETY: the caller's promise.
            unsafe { into.write(found) };
            Ok(1)
        };
        // SAFETY: the caller's promise.
        unsafe { submit(mount, op, tried, Box::pin(future)) }
    }) as i32
}

/// Has a directory go on behind the entry that has this cookie; 0: from the beginning.
#[unsafe(no_mangle)]
pub extern "C" fn xen9p_seekdir(handle: xen9p_handle, cookie: u64) -> i32 {
    enter_status(Tried::new("seekdir"), || {
        let (_, dir) = dir(handle)?;
        Turn::new(dir)?.dir()?.seek(cookie);
        Ok(())
    })
}
