//! `xen-bed doctor`: what this machine has, what is missing, and what to type.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::dom0::argo;
use crate::dom0::packages::KEYRING;
use crate::host::{self, Result};
use crate::release::{BOOKWORM, TRIXIE};
use crate::{cache, dom0, show};

/// Programs that a run needs: name, Debian's package, and what for.
const TO_RUN: &[(&str, &str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86", "runs Xen"),
    ("setpriv", "util-linux", "ends QEMU with this program"),
];

/// Programs that building an image needs.
const TO_BUILD: &[(&str, &str, &str)] = &[
    ("mmdebstrap", "mmdebstrap", "unpacks dom0's packages"),
    ("apt-get", "apt", "downloads them"),
    ("xz", "xz-utils", "unpacks dom0's kernel"),
    ("gzip", "gzip", "unpacks Xen"),
    ("zstd", "zstd", "unpacks newer kernels"),
];

/// Memory of a small run, in MiB: dom0, Xen and a guest.
const MEMORY: u64 = 1200;

/// Collects what is there and what is not.
struct Report {
    missing: Vec<&'static str>,
    broken: bool,
}

impl Report {
    fn line(&mut self, is_good: bool, text: &str) {
        show!("{}  {text}", if is_good { "ok     " } else { "MISSING" });
        self.broken |= !is_good;
    }

    fn program(&mut self, (name, package, purpose): (&str, &'static str, &str)) {
        let is_there = host::has_program(name);
        let version = if is_there {
            version(name)
        } else {
            String::new()
        };
        self.line(is_there, &format!("{name}, which {purpose}{version}"));
        if !is_there {
            self.missing.push(package);
        }
    }
}

/// The first line of what a program says of itself.
fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    match text.lines().next() {
        Some(line) => format!(": {line}"),
        None => String::new(),
    }
}

/// Tells, and returns 0 if a guest can be run here.
pub fn run() -> Result<u8> {
    let mut report = Report {
        missing: Vec::new(),
        broken: false,
    };
    report.line(
        cfg!(target_arch = "x86_64"),
        &format!("an x86-64 machine: {}", std::env::consts::ARCH),
    );
    TO_RUN.iter().for_each(|&program| report.program(program));
    let parent = cache::directory()?;
    let images = [BOOKWORM, TRIXIE].map(|release| {
        let found = dom0::cached(&parent, &release);
        match &found {
            Some(path) => show!("ok       Xen {} is cached: {}", release.xen, path.display()),
            None => show!(
                "-        Xen {} is not cached; the first run takes it from Debian's mirror",
                release.xen
            ),
        }
        found
    });
    if images.iter().any(Option::is_none) {
        TO_BUILD.iter().for_each(|&program| report.program(program));
        let has_keys = Path::new(KEYRING).exists();
        report.line(has_keys, &format!("Debian's keys: {KEYRING}"));
        if !has_keys {
            report.missing.push("debian-archive-keyring");
        }
    }
    show!("{}", argo(&parent));
    let place = existing(&parent);
    let free = host::free_mib(&place)?;
    report.line(
        free >= 1300,
        &format!(
            "disk for images and runs: {} has {free} MiB free, building takes 1200",
            place.display()
        ),
    );
    let memory = host::available_memory_mib()?;
    report.line(
        memory >= MEMORY,
        &format!("memory: {memory} MiB to spare, a small run takes {MEMORY}"),
    );
    show!("-        {}", kvm());
    if !report.missing.is_empty() {
        let packages = report.missing.join(" ");
        let sudo = if host::is_root() { "" } else { "sudo " };
        show!(
            "\nOn Debian or Ubuntu, type:\n  {sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends {packages}"
        );
    } else if !report.broken {
        show!("\nAll is there; try:\n  xen-bed dom0 -c 'xl info'");
    }
    Ok(u8::from(report.broken))
}

/// What there is of a hypervisor with Argo, which no other run needs.
fn argo(parent: &Path) -> String {
    if let Some(path) = argo::cached(parent) {
        return format!("ok       Xen 4.17 with Argo is cached: {}", path.display());
    }
    let missing = argo::missing_packages();
    let first = "-        Xen 4.17 with Argo is not cached; the first run of --xen argo builds it of Debian's source package";
    match missing.is_empty() {
        true => format!("{first}, in a few minutes"),
        false => format!(
            "{first}, which takes packages that are missing: {}",
            missing.join(" ")
        ),
    }
}

/// The directory, or the nearest one above it that is there.
fn existing(path: &Path) -> PathBuf {
    let mut ancestors = path.ancestors();
    let found = ancestors.find(|path| fs::metadata(path).is_ok());
    found.unwrap_or(Path::new("/")).to_owned()
}

fn kvm() -> String {
    match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => "/dev/kvm is there; a run finds out whether Xen boots in it, and else emulates"
            .to_owned(),
        Err(error) => format!(
            "/dev/kvm can't be used ({error}); software emulation it is, which needs nothing"
        ),
    }
}
