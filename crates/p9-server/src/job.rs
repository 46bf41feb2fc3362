//! The work of one request, apart from the tables.

use alloc::sync::Arc;
use alloc::vec::Vec;

use p9_tree::{Created, HeldLock, Lock, Node};
use p9_wire::{
    Attr, AttrMask, Dialect, Errno, LockFlags, LockStatus, MAX_ELEMENTS, OpenFlags, Payload, Qid,
    Qids, Request, SetAttr, Statfs, Tag, UnlinkFlags, XattrFlags,
};

use crate::classic::{Changing, Listing, Making};
use crate::place::Places;
use crate::request::Ticket;
use crate::stat::OwnedStat;

/// The work that one request asks for, with everything that it takes: no table of the server is touched by it, so any
/// number of jobs can run at once, on any threads that the tree allows.
///
/// [`run`](Self::run) does it. For bulk data there is a shortcut: where [`transfer`](Self::transfer) says so, the front
/// end may move the bytes between file and peer itself.
pub struct Job<'m, N: Node> {
    pub(crate) head: Head<'m>,
    pub(crate) work: Work<'m, N>,
    /// Of a Twrite whose data is elsewhere, how many bytes.
    pub(crate) count: Option<u32>,
}

/// What a job and its result have in common.
#[derive(Clone, Debug)]
pub(crate) struct Head<'m> {
    /// `None`: the request could not be entered in the table and is refused.
    pub ticket: Option<Ticket>,
    pub tag: Tag,
    /// In which the message is written.
    pub dialect: Dialect,
    /// In which errors are.
    pub errors: Dialect,
    pub msize: u32,
    /// `None` when it could not be decoded.
    pub request: Option<Request<'m>>,
}

/// A job that was run, to be handed to [`Server::complete`](crate::Server::complete).
pub struct Done<'m, N: Node> {
    pub(crate) head: Head<'m>,
    pub(crate) outcome: Result<Answer<N>, Errno>,
}

/// A file that goes with its fid.
#[derive(Debug)]
pub(crate) struct Removal<N> {
    pub parent: N,
    pub name: Vec<u8>,
    /// What has to be there: another file of this name stays.
    pub file: N,
}

/// The way of a Twalk: files, and their names by number in the message. The server uses its memory again.
#[derive(Debug)]
pub(crate) struct Way<N> {
    pub nodes: Vec<N>,
    names: [u8; MAX_ELEMENTS],
    /// Whether the last node is for one look only.
    pub only_look: bool,
}

impl<N> Way<N> {
    pub const fn new() -> Self {
        Way {
            nodes: Vec::new(),
            names: [0; MAX_ELEMENTS],
            only_look: false,
        }
    }

    /// Of files that were walked to by one name after the other.
    pub fn plain(mut self, len: usize) -> Self {
        self.nodes.truncate(len);
        for (index, name) in self.names.iter_mut().enumerate() {
            *name = index as u8;
        }
        self
    }

    /// The next file; there has to be [room](Vec::try_reserve_exact) for it.
    pub fn push(&mut self, node: N, name: usize) {
        if let Some(number) = self.names.get_mut(self.nodes.len()) {
            *number = name as u8;
            self.nodes.push(node);
        }
    }

    /// The files and the numbers of their names, which are taken out.
    pub fn drain(&mut self) -> impl Iterator<Item = (N, usize)> {
        let names = self.names;
        self.nodes.drain(..).zip(names.into_iter().map(usize::from))
    }
}

pub(crate) enum Work<'m, N: Node> {
    /// Nothing to do.
    Done(Result<Answer<N>, Errno>),
    /// A request before this one has to be done first.
    Wait,
    Attach {
        root: N,
        below: &'m [u8],
        depth: usize,
    },
    Walk {
        from: N,
        /// The directories above, the nearest first; as many as "..".
        above: Vec<N>,
        /// Empty, with memory.
        way: Way<N>,
    },
    Getattr {
        node: N,
        file: Option<Arc<N::File>>,
        mask: AttrMask,
    },
    Setattr {
        node: N,
        file: Option<Arc<N::File>>,
        attr: SetAttr,
    },
    Statfs(N),
    Readlink(N),
    Open {
        node: N,
        flags: OpenFlags,
    },
    Create {
        dir: N,
        name: &'m [u8],
        flags: OpenFlags,
        mode: u32,
        gid: u32,
    },
    Mkdir {
        dir: N,
        name: &'m [u8],
        mode: u32,
        gid: u32,
    },
    Symlink {
        dir: N,
        name: &'m [u8],
        target: &'m [u8],
        gid: u32,
    },
    Mknod {
        dir: N,
        name: &'m [u8],
        mode: u32,
        major: u32,
        minor: u32,
        gid: u32,
    },
    Link {
        dir: N,
        original: N,
        name: &'m [u8],
    },
    Rename {
        from: N,
        name: &'m [u8],
        to: N,
        new_name: &'m [u8],
    },
    /// Renames a file by its fid.
    RenameFile {
        removal: Removal<N>,
        to: N,
        new_name: &'m [u8],
    },
    Unlink {
        dir: N,
        name: &'m [u8],
        flags: UnlinkFlags,
    },
    Read {
        file: Arc<N::File>,
        offset: u64,
        count: u32,
    },
    ReadXattr {
        value: Arc<Vec<u8>>,
        offset: u64,
        count: u32,
    },
    Readdir {
        file: Arc<N::File>,
        offset: u64,
        count: u32,
        /// What ".." is.
        up: Qid,
    },
    Write {
        file: Arc<N::File>,
        offset: u64,
        count: u32,
        /// `None`: the front end has not got it from the peer yet.
        data: Option<Payload<'m>>,
    },
    Fsync {
        file: Arc<N::File>,
        data_only: bool,
    },
    Lock {
        file: Arc<N::File>,
        lock: Lock<'m>,
        flags: LockFlags,
    },
    Getlock {
        file: Arc<N::File>,
        lock: Lock<'m>,
    },
    Xattr {
        node: N,
        name: &'m [u8],
        max: usize,
    },
    /// Gives up an open file, and removes what is to go with it.
    Close {
        file: Option<Arc<N::File>>,
        removal: Result<Option<Removal<N>>, Errno>,
        /// Tremove: the removal's error is the answer.
        remove: bool,
    },
    SetXattr {
        node: N,
        name: Vec<u8>,
        value: Vec<u8>,
        flags: XattrFlags,
    },
    /// A session is over: closes its files.
    Reset {
        files: Vec<Arc<N::File>>,
        removals: Vec<Removal<N>>,
        places: Places<N>,
        answer: Result<Answer<N>, Errno>,
    },
    Stat {
        node: N,
        name: Vec<u8>,
        dialect: Dialect,
    },
    Make(Making<'m, N>),
    Change(Changing<'m, N>),
    List(Listing<N>),
    /// Bytes for an extended attribute or an afid: the tables have to be at hand for it.
    Store {
        count: u32,
        has_data: bool,
    },
    /// Bytes from an afid.
    AuthRead {
        count: u32,
    },
}

/// What came of a job.
pub(crate) enum Answer<N: Node> {
    /// The request has no result.
    Unit,
    Version {
        msize: u32,
        dialect: Option<Dialect>,
    },
    Auth(Qid),
    /// The way from the root of the export to the root of the attach.
    Attached(N),
    Walked {
        qids: Qids,
        /// Directories above the start that the way begins with.
        up: usize,
        /// The way from there.
        way: Way<N>,
        /// Whether it leads to its end.
        is_whole: bool,
    },
    Qid(Qid),
    Attr(Attr),
    Statfs(Statfs),
    Bytes(Vec<u8>),
    Opened(N::File, Qid),
    Created(Created<N>),
    /// Made, but not opened.
    Made(N),
    Stat(OwnedStat),
    /// This many bytes lie in the buffer behind the head of an Rread.
    Data(usize),
    /// Likewise, and where the directory goes on.
    Listed {
        len: usize,
        entry: u64,
    },
    /// This many bytes were moved by the front end.
    Moved(usize),
    Written(u32),
    Status(LockStatus),
    Held(Option<HeldLock>),
    Xattr(Vec<u8>),
    Store,
    AuthRead(u32),
}

/// Where bulk data goes from and to, for a front end that moves it itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum Transfer<'j, F> {
    /// Bytes of the file become the data of an Rread.
    Read {
        /// The file.
        file: &'j F,
        /// The first byte.
        offset: u64,
        /// How many bytes at most; they fit in a reply.
        count: u32,
    },
    /// The data of a Twrite goes to the file.
    Write {
        /// The file.
        file: &'j F,
        /// Where it goes.
        offset: u64,
        /// How many bytes.
        count: u32,
    },
    /// Entries of the directory become the data of an Rreaddir.
    Readdir {
        /// The directory.
        file: &'j F,
        /// Where to go on.
        offset: u64,
        /// How many bytes of entries at most; they fit in a reply.
        count: u32,
    },
}

impl<'m, N: Node> Job<'m, N> {
    /// The request's tag.
    pub fn tag(&self) -> Tag {
        self.head.tag
    }

    /// The request, unless it could not be decoded.
    pub fn request(&self) -> Option<&Request<'m>> {
        self.head.request.as_ref()
    }

    /// Bytes that its reply may take, where messages have at most `msize`.
    pub fn largest_reply(&self, msize: u32) -> u32 {
        /// Where the request does not tell.
        const SMALL: u32 = 512;

        let known = self.request();
        let known = known.map(|request| request.max_reply(Dialect::Unix, msize));
        known.unwrap_or(SMALL).min(msize)
    }

    /// What to give [`Server::abandon`](crate::Server::abandon) when the job is given up while it runs. `None`: the
    /// request is refused, and there is nothing to give up.
    pub fn ticket(&self) -> Option<Ticket> {
        self.head.ticket
    }

    /// Whether the job can't run before another request is done, which names the same fid and came before: Tlopen for a
    /// fid whose Twalk is still under way. Never so in a front end that completes each request before it accepts the
    /// next.
    ///
    /// After each reply, try again with [`Server::retry`](crate::Server::retry). A job that is run all the same is refused
    /// with EBUSY.
    pub fn is_waiting(&self) -> bool {
        matches!(self.work, Work::Wait)
    }

    /// The file, offset and number of bytes of a Tread, Twrite or Treaddir, if the data can be moved by the front end:
    /// do so, and go on with [`transferred`](Self::transferred) instead of [`run`](Self::run).
    pub fn transfer(&self) -> Option<Transfer<'_, N::File>> {
        match &self.work {
            Work::Read {
                file,
                offset,
                count,
            } => Some(Transfer::Read {
                file,
                offset: *offset,
                count: *count,
            }),
            Work::Write {
                file,
                offset,
                count,
                ..
            } => Some(Transfer::Write {
                file,
                offset: *offset,
                count: *count,
            }),
            Work::Readdir {
                file,
                offset,
                count,
                ..
            } => Some(Transfer::Readdir {
                file,
                offset: *offset,
                count: *count,
            }),
            _ => None,
        }
    }

    /// The front end has moved this many bytes for [`transfer`](Self::transfer), or could not.
    ///
    /// [`complete`](crate::Server::complete) then writes no more than the head of the reply;
    /// [`Completion::moved`](crate::Completion::moved) says how many bytes follow it.
    pub fn transferred(self, result: Result<usize, Errno>) -> Done<'m, N> {
        let outcome = match (self.transfer(), result) {
            (_, Err(errno)) => Err(errno),
            (Some(Transfer::Write { count, .. }), Ok(bytes)) => Ok(Answer::Written(
                u32::try_from(bytes).map_or(count, |bytes| bytes.min(count)),
            )),
            (Some(Transfer::Read { count, .. } | Transfer::Readdir { count, .. }), Ok(bytes))
                if bytes <= count as usize =>
            {
                Ok(Answer::Moved(bytes))
            }
            // A front end that does what it was not asked for.
            _ => Err(Errno::EIO),
        };
        Done {
            head: self.head,
            outcome,
        }
    }

    /// Whether the data of a Twrite is still to come: see [`Server::accept_write`](crate::Server::accept_write).
    pub fn needs_data(&self) -> bool {
        matches!(
            self.work,
            Work::Write { data: None, .. }
                | Work::Store {
                    has_data: false,
                    ..
                }
        )
    }

    /// The job with the data of its Twrite; data of another length than the request said is not taken.
    #[must_use]
    pub fn with_data<'d>(self, bytes: Payload<'d>) -> Job<'d, N>
    where
        'm: 'd,
    {
        let Job {
            mut head,
            work,
            count: length,
        } = self;
        let mut work: Work<'d, N> = work;
        match (&mut head.request, &mut work) {
            (
                Some(Request::Write { data, .. }),
                Work::Write {
                    data: own, count, ..
                },
            ) if bytes.len() == *count as usize => {
                *data = bytes;
                *own = Some(bytes);
            }
            (Some(Request::Write { data, .. }), Work::Store { has_data, count })
                if bytes.len() == *count as usize =>
            {
                *data = bytes;
                *has_data = true;
            }
            _ => (),
        }
        Job {
            head,
            work,
            count: length,
        }
    }
}
