//! Formatted text in few writes.

use core::fmt::{self, Write};

use crate::{Error, Result};

/// Formats `text` and hands it on in pieces of up to 512 bytes. Each write to a server is a request, and a formatter makes one
/// of every argument and of what stands between them.
pub(crate) fn format_to(
    out: &mut dyn FnMut(&[u8]) -> Result<()>,
    text: fmt::Arguments<'_>,
) -> Result<()> {
    if let Some(text) = text.as_str() {
        return out(text.as_bytes());
    }
    let mut pieces = Pieces {
        out,
        buffer: [0; 512],
        len: 0,
        done: Ok(()),
    };
    let formatted = pieces.write_fmt(text);
    if formatted.is_ok() {
        pieces.hand_on();
    }
    match (pieces.done, formatted) {
        (Ok(()), Err(fmt::Error)) => Err(Error::InvalidInput(&"a value could not be formatted")),
        (done, _) => done,
    }
}

struct Pieces<'a> {
    out: &'a mut dyn FnMut(&[u8]) -> Result<()>,
    buffer: [u8; 512],
    len: usize,
    done: Result<()>,
}

impl Pieces<'_> {
    fn hand_on(&mut self) {
        if self.len > 0 {
            self.done = (self.out)(&self.buffer[..self.len]);
            self.len = 0;
        }
    }
}

impl Write for Pieces<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.len == self.buffer.len() {
                self.hand_on();
                if self.done.is_err() {
                    return Err(fmt::Error);
                }
            }
            let room = &mut self.buffer[self.len..];
            let (front, behind) = rest.split_at(rest.len().min(room.len()));
            room[..front.len()].copy_from_slice(front);
            self.len += front.len();
            rest = behind;
        }
        Ok(())
    }
}
