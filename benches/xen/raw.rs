//! 9P messages straight over the transport: as few instructions around a request as there can be.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::time::Duration;

use xen9p::p9::wire::{
    Dialect, DirEntries, Fid, IO_HEADER_LEN, NO_USER, Names, OpenFlags, Payload, Reader, Reply,
    Request, Tag, kind,
};
use xen9p::println;
use xen9p::rt;
use xen9p::transport::{Lane, Transport, TransportError};

use crate::marks::{Result, Signals};

/// How long an answer is waited for.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

/// The most requests of one operation; the tags of an operation are this far apart at least.
const BURST: usize = 4;

const ROOT: Fid = Fid(0);
const SCRATCH: Fid = Fid(10);

/// A connection to a server.
pub struct Raw {
    wire: RefCell<Wire>,
}

struct Wire {
    transport: Box<dyn Transport>,
    msize: u32,
    requests: u64,
    /// The reply budget each tag has taken.
    budgets: Vec<u32>,
}

fn broken(error: TransportError) -> String {
    error.to_string()
}

/// The names of a relative path.
pub fn names(path: &str) -> Names<'_> {
    let mut names = Names::default();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        // Paths here have five names at most, a walk can have sixteen.
        let _ = names.push(name.as_bytes());
    }
    names
}

impl Raw {
    /// Agrees on 9P2000.L and attaches.
    pub fn new(transport: impl Transport + 'static) -> Result<Raw> {
        let msize = transport.max_message();
        let raw = Raw {
            wire: RefCell::new(Wire {
                transport: Box::new(transport),
                msize,
                requests: 0,
                budgets: vec![0; 1 << 10],
            }),
        };
        let version = Dialect::Linux.version().as_bytes();
        let agreed = raw.ask(&Request::Version { msize, version }, |reply| match reply {
            Reply::Version { msize, .. } => Some(*msize),
            _ => None,
        })?;
        let mut wire = raw.wire.borrow_mut();
        wire.msize = agreed.min(msize);
        wire.transport.set_max_message(agreed.min(msize));
        drop(wire);
        raw.done(&Request::Attach {
            fid: ROOT,
            afid: Fid::NONE,
            uname: b"root",
            aname: b"/",
            n_uname: NO_USER,
        })?;
        Ok(raw)
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> u16 {
        self.wire.borrow().transport.lanes()
    }

    /// Whole pages in the largest request.
    pub fn chunk(&self) -> usize {
        (self.wire.borrow().msize - IO_HEADER_LEN) as usize & !0xfff
    }

    /// Makes `fid` what is at a path.
    pub fn walk(&self, path: &str, fid: Fid) -> Result<()> {
        self.done(&Request::Walk {
            fid: ROOT,
            newfid: fid,
            names: names(path),
        })
    }

    /// Opens what is at a path, for reading.
    pub fn open(&self, path: &str, fid: Fid) -> Result<()> {
        // A fid that is in use is let go of first; one that is not, the server refuses to know.
        let _ = self.clunk(fid);
        self.walk(path, fid)?;
        self.done(&Request::Lopen {
            fid,
            flags: OpenFlags::empty(),
        })
    }

    /// Makes a file and opens it for writing.
    pub fn create(&self, directory: Fid, name: &str, fid: Fid) -> Result<()> {
        self.done(&Request::Walk {
            fid: directory,
            newfid: fid,
            names: names(""),
        })?;
        self.done(&Request::Lcreate {
            fid,
            name: name.as_bytes(),
            flags: OpenFlags::WRITE_ONLY,
            mode: 0o644,
            gid: 0,
        })
    }

    /// Makes a directory.
    pub fn make_dir(&self, directory: Fid, name: &str) -> Result<()> {
        self.done(&Request::Mkdir {
            dfid: directory,
            name: name.as_bytes(),
            mode: 0o755,
            gid: 0,
        })
    }

    /// Lets go of a fid.
    pub fn clunk(&self, fid: Fid) -> Result<()> {
        self.done(&Request::Clunk { fid })
    }

    /// Waits until a file is on stable storage.
    pub fn sync(&self, fid: Fid) -> Result<()> {
        self.done(&Request::Fsync { fid, datasync: 0 })
    }

    /// Entries of an open directory.
    pub fn read_dir(&self, fid: Fid, offset: u64) -> Result<Vec<u8>> {
        let count = 32 << 10;
        let request = Request::Readdir { fid, offset, count };
        self.ask(&request, |reply| match reply {
            Reply::Readdir { data } => Some(data.bytes().collect()),
            _ => None,
        })
    }

    fn done(&self, request: &Request<'_>) -> Result<()> {
        self.ask(request, |reply| {
            (!matches!(reply, Reply::Lerror { .. } | Reply::Error { .. })).then_some(())
        })
    }

    /// Sends one request, waits for the reply and reads it.
    fn ask<T>(
        &self,
        request: &Request<'_>,
        read: impl FnOnce(&Reply<'_>) -> Option<T>,
    ) -> Result<T> {
        let mut wire = self.wire.borrow_mut();
        let tag = match request {
            Request::Version { .. } => Tag::NONE,
            _ => Tag(0),
        };
        // The lane that the tag means.
        let lane = Lane(tag.0 % wire.transport.lanes());
        let budget = wire.send(lane, tag, request)?;
        wire.transport.flush().map_err(broken)?;
        let deadline = wire.transport.now() + REPLY_TIMEOUT;
        let header = loop {
            if let Some(header) = wire.transport.peek(lane).map_err(broken)? {
                break header;
            }
            if wire.transport.now() >= deadline {
                return Err(format!("no answer to {request:?}"));
            }
            wire.transport.wait(deadline).map_err(broken)?;
        };
        let mut bytes = vec![0; header.size as usize];
        wire.transport.copy_out(lane, 0, &mut bytes);
        wire.transport.consume(lane);
        wire.transport.release(lane, budget);
        let decoded = Reply::decode(Reader::new(&bytes, Dialect::Linux));
        let (_, reply) = decoded.map_err(|error| error.to_string())?;
        read(&reply).ok_or_else(|| format!("{request:?}: {reply:?}"))
    }

    /// Does `count` operations, `slots` of them at a time, each in the order of its number. `operation` gets the number,
    /// the slot, and how to send; it sends all its requests, up to [`BURST`], which travel on one lane in one go.
    pub fn stream(
        &self,
        slots: u16,
        count: u64,
        mut operation: impl FnMut(u64, u16, &mut dyn FnMut(&Request<'_>) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let mut wire = self.wire.borrow_mut();
        let wire = &mut *wire;
        let lanes = wire.transport.lanes();
        // Tags of one slot are a multiple of the lanes apart.
        let stride = slots.next_multiple_of(lanes);
        let mut left = vec![0_usize; slots.into()];
        let mut free: Vec<u16> = (0..slots).rev().collect();
        let (mut begun, mut ended) = (0, 0);
        let mut deadline = wire.transport.now() + REPLY_TIMEOUT;
        while ended < count {
            // Those for which there is no room wait until there is.
            let mut full = Vec::new();
            while begun < count
                && let Some(slot) = free.pop()
            {
                let lane = Lane(slot % lanes);
                let room = wire.msize;
                if left.iter().any(|&left| left > 0)
                    && !wire.transport.has_room(lane, room, room).map_err(broken)?
                {
                    full.push(slot);
                    continue;
                }
                let mut sent = 0;
                operation(begun, slot, &mut |request| {
                    let tag = Tag(slot + stride * sent as u16);
                    debug_assert!(sent < BURST);
                    let budget = wire.send(lane, tag, request)?;
                    wire.budgets[usize::from(tag.0)] = budget;
                    sent += 1;
                    Ok(())
                })?;
                left[usize::from(slot)] = sent;
                begun += 1;
            }
            free.extend(full.into_iter().rev());
            wire.transport.flush().map_err(broken)?;
            let mut news = false;
            for lane in (0..lanes).map(Lane) {
                while let Some(header) = wire.transport.peek(lane).map_err(broken)? {
                    if header.kind == kind::RLERROR {
                        return Err(format!(
                            "operation {ended} or a later one: the server says no"
                        ));
                    }
                    let slot = header.tag % stride;
                    wire.transport.consume(lane);
                    let budget = wire.budgets.get(usize::from(header.tag)).copied();
                    wire.transport.release(lane, budget.unwrap_or(0));
                    let left = left
                        .get_mut(usize::from(slot))
                        .filter(|left| **left > 0)
                        .ok_or("a reply without a request")?;
                    *left -= 1;
                    if *left == 0 {
                        free.push(slot);
                        ended += 1;
                    }
                    news = true;
                }
            }
            let now = wire.transport.now();
            if news {
                deadline = now + REPLY_TIMEOUT;
            } else if now >= deadline {
                return Err("the server does not answer".into());
            } else {
                wire.transport.wait(deadline).map_err(broken)?;
            }
        }
        Ok(())
    }
}

impl Wire {
    /// Sends a request; says what part of the reply budget that took.
    fn send(&mut self, lane: Lane, tag: Tag, request: &Request<'_>) -> Result<u32> {
        let budget = request.max_reply(Dialect::Linux, self.msize);
        let mut head = [0; 512];
        let length = request
            .encode_head(tag, Dialect::Linux, &mut head)
            .map_err(|error| error.to_string())?;
        let Payload(first, second) = request.payload();
        let parts = [&head[..length], first, second];
        if !self.transport.send(lane, &parts, budget).map_err(broken)? {
            return Err("no room for a request".into());
        }
        self.requests += 1;
        Ok(budget)
    }
}

impl Signals for Raw {
    fn now(&self) -> Duration {
        rt::uptime()
    }

    fn print(&self, line: fmt::Arguments<'_>) {
        println!("{line}");
    }

    fn requests(&self) -> u64 {
        self.wire.borrow().requests
    }

    fn touch(&self, path: &str) -> Result<()> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = Fid(SCRATCH.0 + 1);
        self.walk(directory, parent)?;
        self.create(parent, name, SCRATCH)?;
        self.clunk(SCRATCH)?;
        self.clunk(parent)
    }

    fn names(&self, path: &str) -> Result<Vec<(String, bool)>> {
        self.open(path, SCRATCH)?;
        let (mut found, mut offset) = (Vec::new(), 0);
        loop {
            let data = self.read_dir(SCRATCH, offset)?;
            if data.is_empty() {
                self.clunk(SCRATCH)?;
                return Ok(found);
            }
            for entry in DirEntries::new(&data) {
                let entry = entry.map_err(|error| error.to_string())?;
                offset = entry.offset;
                found.push((String::from_utf8_lossy(entry.name).into_owned(), false));
            }
        }
    }
}
