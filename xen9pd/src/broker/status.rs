//! How things stand, for people and for programs.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::device::Device;
use super::nodes::Key;
use crate::worker::counters::{Counter, NAMES, Snapshot};
use crate::xen::store::Store;

/// How long an answer may take, in either direction.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How things stand.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The broker's version.
    pub version: String,
    /// The broker's process.
    pub process: u32,
    /// Watches that the broker has in xenstore.
    pub watches: usize,
    /// Descriptors that the broker has.
    pub descriptors: usize,
    /// Workers that live.
    pub workers: usize,
    /// The devices.
    pub devices: Vec<DeviceReport>,
}

/// How a device stands.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeviceReport {
    /// The domain it is for.
    pub domain: u16,
    /// The domain's name.
    pub name: String,
    /// Its number.
    pub device: u32,
    /// The kind of its backend: `xen_9pfs` or `9pfs`.
    pub kind: String,
    /// What the frontend calls the share.
    pub tag: String,
    /// The directory.
    pub path: String,
    /// The own state.
    pub backend: String,
    /// The frontend's state.
    pub frontend: String,
    /// Connections that were made since the broker's start.
    pub connections: u64,
    /// Descriptors of its worker, if there is one.
    pub descriptors: Option<usize>,
    /// What its worker counts.
    pub counts: BTreeMap<String, u64>,
}

fn descriptors(process: &str) -> Option<usize> {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    // One of them is the directory, in the own process.
    Some(files.count() - usize::from(process == "self"))
}

impl Report {
    /// How things stand now.
    pub fn of(devices: &BTreeMap<Key, Device>, store: &Store) -> Report {
        let workers = devices.values().filter(|device| device.worker().is_some());
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            watches: store.watches(),
            descriptors: descriptors("self").unwrap_or(0),
            workers: workers.count(),
            devices: devices
                .iter()
                .map(|(key, device)| DeviceReport::of(key, device))
                .collect(),
        }
    }

    /// Answers with it.
    pub fn send(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(&serde_json::to_vec(self)?)
    }

    /// Asks the broker whose files are in this directory.
    ///
    /// # Errors
    /// There is none that answers.
    pub fn ask(directory: &Path) -> io::Result<Report> {
        let mut stream = UnixStream::connect(directory.join("status"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

impl DeviceReport {
    fn of(key: &Key, device: &Device) -> DeviceReport {
        let order = device.order();
        let worker = device.worker();
        let counts = worker.and_then(|worker| worker.counts());
        let all = |counts: Snapshot| {
            let all = NAMES.iter();
            all.map(|&(counter, name)| (name.to_owned(), counts.get(counter)))
                .collect()
        };
        DeviceReport {
            domain: key.domain,
            name: order.name.clone(),
            device: key.device,
            kind: key.kind.name().to_owned(),
            tag: order.tag.clone(),
            path: order.path.clone(),
            backend: device.states.0.to_string(),
            frontend: device.states.1.to_string(),
            connections: device.connections,
            descriptors: worker.and_then(|worker| descriptors(&worker.number.to_string())),
            counts: counts.map(all).unwrap_or_default(),
        }
    }

    fn count(&self, counter: Counter) -> u64 {
        let name = NAMES.iter().find(|(known, _)| *known == counter);
        name.and_then(|(_, name)| self.counts.get(*name))
            .copied()
            .unwrap_or(0)
    }
}

/// Prints how things stand: for people, or as JSON.
///
/// # Errors
/// No broker answers; or the output can't be written.
pub fn print(directory: &Path, json: bool, out: &mut impl Write) -> io::Result<()> {
    let report = Report::ask(directory)?;
    if json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        return writeln!(out);
    }
    // The same a second later, for what happens per second.
    std::thread::sleep(Duration::from_secs(1));
    let later = Report::ask(directory)?;
    writeln!(
        out,
        "xen9pd {}, process {}: {} devices, {} workers, {} watches, {} descriptors",
        later.version,
        later.process,
        later.devices.len(),
        later.workers,
        later.watches,
        later.descriptors
    )?;
    for device in &later.devices {
        let name = device.name.escape_default();
        let (tag, path) = (device.tag.escape_default(), device.path.escape_default());
        writeln!(
            out,
            "domain {} {name}, device {} ({}): {tag} = {path}, backend {}, frontend {}",
            device.domain, device.device, device.kind, device.backend, device.frontend
        )?;
        if device.counts.is_empty() {
            continue;
        }
        let before = report.devices.iter().find(|before| {
            (before.domain, before.device, &before.kind)
                == (device.domain, device.device, &device.kind)
        });
        let rate = |counter| {
            let before = before.map_or(0, |before| before.count(counter));
            device.count(counter).saturating_sub(before)
        };
        writeln!(
            out,
            "    worker {}: {} requests ({}/s), {} bytes in ({}/s), {} out ({}/s), {} errors, {} beyond limits; \
             {} fids, {} open files, {} locks, {} descriptors",
            device.count(Counter::Process),
            device.count(Counter::Requests),
            rate(Counter::Requests),
            device.count(Counter::BytesIn),
            rate(Counter::BytesIn),
            device.count(Counter::BytesOut),
            rate(Counter::BytesOut),
            device.count(Counter::Errors),
            device.count(Counter::Limited),
            device.count(Counter::Fids),
            device.count(Counter::OpenFiles),
            device.count(Counter::Locks),
            device.descriptors.unwrap_or(0),
        )?;
    }
    Ok(())
}
