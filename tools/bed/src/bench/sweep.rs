//! `make bench-sweep`: the same work with other settings of the connection, for the choice of the defaults.

use std::fs;

use super::data::{Column, Measure, Results};
use super::report::digits;
use super::stage::Stage;
use super::table::Table;
use super::{kinds, report};
use crate::host::{Context, Result};
use crate::{Settings, dom0, say};

/// Number of rings, page order, and the largest message where it is not what the order allows.
const SETTINGS: &[(u32, u32, Option<u32>)] = &[
    (1, 5, None),
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

/// The columns: rows of the workload, and whether they are MiB per second.
const COLUMNS: &[(&str, &str, bool)] = &[
    ("first-byte", "first byte, ms", false),
    ("seq-read", "read, MiB/s", true),
    ("seq-write", "write, MiB/s", true),
    ("rand-read-1", "4 KiB, ms", false),
    ("rand-read-4", "4 at a time, ms", false),
    ("rand-read-16", "16 at a time, ms", false),
    ("rand-read-64", "64 at a time, ms", false),
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
        let names = COLUMNS.iter().map(|&(_, name, _)| name);
        let mut table = Table::new(&heads.into_iter().chain(names).collect::<Vec<_>>());
        for (results, &(rings, order, msize)) in all.iter().zip(SETTINGS) {
            let mut row = vec![
                rings.to_string(),
                order.to_string(),
                msize.unwrap_or(1024 << order).to_string(),
                (rings * 4 * ((1 << order) + 1)).to_string(),
            ];
            row.extend(COLUMNS.iter().map(|&(name, _, rate)| {
                let median = results.median(kind, Column::Ours, name, Measure::Time);
                let unit = if rate {
                    report::Unit::Rate
                } else {
                    report::Unit::Operation
                };
                median.map_or("–".to_owned(), |median| {
                    digits(report::shown(unit, median))
                })
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
