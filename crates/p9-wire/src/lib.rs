//! The 9P codec: every message of [9P2000.L](Dialect::Linux), [9P2000.u](Dialect::Unix) and
//! [9P2000](Dialect::Plan9), requests and replies alike, encoded and decoded.
//!
//! A message is a [`Request`] or a [`Reply`] with a [`Tag`]. Strings are borrowed bytes: 9P names
//! are not always UTF-8, and nothing here allocates. Bulk data ([`Payload`]) need not be part of
//! the encoded bytes: [`Request::encode_head`] and [`Reply::encode_head`] leave it out, to be sent
//! from where it lies, and [`payload_len`] reads the fixed part of a reply whose data is
//! copied straight to where it is wanted. A message may lie in two pieces, as it does when it wraps
//! around a ring: see [`Reader::split`].
//!
//! # Contract
//! **No bytes make anything in this module panic**, read out of bounds, loop without end, or use
//! more memory than the value it returns. Whatever is wrong with a message is a [`WireError`] that
//! names the message and the field. A decoded value is well-formed, nothing more: whether a name
//! contains `/`, or a count exceeds what was asked, is for the session to judge.
//!
//! # Leniency
//! Where real implementations disagree about a message, the decoder takes all forms:
//! a field that came late to the protocol (`n_uname`, `extension`, Rerror's `errno`, Tfsync's
//! `datasync`) may be absent from the end of a message in any dialect; the size fields in Rstat and
//! Twstat are not believed, as QEMU sends 0 there and xen-9pfsd a number that is too large; error
//! replies of either kind are decoded in every dialect, as QEMU answers in the wrong one before
//! the dialect is agreed. Anything else left over in a message is an error.
//!
//! Sources: intro(5) and its neighbours of Plan 9's manual; diod's `protocol.md` for 9P2000.L;
//! Linux `net/9p`; and what QEMU, diod, xen-9pfsd, u9fs and the crates `p9` and `ninep` really send.
//!
//! ```
//! use p9_wire::{Dialect, Fid, Reader, Request, Tag, WireError};
//!
//! let mut bytes = [0; 64];
//! let request = Request::Clunk { fid: Fid(7) };
//! let len = request.encode(Tag(1), Dialect::Linux, &mut bytes)?;
//! assert_eq!(&bytes[..len], [11, 0, 0, 0, 120, 1, 0, 7, 0, 0, 0]);
//!
//! let reader = Reader::new(&bytes[..len], Dialect::Linux);
//! assert_eq!(Request::decode(reader)?, (Tag(1), request));
//! # Ok::<(), WireError>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

mod attr;
mod budget;
mod buffer;
mod dir;
mod errno;
mod error;
mod flags;
mod message;
mod reply;
mod request;
mod stat;
mod types;

pub use attr::{Attr, SetAttr, Statfs, Time};
pub use buffer::Reader;
pub use dir::{DirEntries, DirEntry, StatEntries, StatLayout};
pub use errno::Errno;
pub use error::WireError;
pub use flags::*;
pub use message::{
    HEADER_LEN, Header, IO_HEADER_LEN, READ_HEADER_LEN, WRITE_HEADER_LEN, kind, parse_header,
    payload_len,
};
pub use reply::Reply;
pub use request::Request;
pub use stat::Stat;
pub use types::{Dialect, Elements, Fid, MAX_ELEMENTS, NO_USER, Names, Payload, Qid, Qids, Tag};
