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
//! Nothing is allocated on the way of a Tread or Twrite.
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
mod place;
mod plan;
mod ranges;
mod request;
mod run;
mod server;
mod slab;
mod stat;

pub use complete::{Completion, Flushed};
pub use export::{Authentication, Export, Exports, Login, Policy, Rights};
pub use frame::Frames;
pub use job::{Done, Job, Transfer};
pub use limits::{Limits, Usage};
pub use p9_tree::{Node, OpenFile};
pub use request::Ticket;
pub use server::{MIN_MSIZE, Server, Violation};
