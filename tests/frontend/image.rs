//! An image whose frontend breaks the rules of 9pfs rings, one after the other, on the device with the tag "lie": for the
//! backend xen9pd under a real Xen. After each it behaves, and has to be served again.
//!
//! For each case it prints `case NAME: RESULT (N ms)`, or `FAILED NAME: WHY`. With a device of the tag "storm" it breaks no rule, but
//! sends requests as fast as it can, for ever.
#![no_std]
#![no_main]

extern crate alloc;

mod cases;
mod ring;

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Display;
use core::time::Duration;

use xen9p::platform::Platform;
use xen9p::rt::{self, BarePlatform};
use xen9p::transport::xen9pfs;
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p::xen::xenbus::{BackendState, Device, XenbusState};

use cases::{CASES, Case, Ends};
use ring::Ring;

xen9p::bare_entry!(main);

/// How long the backend may take for a step, on a machine that is busy with other things.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Prints one line.
macro_rules! say {
    ($($text:tt)*) => {
        rt::emergency_print(format_args!("{}\n", format_args!($($text)*)))
    };
}

type Result<T> = core::result::Result<T, String>;

/// Adds what was being done to an error.
fn during<T, E: Display>(result: core::result::Result<T, E>, what: &str) -> Result<T> {
    result.map_err(|error| format!("{what}: {error}"))
}

fn main() -> u8 {
    let mut failures = 0;
    let start = Xen::new(Events::new(BarePlatform));
    let guest = during(start, "xenstore").and_then(|xen| {
        let storms = xen9pfs::device(&xen, Some("storm")).is_ok();
        let guest = Guest::new(xen, if storms { "storm" } else { "lie" })?;
        match storms {
            true => Err(guest.storm()),
            false => Ok(guest),
        }
    });
    let guest = match guest {
        Ok(guest) => guest,
        Err(why) => {
            say!("FAILED start: {why}");
            return 1;
        }
    };
    for case in CASES {
        let begin = BarePlatform.now();
        match guest.attempt(case) {
            Ok(()) => {
                let took = BarePlatform.now() - begin;
                say!(
                    "case {}: {:?} ({} ms)",
                    case.name,
                    case.ends,
                    took.as_millis()
                );
            }
            Err(why) => {
                failures += 1;
                say!("FAILED {}: {why}", case.name);
            }
        }
    }
    u8::from(failures > 0)
}

struct Guest {
    xen: Xen<BarePlatform>,
    device: Device<BarePlatform>,
    state: BackendState<BarePlatform>,
}

impl Guest {
    fn new(xen: Xen<BarePlatform>, tag: &str) -> Result<Guest> {
        xen.store.set_timeout(STEP_TIMEOUT);
        let device = during(xen9pfs::device(&xen, Some(tag)), "the device")?;
        let state = during(device.watch_backend(), "watching the backend")?;
        Ok(Guest { xen, device, state })
    }

    /// Has the ring full of requests for ever, and sends an event for each; returns what ended that.
    fn storm(&self) -> String {
        const IN_FLIGHT: usize = 64;

        let storm = |ring: &mut Ring| -> Result<()> {
            for _ in 0..IN_FLIGHT {
                ring.ask_for_version()?;
            }
            loop {
                ring.reply()?;
                ring.ask_for_version()?;
            }
        };
        let ended = self.connection(|_| {}, storm);
        ended.err().unwrap_or_default()
    }

    /// Lies, sees how it ends, and then behaves.
    fn attempt(&self, case: &Case) -> Result<()> {
        let lied = self.lie(case);
        let behaved = self.connection(|_| {}, |ring| ring.version().map(drop));
        lied?;
        behaved.map_err(|why| format!("behaving: {why}"))?;
        let held = self.xen.grants.counters();
        match held.shared_pages + held.quarantined_pages {
            0 => Ok(()),
            pages => Err(format!("the backend keeps {pages} pages")),
        }
    }

    fn lie(&self, case: &Case) -> Result<()> {
        let ended = self.connection(
            |ring| (case.offer)(ring),
            |ring| {
                if case.ends == Ends::Refused {
                    return Err("it was connected".to_string());
                }
                (case.act)(ring)?;
                match case.ends {
                    Ends::Works => ring.version().map(drop),
                    _ => self.closes(),
                }
            },
        );
        match (case.ends, ended) {
            (Ends::Refused, Err(why)) if why.starts_with("connecting: ") => self.closes(),
            (_, ended) => ended,
        }
    }

    /// Waits until the backend has closed the device.
    fn closes(&self) -> Result<()> {
        let deadline = self.xen.events.now() + STEP_TIMEOUT;
        let is_closed = |state| matches!(state, XenbusState::Closing | XenbusState::Closed);
        match during(self.state.wait(is_closed, deadline), "waiting for the end")? {
            state if is_closed(state) => Ok(()),
            state => Err(format!("the backend stays in state {state}")),
        }
    }

    /// Makes a ring, changes it by `offer`, connects, does some work, and leaves in good order.
    fn connection(
        &self,
        offer: impl FnOnce(&mut Ring),
        work: impl FnOnce(&mut Ring) -> Result<()>,
    ) -> Result<()> {
        during(self.device.reset(&self.state, STEP_TIMEOUT), "beginning")?;
        let mut ring = Ring::new(&self.xen, self.device.backend_id())?;
        offer(&mut ring);
        let nodes: alloc::vec::Vec<_> = ring
            .nodes
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let established = self.device.establish(&self.state, &nodes);
        let done = match during(established, "connecting") {
            Ok(()) => work(&mut ring),
            Err(why) => Err(why),
        };
        let left = self.device.leave(&self.state, STEP_TIMEOUT);
        done?;
        during(left, "leaving")
    }
}
