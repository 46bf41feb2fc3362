//! The report.

use std::fmt::Write;

use super::data::{Column, Measure, Results};
use crate::domain::Kind;

/// The rows, in order.
pub const ROWS: &[&str] = &[
    "seq-read",
    "seq-write",
    "seq-read-4k",
    "seq-write-4k",
    "rand-read-1",
    "rand-read-16",
    "rand-write-1",
    "rand-write-16",
    "create",
    "open-read",
    "rename",
    "unlink",
    "stat",
    "list",
    "copy-tree",
    "first-byte",
];

/// A first table.
pub fn table(results: &Results) -> String {
    let mut out = String::new();
    for kind in [Kind::Pv, Kind::Pvh] {
        for name in ROWS {
            let _ = write!(out, "{:4} {name:14}", kind.name());
            for column in Column::ALL {
                for measure in [
                    Measure::Time,
                    Measure::Guest,
                    Measure::Dom0,
                    Measure::Requests,
                ] {
                    match results.median(kind, column, name, measure) {
                        Some(v) if measure == Measure::Requests => {
                            let _ = write!(out, " {v:6.1}");
                        }
                        Some(v) => {
                            let _ = write!(out, " {:8.3}", v / 1e6);
                        }
                        None => {
                            let _ = write!(out, "        -");
                        }
                    }
                }
                let _ = write!(out, " |");
            }
            let _ = writeln!(out);
        }
    }
    out
}
