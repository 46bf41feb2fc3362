//! The chart: how many times faster than Linux, row by row, PV and PVH side by side.

use std::fmt::Write;

use super::data::{Column, Measure, Results};
use super::report::{KINDS, WORK, digits, ratio};
use crate::domain::Kind;

/// Height of a row, and widths, in pixels.
const ROW: f64 = 30.0;
const LABELS: f64 = 250.0;
const PANEL: f64 = 400.0;
const GAP: f64 = 40.0;
const TOP: f64 = 118.0;
const BOTTOM: f64 = 56.0;

/// The scale, logarithmic.
const MIN_RATIO: f64 = 0.025;
const MAX_RATIO: f64 = 200.0;
const TICKS: [f64; 11] = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// What is compared with, its color and words.
const AGAINST: [(Column, &str, &str); 4] = [
    (Column::LinuxBest, "#1f6f8b", "Linux v9fs, best settings"),
    (Column::LinuxDefault, "#e07a3f", "Linux v9fs, no options"),
    (Column::LinuxCached, "#8a5fb0", "Linux v9fs, cache=loose"),
    (
        Column::Limit,
        "#9a9a9a",
        "the same requests, replies unread (the limit)",
    ),
];

/// Place of a ratio on the scale, in pixels from the left edge of its panel.
fn at(ratio: f64) -> f64 {
    let part = (ratio.clamp(MIN_RATIO, MAX_RATIO) / MIN_RATIO).ln() / (MAX_RATIO / MIN_RATIO).ln();
    part * PANEL
}

/// The chart as SVG.
pub fn svg(results: &Results) -> String {
    let kinds: Vec<Kind> = KINDS
        .into_iter()
        .filter(|&kind| !results.is_empty(kind))
        .collect();
    let panels = kinds.len() as f64;
    let height = TOP + WORK.len() as f64 * ROW + BOTTOM;
    let width = LABELS + panels * PANEL + (panels - 1.0).max(0.0) * GAP + 40.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"30\" font-size=\"19\" font-weight=\"bold\">xen9p: how many times as fast as Linux in the same run</text>\n"
    );
    let _ = writeln!(out, "<text x=\"16\" y=\"59\">compared with</text>");
    let mut x = 125.0;
    for (column, color, words) in AGAINST {
        marker(&mut out, column, color, x + 7.0, 55.0);
        let _ = writeln!(out, "<text x=\"{}\" y=\"59\">{words}</text>", x + 20.0);
        x += 48.0 + 7.4 * words.len() as f64;
    }
    for (index, work) in WORK.iter().enumerate() {
        let y = TOP + index as f64 * ROW;
        if index % 2 == 0 {
            let _ = writeln!(
                out,
                "<rect x=\"8\" y=\"{y}\" width=\"{}\" height=\"{ROW}\" fill=\"#f4f6f7\"/>",
                width - 16.0
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LABELS - 12.0,
            y + ROW / 2.0 + 4.5,
            work.what
        );
    }
    for (index, kind) in kinds.into_iter().enumerate() {
        panel(
            &mut out,
            results,
            kind,
            LABELS + index as f64 * (PANEL + GAP),
            height - BOTTOM,
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"16\" y=\"{}\" font-size=\"12\" fill=\"#555\">Medians. To the right of 1 xen9p is faster. Emulated machine, one vCPU per guest, 9pfs backend QEMU on a tmpfs.</text>\n</svg>",
        height - 12.0
    );
    out
}

fn panel(out: &mut String, results: &Results, kind: Kind, left: f64, bottom: f64) {
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" font-size=\"15\" font-weight=\"bold\" text-anchor=\"middle\">{}</text>",
        left + PANEL / 2.0,
        TOP - 30.0,
        kind.name().to_uppercase()
    );
    for tick in TICKS {
        let x = left + at(tick);
        let (color, thick) = if tick == 1.0 {
            ("#444", 1.6)
        } else {
            ("#d5dadd", 1.0)
        };
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"{color}\" stroke-width=\"{thick}\"/>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#555\">{tick}</text>\n\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#555\">{tick}</text>",
            TOP - 4.0,
            TOP - 9.0,
            bottom + 15.0
        );
    }
    for (index, work) in WORK.iter().enumerate() {
        let y = TOP + (index as f64 + 0.5) * ROW;
        // What matters most is drawn last, over the others.
        for (column, color, _) in AGAINST.into_iter().rev() {
            let Some(ratio) = ratio(results, kind, work.name, column, Measure::Time) else {
                continue;
            };
            let x = left + at(ratio);
            if column == Column::LinuxBest {
                let _ = writeln!(
                    out,
                    "<line x1=\"{:.1}\" y1=\"{y}\" x2=\"{x:.1}\" y2=\"{y}\" stroke=\"{color}\" stroke-width=\"5\" opacity=\"0.35\"/>\n\
                     <text x=\"{:.1}\" y=\"{}\" font-size=\"11\" font-weight=\"bold\" fill=\"{color}\" text-anchor=\"middle\" stroke=\"#fff\" stroke-width=\"3\" paint-order=\"stroke\">{}×</text>",
                    left + at(1.0),
                    x,
                    y - 7.0,
                    digits(ratio)
                );
            }
            marker(out, column, color, x, y);
        }
    }
}

/// A mark: full and round for what counts, others smaller and of other shapes.
fn marker(out: &mut String, column: Column, color: &str, x: f64, y: f64) {
    let _ = match column {
        Column::LinuxBest
        | Column::Ours
        | Column::OursCached
        | Column::OursXen9pd
        | Column::LinuxXen9pd
        | Column::Floor => {
            writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y}\" r=\"5.5\" fill=\"{color}\"/>"
            )
        }
        Column::LinuxDefault => writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y}\" r=\"4\" fill=\"#fff\" stroke=\"{color}\" stroke-width=\"2\"/>"
        ),
        Column::LinuxCached => writeln!(
            out,
            "<path d=\"M{x:.1} {} l5 5 l-5 5 l-5 -5 z\" fill=\"#fff\" stroke=\"{color}\" stroke-width=\"2\"/>",
            y - 5.0
        ),
        Column::Limit => writeln!(
            out,
            "<rect x=\"{:.1}\" y=\"{}\" width=\"3\" height=\"14\" fill=\"{color}\"/>",
            x - 1.5,
            y - 7.0
        ),
    };
}
