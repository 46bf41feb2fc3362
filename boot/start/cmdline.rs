//! The kernel command line: options first, then what the app gets.
//!
//! ```text
//! log=debug,p9=trace share=data msize=512K cat /a.txt; ls -l '/a b'
//! └──────────── options ─────────────────┘ └──── the app's part ──┘
//! ```
//!
//! Leading words of the form `key=value` are options; the first other word, or a `--`, ends them.
//! The rest is split like a shell does: blanks, `;` and the end of a line separate words, `'…'` and `"…"` and a backslash
//! quote. Nothing is expanded.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

use crate::ns::{Layout, OptionError};
#[cfg(feature = "vchan")]
use crate::transport::serving::ExportError;
use crate::transport::serving::Target;

/// What the options of the command line ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// `log=LEVEL[,TARGET=LEVEL…]`: which log records are printed, in the words of
    /// [`log::Filter`](crate::xen::log::Filter).
    pub log: Option<String>,
    /// `share=TAG`: the 9pfs device that becomes the root, unless a mount does.
    pub share: Option<String>,
    /// `msize=BYTES`: the largest 9P message to ask for.
    pub msize: Option<u32>,
    /// `rings=N`: how many rings to ask for.
    pub rings: Option<u16>,
    /// `order=N`: the ring size to ask for, as log2 of its pages.
    pub order: Option<u8>,
    /// `timeout=SECONDS`: how long the backend may take for each step of connecting, and the server
    /// for each answer.
    pub timeout: Option<Duration>,
    /// `recovery=fail` or `recovery=reattach[:SECONDS]`: whether to go on after the connection to a backend is
    /// lost, and for how long to look for another one. The latter needs the feature `recovery`.
    pub recovery: Option<Duration>,
    /// `cache=open[:MIB]`: whether what was asked of shares is remembered, and how many bytes of each; 0: an eighth of the
    /// domain's memory. Needs the feature `cache`.
    pub cache: Option<usize>,
    /// `trace=pcap[:[TAG:]/PATH]`: where a capture of all 9P messages is written in the end. Needs the feature `trace`.
    pub trace: Option<TraceFile>,
    /// `mount=[ro=]SOURCE:/PATH[,…]` and `bind=HOW:/NEW:/OLD[,…]`: what is added to the root to make the
    /// name space.
    pub layout: Layout,
    /// `export=[ro=]SOURCE:9pfs[,…]`, `export=[ro=]SOURCE:vchan!DOMID!NAME[,…]` and `export=[ro=]SOURCE:argo!DOMID!PORT[,…]`:
    /// what is served to other domains. Needs the feature `vchan`, or `argo`, which has it.
    pub exports: Vec<ExportOption>,
}

/// A tree that is served to another domain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportOption {
    /// `/PATH` in the name space, the tag of a share, or a tree that the image makes.
    pub source: String,
    /// By what, and to which domain.
    pub target: Target,
    /// Whether changes are refused.
    pub read_only: bool,
}

/// The parts of an export: whether it is for reading alone, the source, and the target.
#[cfg(feature = "vchan")]
fn export_parts(entry: &str) -> Option<(bool, &str, &str)> {
    let (read_only, entry) = match entry.strip_prefix("ro=") {
        Some(entry) => (true, entry),
        None => (false, entry),
    };
    let at = match entry.strip_suffix(":9pfs") {
        Some(source) => source.len(),
        None => {
            let marks = [":vchan!", ":argo!"].into_iter();
            marks.filter_map(|mark| entry.find(mark)).min()?
        }
    };
    (at > 0).then_some((read_only, entry.get(..at)?, entry.get(at + 1..)?))
}

/// A file on a share.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceFile {
    /// The tag of the share; `None`: the one at the root.
    pub share: Option<String>,
    /// The path there.
    pub path: String,
}

impl fmt::Display for TraceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.share {
            Some(tag) => write!(f, "{tag}:{}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

/// Where a capture is written by default.
const TRACE_FILE: &str = "/xen9p.pcap";

/// The names [`Options`] knows, as a usage line shows them.
pub const USAGE: &str = "options: log=LEVEL[,TARGET=LEVEL...] share=TAG mount=[ro=]TAG:/PATH[,...] \
     bind=HOW:/NEW:/OLD[,...] export=[ro=]SOURCE:9pfs|vchan!DOMID!NAME[,...] msize=BYTES rings=N order=N timeout=SECONDS \
     recovery=fail|reattach[:SECONDS] cache=off|open[:MIB] trace=pcap[:[TAG:]/PATH]";

/// Why a command line can't be obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CmdlineError {
    /// A quote is opened and never closed.
    OpenQuote(char),
    /// A `key=value` with an unknown key.
    UnknownOption(String),
    /// A known option with a value that makes no sense; the text says what is expected.
    BadValue(&'static str, String, &'static str),
    /// An option of a feature that the image is built without; the texts are the option and the feature.
    LeftOut(&'static str, &'static str),
    /// A mount or bind option that makes no sense.
    Layout(&'static str, String, OptionError),
    /// An export to no domain, or by no way that there is.
    #[cfg(feature = "vchan")]
    Export(String, ExportError),
    /// Both `share=` and `mount=` say what the root is.
    TwoRoots,
}

impl fmt::Display for CmdlineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CmdlineError::OpenQuote(quote) => {
                write!(f, "the command line opens a {quote} and never closes it")
            }
            CmdlineError::UnknownOption(key) => write!(f, "unknown option '{key}='; {USAGE}"),
            CmdlineError::BadValue(key, value, expected) => {
                write!(f, "{key}={value}: expected {expected}")
            }
            CmdlineError::LeftOut(key, feature) => {
                write!(
                    f,
                    "{key}=: this image is built without the feature '{feature}'"
                )
            }
            CmdlineError::Layout(key, value, error) => write!(f, "{key}={value}: {error}"),
            #[cfg(feature = "vchan")]
            CmdlineError::Export(value, error) => write!(f, "export={value}: {error}"),
            CmdlineError::TwoRoots => {
                f.write_str("share= and mount=TAG:/ both say what the root is; leave one out")
            }
        }
    }
}

impl core::error::Error for CmdlineError {}

/// Takes the options off the front of `line`; what is left is the app's.
///
/// # Errors
/// An unknown option, a bad value, an open quote among the options.
pub fn parse(line: &str) -> Result<(Options, &str), CmdlineError> {
    let mut options = Options::default();
    let mut rest = line;
    let app = loop {
        let (token, after) = next_token(rest)?;
        match token {
            Some(Token::Word(word)) if word == "--" => break after,
            Some(Token::Word(word)) => match word.split_once('=') {
                Some((key, value)) if is_key(key) => options.set(key, value)?,
                _ => break rest,
            },
            Some(Token::End) => {}
            None => break "",
        }
        rest = after;
    };
    if options.share.is_some() && options.layout.has_root() {
        return Err(CmdlineError::TwoRoots);
    }
    Ok((options, app.trim_start()))
}

fn is_key(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

impl Options {
    fn set(&mut self, key: &str, value: &str) -> Result<(), CmdlineError> {
        let bad = |key, expected| CmdlineError::BadValue(key, value.to_string(), expected);
        match key {
            "log" => self.log = Some(value.to_string()),
            "share" => {
                if value.is_empty() {
                    return Err(bad("share", "the tag of a 9pfs device"));
                }
                self.share = Some(value.to_string());
            }
            "mount" => {
                let added = self.layout.add_mounts(value);
                added.map_err(|error| CmdlineError::Layout("mount", value.to_string(), error))?;
            }
            "bind" => {
                let added = self.layout.add_binds(value);
                added.map_err(|error| CmdlineError::Layout("bind", value.to_string(), error))?;
            }
            #[cfg(not(feature = "vchan"))]
            "export" => return Err(CmdlineError::LeftOut("export", "vchan")),
            #[cfg(feature = "vchan")]
            "export" => {
                let expected = "SOURCE:9pfs or SOURCE:vchan!DOMID!NAME, or ro= and that, and more of them after commas";
                for entry in value.split(',') {
                    let parts = export_parts(entry).ok_or_else(|| bad("export", expected))?;
                    let (read_only, source, target) = parts;
                    let target = target.parse();
                    self.exports.push(ExportOption {
                        source: source.into(),
                        target: target
                            .map_err(|error| CmdlineError::Export(value.to_string(), error))?,
                        read_only,
                    });
                }
            }
            "msize" => {
                self.msize = Some(
                    parse_size(value)
                        .ok_or_else(|| bad("msize", "a number of bytes; K and M may follow it"))?,
                );
            }
            "rings" => {
                let rings = number(value, 1..=u16::MAX.into());
                let rings = rings.ok_or_else(|| bad("rings", "a number from 1 on"))?;
                self.rings = Some(rings as u16);
            }
            "order" => {
                let order = number(value, 2..=9);
                let order = order.ok_or_else(|| bad("order", "a number from 2 to 9"))?;
                self.order = Some(order as u8);
            }
            "recovery" if !cfg!(feature = "recovery") && value != "fail" => {
                return Err(CmdlineError::LeftOut("recovery", "recovery"));
            }
            "recovery" => {
                self.recovery = match value.split_once(':').unwrap_or((value, "60")) {
                    ("fail", "60") => None,
                    ("reattach", seconds) => number(seconds, 1..=86_400)
                        .map(Duration::from_secs)
                        .ok_or_else(|| bad("recovery", "reattach:SECONDS, from 1 to 86400"))?
                        .into(),
                    _ => return Err(bad("recovery", "fail, reattach or reattach:SECONDS")),
                };
            }
            "cache" if !cfg!(feature = "cache") && value != "off" => {
                return Err(CmdlineError::LeftOut("cache", "cache"));
            }
            "cache" => {
                let (how, mib) = value.split_once(':').unwrap_or((value, ""));
                self.cache = match (how, mib, number(mib, 1..=1 << 20)) {
                    ("off", "", None) if value == how => None,
                    ("open", "", None) if value == how => Some(0),
                    ("open", _, Some(mib)) => Some((mib as usize) << 20),
                    _ => return Err(bad("cache", "off, open or open:MIB, from 1 to 1048576")),
                };
            }
            "trace" if !cfg!(feature = "trace") => {
                return Err(CmdlineError::LeftOut("trace", "trace"));
            }
            "trace" => {
                let file = value.strip_prefix("pcap").and_then(trace_file);
                let file =
                    file.ok_or_else(|| bad("trace", "pcap, pcap:/PATH or pcap:TAG:/PATH"))?;
                self.trace = Some(file);
            }
            "timeout" => {
                let seconds = number(value, 1..=3600);
                let seconds =
                    seconds.ok_or_else(|| bad("timeout", "a number of seconds from 1 to 3600"))?;
                self.timeout = Some(Duration::from_secs(seconds));
            }
            _ => return Err(CmdlineError::UnknownOption(key.to_string())),
        }
        Ok(())
    }
}

/// What follows `pcap`: nothing, or a colon and a file.
fn trace_file(text: &str) -> Option<TraceFile> {
    let file = match text {
        "" => TRACE_FILE,
        text => text.strip_prefix(':')?,
    };
    let (tag, path) = file.split_at_checked(file.find('/')?)?;
    let share = match tag {
        "" => None,
        tag => Some(tag.strip_suffix(':').filter(|tag| !tag.is_empty())?),
    };
    (path.len() > 1).then(|| TraceFile {
        share: share.map(String::from),
        path: path.into(),
    })
}

fn parse_size(text: &str) -> Option<u32> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' | b'K' => (text.get(..text.len() - 1)?, 1 << 10),
        b'm' | b'M' => (text.get(..text.len() - 1)?, 1 << 20),
        _ => (text, 1),
    };
    number(digits, 0..=(u32::MAX / unit).into()).map(|n| n as u32 * unit)
}

/// The number that `text` is, if it is one of these.
fn number(text: &str, range: RangeInclusive<u64>) -> Option<u64> {
    text.parse().ok().filter(|n| range.contains(n))
}

/// Splits `text` into words, for an app whose arguments are one list. A `;` that is not quoted
/// separates words like a blank does.
///
/// # Errors
/// An open quote.
pub fn words(text: &str) -> Result<Vec<String>, CmdlineError> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        let (token, after) = next_token(rest)?;
        rest = after;
        match token {
            Some(Token::Word(word)) => words.push(word),
            Some(Token::End) => {}
            None => return Ok(words),
        }
    }
}

/// A character of a line, and how it was quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Not at all.
    Bare(char),
    /// By `"…"`.
    InDouble(char),
    /// By `'…'` or a backslash.
    Quoted(char),
    /// A quote opens: there is a word, even if nothing is in it.
    Opens,
}

/// Goes through a line whose quotes are those of a shell.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    chars: core::str::Chars<'a>,
    open: Option<char>,
}

impl<'a> Pieces<'a> {
    /// From the start of `text`.
    pub fn new(text: &'a str) -> Self {
        Pieces {
            chars: text.chars(),
            open: None,
        }
    }

    /// What is still to come.
    pub fn rest(&self) -> &'a str {
        self.chars.as_str()
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece, CmdlineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(c) = self.chars.next() else {
                return self
                    .open
                    .take()
                    .map(|open| Err(CmdlineError::OpenQuote(open)));
            };
            let piece = match (self.open, c) {
                (Some(open), c) if c == open => {
                    self.open = None;
                    continue;
                }
                (Some('"'), '\\') if self.rest().starts_with(['"', '\\', '$']) => {
                    Piece::Quoted(self.chars.next().unwrap_or(c))
                }
                (Some('"'), c) => Piece::InDouble(c),
                (Some(_), c) => Piece::Quoted(c),
                (None, '\'' | '"') => {
                    self.open = Some(c);
                    Piece::Opens
                }
                (None, '\\') => Piece::Quoted(self.chars.next().unwrap_or(c)),
                (None, c) => Piece::Bare(c),
            };
            return Some(Ok(piece));
        }
    }
}

enum Token {
    Word(String),
    /// A `;` or the end of a line.
    End,
}

/// The first token of `text`, if any, and what follows it.
fn next_token(text: &str) -> Result<(Option<Token>, &str), CmdlineError> {
    let text = text.trim_start_matches([' ', '\t']);
    let mut pieces = Pieces::new(text);
    let mut word: Option<String> = None;
    loop {
        match pieces.next().transpose()? {
            Some(Piece::Bare(' ' | '\t' | '\n' | '\r' | ';')) => match word {
                Some(word) => {
                    // What separates is one byte, and seen again; a quote in front of it is not.
                    let at = text.len() - pieces.rest().len() - 1;
                    return Ok((Some(Token::Word(word)), text.get(at..).unwrap_or_default()));
                }
                None => return Ok((Some(Token::End), pieces.rest())),
            },
            Some(Piece::Opens) => _ = word.get_or_insert_default(),
            Some(Piece::Bare(c) | Piece::InDouble(c) | Piece::Quoted(c)) => {
                word.get_or_insert_default().push(c);
            }
            None => return Ok((word.map(Token::Word), "")),
        }
    }
}
