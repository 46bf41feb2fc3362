//! `xl save` and `xl restore` of a guest that uses files.

use super::Test;
use super::lab::{Lab, content, ends_with, shows};
use crate::domain::{Backend, Guest, Verdict};
use crate::fail;
use crate::host::Result;

pub const TESTS: &[Test] = &[
    ("save-checkpoint-while-copying", checkpoint_while_copying),
    ("save-restore-while-copying", restore_while_copying),
    ("save-restore-without-recovery", restore_without_recovery),
    ("save-restore-with-another-share", |lab| {
        restore_elsewhere(lab, true)
    }),
    ("save-restore-without-share", |lab| {
        restore_elsewhere(lab, false)
    }),
];

/// Why they are not run with a QEMU that was started by hand.
pub const NOT_BY_HAND: &str = "xl 4.20 starts no QEMU at a restore";

/// What the transport says to users of files that were open before.
const LOST: &str = "the domain was saved and restored";

/// A guest that xl can restore: xl 4.17 gives a smaller PVH domain too little memory for page tables at that time, whose
/// memory then comes in small pages.
fn guest(lab: &mut Lab<'_>, line: &str) -> Guest {
    let mut guest = lab.guest(line);
    guest.memory = 64;
    guest
}

/// Bytes of the file that is copied: not so many for xen-9pfsd, which is slower.
fn size(lab: &Lab<'_>) -> usize {
    match lab.backend {
        Backend::Daemon => 32 << 20,
        _ => 64 << 20,
    }
}

/// Copies the same file so often that this is what the guest is doing whenever it is saved, on a fast machine too. One that is
/// just being opened is truncated, or not: the guest is told that this is unknown, and copies again.
fn copies() -> String {
    "cp /in.bin /copy.bin || cp /in.bin /copy.bin; ".repeat(8)
}

fn checkpoint_while_copying(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    let size = size(lab);
    let content = content(size);
    share.write("in.bin", &content)?;
    let guest = guest(lab, &format!("log=info {}", copies())).with("share", &share);
    let mut domain = lab.start(&guest)?;
    for part in [1, 2] {
        lab.grows(&mut domain, &share, part * size / 8)?;
        domain.save(lab.bed()?, "-c")?;
        // Else the next look would take it for ended.
        domain.follow(lab.bed()?)?;
    }
    let ended = lab.end_of(&mut domain)?;
    ends_with(&ended, 0)?;
    if ended.console.matches("goes on where it was").count() != 2 {
        return Err(fail!("the guest was not suspended twice"));
    }
    share.holds("copy.bin", &content)
}

fn restore_while_copying(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    let size = size(lab);
    let content = content(size);
    share.write("in.bin", &content)?;
    let line = format!(
        "recovery=reattach {}sha256 /in.bin /copy.bin; stats",
        copies()
    );
    let guest = guest(lab, &line).with("share", &share);
    let mut domain = lab.start(&guest)?;
    lab.grows(&mut domain, &share, size / 8)?;
    for times in [1, 2] {
        domain.save(lab.bed()?, "")?;
        domain.restore(lab.bed()?, None)?;
        lab.console_repeats(&mut domain, "goes on after", times)?;
    }
    let ended = lab.end_of(&mut domain)?;
    ends_with(&ended, 0)?;
    share.holds("copy.bin", &content)
}

/// Files fail with the reason, and the guest goes on.
fn restore_without_recovery(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    super::files::write_sparse(&share, "big.bin", 1 << 30)?;
    let guest = guest(lab, "shell").with("share", &share);
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, "/ $ ")?;
    domain.types(lab.bed()?, b"cp /big.bin /copy.bin\r")?;
    lab.grows(&mut domain, &share, 1 << 20)?;
    domain.save(lab.bed()?, "")?;
    domain.restore(lab.bed()?, None)?;
    lab.console_of(
        &mut domain,
        &format!(".bin: connection to the 9P server lost: {LOST}"),
    )?;
    domain.types(lab.bed()?, b"echo still alive; exit\r")?;
    let ended = lab.end_of(&mut domain)?;
    shows(&ended.console, "still alive\r\n")?;
    match Verdict::from_console(&ended.console) {
        Verdict::Exit(_) => Ok(()),
        other => Err(fail!("unexpected verdict {other:?}, expected a status")),
    }
}

/// In a domain whose share is another one, or none, the guest is told, and what it had synced is where it put it.
fn restore_elsewhere(lab: &mut Lab<'_>, another: bool) -> Result<()> {
    let (share, other) = (lab.directory()?, lab.directory()?);
    other.write("kept.txt", b"of another share\n")?;
    let line =
        "recovery=reattach:3 write /kept.txt acknowledged; echo written; sleep 5; cat /kept.txt";
    let guest = guest(lab, line).with("share", &share);
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, "written")?;
    domain.save(lab.bed()?, "")?;
    let mut now = guest.clone();
    now.shares.clear();
    if another {
        now = now.with("share", &other);
    }
    domain.restore(lab.bed()?, Some(&now))?;
    let ended = lab.end_of(&mut domain)?;
    ends_with(&ended, 1)?;
    shows(&ended.console, "cat: /kept.txt: ")?;
    match another {
        true => shows(&ended.console, "this file can't be had again")?,
        false => shows(&ended.console, "no 9pfs device")?,
    }
    other.holds("kept.txt", b"of another share\n")?;
    share.holds("kept.txt", b"acknowledged\n")
}
