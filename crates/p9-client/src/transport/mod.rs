//! How 9P messages travel between the client and a server.
//!
//! A [`Transport`] carries whole 9P messages over one or more independent *lanes* (the rings of a
//! Xen 9pfs device; a socket is one lane). The session above decides which request goes where by
//! the rule that Xen's backends impose: **tag T travels on lane T % lanes**, request and reply alike.
//!
//! A transport never allocates per message and copies each byte once per direction: requests are
//! handed over as slices and leave in [`Transport::send`]; a reply stays in the transport's own
//! memory, is looked at with [`Transport::peek`], copied straight to where the caller wants it with
//! [`Transport::copy_out`], and released with [`Transport::consume`].
//!
//! ```
//! use p9_client::transport::{Lane, Transport, TransportError};
//! use xen9p_time::Instant;
//!
//! /// Sends a message on the first lane and waits for the answer.
//! fn ask(transport: &mut impl Transport, request: &[u8]) -> Result<Vec<u8>, TransportError> {
//!     let (lane, reply) = (Lane(0), transport.max_message());
//!     while !transport.send(lane, &[request], reply)? {
//!         transport.wait(Instant::NEVER)?;
//!     }
//!     transport.flush()?;
//!     let header = loop {
//!         match transport.peek(lane)? {
//!             Some(header) => break header,
//!             None => transport.wait(Instant::NEVER)?,
//!         }
//!     };
//!     let mut answer = vec![0; header.size as usize];
//!     transport.copy_out(lane, 0, &mut answer);
//!     transport.consume(lane);
//!     transport.release(lane, reply);
//!     Ok(answer)
//! }
//! ```

#[cfg(feature = "socket")]
pub mod socket;
pub mod stream;

use core::time::Duration;

use xen9p_time::Instant;

pub use p9_tree::{Text, TransportError};
pub use p9_wire::Header;

/// One of a transport's independent, ordered channels, from 0 to [`Transport::lanes`] − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u16);

/// How long one may block at once after [`Transport::settle`], where a transport does not know better.
const SETTLED_INTERVAL: Duration = Duration::from_secs(1);

/// Counters of a transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes copied out of private memory: all requests, each byte once.
    pub copied_in: u64,
    /// Bytes copied into private memory: replies, each byte once but for headers.
    pub copied_out: u64,
    /// Times that requests were announced to the server.
    pub announced: u64,
    /// Times that [`Transport::wait`] found something before it had to sleep.
    pub sleeps_avoided: u64,
}

/// Carries 9P messages.
///
/// No method blocks but [`wait`](Self::wait). After any error every later call returns the same
/// error.
pub trait Transport {
    /// Number of lanes, at least 1 and constant.
    fn lanes(&self) -> u16;

    /// Whether the server is known to do the requests of one lane in the order in which they were sent, where one needs
    /// what another brings: a file opened by the fid that a walk makes. Then it is sent right behind that one; where
    /// this is `false`, only after the answer.
    fn in_order(&self) -> bool {
        false
    }

    /// Whether the server is known to keep a reply until there is room for it. Then a request may be [sent](Self::send) that
    /// takes nothing of the reply budget. A session does so only for what it is [asked for
    /// others](crate::session::Session::ask_for_others).
    fn holds_replies(&self) -> bool {
        false
    }

    /// Whether [`wait`](Self::wait) waits for what comes next although a reply that was [peeked](Self::peek) at lies there still, as an event
    /// channel does. Then replies that no task waits for may stay where they are; where this is `false`, as for a stream, they are moved
    /// away soon.
    fn waits_for_news(&self) -> bool {
        false
    }

    /// The largest message, in bytes, that can be carried either way while leaving room for others;
    /// what the client proposes as msize at most.
    fn max_message(&self) -> u32;

    /// Sets the largest reply that is legal from now on (the negotiated msize).
    fn set_max_message(&mut self, bytes: u32);

    /// Whether a request of `request` bytes whose reply has at most `reply` bytes could be sent on
    /// `lane` now.
    ///
    /// # Errors
    /// See [`TransportError`].
    fn has_room(&mut self, lane: Lane, request: u32, reply: u32) -> Result<bool, TransportError>;

    /// Sends one whole message: the concatenation of `parts`. `reply` bytes of the lane's reply
    /// budget are taken until [`release`](Self::release) gives them back.
    ///
    /// The server may not be told before [`flush`](Self::flush). Returns `false`, with nothing sent
    /// and nothing taken, when there is no room now.
    ///
    /// # Errors
    /// See [`TransportError`].
    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError>;

    /// Tells the server of everything sent and consumed since the last flush.
    ///
    /// # Errors
    /// See [`TransportError`].
    fn flush(&mut self) -> Result<(), TransportError>;

    /// The header of the next reply on `lane` if it has arrived completely. Repeats the same answer
    /// until [`consume`](Self::consume).
    ///
    /// # Errors
    /// See [`TransportError`].
    fn peek(&mut self, lane: Lane) -> Result<Option<Header>, TransportError>;

    /// Copies bytes of the message that [`peek`](Self::peek) showed, from `offset` (0 is the first
    /// byte of the header) on, into `into`. Bytes beyond the message's end read as 0.
    ///
    /// The content may change between two calls when the server is hostile: read each byte once.
    fn copy_out(&mut self, lane: Lane, offset: u32, into: &mut [u8]);

    /// Drops the message that [`peek`](Self::peek) showed and makes room for more.
    fn consume(&mut self, lane: Lane);

    /// Gives back `reply` bytes of the reply budget that an earlier [`send`](Self::send) took: the
    /// request is over, by its reply or by an answered flush.
    fn release(&mut self, lane: Lane, reply: u32);

    /// Counters; all 0 in a transport that does not count.
    fn stats(&self) -> Stats {
        Stats::default()
    }

    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// Blocks until something may have happened (a reply, room, a loss) or `deadline` has passed.
    /// Never misses what happened after the last [`peek`](Self::peek),
    /// [`has_room`](Self::has_room) or refused [`send`](Self::send); may return early for no reason.
    ///
    /// # Errors
    /// See [`TransportError`].
    fn wait(&mut self, deadline: Instant) -> Result<(), TransportError>;

    /// The first half of [`wait`](Self::wait), for those who block by other means: does what there is to do now. Then, unless
    /// something may have happened, says until when one may block if nothing fires before. Never blocks.
    ///
    /// # Errors
    /// See [`TransportError`].
    fn settle(&mut self) -> Result<Option<Instant>, TransportError> {
        let now = self.now();
        self.wait(Instant::from_nanos(0))?;
        Ok(Some(now + SETTLED_INTERVAL))
    }

    /// Ends the connection in good order, within a bounded time. All requests are over by now.
    /// Idempotent.
    fn close(&mut self);
}
