//! The project's own tests and benchmarks under Xen, on the library that the program `xen-bed` is made of. Called by the
//! Makefile; settings come in the environment, as `make` exports them.

mod bench;
mod boot_tests;
mod suite;
mod xen_tests;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use xen_bed::{
    accel, cache, cpio, daemon, dom0, domain, fail, host, leave, qemu, release, run, say, scratch,
    tail, xen,
};

use domain::{Backend, Kind};
use host::{Context, Result};
use release::Release;

/// What the user asked for.
pub struct Settings {
    /// The project's directory.
    root: PathBuf,
    /// Where images of dom0 and running beds live.
    cache: PathBuf,
    /// The image to run.
    image: PathBuf,
    /// What dom0 is made of.
    release: &'static Release,
    /// What serves 9pfs devices there, the usual one first.
    backends: Vec<Backend>,
    /// Domain type.
    kind: Kind,
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
        let number = |name: &str| match text(name)? {
            None => Ok(None),
            Some(value) => match value.parse() {
                Ok(number @ 1..=65536) => Ok(Some(number)),
                _ => Err(fail!("{name}={value}: it is a number")),
            },
        };
        let root = root.canonicalize().during("find", &root)?;
        let release = Release::named(text("BED")?.as_deref().unwrap_or("bookworm"))?;
        Ok(Settings {
            image: given("IMAGE").map_or_else(|| root.join("target/xen9p.elf"), PathBuf::from),
            root,
            cache: cache::directory()?,
            release,
            backends: release.backends_named(&text("BACKEND")?.unwrap_or_default())?,
            kind: kind(&text("TYPE")?.unwrap_or_default())?,
            only: text("ONLY")?,
            short: given("SHORT").is_some_and(|value| value != "0"),
            rounds: number("ROUNDS")?.map(|rounds| rounds as usize),
            scale: number("SCALE")?,
            minutes: number("MINUTES")?.map(u64::from),
            seed: number("SEED")?.map(u64::from),
        })
    }

    /// What serves 9pfs devices unless something else is asked for.
    fn backend(&self) -> Backend {
        self.backends[0]
    }

    /// Where images and running beds live.
    fn cache(&self) -> PathBuf {
        self.cache.clone()
    }

    /// The daemon that goes to dom0.
    fn daemon(&self) -> PathBuf {
        self.root.join("target/xen9pd.static")
    }
}

/// Reads TYPE.
fn kind(value: &str) -> Result<Kind> {
    match value {
        "" | "pvh" => Ok(Kind::Pvh),
        "pv" => Ok(Kind::Pv),
        other => Err(fail!("TYPE={other}: it is pvh or pv")),
    }
}

fn main() -> ExitCode {
    host::elapsed();
    if let Err(error) = leave::on_signals() {
        eprintln!("xen9p: signals will not be handled: {error}");
    }
    let command = env::args().nth(1).unwrap_or_default();
    let status = Settings::from_environment().and_then(|settings| match command.as_str() {
        "bench" => bench::run(&settings),
        "bench-clients" => bench::clients(&settings),
        "bench-embed" => bench::embedded(&settings),
        "bench-sweep" => bench::sweep(&settings),
        "bench-transports" => xen_tests::run_transports(&settings),
        "test-boot" => boot_tests::run(&settings),
        "test-xen" => xen_tests::run(&settings),
        "test-hostile" => xen_tests::run_hostile(&settings),
        "test-argo" => xen_tests::run_argo(&settings),
        "test-migrate" => xen_tests::run_migrate(&settings),
        "soak" => xen_tests::run_soak(&settings),
        _ => Err(fail!(
            "usage: own-tests bench | bench-clients | bench-embed | bench-sweep | bench-transports | test-boot | test-xen | test-hostile | test-argo | test-migrate | soak"
        )),
    });
    match status {
        Ok(status) => status.into(),
        Err(fail) => {
            leave::settle();
            eprintln!("xen9p: {fail}");
            host::BED_FAILED.into()
        }
    }
}
