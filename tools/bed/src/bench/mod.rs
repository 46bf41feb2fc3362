//! `make bench`: xen9p beside Linux, and xen9pd beside QEMU, in the same dom0, by turns.

mod backends;
mod caches;
mod chart;
mod clients;
mod data;
mod embedded;
pub(crate) mod facts;
mod report;
mod stage;
mod sweep;
pub(crate) mod table;

use std::fs;

use crate::domain::Kind;
use crate::host::{Context, Result};
use crate::{Settings, dom0, fail, say};

use data::{Column, Results, Server};
use facts::Facts;
use stage::Stage;

pub use clients::run as clients;
pub use embedded::run as embedded;
pub use sweep::run as sweep;

/// How often everything is run.
const ROUNDS: usize = 5;

/// The amounts of files are one part in so many of the full ones, so that all is over in time.
const SCALE: u32 = 25;

/// The mounts of a Linux guest.
const LINUX: [Column; 3] = [Column::LinuxBest, Column::LinuxDefault, Column::LinuxCached];

/// Domains at once, and what serves them. dom0 has no memory for 64 QEMUs.
const CROWDS: [(Server, usize); 7] = [
    (Server::Qemu, 1),
    (Server::Qemu, 8),
    (Server::Qemu, 32),
    (Server::Xen9pd, 1),
    (Server::Xen9pd, 8),
    (Server::Xen9pd, 32),
    (Server::Xen9pd, 64),
];

/// Memory to look for the smallest that is enough, in MiB, most first.
const SMALL: [u32; 7] = [8, 6, 5, 4, 3, 2, 1];

/// Runs everything and writes the report.
pub fn run(settings: &Settings) -> Result<u8> {
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    let rounds = settings.rounds.unwrap_or(ROUNDS);
    let scale = settings.scale.unwrap_or(SCALE);
    let mut facts = Facts {
        versions: image.versions.clone(),
        rounds,
        scale,
        ..Facts::default()
    };
    let at = |path: &str| settings.root.join(path);
    facts.size("xen9p, the toolbox", &[&at("target/xen9p.elf")])?;
    facts.size(
        "xen9p, an app of one's own (examples/hello.rs)",
        &[&at("target/hello.elf")],
    )?;
    facts.size("Linux, kernel and modules", &[&image.kernel, &image.guest])?;

    let kinds = kinds(settings);
    let mut stage = Stage::new(settings, &image, scale)?;
    let mut results = Results::default();
    for round in 0..rounds {
        for &kind in &kinds {
            say!("round {} of {rounds}, {}", round + 1, kind.name());
            facts.load.push(facts::load());
            stage.serve_by(Server::Qemu)?;
            results.add(kind, stage.ours(kind)?);
            results.add(kind, stage.cached(kind)?);
            results.add(kind, stage.limit(kind)?);
            // Another one first in each round.
            let mut modes = LINUX;
            modes.rotate_left(round % LINUX.len());
            results.add(kind, stage.linux(kind, &modes)?);
            stage.serve_by(Server::Xen9pd)?;
            results.add(kind, stage.ours(kind)?);
            results.add(kind, stage.linux(kind, &[Column::LinuxBest])?);
            stage.serve_by(Server::Floor)?;
            results.add(kind, stage.ours(kind)?);
        }
    }
    stage.serve_by(Server::Qemu)?;
    for &kind in &kinds {
        say!("growth, {}", kind.name());
        let mut growth = Results::default();
        growth.add(kind, stage.growth(kind)?);
        facts.growth.push((kind, growth));
        say!("the smallest memory, {}", kind.name());
        let mut smallest = None;
        for memory in SMALL {
            if !stage.passes(kind, memory)? {
                break;
            }
            smallest = Some(memory);
        }
        let smallest = smallest.ok_or_else(|| fail!("the self-test fails in {} MiB", SMALL[0]))?;
        facts.smallest.push((kind.name(), smallest));
    }
    let crowds = crowds(&mut stage, &mut facts);
    facts.minutes = crate::host::elapsed() / 60.0;
    // What was measured before is not lost with them.
    let status = write(settings, &results, &facts)?;
    crowds.map(|()| status)
}

fn crowds(stage: &mut Stage, facts: &mut Facts) -> Result<()> {
    for (server, domains) in CROWDS {
        say!("{domains} at once");
        stage.serve_by(server)?;
        facts.crowds.push(stage.crowd(Kind::Pvh, domains)?);
    }
    Ok(())
}

/// The types of domain that are wanted: ONLY=pv or pvh, or both.
fn kinds(settings: &Settings) -> Vec<Kind> {
    let wanted = |kind: &Kind| {
        settings
            .only
            .as_deref()
            .is_none_or(|only| only == kind.name())
    };
    report::KINDS.into_iter().filter(wanted).collect()
}

fn write(settings: &Settings, results: &Results, facts: &Facts) -> Result<u8> {
    let directory = settings.root.join("target/bench");
    fs::create_dir_all(&directory).during("create", &directory)?;
    let report = report::markdown(results, facts);
    for (name, text) in [
        ("report.md", &report),
        ("report.json", &report::json(results, facts)),
        ("report.svg", &chart::svg(results)),
    ] {
        let path = directory.join(name);
        fs::write(&path, text).during("write", &path)?;
    }
    println!("{report}");
    say!("report.md, report.json and report.svg are in target/bench");
    Ok(0)
}
