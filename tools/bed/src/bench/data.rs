//! What runs tell, and what becomes of several.

use std::collections::BTreeMap;

use crate::domain::Kind;

/// Number of columns.
pub const COLUMNS: usize = 9;

/// Who did the work, and how.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Column {
    /// Our guest.
    Ours,
    /// Our guest, with a cache.
    OursCached,
    /// Linux with the largest messages and no cache.
    LinuxBest,
    /// Linux as it is without options.
    LinuxDefault,
    /// Linux with the cache that one chooses for reading.
    LinuxCached,
    /// The same requests, replies discarded unread.
    Limit,
    /// Our guest, on xen9pd.
    OursXen9pd,
    /// Linux with the largest messages and no cache, on xen9pd.
    LinuxXen9pd,
    /// Our guest, on a backend that answers from memory.
    Floor,
}

/// What serves the share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    /// QEMU, as xl starts it.
    Qemu,
    /// xen9pd.
    Xen9pd,
    /// xen9pd's broker, worker and rings around files in memory.
    Floor,
}

impl Column {
    /// All, as report.json has them.
    pub const ALL: [Column; COLUMNS] = [
        Column::Ours,
        Column::OursCached,
        Column::LinuxBest,
        Column::LinuxDefault,
        Column::LinuxCached,
        Column::Limit,
        Column::OursXen9pd,
        Column::LinuxXen9pd,
        Column::Floor,
    ];

    /// Those on QEMU, as the tables show them.
    pub const ON_QEMU: [Column; 6] = [
        Column::Ours,
        Column::OursCached,
        Column::LinuxBest,
        Column::LinuxDefault,
        Column::LinuxCached,
        Column::Limit,
    ];

    /// Its name in the report.json and between bed and guests.
    pub fn name(self) -> &'static str {
        match self {
            Column::Ours => "ours",
            Column::OursCached => "ours_cached",
            Column::LinuxBest => "linux_best",
            Column::LinuxDefault => "linux_default",
            Column::LinuxCached => "linux_cached",
            Column::Limit => "limit",
            Column::OursXen9pd => "ours_xen9pd",
            Column::LinuxXen9pd => "linux_xen9pd",
            Column::Floor => "floor",
        }
    }

    /// The column for what a guest did, who knows nothing of its server.
    pub fn on(self, server: Server) -> Column {
        match (self, server) {
            (Column::Ours, Server::Xen9pd) => Column::OursXen9pd,
            (Column::LinuxBest, Server::Xen9pd) => Column::LinuxXen9pd,
            (Column::Ours, Server::Floor) => Column::Floor,
            (column, _) => column,
        }
    }
}

/// One row of one run, as a guest prints it: times in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Who.
    pub column: Column,
    /// What.
    pub name: String,
    /// How much: MiB or operations.
    pub units: f64,
    /// Time that passed.
    pub time: f64,
    /// Processor time of the guest.
    pub guest: f64,
    /// Processor time of dom0.
    pub dom0: f64,
    /// 9P requests, 0 if unknown.
    pub requests: f64,
}

impl Row {
    /// Reads `row MODE NAME UNITS TIME GUEST DOM0 REQUESTS`.
    pub fn parse(line: &str) -> Option<Row> {
        let mut words = line.trim().strip_prefix("row ")?.split(' ');
        let mode = words.next()?;
        let column = Column::ALL
            .into_iter()
            .find(|column| column.name() == mode)?;
        let name = words.next()?.to_owned();
        let mut number = || words.next()?.parse().ok();
        Some(Row {
            column,
            name,
            units: number()?,
            time: number()?,
            guest: number()?,
            dom0: number()?,
            requests: number()?,
        })
    }
}

/// What is measured of a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Measure {
    /// Time per unit.
    Time,
    /// Processor time of the guest per unit.
    Guest,
    /// Processor time of dom0 per unit.
    Dom0,
    /// Requests per unit.
    Requests,
}

/// Median, least and most of several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Half are below.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Spread {
            median,
            least,
            most,
        })
    }
}

/// All runs.
#[derive(Default)]
pub struct Results {
    rows: BTreeMap<(&'static str, Column, String), Vec<Row>>,
}

impl Results {
    /// Takes in the rows of a run. What the marks took is told by the row "nothing", and taken off the others.
    pub fn add(&mut self, kind: Kind, rows: Vec<Row>) {
        for column in Column::ALL {
            let of_this = || rows.iter().filter(|row| row.column == column);
            let marks = of_this().find(|row| row.name == "nothing").cloned();
            for row in of_this().filter(|row| row.name != "nothing") {
                let mut row = row.clone();
                if let Some(marks) = &marks {
                    row.guest = (row.guest - marks.guest).max(0.0);
                    row.dom0 = (row.dom0 - marks.dom0).max(0.0);
                }
                let key = (kind.name(), column, row.name.clone());
                self.rows.entry(key).or_default().push(row);
            }
        }
    }

    /// Whether there is nothing of this type of domain.
    pub fn is_empty(&self, kind: Kind) -> bool {
        self.rows.keys().all(|(name, ..)| *name != kind.name())
    }

    /// A measure of a row, in nanoseconds (or requests) per unit.
    pub fn spread(
        &self,
        kind: Kind,
        column: Column,
        name: &str,
        measure: Measure,
    ) -> Option<Spread> {
        let rows = self.rows.get(&(kind.name(), column, name.to_owned()))?;
        let value = |row: &Row| match measure {
            Measure::Time => row.time / row.units,
            Measure::Guest => row.guest / row.units,
            Measure::Dom0 => row.dom0 / row.units,
            Measure::Requests => row.requests / row.units,
        };
        let spread = Spread::of(rows.iter().map(value).collect())?;
        (spread.median > 0.0).then_some(spread)
    }

    /// The median of that.
    pub fn median(&self, kind: Kind, column: Column, name: &str, measure: Measure) -> Option<f64> {
        self.spread(kind, column, name, measure)
            .map(|spread| spread.median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]);
        let expected = Spread {
            median: 2.0,
            least: 1.0,
            most: 3.0,
        };
        assert_eq!(spread, Some(expected));
        assert_eq!(Spread::of(vec![4.0, 2.0]).map(|s| s.median), Some(3.0));
        assert_eq!(Spread::of(vec![]), None);
    }

    #[test]
    fn what_marks_take_is_taken_off() {
        let text = "row ours nothing 1 5 100 200 2\nnoise\nrow ours stat 10 1000 1100 2200 30\r\n";
        let mut results = Results::default();
        results.add(Kind::Pv, text.lines().filter_map(Row::parse).collect());
        let of = |measure| results.median(Kind::Pv, Column::Ours, "stat", measure);
        assert_eq!(of(Measure::Time), Some(100.0));
        assert_eq!(of(Measure::Guest), Some(100.0));
        assert_eq!(of(Measure::Dom0), Some(200.0));
        assert_eq!(of(Measure::Requests), Some(3.0));
        assert_eq!(
            results.median(Kind::Pvh, Column::Ours, "stat", Measure::Time),
            None
        );
    }
}
