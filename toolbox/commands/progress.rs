//! How far something long is, for who sits at a terminal.

use core::time::Duration;

use xen9p::time::Instant;

use super::Shell;
use super::format::Bytes;
use super::place::Place;

/// How often it is shown.
const INTERVAL: Duration = Duration::from_millis(200);

/// The progress of one file.
pub struct Progress {
    begun: Instant,
    shown: Option<Instant>,
    total: u64,
    done: u64,
}

impl Progress {
    pub fn new(shell: &Shell<'_>, total: u64) -> Self {
        let begun = shell.host.now();
        Progress {
            begun,
            shown: None,
            total,
            done: 0,
        }
    }

    /// So much more is done; shown now and then, and only on a terminal.
    pub fn add(&mut self, shell: &mut Shell<'_>, bytes: usize, place: &Place) {
        self.done += bytes as u64;
        let now = shell.host.now();
        if !shell.host.is_terminal() || now - self.shown.unwrap_or(self.begun) < INTERVAL {
            return;
        }
        self.shown = Some(now);
        let millis = (now - self.begun).as_millis().max(1) as u64;
        let rate = self.done.saturating_mul(1000) / millis;
        let left = self.total.saturating_sub(self.done) / rate.max(1);
        let percent = u128::from(self.done) * 100 / u128::from(self.total.max(1));
        shell.say(format_args!(
            "\r{place}: {percent}%, {} of {}, {}/s, {}:{:02} left\x1b[K",
            Bytes(self.done),
            Bytes(self.total),
            Bytes(rate),
            left / 60,
            left % 60
        ));
    }

    /// Takes away what was shown.
    pub fn end(self, shell: &mut Shell<'_>) {
        if self.shown.is_some() {
            shell.host.print(b"\r\x1b[K");
        }
    }
}
