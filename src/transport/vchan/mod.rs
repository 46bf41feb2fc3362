//! 9P, or any stream of bytes, between two domains: vchan, as libxenvchan speaks it (public/io/libxenvchan.h).
//!
//! One domain publishes memory and an event channel for another one, in xenstore under a directory of its own; the other
//! one maps them. From then on bytes go through two rings, and no other program takes part: no toolstack, no daemon in dom0.
//! The other end may be one of our own, or libxenvchan's, such as vchan-socket-proxy.
//!
//! ```
//! use core::time::Duration;
//!
//! use xen9p::fs::{Fs, MountOptions};
//! use xen9p::hypercall::DomId;
//! use xen9p::platform::Platform;
//! use xen9p::transport::vchan;
//! use xen9p::xen::Xen;
//!
//! fn mount<P: Platform>(xen: &Xen<P>) -> Result<Fs, Box<dyn core::error::Error>> {
//!     // What domain 7 has published for this one under the name "9p": vchan!7!9p
//!     let stream = vchan::connect(xen, DomId(7), "9p", Duration::from_secs(20))?;
//!     let transport = vchan::framed(stream, vchan::DEFAULT_MESSAGE);
//!     Ok(Fs::mount(transport, &MountOptions::new())?)
//! }
//! ```
//!
//! # What a peer can do
//! It can write to the shared pages at any moment. Orders, references and indices are read once, into locals that are
//! judged; our own indices are private. An index that makes no sense ends the connection: libxenvchan takes it for an
//! empty ring, and waits for ever.
//!
//! # How a dead peer shows
//! A domain that is destroyed clears no byte and sends no event. Its end of the event channel is gone, though, at which
//! each side looks once a second; and xenstore tells the client that the server's nodes are gone.

mod address;
mod client;
mod error;
pub mod layout;
mod resync;
pub mod ring;
mod server;
mod stream;

pub use address::parse_address;
#[cfg(feature = "idc")]
pub(super) use client::connect_new;
pub use client::{CONNECT_TIMEOUT, connect, connect_async};
pub use error::VchanError;
pub use layout::{Order, Orders, Side};
pub use server::Listener;
pub use stream::Stream;

use super::export;
use super::stream::Framed;
use crate::platform::Platform;

/// Trees, served to the client of a [`Listener`].
pub type Export<P> = export::Export<Listener<P>>;

/// The largest 9P message that is proposed unless the caller says otherwise, in bytes.
pub const DEFAULT_MESSAGE: u32 = 128 << 10;

/// 9P messages of at most `max_message` bytes on a vchan.
pub fn framed<P: Platform>(stream: Stream<P>, max_message: u32) -> Framed<Stream<P>> {
    Framed::over(stream, max_message)
}

/// The examples of docs/domains.md.
#[cfg(all(doctest, feature = "argo", feature = "idc"))]
#[doc = include_str!("../../../docs/domains.md")]
struct Document;
