//! How far something long is, for who sits at a terminal: one line of at most 80 columns, which is gone in the end.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use xen9p::fs::{self, Metadata};
use xen9p::time::Instant;

use super::format::Bytes;
use super::place::{Place, Shown};
use super::{Fail, Shell};

/// How often it is shown.
const INTERVAL: Duration = Duration::from_millis(200);

/// The longest line that no terminal breaks.
const WIDTH: usize = 79;

/// Files, and bytes in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub files: u64,
    pub bytes: u64,
}

/// What is there to be copied, for who sees how far it is.
pub fn found(shell: &mut Shell<'_>, place: &Place, metadata: &Metadata) -> Result<Amount, Fail> {
    let mut amount = Amount {
        files: 1,
        bytes: metadata.len(),
    };
    if metadata.is_dir() && shell.on_terminal() {
        amount = Amount::default();
        // What can't be listed is told when its turn comes.
        for entry in place.ns.walk_dir(&place.path).into_iter().flatten() {
            match entry.and_then(|entry| entry.metadata()) {
                Ok(found) if found.is_file() => {
                    amount.files += 1;
                    amount.bytes = amount.bytes.saturating_add(found.len());
                }
                Err(fs::Error::Interrupted) => return Err(Fail::Interrupted),
                _ => {}
            }
        }
    }
    Ok(amount)
}

/// The progress of a command.
pub struct Progress {
    begun: Instant,
    shown: Option<Instant>,
    found: Amount,
    done: Amount,
}

impl Progress {
    pub fn new(shell: &Shell<'_>, found: Amount) -> Self {
        Progress {
            begun: shell.host.now(),
            shown: None,
            found,
            done: Amount::default(),
        }
    }

    /// Of one file of so many bytes.
    pub fn of_file(shell: &Shell<'_>, bytes: u64) -> Self {
        Progress::new(shell, Amount { files: 1, bytes })
    }

    /// One more file is done.
    pub fn file_done(&mut self) {
        self.done.files += 1;
    }

    /// So much more is done; shown now and then, and only on a terminal.
    pub fn add(&mut self, shell: &mut Shell<'_>, bytes: usize, place: &Place) {
        self.done.bytes += bytes as u64;
        if !shell.host.is_terminal() {
            return;
        }
        let now = shell.host.now();
        if now - self.shown.unwrap_or(self.begun) < INTERVAL {
            return;
        }
        self.shown = Some(now);
        let (done, found) = (self.done, self.found);
        let millis = (now - self.begun).as_millis().max(1) as u64;
        let rate = done.bytes.saturating_mul(1000) / millis;
        let left = found.bytes.saturating_sub(done.bytes) / rate.max(1);
        let percent = u128::from(done.bytes) * 100 / u128::from(found.bytes.max(1));
        let files = match found.files {
            0 | 1 => String::new(),
            files => format!("{} of {files} files, ", done.files),
        };
        let facts = format!(
            ": {percent}%, {files}{} of {}, {}/s, {}:{:02} left",
            Bytes(done.bytes),
            Bytes(found.bytes),
            Bytes(rate),
            left / 60,
            left % 60
        );
        let name = format!("{place}");
        // Of a long path the end is shown.
        let room = WIDTH.saturating_sub(facts.len());
        let cut = Shown(name.as_bytes()).width().saturating_sub(room);
        let start = name
            .char_indices()
            .nth(cut)
            .map_or(name.len(), |(at, _)| at);
        let line = format!("\r{}{facts}\x1b[K", &name[start..]);
        shell.host.print(line.as_bytes());
    }

    /// Takes away what was shown.
    pub fn end(&mut self, shell: &mut Shell<'_>) {
        if self.shown.take().is_some() {
            shell.host.print(b"\r\x1b[K");
        }
    }
}
