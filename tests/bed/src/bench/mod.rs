//! `make bench`: xen9p beside Linux, in the same dom0, by turns.

mod data;
mod report;
mod stage;

use crate::domain::Kind;
use crate::host::{Context, Result};
use crate::{Settings, dom0, say};

use data::{Column, Results};
use stage::Stage;

/// How often everything is run.
const ROUNDS: usize = 5;

/// The amounts of files are one part in so many of the full ones, so that all is over in time.
const SCALE: u32 = 20;

/// The mounts of a Linux guest.
const LINUX: [Column; 3] = [Column::LinuxBest, Column::LinuxDefault, Column::LinuxCached];

/// Runs everything and writes the report.
pub fn run(settings: &Settings) -> Result<u8> {
    let image = dom0::prepare(&settings.cache())?;
    let rounds = settings.rounds.unwrap_or(ROUNDS);
    let scale = settings.scale.unwrap_or(SCALE);
    let mut stage = Stage::new(settings, &image, scale)?;
    let mut results = Results::default();
    let kinds: Vec<Kind> = [Kind::Pv, Kind::Pvh]
        .into_iter()
        .filter(|kind| {
            settings
                .only
                .as_deref()
                .is_none_or(|only| only == kind.name())
        })
        .collect();
    for round in 0..rounds {
        for &kind in &kinds {
            say!("round {} of {rounds}, {}", round + 1, kind.name());
            let rows = stage.ours(kind, "")?;
            results.add(kind, rows);
            // Another one first in each round.
            let mut modes = LINUX;
            modes.rotate_left(round % LINUX.len());
            let rows = stage.linux(kind, &modes)?;
            results.add(kind, rows);
        }
    }
    let directory = settings.root.join("target/bench");
    std::fs::create_dir_all(&directory).during("create", &directory)?;
    print!("{}", report::table(&results));
    Ok(0)
}
