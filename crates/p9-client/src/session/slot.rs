//! One request in flight, and the table of all of them.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::task::Waker;

use super::fids::Fids;
use super::record::{Change, Fate};
use super::violation::Violation;
use crate::{Dialect, Error};
use p9_wire::Errno;
use p9_wire::{
    Fid, HEADER_LEN, LockKind, OpenFlags, OpenMode, READ_HEADER_LEN, Reader, Reply, Request, kind,
    payload_len,
};
use xen9p_time::Instant;

/// How many bytes of a write that nobody waits for the server took, once it has said so.
pub(super) type Outcome = Cell<Option<Result<u32, Error>>>;

/// Replies up to this size are copied into their slot on arrival.
pub(super) const INLINE: usize = 256;

/// Where a reply is until its owner takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the slot.
    Inline,
    /// In the slot's vector.
    Spilled,
    /// Still in the transport, at the head of its lane.
    Head,
    /// Nowhere: it could not be kept, for this reason.
    Failed(Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    /// Sent, and someone waits for the reply.
    Waiting,
    /// Replied, and the owner has not taken it yet.
    Ready(Place),
    /// Replied, and its owner went while the reply could not be taken off the head of its lane.
    UnwantedHead,
    /// Sent, and nobody waits: over when the reply comes.
    Detached,
    /// Nobody waits any more, and Tflush could not be sent yet.
    FlushDue,
    /// Nobody waits any more, and Tflush is sent: over when Rflush comes.
    Flushing {
        /// Whether the reply itself has come meanwhile.
        replied: bool,
    },
    /// Replied with an error that may mean that the server has forgotten the session, which is looked into.
    Suspect {
        /// Whether someone waits for the reply.
        wanted: bool,
    },
    /// The connection was lost, and the owner does not know yet; whether the request may be made again.
    Lost {
        again: bool,
    },
}

impl State {
    /// Whether there is a request in flight for which nobody waits.
    pub(super) fn is_unattended(self) -> bool {
        matches!(
            self,
            State::Detached | State::FlushDue | State::Flushing { .. }
        )
    }
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    pub(super) effects: Effects,
    /// The largest legal reply; what it takes of the lane's reply budget.
    pub(super) limit: u32,
    /// What it adds to the load of its lane.
    pub(super) load: u32,
    /// When it has to be answered; `None` until the session looks at the clock.
    pub(super) deadline: Option<Instant>,
    /// It was not answered by then.
    pub(super) late: bool,
    pub(super) waker: Option<Waker>,
    /// Where to note what became of a write that nobody waits for.
    pub(super) outcome: Option<Rc<Outcome>>,
    /// What its success changes of what fids stand for.
    pub(super) change: Option<Change>,
    /// The session's progress when the reply came; 0 once its owner has been told.
    pub(super) arrived: u64,
    /// Size of the reply.
    pub(super) len: u32,
    pub(super) inline: [u8; INLINE],
    pub(super) spill: Vec<u8>,
}

impl Slot {
    pub(super) fn new() -> Self {
        Slot {
            state: State::Free,
            effects: Effects::default(),
            limit: 0,
            load: 0,
            deadline: None,
            late: false,
            waker: None,
            outcome: None,
            change: None,
            arrived: 0,
            len: 0,
            inline: [0; INLINE],
            spill: Vec::new(),
        }
    }

    /// The reply, if it is here in one piece.
    pub(super) fn reply(&self) -> Result<&[u8], Error> {
        let bytes = match self.state {
            State::Ready(Place::Inline) => self.inline.get(..self.len as usize),
            State::Ready(Place::Spilled) => Some(self.spill.as_slice()),
            State::Ready(Place::Failed(error)) => return Err(error),
            _ => None,
        };
        bytes.ok_or(Error::Closed)
    }

    /// Puts a reply of this type, which says nothing but that it is done, in the place of the server's.
    pub(super) fn answer(&mut self, kind: u8) {
        let size = HEADER_LEN as u32;
        if let Some(place) = self.inline.first_chunk_mut::<HEADER_LEN>() {
            *place = [0; HEADER_LEN];
            place[..4].copy_from_slice(&size.to_le_bytes());
            place[4] = kind;
        }
        self.len = size;
        self.state = State::Ready(Place::Inline);
    }

    /// How much data follows this header of an Rread or Rreaddir: no more than was asked for.
    pub(super) fn data_len(&self, head: &[u8; READ_HEADER_LEN]) -> Result<usize, Error> {
        match payload_len(head).map_err(Error::Malformed)? {
            count if count > self.effects.asked => Err(Error::from(Violation::TooMuchData)),
            count => Ok(count as usize),
        }
    }

    /// The data of an Rread or Rreaddir, if the reply is here in one piece.
    pub(super) fn data(&self, dialect: Dialect) -> Result<&[u8], Error> {
        let bytes = self.reply()?;
        if bytes.get(4) != Some(&(self.effects.kind + 1)) {
            let (_, reply) =
                Reply::decode(Reader::new(bytes, dialect)).map_err(Error::Malformed)?;
            return Err(Error::Errno(reply.errno().unwrap_or(Errno::EPROTO)));
        }
        let (head, data) = bytes
            .split_first_chunk()
            .ok_or(Error::from(Violation::NoCount))?;
        let count = self.data_len(head)?;
        data.get(..count)
            .ok_or(Error::from(Violation::TooLittleData))
    }

    /// The error in the reply, which has just come and is in the slot.
    pub(super) fn error(&self, dialect: Dialect) -> Option<Errno> {
        let bytes = self.inline.get(..self.len as usize)?;
        let (_, reply) = Reply::decode(Reader::new(bytes, dialect)).ok()?;
        reply.errno()
    }

    /// Whether the walk whose reply has just come has led to its end.
    pub(super) fn has_walked(&self) -> bool {
        let count = self.inline.get(HEADER_LEN..HEADER_LEN + 2);
        count.is_some_and(|count| count == (self.effects.asked as u16).to_le_bytes())
    }

    /// Notes what the reply, which has just come, says of a write that nobody waits for.
    pub(super) fn note(&mut self, place: Place, dialect: Dialect) -> Result<(), Error> {
        let Some(outcome) = self.outcome.take() else {
            return Ok(());
        };
        // Only the text of an error could be too long to be kept.
        let unknown = Error::Errno(Errno::EIO);
        let bytes = self.inline.get(..self.len as usize);
        let result = match bytes.filter(|_| place == Place::Inline) {
            Some(bytes) => match Reply::decode(Reader::new(bytes, dialect)) {
                Ok((_, Reply::Write { count })) => Ok(count),
                Ok((_, reply)) => Err(reply.errno().map_or(unknown, Error::Errno)),
                Err(error) => return Err(Error::Malformed(error)),
            },
            None => Err(unknown),
        };
        outcome.set(Some(result));
        Ok(())
    }
}

/// What a request is and does to fids, remembered until it is over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effects {
    /// Type of the request.
    pub(super) kind: u8,
    /// Bytes of a read, names of a walk.
    pub(super) asked: u32,
    /// Fids that it names.
    pub(super) names: [Option<Fid>; 2],
    /// The fid that its success binds.
    pub(super) binds: Option<Fid>,
    /// The fid that any answer ends.
    pub(super) ends: Option<Fid>,
    /// Whether it may change what a file contains.
    pub(super) changes: bool,
    /// Whether it releases a lock.
    pub(super) unlocks: bool,
    /// What becomes of it when the connection is lost.
    pub(super) fate: Fate,
    /// Whether the server has said of all fids that it names that it knows them.
    pub(super) sure: bool,
}

impl Effects {
    pub(super) fn of(request: &Request<'_>) -> Self {
        let mut asked = 0;
        let mut binds = None;
        let mut ends = None;
        let names = match *request {
            Request::Version { .. } | Request::Flush { .. } => [None, None],
            Request::Auth { afid, .. } => {
                binds = Some(afid);
                [Some(afid), None]
            }
            Request::Attach { fid, afid, .. } => {
                binds = Some(fid);
                [Some(fid), Some(afid)]
            }
            Request::Walk {
                fid,
                newfid,
                ref names,
            } => {
                asked = names.len() as u32;
                binds = (fid != newfid).then_some(newfid);
                [Some(fid), binds]
            }
            Request::Xattrwalk { fid, newfid, .. } => {
                binds = Some(newfid);
                [Some(fid), Some(newfid)]
            }
            Request::Clunk { fid } | Request::Remove { fid } => {
                ends = Some(fid);
                [Some(fid), None]
            }
            Request::Read { fid, count, .. } | Request::Readdir { fid, count, .. } => {
                asked = count;
                [Some(fid), None]
            }
            Request::Write { fid, .. }
            | Request::Open { fid, .. }
            | Request::Create { fid, .. }
            | Request::Stat { fid }
            | Request::Wstat { fid, .. }
            | Request::Statfs { fid }
            | Request::Lopen { fid, .. }
            | Request::Lcreate { fid, .. }
            | Request::Readlink { fid }
            | Request::Getattr { fid, .. }
            | Request::Setattr { fid, .. }
            | Request::Xattrcreate { fid, .. }
            | Request::Fsync { fid, .. }
            | Request::Lock { fid, .. }
            | Request::Getlock { fid, .. } => [Some(fid), None],
            Request::Symlink { dfid, .. }
            | Request::Mknod { dfid, .. }
            | Request::Mkdir { dfid, .. } => [Some(dfid), None],
            Request::Rename { fid, dfid, .. } | Request::Link { dfid, fid, .. } => {
                [Some(fid), Some(dfid)]
            }
            Request::Renameat {
                olddirfid,
                newdirfid,
                ..
            } => [Some(olddirfid), Some(newdirfid)],
            Request::Unlinkat { dirfid, .. } => [Some(dirfid), None],
        };
        Effects {
            kind: request.kind(),
            asked,
            names,
            binds,
            ends,
            changes: match request {
                Request::Write { .. } | Request::Setattr { .. } | Request::Wstat { .. } => true,
                Request::Lopen { flags, .. } => flags.contains(OpenFlags::TRUNCATE),
                Request::Open { mode, .. } => mode.contains(OpenMode::TRUNCATE),
                _ => false,
            },
            unlocks: unlocks(request),
            fate: Fate::default(),
            sure: false,
        }
    }

    /// Whether the reply's data stays in the transport until its owner fetches it.
    pub(super) fn is_bulk(&self) -> bool {
        matches!(self.kind, kind::TREAD | kind::TREADDIR)
    }

    /// Whether a file on the server decides how large the reply is: the target of a link, the names in a stat, who
    /// holds a lock.
    pub(super) fn is_sized_by_server(&self) -> bool {
        matches!(self.kind, kind::TREADLINK | kind::TSTAT | kind::TGETLOCK)
    }

    /// Whether the server knows all fids that it names, as far as `fids` can tell.
    pub(super) fn is_sure(&self, fids: &Fids) -> bool {
        let mut named = self.names.into_iter().flatten();
        named.all(|fid| Some(fid) == self.binds || fids.is_sure(fid, self.kind))
            && self.kind != kind::TVERSION
    }

    /// Whether the request is carried through even when nobody waits for it: it ends a fid or a lock.
    pub(super) fn must_finish(&self) -> bool {
        self.ends.is_some() || self.unlocks || self.kind == kind::TVERSION
    }
}

/// Whether the request releases a lock.
pub(super) fn unlocks(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Lock {
            kind: LockKind::UNLOCK,
            ..
        }
    )
}
