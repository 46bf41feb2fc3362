//! A running bed: Xen and dom0 in QEMU, and the jobs dom0 does for us.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::dom0::Image;
use crate::host::{self, Context, Result, Scratch};
use crate::{fail, say};

/// The processor QEMU emulates: SVM with nested paging for PVH guests; without SMAP and SMEP, which a Debian PV dom0
/// does not survive; without MONITOR, which Xen would idle with and dies of; without RDTSCP, which hangs PVH guests.
pub const CPU: &str = "EPYC,-smap,-smep,-monitor,-rdtscp";

/// Time dom0 has to come up. It takes 5 s on an idle machine.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// A directory of this machine, live in dom0.
pub struct Mount {
    /// Name; dom0 has it as the directory of that name in its root.
    pub tag: String,
    /// Where it is here.
    pub path: PathBuf,
}

/// A running dom0. Dropping it ends QEMU.
pub struct Bed {
    scratch: Scratch,
    qemu: Child,
    control: ChildStdin,
    events: Receiver<Event>,
    finished: HashMap<String, i32>,
    jobs: u32,
}

enum Event {
    Ready,
    Done(String, i32),
    Closed,
}

/// A script dom0 is running.
#[must_use]
pub struct Job {
    name: String,
}

/// How a job ended.
pub struct Finished {
    /// Exit status of the script.
    pub status: i32,
    /// All it printed.
    pub output: String,
}

impl Bed {
    /// Boots dom0 with `memory` MiB of machine memory for all of Xen, dom0 and the guests, and waits until it takes jobs.
    pub fn start(image: &Image, parent: &Path, memory: u32, mounts: &[Mount]) -> Result<Bed> {
        let scratch = Scratch::new(parent)?;
        for name in ["job", "console"] {
            let path = scratch.path().join(name);
            fs::create_dir_all(&path).during("create", &path)?;
        }
        let errors = scratch.path().join("qemu.log");
        let errors = File::create(&errors).during("create", &errors)?;
        let mut qemu = host::tied("qemu-system-x86_64");
        qemu.args(["-machine", "q35,accel=tcg", "-cpu", CPU, "-smp", "2", "-m", &format!("{memory}M")])
            .args(["-display", "none", "-no-reboot", "-nic", "none", "-monitor", "none", "-nodefaults"])
            .arg("-kernel")
            .arg(&image.xen)
            .args(["-append", "console=com1 dom0_mem=512M dom0_max_vcpus=1 cpuidle=0 bootscrub=0 loglvl=warning guest_loglvl=all"])
            .arg("-initrd")
            .arg(initrd(image, mounts))
            .arg("-serial")
            .arg(format!("file:{}", scratch.path().join("dom0.log").display()))
            .args(["-device", "virtio-serial-pci,disable-legacy=on,iommu_platform=on"])
            .args(["-chardev", "stdio,id=control,signal=off"])
            .args(["-device", "virtserialport,chardev=control,nr=1,name=control"]);
        let host = Mount {
            tag: "host".to_owned(),
            path: scratch.path().to_owned(),
        };
        for mount in std::iter::once(&host).chain(mounts) {
            let path = mount.path.display().to_string().replace(',', ",,");
            qemu.arg("-fsdev")
                .arg(format!(
                    "local,id={},path={path},security_model=none,multidevs=remap",
                    mount.tag
                ))
                .arg("-device")
                .arg(format!(
                    "virtio-9p-pci,fsdev={0},mount_tag={0},disable-legacy=on,iommu_platform=on",
                    mount.tag
                ));
        }
        let mut qemu = qemu
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|error| fail!("cannot run qemu-system-x86_64: {error}"))?;
        let (Some(control), Some(replies)) = (qemu.stdin.take(), qemu.stdout.take()) else {
            return Err(fail!("cannot talk to QEMU"));
        };
        let (sender, events) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(replies).lines().map_while(|line| line.ok()) {
                let event = match line.trim().split_once(' ') {
                    None if line.trim() == "ready" => Event::Ready,
                    Some((name, status)) => {
                        Event::Done(name.to_owned(), status.parse().unwrap_or(-1))
                    }
                    None => continue,
                };
                if sender.send(event).is_err() {
                    return;
                }
            }
            let _ = sender.send(Event::Closed);
        });
        let bed = Bed {
            scratch,
            qemu,
            control,
            events,
            finished: HashMap::new(),
            jobs: 0,
        };
        match bed.events.recv_timeout(BOOT_TIMEOUT) {
            Ok(Event::Ready) => Ok(bed),
            _ => Err(bed.dead("dom0 did not come up")),
        }
    }

    /// Directory of this machine that dom0 sees as /host.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Copies a file to where dom0 sees it as /host/NAME. A copy, so that nothing built meanwhile gets into this run.
    pub fn bring(&self, file: &Path, name: &str) -> Result<()> {
        fs::copy(file, self.scratch.path().join(name)).during("read", file)?;
        Ok(())
    }

    /// Starts a shell script in dom0.
    pub fn start_job(&mut self, script: &str) -> Result<Job> {
        self.jobs += 1;
        let name = format!("j{}", self.jobs);
        let path = self.scratch.path().join(format!("job/{name}.sh"));
        fs::write(&path, script).during("write", &path)?;
        writeln!(self.control, "{name}").map_err(|_| self.dead("dom0 is gone"))?;
        Ok(Job { name })
    }

    /// Waits for the end of a job; `None` if it still runs when the time is over.
    pub fn wait(&mut self, job: &Job, timeout: Duration) -> Result<Option<Finished>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.finished.remove(&job.name) {
                return Ok(Some(Finished {
                    status,
                    output: self.output_so_far(job)?,
                }));
            }
            match self
                .events
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(Event::Done(name, status)) => {
                    self.finished.insert(name, status);
                }
                Ok(Event::Ready) => {}
                Ok(Event::Closed) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.dead("dom0 is gone"));
                }
                Err(RecvTimeoutError::Timeout) => return Ok(None),
            }
        }
    }

    /// Runs a script to its end.
    pub fn run(&mut self, script: &str, timeout: Duration) -> Result<Finished> {
        let job = self.start_job(script)?;
        self.wait(&job, timeout)?.ok_or_else(|| {
            fail!(
                "dom0 did not finish within {} s: {script}",
                timeout.as_secs()
            )
        })
    }

    /// What a job has printed until now.
    pub fn output_so_far(&self, job: &Job) -> Result<String> {
        let path = self.scratch.path().join(format!("job/{}.out", job.name));
        match fs::read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error).during("read", &path),
        }
    }

    /// The end of what Xen and dom0 printed.
    pub fn dom0_console(&self, lines: usize) -> String {
        tail(&self.scratch.path().join("dom0.log"), lines)
    }

    /// An error that says why the bed is of no more use.
    fn dead(&self, what: &str) -> host::Fail {
        let qemu = tail(&self.scratch.path().join("qemu.log"), 5);
        let console = self.dom0_console(15);
        fail!("{what}\n--- QEMU:\n{qemu}\n--- end of the console of Xen and dom0:\n{console}")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Nothing in dom0 is worth an orderly end: all that matters is on this machine's disk already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// QEMU's list of multiboot modules: dom0's kernel with its command line, and its file system. Commas separate.
fn initrd(image: &Image, mounts: &[Mount]) -> String {
    let tags = std::iter::once("host").chain(mounts.iter().map(|mount| mount.tag.as_str()));
    let tags = tags.collect::<Vec<_>>().join(",,");
    let quote = |path: &Path| path.display().to_string().replace(',', ",,");
    format!(
        "{} console=hvc0 rdinit=/init quiet bed.mounts={tags},{}",
        quote(&image.kernel),
        quote(&image.initrd)
    )
}

/// The last lines of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Says how long the start took.
pub fn start(image: &Image, parent: &Path, memory: u32, mounts: &[Mount]) -> Result<Bed> {
    say!("booting Xen and dom0 in QEMU");
    let bed = Bed::start(image, parent, memory, mounts)?;
    say!("dom0 is up");
    Ok(bed)
}
