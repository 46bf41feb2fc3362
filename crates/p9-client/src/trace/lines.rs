//! The trace for people.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::{Direction, Seen, Watch, kind};
use crate::transport::Header;
use p9_wire::Errno;
use p9_wire::{Dialect, Reader, Reply, Request};

/// Messages larger than this are told by name and size alone.
const MAX_SHOWN: usize = 8 << 10;

/// The most that is shown of a string or of data, in bytes.
const MOST_TEXT: usize = 48;

/// Tells each message as one log record of level trace: direction, tag, name, and the fields as far as they are of use
/// to people.
///
/// ```text
/// -> 3 Twalk { fid: 0, newfid: 1, names: ["etc", "motd"] }
/// <- 3 Rlerror No such file or directory (ENOENT)
/// ```
///
/// What is large is told by name and size alone, and not copied.
#[derive(Debug)]
pub struct Lines {
    dialect: Dialect,
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

impl Lines {
    /// Has seen nothing yet.
    pub fn new() -> Self {
        Lines {
            dialect: Dialect::Linux,
        }
    }

    fn request(&self, header: Header, front: &[u8]) {
        if let Ok((tag, request)) = Request::decode(Reader::new(front, self.dialect)) {
            tell("->", tag.0, request.kind(), &format!("{request:?}"));
        } else {
            tell_size("->", header);
        }
    }

    fn reply(&mut self, header: Header, front: &[u8]) {
        if header.size as usize > MAX_SHOWN {
            return tell_size("<-", header);
        }
        match Reply::decode(Reader::new(front, self.dialect)) {
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
            Err(error) => {
                let text = format!("- malformed: {error}");
                tell("<-", header.tag, header.kind, &text);
            }
        }
    }
}

impl Watch for Lines {
    fn wants(&self, header: &Header) -> Option<usize> {
        // The dialect has to be learned even if nothing is shown yet.
        let wanted = header.kind == kind::RVERSION || log::log_enabled!(log::Level::Trace);
        wanted.then_some(if header.size as usize > MAX_SHOWN {
            0
        } else {
            MAX_SHOWN
        })
    }

    fn see(&mut self, message: Seen<'_>) {
        match message.direction {
            Direction::Request => self.request(message.header, message.front),
            Direction::Reply => self.reply(message.header, message.front),
        }
    }
}

/// The line for a message: `arrow`, the tag, the name, and `fields` without what Rust puts around them.
fn tell(arrow: &str, tag: u16, kind: u8, fields: &str) {
    let fields = fields.split_once(' ').map_or("", |(_, fields)| fields);
    log::trace!("{arrow} {tag} {} {}", kind::name(kind), readable(fields));
}

/// The line for a message that is not shown.
fn tell_size(arrow: &str, header: Header) {
    let text = format!("- {} bytes", header.size);
    tell(arrow, header.tag, header.kind, &text);
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
