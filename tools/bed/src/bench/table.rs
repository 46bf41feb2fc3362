//! Tables of markdown.

use std::fmt::Write;

/// A table of markdown, whose columns also line up as text.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these heads.
    pub fn new(heads: &[&str]) -> Table {
        Table {
            rows: vec![heads.iter().map(|&head| head.to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether there is none but the head.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The text.
    pub fn finish(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            for (column, width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                let _ = match column {
                    0 => write!(out, "| {cell:width$} "),
                    _ => write!(out, "| {cell:>width$} "),
                };
            }
            out += "|\n";
            if index == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width + 1);
                    out += &if column == 0 {
                        format!("|{dashes}-")
                    } else {
                        format!("|{dashes}:")
                    };
                }
                out += "|\n";
            }
        }
        out
    }
}
