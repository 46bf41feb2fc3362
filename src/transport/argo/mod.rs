//! 9P between two domains by Argo: messages that Xen itself copies (see [`xen::argo`](crate::xen::argo)).
//!
//! Nothing is shared, granted or published: a server has a ring at a port, and only the domain that it is for can send to it.
//! One 9P message is one message of Argo's. A client chooses a port for each connection, registers a ring there, and sends;
//! the server knows connections by the port that a message comes from, and answers there.
//!
//! ```
//! use core::time::Duration;
//!
//! use xen9p::fs::{Fs, MountOptions};
//! use xen9p::hypercall::DomId;
//! use xen9p::platform::Platform;
//! use xen9p::transport::argo;
//! use xen9p::xen::{Xen, argo::Argo};
//!
//! fn mount<P: Platform>(xen: &Xen<P>) -> Result<Fs, Box<dyn core::error::Error>> {
//!     // Says "unsupported", and why, where Xen has no Argo.
//!     let own = Argo::new(xen)?;
//!     // What domain 7 serves to this one at its port 564: argo!7!564
//!     let timeout = Duration::from_secs(20);
//!     let stream = argo::connect(&own, DomId(7), 564, argo::DEFAULT_MESSAGE, timeout)?;
//!     Ok(Fs::mount(argo::framed(stream), &MountOptions::new())?)
//! }
//! ```
//!
//! # What a peer can do
//! It can send any bytes, of which Xen makes whole messages. It can write nothing but what is after a message's header; all
//! of a ring is judged as if it could. It can end its domain, which Xen tells no one: each side asks once a second whether
//! the other's ring is there.

mod address;
mod client;
mod error;
mod server;
mod stream;

pub use address::parse_address;
pub use client::{CONNECT_TIMEOUT, connect};
pub use error::DialError;
pub use server::Listener;
pub use stream::Stream;

use super::export;
use super::stream::Framed;
use crate::platform::Platform;

/// Trees, served to the client of a [`Listener`].
pub type Export<P> = export::Export<Listener<P>>;

/// The largest 9P message that is proposed unless the caller says otherwise, in bytes.
pub const DEFAULT_MESSAGE: u32 = 128 << 10;

/// A message of Argo's that is one of 9P.
const MESSAGE: u32 = u32::from_be_bytes(*b"9P2k");

/// One that says that the connection is over. Its content, one byte, means nothing.
const END: u32 = u32::from_be_bytes(*b"9Pno");

/// Bytes of a ring: room for two of the largest messages.
fn ring_size(max_message: u32) -> usize {
    2 * (max_message as usize + 32)
}

/// 9P messages on such a connection, as large as both sides can take.
pub fn framed<P: Platform>(stream: Stream<P>) -> Framed<Stream<P>> {
    let max = stream.max_message();
    Framed::over(stream, max)
}
