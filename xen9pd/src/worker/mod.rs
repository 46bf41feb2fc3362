//! A worker: the process that serves one connection of one device.
//!
//! It maps the rings, opens the share, and locks itself in; from then on it can do nothing but work in that share and send
//! events to that domain. When it ends, however it ends, Linux unmaps and unbinds everything: another connection is another
//! process. It does not need the broker, so that guests do not notice when that one is restarted.

pub mod connect;
pub mod counters;
pub mod direct;
mod lane;
mod serve;
mod share;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};

use p9_server::{Limits, Node, Policy, Rights, Server};
use serde::{Deserialize, Serialize};
use signal_hook::consts::SIGTERM;

use crate::broker::nodes::Order;
use crate::config::Config;
use crate::host::{HostTree, Ledger};
use crate::journal;
use crate::sandbox::{self, Parted, Plan};
use crate::xen::{evtchn, gntdev};
use counters::{Counter, Counters};
use direct::Direct;
use serve::{Connection, Ends};
use share::Share;

/// Descriptors that a worker may have: fids, open files, and few others.
const MAX_DESCRIPTORS: u64 = 16_384;

/// What the broker wants of a worker. It comes on standard input, as TOML.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The domain that is served.
    pub domain: u16,
    /// Its rings: reference of the index page, event channel.
    pub rings: Vec<(u32, u32)>,
    /// The file for the counters.
    pub counters: PathBuf,
    /// The directory of the files for what shares hold.
    #[serde(default)]
    pub ledgers: PathBuf,
    /// The file with the configuration, if there is one.
    pub config: Option<PathBuf>,
    /// What the toolstack wrote.
    pub order: Order,
}

/// What a worker says on standard output when it serves.
pub const READY: &str = "ready";

/// Serves the directory that standard input names, from inside the sandbox. `label`: what the log calls it.
pub fn main(label: &str) -> ExitCode {
    // First, as there may be nothing to serve yet, and it takes its time.
    let parted = sandbox::part(&[evtchn::NOTIFY_REQUEST, gntdev::UNMAP_REQUEST]);
    serve(label, |task| {
        sandboxed(task, parted.map_err(|error| error.to_string())?)
    })
}

/// Serves what `share` makes of the task that standard input has. The last line on standard output is [`READY`], or says why
/// the worker ended.
pub fn serve<P>(label: &str, share: impl FnOnce(&Task) -> Result<P, String>) -> ExitCode
where
    P: Policy + 'static,
    P::Node: Send,
    <P::Node as Node>::File: Direct,
    Server<P>: Send,
{
    journal::set_process_peer(label);
    // The program is run by way of /proc, where it has no name.
    let _ = rustix::thread::set_name(c"xen9pd-worker");
    // What is meant for the broker, such as ^C, is not for workers. And Linux shares out the processors among sessions
    // (sched_autogroup), so a guest whose worker has many busy threads takes no time away from others.
    let _ = rustix::process::setsid();
    match work(share) {
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

fn work<P>(share: impl FnOnce(&Task) -> Result<P, String>) -> Result<(), String>
where
    P: Policy + 'static,
    P::Node: Send,
    <P::Node as Node>::File: Direct,
    Server<P>: Send,
{
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read what to do: {error}"))?;
    if text.is_empty() {
        // The broker has ended.
        return Ok(());
    }
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
    // In the sandbox no sockets are made.
    let (stop, end) = UnixStream::pair().map_err(|error| error.to_string())?;
    signal_hook::low_level::pipe::register(SIGTERM, end.try_clone().map_err(|e| e.to_string())?)
        .map_err(|error| error.to_string())?;
    let share = share(&task)?;
    let (connection, ends) = Connection::new(share, Limits::default(), rings, &counters);
    counters.set(Counter::Serving, 1);
    // The broker may be gone, which is no reason not to serve.
    let _ = writeln!(std::io::stdout(), "{READY}");
    let why = wait(stop, end, ends);
    connection.close();
    why
}

/// Enters the sandbox with the directory that the task names.
fn sandboxed(task: &Task, parted: Parted) -> Result<Share, String> {
    let config = match &task.config {
        Some(file) => Config::load(file).map_err(|problems| {
            let first = problems.first().map(ToString::to_string);
            format!("{}: {}", file.display(), first.unwrap_or_default())
        })?,
        None => Config::default(),
    };
    let (directory, options) = config.open(Path::new(&task.order.path))?;
    let options = task.order.restrict(options);
    let ledger = match options.limits.counts() {
        true => Some(
            Ledger::shared(&task.ledgers, &directory)
                .map_err(|error| format!("cannot count in {}: {error}", task.ledgers.display()))?,
        ),
        false => None,
    };
    let plan = Plan {
        shares: vec![(directory, options)],
        max_descriptors: MAX_DESCRIPTORS,
    };
    let entered = sandbox::enter(plan, parted).map_err(|error| error.to_string())?;
    let root = entered.roots.into_iter().next();
    let root = root.ok_or("the sandbox has no share")?;
    let tree = HostTree::new(root, entered.proc, options, ledger)
        .map_err(|error| format!("cannot share {}: {error}", task.order.path))?;
    Ok(Share::new(tree, Rights::ReadWrite))
}

/// Waits for the end, which is the broker's wish, or has a reason.
fn wait(mut stop: UnixStream, mut end: UnixStream, ends: Ends) -> Result<(), String> {
    let (why, reason) = mpsc::channel();
    std::thread::spawn(move || {
        if let Ok((ring, broken)) = ends.recv() {
            let _ = why.send(format!("ring {ring}: {broken}"));
            let _ = end.write_all(&[0]);
        }
    });
    // A byte, by the signal or by the thread.
    stop.read_exact(&mut [0])
        .map_err(|error| format!("waiting for the end: {error}"))?;
    match reason.try_recv() {
        Ok(why) => Err(why),
        Err(_) => Ok(()),
    }
}
