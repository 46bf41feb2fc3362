//! Log lines, for the journal or a terminal.
//!
//! A line is one line whatever a guest has made of its names: what could move a cursor or forge a line is escaped. Lines
//! about one peer are limited, so that a guest that errs in a loop fills no disk and hides nothing of others.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Lines about one peer in a burst.
const BURST: u32 = 50;

/// How often a peer gets one line more.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// The longest line, in bytes.
const MAX_LINE: usize = 1000;

/// A peer that log lines are about, with the lines that it has left. Clones share them.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Ration>);

#[derive(Debug)]
struct Ration {
    label: String,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    lines: u32,
    filled: Instant,
    dropped: u64,
}

thread_local! {
    static PEER: RefCell<Option<Peer>> = const { RefCell::new(None) };
}

static PROCESS_PEER: OnceLock<Peer> = OnceLock::new();

/// From here on, all lines of this process are about this peer: for a worker, which serves one.
pub fn set_process_peer(label: &str) {
    let _ = PROCESS_PEER.set(Peer::new(label));
}

/// From here on, all lines of this thread are about this peer.
pub fn set_thread_peer(label: &str) {
    PEER.set(Some(Peer::new(label)));
}

/// Does some work, whose lines are about this peer.
pub fn about<T>(peer: &Peer, work: impl FnOnce() -> T) -> T {
    let before = PEER.replace(Some(peer.clone()));
    let done = work();
    PEER.set(before);
    done
}

/// Tells systemd that this service is ready, if it was started as one that says so (sd_notify(3)).
pub fn ready() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match name.as_encoded_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&name),
    };
    let told = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.send_to_addr(b"READY=1", &address)
    });
    if let Err(error) = told {
        log::warn!("cannot tell systemd that xen9pd is ready: {error}");
    }
}

/// Makes this the logger of the process. Lines go to standard error, with the journal's prefixes if that is where they go.
pub fn start(level: LevelFilter) {
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let logger = Box::leak(Box::new(Journal { journal }));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

struct Journal {
    journal: bool,
}

impl Peer {
    /// A peer of this name.
    pub fn new(label: &str) -> Peer {
        Peer(Arc::new(Ration {
            label: label.to_owned(),
            bucket: Mutex::new(Bucket {
                lines: BURST,
                filled: Instant::now(),
                dropped: 0,
            }),
        }))
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    /// Whether one more line may be written; with the number of those that were not since the last.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let since = now.saturating_duration_since(self.filled);
        let more = since.as_nanos() / LINE_INTERVAL.as_nanos();
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(BURST);
            self.lines = self.lines.saturating_add(more).min(BURST);
            self.filled = now;
        }
        if self.lines == 0 {
            self.dropped += 1;
            return None;
        }
        self.lines -= 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let own = PEER.try_with(|peer| peer.borrow().clone()).ok().flatten();
        let peer = own.or_else(|| PROCESS_PEER.get().cloned());
        let mut dropped = 0;
        if let Some(peer) = &peer {
            match peer.bucket().take(Instant::now()) {
                Some(count) => dropped = count,
                None => return,
            }
        }
        let label = peer.as_ref().map(|peer| &*peer.0.label);
        let mut line = String::new();
        if dropped > 0 {
            let lost = format_args!("{dropped} lines were left out");
            compose(&mut line, self.journal, Level::Warn, label, lost);
        }
        compose(
            &mut line,
            self.journal,
            record.level(),
            label,
            *record.args(),
        );
        // One write, so that lines of different threads do not mix. Where nothing can be written, nothing can be said.
        let _ = io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

fn compose(
    line: &mut String,
    journal: bool,
    level: Level,
    peer: Option<&str>,
    text: fmt::Arguments<'_>,
) {
    let start = line.len();
    // What sd-daemon(3) calls the prefixes of kernel log levels.
    let (number, word) = match level {
        Level::Error => (3, "error: "),
        Level::Warn => (4, "warning: "),
        Level::Info => (6, ""),
        Level::Debug | Level::Trace => (7, ""),
    };
    let _ = match journal {
        true => write!(line, "<{number}>"),
        false => write!(line, "xen9pd: {word}"),
    };
    let mut shown = Escaped {
        line,
        end: start + MAX_LINE,
    };
    if let Some(peer) = peer {
        let _ = write!(shown, "{peer}: ");
    }
    if shown.write_fmt(text).is_err() {
        line.push('…');
    }
    line.push('\n');
}

/// Writes text with everything escaped that is not meant to be seen.
struct Escaped<'a> {
    line: &'a mut String,
    end: usize,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if self.line.len() >= self.end {
                return Err(fmt::Error);
            }
            // Characters that turn the direction of writing, or join others, are data of this kind, too.
            let hidden = char.is_control()
                || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
            if hidden {
                write!(self.line, "{}", char.escape_unicode())?;
            } else {
                self.line.push(char);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(journal: bool, peer: Option<&str>, text: &str) -> String {
        let mut line = String::new();
        compose(
            &mut line,
            journal,
            Level::Warn,
            peer,
            format_args!("{text}"),
        );
        line
    }

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let evil = "name\n<0>forged\r\x1b[2J\u{202e}\u{85}x\0";
        let shown = line(true, Some("dom\n7"), evil);
        assert_eq!(
            shown,
            "<4>dom\\u{a}7: name\\u{a}<0>forged\\u{d}\\u{1b}[2J\\u{202e}\\u{85}x\\u{0}\n"
        );
        assert_eq!(line(false, None, "größer"), "xen9pd: warning: größer\n");
        let long = line(false, None, &"x".repeat(10_000));
        assert!(long.len() < 1100 && long.ends_with("…\n"));
    }

    #[test]
    fn a_peer_has_a_burst_and_then_a_line_now_and_then() {
        let peer = Peer::new("guest");
        let mut bucket = peer.bucket();
        let start = bucket.filled;
        for _ in 0..BURST {
            assert_eq!(bucket.take(start), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(bucket.take(start + LINE_INTERVAL / 2), None);
        }
        assert_eq!(bucket.take(start + LINE_INTERVAL), Some(7));
        assert_eq!(bucket.take(start + LINE_INTERVAL), None);
        let later = start + LINE_INTERVAL * 10_000;
        for _ in 0..BURST {
            bucket.take(later).unwrap();
        }
        assert_eq!(bucket.take(later), None);
    }

    #[test]
    fn lines_are_about_a_peer_while_its_work_is_done_and_no_longer() {
        let label = || PEER.with_borrow(|peer| peer.as_ref().map(|peer| peer.0.label.clone()));
        let (outer, inner) = (Peer::new("outer"), Peer::new("inner"));
        about(&outer, || {
            about(&inner, || assert_eq!(label().as_deref(), Some("inner")));
            assert_eq!(label().as_deref(), Some("outer"));
        });
        assert_eq!(label(), None);
    }
}
