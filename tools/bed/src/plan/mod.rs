//! `xen-bed test`: tests as a TOML file describes them, several dom0s at a time where there is room.

mod file;
mod report;
mod stage;

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use clap::Args;

use crate::domain::Kind;
use crate::host::{self, Context, Result};
use crate::release::Release;
use crate::run::{self, BASE_MEMORY};
use crate::{cache, dom0, fail, leave, say, show};
use file::{Plan, TestPlan};
use report::Outcome;
use stage::{Scene, Stage};

/// Which tests are run, and how.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The file that describes them; docs/xen-bed.md tells what is in it
    pub file: PathBuf,
    /// Only those with this, or one of A,B, in their name
    #[arg(long, value_name = "PART[,PART]")]
    pub only: Option<String>,
    /// How many dom0s are used at a time; otherwise as many as processors and memory allow
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub jobs: Option<u32>,
    /// Write a report as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Version of Xen, instead of the file's: 4.17 or 4.20
    #[arg(long, value_parser = Release::named)]
    pub xen: Option<&'static Release>,
    /// What serves shares, instead of the file's: qemu, xen9pd or 9pfsd
    #[arg(long)]
    pub backend: Option<String>,
    /// The program xen9pd, linked statically
    #[arg(long, value_name = "FILE")]
    pub xen9pd: Option<PathBuf>,
}

/// Status when a test failed.
const FAILED: u8 = 1;

/// Memory that stays free, in MiB.
const SPARE: u64 = 512;

/// A test with one kind of domain.
struct Case<'a> {
    name: String,
    test: &'a TestPlan,
    kind: Option<Kind>,
}

/// Runs the tests; the status is 0 if all pass.
pub fn run(options: &Options) -> Result<u8> {
    let plan = Plan::read(&options.file)?;
    let cases = cases(&plan, options.only.as_deref());
    if cases.is_empty() {
        let only = options.only.as_deref().unwrap_or_default();
        return Err(fail!("no test has {only:?} in its name"));
    }
    let release = match (options.xen, &plan.xen) {
        (Some(release), _) => release,
        (None, Some(name)) => Release::named(name)?,
        (None, None) => Release::named("4.17")?,
    };
    let backend = options.backend.as_deref().or(plan.backend.as_deref());
    let backend = release.backends_named(backend.unwrap_or_default())?[0];
    let has_shares = plan.guests.values().any(|guest| !guest.shares.is_empty());
    let daemon = match backend.is_xen9pd() && has_shares {
        true => Some(run::find_xen9pd(options.xen9pd.as_deref())?),
        false => None,
    };
    let parent = cache::directory()?;
    let image = dom0::prepare(&parent, release)?;
    let memory = cases.iter().map(|case| memory_of(&plan, case.test)).max();
    let scene = Scene {
        plan: &plan,
        image: &image,
        parent: &parent,
        backend,
        daemon,
        memory: memory.unwrap_or(0),
    };
    let fit = places(u64::from(BASE_MEMORY + scene.memory))?;
    let jobs = options
        .jobs
        .map_or(fit, |jobs| jobs as usize)
        .min(cases.len());
    say!("{} tests, {jobs} at a time", cases.len());
    let outcomes = run_all(&scene, cases, jobs);
    leave::settle();
    let name = options.file.file_stem().unwrap_or_default();
    if let Some(path) = &options.junit {
        let xml = report::junit(&name.to_string_lossy(), &outcomes);
        fs::write(path, xml).during("write", path)?;
    }
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.failure.is_some())
        .collect();
    for outcome in &failed {
        show!("failed: {}", outcome.name);
    }
    show!(
        "{} passed, {} failed",
        outcomes.len() - failed.len(),
        failed.len()
    );
    Ok(if failed.is_empty() { 0 } else { FAILED })
}

/// Each test, with each of its kinds.
fn cases<'a>(plan: &'a Plan, only: Option<&str>) -> Vec<Case<'a>> {
    let each = |test: &'a TestPlan| -> Vec<Case<'a>> {
        let case = |kind: Option<Kind>| Case {
            name: match kind {
                None => test.name.clone(),
                Some(kind) => format!("{}/{}", kind.name(), test.name),
            },
            test,
            kind,
        };
        match test.types.as_slice() {
            [] => vec![case(None)],
            kinds => kinds.iter().map(|&kind| case(Some(kind))).collect(),
        }
    };
    let wanted = |case: &Case<'_>| {
        only.is_none_or(|only| only.split(',').any(|part| case.name.contains(part)))
    };
    plan.tests.iter().flat_map(each).filter(wanted).collect()
}

/// MiB that the guests of a test take together.
fn memory_of(plan: &Plan, test: &TestPlan) -> u32 {
    let started = test.steps.iter().filter_map(|step| match step {
        file::Action::Start(name) => plan.guests.get(name),
        _ => None,
    });
    started.map(|guest| guest.memory).sum()
}

/// How many dom0s of this size this machine carries. Each emulates two processors.
fn places(memory: u64) -> Result<usize> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let room = host::available_memory_mib()?.saturating_sub(SPARE) / memory;
    Ok((processors / 2)
        .min(usize::try_from(room).unwrap_or(1))
        .max(1))
}

/// Runs them all, each thread with a dom0 of its own. The outcomes are in the order of the file.
fn run_all(scene: &Scene<'_>, cases: Vec<Case<'_>>, jobs: usize) -> Vec<Outcome> {
    let queue = Mutex::new(cases.into_iter().enumerate());
    let outcomes = Mutex::new(Vec::new());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let mut stage = Stage::new(scene);
                while let Some((index, case)) = next() {
                    let start = Instant::now();
                    let result = stage.test(case.test, case.kind);
                    leave::settle();
                    let outcome = Outcome {
                        name: case.name,
                        took: start.elapsed(),
                        failure: result.err().map(|fail| fail.0),
                    };
                    show!("{}", outcome.text());
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push((index, outcome));
                    }
                }
            });
        }
    });
    let mut outcomes = outcomes
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
