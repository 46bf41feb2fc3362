//! A 9P server over any tree of files.
//!
//! A [`Server`] serves one peer in 9P2000.L, 9P2000.u and 9P2000. It does no I/O: a front end, which has a socket or rings,
//! hands it messages and gets replies, and the work in between is done by the tree, whose files are [`Node`]s.
//!
//! # Three steps
//! 1. [`accept`](Server::accept) takes a message, checks it against the peer's fids, rights and limits, and makes a [`Job`]
//!    of it. It does no I/O.
//! 2. [`Job::run`] does the work. It borrows nothing of the server, so jobs can run at the same time and end in any order:
//!    on threads, each with a ring, and the server in a mutex that none of them holds meanwhile; or as futures on one
//!    thread.
//! 3. [`complete`](Server::complete) brings the tables up to date and encodes the reply. It does no I/O.
//!
//! ```
//! use p9_server::{Exports, Limits, Rights, Server};
//! use p9_tree::trees::MemTree;
//! use p9_tree::{NeverWaits, block_on};
//! use p9_wire::{Dialect, Fid, Reader, Reply, Request, Tag};
//!
//! let tree = MemTree::new();
//! tree.put("/motd", "hello")?;
//! let exports = Exports::new(tree.root(), Rights::ReadOnly);
//! let mut server = Server::new(exports, Limits::default());
//!
//! let mut buffer = vec![0; 8192];
//! let mut call = |request: Request<'_>| {
//!     // What a peer would send.
//!     let mut message = [0; 128];
//!     let len = request.encode(Tag(1), Dialect::Linux, &mut message).unwrap();
//!
//!     let job = server.accept(0, &message[..len]).unwrap();
//!     let done = block_on(&NeverWaits, async { Ok(job.run(&mut buffer).await) }).unwrap();
//!     let reply = server.complete(done, &mut buffer);
//!
//!     let reply = Reader::new(&buffer[..reply.len()], Dialect::Linux);
//!     Reply::decode(reply).unwrap().1.kind()
//! };
//! let version = Request::Version { msize: 8192, version: b"9P2000.L" };
//! assert_eq!(call(version), p9_wire::kind::RVERSION);
//! let (fid, afid) = (Fid(0), Fid::NONE);
//! let attach = Request::Attach { fid, afid, uname: b"", aname: b"", n_uname: 0 };
//! assert_eq!(call(attach), p9_wire::kind::RATTACH);
//! # Ok::<(), p9_tree::Error>(())
//! ```
//!
//! [`serve`] is all three for a stream such as a socket. Nothing is allocated on the way of a Tread or Twrite, and a front
//! end may move their data itself: see [`Job::transfer`].
//!
//! # Order
//! A front end that holds several jobs at a time has three duties:
//! - It sends the reply before it lets go of the server ([`complete`](Server::complete)), and then what
//!   [`next_flush`](Server::next_flush) has, so that no reply comes after the Rflush that says so.
//! - It holds back a job that [is waiting](Job::is_waiting) for another, and tries it [again](Server::retry).
//! - It tells the server of each job that it [gives up](Server::abandon).
//!
//! A front end that has messages behind a Twalk at hand [tells its job](Job::foresee), which may make it cheaper.
//!
//! Where a thread runs one job after the other, one that [may take long](may_take_long) had better be run on another.
//!
//! # Contract
//! Nothing that a peer sends makes the server panic, wait for ever, or use more than its [`Limits`] allow. A limit that is
//! reached is an error for the peer that reached it. ".." ends at the root of an attach, and symbolic links are the peer's
//! business: they are never followed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod classic;
mod complete;
mod export;
mod fid;
mod frame;
mod job;
mod limits;
mod message;
mod place;
mod plan;
mod ranges;
mod reply;
mod request;
mod run;
mod serve;
mod server;
mod slab;
mod stat;

pub use complete::{Completion, Flushed};
pub use export::{Authentication, Export, Exports, Login, Policy, Rights};
pub use frame::Frames;
pub use job::{Done, Job, Transfer};
pub use limits::{Limits, Usage};
pub use message::{BEGINNING, may_take_long};
pub use p9_tree::{Node, OpenFile};
pub use request::Ticket;
pub use serve::{ServeError, serve};
pub use server::{MIN_MSIZE, Server, Violation};
