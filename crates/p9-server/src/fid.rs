//! The table of fids.

use alloc::sync::Arc;
use alloc::vec::Vec;

use p9_tree::Node;
use p9_wire::{Errno, Fid, OpenFlags, XattrFlags};

use crate::export::Rights;
use crate::place::PlaceId;
use crate::ranges::Ranges;
use crate::slab::Slab;

/// Where a fid leads, and with which rights.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub place: PlaceId,
    pub rights: Rights,
    /// Which tree: see [`Export::tree`](crate::Export::tree).
    pub tree: u32,
}

/// How a file may be used that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub read: bool,
    pub write: bool,
    pub directory: bool,
}

impl Mode {
    pub fn new(flags: OpenFlags, directory: bool) -> Self {
        let write_only = flags.contains(OpenFlags::WRITE_ONLY);
        Mode {
            read: !write_only,
            write: write_only || flags.contains(OpenFlags::READ_WRITE),
            directory,
        }
    }
}

/// Where a directory that is read in 9P2000 or 9P2000.u goes on: it is read by bytes, while trees count entries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    pub bytes: u64,
    pub entry: u64,
}

/// An open file.
pub struct Open<F> {
    pub file: Arc<F>,
    pub mode: Mode,
    pub remove_on_clunk: bool,
    pub cursor: Cursor,
    pub locks: Ranges,
}

/// An extended attribute that is being written.
#[derive(Debug)]
pub struct NewXattr {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
    /// Bytes of the value that have come.
    pub written: usize,
    pub flags: XattrFlags,
}

/// An afid.
#[derive(Debug)]
pub struct AuthFid<A> {
    pub conversation: A,
    pub uname: Vec<u8>,
    pub n_uname: u32,
    pub aname: Vec<u8>,
}

/// What a fid stands for.
pub enum Use<N: Node, A> {
    /// A request is under way that gives it a meaning.
    Promised,
    /// A file that is not open.
    Path(At),
    /// An open file.
    Open(At, Open<N::File>),
    /// The value of an extended attribute, or the list of their names.
    Xattr(At, Arc<Vec<u8>>),
    /// An extended attribute that is set when the fid is clunked.
    NewXattr(At, NewXattr),
    /// A conversation that proves who a user is.
    Auth(AuthFid<A>),
}

impl<N: Node, A> Use<N, A> {
    pub fn at(&self) -> Option<At> {
        match self {
            Use::Promised | Use::Auth(_) => None,
            Use::Path(at) | Use::Open(at, _) | Use::Xattr(at, _) | Use::NewXattr(at, _) => {
                Some(*at)
            }
        }
    }
}

/// A fid in use.
pub struct Handle<N: Node, A> {
    /// A request is under way that changes its meaning; others wait for that.
    pub busy: bool,
    pub usage: Use<N, A>,
}

/// All fids, by number.
pub struct Fids<N: Node, A> {
    /// Sorted.
    index: Vec<(Fid, u32)>,
    handles: Slab<Handle<N, A>>,
}

impl<N: Node, A> Fids<N, A> {
    pub const fn new() -> Self {
        Fids {
            index: Vec::new(),
            handles: Slab::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    fn find(&self, fid: Fid) -> Result<usize, usize> {
        self.index.binary_search_by_key(&fid, |(fid, _)| *fid)
    }

    fn slot(&self, fid: Fid) -> Option<u32> {
        let at = self.find(fid).ok()?;
        self.index.get(at).map(|(_, slot)| *slot)
    }

    pub fn get(&self, fid: Fid) -> Option<&Handle<N, A>> {
        self.handles.get(self.slot(fid)?)
    }

    pub fn get_mut(&mut self, fid: Fid) -> Option<&mut Handle<N, A>> {
        let slot = self.slot(fid)?;
        self.handles.get_mut(slot)
    }

    /// Takes a fid that is not in use.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn insert(&mut self, fid: Fid, handle: Handle<N, A>) -> Result<(), Errno> {
        let Err(at) = self.find(fid) else {
            return Err(Errno::EINVAL);
        };
        self.index.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let slot = self.handles.insert(handle)?;
        self.index.insert(at, (fid, slot));
        Ok(())
    }

    pub fn remove(&mut self, fid: Fid) -> Option<Handle<N, A>> {
        let at = self.find(fid).ok()?;
        let (_, slot) = self.index.remove(at);
        self.handles.remove(slot)
    }

    pub fn handles(&self) -> impl Iterator<Item = &Handle<N, A>> {
        self.handles.iter().map(|(_, handle)| handle)
    }

    /// Takes all fids away.
    pub fn take(&mut self) -> impl Iterator<Item = Use<N, A>> + use<N, A> {
        self.index.clear();
        let handles = core::mem::replace(&mut self.handles, Slab::new());
        handles.into_values().map(|handle| handle.usage)
    }
}
