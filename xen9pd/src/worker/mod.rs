//! A worker: the process that serves one connection of one device.
//!
//! It maps the rings, opens the share, and locks itself in; from then on it can do nothing but work in that share and send
//! events to that domain. When it ends, however it ends, Linux unmaps and unbinds everything: another connection is another
//! process. It does not need the broker, so that guests do not notice when that one is restarted.

pub mod connect;
pub mod counters;
mod serve;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::broker::nodes::Order;
use counters::{Counter, Counters};

/// What the broker wants of a worker. It comes on standard input, as TOML.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The domain that is served.
    pub domain: u16,
    /// Its rings: reference of the index page, event channel.
    pub rings: Vec<(u32, u32)>,
    /// The file for the counters.
    pub counters: PathBuf,
    /// The file with the configuration, if there is one.
    pub config: Option<PathBuf>,
    /// What the toolstack wrote.
    pub order: Order,
}

/// What a worker says on standard output when it serves.
pub const READY: &str = "ready";

/// Does what standard input says. The last line on standard output is [`READY`], or says why it ended.
pub fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            last_words(&error);
            ExitCode::FAILURE
        }
    }
}

/// Tells the broker why this worker ends, and the log if there is no broker.
fn last_words(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        log::error!("{text}");
    }
}

fn work() -> Result<(), String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read what to do: {error}"))?;
    let task: Task =
        toml::from_str(&text).map_err(|error| format!("cannot read what to do: {error}"))?;
    let counters = Counters::take(&task.counters)
        .map_err(|error| format!("cannot take {}: {error}", task.counters.display()))?;
    let counters = Arc::new(counters);
    counters.set(Counter::Process, std::process::id().into());
    let mut rings = Vec::new();
    for (index, &(reference, port)) in task.rings.iter().enumerate() {
        let ring = connect::ring(task.domain, reference, port);
        rings.push(ring.map_err(|fault| format!("ring {index}: {fault}"))?);
    }
    serve::serve(&task, rings, &counters)
}
