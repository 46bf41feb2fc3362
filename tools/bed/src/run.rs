//! `xen-bed run`: one guest, its console live on stdout, its status as ours.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use regex::Regex;

use crate::dom0::Image;
use crate::domain::{Domain, Ended, Guest, Kind, Reason};
use crate::host::{Context, Result};
use crate::keyboard::Keyboard;
use crate::release::Release;
use crate::share::Share;
use crate::tail::Tail;
use crate::xen::{self, Bed, Size};
use crate::{cache, daemon, dom0, elf, fail, say};

/// How often this terminal's keys are taken to the guest.
const KEYS_INTERVAL: Duration = Duration::from_millis(20);

/// Status when the guest crashed. Rust's own programs use it, too.
const CRASHED: u8 = 101;

/// Status when the guest asked to be started again, as it does by a triple fault.
const REBOOTED: u8 = 102;

/// Status when the guest took too long, as with timeout(1).
const TOO_LONG: u8 = 124;

/// Machine memory that is not the guest's, in MiB: Xen's, dom0's, and a 9pfs backend per share.
pub const BASE_MEMORY: u32 = 1024;

/// Size from which on xl is given a copy in dom0's memory: it maps an image, and asks for each page by itself.
const LARGE: u64 = 1 << 20;

/// What a dom0 is made of and served by.
#[derive(Args, Clone, Debug)]
pub struct Dom0 {
    /// Version of Xen: 4.17 (of Debian 12), 4.20 (of Debian 13), or argo (4.17 built from Debian's source, with Argo)
    #[arg(long, default_value = "4.17", value_parser = Release::named)]
    pub xen: &'static Release,
    /// What serves shares in dom0: qemu, xen9pd, or 9pfsd (of Xen 4.20); the usual one is QEMU, and xen9pd with 4.20
    #[arg(long, default_value = "")]
    pub backend: String,
    /// The program xen9pd, linked statically; else it is looked for beside this program
    #[arg(long, value_name = "FILE")]
    pub xen9pd: Option<PathBuf>,
    /// Show also what Xen, dom0 and xl say
    #[arg(short, long)]
    pub verbose: bool,
}

/// A guest, and how its run is to end.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The guest's kernel: an ELF file with Xen's notes, a Linux bzImage, or @linux for the Linux of dom0's release
    #[arg(long, value_name = "FILE")]
    pub kernel: PathBuf,
    /// Kind of domain; PVH unless the kernel can only be PV
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<Kind>,
    /// First file system of the guest; @linux for one with a shell on the console
    #[arg(long, value_name = "FILE")]
    pub ramdisk: Option<PathBuf>,
    /// Command line of the guest
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub cmdline: String,
    /// Memory of the guest in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub memory: u32,
    /// Virtual processors of the guest
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub vcpus: u32,
    /// A directory for the guest, as a 9pfs device with this tag (or `share`), read-only if that is asked for
    #[arg(long = "share", value_name = "DIR[:TAG[:ro]]", value_parser = Share::parse)]
    pub shares: Vec<Share>,
    /// Further lines of xl's configuration, which outdo those of the other options
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The run ends with the first line of the console that matches; what is in the first parentheses is its status
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub verdict: Option<Regex>,
    /// Seconds that the guest may run
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Type on the guest's console; Ctrl-] ends
    #[arg(short, long)]
    pub interactive: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it")]
    pub dom0: Dom0,
}

/// Runs the guest and returns the status to end with.
pub fn run(options: &Options) -> Result<u8> {
    let release = options.dom0.xen;
    let backend = release.backends_named(&options.dom0.backend)?[0];
    let daemon = match backend.is_xen9pd() && !options.shares.is_empty() {
        true => Some(find_xen9pd(options.dom0.xen9pd.as_deref())?),
        false => None,
    };
    let kind = match is_linux(&options.kernel) {
        true => options.kind.unwrap_or(Kind::Pvh),
        false => elf::kind(&options.kernel, options.kind)?,
    };
    let (mounts, shares) = Share::mounts(&options.shares)?;
    let more = match &options.config {
        None => String::new(),
        Some(path) => fs::read_to_string(path).during("read", path)?,
    };
    let mut guest = Guest {
        name: "guest".to_owned(),
        kind,
        kernel: String::new(),
        ramdisk: None,
        memory: options.memory,
        vcpus: options.vcpus,
        command_line: options.cmdline.clone(),
        shares,
        backend,
        more,
    };
    guest.config()?;
    let parent = cache::directory()?;
    let image = dom0::prepare(&parent, release)?;
    if options.dom0.verbose {
        eprintln!("--- packages of dom0:\n{}", image.versions.trim_end());
    }
    let size = Size::of_machine(BASE_MEMORY + guest.memory);
    let mut bed = xen::start(&image, &parent, size, &mounts)?;
    guest.kernel = bring_kernel(&mut bed, &image, &options.kernel, "kernel")?;
    if let Some(ramdisk) = &options.ramdisk {
        guest.ramdisk = Some(bring_ramdisk(&mut bed, &image, ramdisk, "ramdisk")?);
    }
    if let Some(program) = daemon {
        daemon::start(&mut bed, &program)?;
    }
    let shown: Vec<String> = options
        .shares
        .iter()
        .map(|share| share.shown.display().to_string())
        .collect();
    let shown = shown.join(", ");
    let with = if shown.is_empty() { "" } else { ", share " };
    say!(
        "xl create: {} guest, {} MiB{with}{shown}",
        kind.name(),
        guest.memory
    );
    let domain = Domain::create(&mut bed, &guest)?;
    watch(options, &mut bed, domain, &shown)
}

/// Whether the Linux of dom0's release is meant.
fn is_linux(path: &Path) -> bool {
    path == Path::new("@linux")
}

/// Takes a kernel to dom0, and returns its path there.
pub fn bring_kernel(bed: &mut Bed, image: &Image, file: &Path, name: &str) -> Result<String> {
    let file = if is_linux(file) { &image.kernel } else { file };
    bring(bed, file, name)
}

/// Takes a ramdisk to dom0, and returns its path there.
pub fn bring_ramdisk(bed: &mut Bed, image: &Image, file: &Path, name: &str) -> Result<String> {
    let file = if is_linux(file) {
        &image.guest_shell
    } else {
        file
    };
    bring(bed, file, name)
}

fn bring(bed: &mut Bed, file: &Path, name: &str) -> Result<String> {
    bed.bring(file, name)?;
    if fs::metadata(file).during("read", file)?.len() < LARGE {
        return Ok(format!("/host/{name}"));
    }
    let done = bed.run(
        &format!("cp /host/{name} /run/{name}"),
        Duration::from_secs(60),
    )?;
    match done.status {
        0 => Ok(format!("/run/{name}")),
        _ => Err(fail!(
            "dom0 has no room for {}: {}",
            file.display(),
            done.output.trim_end()
        )),
    }
}

/// Finds the program xen9pd: the one that is named, or one beside this program.
pub fn find_xen9pd(named: Option<&Path>) -> Result<PathBuf> {
    let found = match named {
        Some(path) => Some(path.to_owned()),
        None => {
            let own = env::current_exe().unwrap_or_default();
            let beside = own.parent().unwrap_or(Path::new("/"));
            ["xen9pd.static", "xen9pd"]
                .iter()
                .map(|name| beside.join(name))
                .find(|path| path.is_file())
        }
    };
    let path = found.ok_or_else(|| {
        fail!("the backend xen9pd needs its program, which is not beside this one: name it with --xen9pd FILE, or take another --backend")
    })?;
    elf::check_static(&path)?;
    Ok(path)
}

/// Shows the console until the guest's end, and returns the status to end with.
fn watch(options: &Options, bed: &mut Bed, mut domain: Domain, shown: &str) -> Result<u8> {
    let verbose = options.dom0.verbose;
    let mut noise = Tail::new(bed.dom0_log());
    let keyboard = options.interactive.then(Keyboard::take);
    let deadline = options
        .timeout
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut lines = Lines::new(options.verdict.as_ref());
    let ended = loop {
        // Short, so that a verdict and keys do not have to wait.
        let soon = Some(Instant::now() + KEYS_INTERVAL);
        let ended = domain.wait(bed, soon, |domain| {
            if verbose {
                noise.copy_new(&mut io::stderr())?;
            }
            domain.show_console(&mut lines)
        })?;
        if let Some(status) = lines.verdict {
            drop(keyboard);
            say!("guest ended with status {status}{}", files_in(shown));
            return Ok(status);
        }
        if let Some(ended) = ended {
            break ended;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            drop(keyboard);
            return Ok(took_too_long(options, bed, &domain));
        }
        // What is typed before there is a console waits.
        if let Some(keyboard) = keyboard.as_ref().filter(|_| domain.has_printed()) {
            match keyboard.typed() {
                (_, true) => return Err(fail!("given up by Ctrl-]")),
                (keys, false) if keys.is_empty() => {}
                // A guest that has just ended takes no keys.
                (keys, false) => drop(domain.types(bed, &keys)),
            }
        }
    };
    drop(keyboard);
    if verbose {
        eprintln!("--- xl:\n{}", ended.xl.trim_end());
    }
    judge(options, bed, &ended, shown)
}

/// The status of a guest that ended without a line that tells it.
fn judge(options: &Options, bed: &Bed, ended: &Ended, shown: &str) -> Result<u8> {
    let Some(reason) = ended.reason else {
        return Err(fail!(
            "xl could not run the guest:\n{}",
            ended.xl.trim_end()
        ));
    };
    let xen = || {
        format!(
            "--- end of the console of Xen and dom0:\n{}",
            bed.dom0_console(20)
        )
    };
    let (status, what) = match reason {
        Reason::PowerOff if options.verdict.is_some() => {
            return Err(fail!("the guest powered off without a verdict\n{}", xen()));
        }
        Reason::PowerOff => {
            say!("guest powered off{}", files_in(shown));
            return Ok(0);
        }
        Reason::Reboot => (REBOOTED, "asked to be started again, as by a triple fault"),
        Reason::Crash => (CRASHED, "crashed"),
        Reason::Other(code) => {
            return Err(fail!(
                "the guest ended for reason {code} (Xen's SHUTDOWN_*)\n{}",
                xen()
            ));
        }
    };
    say!("guest {what}\n{}", xen());
    Ok(status)
}

fn took_too_long(options: &Options, bed: &Bed, domain: &Domain) -> u8 {
    let seconds = options.timeout.unwrap_or_default();
    say!("guest still runs after {seconds} s, and is given up");
    if !domain.has_printed() {
        eprintln!(
            "It has printed nothing on Xen's console device, as `xl console` would show it.\n\
             --- end of the console of Xen and dom0, where console_io and port 0xe9 go:\n{}",
            bed.dom0_console(20)
        );
    }
    TOO_LONG
}

fn files_in(shown: &str) -> String {
    match shown {
        "" => String::new(),
        shown => format!("; its files are in {shown}"),
    }
}

/// Passes the console on to stdout, and looks for the verdict in its lines.
struct Lines<'a> {
    pattern: Option<&'a Regex>,
    line: Vec<u8>,
    verdict: Option<u8>,
}

/// Longest line that is looked at, in bytes.
const LINE: usize = 64 << 10;

impl Lines<'_> {
    fn new(pattern: Option<&Regex>) -> Lines<'_> {
        Lines {
            pattern,
            line: Vec::new(),
            verdict: None,
        }
    }

    fn look_at(&mut self, bytes: &[u8]) {
        let Some(pattern) = self.pattern else { return };
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() < LINE {
                    self.line.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line);
            if let Some(found) = pattern.captures(line.trim_end())
                && self.verdict.is_none()
            {
                let status = found
                    .get(1)
                    .map(|status| status.as_str().trim().parse::<u64>());
                self.verdict = Some(match status {
                    None => 0,
                    // What is no number is no success.
                    Some(status) => u8::try_from(status.unwrap_or(1)).unwrap_or(u8::MAX),
                });
            }
            self.line.clear();
        }
    }
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stdout().write(bytes)?;
        self.look_at(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_matches_gives_the_status() {
        let verdict = |pattern: &str, parts: &[&str]| {
            let pattern = Regex::new(pattern).unwrap();
            let mut lines = Lines::new(Some(&pattern));
            parts.iter().for_each(|part| lines.look_at(part.as_bytes()));
            lines.verdict
        };
        let exit = r"^exit (\S+)$";
        assert_eq!(
            verdict(exit, &["hello\nex", "it 3\r", "\nexit 0\n"]),
            Some(3)
        );
        assert_eq!(verdict(exit, &["exit 3"]), None);
        assert_eq!(verdict(exit, &["exit 300\n"]), Some(255));
        assert_eq!(verdict(exit, &["exit well\n"]), Some(1));
        assert_eq!(verdict("PASSED", &["all tests PASSED\n"]), Some(0));
        assert_eq!(verdict("PASSED", &["FAILED\n"]), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_told_how_to_be_named() {
        assert!(find_xen9pd(None).unwrap_err().0.contains("--xen9pd"));
        assert!(
            find_xen9pd(Some(Path::new("/no/xen9pd")))
                .unwrap_err()
                .0
                .contains("/no/xen9pd")
        );
    }
}
