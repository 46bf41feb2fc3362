//! The program `xen9pd`.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use xen9pd::broker::nodes::{Key, Order};
use xen9pd::broker::{self, Decision, Policy, Settings, status};
use xen9pd::config::{self, Claim, Config, Share};
use xen9pd::listen::{self, Address, parse_share};
use xen9pd::{journal, worker};

/// Serves directories of this machine to Xen guests as 9pfs devices, or over a socket.
///
/// With --listen, it serves the shares over that socket. Otherwise name what to do.
#[derive(Parser)]
#[command(
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true
)]
struct Command {
    /// Listen for 9P here: unix:PATH or tcp:HOST:PORT
    #[arg(long, value_name = "ADDRESS", required = true)]
    listen: Option<Address>,
    /// Share this directory: DIR[:OPTION,...], such as /srv/files:ro
    #[arg(long, value_name = "DIR", value_parser = parse_share)]
    share: Vec<Share>,
    /// Read the shares from this file
    #[arg(long, value_name = "FILE", conflicts_with = "share")]
    config: Option<PathBuf>,
    /// Serve without the sandbox
    #[arg(long)]
    no_sandbox: bool,
    #[command(subcommand)]
    work: Option<Work>,
}

#[derive(Subcommand)]
enum Work {
    /// Serve the 9pfs devices of this machine's guests
    Run {
        /// The configuration; without it, /etc/xen9pd.toml if that is there
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show what is served
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a configuration file
    Check {
        /// The file
        #[arg(default_value = config::PATH)]
        file: PathBuf,
    },
    /// Serve one device: started by `run`
    #[command(hide = true)]
    Worker {
        /// The guest it serves, for those who look at the list of processes
        #[arg(num_args = 0.., allow_hyphen_values = true)]
        label: Vec<String>,
    },
}

/// Serves what the configuration says of what xl asks for.
struct Configured {
    config: Config,
    file: Option<PathBuf>,
}

impl Policy for Configured {
    fn decide(&self, _: &Key, order: &Order) -> Decision {
        if self.config.claim == Claim::None {
            return Decision::Leave;
        }
        if order.auto_delete {
            return Decision::Refuse(
                "auto-delete=1: xen9pd removes no files of its own accord; leave it out".into(),
            );
        }
        // The worker opens it for itself, and looks again.
        match self.config.open(Path::new(&order.path)) {
            Ok(_) => Decision::Serve,
            Err(why) => Decision::Refuse(why),
        }
    }

    fn config(&self) -> Option<PathBuf> {
        self.file.clone()
    }
}

fn main() -> ExitCode {
    let command = Command::parse();
    journal::start(log::LevelFilter::Debug);
    match done(command) {
        Ok(code) => code,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn done(command: Command) -> Result<ExitCode, String> {
    let directory = Path::new(broker::DIRECTORY);
    match command.work {
        Some(Work::Worker { label }) => return Ok(worker::main(&label.join(" "))),
        Some(Work::Run { config }) => run(directory, config)?,
        Some(Work::Check { file }) => return Ok(check(&file)),
        Some(Work::Status { json }) => status::print(directory, json, &mut io::stdout())
            .map_err(|error| format!("no xen9pd answers at {}: {error}", directory.display()))?,
        None => {
            let address = command.listen.ok_or("--listen is missing")?;
            let shares = match command.config {
                Some(file) => load(&file)?.shares,
                None => command.share,
            };
            let ready = |listener: &listen::Listener| {
                // For those who start this program: now a connection is taken.
                let mut out = io::stdout();
                let _ = writeln!(out, "listening on {listener}").and_then(|()| out.flush());
            };
            listen::run(&address, &shares, !command.no_sandbox, ready)
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says everything that is wrong with a file.
fn check(file: &Path) -> ExitCode {
    match Config::load(file) {
        Ok(config) => {
            let missing = config.missing();
            for problem in &missing {
                eprintln!("{}: {problem}", file.display());
            }
            if missing.is_empty() {
                println!(
                    "{}: {} shares, no mistakes",
                    file.display(),
                    config.shares.len()
                );
                return ExitCode::SUCCESS;
            }
        }
        Err(problems) => {
            for problem in problems {
                eprintln!("{}: {problem}", file.display());
            }
        }
    }
    ExitCode::FAILURE
}

fn load(file: &Path) -> Result<Config, String> {
    Config::load(file).map_err(|problems| {
        let lines = problems
            .iter()
            .map(|problem| format!("{}: {problem}", file.display()));
        lines.collect::<Vec<_>>().join("; ")
    })
}

fn run(directory: &Path, file: Option<PathBuf>) -> Result<(), String> {
    let default = PathBuf::from(config::PATH);
    let file = file.or_else(|| default.exists().then_some(default));
    let config = match &file {
        Some(file) => load(file)?,
        None => Config::default(),
    };
    for problem in config.missing() {
        log::warn!("{problem}");
    }
    let text = |error: io::Error| error.to_string();
    let (stop, end) = UnixStream::pair().map_err(text)?;
    for signal in [SIGTERM, SIGINT] {
        let end = end.try_clone().map_err(text)?;
        signal_hook::low_level::pipe::register(signal, end).map_err(text)?;
    }
    let settings = Settings {
        directory,
        program: Path::new("/proc/self/exe"),
        policy: &Configured { config, file },
    };
    broker::run(settings, &stop).map_err(|error| error.to_string())
}

/// The manual pages and the example say all that there is, and nothing else.
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    /// A page as it is read: without the commands of its form.
    fn page(text: &str) -> String {
        text.replace("\\-", "-").replace("\\[dq]", "\"")
    }

    fn program() -> String {
        page(include_str!("../packaging/xen9pd.8"))
    }

    fn file() -> String {
        page(include_str!("../packaging/xen9pd.toml.5"))
    }

    /// The lines that a page has behind each .TP, which name what the paragraph is about.
    fn entries(page: &str) -> BTreeSet<String> {
        let mut entries = BTreeSet::new();
        let mut lines = page.lines();
        while let Some(line) = lines.next() {
            if line == ".TP" {
                let entry = lines.next().unwrap_or_default();
                let words = entry.split_whitespace().skip(1);
                entries.extend(words.map(|word| word.trim_matches('"').to_owned()));
            }
        }
        entries
    }

    #[test]
    fn every_option_and_command_is_in_the_manual_page() {
        let entries = entries(&program());
        let command = Command::command();
        let mut found = 0;
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            if command.is_hide_set() {
                continue;
            }
            if command.get_name() != "xen9pd" {
                assert!(
                    entries.contains(command.get_name()),
                    "{}",
                    command.get_name()
                );
            }
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                let option = format!("--{option}");
                assert!(entries.contains(&option), "{option}: {entries:?}");
                found += 1;
            }
        }
        assert!(found >= 6, "{found}");
        let known = command
            .get_subcommands()
            .flat_map(clap::Command::get_arguments);
        let known: BTreeSet<_> = known
            .chain(command.get_arguments())
            .filter_map(clap::Arg::get_long)
            .chain(["help", "version"])
            .map(|name| format!("--{name}"))
            .collect();
        for entry in entries.iter().filter(|entry| entry.starts_with("--")) {
            assert!(known.contains(entry), "{entry} is in the manual page alone");
        }
    }

    #[test]
    fn every_option_of_a_share_is_in_the_manual_page() {
        let error = parse_share("/:nonsense").unwrap_err();
        let (_, options) = error.split_once("there are ").unwrap();
        let text = program();
        for option in options.split(", ") {
            let (name, _) = option.split_once('=').unwrap_or((option, ""));
            assert!(text.contains(name), "{option}");
        }
    }

    /// The keys that may stand where this one, which is none, does.
    fn keys(text: &str) -> BTreeSet<String> {
        let problems = Config::parse(text).unwrap_err();
        let (_, expected) = problems[0].text.split_once("expected one of ").unwrap();
        let names = expected.split(", ").map(|name| name.trim_matches('`'));
        names.map(str::to_owned).collect()
    }

    #[test]
    fn every_key_is_in_the_manual_page_and_in_the_example() {
        let top = keys("nonsense = 1");
        let defaults = keys("[defaults]\nnonsense = 1");
        let share = keys("[[share]]\npath = \"/\"\nnonsense = 1");
        assert!(defaults.is_subset(&share) && share.len() == defaults.len() + 2);
        let all: BTreeSet<_> = top.union(&share).cloned().collect();
        let entries = entries(&file());
        let example = include_str!("../packaging/example.toml");
        let values = ["\"all\"", "\"listed\"", "\"none\"", "\"squash=", "\"map="];
        for key in &all {
            assert!(entries.contains(key), "{key}: {entries:?}");
            let used =
                example.contains(&format!("\n{key} = ")) || example.contains(&format!("[{key}]"));
            assert!(used, "{key} is not in the example");
        }
        for entry in &entries {
            let known = all.contains(entry)
                || values.iter().any(|value| value.contains(&**entry))
                || ["UID", ":", "GID", "FILE"].contains(&&**entry);
            assert!(known, "{entry} is in the manual page alone");
        }
        let config = Config::parse(example).unwrap();
        assert_eq!(config.shares.len(), 1);
    }
}
