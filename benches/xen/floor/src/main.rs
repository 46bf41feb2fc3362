//! The floor of the benchmark: xen9pd's broker, worker and rings, but each worker first copies the share to its own
//! memory, and then serves that. What it takes is what a request costs without a file system.
//!
//! usage: `bench-floor run`, in place of `xen9pd run`

mod tree;

use std::convert::Infallible;
use std::env;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use p9_server::{Export, Login, Policy, Rights};
use p9_wire::Errno;
use xen9pd::broker::nodes::{Key, Order};
use xen9pd::broker::{self, Decision, Settings};
use xen9pd::{journal, worker};

use tree::FloorNode;

fn main() -> ExitCode {
    journal::start(log::LevelFilter::Info);
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("run") => match run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                log::error!("{error}");
                ExitCode::FAILURE
            }
        },
        // As the broker calls it.
        Some("worker") => worker::serve("floor", |task| {
            let path = Path::new(&task.order.path);
            let root = tree::load(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(Share(root))
        }),
        _ => {
            eprintln!("usage: bench-floor run");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let (stop, end) = UnixStream::pair().map_err(|error| error.to_string())?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, end)
        .map_err(|error| error.to_string())?;
    let settings = Settings {
        directory: Path::new(broker::DIRECTORY),
        program: Path::new("/proc/self/exe"),
        policy: &All,
    };
    broker::run(settings, &stop).map_err(|error| error.to_string())
}

/// Serves every device.
struct All;

impl broker::Policy for All {
    fn decide(&self, _: &Key, _: &Order) -> Decision {
        Decision::Serve
    }

    fn config(&self) -> Option<PathBuf> {
        None
    }
}

/// One tree, for one domain.
struct Share(FloorNode);

impl Policy for Share {
    type Node = FloorNode;
    type Authentication = Infallible;

    fn attach<'m>(
        &mut self,
        login: &Login<'m>,
        _: Option<&Infallible>,
    ) -> Result<Export<'m, FloorNode>, Errno> {
        Ok(Export {
            root: self.0.clone(),
            tree: 0,
            below: login.aname,
            rights: Rights::ReadWrite,
        })
    }
}
