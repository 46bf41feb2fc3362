//! Checks the ground that the drivers stand on: memory, hypercalls, events, grants, time, heap.
//!
//! Runs as dom0 directly under Xen (PV: `-initrd "bootcheck WORDS"`; PVH: also `dom0=pvh`) and as an
//! ordinary domain. Prints one line for each check and ends with `[xen9p] exit 0`, or 1 if a check
//! failed. Words on the command line:
//!
//! | word | effect |
//! |---|---|
//! | `memory=MIB` | the domain has about as much memory as that (else: any) |
//! | `memcpy` | also print how fast memory is copied and cleared |
//! | `panic` | panic instead of checking |
//! | `fault` | read from address 16 |
//! | `write-code` | write to the program's own code |
//! | `stack` | overflow the stack |
//! | `ud` | execute an invalid instruction |
//!
//! The last five end with `[xen9p] panic: …` and a crashed domain (a full stack in a PV domain only
//! with the latter).
#![no_std]
#![no_main]

extern crate alloc;

mod checks;
mod ends;

use core::fmt::Display;

use xen9p::platform::Platform;
use xen9p::rt;

xen9p::bare_entry!(main);

/// Prints one line.
macro_rules! say {
    ($($text:tt)*) => {
        ::xen9p::rt::emergency_print(format_args!("{}\n", format_args!($($text)*)))
    };
}
pub(crate) use say;

/// Why a check failed.
type Failure = alloc::string::String;

/// Fails a check unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(::alloc::format!($($text)*));
        }
    };
}
pub(crate) use ensure;

/// Makes any error a failure.
fn failed(doing: &str) -> impl Fn(&dyn Display) -> Failure {
    move |error| alloc::format!("{doing}: {error}")
}

fn main() -> u8 {
    let up = rt::BarePlatform.now();
    let Ok(command_line) = str::from_utf8(rt::command_line()) else {
        say!("FAILED command line: it is not UTF-8");
        return 1;
    };
    say!(
        "bootcheck: {:?}, command line \"{command_line}\"",
        rt::mode()
    );
    let mut expected_memory = None;
    let mut measure = false;
    for word in command_line.split_whitespace() {
        match word.split_once('=') {
            Some(("memory", mib)) => expected_memory = mib.parse().ok(),
            _ if word == "memcpy" => measure = true,
            _ => ends::end(word),
        }
    }

    let mut failures = 0;
    let mut check = |name: &str, result: Result<Failure, Failure>| match result {
        Ok(found) => say!("ok {name}: {found}"),
        Err(why) => {
            failures += 1;
            say!("FAILED {name}: {why}");
        }
    };
    check("start", checks::start(up, expected_memory));
    check("hypercalls", checks::hypercalls());
    check("memory functions", checks::memory_functions());
    check("heap", checks::heap());
    check("clock", checks::clock());
    check("floating point", checks::floating_point());
    check("events", checks::events());
    check("event ports beyond one poll", checks::many_events());
    check("conformance of the platform", checks::conformance());
    check("grants", checks::grants());
    check("memory", checks::memory());
    if measure {
        check("speed of memory", checks::speed());
    }
    u8::from(failures > 0)
}
