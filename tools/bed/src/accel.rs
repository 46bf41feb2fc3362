//! Whether KVM can run Xen here: found out by booting Xen in it, as some machines have a /dev/kvm that can't.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::dom0::Image;
use crate::host::{Result, Running};
use crate::qemu::Machine;
use crate::scratch::Scratch;
use crate::{say, tail};

/// What runs the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accelerator {
    /// The processor, with nested virtualisation for PVH guests.
    Kvm,
    /// QEMU's software emulation.
    Tcg,
}

/// Time Xen has to come up in KVM. It takes less than a second.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// What Xen prints when it can run PVH guests.
const CAN_RUN_PVH: &str = "HVM: ASIDs";

/// What Xen prints when it comes to dom0.
const COMES_TO_DOM0: &str = "Loading Dom0";

/// Finds out once per boot of this machine, and says what is used and why.
pub fn choose(image: &Image, parent: &Path) -> Accelerator {
    static CHOICE: OnceLock<Accelerator> = OnceLock::new();
    *CHOICE.get_or_init(|| {
        let (found, reason) = find(image, parent);
        match found {
            Accelerator::Kvm => say!("KVM runs Xen here: {reason}"),
            Accelerator::Tcg => say!("software emulation runs Xen here: {reason}"),
        }
        found
    })
}

fn find(image: &Image, parent: &Path) -> (Accelerator, String) {
    let device = Path::new("/dev/kvm");
    if !device.exists() {
        return (Accelerator::Tcg, "this machine has no /dev/kvm".into());
    }
    if let Err(error) = File::options().read(true).write(true).open(device) {
        return (Accelerator::Tcg, format!("/dev/kvm: {error}"));
    }
    if let Some(remembered) = remembered(parent) {
        return remembered;
    }
    let (found, reason) = match probe(image, parent) {
        Ok(Ok(())) => (Accelerator::Kvm, "a probe booted it".to_owned()),
        Ok(Err(reason)) => (Accelerator::Tcg, format!("/dev/kvm is there, but {reason}")),
        Err(fail) => (
            Accelerator::Tcg,
            format!("the probe of /dev/kvm failed: {fail}"),
        ),
    };
    remember(parent, found, &reason);
    (found, reason)
}

/// Where the answer is kept; another boot of the machine, or another one that shares the cache, asks anew.
fn memory(parent: &Path) -> Option<(PathBuf, String)> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some((parent.join("kvm"), boot))
}

fn remembered(parent: &Path) -> Option<(Accelerator, String)> {
    let (path, boot) = memory(parent)?;
    let text = fs::read_to_string(path).ok()?;
    let answer = text.strip_prefix(&boot)?;
    match answer.split_once(' ')? {
        ("kvm", reason) => Some((Accelerator::Kvm, reason.to_owned())),
        ("tcg", reason) => Some((Accelerator::Tcg, reason.to_owned())),
        _ => None,
    }
}

fn remember(parent: &Path, found: Accelerator, reason: &str) {
    let name = match found {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    if let Some((path, boot)) = memory(parent) {
        // Where it can't be written the next run asks again.
        let _ = fs::write(path, format!("{boot}{name} {}", reason.replace('\n', " ")));
    }
}

/// Boots Xen in KVM, without a dom0 to speak of; the inner error says why it can't be used.
fn probe(image: &Image, parent: &Path) -> Result<std::result::Result<(), String>> {
    const CONSOLE: &str = "xen.log";

    let scratch = Scratch::new(parent)?;
    let console = scratch.path().join(CONSOLE);
    let machine = Machine {
        accelerator: Accelerator::Kvm,
        xen: &image.xen,
        // The probe is over before this dom0 would miss its file system.
        xen_options: "dom0_mem=256M loglvl=all",
        kernel: &image.kernel,
        kernel_options: "",
        initrd: None,
        memory: 1024,
        console: CONSOLE,
    };
    let mut command = machine.command(scratch.path())?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut qemu = Running::start(&mut command, "qemu-system-x86_64")?;
    let deadline = Instant::now() + PROBE_TIMEOUT;
    loop {
        let text = tail::text(&console);
        if text.contains(COMES_TO_DOM0) {
            return Ok(match text.contains(CAN_RUN_PVH) {
                true => Ok(()),
                false => Err("it has no nested virtualisation".to_owned()),
            });
        }
        if !matches!(qemu.child().try_wait(), Ok(None)) {
            return Ok(Err("QEMU can't use it".to_owned()));
        }
        if Instant::now() >= deadline {
            return Ok(Err(format!(
                "Xen does not come up in it within {} s",
                PROBE_TIMEOUT.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
