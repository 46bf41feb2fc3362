//! Boot tests: the image "bootcheck" is dom0 itself, directly under Xen, with no Linux around. A few seconds each.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::accel::{self, Accelerator};
use crate::dom0::{self, Image};
use crate::domain::{Kind, Verdict};
use crate::host::{Context, Result, Running};
use crate::qemu::Machine;
use crate::scratch::Scratch;
use crate::suite::{Case, Suite};
use crate::{Settings, fail, say, tail};

/// Time a boot may take. One takes 2 s on an idle machine.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// How a boot is to end.
enum End {
    /// All checks pass, status 0, and dom0 powers off in good order.
    Passed,
    /// A panic whose text contains this, and dom0 crashes.
    Panic(&'static str),
    /// dom0 crashes; where there is no stack left, there may be no message.
    Crash,
}

struct Boot {
    name: &'static str,
    words: &'static str,
    xen_options: &'static str,
    end: fn(Kind) -> End,
}

#[rustfmt::skip]
const BOOTS: &[Boot] = &[
    Boot { name: "checks", words: "memory=64", xen_options: "dom0_mem=64M dom0_max_vcpus=1", end: |_| End::Passed },
    Boot { name: "small-memory", words: "", xen_options: "dom0_mem=8M dom0_max_vcpus=1", end: |_| End::Passed },
    Boot { name: "two-vcpus", words: "memory=256", xen_options: "dom0_mem=256M dom0_max_vcpus=2", end: |_| End::Passed },
    Boot { name: "panic", words: "panic", xen_options: "dom0_mem=64M", end: |_| End::Panic("as asked") },
    Boot { name: "page-fault", words: "fault", xen_options: "dom0_mem=64M", end: |_| End::Panic("page fault") },
    Boot { name: "write-to-code", words: "write-code", xen_options: "dom0_mem=64M", end: |_| End::Panic("page fault") },
    Boot { name: "run-data", words: "run-data", xen_options: "dom0_mem=64M", end: |_| End::Panic("page fault") },
    Boot { name: "invalid-instruction", words: "ud", xen_options: "dom0_mem=64M", end: |_| End::Panic("invalid") },
    Boot { name: "stack-overflow", words: "stack", xen_options: "dom0_mem=64M", end: |kind| match kind {
        Kind::Pvh | Kind::Hvm => End::Panic("stack overflow"),
        // Xen itself pushes a PV guest's exception frames, and finds no room for one.
        Kind::Pv => End::Crash,
    } },
];

/// Runs them all.
pub fn run(settings: &Settings) -> Result<u8> {
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    let kernel = settings.root.join("target/bootcheck.elf");
    fs::metadata(&kernel).during("read", &kernel)?;
    let scratch = Scratch::new(&settings.cache())?;
    let suite = Suite::new(settings.only.clone());
    say!("booting {} images directly under Xen", BOOTS.len() * 2);
    let accelerator = accel::choose(&image, &settings.cache());
    let mut cases = Vec::new();
    for boot in BOOTS {
        for kind in [Kind::Pv, Kind::Pvh] {
            let (image, kernel, scratch) = (&image, &kernel, scratch.path());
            cases.push(Case {
                name: format!("boot/{}/{}", kind.name(), boot.name),
                run: Box::new(move || check(boot, kind, image, kernel, scratch, accelerator)),
            });
        }
    }
    suite.run_all(cases);
    suite.finish()
}

fn check(
    boot: &Boot,
    kind: Kind,
    image: &Image,
    kernel: &Path,
    scratch: &Path,
    accelerator: Accelerator,
) -> Result<()> {
    let directory = scratch.join(format!("{}-{}", boot.name, kind.name()));
    fs::create_dir(&directory).during("create", &directory)?;
    let console = directory.join(CONSOLE);
    let outcome = boot_until_the_end(boot, kind, image, kernel, &directory, accelerator);
    let text = tail::text(&console);
    outcome
        .and_then(|()| judge(&(boot.end)(kind), &text))
        .map_err(|fail| fail!("{fail}\n--- end of the console:\n{}", tail::end(&text, 25)))
}

/// Runs QEMU until Xen tells that dom0 is no more.
fn boot_until_the_end(
    boot: &Boot,
    kind: Kind,
    image: &Image,
    kernel: &Path,
    directory: &Path,
    accelerator: Accelerator,
) -> Result<()> {
    let mode = match kind {
        Kind::Pv => "",
        // Without an IOMMU, which the machine has not.
        Kind::Pvh | Kind::Hvm => " dom0=pvh dom0-iommu=none",
    };
    let machine = Machine {
        accelerator,
        xen: &image.xen,
        xen_options: &format!("{}{mode}", boot.xen_options),
        kernel,
        kernel_options: boot.words,
        initrd: None,
        memory: 1024,
        console: CONSOLE,
    };
    let mut command = machine.command(directory)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut qemu = Running::start(&mut command, "qemu-system-x86_64")?;
    let console = directory.join(CONSOLE);
    let deadline = Instant::now() + RUN_TIMEOUT;
    loop {
        let ended = |error: io::Error| fail!("cannot wait for QEMU: {error}");
        if qemu.child().try_wait().map_err(ended)?.is_some() {
            return Ok(());
        }
        // After a crash Xen counts five seconds down; there is nothing to see in them.
        if tail::text(&console).contains(CRASHED) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(fail!("still running after {} s", RUN_TIMEOUT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Name of the file that the console of Xen goes to.
const CONSOLE: &str = "console.log";

/// What Xen says when dom0 crashed.
const CRASHED: &str = "Hardware Dom0 crashed";
/// What Xen says when dom0 shut down.
const SHUT_DOWN: &str = "Hardware Dom0 shutdown";

fn judge(end: &End, console: &str) -> Result<()> {
    let verdict = Verdict::from_console(console);
    let (as_expected, ending) = match end {
        End::Passed => (verdict == Verdict::Exit(0), SHUT_DOWN),
        End::Panic(text) => (
            matches!(&verdict, Verdict::Panic(found) if found.contains(text)),
            CRASHED,
        ),
        End::Crash => (!matches!(verdict, Verdict::Exit(_)), CRASHED),
    };
    if !as_expected {
        return Err(fail!("unexpected verdict: {verdict:?}"));
    }
    if !console.contains(ending) {
        return Err(fail!("Xen did not say \"{ending}\""));
    }
    Ok(())
}
