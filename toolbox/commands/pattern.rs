//! Regular expressions of grep: characters, `.`, `[…]`, `*`, `^`, `$`, `\`; with -E also `+`, `?` and `|`. Groups are refused.
//!
//! Matching takes a time that grows with text and pattern multiplied, whatever they are.

use alloc::vec::Vec;

use super::Fail;

/// What one byte can be.
enum Atom {
    Any,
    Byte(u8),
    /// One bit for each byte.
    Set([u64; 4]),
}

/// An atom and how often it may come.
struct Item {
    atom: Atom,
    /// It may be missing.
    optional: bool,
    /// It may come again.
    repeated: bool,
}

/// A sequence of items.
#[derive(Default)]
struct Sequence {
    items: Vec<Item>,
    at_start: bool,
    at_end: bool,
}

/// How a pattern is meant.
#[derive(Clone, Copy, Default)]
pub struct How {
    /// Its characters mean themselves.
    pub fixed: bool,
    /// `+`, `?` and `|` are special.
    pub extended: bool,
    /// Letters of ASCII match in either case.
    pub any_case: bool,
    /// The whole line has to match.
    pub whole: bool,
}

/// A pattern; a line matches if one of its sequences does.
pub struct Pattern {
    sequences: Vec<Sequence>,
    any_case: bool,
}

impl Pattern {
    /// Understands a pattern; each of its lines is one of its own.
    ///
    /// # Errors
    /// What is wrong with it, or not there.
    pub fn new(text: &str, how: How) -> Result<Pattern, Fail> {
        let mut sequences = Vec::new();
        for line in text.split('\n') {
            let mut rest = line.as_bytes();
            loop {
                let (sequence, behind) = sequence(rest, how)?;
                sequences.push(sequence);
                match behind {
                    Some(behind) => rest = behind,
                    None => break,
                }
            }
        }
        Ok(Pattern {
            sequences,
            any_case: how.any_case,
        })
    }

    /// Whether some part of the line matches.
    pub fn is_in(&self, line: &[u8]) -> bool {
        self.sequences
            .iter()
            .any(|sequence| sequence.is_in(line, self.any_case))
    }
}

/// The first sequence of a pattern, and what follows the `|` behind it.
fn sequence(pattern: &[u8], how: How) -> Result<(Sequence, Option<&[u8]>), Fail> {
    let mut sequence = Sequence {
        at_start: how.whole,
        at_end: how.whole,
        ..Sequence::default()
    };
    let mut rest = pattern;
    let mut begins = true;
    while let [first, behind @ ..] = rest {
        rest = behind;
        let first_of_all = core::mem::replace(&mut begins, false);
        let is_operator = how.extended && !how.fixed;
        let atom = match (first, behind) {
            _ if how.fixed => Atom::Byte(*first),
            (b'\\', [b'(' | b')' | b'{' | b'}' | b'|', ..]) if !how.extended => {
                return Err(no_groups());
            }
            (b'\\', [escaped, behind @ ..]) => {
                rest = behind;
                match escaped {
                    b'1'..=b'9' | b'w' | b'W' | b'b' | b'B' | b'<' | b'>' | b's' | b'S' => {
                        return Err(no_groups());
                    }
                    escaped => Atom::Byte(*escaped),
                }
            }
            (b'\\', []) => return Err(error("a backslash at the end")),
            (b'^', _) if first_of_all => {
                sequence.at_start = true;
                begins = true;
                continue;
            }
            (b'^', _) if is_operator => return Err(no_groups()),
            (b'$', []) => {
                sequence.at_end = true;
                continue;
            }
            (b'$', [b'|', ..]) if is_operator => {
                sequence.at_end = true;
                continue;
            }
            (b'|', _) if is_operator => return Ok((sequence, Some(behind))),
            (b'(' | b')' | b'{', _) if is_operator => return Err(no_groups()),
            (b'.', _) => Atom::Any,
            (b'[', _) => {
                let (set, behind) = set(behind)?;
                rest = behind;
                Atom::Set(set)
            }
            (b'*', _) if !first_of_all => {
                repeat(&mut sequence, true, true);
                continue;
            }
            (b'+', _) if is_operator => {
                repeat(&mut sequence, false, true);
                continue;
            }
            (b'?', _) if is_operator => {
                repeat(&mut sequence, true, false);
                continue;
            }
            (byte, _) => Atom::Byte(*byte),
        };
        sequence.items.push(Item {
            atom,
            optional: false,
            repeated: false,
        });
    }
    Ok((sequence, None))
}

fn repeat(sequence: &mut Sequence, optional: bool, repeated: bool) {
    if let Some(last) = sequence.items.last_mut() {
        last.optional |= optional;
        last.repeated |= repeated;
    }
}

fn error(text: &str) -> Fail {
    Fail::usage(format_args!("{text}"))
}

fn no_groups() -> Fail {
    error("groups, counts and classes such as \\w are not there; a backslash quotes")
}

/// The bytes that a `[…]` lists, and what follows it.
fn set(list: &[u8]) -> Result<([u64; 4], &[u8]), Fail> {
    let mut bits = [0_u64; 4];
    let (not, mut rest) = match list {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut first = true;
    loop {
        let ([low, behind @ ..], is_first) = (rest, core::mem::replace(&mut first, false)) else {
            return Err(error("a '[' without ']'"));
        };
        rest = behind;
        let high = match (low, behind) {
            (b']', _) if !is_first => break,
            (b'[', [b':' | b'.' | b'=', ..]) => return Err(no_groups()),
            (_, [b'-', high, behind @ ..]) if *high != b']' => {
                rest = behind;
                high
            }
            (low, _) => low,
        };
        for byte in *low..=*high {
            bits[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
    }
    if not {
        bits = bits.map(|bits| !bits);
    }
    Ok((bits, rest))
}

impl Atom {
    fn is(&self, byte: u8) -> bool {
        match self {
            Atom::Any => true,
            Atom::Byte(it) => *it == byte,
            Atom::Set(bits) => bits[usize::from(byte >> 6)] & 1 << (byte & 63) != 0,
        }
    }
}

impl Sequence {
    /// Goes through the line once, with all the places in the pattern that it may be at.
    fn is_in(&self, line: &[u8], any_case: bool) -> bool {
        let end = self.items.len();
        let mut at = Vec::new();
        at.resize(end + 1, false);
        let mut next = at.clone();
        self.enter(&mut at, 0);
        if at[end] && !self.at_end {
            return true;
        }
        for &byte in line {
            next.fill(false);
            for (nth, item) in self.items.iter().enumerate().filter(|(nth, _)| at[*nth]) {
                let matches = item.atom.is(byte)
                    || any_case
                        && (item.atom.is(byte.to_ascii_lowercase())
                            || item.atom.is(byte.to_ascii_uppercase()));
                if matches {
                    self.enter(&mut next, nth + 1);
                    if item.repeated {
                        self.enter(&mut next, nth);
                    }
                }
            }
            if !self.at_start {
                self.enter(&mut next, 0);
            }
            core::mem::swap(&mut at, &mut next);
            if at[end] && !self.at_end {
                return true;
            }
        }
        at[end]
    }

    /// Is at `nth`, and behind all from there on that may be missing.
    fn enter(&self, at: &mut [bool], nth: usize) {
        let mut nth = nth;
        at[nth] = true;
        while self.items.get(nth).is_some_and(|item| item.optional) {
            nth += 1;
            at[nth] = true;
        }
    }
}
