//! Runs tests, tells how each went, and counts.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::fail;
use crate::host::{BED_FAILED, Result};

/// A run of tests.
pub struct Suite {
    only: Option<String>,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    passed: u32,
    failed: Vec<String>,
}

/// One test: its name, and what it does.
pub struct Case<'a> {
    /// Name, for people and for ONLY.
    pub name: String,
    /// The test. An error says what went wrong, with the consoles' ends.
    pub run: Box<dyn FnOnce() -> Result<()> + Send + 'a>,
}

impl Suite {
    /// A run of those tests whose name contains `only`.
    pub fn new(only: Option<String>) -> Suite {
        Suite {
            only,
            tally: Mutex::default(),
        }
    }

    /// Whether to run a test: `only` has parts of names, with commas between them.
    pub fn wants(&self, name: &str) -> bool {
        let wants = |only: &String| only.split(',').any(|part| name.contains(part));
        self.only.as_ref().is_none_or(wants)
    }

    /// Runs a test now, on this thread.
    pub fn run(&self, name: &str, test: impl FnOnce() -> Result<()>) {
        if !self.wants(name) {
            return;
        }
        let start = Instant::now();
        let result = test();
        self.record(name, start.elapsed(), result);
    }

    /// Says why a test is not run.
    pub fn leave_out(&self, name: &str, reason: &str) {
        if self.wants(name) {
            println!("left   {name}: {reason}");
        }
    }

    /// Runs tests, as many at a time as this machine emulates processors.
    pub fn run_all(&self, cases: Vec<Case<'_>>) {
        let cases: Vec<Case<'_>> = cases
            .into_iter()
            .filter(|case| self.wants(&case.name))
            .collect();
        let queue = Mutex::new(cases.into_iter());
        let next = || queue.lock().ok().and_then(|mut queue| queue.next());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(case) = next() {
                        self.run(&case.name, case.run);
                    }
                });
            }
        });
    }

    fn record(&self, name: &str, took: Duration, result: Result<()>) {
        // Poisoned or not, the counts are right.
        let mut tally = self
            .tally
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let seconds = took.as_secs_f64();
        match result {
            Ok(()) => {
                println!("ok     {name} ({seconds:.1} s)");
                tally.passed += 1;
            }
            Err(fail) => {
                println!("FAILED {name} ({seconds:.1} s): {fail}");
                tally.failed.push(name.to_owned());
            }
        }
    }

    /// Prints the summary and returns the status of the run.
    pub fn finish(self) -> Result<u8> {
        let tally = self
            .tally
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if tally.passed == 0 && tally.failed.is_empty() {
            let only = self.only.unwrap_or_default();
            return Err(fail!("no test has \"{only}\" in its name"));
        }
        for name in &tally.failed {
            println!("failed: {name}");
        }
        println!("{} passed, {} failed", tally.passed, tally.failed.len());
        Ok(if tally.failed.is_empty() {
            0
        } else {
            BED_FAILED
        })
    }
}
