//! A domain's life: memory, company, shutdown.

use super::Test;
use super::files::write_sparse;
use super::lab::{Lab, ends_with, same_trees, shows};
use crate::domain::{Ended, Reason, Verdict};
use crate::fail;
use crate::host::Result;

pub const TESTS: &[Test] = &[
    ("memory-4", |lab| with_memory(lab, 4)),
    ("memory-8", |lab| with_memory(lab, 8)),
    ("memory-4096", |lab| with_memory(lab, 4096)),
    ("four-vcpus", four_vcpus),
    ("long-command-line", long_command_line),
    ("two-domains-one-share", two_domains_one_share),
    ("two-shares", two_shares),
    ("shutdown-while-idle", shutdown_while_idle),
    ("reboot-while-idle", reboot_while_idle),
    ("shutdown-while-copying", shutdown_while_copying),
];

/// Status of an app that a shutdown interrupted, as after SIGTERM in a shell.
const INTERRUPTED: i32 = 143;

fn with_memory(lab: &mut Lab<'_>, memory: u32) -> Result<()> {
    if !lab.has_room_for(memory) {
        println!(
            "       (this machine has not enough memory for a guest of {memory} MiB: 512 instead)"
        );
    }
    let share = lab.directory()?;
    share.write("in.bin", &[0x5a; 3 << 20])?;
    let mut guest = lab
        .guest("cp /in.bin /out.bin; stats")
        .with("share", &share);
    guest.memory = if lab.has_room_for(memory) {
        memory
    } else {
        512
    };
    ends_with(&lab.run(&guest)?, 0)?;
    share.holds("out.bin", &[0x5a; 3 << 20])
}

/// The processors that the guest does not use do not disturb it.
fn four_vcpus(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    share.write("hello.txt", b"hello\n")?;
    let mut guest = lab.guest("cp /hello.txt /copy.txt").with("share", &share);
    guest.vcpus = 4;
    ends_with(&lab.run(&guest)?, 0)?;
    share.holds("copy.txt", b"hello\n")
}

/// The longest one that a PV guest can be given, which either kind must get whole.
fn long_command_line(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    let start = "write -n /line.txt ";
    let text = "0123456789".repeat(100 + 3);
    let text = &text[..1023 - start.len()];
    lab.succeeds(&share, &format!("{start}{text}"))?;
    share.holds("line.txt", text.as_bytes())
}

fn two_domains_one_share(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    for n in 0..20u8 {
        share.write(&format!("in/{n}.bin"), &vec![n; usize::from(n) * 10_007])?;
    }
    let guests = ["a", "b"].map(|name| {
        let line = format!("cp -r /in /{name}; write /{name}.txt {name}; echo all done; sleep 2");
        lab.guest(&line).with("share", &share)
    });
    let mut first = lab.start(&guests[0])?;
    let mut second = lab.start(&guests[1])?;
    ends_with(&lab.end_of(&mut first)?, 0)?;
    ends_with(&lab.end_of(&mut second)?, 0)?;
    for name in ["a", "b"] {
        same_trees(&share.path.join("in"), &share.path.join(name))?;
        share.holds(&format!("{name}.txt"), format!("{name}\n").as_bytes())?;
    }
    Ok(())
}

fn two_shares(lab: &mut Lab<'_>) -> Result<()> {
    let (first, second) = (lab.directory()?, lab.directory()?);
    first.write("one.txt", b"from the first\n")?;
    second.write("two.txt", b"from the second\n")?;
    let guest = lab
        .guest(
            "share=first cp /one.txt second:/one.txt; cp second:/two.txt /two.txt; ls / second:/",
        )
        .with("first", &first)
        .with("second", &second);
    ends_with(&lab.run(&guest)?, 0)?;
    for share in [first, second] {
        share.holds("one.txt", b"from the first\n")?;
        share.holds("two.txt", b"from the second\n")?;
    }
    Ok(())
}

/// Starts a guest that works until it is told to stop, and has xl tell it so.
fn interrupted(lab: &mut Lab<'_>, line: &str, sign: &str, order: &str) -> Result<Ended> {
    let share = lab.directory()?;
    write_sparse(&share, "big.bin", 1 << 30)?;
    let guest = lab.guest(line).with("share", &share);
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, sign)?;
    lab.dom0(&format!("xl {order} {}", guest.name))?;
    let ended = lab.end_of(&mut domain)?;
    let verdict = Verdict::from_console(&ended.console);
    if verdict != Verdict::Exit(INTERRUPTED) {
        return Err(fail!(
            "unexpected verdict {verdict:?}, expected status {INTERRUPTED}"
        ));
    }
    Ok(ended)
}

fn shutdown_while_idle(lab: &mut Lab<'_>) -> Result<()> {
    let ended = interrupted(
        lab,
        "echo asleep; sleep infinity; echo too far",
        "asleep",
        "shutdown",
    )?;
    ends_with(&ended, INTERRUPTED)
}

fn reboot_while_idle(lab: &mut Lab<'_>) -> Result<()> {
    let ended = interrupted(lab, "echo asleep; sleep infinity", "asleep", "reboot")?;
    match ended.reason {
        Some(Reason::Reboot) => Ok(()),
        other => Err(fail!("xl saw {other:?}, not a reboot")),
    }
}

/// The copy is of a file so large that no copy of it ends by itself in the time of the test.
fn shutdown_while_copying(lab: &mut Lab<'_>) -> Result<()> {
    let ended = interrupted(
        lab,
        "echo copying; cp /big.bin /copy.bin",
        "copying",
        "shutdown",
    )?;
    shows(&ended.console, "interrupted")?;
    ends_with(&ended, INTERRUPTED)
}
