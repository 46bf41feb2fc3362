//! An image that goes through the hostile cases under a real Xen, against `tests/backend` in dom0. For each it prints
//! `case SCRIPT: RESULT`, or `FAILED SCRIPT: WHY`. With `short` as command line it goes
//! through two of each row, and none that ends by waiting or is a storm.
#![no_std]
#![no_main]

extern crate alloc;

mod cases;
mod drive;

use xen9p::platform::Platform;
use xen9p::rt::{self, BarePlatform};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;

xen9p::bare_entry!(main);

/// Cases of each row when there is little time.
const OF_EACH_ROW: u32 = 2;

/// Prints one line.
macro_rules! say {
    ($($text:tt)*) => {
        rt::emergency_print(format_args!("{}\n", format_args!($($text)*)))
    };
}

fn main() -> u8 {
    let xen = match Xen::new(Events::new(BarePlatform)) {
        Ok(xen) => xen,
        Err(error) => {
            say!("FAILED xenstore: {error}");
            return 1;
        }
    };
    let mut guest = match drive::Guest::new(xen, true) {
        Ok(guest) => guest,
        Err(why) => {
            say!("FAILED start: {why}");
            return 1;
        }
    };
    let short = rt::command_line() == b"short";
    let mut failures = 0;
    let (mut row, mut of_row) = ("", 0);
    for case in cases::CASES {
        // A storm of 100,000 events takes its time, too.
        let is_storm = case.script.ends_with("000") && case.ends == cases::Ends::Works;
        if short && (case.is_slow() || is_storm) {
            continue;
        }
        (row, of_row) = match case.row == row {
            true => (row, of_row + 1),
            false => (case.row, 0),
        };
        if short && of_row >= OF_EACH_ROW {
            continue;
        }
        let begin = BarePlatform.now();
        match guest.attempt(case) {
            Ok(result) => {
                let took = BarePlatform.now() - begin;
                say!("case {}: {result} ({} ms)", case.script, took.as_millis());
            }
            Err(why) => {
                failures += 1;
                say!("FAILED {}: {why}", case.script);
            }
        }
    }
    u8::from(failures > 0)
}
