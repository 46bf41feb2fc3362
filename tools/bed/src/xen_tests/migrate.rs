//! `xl migrate` between two machines that see the same directory, of guests that use its files.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::lab::{Share, content, ends_with, shows};
use crate::dom0::Image;
use crate::domain::{Backend, Domain, Ended, Guest, Kind};
use crate::host::{Context, Result};
use crate::release::Release;
use crate::scratch::Scratch;
use crate::xen::{self, Bed, Mount, Size};
use crate::{Settings, daemon, fail, say};

/// A test of guests of one kind.
pub type Test = (&'static str, fn(&mut Pair<'_>) -> Result<()>);

pub const TESTS: &[Test] = &[
    ("idle", idle),
    ("while-copying", while_copying),
    ("hundred-open-files", hundred_open_files),
];

/// Those in which a guest does not move, for kinds that can.
pub const FAILING: &[Test] = &[
    ("receiver-killed", receiver_killed),
    ("machine-lost", machine_lost),
];

/// What xl says of a PV domain under a hypervisor without shadow page tables, as Debian's are since
/// XSA-495: nothing tells there which pages change while they are sent.
const NO_SHADOW: &str = "Failed to enable logdirty";

/// Time a guest may take for each thing that is waited for.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Memory of each machine for its guest, in MiB.
const GUEST_MEMORY: u32 = 128;

/// What can serve files on both machines: QEMU 10 was started by hand, and xl starts none where a guest arrives.
pub fn backends(release: &Release) -> Vec<Backend> {
    match release.has_daemons {
        true => vec![Backend::Xen9pd],
        false => vec![Backend::Qemu, Backend::Xen9pdInstead],
    }
}

/// Two machines, and the directory that both have.
struct Machines {
    first: Bed,
    second: Bed,
    shared: Scratch,
}

/// Where the tests are made.
pub struct Pair<'a> {
    settings: &'a Settings,
    image: &'a Image,
    backend: Backend,
    kind: Kind,
    machines: Option<Machines>,
    guests: u32,
}

impl<'a> Pair<'a> {
    /// Two machines that do not run yet.
    pub fn new(settings: &'a Settings, image: &'a Image, backend: Backend) -> Pair<'a> {
        Pair {
            settings,
            image,
            backend,
            kind: Kind::Pvh,
            machines: None,
            guests: 0,
        }
    }

    /// Runs a test. After a failure the next one gets new machines.
    pub fn attempt(&mut self, kind: Kind, test: fn(&mut Pair<'_>) -> Result<()>) -> Result<()> {
        self.kind = kind;
        let result = test(self);
        let Err(failure) = result else { return Ok(()) };
        let mut report = failure.0;
        if let Some(machines) = self.machines.take() {
            for (which, bed, arrived) in [
                ("first", &machines.first, ""),
                ("second", &machines.second, "--incoming"),
            ] {
                let name = format!("guest{}{arrived}", self.guests);
                let console = bed.path().join(format!("console/guest-{name}.log"));
                let console = crate::tail::end(&crate::tail::text(&console), 12);
                let log = bed.dom0_console(15);
                report += &format!(
                    "\n--- {which} machine, guest's console:\n{console}\n--- Xen and dom0:\n{log}"
                );
            }
        }
        Err(fail!("{report}"))
    }

    /// The machines; new ones if there are none.
    fn machines(&mut self) -> Result<&mut Machines> {
        if self.machines.is_none() {
            let cache = self.settings.cache();
            let shared = Scratch::new(&cache)?;
            let mounts = [Mount {
                tag: "shared".to_owned(),
                path: shared.path().to_owned(),
                read_only: false,
            }];
            let size = Size::of_machine(crate::run::BASE_MEMORY + GUEST_MEMORY);
            let (mut first, mut second) = xen::start_pair(self.image, &cache, size, &mounts)?;
            let target = self.settings.root.join("target");
            for bed in [&mut first, &mut second] {
                bed.bring(&self.settings.image, "xen9p.elf")?;
                bed.bring(&target.join("migrating-guest.elf"), "migrating-guest.elf")?;
                if self.backend.is_xen9pd() {
                    daemon::start(bed, &self.settings.daemon())?;
                }
            }
            self.machines = Some(Machines {
                first,
                second,
                shared,
            });
        }
        self.machines
            .as_mut()
            .ok_or_else(|| fail!("there are no machines"))
    }

    /// A guest with that command line, and the new directory that is its share.
    fn guest(&mut self, command_line: &str) -> Result<(Guest, Share)> {
        self.guests += 1;
        let name = format!("guest{}", self.guests);
        let path = self.machines()?.shared.path().join(&name);
        fs::create_dir_all(&path).during("create", &path)?;
        let share = Share {
            path,
            in_dom0: format!("/shared/{name}"),
        };
        let guest = Guest {
            name,
            kind: self.kind,
            kernel: "/host/xen9p.elf".to_owned(),
            ramdisk: None,
            memory: 64,
            vcpus: 1,
            command_line: command_line.to_owned(),
            shares: Vec::new(),
            backend: self.backend,
            more: String::new(),
        };
        Ok((guest.with("share", &share), share))
    }

    fn start(&mut self, guest: &Guest) -> Result<Domain> {
        Domain::create(&mut self.machines()?.first, guest)
    }

    /// Waits until the guest, on this machine, has printed a text.
    fn console_of(&mut self, domain: &mut Domain, at: At, text: &str) -> Result<()> {
        let bed = at.of(self.machines()?);
        let deadline = Instant::now() + TIMEOUT;
        while !domain.console().contains(text) {
            if domain.has_ended(bed)? || Instant::now() >= deadline {
                return Err(fail!("the guest never printed \"{text}\""));
            }
        }
        Ok(())
    }

    /// Takes the guest from the first machine to the second: live, or where that is refused, in a file.
    fn migrate(&mut self, domain: &mut Domain, guest: &Guest) -> Result<()> {
        let is_pv = self.kind == Kind::Pv;
        let machines = self.machines()?;
        let began = Instant::now();
        let how = match domain.migrate(&mut machines.first, &mut machines.second)? {
            None => "live",
            Some(output) if is_pv && output.contains(NO_SHADOW) => {
                domain.carry(&mut machines.first, &mut machines.second, guest)?;
                "in a file, as xl refused to do it live,"
            }
            Some(output) => return Err(fail!("xl migrate failed:\n{}", output.trim_end())),
        };
        let seconds = began.elapsed().as_secs_f32();
        say!("{} moved {how} in {seconds:.1} s", domain.name());
        Ok(())
    }

    fn end_of(&mut self, domain: &mut Domain, at: At) -> Result<Ended> {
        let bed = at.of(self.machines()?);
        let ended = domain.wait(bed, Some(Instant::now() + TIMEOUT), |_| Ok(()))?;
        ended.ok_or_else(|| fail!("the guest still runs after {} s", TIMEOUT.as_secs()))
    }
}

/// Which machine.
#[derive(Clone, Copy)]
enum At {
    First,
    Second,
}

impl At {
    fn of(self, machines: &mut Machines) -> &mut Bed {
        match self {
            At::First => &mut machines.first,
            At::Second => &mut machines.second,
        }
    }
}

/// A guest that waits for its user.
fn idle(pair: &mut Pair<'_>) -> Result<()> {
    let (guest, share) = pair.guest("recovery=reattach shell")?;
    share.write("hello.txt", b"the same on both\n")?;
    let mut domain = pair.start(&guest)?;
    pair.console_of(&mut domain, At::First, "/ $ ")?;
    pair.migrate(&mut domain, &guest)?;
    let second = &mut pair.machines()?.second;
    domain.types(second, b"cat /hello.txt; exit\r")?;
    let ended = pair.end_of(&mut domain, At::Second)?;
    ends_with(&ended, 0)?;
    shows(&ended.console, "the same on both\r\n")
}

/// The guest that works until it is told that this is enough.
const WORKER: &str = "/host/migrating-guest.elf";

/// Bytes of the file that is copied.
const COPIED: usize = 8 << 20;

/// A guest that copies a file again and again until it is told that this is enough, and has begun to.
fn copying(pair: &mut Pair<'_>) -> Result<(Domain, Guest, Share, Vec<u8>)> {
    let (mut guest, share) = pair.guest("recovery=reattach log=info copies")?;
    guest.kernel = WORKER.to_owned();
    let content = content(COPIED);
    share.write("in.bin", &content)?;
    let mut domain = pair.start(&guest)?;
    let deadline = Instant::now() + TIMEOUT;
    while size_of(&share.path.join("copy.bin")) < 1 << 20 {
        let first = &mut pair.machines()?.first;
        if domain.has_ended(first)? || Instant::now() >= deadline {
            return Err(fail!("the copy never began"));
        }
    }
    Ok((domain, guest, share, content))
}

fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The checksum is right although the file was copied in two places.
fn while_copying(pair: &mut Pair<'_>) -> Result<()> {
    let (mut domain, guest, share, content) = copying(pair)?;
    let watch = Standstill::watch(share.path.join("copy.bin"));
    pair.migrate(&mut domain, &guest)?;
    pair.console_of(&mut domain, At::Second, "goes on after")?;
    share.write("enough", b"")?;
    let ended = pair.end_of(&mut domain, At::Second)?;
    say!(
        "the copy stood still for at most {:.1} s",
        watch.end().as_secs_f32()
    );
    ends_with(&ended, 0)?;
    share.holds("copy.bin", &content)
}

/// Every handle that was open on the first machine works on the second.
fn hundred_open_files(pair: &mut Pair<'_>) -> Result<()> {
    let (mut guest, share) = pair.guest("recovery=reattach files")?;
    guest.kernel = WORKER.to_owned();
    let mut domain = pair.start(&guest)?;
    pair.console_of(&mut domain, At::First, "100 files are open")?;
    pair.migrate(&mut domain, &guest)?;
    share.write("enough", b"")?;
    let ended = pair.end_of(&mut domain, At::Second)?;
    ends_with(&ended, 0)?;
    shows(&ended.console, "100 files are right after")
}

/// The other xl dies in the middle: the guest goes on where it was.
fn receiver_killed(pair: &mut Pair<'_>) -> Result<()> {
    let (mut domain, _, share, content) = copying(pair)?;
    let machines = pair.machines()?;
    let killer = machines.second.start_job(
        "until xl list | grep -q -e --incoming; do sleep 0.05; done\nkillall -9 libxl-save-helper xl\n",
    )?;
    let Some(output) = domain.migrate(&mut machines.first, &mut machines.second)? else {
        return Err(fail!(
            "the guest was moved although the other xl was killed"
        ));
    };
    if machines.second.wait(&killer, TIMEOUT)?.is_none() {
        return Err(fail!("no guest arrived:\n{output}"));
    }
    share.write("enough", b"")?;
    let ended = pair.end_of(&mut domain, At::First)?;
    ends_with(&ended, 0)?;
    let second = &mut pair.machines()?.second;
    let left = second.run(
        "for id in $(xl list | awk '/--incoming/ { print $2 }'); do xl destroy $id; done; xl list",
        TIMEOUT,
    )?;
    if left.output.lines().count() != 2 {
        return Err(fail!("left on the second machine:\n{}", left.output));
    }
    share.holds("copy.bin", &content)
}

/// The other machine is gone in the middle: the guest goes on where it was.
fn machine_lost(pair: &mut Pair<'_>) -> Result<()> {
    let (mut domain, _, share, content) = copying(pair)?;
    let machines = pair.machines()?;
    let killer = machines.second.start_job(
        "until xl list | grep -q -e --incoming; do sleep 0.05; done\necho b > /proc/sysrq-trigger\n",
    )?;
    let moved = domain.migrate(&mut machines.first, &mut machines.second)?;
    let Some(output) = moved else {
        return Err(fail!("the guest was moved to a machine that is gone"));
    };
    if machines.second.wait(&killer, TIMEOUT).is_ok() {
        return Err(fail!("no guest arrived:\n{output}"));
    }
    share.write("enough", b"")?;
    let ended = pair.end_of(&mut domain, At::First)?;
    ends_with(&ended, 0)?;
    share.holds("copy.bin", &content)?;
    // One of them is gone.
    pair.machines = None;
    Ok(())
}

/// Looks how long a file that is written does not change.
struct Standstill {
    end: std::sync::mpsc::Sender<()>,
    watcher: std::thread::JoinHandle<Duration>,
}

impl Standstill {
    fn watch(path: std::path::PathBuf) -> Standstill {
        let (end, over) = std::sync::mpsc::channel();
        let watcher = std::thread::spawn(move || {
            let (mut longest, mut size, mut since) = (Duration::ZERO, 0, Instant::now());
            while over.recv_timeout(Duration::from_millis(5))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let now = size_of(&path);
                if now != size {
                    longest = longest.max(since.elapsed());
                    (size, since) = (now, Instant::now());
                }
            }
            longest
        });
        Standstill { end, watcher }
    }

    /// The longest time in which it stayed as it was.
    fn end(self) -> Duration {
        drop(self.end);
        self.watcher.join().unwrap_or_default()
    }
}
