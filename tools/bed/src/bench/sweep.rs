//! `make bench-sweep`: the same work with other settings of the connection, for the choice of the defaults.

use std::fs;

use super::data::Measure::{self, Dom0, Guest, Time};
use super::data::{Column, Results};
use super::kinds;
use super::report::Unit::{self, Operation, Rate};
use super::report::{digits, shown};
use super::stage::Stage;
use super::table::Table;
use crate::host::{Context, Result};
use crate::{Settings, dom0, say};

/// Number of rings, page order, and the largest message where it is not what the order allows.
const SETTINGS: &[(u32, u32, Option<u32>)] = &[
    (1, 2, None),
    (1, 3, None),
    (1, 4, None),
    (1, 5, None),
    (1, 6, None),
    (1, 7, None),
    (1, 9, None),
    (2, 5, None),
    (2, 7, None),
    (2, 9, None),
    (4, 5, None),
    (4, 7, None),
    (4, 9, None),
    (8, 3, None),
    (8, 5, None),
    (8, 7, None),
    (8, 8, None),
    (8, 9, None),
    (8, 9, Some(64 << 10)),
    (8, 9, Some(128 << 10)),
    (8, 9, Some(256 << 10)),
];

/// How often each is run.
const ROUNDS: usize = 3;

/// The columns: a row of the workload, what is shown of it, and how.
const COLUMNS: &[(&str, &str, Measure, Unit)] = &[
    ("first-byte", "first byte, ms", Time, Operation),
    ("seq-read", "read, MiB/s", Time, Rate),
    ("seq-read", "guest's ms/MiB", Guest, Operation),
    ("seq-read", "dom0's ms/MiB", Dom0, Operation),
    ("seq-write", "write, MiB/s", Time, Rate),
    ("seq-write", "guest's ms/MiB", Guest, Operation),
    ("seq-write", "dom0's ms/MiB", Dom0, Operation),
    ("rand-read-1", "4 KiB, ms", Time, Operation),
    ("rand-read-4", "4 at a time, ms", Time, Operation),
    ("rand-read-16", "16 at a time, ms", Time, Operation),
    ("rand-read-64", "64 at a time, ms", Time, Operation),
];

/// Runs all settings and writes the table.
pub fn run(settings: &Settings) -> Result<u8> {
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    let mut stage = Stage::new(settings, &image, u32::MAX)?;
    let rounds = settings.rounds.unwrap_or(ROUNDS);
    let mut all: Vec<Results> = SETTINGS.iter().map(|_| Results::default()).collect();
    let kinds = kinds(settings);
    for round in 0..rounds {
        say!("round {} of {rounds}", round + 1);
        for (results, (rings, order, msize)) in all.iter_mut().zip(SETTINGS) {
            let msize = msize.map_or(String::new(), |msize| format!(" msize={msize}"));
            for &kind in &kinds {
                let options = format!("rings={rings} order={order}{msize}");
                results.add(kind, stage.sweep(kind, &options)?);
            }
        }
    }
    let mut text = String::new();
    for kind in kinds {
        let heads = ["rings", "order", "msize", "memory, KiB"];
        let names = COLUMNS.iter().map(|&(_, name, ..)| name);
        let mut table = Table::new(&heads.into_iter().chain(names).collect::<Vec<_>>());
        for (results, &(rings, order, msize)) in all.iter().zip(SETTINGS) {
            let mut row = vec![
                rings.to_string(),
                order.to_string(),
                msize.unwrap_or(1024 << order).to_string(),
                (rings * 4 * ((1 << order) + 1)).to_string(),
            ];
            row.extend(COLUMNS.iter().map(|&(name, _, measure, unit)| {
                let median = results.median(kind, Column::Ours, name, measure);
                median.map_or("–".to_owned(), |median| digits(shown(unit, median)))
            }));
            table.row(row);
        }
        text += &format!(
            "\n{}, medians of {rounds} runs:\n\n{}",
            kind.name().to_uppercase(),
            table.finish()
        );
    }
    let path = settings.root.join("target/bench");
    fs::create_dir_all(&path).during("create", &path)?;
    let path = path.join("sweep.md");
    fs::write(&path, &text).during("write", &path)?;
    println!("{text}");
    say!("the table is in target/bench/sweep.md");
    Ok(0)
}
