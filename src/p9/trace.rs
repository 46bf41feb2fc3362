//! A transport that tells what passes through it, for people.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::wire::{Dialect, Reader, Reply, Request, kind};
use crate::errno::Errno;
use crate::time::Instant;
use crate::transport::{Header, Lane, Stats, Transport, TransportError};

/// Messages larger than this are told by name and size alone.
const MOST: usize = 8 << 10;

/// The most that is shown of a string or of data, in bytes.
const MOST_TEXT: usize = 48;

/// Tells each message that passes as one log record of level trace: direction, tag, name, and the fields as far as they
/// are of use to people. With the feature `trace` every share of an image goes through
/// it, and `log=p9=trace` on the command line shows it.
///
/// ```text
/// -> 3 Twalk { fid: 0, newfid: 1, names: ["etc", "motd"] }
/// <- 3 Rlerror No such file or directory (ENOENT)
/// ```
///
/// Costs a copy of each message that is told; what is large is not copied.
pub struct Traced<T> {
    inner: T,
    dialect: Dialect,
    /// Lanes whose first reply was told already.
    told: Vec<bool>,
}

impl<T: Transport> Traced<T> {
    /// Tells what passes through `inner` from now on.
    pub fn new(inner: T) -> Self {
        let told = (0..inner.lanes()).map(|_| false).collect();
        Traced {
            inner,
            dialect: Dialect::Linux,
            told,
        }
    }
}

impl<T> fmt::Debug for Traced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traced").finish_non_exhaustive()
    }
}

/// The line for a message: `arrow`, the tag, the name, and `fields` without what Rust puts around them.
fn tell(arrow: &str, tag: u16, kind: u8, fields: &str) {
    let fields = fields.split_once(' ').map_or("", |(_, fields)| fields);
    log::trace!("{arrow} {tag} {} {}", kind::name(kind), readable(fields));
}

/// Turns lists of bytes into strings, and `Fid(1)` and its like into what they hold.
fn readable(fields: &str) -> String {
    let mut out = String::new();
    let mut rest = fields;
    while let Some(c) = rest.chars().next() {
        if let Some((text, after)) = bytes_at(rest) {
            // Writing to a String does not fail.
            let _ = match text.get(..MOST_TEXT) {
                Some(front) if text.len() > MOST_TEXT => {
                    write!(
                        out,
                        "\"{}\"... of {} bytes",
                        front.escape_ascii(),
                        text.len()
                    )
                }
                _ => write!(out, "\"{}\"", text.escape_ascii()),
            };
            rest = after;
            continue;
        }
        let wrapped = ["Fid(", "Tag(", "Errno("]
            .into_iter()
            .find(|name| rest.starts_with(name));
        if let Some((inside, after)) =
            wrapped.and_then(|name| rest.get(name.len()..)?.split_once(')'))
        {
            out.push_str(inside);
            rest = after;
            continue;
        }
        out.push(c);
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    out
}

/// The list of bytes that a text begins with, and what follows it.
fn bytes_at(text: &str) -> Option<(Vec<u8>, &str)> {
    let (inside, after) = text.strip_prefix('[')?.split_once(']')?;
    if inside.is_empty() {
        return None;
    }
    let bytes: Result<Vec<u8>, _> = inside.split(", ").map(str::parse).collect();
    Some((bytes.ok()?, after))
}

impl<T: Transport> Transport for Traced<T> {
    fn lanes(&self) -> u16 {
        self.inner.lanes()
    }

    fn in_order(&self) -> bool {
        self.inner.in_order()
    }

    fn max_message(&self) -> u32 {
        self.inner.max_message()
    }

    fn set_max_message(&mut self, bytes: u32) {
        self.inner.set_max_message(bytes);
    }

    fn has_room(&mut self, lane: Lane, request: u32, reply: u32) -> Result<bool, TransportError> {
        self.inner.has_room(lane, request, reply)
    }

    fn send(&mut self, lane: Lane, parts: &[&[u8]], reply: u32) -> Result<bool, TransportError> {
        let sent = self.inner.send(lane, parts, reply)?;
        if sent && log::log_enabled!(log::Level::Trace) {
            let size: usize = parts.iter().map(|part| part.len()).sum();
            let head: Vec<u8> = parts
                .iter()
                .copied()
                .flatten()
                .copied()
                .take(size.min(MOST))
                .collect();
            let decoded = Request::decode(Reader::new(&head, self.dialect));
            match (decoded, head.get(4..7)) {
                (Ok((tag, request)), _) if size <= MOST => {
                    tell("->", tag.0, request.kind(), &format!("{request:?}"));
                }
                (_, Some(&[kind, low, high])) => {
                    let text = format!("- {size} bytes");
                    tell("->", u16::from_le_bytes([low, high]), kind, &text);
                }
                _ => {}
            }
        }
        Ok(sent)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.inner.flush()
    }

    fn peek(&mut self, lane: Lane) -> Result<Option<Header>, TransportError> {
        let header = self.inner.peek(lane)?;
        let told = self.told.get_mut(usize::from(lane.0));
        // The dialect has to be learned even if nothing is shown yet.
        let wanted =
            |header: &Header| header.kind == kind::RVERSION || log::log_enabled!(log::Level::Trace);
        if let (Some(header), Some(told @ false)) = (header.filter(wanted), told) {
            *told = true;
            let size = header.size as usize;
            if size > MOST {
                tell("<-", header.tag, header.kind, &format!("- {size} bytes"));
                return Ok(Some(header));
            }
            let mut message = alloc::vec![0; size];
            self.inner.copy_out(lane, 0, &mut message);
            match Reply::decode(Reader::new(&message, self.dialect)) {
                Ok((tag, reply)) => {
                    if let Reply::Version { version, .. } = reply {
                        self.dialect = Dialect::from_version(version).unwrap_or(self.dialect);
                    }
                    let text = match reply {
                        Reply::Lerror { ecode } => format!("- {}", Errno::from_wire(ecode)),
                        reply => format!("{reply:?}"),
                    };
                    tell("<-", tag.0, reply.kind(), &text);
                }
                Err(error) => tell(
                    "<-",
                    header.tag,
                    header.kind,
                    &format!("- malformed: {error}"),
                ),
            }
        }
        Ok(header)
    }

    fn copy_out(&mut self, lane: Lane, offset: u32, into: &mut [u8]) {
        self.inner.copy_out(lane, offset, into);
    }

    fn consume(&mut self, lane: Lane) {
        if let Some(told) = self.told.get_mut(usize::from(lane.0)) {
            *told = false;
        }
        self.inner.consume(lane);
    }

    fn release(&mut self, lane: Lane, reply: u32) {
        self.inner.release(lane, reply);
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn wait(&mut self, deadline: Instant) -> Result<(), TransportError> {
        self.inner.wait(deadline)
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_for_people() {
        assert_eq!(
            readable("{ fid: Fid(1), names: [[101, 116, 99], [10]], data: Payload([], []) }"),
            "{ fid: 1, names: [\"etc\", \"\\n\"], data: Payload([], []) }"
        );
        let long = format!("{:?}", [b'x'; 100]);
        assert!(readable(&long).ends_with("xx\"... of 100 bytes"));
        assert_eq!(readable("[300, 1] [1"), "[300, 1] [1");
    }
}
