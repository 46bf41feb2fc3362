//! Our cache beside Linux's.

use super::data::{Column, Measure, Results};
use super::report::{WORK, digits};
use crate::domain::Kind;

/// The rows in which a cache has what is asked for.
const CACHED: [&str; 3] = ["rand-read-1", "rand-read-16", "stat"];

/// How the two caches compare; nothing if they were not measured.
pub fn compared(results: &Results, kind: Kind) -> String {
    let rows = WORK.iter().filter(|work| CACHED.contains(&work.name));
    let rows = rows.filter_map(|work| {
        let of = |column| results.median(kind, column, work.name, Measure::Time);
        let ratio = of(Column::LinuxCached)? / of(Column::OursCached)?;
        Some(format!("{}: **{}**", work.what, digits(ratio)))
    });
    let rows: Vec<String> = rows.collect();
    match rows.is_empty() {
        true => String::new(),
        false => format!(
            "\nHow many times faster xen9p with cache=open is than Linux with cache=loose: {}.\n",
            rows.join("; ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::data::Row;
    use super::*;

    #[test]
    fn caches_are_compared_with_each_other() {
        let mut results = Results::default();
        assert_eq!(compared(&results, Kind::Pv), "");
        for (column, time) in [(Column::OursCached, 1.0), (Column::LinuxCached, 3.0)] {
            let row = Row {
                column,
                name: "stat".to_owned(),
                units: 10.0,
                time,
                guest: 0.0,
                dom0: 0.0,
                requests: 0.0,
            };
            results.add(Kind::Pv, vec![row]);
        }
        let text = compared(&results, Kind::Pv);
        assert!(text.contains("stat, path of 4 levels: **3.00**."), "{text}");
    }
}
