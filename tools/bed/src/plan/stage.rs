//! Where tests are made: a dom0, and in it one test at a time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::file::{Action, End, GuestPlan, Pattern, Plan, TestPlan};
use crate::daemon;
use crate::dom0::Image;
use crate::domain::{Backend, Domain, Ended, Guest, Kind, Reason};
use crate::host::{Context, Result};
use crate::run;
use crate::xen::{self, Bed, Size};
use crate::{elf, fail, tail};

/// What all stages of a plan have in common.
pub struct Scene<'a> {
    /// The work.
    pub plan: &'a Plan,
    /// What dom0 is made of.
    pub image: &'a Image,
    /// Where runs have their directories.
    pub parent: &'a Path,
    /// What serves shares.
    pub backend: Backend,
    /// The program xen9pd, if that is it.
    pub daemon: Option<PathBuf>,
    /// MiB for guests.
    pub memory: u32,
}

/// A dom0, booted for the first test.
pub struct Stage<'a> {
    scene: &'a Scene<'a>,
    bed: Option<Bed>,
    tests: u32,
}

/// A guest of a test.
struct Actor {
    domain: Domain,
    /// Its shares: tag, and where the directory is on this machine.
    shares: BTreeMap<String, PathBuf>,
    /// How much of its console was found by earlier steps.
    seen: usize,
    ended: Option<Ended>,
}

/// A test under way.
struct Run<'a> {
    scene: &'a Scene<'a>,
    bed: &'a mut Bed,
    /// What its files' names begin with.
    name: String,
    kind: Option<Kind>,
    deadline: Instant,
    actors: BTreeMap<String, Actor>,
}

impl<'a> Stage<'a> {
    /// One without a dom0 yet.
    pub fn new(scene: &'a Scene<'a>) -> Stage<'a> {
        Stage {
            scene,
            bed: None,
            tests: 0,
        }
    }

    /// Makes a test. Its error has the ends of all consoles.
    pub fn test(&mut self, test: &TestPlan, kind: Option<Kind>) -> Result<()> {
        let scene = self.scene;
        let bed = match self.bed.take() {
            Some(bed) => self.bed.insert(bed),
            None => {
                let size = Size::of_machine(run::BASE_MEMORY + scene.memory);
                let bed = xen::start(scene.image, scene.parent, size, &[])?;
                let bed = self.bed.insert(bed);
                if let Some(program) = &scene.daemon {
                    daemon::start(bed, program)?;
                }
                bed
            }
        };
        self.tests += 1;
        let log_before = tail::text(&bed.dom0_log()).len();
        let mut run = Run {
            scene,
            bed,
            name: format!("t{}", self.tests),
            kind,
            deadline: Instant::now() + Duration::from_secs(test.timeout),
            actors: BTreeMap::new(),
        };
        let mut result = Ok(());
        for (index, step) in test.steps.iter().enumerate() {
            if let Err(fail) = run.act(step) {
                result = Err(run.report(&format!("step {}: {fail}", index + 1), log_before));
                break;
            }
        }
        // A dom0 that does not answer is replaced.
        if run.clear().is_err() {
            self.bed = None;
        }
        result
    }
}

impl Run<'_> {
    fn act(&mut self, step: &Action) -> Result<()> {
        match step {
            Action::Start(guest) => self.start(guest),
            Action::Console(guest, pattern) => self.console(guest, pattern),
            Action::Type(guest, keys) => {
                let actor = actor(&mut self.actors, guest)?;
                actor.domain.types(self.bed, keys.as_bytes())
            }
            Action::Dom0 {
                script,
                status,
                output,
            } => self.dom0(script, *status, output.as_ref()),
            Action::File {
                guest,
                tag,
                path,
                content,
            } => self.file(guest, tag, path, content.as_ref()),
            Action::Ends(guest, end) => self.ends(guest, *end),
        }
    }

    /// The plan's path of a file.
    fn path(&self, path: &Path) -> PathBuf {
        match path.as_os_str() == "@linux" {
            true => path.to_owned(),
            false => self.scene.plan.directory.join(path),
        }
    }

    fn start(&mut self, name: &str) -> Result<()> {
        let plan: &GuestPlan = &self.scene.plan.guests[name];
        let kernel = self.path(&plan.kernel);
        let kind = match kernel.as_os_str() == "@linux" {
            true => self.kind.unwrap_or(Kind::Pvh),
            false => elf::kind(&kernel, self.kind)?,
        };
        let whole = format!("{}-{name}", self.name);
        let mut guest = Guest {
            name: whole.clone(),
            kind,
            kernel: run::bring_kernel(
                self.bed,
                self.scene.image,
                &kernel,
                &format!("{whole}.kernel"),
            )?,
            ramdisk: None,
            memory: plan.memory,
            vcpus: plan.vcpus,
            command_line: plan.cmdline.clone(),
            shares: Vec::new(),
            backend: self.scene.backend,
            more: plan.config.clone(),
        };
        if let Some(ramdisk) = &plan.ramdisk {
            let path = self.path(ramdisk);
            let name = format!("{whole}.ramdisk");
            guest.ramdisk = Some(run::bring_ramdisk(
                self.bed,
                self.scene.image,
                &path,
                &name,
            )?);
        }
        let mut shares = BTreeMap::new();
        for (tag, share) in &plan.shares {
            let name = format!("{whole}-{tag}");
            let path = self.bed.path().join(&name);
            fs::create_dir(&path).during("create", &path)?;
            if let Some(from) = &share.dir {
                copy(&self.path(from), &path)?;
            }
            for (file, content) in &share.files {
                let file = path.join(file);
                let parent = file.parent().unwrap_or(&path);
                fs::create_dir_all(parent).during("create", parent)?;
                fs::write(&file, content).during("write", &file)?;
            }
            guest = guest.with(tag, format!("/host/{name}"));
            shares.insert(tag.clone(), path);
        }
        let domain = Domain::create(self.bed, &guest)?;
        let actor = Actor {
            domain,
            shares,
            seen: 0,
            ended: None,
        };
        self.actors.insert(name.to_owned(), actor);
        Ok(())
    }

    fn console(&mut self, guest: &str, pattern: &Pattern) -> Result<()> {
        let actor = actor(&mut self.actors, guest)?;
        loop {
            let text = actor.domain.console();
            if let Some(end) = text.get(actor.seen..).and_then(|rest| pattern.end_in(rest)) {
                actor.seen += end;
                return Ok(());
            }
            if let Some(ended) = &actor.ended {
                return Err(fail!(
                    "the guest {guest} ended ({}) before there was {:?} on its console",
                    how(ended),
                    pattern.as_str()
                ));
            }
            if Instant::now() >= self.deadline {
                return Err(fail!(
                    "no {:?} on the console of {guest} in time",
                    pattern.as_str()
                ));
            }
            actor.ended = actor
                .domain
                .wait(self.bed, Some(Instant::now()), |_| Ok(()))?;
        }
    }

    fn dom0(&mut self, script: &str, status: i32, output: Option<&Pattern>) -> Result<()> {
        let names = self.actors.iter();
        let names: String = names
            .map(|(name, actor)| format!("{name}={}\n", actor.domain.name()))
            .collect();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let job = self.bed.start_job(&format!("{names}{script}"))?;
        let Some(done) = self.bed.wait(&job, left)? else {
            return Err(fail!("dom0 did not finish in time: {script}"));
        };
        let printed = done.output.trim_end();
        if done.status != status {
            return Err(fail!(
                "status {} of dom0's script {script}\n{printed}",
                done.status
            ));
        }
        match output {
            Some(pattern) if pattern.end_in(&done.output).is_none() => Err(fail!(
                "dom0's script {script} printed no {:?} but:\n{printed}",
                pattern.as_str()
            )),
            _ => Ok(()),
        }
    }

    /// Waits for a file: the guest may be about to write it.
    fn file(
        &mut self,
        guest: &str,
        tag: &str,
        path: &str,
        content: Option<&Pattern>,
    ) -> Result<()> {
        let actor = actor(&mut self.actors, guest)?;
        let file = actor.shares[tag].join(path);
        loop {
            let has_ended = actor.ended.is_some();
            let found = fs::read(&file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let problem = match (&found, content) {
                (Ok(_), None) => return Ok(()),
                (Ok(text), Some(pattern)) if pattern.end_in(text).is_some() => return Ok(()),
                (Ok(text), Some(pattern)) => {
                    format!(
                        "{tag}:{path} has no {:?} but:\n{}",
                        pattern.as_str(),
                        tail::end(text, 10)
                    )
                }
                (Err(error), _) => format!("{tag}:{path}: {error}"),
            };
            if has_ended || Instant::now() >= self.deadline {
                return Err(fail!("{problem}"));
            }
            actor.ended = actor
                .domain
                .wait(self.bed, Some(Instant::now()), |_| Ok(()))?;
        }
    }

    fn ends(&mut self, guest: &str, end: End) -> Result<()> {
        let deadline = Some(self.deadline);
        let actor = actor(&mut self.actors, guest)?;
        if actor.ended.is_none() {
            actor.ended = actor.domain.wait(self.bed, deadline, |_| Ok(()))?;
        }
        let Some(ended) = &actor.ended else {
            return Err(fail!("the guest {guest} still runs"));
        };
        let wanted = match end {
            End::Poweroff => Reason::PowerOff,
            End::Reboot => Reason::Reboot,
            End::Crash => Reason::Crash,
        };
        match ended.reason == Some(wanted) {
            true => Ok(()),
            false => Err(fail!(
                "the guest {guest} ended by {}, not {end:?}",
                how(ended)
            )),
        }
    }

    /// The error, with what all consoles say.
    fn report(&mut self, problem: &str, log_before: usize) -> crate::host::Fail {
        let mut report = problem.to_owned();
        for (name, actor) in &self.actors {
            let console = actor.domain.console();
            report += &match console.is_empty() {
                true => format!("\n--- the guest {name} has printed nothing on its console"),
                false => format!(
                    "\n--- end of the console of {name}:\n{}",
                    tail::end(&console, 15)
                ),
            };
            if let Ok(xl) = actor.domain.xl(self.bed)
                && !xl.trim().is_empty()
            {
                report += &format!("\n--- xl of {name}:\n{}", tail::end(&xl, 8));
            }
        }
        let log = tail::text(&self.bed.dom0_log());
        let fresh = log.get(log_before..).unwrap_or(&log);
        if !fresh.trim().is_empty() {
            report += &format!(
                "\n--- the console of Xen and dom0:\n{}",
                tail::end(fresh, 15)
            );
        }
        fail!("{report}")
    }

    /// Ends what still runs, and removes its files.
    fn clear(mut self) -> Result<()> {
        for actor in self.actors.values_mut() {
            actor.domain.destroy(self.bed)?;
        }
        let script = format!("rm -rf /run/{0}-* /host/{0}-*", self.name);
        self.bed.run(&script, Duration::from_secs(60)).map(drop)
    }
}

/// The guest of that name. It was started, as the plan was judged; it may be that its start failed.
fn actor<'b>(actors: &'b mut BTreeMap<String, Actor>, name: &str) -> Result<&'b mut Actor> {
    actors
        .get_mut(name)
        .ok_or_else(|| fail!("the guest {name} does not run"))
}

fn how(ended: &Ended) -> String {
    match ended.reason {
        None => "xl could not run it".to_owned(),
        Some(reason) => format!("{reason:?}"),
    }
}

/// Copies what is in a directory.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).during("list", from)? {
        let entry = entry.during("list", from)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().during("look at", &source)?.is_dir() {
            fs::create_dir(&target).during("create", &target)?;
            copy(&source, &target)?;
        } else {
            fs::copy(&source, &target).during("copy", &source)?;
        }
    }
    Ok(())
}
