//! xen9pd beside QEMU: the same guests on both.

use super::data::{Column, Measure, Results};
use super::report::{Unit, WORK, digits, shown};
use super::table::Table;
use crate::domain::Kind;

/// The aim for our guest on xen9pd: how many times as fast as on QEMU, row by row.
const AIMS: &[(&str, f64)] = &[
    ("seq-read", 1.6),
    ("seq-write", 1.4),
    ("rand-read-1", 3.8),
    ("rand-read-16", 9.0),
    ("create", 5.0),
    ("open-read", 5.0),
    ("rename", 5.0),
    ("unlink", 4.5),
    ("stat", 8.0),
    ("list", 12.0),
    ("copy-tree", 5.0),
];

/// The small operations among them.
const SMALL: &[&str] = &["create", "open-read", "rename", "unlink", "stat", "list"];

/// The aim for our guest on xen9pd beside Linux on QEMU, in small operations and in bulk.
const TO_LINUX: [f64; 2] = [20.0, 3.0];

/// The aim for Linux on xen9pd beside Linux on QEMU, in small operations.
const LINUX_TO_LINUX: f64 = 2.0;

/// The part of the floor's speed that xen9pd is to have.
const TO_FLOOR: f64 = 0.7;

/// How many times less of dom0's processor time a request is to take than on QEMU.
const DOM0: f64 = 4.0;

/// How many times as much `than` takes as `column`.
fn times(
    results: &Results,
    kind: Kind,
    name: &str,
    [column, than]: [Column; 2],
    measure: Measure,
) -> Option<f64> {
    let of = |column| results.median(kind, column, name, measure);
    Some(of(than)? / of(column)?)
}

const TO_OURS: [Column; 2] = [Column::OursXen9pd, Column::Ours];
const TO_LINUX_BEST: [Column; 2] = [Column::OursXen9pd, Column::LinuxBest];
const LINUX: [Column; 2] = [Column::LinuxXen9pd, Column::LinuxBest];
const FLOOR: [Column; 2] = [Column::OursXen9pd, Column::Floor];

/// The tables of a type of domain; nothing if nothing was measured on xen9pd.
pub fn section(results: &Results, kind: Kind) -> String {
    let title = kind.name().to_uppercase();
    let mut time = Table::new(&[
        "",
        "unit",
        "xen9p on QEMU",
        "xen9p on xen9pd",
        "Linux on QEMU",
        "Linux on xen9pd",
        "floor",
        "xen9p, to QEMU",
        "aim",
        "xen9p, to Linux on QEMU",
        "Linux, to QEMU",
        "of the floor",
    ]);
    let mut dom0 = Table::new(&[
        "",
        "per",
        "xen9p on QEMU",
        "xen9p on xen9pd",
        "ratio",
        "Linux on QEMU",
        "Linux on xen9pd",
        "ratio",
        "floor",
    ]);
    let columns = [
        Column::Ours,
        Column::OursXen9pd,
        Column::LinuxBest,
        Column::LinuxXen9pd,
        Column::Floor,
    ];
    for work in WORK {
        let value = |column, measure| results.median(kind, column, work.name, measure);
        if value(Column::OursXen9pd, Measure::Time).is_none() {
            continue;
        }
        let ratio = |columns, measure| {
            let ratio = times(results, kind, work.name, columns, measure);
            ratio.map_or("–".to_owned(), |ratio| format!("**{}**", digits(ratio)))
        };
        let of_time = |column| {
            let value = value(column, Measure::Time);
            value.map_or("–".to_owned(), |value| digits(shown(work.unit, value)))
        };
        let of_dom0 = |column| {
            let value = value(column, Measure::Dom0);
            value.map_or("–".to_owned(), |value| digits(value / 1e6))
        };
        let (unit, per) = match work.unit {
            Unit::Rate => ("MiB/s", "MiB"),
            Unit::Operation => ("ms", "op"),
        };
        let aim = AIMS.iter().find(|(name, _)| *name == work.name);
        let mut row = vec![work.what.to_owned(), unit.to_owned()];
        row.extend(columns.map(of_time));
        row.push(ratio(TO_OURS, Measure::Time));
        row.push(aim.map_or("–".to_owned(), |(_, aim)| digits(*aim)));
        row.extend([TO_LINUX_BEST, LINUX, FLOOR].map(|columns| ratio(columns, Measure::Time)));
        time.row(row);
        if work.name == "first-byte" {
            continue;
        }
        dom0.row(vec![
            work.what.to_owned(),
            per.to_owned(),
            of_dom0(Column::Ours),
            of_dom0(Column::OursXen9pd),
            ratio(TO_OURS, Measure::Dom0),
            of_dom0(Column::LinuxBest),
            of_dom0(Column::LinuxXen9pd),
            ratio(LINUX, Measure::Dom0),
            of_dom0(Column::Floor),
        ]);
    }
    if time.is_empty() {
        return String::new();
    }
    format!(
        "\n## {title}: xen9pd beside QEMU\n\n\
         The same guests on both backends, by turns; of Linux the best settings. Ratios: how many times as fast. The floor is our guest \
         on xen9pd's\nrings with files in the worker's memory; the last column is the part of its speed that xen9pd has.\n\n{}\n\
         Milliseconds of dom0's processor time per MiB or operation. Ratio: how many times less on xen9pd.\n\n{}",
        time.finish(),
        dom0.finish()
    )
}

/// An aim: what it is, the ratio, and what was measured.
pub type Aim = (String, f64, Option<f64>);

/// Every aim for a type of domain.
pub fn aims(results: &Results, kind: Kind) -> Vec<Aim> {
    let mut aims = Vec::new();
    for work in WORK {
        let Some((_, aim)) = AIMS.iter().find(|(name, _)| *name == work.name) else {
            continue;
        };
        let mut judge = |what: &str, aim, columns, measure| {
            let found = times(results, kind, work.name, columns, measure);
            aims.push((format!("{} on xen9pd, {what}", work.what), aim, found));
        };
        judge("to ours on QEMU", *aim, TO_OURS, Measure::Time);
        judge("to the floor", TO_FLOOR, FLOOR, Measure::Time);
        judge(
            "processor time of dom0, to QEMU's",
            DOM0,
            TO_OURS,
            Measure::Dom0,
        );
        let small = SMALL.contains(&work.name);
        if small || work.bulk {
            let aim = TO_LINUX[usize::from(work.bulk)];
            judge("to Linux on QEMU", aim, TO_LINUX_BEST, Measure::Time);
        }
        if small {
            judge(
                "Linux, to Linux on QEMU",
                LINUX_TO_LINUX,
                LINUX,
                Measure::Time,
            );
        }
    }
    aims
}

#[cfg(test)]
mod tests {
    use super::super::data::{Row, Server};
    use super::*;

    #[test]
    fn a_guest_is_compared_with_the_same_one_on_the_other_backend() {
        let mut results = Results::default();
        for (server, time) in [
            (Server::Qemu, 90.0),
            (Server::Xen9pd, 10.0),
            (Server::Floor, 8.0),
        ] {
            let row = Row {
                column: Column::Ours.on(server),
                name: "stat".to_owned(),
                units: 1.0,
                time,
                guest: time,
                dom0: time,
                requests: 1.0,
            };
            results.add(Kind::Pv, vec![row]);
        }
        let aims = aims(&results, Kind::Pv);
        let found = |what: &str| {
            let aim = aims
                .iter()
                .find(|(name, ..)| name.starts_with("stat") && name.ends_with(what));
            aim.and_then(|(.., found)| *found)
        };
        assert_eq!(found("to ours on QEMU"), Some(9.0));
        assert_eq!(found("to the floor"), Some(0.8));
        assert_eq!(found("to Linux on QEMU"), None);
        let text = section(&results, Kind::Pv);
        assert!(text.contains("**9.00**"), "{text}");
        assert_eq!(section(&results, Kind::Pvh), "");
    }
}
