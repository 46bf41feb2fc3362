//! The table of requests that are not answered yet.

use alloc::vec::Vec;

use p9_wire::{Errno, Fid, Tag};

use crate::export::Rights;
use crate::fid::{At, Mode};
use crate::place::PlaceId;
use crate::slab::Slab;

/// Names a request from [`accept`](crate::Server::accept) to its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    index: u32,
    serial: u64,
}

/// What the tables have set aside for a request, to be used or given back when it is done. Places in it are held.
#[derive(Clone, Copy, Debug, Default)]
pub enum Then {
    #[default]
    Nothing,
    /// Tattach: the fid is promised.
    Attach { fid: Fid, tree: u32, rights: Rights },
    /// Twalk to a new fid, which is promised.
    Bind { fid: Fid, from: At },
    /// Twalk of a fid to somewhere else: the fid is busy.
    Move { fid: Fid, from: At },
    /// The fid is busy, and one more file counts as open.
    Open {
        fid: Fid,
        mode: Mode,
        remove_on_clunk: bool,
    },
    /// Likewise; the file is made in the directory that the fid stands for.
    Create {
        fid: Fid,
        mode: Mode,
        remove_on_clunk: bool,
    },
    /// Txattrwalk: the new fid is promised, and this many bytes are counted.
    Xattr { fid: Fid, at: At, bytes: usize },
    /// A lock on the file of this fid.
    Lock { fid: Fid },
    /// A directory is read by bytes: the fid is busy.
    List { fid: Fid, offset: u64 },
    /// Data for an extended attribute or an afid.
    Store { fid: Fid },
    /// Bytes from an afid.
    AuthRead { fid: Fid },
    /// Both directories are held.
    Rename { from: PlaceId, to: PlaceId },
    /// The file, and the directory that it moves to, are held.
    RenameFile { file: PlaceId, to: PlaceId },
    /// The directory is held.
    Unlink { dir: PlaceId },
    /// The file is held.
    Remove { file: PlaceId },
    /// Tflush: answered after that request.
    Flush { of: Ticket },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The front end has its job.
    Running,
    /// The front end has its job, which can't run before another request is done.
    Waiting,
    /// It was waiting and is not wanted any more.
    Cancelled,
    /// A session before this one sent it.
    Stale,
    /// A Tflush whose job is done, and which waits for its turn.
    Parked,
    /// A Tflush to answer.
    Due,
}

#[derive(Debug)]
pub struct Pending {
    serial: u64,
    pub tag: Tag,
    pub lane: u32,
    pub bytes: usize,
    pub state: State,
    pub then: Then,
}

/// All requests that are not answered yet.
#[derive(Debug)]
pub struct Requests {
    /// In the order in which they came.
    order: Vec<(Tag, Ticket)>,
    slab: Slab<Pending>,
    next: u64,
    pub bytes: usize,
}

impl Requests {
    pub const fn new() -> Self {
        Requests {
            order: Vec::new(),
            slab: Slab::new(),
            next: 0,
            bytes: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// The request of this session with this tag.
    pub fn by_tag(&self, tag: Tag) -> Option<Ticket> {
        let found = self.order.iter().find(|(other, _)| *other == tag);
        found.map(|(_, ticket)| *ticket)
    }

    /// # Errors
    /// ENOMEM.
    pub fn insert(&mut self, tag: Tag, lane: u32, bytes: usize) -> Result<Ticket, Errno> {
        self.order.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let serial = self.next;
        let index = self.slab.insert(Pending {
            serial,
            tag,
            lane,
            bytes,
            state: State::Running,
            then: Then::Nothing,
        })?;
        self.next += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let ticket = Ticket { index, serial };
        self.order.push((tag, ticket));
        Ok(ticket)
    }

    pub fn get(&self, ticket: Ticket) -> Option<&Pending> {
        let pending = self.slab.get(ticket.index)?;
        (pending.serial == ticket.serial).then_some(pending)
    }

    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Pending> {
        let pending = self.slab.get_mut(ticket.index)?;
        (pending.serial == ticket.serial).then_some(pending)
    }

    /// Ends a request; every Tflush that waits for it and whose job is done becomes due.
    pub fn remove(&mut self, ticket: Ticket) -> Option<Pending> {
        self.get(ticket)?;
        let pending = self.slab.remove(ticket.index)?;
        self.order.retain(|(_, other)| *other != ticket);
        self.bytes = self.bytes.saturating_sub(pending.bytes);
        for (_, other) in self.slab.iter_mut() {
            if other.state == State::Parked
                && matches!(other.then, Then::Flush { of } if of == ticket)
            {
                other.state = State::Due;
            }
        }
        Some(pending)
    }

    /// Takes back a request that waits for another; `false`: it does not, and has to be waited for.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        match self.get_mut(ticket) {
            Some(pending) if pending.state == State::Waiting => {
                pending.state = State::Cancelled;
                self.order.retain(|(_, other)| *other != ticket);
                true
            }
            _ => false,
        }
    }

    /// The first Tflush to answer.
    pub fn due(&self) -> Option<Ticket> {
        let mut all = self.order.iter().map(|(_, ticket)| *ticket);
        all.find(|ticket| {
            self.get(*ticket)
                .is_some_and(|pending| pending.state == State::Due)
        })
    }

    /// Whether some request waits to be flushed, which is rare enough to look for the details then.
    pub fn is_flushed(&self, ticket: Ticket) -> bool {
        self.slab.iter().any(|(_, other)| {
            other.state != State::Stale && matches!(other.then, Then::Flush { of } if of == ticket)
        })
    }

    /// A new session begins: tags are free, and what is under way is of no account. A Tflush that was parked is gone.
    pub fn forget_session(&mut self) {
        self.order.clear();
        for index in 0..self.slab.end() {
            let Some(pending) = self.slab.get_mut(index) else {
                continue;
            };
            let over = matches!(pending.state, State::Parked | State::Due);
            pending.state = State::Stale;
            pending.then = Then::Nothing;
            if over {
                self.bytes = self.bytes.saturating_sub(pending.bytes);
                self.slab.remove(index);
            }
        }
    }
}
