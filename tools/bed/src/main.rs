//! The program `xen-bed`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xen_bed::{doctor, host, leave, plan, run, shell};

/// Boots a real Xen with a Linux dom0 in QEMU, on any x86-64 Linux machine, and guests of yours under it
///
/// The status is the guest's or the script's; 101 a guest that crashed, 102 one that asked to be started again, 124 one
/// that took too long, 125 a failure of xen-bed itself.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant)]
enum Command {
    /// Run a guest, with its console live on this terminal
    Run(run::Options),
    /// Run the tests that a TOML file describes
    Test(plan::Options),
    /// Run a script in dom0, or a shell there
    Dom0(shell::Options),
    /// The same in the first of two machines that are joined by a wire: `peer other COMMAND` there runs a command in the
    /// dom0 of the second, and `xl migrate -s peer GUEST other` takes a guest to it
    Pair(shell::Options),
    /// Tell what this machine has, what is missing, and what to type
    Doctor,
}

fn main() -> ExitCode {
    host::elapsed();
    let arguments = Arguments::parse();
    if let Err(error) = leave::on_signals() {
        eprintln!("xen-bed: signals will not be handled: {error}");
    }
    let status = match &arguments.command {
        Command::Run(options) => run::run(options),
        Command::Test(options) => plan::run(options),
        Command::Dom0(options) => shell::run(options),
        Command::Pair(options) => shell::run_pair(options),
        Command::Doctor => doctor::run(),
    };
    // A signal that has come tells the status.
    leave::settle();
    match status {
        Ok(status) => status.into(),
        Err(fail) => {
            eprintln!("xen-bed: {fail}");
            host::BED_FAILED.into()
        }
    }
}
