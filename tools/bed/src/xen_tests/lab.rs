//! What the tests under xl share: one dom0 for many of them, directories, guests, and a report when one fails.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::dom0::Image;
use crate::domain::{Backend, Domain, Ended, Guest, Kind, Reason, Verdict};
use crate::host::{self, Context, Result};
use crate::xen::{self, Bed, Size};
use crate::{Settings, daemon, fail, say, tail};

/// Time a guest may take. Most take 5 s on an idle machine, Linux up to 150; this allows for one that does much else.
const RUN_TIMEOUT: Duration = Duration::from_secs(600);

/// Machine memory while the tests run, in MiB, if this machine has it: QEMU takes only what is used.
const MUCH_MEMORY: u32 = 5632;

/// Machine memory otherwise, in MiB.
const LITTLE_MEMORY: u32 = 2048;

/// Tells of the guest `$1` what there is to tell if it still runs: which side waits, and where the threads of xen-9pfsd
/// are (the first in anything but poll serves no guest). Xen prints all event channels,
/// with who polls, what is pending and what masked.
const STUCK: &str = r#"
if id=$(xl domid $1 2>/dev/null); then
    xl vcpu-list $1
    xenstore-ls -f /local/domain/$id/device/9pfs | grep -e state -e event
    for task in /proc/$(pidof xen-9pfsd)/task/*; do echo "xen-9pfsd: ${task##*/} $(cat $task/wchan)"; done 2>/dev/null
    xl debug-keys e
fi
"#;

/// Where the tests are made.
pub struct Lab<'a> {
    settings: &'a Settings,
    image: &'a Image,
    bed: Option<Bed>,
    memory: u32,
    /// Type of the guests now.
    pub kind: Kind,
    /// What serves their shares now.
    pub backend: Backend,
    guests: u32,
    /// Names of the guests of this test, for the report.
    of_this_test: Vec<String>,
    log_seen: usize,
}

impl<'a> Lab<'a> {
    /// A lab without a dom0 yet.
    pub fn new(settings: &'a Settings, image: &'a Image) -> Result<Lab<'a>> {
        let plenty = host::available_memory_mib()? > u64::from(MUCH_MEMORY) + 1024;
        Ok(Lab {
            settings,
            image,
            bed: None,
            memory: if plenty { MUCH_MEMORY } else { LITTLE_MEMORY },
            kind: Kind::Pvh,
            backend: settings.backend(),
            guests: 0,
            of_this_test: Vec::new(),
            log_seen: 0,
        })
    }

    /// From now on shares are served by this. Another dom0 is booted where two would be in each other's way.
    pub fn serve_by(&mut self, backend: Backend) {
        if self.backend.is_xen9pd() != backend.is_xen9pd() {
            self.bed = None;
        }
        self.backend = backend;
    }

    /// Whether a guest of so many MiB fits.
    pub fn has_room_for(&self, memory: u32) -> bool {
        memory + crate::run::BASE_MEMORY <= self.memory
    }

    /// The running dom0; a new one if there is none.
    pub fn bed(&mut self) -> Result<&mut Bed> {
        if self.bed.is_none() {
            let cache = self.settings.cache();
            let mut size = Size::of_machine(self.memory);
            if self.memory == MUCH_MEMORY {
                size.dom0 = 768;
            }
            let bed = xen::start(self.image, &cache, size, &[])?;
            bed.bring(&self.settings.image, "xen9p.elf")?;
            self.log_seen = 0;
            let bed = self.bed.insert(bed);
            if self.backend.is_xen9pd() {
                daemon::start(bed, &self.settings.daemon())?;
            }
        }
        self.bed.as_mut().ok_or_else(|| fail!("there is no dom0"))
    }

    /// Runs a test, and on failure adds the ends of all consoles to its error. A dom0 that does not answer afterwards
    /// is replaced.
    pub fn attempt(&mut self, test: fn(&mut Lab<'_>) -> Result<()>) -> Result<()> {
        self.of_this_test.clear();
        let result = test(self);
        let Err(fail) = result else { return Ok(()) };
        let mut report = fail.0;
        let mut usable = false;
        if let Some(bed) = &mut self.bed {
            for name in &self.of_this_test {
                let console = tail::text(&bed.path().join(format!("console/guest-{name}.log")));
                report += &format!(
                    "\n--- end of the console of guest {name}:\n{}",
                    tail::end(&console, 12)
                );
            }
            let stuck: Vec<String> = self
                .of_this_test
                .iter()
                .map(|name| format!("set -- {name}\n{STUCK}"))
                .collect();
            let state = bed.run(&stuck.concat(), Duration::from_secs(60));
            let mut lines = 15;
            if let Ok(state) = state
                && !state.output.is_empty()
            {
                report += &format!("\n--- what still runs:\n{}", tail::end(&state.output, 30));
                // What Xen was asked for is there, too.
                lines = 80;
            }
            if self.backend.is_xen9pd() {
                let log = tail::text(&bed.path().join(daemon::LOG));
                report += &format!("\n--- end of xen9pd's log:\n{}", tail::end(&log, 20));
            }
            let log = tail::text(&bed.dom0_log());
            let fresh = log.get(self.log_seen..).unwrap_or(&log);
            report += &format!(
                "\n--- end of the console of Xen and dom0:\n{}",
                tail::end(fresh, lines)
            );
            self.log_seen = log.len();
            let script: Vec<String> = self
                .of_this_test
                .iter()
                .map(|name| {
                    format!(
                        "xl destroy {name} 2>/dev/null; cat /var/log/xen/qemu-dm-{name}.log 2>/dev/null\n"
                    )
                })
                .collect();
            let done = bed.run(
                &format!("{} dmesg | tail -n 5", script.concat()),
                Duration::from_secs(60),
            );
            usable = done.is_ok();
            if let Ok(done) = done {
                report += &format!(
                    "\n--- dom0's backend and kernel:\n{}",
                    tail::end(&done.output, 12)
                );
            }
        }
        if !usable && self.bed.take().is_some() {
            say!("dom0 does not answer any more: the next test gets a new one");
        }
        Err(fail!("{report}"))
    }

    /// Names of the guests that this test has started.
    pub fn names_of_this_test(&self) -> Vec<String> {
        self.of_this_test.clone()
    }

    /// What the user asked for.
    pub fn settings(&self) -> &'a Settings {
        self.settings
    }

    /// A Linux kernel, and the file system with the modules for its shares.
    pub fn linux(&self) -> (PathBuf, PathBuf) {
        (self.image.kernel.clone(), self.image.guest.clone())
    }

    /// Whether there is little time.
    pub fn is_short(&self) -> bool {
        self.settings.short
    }

    /// The project's directory.
    pub fn root(&self) -> PathBuf {
        self.settings.root.clone()
    }

    /// A new directory, live in dom0: where it is here, and its path there.
    pub fn directory(&mut self) -> Result<Share> {
        self.guests += 1;
        let name = format!("share{}", self.guests);
        let path = self.bed()?.path().join(&name);
        fs::create_dir_all(&path).during("create", &path)?;
        Ok(Share {
            path,
            in_dom0: format!("/host/{name}"),
        })
    }

    /// A guest with that command line and no device.
    pub fn guest(&mut self, command_line: &str) -> Guest {
        self.guests += 1;
        let name = format!("guest{}", self.guests);
        Guest {
            name,
            kind: self.kind,
            kernel: "/host/xen9p.elf".to_owned(),
            ramdisk: None,
            memory: 32,
            vcpus: 1,
            command_line: command_line.to_owned(),
            shares: Vec::new(),
            backend: self.backend,
            more: String::new(),
        }
    }

    /// A guest whose kernel is another image than the one under test: `target/NAME.elf`.
    pub fn guest_of(&mut self, image: &str, command_line: &str) -> Result<Guest> {
        let name = format!("{image}.elf");
        let path = self.settings.root.join("target").join(&name);
        self.bed()?.bring(&path, &name)?;
        let mut guest = self.guest(command_line);
        guest.kernel = format!("/host/{name}");
        Ok(guest)
    }

    /// Whether this image was built.
    pub fn has_image(&self, image: &str) -> bool {
        let name = format!("{image}.elf");
        self.settings.root.join("target").join(name).exists()
    }

    /// Starts a guest.
    pub fn start(&mut self, guest: &Guest) -> Result<Domain> {
        self.of_this_test.push(guest.name.clone());
        Domain::create(self.bed()?, guest)
    }

    /// Makes a guest, runs a script in dom0 with its domain id as `$1`, and only then lets the guest run.
    pub fn start_after(&mut self, guest: &Guest, script: &str) -> Result<Domain> {
        self.of_this_test.push(guest.name.clone());
        Domain::create_after(self.bed()?, guest, script)
    }

    /// Makes a guest by a script for dom0, which finds its configuration in `/host/NAME.cfg`.
    pub fn start_by(&mut self, guest: &Guest, script: &str) -> Result<Domain> {
        self.of_this_test.push(guest.name.clone());
        Domain::create_by(self.bed()?, guest, script)
    }

    /// Waits until a guest has ended.
    pub fn end_of(&mut self, domain: &mut Domain) -> Result<Ended> {
        let deadline = Instant::now() + RUN_TIMEOUT;
        let ended = domain.wait(self.bed()?, Some(deadline), |_| Ok(()))?;
        ended.ok_or_else(|| fail!("the guest still runs after {} s", RUN_TIMEOUT.as_secs()))
    }

    /// Waits until a guest's console shows a text.
    pub fn console_of(&mut self, domain: &mut Domain, text: &str) -> Result<()> {
        self.console_repeats(domain, text, 1)
    }

    /// Waits until a guest's console shows a text so many times.
    pub fn console_repeats(&mut self, domain: &mut Domain, text: &str, times: usize) -> Result<()> {
        let deadline = Instant::now() + RUN_TIMEOUT;
        let bed = self.bed()?;
        loop {
            let over = domain.has_ended(bed)? || Instant::now() >= deadline;
            let found = domain.console().matches(text).count();
            if found >= times {
                return Ok(());
            }
            if over {
                return Err(fail!(
                    "the guest printed \"{text}\" {found} times instead of {times}"
                ));
            }
        }
    }

    /// Waits until `copy.bin`, which a guest writes, has so many bytes.
    pub fn grows(&mut self, domain: &mut Domain, share: &Share, least: usize) -> Result<()> {
        let path = share.path.join("copy.bin");
        let deadline = Instant::now() + RUN_TIMEOUT;
        while fs::metadata(&path).map_or(0, |metadata| metadata.len()) < least as u64 {
            if domain.has_ended(self.bed()?)? || Instant::now() >= deadline {
                return Err(fail!("the copy never grew to {least} bytes"));
            }
        }
        Ok(())
    }

    /// Runs a guest to its end.
    pub fn run(&mut self, guest: &Guest) -> Result<Ended> {
        let mut domain = self.start(guest)?;
        self.end_of(&mut domain)
    }

    /// Runs a guest with one share, tag "share"; it must end with status 0. Returns its console.
    pub fn succeeds(&mut self, share: &Share, command_line: &str) -> Result<String> {
        let guest = self.guest(command_line).with("share", share);
        let ended = self.run(&guest)?;
        ends_with(&ended, 0)?;
        Ok(ended.console)
    }

    /// Runs a script in dom0 that must succeed; returns its output.
    pub fn dom0(&mut self, script: &str) -> Result<String> {
        let done = self.bed()?.run(script, RUN_TIMEOUT)?;
        match done.status {
            0 => Ok(done.output),
            status => Err(fail!(
                "status {status} in dom0 of: {script}\n{}",
                done.output.trim_end()
            )),
        }
    }
}

/// A directory to share.
pub struct Share {
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Its path in dom0.
    pub in_dom0: String,
}

impl Share {
    /// Writes a file in it, making the directories above.
    pub fn write(&self, name: &str, data: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).during("create", parent)?;
        }
        fs::write(&path, data).during("write", &path)
    }

    /// Fails unless the file has exactly this content.
    pub fn holds(&self, name: &str, data: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let found = fs::read(&path).during("read", &path)?;
        match difference(data, &found) {
            None => Ok(()),
            Some(difference) => Err(fail!("{name} is wrong: {difference}")),
        }
    }
}

impl From<&Share> for String {
    /// What a guest's device is told.
    fn from(share: &Share) -> String {
        share.in_dom0.clone()
    }
}

/// `size` bytes that are nowhere alike.
pub fn content(size: usize) -> Vec<u8> {
    (0..size as u32 / 4)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes())
        .collect()
}

/// Where two contents part.
fn difference(expected: &[u8], found: &[u8]) -> Option<String> {
    if expected == found {
        return None;
    }
    let at = expected
        .iter()
        .zip(found)
        .take_while(|(a, b)| a == b)
        .count();
    Some(format!(
        "{} bytes instead of {}, different from byte {at} on",
        found.len(),
        expected.len()
    ))
}

/// Fails unless two directories have the same names with the same content, all the way down. Returns the number of
/// files.
pub fn same_trees(expected: &Path, found: &Path) -> Result<usize> {
    let mut files = 0;
    let names = names_in(expected)?;
    if names != names_in(found)? {
        return Err(fail!(
            "{} and {} hold different names",
            expected.display(),
            found.display()
        ));
    }
    for name in names {
        let (a, b) = (expected.join(&name), found.join(&name));
        if a.is_dir() {
            files += same_trees(&a, &b)?;
            continue;
        }
        files += 1;
        let (left, right) = (
            fs::read(&a).during("read", &a)?,
            fs::read(&b).during("read", &b)?,
        );
        if let Some(difference) = difference(&left, &right) {
            return Err(fail!("{} is wrong: {difference}", b.display()));
        }
    }
    Ok(files)
}

/// The names in a directory, sorted.
pub fn names_in(directory: &Path) -> Result<Vec<String>> {
    let entries: io::Result<Vec<_>> = fs::read_dir(directory).during("list", directory)?.collect();
    let mut names: Vec<String> = entries
        .during("list", directory)?
        .into_iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// Fails unless the guest powered off after printing this status.
pub fn ends_with(ended: &Ended, status: i32) -> Result<()> {
    let verdict = Verdict::from_console(&ended.console);
    if ended.reason.is_none() {
        return Err(fail!(
            "xl could not run the guest:\n{}",
            ended.xl.trim_end()
        ));
    }
    if verdict != Verdict::Exit(status) {
        return Err(fail!(
            "unexpected verdict {verdict:?}, expected status {status}"
        ));
    }
    if ended.reason != Some(Reason::PowerOff) {
        return Err(fail!(
            "the guest ended by {:?}, not by powering off",
            ended.reason
        ));
    }
    if !ended
        .console
        .trim_end()
        .ends_with(&format!("[xen9p] exit {status}"))
    {
        return Err(fail!("the verdict is not the last line"));
    }
    Ok(())
}

/// Fails unless the text is there.
pub fn shows(console: &str, text: &str) -> Result<()> {
    if console.contains(text) {
        Ok(())
    } else {
        Err(fail!("the guest did not print \"{text}\""))
    }
}
