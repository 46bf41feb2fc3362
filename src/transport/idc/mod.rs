//! Messages, transactions and remote buffers between two programs: the API that was sketched on xen-devel in 2005
//! ("Interdomain comms").
//!
//! An [`Endpoint`] is one end of a connection to one other endpoint. It is told what happens by [`Event`]s, in an order that
//! is always the same: the other endpoint appears; the two are connected, and disconnected, any number of times; it
//! disappears. A connection that one side has had, the other one has had, too.
//!
//! - A **message** goes one way. It stays in the receiver's memory until the receiver completes it.
//! - A **transaction** has parameters and is answered by an error code and a status; an error of the connection is another
//!   thing than these. Both sides can begin them.
//! - A **buffer** is registered, and the [`RemoteBuffer`] that names it sent to the other side, which then sends bytes to it
//!   or receives bytes from it, on its own account.
//!
//! Sizes and counts are those of the [`Limits`] that the [`Resources`] were made for. Nothing is allocated after that, but
//! for the grants of a registered buffer.
//!
//! # Between domains
//! [`Dialer`] and [`Publisher`] have vchans carry messages and transactions. With [`ByGrants`] Xen copies the bytes of buffers
//! (GNTTABOP_copy): one hypercall for 64 pages, no notification, and nothing is mapped. Over any other
//! [`ByteStream`](super::stream::ByteStream), such as a socket, the same API works with [`InFrames`].
//!
//! # A third domain
//! A reference is good for the domain that it was registered for. To pass a buffer of A's on to C, B sends the reference back
//! to A and names C; A, which decides whether C may have it, looks up [what it registered](Engine::registered) and
//! registers that at its endpoint to C, too. B sends C the reference that A gets there.
//!
//! # When a buffer is unregistered
//! It can't be reached from that moment on: the grant entries are gone, and nothing waits for the other side. Their numbers
//! serve no other grant before the other side has said that it has forgotten them, so that it can't reach something else by
//! them. If it has pages mapped (which nothing of this module does), [`OwnPages::is_held`] says so, and the pages are not
//! used for anything else before it lets go.
//!
//! # Example
//! ```
//! use xen9p::platform::Platform;
//! use xen9p::time::Instant;
//! use xen9p::transport::idc::{ByGrants, Dialer, Endpoint, Event, SubmitError};
//!
//! /// Greets the other side as soon as it is there, and returns when the greeting was taken, or lost.
//! fn greet<P: Platform>(
//!     endpoint: &mut Endpoint<Dialer<P>, ByGrants<P>>,
//! ) -> Result<bool, SubmitError> {
//!     while let Some(event) = endpoint.next(Instant::NEVER) {
//!         match event {
//!             Event::Connect => drop(endpoint.submit_message(b"hello")?),
//!             Event::Delivered(_, done) => return Ok(done.is_ok()),
//!             _ => {}
//!         }
//!     }
//!     Ok(false)
//! }
//! ```

mod buffers;
mod bulk;
mod endpoint;
mod engine;
mod event;
pub mod frame;
mod life;
mod limits;
mod resources;
mod traffic;
mod transfer;
mod xen;

pub use bulk::{Bulk, Bytes, InFrames, LocalBuffer, RemoteBuffer, Way};
pub use endpoint::{Connector, Endpoint};
pub use engine::{ABSENCE_TIMEOUT, DESTROY_TIMEOUT, Engine, GREETING_TIMEOUT};
pub use event::{
    BufferError, Event, Fault, InMessage, InTransaction, OutMessage, OutTransaction, SubmitError,
    Transfer,
};
pub use limits::Limits;
pub use resources::Resources;
pub use xen::{ByGrants, Dialer, Publisher};

pub use crate::xen::grant::OwnPages;
