//! The same work on the same server by p9-client and by 9P clients that others wrote: one `xen9pd --listen`, one Unix socket,
//! by turns. Called by `make bench-clients`; docs/clients.md has what came of it.
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
use std::path::Path;
use std::process::ExitCode;

use client::{Client, Directory, Done, Failed, Kind, V9fs};
use count::{Counting, Relay};
use report::{Cell, Column};
use rows::Row;
use tree::{Server, Tree};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The crates whose versions are reported.
const CRATES: [&str; 3] = ["ninep", "plan9", "tokio"];

/// The server.
const PROGRAM: &str = "target/release/xen9pd";
/// Where its files, its sockets and its log are; the report stands beside it.
const OUT: &str = "target/bench/clients";

/// A client that takes its turns.
struct Turn {
    client: Box<dyn Client>,
    column: Column,
}

impl Turn {
    fn new(name: &'static str, is_client: bool, client: Box<dyn Client>, rows: &[Row]) -> Turn {
        let cells = rows.iter().copied().map(Cell::new).collect();
        let column = Column {
            name,
            is_client,
            cells,
        };
        Turn { client, column }
    }

    fn time(&mut self, at: usize, tree: &Tree) -> Done<()> {
        let cell = &mut self.column.cells[at];
        let row = cell.row;
        match row.time(&mut *self.client, tree) {
            Ok(time) => cell
                .rates
                .push(row.operations() as f64 / time.as_secs_f64()),
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
        match row.cost(client, tree, relay) {
            Ok(cost) => cell.cost = Some(cost),
            Err(Failed::Cannot(reason)) => cell.cannot = Some(reason),
            Err(error) => return Err(named(turn.column.name, row, &error)),
        }
    }
    Ok(())
}

fn run(rounds: usize, only: &str) -> Done<String> {
    let out = Path::new(OUT);
    let rows: Vec<Row> = Row::ALL
        .into_iter()
        .filter(|row| row.name().contains(only))
        .collect();
    if rows.is_empty() {
        return Err(Failed::Error(format!("no row has \"{only}\" in its name")));
    }
    fs::create_dir_all(out)?;
    let tree = Tree::make(out.join("share"))?;
    // Both paths are short, as those of sockets have to be: they are relative.
    let sockets = ["server", "relay"].map(|name| out.join(name));
    for socket in &sockets {
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let [at, relayed] = sockets;
    let log = fs::File::create(out.join("xen9pd.log"))?;
    let server = Server::start(Path::new(PROGRAM), &tree, at, log)?;
    let relay = Relay::start(relayed, server.socket())?;
    let mount = V9fs::mount(server.socket(), out.join("v9fs"));

    let mut turns = Vec::new();
    for kind in Kind::ALL {
        let mut turn = Turn::new(kind.name(), true, kind.connect(server.socket())?, &rows);
        let mut counted = kind.connect(relay.socket())?;
        count(&mut turn, &mut *counted, &tree, Some(&relay))?;
        turns.push(turn);
    }
    if let Ok(mount) = &mount {
        let client = Box::new(Directory::new(mount.path()));
        turns.push(Turn::new("Linux v9fs", true, client, &rows));
    }
    let mut none = Turn::new("no 9P", false, Box::new(Directory::new(tree.root())), &rows);
    count(&mut none, &mut Directory::new(tree.root()), &tree, None)?;
    turns.push(none);

    for round in 0..rounds {
        for row in 0..rows.len() {
            // Another one is the first each time.
            for n in 0..turns.len() {
                let at = (n + round) % turns.len();
                turns[at].time(row, &tree)?;
            }
        }
        eprintln!("round {} of {rounds}", round + 1);
    }

    let columns: Vec<Column> = turns.into_iter().map(|turn| turn.column).collect();
    let mut text = facts(rounds);
    if let Err(error) = &mount {
        let _ = writeln!(text, "| Linux v9fs | not measured: {error} |");
    }
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
fn facts(rounds: usize) -> String {
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
    let _ = writeln!(text, "| rounds | {rounds} |");
    let lock = include_str!("../Cargo.lock");
    for name in CRATES {
        let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \""));
        let version = entry.and_then(|(_, rest)| rest.split('"').next());
        let _ = writeln!(text, "| crate `{name}` | {} |", version.unwrap_or_default());
    }
    text
}

fn main() -> ExitCode {
    // make hands on what is empty, too.
    let given = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let rounds = match given("ROUNDS") {
        None => Some(5),
        Some(text) => text.to_str().and_then(|text| text.parse().ok()),
    };
    let Some(rounds @ 1..) = rounds else {
        eprintln!("bench-clients: ROUNDS is no number of rounds");
        return ExitCode::FAILURE;
    };
    let report = Path::new(OUT).with_extension("md");
    let only = given("ONLY").map_or(String::new(), |only| only.to_string_lossy().into_owned());
    match run(rounds, &only).and_then(|text| Ok(fs::write(report, &text).map(|()| text)?)) {
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
