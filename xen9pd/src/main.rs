//! The program `xen9pd`.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use signal_hook::consts::{SIGINT, SIGTERM};
use xen9pd::broker::nodes::{Key, Order};
use xen9pd::broker::{self, Decision, Policy, Settings, status};
use xen9pd::worker;

/// Serves all that xl asks for.
struct All;

impl Policy for All {
    fn decide(&self, _: &Key, order: &Order) -> Decision {
        if !order.path.starts_with('/') {
            return Decision::Refuse(format!("path={}: it has to begin with /", order.path));
        }
        if order.auto_delete {
            return Decision::Refuse("auto-delete is not supported".into());
        }
        Decision::Serve
    }

    fn config(&self) -> Option<PathBuf> {
        None
    }
}

/// Log lines on standard error.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let _ = writeln!(io::stderr(), "xen9pd: {}", record.args());
    }

    fn flush(&self) {}
}

fn main() -> ExitCode {
    let _ = log::set_logger(&Log);
    log::set_max_level(log::LevelFilter::Debug);
    let directory = Path::new(broker::DIRECTORY);
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match &words[..] {
        ["worker", ..] => return worker::main(),
        ["run"] => run(directory),
        ["status", options @ ..] => {
            let json = options.contains(&"--json");
            status::print(directory, json, &mut io::stdout())
                .map_err(|error| format!("no xen9pd answers at {}: {error}", directory.display()))
        }
        _ => Err("usage: xen9pd run | status [--json]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(directory: &Path) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let (stop, end) = UnixStream::pair().map_err(text)?;
    for signal in [SIGTERM, SIGINT] {
        let end = end.try_clone().map_err(text)?;
        signal_hook::low_level::pipe::register(signal, end).map_err(text)?;
    }
    let settings = Settings {
        directory,
        program: Path::new("/proc/self/exe"),
        policy: &All,
    };
    broker::run(settings, &stop).map_err(|error| error.to_string())
}
