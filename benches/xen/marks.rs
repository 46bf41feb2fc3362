//! How work is measured, in guests of all kinds.
//!
//! Each row's work is bracketed by two marks: a mark is a file that the guest makes in its control directory, where a
//! program in dom0 answers by a file whose name tells how much processor time both domains have taken. The rows are
//! printed when all is done:
//!
//! ```text
//! row MODE NAME UNITS NANOSECONDS GUEST-CPU DOM0-CPU REQUESTS
//! ```

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// What went wrong, for people.
pub type Result<T> = core::result::Result<T, String>;

/// How long dom0's answer to a mark is waited for.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// What it takes to measure.
pub trait Signals {
    /// A monotonic clock.
    fn now(&self) -> Duration;
    /// Prints a line.
    fn print(&self, line: fmt::Arguments<'_>);
    /// 9P requests until now, where that is known.
    fn requests(&self) -> u64;
    /// Makes an empty file.
    fn touch(&self, path: &str) -> Result<()>;
    /// Names in a directory, and whether they are directories. Asks the server each time.
    fn names(&self, path: &str) -> Result<Vec<(String, bool)>>;
}

/// What dom0 answers to a mark.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    /// Time since the domain was let run.
    pub since_start: u64,
    /// Processor time of this domain.
    pub guest: u64,
    /// Processor time of dom0.
    pub dom0: u64,
}

/// A line of the result.
pub struct Row {
    mode: String,
    name: String,
    units: u64,
    time: u64,
    guest: u64,
    dom0: u64,
    requests: u64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row {
            mode,
            name,
            units,
            time,
            guest,
            dom0,
            requests,
        } = self;
        write!(
            f,
            "row {mode} {name} {units} {time} {guest} {dom0} {requests}"
        )
    }
}

/// The marks of a run, and its rows.
pub struct Marks {
    control: String,
    next: u32,
    rows: Vec<Row>,
}

impl Marks {
    /// Marks are made in this directory.
    pub fn new(control: &str) -> Marks {
        Marks {
            control: control.to_string(),
            next: 0,
            rows: Vec::new(),
        }
    }

    /// Makes a mark and waits for the answer.
    pub fn mark(&mut self, host: &impl Signals) -> Result<Sample> {
        let number = self.next;
        self.next += 1;
        host.touch(&format!("{}/mark-{number}", self.control))?;
        let deadline = host.now() + STEP_TIMEOUT;
        loop {
            let names = host.names(&self.control)?;
            let answer = names
                .iter()
                .find_map(|(name, _)| parse_answer(name, number));
            match answer {
                Some(sample) => return Ok(sample),
                None if host.now() > deadline => return Err("dom0 does not answer marks".into()),
                None => {}
            }
        }
    }

    /// Tells dom0 that all work is done.
    pub fn end(&self, host: &impl Signals) -> Result<()> {
        host.touch(&format!("{}/mark-end", self.control))
    }

    /// Does the work of a row and notes what it took.
    pub fn row<H: Signals>(
        &mut self,
        host: &H,
        mode: &str,
        name: &str,
        units: u64,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let before = self.mark(host)?;
        let requests = host.requests();
        let start = host.now();
        work().map_err(|why| format!("{mode} {name}: {why}"))?;
        let time = host.now() - start;
        let requests = host.requests() - requests;
        let after = self.mark(host)?;
        self.rows.push(Row {
            mode: mode.to_string(),
            name: name.to_string(),
            units,
            time: time.as_nanos() as u64,
            guest: after.guest - before.guest,
            dom0: after.dom0 - before.dom0,
            requests,
        });
        Ok(())
    }

    /// Notes a row that has only a time.
    pub fn note(&mut self, mode: &str, name: &str, units: u64, time: u64) {
        self.rows.push(Row {
            mode: mode.to_string(),
            name: name.to_string(),
            units,
            time,
            guest: 0,
            dom0: 0,
            requests: 0,
        });
    }

    /// Prints all rows.
    pub fn print(&self, host: &impl Signals) {
        for row in &self.rows {
            host.print(format_args!("{row}"));
        }
    }
}

/// `NUMBER-SINCE-GUEST-DOM0`
pub fn parse_answer(name: &str, number: u32) -> Option<Sample> {
    let mut parts = name.split('-').map(|part| part.parse::<u64>().ok());
    if parts.next()?? != u64::from(number) {
        return None;
    }
    Some(Sample {
        since_start: parts.next()??,
        guest: parts.next()??,
        dom0: parts.next()??,
    })
}

/// Fails with `what` unless it is right.
pub fn check(right: bool, what: &str) -> Result<()> {
    if right {
        Ok(())
    } else {
        Err(format!("wrong data: {what}"))
    }
}
