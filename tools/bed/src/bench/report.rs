//! The report: as tables for people, and as a list for programs.

use std::fmt::Write;

use super::data::{COLUMNS, Column, Measure, Results};
use super::facts::Facts;
use super::table::Table;
use super::{backends, caches};
use crate::domain::Kind;

/// Both types of domain, as the tables show them.
pub const KINDS: [Kind; 2] = [Kind::Pv, Kind::Pvh];

/// What a row's numbers are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// MiB per second; more is better.
    Rate,
    /// Milliseconds for one operation; less is better.
    Operation,
}

/// A row of the tables.
pub struct Work {
    /// Its name, between bed and guests and in report.json.
    pub name: &'static str,
    /// What is done, for people.
    pub what: &'static str,
    /// What the numbers are.
    pub unit: Unit,
    /// How many times Linux's best we want to be, PV and PVH.
    pub aim: Option<[f64; 2]>,
    /// Whether it is bulk, which has aims against the limit and Linux's defaults as well.
    pub bulk: bool,
}

const fn work(
    name: &'static str,
    what: &'static str,
    unit: Unit,
    aim: Option<[f64; 2]>,
    bulk: bool,
) -> Work {
    Work {
        name,
        what,
        unit,
        aim,
        bulk,
    }
}

/// All rows, in order.
pub const WORK: &[Work] = &[
    work(
        "seq-read",
        "read 64 MiB, 1 MiB calls",
        Unit::Rate,
        Some([1.1, 1.6]),
        true,
    ),
    work(
        "seq-write",
        "write 64 MiB, 1 MiB calls, sync",
        Unit::Rate,
        Some([1.1, 1.6]),
        true,
    ),
    work(
        "seq-read-4k",
        "read 2 MiB, 4 KiB calls",
        Unit::Rate,
        None,
        false,
    ),
    work(
        "seq-write-4k",
        "write 2 MiB, 4 KiB calls, sync",
        Unit::Rate,
        None,
        false,
    ),
    work(
        "rand-read-1",
        "read 4 KiB anywhere",
        Unit::Operation,
        Some([1.2, 2.0]),
        false,
    ),
    work(
        "rand-read-16",
        "read 4 KiB anywhere, 16 at a time",
        Unit::Operation,
        Some([1.5, 2.0]),
        false,
    ),
    work(
        "rand-write-1",
        "write 4 KiB anywhere",
        Unit::Operation,
        None,
        false,
    ),
    work(
        "rand-write-16",
        "write 4 KiB anywhere, 16 at a time",
        Unit::Operation,
        None,
        false,
    ),
    work(
        "create",
        "create, write 1 KiB, close",
        Unit::Operation,
        Some([4.0, 4.0]),
        false,
    ),
    work(
        "open-read",
        "open, read 1 KiB, close",
        Unit::Operation,
        Some([2.5, 2.5]),
        false,
    ),
    work("rename", "rename", Unit::Operation, Some([4.0, 4.0]), false),
    work("unlink", "unlink", Unit::Operation, Some([4.0, 4.0]), false),
    work(
        "stat",
        "stat, path of 4 levels",
        Unit::Operation,
        Some([2.0, 2.0]),
        false,
    ),
    work(
        "list",
        "list with metadata, an entry",
        Unit::Operation,
        Some([2.5, 2.5]),
        false,
    ),
    work(
        "copy-tree",
        "copy a tree, a file of 4 KiB",
        Unit::Operation,
        None,
        false,
    ),
    work(
        "first-byte",
        "first file byte after unpause",
        Unit::Operation,
        Some([50.0, 50.0]),
        false,
    ),
];

/// A number of nanoseconds per unit as the row's unit.
pub fn shown(unit: Unit, nanoseconds: f64) -> f64 {
    match unit {
        Unit::Rate => 1e9 / nanoseconds,
        Unit::Operation => nanoseconds / 1e6,
    }
}

/// With three digits that mean something.
pub fn digits(value: f64) -> String {
    let places = match value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.places$}")
}

/// How many times faster (or more sparing) we are than another column.
pub fn ratio(
    results: &Results,
    kind: Kind,
    name: &str,
    than: Column,
    measure: Measure,
) -> Option<f64> {
    let ours = results.median(kind, Column::Ours, name, measure)?;
    Some(results.median(kind, than, name, measure)? / ours)
}

/// The whole report.
pub fn markdown(results: &Results, facts: &Facts) -> String {
    let mut out = String::new();
    out += &facts.introduction();
    out += "\n![How many times as fast as Linux, row by row](report.svg)\n";
    for (index, kind) in KINDS.into_iter().enumerate() {
        if results.is_empty(kind) {
            continue;
        }
        let _ = writeln!(out, "\n## {}: time\n", kind.name().to_uppercase());
        out += "Median of the runs, in brackets the least and the most. MiB/s: more is better. ms: for one operation, less is better.\n\
                Ratio: how many times faster than Linux at its best.\n\n";
        out += &times(results, kind, index);
        out += &caches::compared(results, kind);
        let _ = writeln!(
            out,
            "\n## {}: processor time and requests\n",
            kind.name().to_uppercase()
        );
        out += "Milliseconds of processor time per MiB or operation, medians, without what measuring takes; a dash where that is more\n\
                than what is measured. Ratio: how many times more sparing than Linux at its best.\n\n";
        out += &processors(results, kind);
        out += &backends::section(results, kind);
    }
    out += &facts.rest();
    out += "\n## Aims\n\n";
    out += &aims(results);
    out
}

fn times(results: &Results, kind: Kind, index: usize) -> String {
    let mut table = Table::new(&[
        "",
        "unit",
        "xen9p",
        "xen9p, cache=open",
        "Linux, best",
        "Linux, default",
        "Linux, cache=loose",
        "limit",
        "ratio",
        "aim",
    ]);
    for work in WORK {
        let cell = |column| match results.spread(kind, column, work.name, Measure::Time) {
            None => "–".to_owned(),
            Some(spread) => {
                let value = |nanoseconds| digits(shown(work.unit, nanoseconds));
                let (a, b) = (value(spread.least), value(spread.most));
                let (a, b) = if work.unit == Unit::Rate {
                    (b, a)
                } else {
                    (a, b)
                };
                format!("{} ({a}–{b})", value(spread.median))
            }
        };
        let unit = if work.unit == Unit::Rate {
            "MiB/s"
        } else {
            "ms"
        };
        let mut row = vec![work.what.to_owned(), unit.to_owned()];
        row.extend(Column::ON_QEMU.map(cell));
        row.push(
            ratio(results, kind, work.name, Column::LinuxBest, Measure::Time)
                .map_or("–".into(), |r| format!("**{}**", digits(r))),
        );
        row.push(work.aim.map_or("–".into(), |aim| digits(aim[index])));
        table.row(row);
    }
    table.finish()
}

fn processors(results: &Results, kind: Kind) -> String {
    let mut table = Table::new(&[
        "",
        "per",
        "guest: xen9p",
        "Linux, best",
        "ratio",
        "dom0: xen9p",
        "Linux, best",
        "ratio",
        "limit",
        "requests",
    ]);
    for work in WORK.iter().filter(|work| work.name != "first-byte") {
        let cell = |column, measure| {
            let median = results.median(kind, column, work.name, measure);
            median.map_or("–".to_owned(), |value| digits(value / 1e6))
        };
        let compared = |measure| {
            let ratio = ratio(results, kind, work.name, Column::LinuxBest, measure);
            ratio.map_or("–".to_owned(), |ratio| format!("**{}**", digits(ratio)))
        };
        let unit = if work.unit == Unit::Rate { "MiB" } else { "op" };
        let requests = results.median(kind, Column::Ours, work.name, Measure::Requests);
        table.row(vec![
            work.what.to_owned(),
            unit.to_owned(),
            cell(Column::Ours, Measure::Guest),
            cell(Column::LinuxBest, Measure::Guest),
            compared(Measure::Guest),
            cell(Column::Ours, Measure::Dom0),
            cell(Column::LinuxBest, Measure::Dom0),
            compared(Measure::Dom0),
            cell(Column::Limit, Measure::Dom0),
            requests.map_or("–".to_owned(), |value| format!("{value:.1}")),
        ]);
    }
    table.finish()
}

/// Every aim, and whether it is met.
fn aims(results: &Results) -> String {
    let (mut met, mut missed) = (0, Table::new(&["", "row", "aim", "measured"]));
    let mut judge = |kind: Kind, what: String, aim: f64, found: Option<f64>| {
        let Some(found) = found else { return };
        if found >= aim {
            met += 1;
        } else {
            let row = [kind.name().to_uppercase(), what, digits(aim), digits(found)];
            missed.row(row.to_vec());
        }
    };
    for (index, kind) in KINDS.into_iter().enumerate() {
        for work in WORK {
            let time = |than| ratio(results, kind, work.name, than, Measure::Time);
            if let Some(aim) = work.aim {
                let what = format!("{}, to Linux at its best", work.what);
                judge(kind, what, aim[index], time(Column::LinuxBest));
            }
            if work.bulk {
                let what = format!("{}, to Linux by default", work.what);
                judge(kind, what, 2.3, time(Column::LinuxDefault));
                let what = format!("{}, to the limit", work.what);
                judge(kind, what, 0.95, time(Column::Limit));
            }
            if work.name == "first-byte" {
                continue;
            }
            let used = |measure| ratio(results, kind, work.name, Column::LinuxBest, measure);
            let what = format!("{}, processor time of the guest", work.what);
            judge(kind, what, 2.0, used(Measure::Guest));
            let what = format!("{}, processor time of dom0", work.what);
            judge(kind, what, 1.0, used(Measure::Dom0));
        }
    }
    for kind in KINDS {
        for (what, aim, found) in backends::aims(results, kind) {
            judge(kind, what, aim, found);
        }
    }
    if missed.is_empty() {
        return format!("All {met} are met.\n");
    }
    let lines = missed.finish();
    format!("{met} are met. Not met are, as ratios (more is better):\n\n{lines}")
}

/// The same for programs.
pub fn json(results: &Results, facts: &Facts) -> String {
    let mut entries = Vec::new();
    for kind in KINDS {
        for work in WORK {
            let measures = [
                ("", Measure::Time),
                (" guest-cpu", Measure::Guest),
                (" dom0-cpu", Measure::Dom0),
            ];
            for (suffix, measure) in measures {
                let value = |column| {
                    let median = results.median(kind, column, work.name, measure);
                    median.map(|value| match measure {
                        Measure::Time => shown(work.unit, value),
                        _ => value / 1e6,
                    })
                };
                if value(Column::Ours).is_none() && value(Column::LinuxBest).is_none() {
                    continue;
                }
                let unit = match (measure, work.unit) {
                    (Measure::Time, Unit::Rate) => "MiB/s",
                    (_, Unit::Rate) => "ms/MiB",
                    (_, Unit::Operation) => "ms",
                };
                let ratio = ratio(results, kind, work.name, Column::LinuxBest, measure);
                let name = format!("{}{suffix}", work.name);
                entries.push(entry(
                    &name,
                    kind.name(),
                    Column::ALL.map(value),
                    unit,
                    ratio,
                ));
            }
        }
    }
    entries.extend(facts.entries());
    format!("[\n{}\n]\n", entries.join(",\n"))
}

/// One line of report.json; the values are those of [`Column::ALL`].
pub fn entry(
    name: &str,
    mode: &str,
    values: [Option<f64>; COLUMNS],
    unit: &str,
    ratio: Option<f64>,
) -> String {
    let number =
        |value: Option<f64>| value.map_or("null".to_owned(), |value| format!("{value:.4}"));
    let mut line = format!("  {{\"name\": \"{name}\", \"mode\": \"{mode}\"");
    for (column, value) in Column::ALL.iter().zip(values) {
        let _ = write!(line, ", \"{}\": {}", column.name(), number(value));
    }
    let _ = write!(
        line,
        ", \"unit\": \"{unit}\", \"ratio\": {}}}",
        number(ratio)
    );
    line
}

#[cfg(test)]
mod tests {
    use super::super::data::Row;
    use super::*;

    fn results(ours: f64, linux: f64) -> Results {
        let mut results = Results::default();
        for (column, time) in [(Column::Ours, ours), (Column::LinuxBest, linux)] {
            let row = Row {
                column,
                name: "unlink".to_owned(),
                units: 10.0,
                time: time * 1e7,
                guest: 1e7,
                dom0: 2e7,
                requests: 10.0,
            };
            results.add(Kind::Pv, vec![row]);
        }
        results
    }

    #[test]
    fn a_ratio_above_one_is_better() {
        let text = json(&results(2.0, 8.0), &Facts::default());
        let line = "{\"name\": \"unlink\", \"mode\": \"pv\", \"ours\": 2.0000, \"ours_cached\": null, \"linux_best\": 8.0000, \
                    \"linux_default\": null, \"linux_cached\": null, \"limit\": null, \"ours_xen9pd\": null, \
                    \"linux_xen9pd\": null, \"floor\": null, \"unit\": \"ms\", \"ratio\": 4.0000}";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn an_aim_that_is_missed_is_named() {
        let missed = "unlink, to Linux at its best";
        assert!(!aims(&results(2.0, 8.1)).contains(missed));
        assert!(aims(&results(2.0, 7.9)).contains(missed));
    }

    #[test]
    fn tables_line_up() {
        let mut table = Table::new(&["", "b"]);
        table.row(vec!["long".into(), "1".into()]);
        assert_eq!(
            table.finish(),
            "|      |   b |\n|------|----:|\n| long |   1 |\n"
        );
    }
}
