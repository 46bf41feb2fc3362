//! What was measured, as tables.

use std::fmt::Write;

use crate::rows::{Cost, Row};

/// What one client made of one row.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The row.
    pub row: Row,
    /// How often it is done in one measurement.
    pub operations: usize,
    /// Why the client can't do it.
    pub cannot: Option<&'static str>,
    /// Operations per second, in each round.
    pub rates: Vec<f64>,
    /// What an operation costs beside time.
    pub cost: Option<Cost>,
}

impl Cell {
    /// Nothing yet, of measurements that are one part in `scale` of the full ones.
    pub fn new(row: Row, scale: usize) -> Cell {
        Cell {
            row,
            operations: row.operations(scale),
            cannot: None,
            rates: Vec::new(),
            cost: None,
        }
    }
}

/// Where a client is, which decides what can be seen of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this program: all is seen.
    Program,
    /// In the kernel: its allocations are not seen.
    Kernel,
    /// There is none: it sends no messages, and is not compared.
    Nowhere,
}

/// A client and what it made of the rows, in their order.
pub struct Column {
    /// What it is called.
    pub name: &'static str,
    /// Where it is.
    pub place: Place,
    /// Its cells.
    pub cells: Vec<Cell>,
}

/// The middle of some numbers; of an even count the mean of the two in the middle.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// A number with three digits at least, and commas.
fn shown(number: f64) -> String {
    if number < 9.995 {
        return format!("{number:.2}");
    }
    if number < 99.95 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count per operation: with a digit behind the point only where there is something to show.
fn counted(number: f64) -> String {
    match number {
        _ if number < 0.005 => "0".into(),
        _ if number < 1.0 => format!("{number:.2}"),
        _ if (number - number.round()).abs() < 0.05 => shown_whole(number),
        _ if number < 100.0 => format!("{number:.1}"),
        _ => shown_whole(number),
    }
}

fn shown_whole(number: f64) -> String {
    match number < 100.0 {
        true => format!("{number:.0}"),
        false => shown(number),
    }
}

/// The rows, with their numbers.
fn rows(columns: &[Column]) -> impl Iterator<Item = (usize, Row)> {
    let cells = columns.first().map_or(&[][..], |column| &column.cells);
    cells.iter().map(|cell| cell.row).enumerate()
}

fn head(columns: &[Column], first: &str) -> String {
    let mut head = format!("| | {first} |");
    let mut line = String::from("|---|---|");
    for column in columns {
        let _ = write!(head, " {} |", column.name);
        line.push_str("--:|");
    }
    format!("{head}\n{line}\n")
}

/// How many times as fast as another the first column is in a row: the median of the rounds' ratios.
fn ratio(columns: &[Column], of: usize, row: usize) -> Option<f64> {
    let (first, other) = (&columns[0].cells[row], &columns[of].cells[row]);
    let ratios = first.rates.iter().zip(&other.rates);
    let ratios: Vec<f64> = ratios.map(|(ours, theirs)| ours / theirs).collect();
    (of > 0 && columns[of].place != Place::Nowhere && !ratios.is_empty()).then(|| median(&ratios))
}

/// Operations or bytes per second, with what the first client is ahead.
pub fn speeds(columns: &[Column]) -> String {
    let mut table = head(columns, "per second");
    for (n, row) in rows(columns) {
        let unit = row.bytes().map_or("operations", |_| "MiB");
        let scale = row
            .bytes()
            .map_or(1.0, |bytes| bytes as f64 / (1 << 20) as f64);
        let _ = write!(table, "| {} | {unit} |", row.name());
        for (at, column) in columns.iter().enumerate() {
            let cell = &column.cells[n];
            let _ = match (cell.cannot, ratio(columns, at, n)) {
                (Some(reason), _) => write!(table, " cannot: {reason} |"),
                (None, Some(ratio)) => {
                    let rate = median(&cell.rates) * scale;
                    write!(table, " {} (**{ratio:.2}**) |", shown(rate))
                }
                (None, None) => write!(table, " {} |", shown(median(&cell.rates) * scale)),
            };
        }
        table.push('\n');
    }
    table
}

/// A number of what an operation costs.
type Number = fn(&Cost) -> f64;

/// Allocations, requests and waits of an operation.
pub fn costs(columns: &[Column]) -> String {
    let mut table = head(columns, "of each");
    for (n, row) in rows(columns) {
        let lines: [(&str, Number); 3] = [
            ("allocations", |cost| cost.allocations),
            ("requests", |cost| cost.requests),
            ("waits", |cost| cost.waits),
        ];
        for (at, (what, number)) in lines.iter().enumerate() {
            let name = if at == 0 { row.name() } else { "" };
            let _ = write!(table, "| {name} | {what} |");
            for column in columns {
                let is_seen = match column.place {
                    Place::Program => true,
                    Place::Kernel => at > 0,
                    Place::Nowhere => at == 0,
                };
                let cost = column.cells[n].cost.as_ref().filter(|_| is_seen);
                let _ = match cost {
                    Some(cost) => write!(table, " {} |", counted(number(cost))),
                    None => write!(table, " – |"),
                };
            }
            table.push('\n');
        }
    }
    table
}

/// The rows in which the first client is not ahead of another, each as a line. Not of itself in another dialect.
pub fn behind(columns: &[Column]) -> String {
    let mut lines = String::new();
    for (n, row) in rows(columns) {
        let others = (1..columns.len()).filter(|&at| !columns[at].name.starts_with("p9-client"));
        for at in others {
            if let Some(ratio) = ratio(columns, at, n).filter(|&ratio| ratio < 1.0) {
                let _ = writeln!(lines, "- {}, {}: {ratio:.2}", row.name(), columns[at].name);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_what_they_are_worth() {
        let texts = [0.5, 12.34, 99.96, 1234.5, 1_234_567.0].map(shown);
        assert_eq!(texts, ["0.50", "12.3", "100", "1,234", "1,234,567"]);
        let texts = [0.001, 0.03, 2.01, 2.4, 3000.2].map(counted);
        assert_eq!(texts, ["0", "0.03", "2", "2.4", "3,000"]);
    }

    #[test]
    fn the_ratio_is_that_of_the_rounds() {
        let cells = |rates: [f64; 3]| {
            let mut cells = Row::ALL.map(|row| Cell::new(row, 1)).to_vec();
            cells[0].rates = rates.into();
            cells
        };
        let column = |name, rates| Column {
            name,
            place: Place::Program,
            cells: cells(rates),
        };
        // The medians say 30 to 20; by turns the first was behind twice.
        let columns = [
            column("ours", [10.0, 30.0, 90.0]),
            column("other", [20.0, 60.0, 9.0]),
        ];
        assert_eq!(ratio(&columns, 1, 0), Some(0.5));
        assert_eq!(behind(&columns), "- stat of a path, other: 0.50\n");
        assert_eq!(ratio(&columns, 0, 0), None);
        assert_eq!(ratio(&columns, 1, 1), None);
    }

    #[test]
    fn only_what_is_seen_of_a_client_is_shown() {
        let mut cell = Cell::new(Row::ListWithSizes, 25);
        assert_eq!(cell.operations, 1);
        cell.cost = Some(Cost {
            allocations: 7.0,
            requests: 8.0,
            waits: 9.0,
        });
        let places = [Place::Program, Place::Kernel, Place::Nowhere];
        let columns = places.map(|place| Column {
            name: "name",
            place,
            cells: vec![cell.clone()],
        });
        let table = costs(&columns);
        let lines: Vec<&str> = table.lines().skip(2).collect();
        let expected = [
            "| list 1,000 names with sizes | allocations | 7 | – | 7 |",
            "|  | requests | 8 | 8 | – |",
            "|  | waits | 9 | 9 | – |",
        ];
        assert_eq!(lines, expected);
    }
}
