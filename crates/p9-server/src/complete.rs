//! The last step: the tables take in what came of a job, and its reply is encoded.

use alloc::sync::Arc;

use p9_tree::{Lock, Node};
use p9_wire::{Errno, LockStatus, Payload, READ_HEADER_LEN, Reply, Request};

use crate::export::{Authentication, Policy};
use crate::fid::{At, Cursor, Mode, Open, Use};
use crate::job::{Answer, Done, Head, Way};
use crate::plan::copied;
use crate::ranges::Ranges;
use crate::request::{State, Then};
use crate::server::Server;

/// A reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Completion {
    pub(crate) len: usize,
    pub(crate) moved: usize,
}

impl Completion {
    /// Bytes of the reply in the buffer; 0: there is none, or none yet.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no reply.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of data that follow those in the buffer; the front end [moved](crate::Job::transfer) them, so it knows where
    /// they are.
    pub fn moved(&self) -> usize {
        self.moved
    }
}

/// An Rflush that has become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// Where the Tflush came from.
    pub lane: u32,
    /// Bytes of the reply in the buffer.
    pub len: usize,
}

impl<P: Policy> Server<P> {
    /// Takes in what came of a job and encodes its reply into `into`, the buffer that the job was run with. It needs room
    /// for a message of the agreed size.
    ///
    /// **Send the reply, or put it where all replies of its lane are sent from in order, before the server is used again**:
    /// with the lock held, if there is one. Otherwise another thread may send an Rflush that says that there will be no
    /// more replies to this request. Then ask [`next_flush`](Self::next_flush).
    pub fn complete(&mut self, done: Done<'_, P::Node>, into: &mut [u8]) -> Completion {
        let Done { head, outcome } = done;
        let mut outcome = outcome;
        if let Some(ticket) = head.ticket {
            let Some(pending) = self.requests.get(ticket) else {
                return Completion::default();
            };
            match (pending.state, pending.then) {
                (State::Stale, _) => {
                    self.requests.remove(ticket);
                    return Completion::default();
                }
                (_, Then::Flush { of }) if self.requests.get(of).is_some() => {
                    if let Some(pending) = self.requests.get_mut(ticket) {
                        pending.state = State::Parked;
                    }
                    return Completion::default();
                }
                _ => (),
            }
            let then = self.requests.remove(ticket).map(|pending| pending.then);
            outcome = self.settle(then.unwrap_or_default(), &head, outcome, into);
        }
        self.encode(&head, outcome, into)
    }

    /// The next Rflush that is due, because the request is done that was to be flushed. Call it until there is none, after
    /// each [`complete`](Self::complete) whose reply is sent and each [`abandon`](Self::abandon).
    pub fn next_flush(&mut self, into: &mut [u8]) -> Option<Flushed> {
        let ticket = self.requests.due()?;
        let pending = self.requests.remove(ticket)?;
        let dialect = self.dialect()?;
        let len = Reply::Flush.encode(pending.tag, dialect, into).ok()?;
        Some(Flushed {
            lane: pending.lane,
            len,
        })
    }

    /// Gives back what a request has set aside and does not need.
    pub(crate) fn undo(&mut self, then: Then) {
        match then {
            Then::Nothing
            | Then::Lock { .. }
            | Then::Store { .. }
            | Then::AuthRead { .. }
            | Then::Flush { .. } => (),
            Then::Attach { fid, .. } => drop(self.fids.remove(fid)),
            Then::Bind { fid, from } => {
                self.fids.remove(fid);
                self.places.release(from.place);
            }
            Then::Move { fid, from } => {
                self.set_busy(fid, false);
                self.places.release(from.place);
            }
            Then::Open { fid, mode, .. } | Then::Create { fid, mode, .. } => {
                self.set_busy(fid, false);
                self.uncount_open(mode);
            }
            Then::Xattr { fid, at, bytes } => {
                self.fids.remove(fid);
                self.xattr_bytes -= bytes;
                self.places.release(at.place);
            }
            Then::List { fid, .. } => self.set_busy(fid, false),
            Then::Rename { from, to } => {
                self.places.release(from);
                self.places.release(to);
            }
            Then::RenameFile { file, to } => {
                self.places.release(file);
                self.places.release(to);
            }
            Then::Unlink { dir } => self.places.release(dir),
            Then::Remove { file } => self.places.release(file),
        }
    }

    fn uncount_open(&mut self, mode: Mode) {
        self.open_files -= 1;
        self.open_directories -= usize::from(mode.directory);
    }

    /// Brings the tables up to date.
    fn settle(
        &mut self,
        then: Then,
        head: &Head<'_>,
        outcome: Result<Answer<P::Node>, Errno>,
        into: &mut [u8],
    ) -> Result<Answer<P::Node>, Errno> {
        let answer = match outcome {
            Ok(answer) => answer,
            Err(errno) => {
                self.undo(then);
                return Err(errno);
            }
        };
        match (then, answer) {
            (Then::Attach { fid, tree, rights }, Answer::Attached(root)) => {
                let qid = root.qid();
                let place = match self.places.root(root, tree) {
                    Ok(place) => place,
                    Err(errno) => {
                        self.undo(then);
                        return Err(errno);
                    }
                };
                let at = At {
                    place,
                    rights,
                    tree,
                };
                self.give(fid, Use::Path(at));
                Ok(Answer::Qid(qid))
            }
            (
                Then::Bind { fid, from } | Then::Move { fid, from },
                Answer::Walked {
                    qids,
                    up,
                    mut way,
                    is_whole,
                },
            ) => {
                let followed = match is_whole {
                    true => self.follow(from, up, &mut way, head.request.as_ref()),
                    false => Ok(from),
                };
                way.nodes.clear();
                self.spare_way.get_or_insert(way);
                let answer = Ok(Answer::Walked {
                    qids,
                    up,
                    way: Way::new(),
                    is_whole,
                });
                if !is_whole {
                    self.undo(then);
                    return answer;
                }
                let at = match followed {
                    Ok(at) => at,
                    Err(errno) => {
                        self.undo(then);
                        return Err(errno);
                    }
                };
                self.places.release(from.place);
                self.give(fid, Use::Path(at));
                if matches!(then, Then::Move { .. }) {
                    // The fid itself was there, too.
                    self.places.release(from.place);
                }
                answer
            }
            (
                Then::Open {
                    fid,
                    mode,
                    remove_on_clunk,
                },
                Answer::Opened(file, qid),
            ) => {
                let Some(at) = self.fids.get(fid).and_then(|handle| handle.usage.at()) else {
                    self.undo(then);
                    return Err(Errno::EIO);
                };
                self.opened_as(fid, at, file, mode, remove_on_clunk);
                Ok(Answer::Qid(qid))
            }
            (
                Then::Create {
                    fid,
                    mode,
                    remove_on_clunk,
                },
                answer,
            ) => self.created(fid, mode, remove_on_clunk, head, answer, then),
            (Then::Xattr { fid, at, bytes }, Answer::Xattr(value)) => {
                if value.len() > bytes {
                    self.undo(then);
                    return Err(Errno::E2BIG);
                }
                self.xattr_bytes -= bytes - value.len();
                let len = value.len();
                self.give(fid, Use::Xattr(at, Arc::new(value)));
                Ok(Answer::Moved(len))
            }
            (Then::Lock { fid }, Answer::Status(status)) => {
                if status == LockStatus::SUCCESS {
                    self.note_lock(fid, head);
                }
                Ok(Answer::Status(status))
            }
            (Then::List { fid, offset }, Answer::Listed { len, entry }) => {
                if let Some(handle) = self.fids.get_mut(fid) {
                    handle.busy = false;
                    if let Use::Open(_, open) = &mut handle.usage {
                        open.cursor = Cursor {
                            bytes: offset.saturating_add(len as u64),
                            entry,
                        };
                    }
                }
                Ok(Answer::Data(len))
            }
            (Then::Store { fid }, Answer::Store) => self.store(fid, head),
            (Then::AuthRead { fid }, Answer::AuthRead(count)) => {
                let room = into.get_mut(READ_HEADER_LEN..).unwrap_or_default();
                let len = room.len().min(count as usize);
                let room = room.get_mut(..len).unwrap_or_default();
                match self.fids.get_mut(fid).map(|handle| &mut handle.usage) {
                    Some(Use::Auth(auth)) => Ok(Answer::Data(auth.conversation.read(room)?)),
                    _ => Err(Errno::EBADF),
                }
            }
            (Then::Rename { from, to }, answer) => {
                if let Some(Request::Renameat {
                    oldname, newname, ..
                }) = head.request
                {
                    self.places.renamed(from, oldname, to, newname);
                }
                self.undo(then);
                Ok(answer)
            }
            (Then::RenameFile { file, to }, answer) => {
                let new_name = match &head.request {
                    Some(Request::Rename { name, .. }) => name,
                    Some(Request::Wstat { stat, .. }) => stat.name,
                    _ => b"",
                };
                if let Ok((from, name)) = self.places.entry(file)
                    && !new_name.is_empty()
                    && let Ok(name) = copied(name)
                {
                    self.places.renamed(from, &name, to, new_name);
                }
                self.undo(then);
                Ok(answer)
            }
            (Then::Unlink { dir }, answer) => {
                if let Some(Request::Unlinkat { name, .. }) = head.request {
                    self.places.unlinked(dir, name);
                }
                self.undo(then);
                Ok(answer)
            }
            (Then::Remove { file }, answer) => {
                if let Ok((dir, name)) = self.places.entry(file)
                    && let Ok(name) = copied(name)
                {
                    self.places.unlinked(dir, &name);
                }
                self.undo(then);
                Ok(answer)
            }
            (Then::Nothing | Then::Flush { .. }, answer) => Ok(answer),
            // A front end that completes a job with what is no result of it.
            (then, _) => {
                self.undo(then);
                Err(Errno::EIO)
            }
        }
    }

    /// Gives a fid its meaning.
    fn give(&mut self, fid: p9_wire::Fid, usage: Use<P::Node, P::Authentication>) {
        if let Some(handle) = self.fids.get_mut(fid) {
            handle.busy = false;
            handle.usage = usage;
        }
    }

    /// The place that a walk leads to, held.
    fn follow(
        &mut self,
        from: At,
        up: usize,
        way: &mut Way<P::Node>,
        request: Option<&Request<'_>>,
    ) -> Result<At, Errno> {
        let Some(Request::Walk { names, .. }) = request else {
            return Err(Errno::EIO);
        };
        let mut place = from.place;
        for _ in 0..up {
            place = self.places.up(place)?;
        }
        self.places.hold(place);
        let last = way.nodes.len().checked_sub(1).filter(|_| way.only_look);
        for (index, (node, name)) in way.drain().enumerate() {
            let entered = match names.get(name) {
                Some(name) if Some(index) == last => self.places.enter_alone(place, name, node),
                Some(name) => self.places.enter(place, name, node),
                None => Err(Errno::EIO),
            };
            self.places.release(place);
            place = entered?;
        }
        Ok(At { place, ..from })
    }

    fn opened_as(
        &mut self,
        fid: p9_wire::Fid,
        at: At,
        file: <P::Node as Node>::File,
        mode: Mode,
        remove_on_clunk: bool,
    ) {
        let open = Open {
            file: Arc::new(file),
            mode,
            remove_on_clunk,
            cursor: Cursor::default(),
            locks: Ranges::new(),
        };
        self.give(fid, Use::Open(at, open));
    }

    /// The fid of the directory becomes the file that was made in it.
    fn created(
        &mut self,
        fid: p9_wire::Fid,
        mode: Mode,
        remove_on_clunk: bool,
        head: &Head<'_>,
        answer: Answer<P::Node>,
        then: Then,
    ) -> Result<Answer<P::Node>, Errno> {
        let name = match head.request {
            Some(Request::Lcreate { name, .. } | Request::Create { name, .. }) => name,
            _ => b"",
        };
        let dir = self.fids.get(fid).and_then(|handle| handle.usage.at());
        let (node, file) = match answer {
            Answer::Created(created) => (created.node, Some(created.file)),
            Answer::Made(node) => (node, None),
            _ => {
                self.undo(then);
                return Err(Errno::EIO);
            }
        };
        let qid = node.qid();
        let entered = match dir {
            Some(dir) => self
                .places
                .enter(dir.place, name, node)
                .map(|place| (dir, place)),
            None => Err(Errno::EIO),
        };
        let (dir, place) = match entered {
            Ok(entered) => entered,
            Err(errno) => {
                self.undo(then);
                return Err(errno);
            }
        };
        let at = At { place, ..dir };
        match file {
            Some(file) => self.opened_as(fid, at, file, mode, remove_on_clunk),
            None => {
                self.uncount_open(mode);
                self.give(fid, Use::Path(at));
            }
        }
        self.places.release(dir.place);
        Ok(Answer::Qid(qid))
    }

    fn note_lock(&mut self, fid: p9_wire::Fid, head: &Head<'_>) {
        let Some(Request::Lock {
            kind,
            start,
            length,
            proc_id,
            client_id,
            ..
        }) = head.request
        else {
            return;
        };
        let lock = Lock {
            kind,
            start,
            length,
            owner: proc_id,
            client: client_id,
        };
        if let Some(Use::Open(_, open)) = self.fids.get_mut(fid).map(|handle| &mut handle.usage) {
            let before = open.locks.len();
            open.locks.note(&lock);
            self.locks = (self.locks + open.locks.len()).saturating_sub(before);
        }
    }

    /// Takes the data of a Twrite that is for no file.
    fn store(&mut self, fid: p9_wire::Fid, head: &Head<'_>) -> Result<Answer<P::Node>, Errno> {
        let Some(Request::Write { offset, data, .. }) = head.request else {
            return Err(Errno::EIO);
        };
        match self.fids.get_mut(fid).map(|handle| &mut handle.usage) {
            Some(Use::NewXattr(_, new)) => {
                let start = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
                let end = start.checked_add(data.len()).ok_or(Errno::EINVAL)?;
                // More than was announced is not taken, so that the value set is the one that was meant.
                let place = new.value.get_mut(start..end).ok_or(Errno::EINVAL)?;
                for (place, byte) in place.iter_mut().zip(data.bytes()) {
                    *place = byte;
                }
                new.written = new.written.saturating_add(data.len());
                Ok(Answer::Written(data.len() as u32))
            }
            Some(Use::Auth(auth)) => {
                let Payload(first, second) = data;
                let mut written = auth.conversation.write(first)?;
                if written == first.len() && !second.is_empty() {
                    written += auth.conversation.write(second)?;
                }
                Ok(Answer::Written(written.min(data.len()) as u32))
            }
            _ => Err(Errno::EBADF),
        }
    }
}
