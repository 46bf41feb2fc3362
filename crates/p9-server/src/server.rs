//! The engine of one peer: its tables, and the first and the last of the three steps of a request.

use alloc::vec::Vec;

use p9_wire::{
    Dialect, Errno, Fid, HEADER_LEN, Payload, READ_HEADER_LEN, Request, Tag, WRITE_HEADER_LEN,
    WireError, kind, parse_header,
};

use crate::export::Policy;
use crate::fid::{Fids, Use};
use crate::job::{Answer, Head, Job, Way, Work};
use crate::limits::{Limits, Usage};
use crate::message::decode;
use crate::place::Places;
use crate::plan::Refusal;
use crate::request::{Requests, State, Then, Ticket};

/// The smallest msize that is agreed to: every reply but those with strings and data fits in it.
pub const MIN_MSIZE: u32 = 256;

/// Why a peer's bytes are no 9P message: there is no tag to answer. The connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// A message of less than seven bytes.
    TooShort,
    /// A message that says that it has another length than it has.
    WrongSize,
    /// A message that is larger than what was agreed.
    TooLarge,
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Violation::TooShort => "the peer sent a 9P message of less than 7 bytes",
            Violation::WrongSize => "the peer sent a 9P message with a wrong size field",
            Violation::TooLarge => "the peer sent a 9P message that is larger than agreed",
        })
    }
}

impl core::error::Error for Violation {}

/// What was agreed by Tversion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    pub dialect: Dialect,
    pub msize: u32,
}

/// The server's side of one connection. See the [crate's documentation](crate).
pub struct Server<P: Policy> {
    pub(crate) policy: P,
    pub(crate) limits: Limits,
    pub(crate) dialects: Vec<Dialect>,
    pub(crate) agreed: Option<Agreed>,
    pub(crate) fids: Fids<P::Node, P::Authentication>,
    pub(crate) places: Places<P::Node>,
    pub(crate) requests: Requests,
    /// Memory for the next Twalk.
    pub(crate) spare_way: Option<Way<P::Node>>,
    /// Those that are being opened included.
    pub(crate) open_files: usize,
    pub(crate) open_directories: usize,
    pub(crate) locks: usize,
    pub(crate) xattr_bytes: usize,
    refused: u64,
}

impl<P: Policy> Server<P> {
    /// A server for one peer, which has not said anything yet.
    pub fn new(policy: P, limits: Limits) -> Self {
        Server {
            policy,
            limits,
            dialects: Dialect::ALL.to_vec(),
            agreed: None,
            fids: Fids::new(),
            places: Places::new(),
            requests: Requests::new(),
            spare_way: None,
            open_files: 0,
            open_directories: 0,
            locks: 0,
            xattr_bytes: 0,
            refused: 0,
        }
    }

    /// Speaks only these dialects.
    #[must_use]
    pub fn dialects(mut self, dialects: &[Dialect]) -> Self {
        self.dialects = dialects.to_vec();
        self
    }

    /// The largest message that the peer may send now, and that it is sent.
    pub fn msize(&self) -> u32 {
        self.agreed.map_or(self.limits.msize, |agreed| agreed.msize)
    }

    /// The dialect that was agreed; `None` before Tversion.
    pub fn dialect(&self) -> Option<Dialect> {
        self.agreed.map(|agreed| agreed.dialect)
    }

    /// Whether the next request would be refused because so many are not answered yet. A front end had better leave it
    /// where it is.
    pub fn is_full(&self) -> bool {
        self.requests.len() >= self.limits.requests
            || self.requests.bytes >= self.limits.bytes_in_flight
    }

    /// What the peer has.
    pub fn usage(&self) -> Usage {
        Usage {
            fids: self.fids.len(),
            open_files: self.open_files,
            open_directories: self.open_directories,
            places: self.places.len(),
            requests: self.requests.len(),
            bytes_in_flight: self.requests.bytes,
            locks: self.locks,
            xattr_bytes: self.xattr_bytes,
            refused: self.refused,
        }
    }

    /// Takes in a request, a whole message, that came on `lane`: a number of the front end's for the place where the reply
    /// goes, such as that of a ring. Checks it against the tables and the limits, and makes a job of it, which borrows its
    /// names and data from the message.
    ///
    /// A request that can't be served is a job, too; its reply says why.
    ///
    /// # Errors
    /// The bytes are no message.
    pub fn accept<'m>(
        &mut self,
        lane: u32,
        message: &'m [u8],
    ) -> Result<Job<'m, P::Node>, Violation> {
        let header = self.header(message)?;
        if header.size as usize != message.len() {
            return Err(Violation::WrongSize);
        }
        Ok(self.take(lane, Tag(header.tag), message.len(), message, None))
    }

    /// Takes in a Twrite whose data is still elsewhere: `head` is what comes before it. The data is either moved by the front
    /// end ([`Job::transfer`]), or handed in with [`Job::with_data`] where the job [needs it](Job::needs_data).
    ///
    /// # Errors
    /// The bytes are no message.
    pub fn accept_write(
        &mut self,
        lane: u32,
        head: &[u8; WRITE_HEADER_LEN],
    ) -> Result<Job<'static, P::Node>, Violation> {
        let header = self.header(head)?;
        // fid[4] offset[8] count[4]
        let [.., c0, c1, c2, c3] = *head;
        let count = u32::from_le_bytes([c0, c1, c2, c3]);
        if header.kind != kind::TWRITE
            || u64::from(header.size) != u64::from(count) + WRITE_HEADER_LEN as u64
        {
            return Err(Violation::WrongSize);
        }
        let [
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            f0,
            f1,
            f2,
            f3,
            o0,
            o1,
            o2,
            o3,
            o4,
            o5,
            o6,
            o7,
            ..,
        ] = *head;
        let request = Request::Write {
            fid: Fid(u32::from_le_bytes([f0, f1, f2, f3])),
            offset: u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
            data: Payload::default(),
        };
        let size = header.size as usize;
        Ok(self.take(lane, Tag(header.tag), size, &[], Some((request, count))))
    }

    fn header(&self, message: &[u8]) -> Result<p9_wire::Header, Violation> {
        let header = message.first_chunk::<HEADER_LEN>().map(parse_header);
        match header {
            Some(header) if (header.size as usize) < HEADER_LEN => Err(Violation::TooShort),
            Some(header) if header.size > self.msize() => Err(Violation::TooLarge),
            Some(header) => Ok(header),
            None => Err(Violation::TooShort),
        }
    }

    fn take<'m>(
        &mut self,
        lane: u32,
        tag: Tag,
        size: usize,
        message: &'m [u8],
        detached: Option<(Request<'m>, u32)>,
    ) -> Job<'m, P::Node> {
        let session = self.agreed.map(|agreed| agreed.dialect);
        let dialect = session.unwrap_or(Dialect::Unix);
        let mut head = Head {
            ticket: None,
            tag,
            dialect,
            errors: dialect,
            msize: self.msize(),
            request: None,
        };
        let mut count = None;
        let decoded = match detached {
            Some((request, bytes)) => {
                count = Some(bytes);
                Ok(request)
            }
            None => match decode(message, dialect) {
                Ok((dialect, request)) => {
                    head.dialect = dialect;
                    Ok(request)
                }
                Err(error) => Err(error),
            },
        };
        let refused = match decoded {
            Ok(Request::Version { msize, version }) => {
                head.request = decoded.ok();
                return self.version(lane, head, msize, version);
            }
            Ok(request) => {
                head.request = Some(request);
                match session {
                    Some(_) => None,
                    // No version was agreed yet.
                    None => Some(Errno::EPROTO),
                }
            }
            Err(WireError::Kind { .. }) => Some(Errno::EOPNOTSUPP),
            Err(WireError::Invalid { .. }) => Some(Errno::EINVAL),
            Err(_) => Some(Errno::EPROTO),
        };
        if let Some(errno) = refused {
            return refuse(head, errno);
        }
        let bytes = size.saturating_add(self.reply_data(&head));
        match self.enter(lane, tag, bytes, &head) {
            Ok(ticket) => {
                head.ticket = Some(ticket);
                self.plan_job(head, count)
            }
            Err(errno) => refuse(head, errno),
        }
    }

    /// Bytes of data in the reply.
    fn reply_data(&self, head: &Head<'_>) -> usize {
        match head.request {
            Some(Request::Read { count, .. } | Request::Readdir { count, .. }) => {
                self.clamp(count) as usize
            }
            _ => 0,
        }
    }

    /// A number of bytes that fits in a reply.
    pub(crate) fn clamp(&self, count: u32) -> u32 {
        count.min(self.msize().saturating_sub(READ_HEADER_LEN as u32))
    }

    /// Enters a request in the table.
    fn enter(
        &mut self,
        lane: u32,
        tag: Tag,
        bytes: usize,
        head: &Head<'_>,
    ) -> Result<Ticket, Errno> {
        if self.requests.by_tag(tag).is_some() {
            // Which of the two would a reply be to?
            return Err(Errno::EINVAL);
        }
        // A Tflush makes room, in the end; there can't be more of them than tags.
        let is_flush = matches!(head.request, Some(Request::Flush { .. }));
        let in_flight = self.requests.bytes.saturating_add(bytes);
        let alone = self.requests.len() == 0;
        if !is_flush
            && !alone
            && (self.requests.len() >= self.limits.requests
                || in_flight > self.limits.bytes_in_flight)
        {
            self.refused += 1;
            return Err(Errno::EAGAIN);
        }
        self.requests.insert(tag, lane, bytes)
    }

    /// Makes a job of a request that is in the table.
    fn plan_job<'m>(&mut self, head: Head<'m>, count: Option<u32>) -> Job<'m, P::Node> {
        let (Some(ticket), Some(request)) = (head.ticket, head.request) else {
            return refuse(head, Errno::EPROTO);
        };
        let planned = self.plan(ticket, &request, &head, count);
        let (work, then, state) = match planned {
            Ok((work, then)) => (work, then, State::Running),
            Err(Refusal::Busy) => (Work::Wait, Then::Nothing, State::Waiting),
            Err(Refusal::Errno(errno)) => (Work::Done(Err(errno)), Then::Nothing, State::Running),
            Err(Refusal::Limit(errno)) => {
                self.refused += 1;
                (Work::Done(Err(errno)), Then::Nothing, State::Running)
            }
        };
        if let Some(pending) = self.requests.get_mut(ticket) {
            (pending.then, pending.state) = (then, state);
        }
        Job { head, work, count }
    }

    /// Tries once more to make a job of a request that [waits](Job::is_waiting) for another. `None`: it was flushed, and
    /// there is no work.
    pub fn retry<'m>(&mut self, job: Job<'m, P::Node>) -> Option<Job<'m, P::Node>> {
        let Some(ticket) = job.head.ticket.filter(|_| job.is_waiting()) else {
            return Some(job);
        };
        match self.requests.get(ticket)?.state {
            State::Waiting => Some(self.plan_job(job.head, job.count)),
            _ => {
                self.requests.remove(ticket);
                None
            }
        }
    }

    /// Whether the peer has taken this request back, so that the job is best given up: drop its future and
    /// [`abandon`](Self::abandon) it. One that is completed all the same is answered, which the peer has to bear with.
    pub fn is_flushed(&self, ticket: Ticket) -> bool {
        match self.requests.get(ticket) {
            Some(pending) => match pending.state {
                State::Running | State::Parked | State::Due => self.requests.is_flushed(ticket),
                State::Waiting => false,
                State::Cancelled | State::Stale => true,
            },
            None => true,
        }
    }

    /// Gives up a job that was not run to its end. Nothing is answered, except to those who flushed it: ask
    /// [`next_flush`](Self::next_flush).
    ///
    /// What the job did until then is done: 9P leaves that to the peer.
    pub fn abandon(&mut self, ticket: Ticket) {
        if let Some(pending) = self.requests.remove(ticket) {
            self.undo(pending.then);
        }
    }

    /// Starts a session, and ends the one before.
    fn version<'m>(
        &mut self,
        lane: u32,
        mut head: Head<'m>,
        msize: u32,
        version: &[u8],
    ) -> Job<'m, P::Node> {
        let reset = self.end_session();
        let dialect = self.choose(version);
        if let Some(dialect) = dialect {
            (head.dialect, head.errors) = (dialect, dialect);
        }
        let msize = msize.min(self.limits.msize);
        head.msize = msize.max(MIN_MSIZE);
        let ticket = self.requests.insert(head.tag, lane, 0);
        let answer = match (dialect, ticket) {
            (_, Err(errno)) => Err(errno),
            (Some(_), _) if msize < MIN_MSIZE => Err(Errno::EMSGSIZE),
            (dialect, Ok(ticket)) => {
                head.ticket = Some(ticket);
                self.agreed = dialect.map(|dialect| Agreed { dialect, msize });
                Ok(Answer::Version { msize, dialect })
            }
        };
        Job {
            head,
            work: reset.work(answer),
            count: None,
        }
    }

    /// The dialect for a Tversion: the name as it is, or with what comes behind its last "." left out, as version(5) says.
    fn choose(&self, version: &[u8]) -> Option<Dialect> {
        let mut name = version;
        loop {
            let dialect = Dialect::from_version(name);
            if let Some(dialect) = dialect.filter(|dialect| self.dialects.contains(dialect)) {
                return Some(dialect);
            }
            let dot = name.iter().rposition(|byte| *byte == b'.')?;
            name = name.get(..dot)?;
        }
    }

    /// Ends the session, as when the connection is lost: all fids go. Run the job and drop what comes of it: files that are
    /// to go with their fid are removed, and all are closed. Jobs that are still out can be completed; nothing comes of it.
    pub fn close(&mut self) -> Job<'static, P::Node> {
        let reset = self.end_session();
        Job {
            head: Head {
                ticket: None,
                tag: Tag::NONE,
                dialect: Dialect::Linux,
                errors: Dialect::Linux,
                msize: self.msize(),
                request: None,
            },
            work: reset.work(Ok(Answer::Unit)),
            count: None,
        }
    }

    fn end_session(&mut self) -> Reset<P::Node> {
        self.agreed = None;
        self.requests.forget_session();
        let mut reset = Reset {
            files: Vec::new(),
            removals: Vec::new(),
            places: Places::new(),
        };
        for usage in self.fids.take() {
            let Use::Open(at, open) = usage else { continue };
            if open.remove_on_clunk
                && let Ok(removal) = self.removal(at.place)
                && reset.removals.try_reserve(1).is_ok()
            {
                reset.removals.push(removal);
            }
            if reset.files.try_reserve(1).is_ok() {
                reset.files.push(open.file);
            }
        }
        reset.places = core::mem::replace(&mut self.places, Places::new());
        self.open_files = 0;
        self.open_directories = 0;
        self.locks = 0;
        self.xattr_bytes = 0;
        reset
    }
}

/// What a session leaves to be closed.
struct Reset<N: p9_tree::Node> {
    files: Vec<alloc::sync::Arc<N::File>>,
    removals: Vec<crate::job::Removal<N>>,
    places: Places<N>,
}

impl<N: p9_tree::Node> Reset<N> {
    fn work<'m>(self, answer: Result<Answer<N>, Errno>) -> Work<'m, N> {
        Work::Reset {
            files: self.files,
            removals: self.removals,
            places: self.places,
            answer,
        }
    }
}

fn refuse<'m, N: p9_tree::Node>(head: Head<'m>, errno: Errno) -> Job<'m, N> {
    Job {
        head,
        work: Work::Done(Err(errno)),
        count: None,
    }
}
