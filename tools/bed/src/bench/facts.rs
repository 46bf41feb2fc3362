//! What the report says besides the rows: the machine, the settings, sizes, many domains at once.

use std::fmt::Write;
use std::fs;

use super::data::{Column, Measure, Results};
use super::report::{digits, entry};
use super::table::Table;
use crate::domain::Kind;
use crate::host::Result;

/// Many domains of ours at once.
pub struct Crowd {
    /// Ours on what serves them.
    pub column: Column,
    /// Type of the domains.
    pub kind: &'static str,
    /// How many.
    pub domains: usize,
    /// Memory of each in MiB, as Xen has it.
    pub memory: f64,
    /// Seconds until all had read and written.
    pub seconds: f64,
    /// MiB that all together read and wrote.
    pub moved: f64,
}

/// All of it.
#[derive(Default)]
pub struct Facts {
    /// Versions of dom0's packages.
    pub versions: String,
    /// Rounds.
    pub rounds: usize,
    /// The amounts of files were one part in so many.
    pub scale: u32,
    /// Names and sizes of files in bytes.
    pub sizes: Vec<(String, u64)>,
    /// Type, and the smallest memory in MiB in which the self-test passes.
    pub smallest: Vec<(&'static str, u32)>,
    /// Many at once.
    pub crowds: Vec<Crowd>,
    /// What takes some work and ten times as much.
    pub growth: Vec<(Kind, Results)>,
    /// Minutes that all took.
    pub minutes: f64,
    /// This machine's load during the runs, least and most.
    pub load: Vec<f64>,
}

/// The first line of a command's output, or of a file's line that starts so.
fn first_line(path: &str, start: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(start));
    line.and_then(|line| line.split_once(':'))
        .map_or("unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

/// Processes that ran or waited to run during the last minute.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0)
}

fn version_of(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or("unknown").to_owned()
}

impl Facts {
    /// Adds a file's size.
    pub fn size(&mut self, name: &str, paths: &[&std::path::Path]) -> Result<()> {
        use crate::host::Context;
        let mut sum = 0;
        for path in paths {
            sum += fs::metadata(path).during("read", path)?.len();
        }
        self.sizes.push((name.to_owned(), sum));
        Ok(())
    }

    /// What was measured, and where.
    pub fn introduction(&self) -> String {
        let version = |name: &str| {
            let line = self.versions.lines().find(|line| line.starts_with(name));
            line.unwrap_or("unknown").to_owned()
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let (least, most) = self.load.iter().fold((f64::MAX, 0.0_f64), |(a, b), &load| {
            (a.min(load), b.max(load))
        });
        format!(
            "# xen9p beside Linux v9fs\n\n\
             Made by `make bench`: {} rounds in {:.0} minutes. One dom0, the share on its tmpfs; in each round one guest of ours, one more\n\
             whose mount has a cache, one that sends the same requests without a file API (\"limit\"), and one Linux guest, one after the other. The same guest and Linux\n\
             then run on xen9pd, and ours on the floor: xen9pd's broker, worker and rings around files in the worker's memory. Both kinds of guest have\n\
             {} MiB and one vCPU, alone on the second processor of the emulated machine; dom0 has the first.\n\
             **The machine is emulated: absolute times mean nothing, ratios do.** All that was written, except on the floor, was checked byte by byte in dom0.\n\n\
             | | |\n|---|---|\n\
             | host | {cores} processors ({}), load {least:.1} to {most:.1}, {} (TCG) |\n\
             | Xen | {} |\n\
             | backend | {} |\n\
             | dom0's and the guest's Linux | {} |\n\
             | xen9p | {}; default settings, which in this much memory are 4 rings of order 9 |\n\
             | xen9p, cache=open | the same with a cache of 128 MiB, empty at the start of each run; what the run has read before comes from there, if it is what the server has when the file is opened |\n\
             | Linux, best | `trans=xen,version=9p2000.L,msize=524288,cache=none`; its trans_xen always has two rings of order 9 |\n\
             | Linux, default | `trans=xen,version=9p2000.L` |\n\
             | Linux, cache=loose | `trans=xen,version=9p2000.L,msize=524288,cache=loose`, cold at the start of each run; what the run has read or written before comes from the cache |\n\
             | xen9pd | as it is, in its sandbox; the QEMU that xl starts is idle |\n\
             | limit | bulk with two of the largest messages per ring in flight; an operation on files is one burst |\n\
             | amounts | files, paths, entries and the tree are 1/{} of 1,000, 2,000, 5,000 and 500 |\n",
            self.rounds,
            self.minutes,
            super::stage::MEMORY,
            first_line("/proc/cpuinfo", "model name"),
            version_of("qemu-system-x86_64", &["--version"]),
            version("xen-hypervisor"),
            version("qemu-system-xen"),
            version("linux-image-6"),
            version_of("rustc", &["--version"]),
            self.scale,
        )
    }

    /// Sizes, and many at once.
    pub fn rest(&self) -> String {
        let mut out = String::from("\n## Size\n\n");
        let mut table = Table::new(&["", "KiB"]);
        for (name, bytes) in &self.sizes {
            table.row(vec![name.clone(), digits(*bytes as f64 / 1024.0)]);
        }
        out += &table.finish();
        out += "\n";
        for (kind, memory) in &self.smallest {
            let _ = writeln!(
                out,
                "The smallest `memory=` in which `selftest` passes is {memory} as {}.",
                kind.to_uppercase()
            );
        }
        out += "\n## Growth\n\n\
                Ten times the bytes or files; time as a multiple (the aim is 10.5 at most), and memory in use afterwards.\n\n";
        let mut table = Table::new(&[
            "type",
            "read",
            "write",
            "create",
            "list",
            "unlink",
            "memory, MiB",
            "after 10 times",
        ]);
        for (kind, results) in &self.growth {
            let time = |name: &str| {
                results
                    .median(*kind, Column::Ours, name, Measure::Time)
                    .unwrap_or(f64::NAN)
            };
            let mut row = vec![kind.name().to_uppercase()];
            for name in ["read", "write", "create", "list", "unlink"] {
                row.push(digits(
                    time(&format!("{name}-10")) / time(&format!("{name}-1")),
                ));
            }
            for name in ["memory-1", "memory-10"] {
                row.push(digits(time(name) / f64::from(1 << 20)));
            }
            table.row(row);
        }
        out += &table.finish();
        if self.crowds.is_empty() {
            return out;
        }
        out += "\n## Many domains at once\n\n\
                Each reads 2 MiB and writes 2 MiB on the same share; dom0 has one processor, the domains share the other.\n\n";
        let mut table = Table::new(&[
            "domains",
            "type",
            "backend",
            "memory each, MiB",
            "until all are done, s",
            "all together, MiB/s",
        ]);
        for crowd in &self.crowds {
            table.row(vec![
                crowd.domains.to_string(),
                crowd.kind.to_uppercase(),
                match crowd.column {
                    Column::OursXen9pd => "xen9pd".to_owned(),
                    _ => "QEMU".to_owned(),
                },
                digits(crowd.memory),
                digits(crowd.seconds),
                digits(crowd.moved / crowd.seconds),
            ]);
        }
        out + &table.finish()
    }

    /// The same for report.json.
    pub fn entries(&self) -> Vec<String> {
        let only = |wanted, value| Column::ALL.map(|column| (column == wanted).then_some(value));
        let ours = |value| only(Column::Ours, value);
        let mut entries = Vec::new();
        for (name, bytes) in &self.sizes {
            entries.push(entry(
                &format!("size: {name}"),
                "both",
                ours(*bytes as f64),
                "bytes",
                None,
            ));
        }
        for (kind, memory) in &self.smallest {
            entries.push(entry(
                "smallest memory",
                kind,
                ours(f64::from(*memory)),
                "MiB",
                None,
            ));
        }
        for crowd in &self.crowds {
            let name = |what: &str| format!("{} domains: {what}", crowd.domains);
            let ours = |value| only(crowd.column, value);
            entries.push(entry(
                &name("memory each"),
                crowd.kind,
                ours(crowd.memory),
                "MiB",
                None,
            ));
            entries.push(entry(
                &name("until all are done"),
                crowd.kind,
                ours(crowd.seconds),
                "s",
                None,
            ));
            let rate = crowd.moved / crowd.seconds;
            entries.push(entry(
                &name("all together"),
                crowd.kind,
                ours(rate),
                "MiB/s",
                None,
            ));
        }
        entries
    }
}
