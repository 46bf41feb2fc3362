//! The shell, driven through the guest's console as a person would.

use super::Test;
use super::files::write_sparse;
use super::lab::{Lab, ends_with, shows};
use crate::fail;
use crate::host::Result;

pub const TESTS: &[Test] = &[("shell", shell)];

fn shell(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    share.write("data/hello.txt", b"from the host\n")?;
    write_sparse(&share, "big.bin", 4 << 30)?;
    let guest = lab.guest("timeout=120 shell").with("share", &share);
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, "/ $ ")?;
    // Completion, editing, the history.
    domain.types(lab.bed()?, b"cd da\t\r")?;
    lab.console_of(&mut domain, "/data $ ")?;
    domain.types(lab.bed()?, b"catt\x7f he\t\r")?;
    lab.console_of(&mut domain, "\r\nfrom the host\r\n")?;
    domain.types(lab.bed()?, b"write note.txt typed on the console\r")?;
    domain.types(lab.bed()?, b"cat /nope\r")?;
    lab.console_of(
        &mut domain,
        "cat: /nope: No such file or directory (ENOENT)\r\n",
    )?;
    lab.console_of(&mut domain, "/data [1] $ ")?;
    // A copy that takes long shows how far it is; Ctrl-C ends it, and the share is as usable as before.
    domain.types(lab.bed()?, b"cp /big.bin /copy.bin\r")?;
    lab.console_of(&mut domain, "/big.bin: ")?;
    domain.types(lab.bed()?, b"\x03")?;
    lab.console_of(&mut domain, "cp: interrupted\r\n")?;
    lab.console_of(&mut domain, "/data [130] $ ")?;
    domain.types(
        lab.bed()?,
        b"rm /copy.bin; mv note.txt kept.txt; mount #dev /dev; ns; exit 0\r",
    )?;
    let ended = lab.end_of(&mut domain)?;
    ends_with(&ended, 0)?;
    shows(&ended.console, "/dev\tdirectory\r\n")?;
    share.holds("data/kept.txt", b"typed on the console\n")?;
    match share.path.join("copy.bin").exists() {
        true => Err(fail!("copy.bin is still there")),
        false => Ok(()),
    }
}
