//! What a command is called with: options as getopt(3) understands them, anywhere on the line, and operands.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Fail;

/// Long names of options, and the letters that they can stand for.
#[rustfmt::skip]
const LONG: &[(&str, &str)] = &[
    ("all", "a"), ("archive", "a"), ("bytes", "c"), ("create", "c"), ("count", "c"), ("directory", "d"), ("files-with-matches", "l"),
    ("fixed-strings", "F"), ("extended-regexp", "E"), ("force", "f"), ("human-readable", "h"), ("ignore-case", "i"),
    ("invert-match", "v"), ("line-number", "n"), ("lines", "nl"), ("max-depth", "d"), ("no-create", "c"), ("no-clobber", "n"),
    ("no-dereference", "h"), ("parents", "p"), ("preserve", "p"), ("quiet", "q"), ("silent", "sq"), ("raw", "N"), ("literal", "N"),
    ("recursive", "rR"), ("reference", "r"), ("regexp", "e"), ("reverse", "r"), ("size", "s"), ("summarize", "s"), ("symbolic", "s"),
    ("total", "c"), ("update", "u"), ("verbose", "v"), ("words", "w"), ("line-regexp", "x"), ("one-file-per-line", "1"),
];

/// Options and operands.
#[derive(Debug, Default)]
pub struct Args<'a> {
    options: Vec<(char, &'a str)>,
    /// What is no option.
    pub operands: Vec<&'a str>,
    /// Whether the help was asked for.
    pub help: bool,
}

impl<'a> Args<'a> {
    /// Takes the words apart. `known` has the letters of the options; a `:` behind one says that a value follows, `#` that a
    /// number can be one (`-5` is `-n 5`), `+` that what begins with an unknown letter is an operand, and a `-` in front
    /// that nothing is an option but `--help` alone.
    ///
    /// # Errors
    /// An option that is not known, a value that is missing.
    pub fn parse(words: &[&'a str], known: &str) -> Result<Args<'a>, Fail> {
        let mut args = Args::default();
        if words == ["--help"] {
            args.help = true;
            return Ok(args);
        }
        if known.starts_with('-') {
            args.operands = words.to_vec();
            return Ok(args);
        }
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            match word.strip_prefix('-') {
                None | Some("") => args.operands.push(word),
                Some("-") => {
                    args.operands.extend(words);
                    break;
                }
                Some("-help") => args.help = true,
                Some(number)
                    if known.contains('#') && number.bytes().all(|b| b.is_ascii_digit()) =>
                {
                    args.options.push(('n', number));
                }
                Some(letters) => match letters.strip_prefix('-') {
                    Some(long) => args.long(long, known, &mut words)?,
                    None => args.short(word, letters, known, &mut words)?,
                },
            }
        }
        Ok(args)
    }

    fn long(
        &mut self,
        long: &'a str,
        known: &str,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Fail> {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let unknown = || Fail::usage(format_args!("unknown option --{name}"));
        let named = LONG.iter().filter(|(it, _)| *it == name);
        let mut letters = named.flat_map(|(_, letters)| letters.chars());
        let letter = letters.find(|&letter| known.contains(letter));
        let letter = letter.ok_or_else(unknown)?;
        let value = match (takes_value(known, letter), value) {
            (true, Some(value)) => value,
            (true, None) => words.next().ok_or_else(|| missing(&format!("-{name}")))?,
            (false, None) => "",
            (false, Some(_)) => {
                return Err(Fail::usage(format_args!("option --{name} takes no value")));
            }
        };
        self.options.push((letter, value));
        Ok(())
    }

    fn short(
        &mut self,
        word: &'a str,
        letters: &'a str,
        known: &str,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Fail> {
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            if !letter.is_ascii_alphanumeric() || !known.contains(letter) {
                if known.contains('+') {
                    self.operands.push(word);
                    return Ok(());
                }
                return Err(Fail::usage(format_args!("unknown option -{letter}")));
            }
            if !takes_value(known, letter) {
                self.options.push((letter, ""));
                continue;
            }
            let value = match rest.as_str() {
                "" => words.next().ok_or_else(|| missing(&String::from(letter)))?,
                value => value,
            };
            self.options.push((letter, value));
            return Ok(());
        }
        Ok(())
    }

    /// Whether an option was given.
    pub fn has(&self, letter: char) -> bool {
        self.last_of(&[letter]).is_some()
    }

    /// Which of these options was given last.
    pub fn last_of(&self, letters: &[char]) -> Option<char> {
        let mut given = self.options.iter().rev().map(|(letter, _)| *letter);
        given.find(|letter| letters.contains(letter))
    }

    /// The value of an option, the last one that was given.
    pub fn value(&self, letter: char) -> Option<&'a str> {
        let mut given = self.options.iter().rev();
        given.find(|(it, _)| *it == letter).map(|(_, value)| *value)
    }
}

/// A whole number: digits and nothing else, no sign either.
pub fn digits(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// A whole number, with `k`, `K`, `M` or `G` behind it of 2^10, 2^20 or 2^30 each.
pub fn units(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix(['k', 'K', 'M', 'G']) {
        Some(number) if text.ends_with('G') => (number, 1 << 30),
        Some(number) if text.ends_with('M') => (number, 1 << 20),
        Some(number) => (number, 1 << 10),
        None => (text, 1),
    };
    digits(number)?.checked_mul(unit)
}

fn takes_value(known: &str, letter: char) -> bool {
    let behind = known.split(letter).nth(1);
    behind.is_some_and(|rest| rest.starts_with(':'))
}

fn missing(option: &str) -> Fail {
    Fail::usage(format_args!("option -{option} needs a value"))
}
