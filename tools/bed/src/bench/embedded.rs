//! `make bench-embed`: the library in a kernel of its own, in C, beside the same work in the image.

use std::fs;

use super::data::{Column, Measure, Results};
use super::report::{self, Unit, digits};
use super::stage::Stage;
use super::table::Table;
use super::{facts, kinds};
use crate::domain::Kind;
use crate::host::{Context, Result};
use crate::{Settings, dom0, fail, say};

/// How often each is run.
const ROUNDS: usize = 3;

/// Files are one part in so many of the full amounts: 200 of each kind.
const SCALE: u32 = 5;

/// Rows of the workload, for people, and what their numbers are.
const ROWS: &[(&str, &str, Unit)] = &[
    ("seq-read", "read 64 MiB, 1 MiB calls, MiB/s", Unit::Rate),
    ("seq-write", "write 64 MiB, sync, MiB/s", Unit::Rate),
    ("seq-read-4k", "read 2 MiB, 4 KiB calls, MiB/s", Unit::Rate),
    (
        "seq-write-4k",
        "write 2 MiB, 4 KiB calls, sync, MiB/s",
        Unit::Rate,
    ),
    ("rand-read-1", "read 4 KiB anywhere, ms", Unit::Operation),
    ("create", "create, write 1 KiB, close, ms", Unit::Operation),
    ("open-read", "open, read 1 KiB, close, ms", Unit::Operation),
    ("rename", "rename, ms", Unit::Operation),
    ("unlink", "unlink, ms", Unit::Operation),
    ("names", "list, an entry, ms", Unit::Operation),
    ("mounted", "kernel's start to mounted, ms", Unit::Operation),
    (
        "first-byte",
        "domain's start to the first byte, ms",
        Unit::Operation,
    ),
];

/// Runs both by turns and writes the table.
pub fn run(settings: &Settings) -> Result<u8> {
    if !settings.root.join("target/embed-c.elf").exists() {
        return Err(fail!(
            "the C library is not built here: `make capi` says why"
        ));
    }
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    let mut stage = Stage::new(settings, &image, SCALE)?;
    for name in ["embed-c.elf", "embed-c-pv.elf"] {
        stage.bring(&settings.root.join("target").join(name), name)?;
    }
    let rounds = settings.rounds.unwrap_or(ROUNDS);
    let (mut ours, mut embedded) = (Results::default(), Results::default());
    let mut load = Vec::new();
    let kinds = kinds(settings);
    for round in 0..rounds {
        say!("round {} of {rounds}", round + 1);
        for &kind in &kinds {
            load.push(facts::load());
            // Another one first in each round.
            for turn in 0..2 {
                match (round + turn) % 2 {
                    0 => ours.add(kind, stage.ours(kind)?),
                    _ => embedded.add(kind, stage.embedded(kind)?),
                }
            }
        }
    }
    let mut text =
        format!("Medians of {rounds} runs; load of the machine before each: {load:.1?}\n");
    for kind in kinds {
        text += &format!(
            "\n{}:\n\n{}",
            kind.name().to_uppercase(),
            table(kind, &ours, &embedded)
        );
    }
    let path = settings.root.join("target/bench");
    fs::create_dir_all(&path).during("create", &path)?;
    let path = path.join("embedded.md");
    fs::write(&path, &text).during("write", &path)?;
    println!("{text}");
    say!("the table is in target/bench/embedded.md");
    Ok(0)
}

fn table(kind: Kind, ours: &Results, embedded: &Results) -> String {
    let mut table = Table::new(&["", "image", "C library", "speed of the second"]);
    for &(name, what, unit) in ROWS {
        let of = |results: &Results| results.median(kind, Column::Ours, name, Measure::Time);
        let (Some(image), Some(library)) = (of(ours), of(embedded)) else {
            continue;
        };
        table.row(vec![
            what.to_owned(),
            digits(report::shown(unit, image)),
            digits(report::shown(unit, library)),
            format!("{:.2}", image / library),
        ]);
    }
    table.finish()
}
