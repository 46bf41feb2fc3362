//! `make bench-transports`: how long bytes take from one guest to another, in each way that Xen has; Argo's rows are missing where
//! it is built without. What each way costs in hypercalls and copies is counted on the simulated Xen; time is only to be had here.

use std::collections::BTreeMap;
use std::fs;

use super::domains::{next_number, only};
use super::lab::{Lab, ends_with};
use crate::bench::facts;
use crate::bench::table::Table;
use crate::domain::Kind;
use crate::host::{Context, Result};
use crate::{Settings, dom0, fail, say, tail};

/// Both guests, which differ in their command lines.
const IMAGE: &str = "bench-transports";

/// How many pairs of guests measure.
const ROUNDS: usize = 3;

/// Ways, as the image names them and for people.
const WAYS: &[(&str, &str)] = &[
    ("asked", "asked and answered, no bytes"),
    ("vchan-4K", "vchan, rings of 4 KiB"),
    ("vchan-256K", "vchan, rings of 256 KiB"),
    ("grant-copy", "grant copy"),
    ("map-each", "mapped for each transfer"),
    ("map-once", "mapped once"),
    ("argo-256K", "Argo, a ring of 256 KiB"),
    ("vchan-stream", "vchan of 256 KiB, nothing asked"),
    ("argo-stream", "Argo, nothing asked"),
    ("two-copies", "two copies in memory"),
];

const SIZES: &[(u64, &str)] = &[
    (64, "64 B"),
    (4096, "4 KiB"),
    (64 << 10, "64 KiB"),
    (1 << 20, "1 MiB"),
];

/// Nanoseconds of each round, by way and size.
type Times = BTreeMap<(String, u64), Vec<f64>>;

/// Runs the guests and prints a table for each type.
pub fn run(settings: &Settings) -> Result<u8> {
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    let mut lab = Lab::new(settings, &image)?;
    let rounds = settings.rounds.unwrap_or(ROUNDS);
    let mut load = Vec::new();
    let mut all = [(Kind::Pv, Times::new()), (Kind::Pvh, Times::new())];
    for round in 0..rounds {
        say!("round {} of {rounds}", round + 1);
        for (kind, times) in &mut all {
            load.push(facts::load());
            lab.kind = *kind;
            measure(&mut lab, times)?;
        }
    }
    let mut text =
        format!("Medians of {rounds} runs; load of the machine before each: {load:.1?}\n");
    for (kind, times) in &all {
        let kind = kind.name().to_uppercase();
        text += &format!(
            "\n{kind}, microseconds, and how many times what two copies in memory take:\n\n{}",
            table(times)
        );
    }
    let path = settings.root.join("target/bench");
    fs::create_dir_all(&path).during("create", &path)?;
    let path = path.join("transports.md");
    fs::write(&path, &text).during("write", &path)?;
    println!("{text}");
    say!("the table is in target/bench/transports.md");
    Ok(0)
}

/// One pair of guests: the one asks the other for bytes.
fn measure(lab: &mut Lab<'_>, times: &mut Times) -> Result<()> {
    let first = next_number(lab)?;
    let sender = lab.guest_of(IMAGE, &format!("send {}", first + 1))?;
    let taker = lab.guest_of(IMAGE, &format!("take {first}"))?;
    let mut sender = lab.start(&sender)?;
    lab.console_of(&mut sender, "serving")?;
    let ended = lab.run(&taker)?;
    ends_with(&ended, 0).map_err(|error| {
        let (taker, sender) = (&ended.console, sender.console());
        fail!(
            "{error}\n{}\n{}",
            tail::end(taker, 10),
            tail::end(&sender, 5)
        )
    })?;
    ends_with(&lab.end_of(&mut sender)?, 0)?;
    only(lab, &[])?;
    for line in ended.console.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["time", way, size, nanoseconds] = words[..]
            && let (Ok(size), Ok(nanoseconds)) = (size.parse(), nanoseconds.parse())
        {
            let key = (way.to_owned(), size);
            times.entry(key).or_default().push(nanoseconds);
        }
    }
    Ok(())
}

fn table(times: &Times) -> String {
    let median = |way: &str, size: u64| {
        let mut of = times.get(&(way.to_owned(), size))?.clone();
        of.sort_by(f64::total_cmp);
        of.get(of.len() / 2).copied()
    };
    let heads = SIZES.iter().map(|(_, words)| *words);
    let mut table = Table::new(&["way"].into_iter().chain(heads).collect::<Vec<_>>());
    for (way, words) in WAYS {
        let cells: Vec<String> = SIZES
            .iter()
            .filter_map(|&(size, _)| {
                let (took, copies) = (median(way, size)?, median("two-copies", size)?);
                Some(format!("{:.1} ({:.2})", took / 1000.0, took / copies))
            })
            .collect();
        if cells.len() == SIZES.len() {
            table.row([vec![(*words).to_owned()], cells].concat());
        }
    }
    table.finish()
}
