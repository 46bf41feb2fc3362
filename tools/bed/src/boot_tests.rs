//! Boot tests: the image "bootcheck" is dom0 itself, directly under Xen, with no Linux around. A few seconds each.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::dom0::{self, Image};
use crate::domain::{Kind, Verdict};
use crate::host::{Context, Result, Scratch};
use crate::qemu::Machine;
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
    Boot { name: "invalid-instruction", words: "ud", xen_options: "dom0_mem=64M", end: |_| End::Panic("invalid") },
    Boot { name: "stack-overflow", words: "stack", xen_options: "dom0_mem=64M", end: |kind| match kind {
        Kind::Pvh => End::Panic("stack overflow"),
        // Xen itself pushes a PV guest's exception frames, and finds no room for one.
        Kind::Pv => End::Crash,
    } },
];

/// Runs them all.
pub fn run(settings: &Settings) -> Result<u8> {
    let image = dom0::prepare(&settings.cache(), settings.release)?;
    let kernel = settings.root.join("target/bootcheck.elf");
    std::fs::metadata(&kernel).during("read", &kernel)?;
    let scratch = Scratch::new(&settings.cache())?;
    let suite = Suite::new(settings.only.clone());
    say!("booting {} images directly under Xen", BOOTS.len() * 2);
    let mut cases = Vec::new();
    for boot in BOOTS {
        for kind in [Kind::Pv, Kind::Pvh] {
            let (image, kernel, scratch) = (&image, &kernel, scratch.path());
            cases.push(Case {
                name: format!("boot/{}/{}", kind.name(), boot.name),
                run: Box::new(move || check(boot, kind, image, kernel, scratch)),
            });
        }
    }
    suite.run_all(cases);
    suite.finish()
}

fn check(boot: &Boot, kind: Kind, image: &Image, kernel: &Path, scratch: &Path) -> Result<()> {
    let console = scratch.join(format!("{}-{}.log", boot.name, kind.name()));
    let outcome = boot_until_the_end(boot, kind, image, kernel, &console);
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
    console: &Path,
) -> Result<()> {
    let mode = match kind {
        Kind::Pv => "",
        // Without an IOMMU, which the machine has not.
        Kind::Pvh => " dom0=pvh dom0-iommu=none",
    };
    let mut qemu = Machine {
        xen: &image.xen,
        xen_options: &format!("{}{mode}", boot.xen_options),
        kernel,
        kernel_options: boot.words,
        initrd: None,
        memory: 1024,
        console: console.to_owned(),
    }
    .command()
    .stdin(Stdio::null())
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .map_err(|error| fail!("cannot run qemu-system-x86_64: {error}"))?;
    let deadline = Instant::now() + RUN_TIMEOUT;
    let outcome = loop {
        let ended = |error: io::Error| fail!("cannot wait for QEMU: {error}");
        if qemu.try_wait().map_err(ended)?.is_some() {
            break Ok(());
        }
        // After a crash Xen counts five seconds down; there is nothing to see in them.
        if tail::text(console).contains(CRASHED) {
            break Ok(());
        }
        if Instant::now() >= deadline {
            break Err(fail!("still running after {} s", RUN_TIMEOUT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // It may have ended by itself.
    let _ = qemu.kill();
    let _ = qemu.wait();
    outcome
}

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
