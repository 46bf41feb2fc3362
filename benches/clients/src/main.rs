//! The same work on the same server by p9-client and by 9P clients that others wrote: one `xen9pd --listen`, one Unix socket,
//! by turns. Called by `make bench-clients`, and by `make bench-clients-bed` where Linux has a client, too; docs/clients.md has
//! what came of it.
//!
//! `bench-clients PROGRAM OUT`: PROGRAM is xen9pd. Its files, its sockets and its log are in the directory OUT, and the report is
//! beside it, in OUT.md. OUT is short, as paths of sockets have to be.
//!
//! Time is taken on connections straight to the server, with nothing counted. Allocations and messages are counted in a round of
//! their own, through a relay, in which each byte is checked as well.

mod client;
mod count;
mod report;
mod rows;
mod tree;

use std::env;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use client::{Client, Directory, Done, Failed, Kind, V9fs};
use count::{Counting, Relay};
use report::{Cell, Column, Place};
use rows::Row;
use tree::{Server, Tree};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The crates whose versions are reported.
const CRATES: [&str; 3] = ["ninep", "plan9", "tokio"];

/// What the user asked for.
struct Settings {
    /// The server.
    program: PathBuf,
    /// Where its files, its sockets and its log are; the report stands beside it.
    out: PathBuf,
    /// How often each thing is measured.
    rounds: usize,
    /// A measurement is one part in so many of the full one.
    scale: usize,
    /// Only rows with this in their name.
    only: String,
}

impl Settings {
    fn new() -> Result<Settings, String> {
        let mut arguments = env::args_os().skip(1).map(PathBuf::from);
        let (Some(program), Some(out), None) =
            (arguments.next(), arguments.next(), arguments.next())
        else {
            return Err("usage: bench-clients PROGRAM OUT".into());
        };
        // make hands on what is empty, too.
        let given = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let number = |name: &str, usual: usize| match given(name) {
            None => Ok(usual),
            Some(text) => match text.to_str().and_then(|text| text.parse().ok()) {
                Some(number @ 1..) => Ok(number),
                _ => Err(format!("{name} is no number above 0")),
            },
        };
        Ok(Settings {
            program,
            out,
            rounds: number("ROUNDS", 5)?,
            scale: number("SCALE", 1)?,
            only: given("ONLY").map_or(String::new(), |only| only.to_string_lossy().into_owned()),
        })
    }
}

/// A client that takes its turns.
struct Turn {
    client: Box<dyn Client>,
    column: Column,
}

impl Turn {
    fn new(name: &'static str, place: Place, client: Box<dyn Client>, cells: &[Cell]) -> Turn {
        let column = Column {
            name,
            place,
            cells: cells.to_vec(),
        };
        Turn { client, column }
    }

    fn time(&mut self, at: usize, tree: &Tree) -> Done<()> {
        let cell = &mut self.column.cells[at];
        let row = cell.row;
        match row.time(&mut *self.client, tree, cell.operations) {
            Ok(time) => cell.rates.push(cell.operations as f64 / time.as_secs_f64()),
            Err(Failed::Cannot(reason)) => cell.cannot = Some(reason),
            Err(error) => return Err(named(self.column.name, row, &error)),
        }
        Ok(())
    }
}

fn named(client: &str, row: Row, error: &Failed) -> Failed {
    Failed::Error(format!("{client}: {}: {error:?}", row.name()))
}

/// What each row costs a client beside time.
fn count(turn: &mut Turn, client: &mut dyn Client, tree: &Tree, relay: Option<&Relay>) -> Done<()> {
    for cell in &mut turn.column.cells {
        let row = cell.row;
        match row.cost(client, tree, cell.operations, relay) {
            Ok(cost) => cell.cost = Some(cost),
            Err(Failed::Cannot(reason)) => cell.cannot = Some(reason),
            Err(error) => return Err(named(turn.column.name, row, &error)),
        }
    }
    eprintln!("counted {}", turn.column.name);
    Ok(())
}

fn run(settings: &Settings) -> Done<String> {
    let (out, only, rounds) = (&settings.out, &settings.only, settings.rounds);
    let rows = Row::ALL.into_iter().filter(|row| row.name().contains(only));
    let cells: Vec<Cell> = rows.map(|row| Cell::new(row, settings.scale)).collect();
    if cells.is_empty() {
        return Err(Failed::Error(format!("no row has \"{only}\" in its name")));
    }
    fs::create_dir_all(out)?;
    let tree = Tree::make(out.join("share"))?;
    let sockets = ["server", "relay"].map(|name| out.join(name));
    for socket in &sockets {
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let [at, relayed] = sockets;
    let log = fs::File::create(out.join("xen9pd.log"))?;
    let server = Server::start(&settings.program, &tree, at, log)?;
    let relay = Relay::start(relayed, server.socket())?;
    let mount = V9fs::mount(server.socket(), out.join("v9fs"));
    let mounted = match &mount {
        Ok(mount) => format!("`{}`", mount.options()?),
        Err(error) => format!("not measured: {error}"),
    };

    let mut turns = Vec::new();
    for kind in Kind::ALL {
        let client = kind.connect(server.socket())?;
        let mut turn = Turn::new(kind.name(), Place::Program, client, &cells);
        let mut counted = kind.connect(relay.socket())?;
        count(&mut turn, &mut *counted, &tree, Some(&relay))?;
        turns.push(turn);
    }
    if let Ok(mount) = &mount {
        let client = Box::new(Directory::new(mount.path()));
        let mut turn = Turn::new("Linux v9fs", Place::Kernel, client, &cells);
        let relayed = V9fs::mount(relay.socket(), out.join("v9fs-relayed"))?;
        let mut counted = Directory::new(relayed.path());
        count(&mut turn, &mut counted, &tree, Some(&relay))?;
        turns.push(turn);
    }
    let client = Box::new(Directory::new(tree.root()));
    let mut none = Turn::new("no 9P", Place::Nowhere, client, &cells);
    count(&mut none, &mut Directory::new(tree.root()), &tree, None)?;
    turns.push(none);

    for round in 0..rounds {
        for row in 0..cells.len() {
            // Another one is the first each time.
            for n in 0..turns.len() {
                let at = (n + round) % turns.len();
                turns[at].time(row, &tree)?;
            }
        }
        eprintln!("round {} of {rounds}", round + 1);
    }

    let columns: Vec<Column> = turns.into_iter().map(|turn| turn.column).collect();
    let mut text = facts(settings);
    let _ = writeln!(text, "| Linux v9fs | {mounted} |");
    let _ = write!(
        text,
        "\n{}\n{}",
        report::speeds(&columns),
        report::costs(&columns)
    );
    let behind = report::behind(&columns);
    if !behind.is_empty() {
        let _ = write!(text, "\nNot ahead:\n\n{behind}");
    }
    Ok(text)
}

/// On what it was measured.
fn facts(settings: &Settings) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let models = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name"));
    let model = models.clone().next().unwrap_or_default();
    let load = read("/proc/loadavg");
    let mut text = String::from("| | |\n|---|---|\n");
    let _ = writeln!(
        text,
        "| host | {} processors ({}), Linux {}, load {} |",
        models.count(),
        model.trim_start_matches(['\t', ':', ' ']),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or_default(),
    );
    let _ = writeln!(text, "| rounds | {} |", settings.rounds);
    if settings.scale > 1 {
        let _ = writeln!(
            text,
            "| operations | 1/{} of the full number |",
            settings.scale
        );
    }
    let lock = include_str!("../Cargo.lock");
    for name in CRATES {
        let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \""));
        let version = entry.and_then(|(_, rest)| rest.split('"').next());
        let _ = writeln!(text, "| crate `{name}` | {} |", version.unwrap_or_default());
    }
    text
}

fn main() -> ExitCode {
    let report = |settings: Settings| {
        let text = run(&settings)?;
        fs::write(settings.out.with_extension("md"), &text)?;
        Ok(text)
    };
    match Settings::new().map_err(Failed::Error).and_then(report) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(Failed::Error(error)) => {
            eprintln!("bench-clients: {error}");
            ExitCode::FAILURE
        }
        Err(Failed::Cannot(reason)) => {
            eprintln!("bench-clients: cannot: {reason}");
            ExitCode::FAILURE
        }
    }
}
