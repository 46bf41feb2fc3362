//! A line of commands, as it is typed: words, quotes, patterns, `;`, `&&`, `||`, `>`, `>>` and `$?`.

use crate::cmdline::{Piece, Pieces};
use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xen9p::fs::OpenOptions;

use super::output::Output;
use super::{Fail, Host, INTERRUPTED, Shell, Status, glob};

/// What stands for `$?` in a word until it is known. A line has no NUL.
const LAST_STATUS: char = '\0';

/// Status of a command that Ctrl-C ended, as in a Unix shell.
pub const BY_KEY: Status = 130;

/// What stands behind a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Joint {
    /// `;` or the end of the line: what comes is run in any case at a terminal, else after success alone, as all behind it.
    End,
    /// `&&`
    And,
    /// `||`
    Or,
}

/// One command of a line.
struct Call {
    words: Vec<Word>,
    /// Where its output goes, and whether it is added to what is there.
    output: Option<(Word, bool)>,
    joint: Joint,
}

/// A word, which may be a pattern; what would make it one and was quoted has a backslash in front.
#[derive(Default)]
struct Word {
    text: String,
    is_pattern: bool,
}

/// A line that was understood.
pub struct Line {
    calls: Vec<Call>,
}

/// Whether a word ends here.
fn is_end(next: Option<char>) -> bool {
    next.is_none_or(|c| " \t\n\r;&|>".contains(c))
}

fn refused(text: &str) -> Result<Line, String> {
    Err(text.to_string())
}

impl Line {
    /// Understands a line.
    ///
    /// # Errors
    /// A message: an open quote, or what other shells have and this one has not.
    pub fn parse(text: &str) -> Result<Line, String> {
        let mut pieces = Pieces::new(text);
        let mut calls = Vec::new();
        let (mut words, mut output, mut word): (Vec<Word>, _, Option<Word>) =
            (Vec::new(), None, None);
        // Whether the next word is a file that output goes to, and is added to.
        let mut to_file = None;
        loop {
            let piece = pieces
                .next()
                .transpose()
                .map_err(|error| error.to_string())?;
            let next = pieces.rest().chars().next();
            let joint = match piece {
                Some(Piece::Opens) => {
                    word.get_or_insert_default();
                    continue;
                }
                Some(Piece::Quoted(c)) => {
                    word.get_or_insert_default().push_quoted(c);
                    continue;
                }
                Some(Piece::Bare('$') | Piece::InDouble('$')) => {
                    let word = word.get_or_insert_default();
                    match next {
                        Some('?') => {
                            pieces.next();
                            word.text.push(LAST_STATUS);
                        }
                        Some(c) if c.is_ascii_alphanumeric() || matches!(c, '_' | '{' | '(') => {
                            return refused("there are no variables but $?; quote a '$'");
                        }
                        _ => word.text.push('$'),
                    }
                    continue;
                }
                Some(Piece::InDouble(c)) => {
                    word.get_or_insert_default().push_quoted(c);
                    continue;
                }
                Some(Piece::Bare('`')) => {
                    return refused("no command is replaced by its output; quote a '`'");
                }
                Some(Piece::Bare('<')) => return refused("commands have no input; quote a '<'"),
                Some(Piece::Bare('&')) if next == Some('&') => Some(Joint::And),
                Some(Piece::Bare('&')) => {
                    return refused("no command runs in the background; quote a '&'");
                }
                Some(Piece::Bare('|')) if next == Some('|') => Some(Joint::Or),
                Some(Piece::Bare('|')) => return refused("there are no pipes; quote a '|'"),
                Some(Piece::Bare(';' | '\n' | '\r')) | None => Some(Joint::End),
                Some(Piece::Bare(' ' | '\t' | '>')) => None,
                // A source such as #mem may be an operand.
                Some(Piece::Bare('#')) if word.is_none() && (words.is_empty() || is_end(next)) => {
                    // Quotes in it mean nothing.
                    let rest = pieces.rest();
                    let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
                    pieces = Pieces::new(&rest[end..]);
                    continue;
                }
                Some(Piece::Bare('~'))
                    if word.is_none() && (is_end(next) || matches!(next, Some('/'))) =>
                {
                    let root = if next == Some('/') { "" } else { "/" };
                    word.get_or_insert_default().text.push_str(root);
                    continue;
                }
                Some(Piece::Bare(c)) => {
                    let word = word.get_or_insert_default();
                    word.is_pattern |= matches!(c, '*' | '?' | '[');
                    word.text.push(c);
                    continue;
                }
            };
            let redirects = piece == Some(Piece::Bare('>'));
            if redirects
                && (word.as_ref().is_some_and(Word::is_number) || matches!(next, Some('&' | '|')))
            {
                return refused(
                    "only output is redirected, by '>' and '>>'; errors go to the console",
                );
            }
            // A word ends here.
            match (word.take(), to_file) {
                (Some(file), Some(append)) => (output, to_file) = (Some((file, append)), None),
                (Some(other), None) => words.push(other),
                (None, Some(_)) if redirects || joint.is_some() => {
                    return refused("a file is missing behind '>'");
                }
                (None, _) => {}
            }
            if redirects {
                to_file = Some(next == Some('>'));
                if to_file == Some(true) {
                    pieces.next();
                }
            }
            let Some(joint) = joint else { continue };
            if joint != Joint::End {
                pieces.next();
            }
            let is_empty = words.is_empty() && output.is_none();
            let follows = calls
                .last()
                .is_some_and(|call: &Call| call.joint != Joint::End);
            if is_empty && (joint != Joint::End || follows) {
                return refused("a command is missing before or behind '&&' or '||'");
            }
            if !is_empty {
                calls.push(Call {
                    words: core::mem::take(&mut words),
                    output: output.take(),
                    joint,
                });
            }
            if piece.is_none() {
                return Ok(Line { calls });
            }
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Runs it. `status` is that of the last command before, and then of the last of these. Whether the run is over: `exit`
    /// was called, or the domain is to stop.
    pub fn run(&self, host: &mut dyn Host, status: &mut Status) -> bool {
        let mut before = Joint::End;
        for call in &self.calls {
            let skipped = match before {
                Joint::End => false,
                Joint::And => *status != 0,
                Joint::Or => *status == 0,
            };
            before = call.joint;
            if !skipped {
                let over = call.run(host, status);
                if host.take_interrupt() {
                    *status = BY_KEY;
                    return false;
                }
                if over || *status == INTERRUPTED {
                    return true;
                }
            }
            if !skipped && *status != 0 && before == Joint::End && !host.is_terminal() {
                return false;
            }
        }
        false
    }
}

impl Word {
    fn push_quoted(&mut self, c: char) {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            self.text.push('\\');
        }
        self.text.push(c);
    }

    fn is_number(&self) -> bool {
        !self.text.is_empty() && self.text.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// The text, with the last status in its places.
    fn text(&self, status: Status) -> Cow<'_, str> {
        match self.text.contains(LAST_STATUS) {
            true => Cow::Owned(self.text.replace(LAST_STATUS, &status.to_string())),
            false => Cow::Borrowed(&self.text),
        }
    }

    /// What it says if it is no pattern.
    fn plain(&self, status: Status) -> Cow<'_, str> {
        match self.text(status) {
            text if text.contains('\\') => Cow::Owned(glob::unescaped(&text)),
            text => text,
        }
    }
}

impl Call {
    /// Runs the command; whether it was `exit`.
    fn run(&self, host: &mut dyn Host, status: &mut Status) -> bool {
        let mut shell = Shell::new(host);
        match self.try_run(&mut shell, *status) {
            Ok((done, over)) => {
                *status = done;
                over
            }
            Err(fail) => {
                *status = shell.failed_with(fail);
                false
            }
        }
    }

    fn try_run(&self, shell: &mut Shell<'_>, last: Status) -> Result<(Status, bool), Fail> {
        let mut words = Vec::new();
        for word in &self.words {
            match word.is_pattern {
                true => {
                    let names = glob::expand(shell, &word.text(last))?;
                    words.extend(names.into_iter().map(Cow::Owned));
                }
                false => words.push(word.plain(last)),
            }
        }
        if let Some((file, append)) = &self.output {
            let place = shell.place(&file.plain(last))?;
            let mut how = OpenOptions::new();
            how.create(true)
                .write(true)
                .append(*append)
                .truncate(!append);
            shell.output = Some(Output::open(place, &how)?);
        }
        let words: Vec<&str> = words.iter().map(|word| &**word).collect();
        match *words {
            ["exit", ref status @ ..] if *status != ["--help"] => match status {
                [] => Ok((last, true)),
                [status] => match status.parse() {
                    Ok(status) => Ok((status, true)),
                    Err(_) => Err(Fail::error(format_args!(
                        "exit: a status is a number from 0 to 255"
                    ))),
                },
                _ => Err(Fail::error(format_args!(
                    "exit: one status at most is expected"
                ))),
            },
            _ => Ok((shell.run(&words), false)),
        }
    }
}
