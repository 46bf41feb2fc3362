//! Editing a line on a terminal: keys in, what the terminal shows out. Knows nothing of files.

use alloc::string::String;
use alloc::vec::Vec;

/// The most lines that are remembered.
const MOST_HISTORY: usize = 100;

/// The longest line, in characters.
const MOST_CHARS: usize = 4096;

/// What a key led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The line is still being written.
    Nothing,
    /// It is finished.
    Line(String),
    /// Tab: complete the word in front of the cursor.
    Complete,
    /// Ctrl-C: the line was given up.
    Interrupt,
    /// Ctrl-D on an empty line.
    End,
}

/// A line that is being written, and those before it.
#[derive(Default)]
pub struct Editor {
    prompt: String,
    line: Vec<char>,
    /// The cursor stands in front of this character.
    at: usize,
    history: Vec<String>,
    /// Which line of the history is shown; its length means the new one.
    nth: usize,
    /// The new line, while one of the history is shown.
    kept: Vec<char>,
    /// The beginning of an escape sequence, or of a character of several bytes.
    pending: Vec<u8>,
}

impl Editor {
    /// Begins a new line.
    pub fn start(&mut self, prompt: &str, out: &mut Vec<u8>) {
        self.prompt = prompt.into();
        self.line.clear();
        self.at = 0;
        self.nth = self.history.len();
        self.pending.clear();
        self.draw(out);
    }

    /// The line up to the cursor.
    pub fn before_cursor(&self) -> String {
        self.line[..self.at].iter().collect()
    }

    /// Writes text at the cursor.
    pub fn insert(&mut self, text: &str, out: &mut Vec<u8>) {
        let at_end = self.at == self.line.len() && self.line.len() + text.len() <= MOST_CHARS;
        for c in text.chars() {
            if self.line.len() < MOST_CHARS {
                self.line.insert(self.at, c);
                self.at += 1;
            }
        }
        match at_end {
            // What nearly all typing is: the terminal shows the rest already.
            true => out.extend(text.bytes()),
            false => self.draw(out),
        }
    }

    /// Shows the line afresh, where the cursor is now.
    pub fn draw(&self, out: &mut Vec<u8>) {
        out.extend(b"\r");
        out.extend(self.prompt.bytes());
        out.extend(self.line.iter().collect::<String>().bytes());
        out.extend(b"\x1b[K");
        // Each character takes one column: right for most of what paths are made of.
        let back = self.line.len() - self.at;
        if back > 0 {
            out.extend(alloc::format!("\x1b[{back}D").bytes());
        }
    }

    /// Takes a byte that was typed.
    pub fn key(&mut self, byte: u8, out: &mut Vec<u8>) -> Event {
        if !self.pending.is_empty() || byte == 0x1b || byte >= 0x80 {
            return self.sequence(byte, out);
        }
        match byte {
            b'\r' | b'\n' => {
                out.extend(b"\r\n");
                let line: String = self.line.drain(..).collect();
                self.remember(&line);
                return Event::Line(line);
            }
            3 => {
                out.extend(b"^C\r\n");
                return Event::Interrupt;
            }
            4 if self.line.is_empty() => {
                out.extend(b"\r\n");
                return Event::End;
            }
            b'\t' => return Event::Complete,
            1 => self.at = 0,
            2 => self.at = self.at.saturating_sub(1),
            4 => self.delete(self.at, self.at + 1),
            5 => self.at = self.line.len(),
            6 => self.at = (self.at + 1).min(self.line.len()),
            8 | 0x7f => self.delete(self.at.saturating_sub(1), self.at),
            11 => self.delete(self.at, self.line.len()),
            12 => out.extend(b"\x1b[H\x1b[2J"),
            14 => self.recall(1),
            16 => self.recall(-1),
            21 => self.delete(0, self.at),
            23 => {
                let before = &self.line[..self.at];
                let end = before
                    .iter()
                    .rposition(|c| *c != ' ')
                    .map_or(0, |at| at + 1);
                let start = before[..end].iter().rposition(|c| *c == ' ');
                self.delete(start.map_or(0, |at| at + 1), self.at);
            }
            b' '..=b'~' => {
                self.insert((byte as char).encode_utf8(&mut [0; 4]), out);
                return Event::Nothing;
            }
            _ => return Event::Nothing,
        }
        self.draw(out);
        Event::Nothing
    }

    /// A byte of an escape sequence or of a character of several bytes.
    fn sequence(&mut self, byte: u8, out: &mut Vec<u8>) -> Event {
        if byte == 0x1b {
            self.pending.clear();
        }
        self.pending.push(byte);
        match *self.pending {
            [0x1b] | [0x1b, b'[' | b'O'] => return Event::Nothing,
            [0x1b, _, b'0'..=b'9', ref more @ ..]
                if more.len() < 8 && more.iter().all(|b| matches!(b, b'0'..=b'9' | b';')) =>
            {
                return Event::Nothing;
            }
            [0x1b, _, key] => match key {
                b'A' => self.recall(-1),
                b'B' => self.recall(1),
                b'C' => self.at = (self.at + 1).min(self.line.len()),
                b'D' => self.at = self.at.saturating_sub(1),
                b'F' => self.at = self.line.len(),
                b'H' => self.at = 0,
                _ => {}
            },
            [0x1b, b'[', digit, b'~'] => match digit {
                b'1' | b'7' => self.at = 0,
                b'3' => self.delete(self.at, self.at + 1),
                b'4' | b'8' => self.at = self.line.len(),
                _ => {}
            },
            [0x1b, ..] => {}
            _ => match str::from_utf8(&self.pending) {
                Ok(text) => {
                    let text = String::from(text);
                    self.pending.clear();
                    self.insert(&text, out);
                    return Event::Nothing;
                }
                Err(error) if error.error_len().is_none() && self.pending.len() < 4 => {
                    return Event::Nothing;
                }
                Err(_) => {}
            },
        }
        self.pending.clear();
        self.draw(out);
        Event::Nothing
    }

    fn delete(&mut self, from: usize, to: usize) {
        self.line.drain(from..to.min(self.line.len()));
        self.at = from;
    }

    fn remember(&mut self, line: &str) {
        if line.trim().is_empty() || self.history.last().is_some_and(|last| last == line) {
            return;
        }
        if self.history.len() == MOST_HISTORY {
            self.history.remove(0);
        }
        self.history.push(line.into());
    }

    /// Goes back and forth in the history.
    fn recall(&mut self, by: isize) {
        let Some(nth) = self
            .nth
            .checked_add_signed(by)
            .filter(|nth| *nth <= self.history.len())
        else {
            return;
        };
        if self.nth == self.history.len() {
            self.kept = core::mem::take(&mut self.line);
        }
        self.nth = nth;
        self.line = match self.history.get(nth) {
            Some(line) => line.chars().collect(),
            None => core::mem::take(&mut self.kept),
        };
        self.at = self.line.len();
    }
}
