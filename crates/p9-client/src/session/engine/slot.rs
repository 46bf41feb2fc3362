//! One request in flight, and the table of all of them.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::task::Waker;

use crate::session::fid_table::FidTable;
use crate::session::journal::{FidUpdate, ReplayPolicy};
use crate::session::violation::Violation;
use crate::{Dialect, Error};
use p9_wire::Errno;
use p9_wire::{
    Fid, HEADER_LEN, LockKind, OpenFlags, OpenMode, READ_HEADER_LEN, Reader, Reply, Request, kind,
    payload_len,
};
use xen9p_time::Instant;

/// How many bytes of a detached write the server took, once it has said so.
pub(in crate::session) type Outcome = Cell<Option<Result<u32, Error>>>;

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
    /// Sent, and detached: over when the reply comes.
    Detached,
    /// Abandoned, and Tflush could not be sent yet.
    FlushDue,
    /// Abandoned, and Tflush is sent: over when Rflush comes.
    Flushing {
        /// Whether the reply itself has come meanwhile.
        replied: bool,
    },
    /// Replied with an error that may mean that the server has forgotten the session, which is being found out.
    Suspect {
        /// Whether someone waits for the reply.
        wanted: bool,
    },
    /// The connection was lost, and the owner does not know yet; whether the request may be made again.
    Lost {
        again: bool,
    },
}

/// What is asked for each request is asked by patterns: comparing an error that a state may have takes longer than all of that.
impl State {
    /// Whether the slot has no request.
    pub(super) fn is_free(self) -> bool {
        matches!(self, State::Free)
    }

    /// Whether a task waits for the reply.
    pub(super) fn is_waiting(self) -> bool {
        matches!(self, State::Waiting)
    }

    /// Whether the reply is at the head of its lane, for its owner to take.
    pub(super) fn is_at_head(self) -> bool {
        matches!(self, State::Ready(Place::Head))
    }

    /// Whether there is a detached request in flight.
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
    pub(super) info: RequestInfo,
    /// The largest legal reply.
    pub(super) limit: u32,
    /// What that takes of the lane's reply budget.
    pub(super) budget: u32,
    /// What it adds to the load of its lane.
    pub(super) load: u32,
    /// When it has to be answered; `None` until the session looks at the clock.
    pub(super) deadline: Option<Instant>,
    /// It was not answered by then.
    pub(super) late: bool,
    pub(super) waker: Option<Waker>,
    /// A task has asked for the reply, and comes for it: the waker is gone once the reply is here.
    pub(super) awaited: bool,
    /// Where to note what became of a detached write.
    pub(super) outcome: Option<Rc<Outcome>>,
    /// What its success changes of what fids stand for.
    pub(super) change: Option<FidUpdate>,
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
            info: RequestInfo::default(),
            limit: 0,
            budget: 0,
            load: 0,
            deadline: None,
            late: false,
            waker: None,
            awaited: false,
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

    /// Stores a made-up empty reply of type `kind`.
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
            count if count > self.info.max_data => Err(Error::from(Violation::TooMuchData)),
            count => Ok(count as usize),
        }
    }

    /// The data of an Rread or Rreaddir, if the reply is here in one piece.
    pub(super) fn data(&self, dialect: Dialect) -> Result<&[u8], Error> {
        let bytes = self.reply()?;
        if bytes.get(4) != Some(&(self.info.kind + 1)) {
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
        count.is_some_and(|count| count == (self.info.max_data as u16).to_le_bytes())
    }

    /// Notes what the reply, which has just come, says of a detached write.
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
pub(super) struct RequestInfo {
    /// Type of the request.
    pub(super) kind: u8,
    /// Bytes of a read, names of a walk.
    pub(super) max_data: u32,
    /// The fids that it names.
    pub(super) fids: [Option<Fid>; 2],
    /// The fid that its success makes.
    pub(super) new_fid: Option<Fid>,
    /// The fid that any answer clunks.
    pub(super) clunks: Option<Fid>,
    /// Whether a file may contain something else behind it.
    pub(super) changes: bool,
    /// Whether it releases a lock.
    pub(super) unlocks: bool,
    /// What becomes of it when the connection is lost.
    pub(super) replay: ReplayPolicy,
    /// Whether the server has said of all fids that it names that it knows them.
    pub(super) confirmed: bool,
}

impl RequestInfo {
    pub(super) fn of(request: &Request<'_>) -> Self {
        let mut max_data = 0;
        let mut new_fid = None;
        let mut clunks = None;
        let fids = match *request {
            Request::Version { .. } | Request::Flush { .. } => [None, None],
            Request::Auth { afid, .. } => {
                new_fid = Some(afid);
                [Some(afid), None]
            }
            Request::Attach { fid, afid, .. } => {
                new_fid = Some(fid);
                [Some(fid), Some(afid)]
            }
            Request::Walk {
                fid,
                newfid,
                ref names,
            } => {
                max_data = names.len() as u32;
                new_fid = (fid != newfid).then_some(newfid);
                [Some(fid), new_fid]
            }
            Request::Xattrwalk { fid, newfid, .. } => {
                new_fid = Some(newfid);
                [Some(fid), Some(newfid)]
            }
            Request::Clunk { fid } | Request::Remove { fid } => {
                clunks = Some(fid);
                [Some(fid), None]
            }
            Request::Read { fid, count, .. } | Request::Readdir { fid, count, .. } => {
                max_data = count;
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
        RequestInfo {
            kind: request.kind(),
            max_data,
            fids,
            new_fid,
            clunks,
            changes: match request {
                Request::Write { .. } | Request::Setattr { .. } | Request::Wstat { .. } => true,
                // Another one may have changed the file before it gave its lock back.
                Request::Lock { .. } => true,
                Request::Lopen { flags, .. } => flags.contains(OpenFlags::TRUNCATE),
                Request::Open { mode, .. } => mode.contains(OpenMode::TRUNCATE),
                _ => false,
            },
            unlocks: unlocks(request),
            replay: ReplayPolicy::default(),
            confirmed: false,
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

    /// Whether the server knows all fids that it names, as far as `table` can tell.
    pub(super) fn is_confirmed(&self, table: &FidTable) -> bool {
        let mut named = self.fids.into_iter().flatten();
        named.all(|fid| Some(fid) == self.new_fid || table.is_confirmed(fid, self.kind))
            && self.kind != kind::TVERSION
    }

    /// Whether the request is carried through even when no task waits for it: it ends a fid or a lock.
    pub(super) fn must_finish(&self) -> bool {
        self.clunks.is_some() || self.unlocks || self.kind == kind::TVERSION
    }
}

/// Whether the request releases a lock.
pub(in crate::session) fn unlocks(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Lock {
            kind: LockKind::UNLOCK,
            ..
        }
    )
}
