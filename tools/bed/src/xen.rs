//! A running bed: Xen and dom0 in QEMU, and the jobs dom0 does for us.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::accel::{self, Accelerator};
use crate::dom0::Image;
use crate::host::{self, Context, Result, Running};
use crate::qemu::Machine;
use crate::scratch::Scratch;
use crate::{fail, leave, say, tail};

/// dom0's share of the machine.
#[derive(Clone, Copy)]
pub struct Size {
    /// Machine memory in MiB, for all of Xen, dom0 and the guests.
    pub machine: u32,
    /// dom0's memory in MiB.
    pub dom0: u32,
    /// dom0's virtual processors; a single one stays on the first processor of the machine, so that a guest may have the
    /// second for itself.
    pub vcpus: u32,
}

impl Size {
    /// dom0 as small as it goes, on both processors.
    pub fn of_machine(memory: u32) -> Size {
        Size {
            machine: memory,
            dom0: 512,
            vcpus: 2,
        }
    }

    /// What Xen is told. Without the upper limit of memory Linux would prepare for all of it.
    fn options(self) -> String {
        let Size { dom0, vcpus, .. } = self;
        let pin = if vcpus == 1 { " dom0_vcpus_pin" } else { "" };
        format!("dom0_mem={dom0}M,max:{dom0}M dom0_max_vcpus={vcpus}{pin}")
    }
}

/// dom0's kernel options: the first process, and no work that only a machine in service needs.
const KERNEL_OPTIONS: &str =
    "console=hvc0 rdinit=/init quiet cryptomgr.notests mitigations=off rodata=off";

/// Time dom0 has to come up. It takes 5 s on an idle machine.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// Where Xen and dom0 print, in the run's directory.
const DOM0_LOG: &str = "dom0.log";

/// How much Xen and dom0, or a script there, may print, in bytes.
const PRINT_LIMIT: u64 = 64 << 20;

/// The two halves of a console that a shell in dom0 may have, in the run's directory; QEMU wants these endings.
const SHELL_PIPES: [&str; 2] = ["shell.in", "shell.out"];

fn make_pipe(path: &Path) -> Result<()> {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let made = rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0);
    made.map_err(std::io::Error::from).during("create", path)
}

/// A directory of this machine, live in dom0.
pub struct Mount {
    /// Name; dom0 has it as the directory of that name in its root.
    pub tag: String,
    /// Where it is here.
    pub path: PathBuf,
    /// Whether dom0 can't write there.
    pub read_only: bool,
}

/// One end of the wire between the two machines of a pair.
struct Wire {
    /// Which machine it is: 1 listens on the socket, 2 connects.
    machine: u32,
    /// The socket, as seen from the run's directory: the path of a socket is short.
    socket: String,
}

impl Wire {
    /// What QEMU is told.
    fn options(&self) -> [String; 4] {
        let Wire { machine, socket } = self;
        let listens = if *machine == 1 { "on" } else { "off" };
        let socket = socket.replace(',', ",,");
        [
            "-netdev".to_owned(),
            format!("stream,id=wire,server={listens},addr.type=unix,addr.path={socket}"),
            "-device".to_owned(),
            format!(
                "virtio-net-pci,netdev=wire,mac=52:54:00:09:00:0{machine},romfile=,disable-legacy=on,iommu_platform=on"
            ),
        ]
    }
}

/// A running dom0. Dropping it ends QEMU.
pub struct Bed {
    // Nothing in dom0 is worth an orderly end: all that matters is on this machine's disk already. It is dropped first.
    _qemu: Running,
    scratch: Scratch,
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
    /// Boots dom0 and waits until it takes jobs.
    pub fn start(
        image: &Image,
        parent: &Path,
        size: Size,
        mounts: &[Mount],
        accelerator: Accelerator,
    ) -> Result<Bed> {
        Self::start_with(image, parent, size, mounts, accelerator, None)
    }

    fn start_with(
        image: &Image,
        parent: &Path,
        size: Size,
        mounts: &[Mount],
        accelerator: Accelerator,
        wire: Option<&Wire>,
    ) -> Result<Bed> {
        let scratch = Scratch::new(parent)?;
        for name in ["job", "console"] {
            let path = scratch.path().join(name);
            fs::create_dir_all(&path).during("create", &path)?;
        }
        let errors = scratch.path().join("qemu.log");
        let errors = File::create(&errors).during("create", &errors)?;
        let host = Mount {
            tag: "host".to_owned(),
            path: scratch.path().to_owned(),
            read_only: false,
        };
        let mounts: Vec<&Mount> = std::iter::once(&host).chain(mounts).collect();
        let tags: Vec<&str> = mounts.iter().map(|mount| mount.tag.as_str()).collect();
        let machine = wire.map_or(String::new(), |wire| {
            format!(" bed.machine={}", wire.machine)
        });
        let machine = Machine {
            accelerator,
            xen: &image.xen,
            xen_options: &format!("{} {}", size.options(), image.xen_options),
            kernel: &image.kernel,
            kernel_options: &format!("{KERNEL_OPTIONS} bed.mounts={}{machine}", tags.join(",")),
            initrd: Some(&image.initrd),
            memory: size.machine,
            console: DOM0_LOG,
        };
        for pipe in SHELL_PIPES {
            make_pipe(&scratch.path().join(pipe))?;
        }
        let mut qemu = machine.command(scratch.path())?;
        qemu.args([
            "-device",
            "virtio-serial-pci,disable-legacy=on,iommu_platform=on",
        ])
        .args(["-chardev", "stdio,id=control,signal=off"])
        .args([
            "-device",
            "virtserialport,chardev=control,nr=1,name=control",
        ])
        .args(["-chardev", "pipe,id=shell,path=shell"])
        .args(["-device", "virtconsole,chardev=shell,nr=2,name=shell"]);
        for mount in &mounts {
            let path = mount.path.display().to_string().replace(',', ",,");
            let read_only = if mount.read_only { ",readonly=on" } else { "" };
            qemu.arg("-fsdev")
                .arg(format!(
                    "local,id={},path={path},security_model=none,multidevs=remap{read_only}",
                    mount.tag
                ))
                .arg("-device")
                .arg(format!(
                    "virtio-9p-pci,fsdev={0},mount_tag={0},disable-legacy=on,iommu_platform=on",
                    mount.tag
                ));
        }
        if let Some(wire) = wire {
            qemu.args(wire.options());
        }
        qemu.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        let mut qemu = Running::start(&mut qemu, "qemu-system-x86_64")?;
        let child = qemu.child();
        let (Some(control), Some(replies)) = (child.stdin.take(), child.stdout.take()) else {
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
            _qemu: qemu,
            scratch,
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
        // All of it is there once its name is.
        let [draft, path] =
            ["new", &name].map(|name| self.scratch.path().join(format!("job/{name}.sh")));
        fs::write(&draft, script).during("write", &draft)?;
        fs::rename(&draft, &path).during("rename", &draft)?;
        let bell = self.control.write_all(b"\n");
        bell.map_err(|_| self.dead("dom0 is gone"))?;
        Ok(Job { name })
    }

    /// Waits for the end of a job; `None` if it still runs when the time is over.
    pub fn wait(&mut self, job: &Job, timeout: Duration) -> Result<Option<Finished>> {
        let deadline = Instant::now() + timeout;
        self.check_size(&self.dom0_log(), "Xen and dom0 have")?;
        self.check_size(&self.output_path(job), "a script in dom0 has")?;
        loop {
            if let Some(&status) = self.finished.get(&job.name) {
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

    /// Fails if more was printed than the limit.
    fn check_size(&self, path: &Path, who: &str) -> Result<()> {
        match fs::metadata(path) {
            Ok(file) if file.len() > PRINT_LIMIT => Err(fail!(
                "{who} printed more than {} MiB; the end of it:\n{}",
                PRINT_LIMIT >> 20,
                tail::end(&tail::text(path), 5)
            )),
            _ => Ok(()),
        }
    }

    /// Where a job's output is, as it is written.
    pub fn output_path(&self, job: &Job) -> PathBuf {
        self.scratch.path().join(format!("job/{}.out", job.name))
    }

    /// The console of a shell in dom0, to type on and to read from.
    pub fn shell(&self) -> Result<[File; 2]> {
        let [keys, screen] = SHELL_PIPES.map(|name| self.scratch.path().join(name));
        Ok([
            File::options()
                .write(true)
                .open(&keys)
                .during("open", &keys)?,
            File::open(&screen).during("open", &screen)?,
        ])
    }

    /// What a job has printed until now.
    pub fn output_so_far(&self, job: &Job) -> Result<String> {
        let path = self.output_path(job);
        match fs::read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error).during("read", &path),
        }
    }

    /// Where Xen and dom0 print.
    pub fn dom0_log(&self) -> PathBuf {
        self.scratch.path().join(DOM0_LOG)
    }

    /// The end of what Xen and dom0 printed.
    pub fn dom0_console(&self, lines: usize) -> String {
        tail::end(&tail::text(&self.dom0_log()), lines)
    }

    /// An error that says why the bed is of no more use.
    fn dead(&self, what: &str) -> host::Fail {
        leave::settle();
        let qemu = tail::end(&tail::text(&self.scratch.path().join("qemu.log")), 5);
        let console = self.dom0_console(15);
        fail!("{what}\n--- QEMU:\n{qemu}\n--- end of the console of Xen and dom0:\n{console}")
    }
}

/// Says how long the start took.
pub fn start(image: &Image, parent: &Path, size: Size, mounts: &[Mount]) -> Result<Bed> {
    let accelerator = accelerator(image, parent)?;
    say!("booting Xen and dom0 in QEMU");
    let bed = Bed::start(image, parent, size, mounts, accelerator)?;
    say!("dom0 is up");
    Ok(bed)
}

/// Boots two machines that are joined by a wire and have the same directories. In each dom0 `peer other COMMAND` has the
/// other one run a command.
pub fn start_pair(
    image: &Image,
    parent: &Path,
    size: Size,
    mounts: &[Mount],
) -> Result<(Bed, Bed)> {
    const SOCKET: &str = "wire";
    let accelerator = accelerator(image, parent)?;
    say!("booting Xen and dom0 in two QEMUs");
    let wire = Wire {
        machine: 1,
        socket: SOCKET.to_owned(),
    };
    let first = Bed::start_with(image, parent, size, mounts, accelerator, Some(&wire))?;
    let directory = first.path().file_name().unwrap_or_default();
    let wire = Wire {
        machine: 2,
        socket: format!("../{}/{SOCKET}", directory.display()),
    };
    let second = Bed::start_with(image, parent, size, mounts, accelerator, Some(&wire))?;
    say!("both are up");
    Ok((first, second))
}

fn accelerator(image: &Image, parent: &Path) -> Result<Accelerator> {
    if !host::has_program("qemu-system-x86_64") {
        return Err(fail!(
            "qemu-system-x86_64 is missing; xen-bed doctor tells what to type"
        ));
    }
    Ok(accel::choose(image, parent))
}
