//! Boots real Xen with a Linux dom0 in QEMU and runs xen9p images under it. Called by the Makefile; settings come in
//! the environment, as `make` exports them.

mod bench;
mod boot_tests;
mod cpio;
mod daemon;
mod dom0;
mod domain;
mod host;
mod keyboard;
mod qemu;
mod release;
mod run;
mod suite;
mod tail;
mod xen;
mod xen_tests;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use domain::{Backend, Kind};
use host::{Context, Result};
use release::Release;

/// What the user asked for.
pub struct Settings {
    /// The project's directory.
    root: PathBuf,
    /// The image to run.
    image: PathBuf,
    /// What dom0 is made of.
    release: &'static Release,
    /// What serves 9pfs devices there, the usual one first.
    backends: Vec<Backend>,
    /// Domain type.
    kind: Kind,
    /// Directory to share, if one was named.
    share: Option<PathBuf>,
    /// Command line of the guest, if one was given.
    app: Option<String>,
    /// Memory of the guest, in MiB.
    memory: u32,
    /// Which tests to run: those with this in their name.
    only: Option<String>,
    /// Whether only a few of them are to be run.
    short: bool,
    /// How often the benchmark is run, if not as often as usual.
    rounds: Option<usize>,
    /// The part of the full amounts of files that the benchmark works with, if not the usual one.
    scale: Option<u32>,
    /// How long a soak is, if the user said.
    minutes: Option<u64>,
    /// Where its chance starts, if the user said.
    seed: Option<u64>,
    /// Show everything.
    verbose: bool,
}

impl Settings {
    fn from_environment() -> Result<Settings> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let given = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| match given(name).map(|value| value.into_string()) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(fail!("{name} is not UTF-8")),
        };
        let number = |name: &str, unit: &str| match text(name)? {
            None => Ok(None),
            Some(value) => match value.parse() {
                Ok(number @ 1..=65536) => Ok(Some(number)),
                _ => Err(fail!("{name}={value}: it is a number{unit}")),
            },
        };
        let root = root.canonicalize().during("find", &root)?;
        let release = Release::named(&text("BED")?.unwrap_or_default())?;
        Ok(Settings {
            image: given("IMAGE").map_or_else(|| root.join("target/xen9p.elf"), PathBuf::from),
            root,
            release,
            backends: release.backends_named(&text("BACKEND")?.unwrap_or_default())?,
            kind: run::kind(&text("TYPE")?.unwrap_or_default())?,
            share: given("SHARE").map(PathBuf::from),
            app: text("APP")?,
            only: text("ONLY")?,
            short: given("SHORT").is_some_and(|value| value != "0"),
            memory: number("MEMORY", " of MiB")?.unwrap_or(64),
            rounds: number("ROUNDS", "")?.map(|rounds| rounds as usize),
            scale: number("SCALE", "")?,
            minutes: number("MINUTES", "")?.map(u64::from),
            seed: number("SEED", "")?.map(u64::from),
            verbose: given("V").is_some_and(|value| value != "0"),
        })
    }

    /// What serves 9pfs devices unless something else is asked for.
    fn backend(&self) -> Backend {
        self.backends[0]
    }

    /// Where images and running beds live.
    fn cache(&self) -> PathBuf {
        self.root.join("target/bed")
    }
}

fn main() -> ExitCode {
    host::elapsed();
    let command = env::args().nth(1).unwrap_or_default();
    let status = Settings::from_environment().and_then(|settings| match command.as_str() {
        "bench" => bench::run(&settings),
        "bench-sweep" => bench::sweep(&settings),
        "run" => run::run(&settings),
        "test-boot" => boot_tests::run(&settings),
        "dom0" => run::in_dom0(&settings, env::args().skip(2)),
        "test-xen" => xen_tests::run(&settings),
        "test-hostile" => xen_tests::run_hostile(&settings),
        "soak" => xen_tests::run_soak(&settings),
        _ => Err(fail!(
            "usage: bed run | bench | bench-sweep | test-boot | test-xen | test-hostile | soak | dom0 SCRIPT..."
        )),
    });
    match status {
        Ok(status) => status.into(),
        Err(fail) => {
            eprintln!("xen9p: {fail}");
            host::BED_FAILED.into()
        }
    }
}
