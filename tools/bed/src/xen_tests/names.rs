//! Name spaces: several shares seen as one tree, as the command line describes it.

use super::Test;
use super::bad_input::one_line;
use super::lab::{Lab, ends_with, shows};
use crate::fail;
use crate::host::Result;

#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    ("two-shares-one-tree", two_shares),
    ("three-shares-one-tree", three_shares),
    ("made-up-files", made_up_files),
    ("mount-no-such-tag", |lab| refused(lab, "mount=share:/,nosuch:/mnt ls /", 1, "mount entry 2: no 9pfs device with that tag")),
    ("mount-unknown-network", |lab| refused(lab, "mount=tcp!host!564:/mnt ls /", 1, "tcp!host!564: no transport of this kind")),
    ("mount-no-such-tree", |lab| refused(lab, "mount=#cloud:/mnt ls /", 1, "there is no tree '#cloud'")),
    ("mount-malformed", |lab| refused(lab, "mount=share ls /", 2, "entry 1 of the mount option is malformed")),
    ("bind-onto-nothing", |lab| refused(lab, "bind=replace:/there:/nowhere ls /", 1, "bind entry 1: cannot find the place to bind onto")),
    ("two-roots", |lab| refused(lab, "share=share mount=share:/ ls /", 2, "both say what the root is")),
];

/// By tag and by number, and a move between the shares.
fn two_shares(lab: &mut Lab<'_>) -> Result<()> {
    let (root, data) = (lab.directory()?, lab.directory()?);
    root.write("hello.txt", b"from the root\n")?;
    data.write("deep/two.txt", b"from the data\n")?;
    let line = "mount=data:/mnt/data,xen!9pfs!0:/again cat /hello.txt /mnt/data/deep/two.txt /again/hello.txt; \
                ls / /mnt; mv /hello.txt /mnt/data/moved.txt; cd /mnt/data; write here.txt relative";
    let guest = lab.guest(line).with("share", &root).with("data", &data);
    let ended = lab.run(&guest)?;
    ends_with(&ended, 0)?;
    shows(
        &ended.console,
        "from the root\r\nfrom the data\r\nfrom the root\r\n",
    )?;
    shows(
        &ended.console,
        "/:\r\nagain\r\nhello.txt\r\nmnt\r\n\r\n/mnt:\r\ndata\r\n",
    )?;
    data.holds("moved.txt", b"from the root\n")?;
    data.holds("here.txt", b"relative\n")?;
    match root.path.join("hello.txt").exists() {
        true => Err(fail!("hello.txt is still in the root")),
        false => Ok(()),
    }
}

/// A union of two, the third read-only.
fn three_shares(lab: &mut Lab<'_>) -> Result<()> {
    let (root, overlay, logs) = (lab.directory()?, lab.directory()?, lab.directory()?);
    root.write("etc/hosts", b"hosts of the root\n")?;
    root.write("etc/motd", b"motd of the root\n")?;
    overlay.write("motd", b"motd of the overlay\n")?;
    logs.write("old.log", b"an old line\n")?;
    let line = "mount=share:/,upper:/overlay,ro=logs:/var/log bind=before+create:/overlay:/etc ls /etc; \
                cat /etc/motd /etc/hosts /var/log/old.log; write /etc/new.conf made; ns; write /var/log/new.log no";
    let guest = lab
        .guest(line)
        .with("share", &root)
        .with("upper", &overlay)
        .with("logs", &logs);
    let ended = lab.run(&guest)?;
    ends_with(&ended, 1)?;
    let console = &ended.console;
    shows(
        console,
        "hosts\r\nmotd\r\nmotd of the overlay\r\nhosts of the root\r\nan old line\r\n",
    )?;
    shows(console, "/etc\tdirectory, a union of 2\r\n")?;
    shows(
        console,
        "write: /var/log/new.log: Read-only file system (EROFS)",
    )?;
    overlay.holds("new.conf", b"made\n")?;
    if logs.path.join("new.log").exists() || root.path.join("etc/new.conf").exists() {
        return Err(fail!("something was made in the wrong place"));
    }
    Ok(())
}

/// What the image makes up needs no device.
fn made_up_files(lab: &mut Lab<'_>) -> Result<()> {
    let line = "mount=#mem:/,#dev:/dev,#xen:/xen write /a in memory; cp /a /dev/cons; cat /dev/time /xen/stats; \
                write /dev/null nothing";
    let guest = lab.guest(line);
    let ended = lab.run(&guest)?;
    ends_with(&ended, 0)?;
    shows(&ended.console, "in memory\r\n")?;
    shows(&ended.console, "memory.total 33")?;
    let time = ended
        .console
        .lines()
        .find(|line| line.ends_with(" 1000000000"));
    let time = time.ok_or_else(|| fail!("there is no time"))?;
    let seconds = time.split(' ').next().and_then(|text| text.parse().ok());
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time| time.as_secs());
    match seconds {
        // Clocks of emulated machines are a little off.
        Some(seconds) if now.abs_diff(seconds) < 3600 => Ok(()),
        _ => Err(fail!("/dev/time says \"{time}\", {now} s after 1970")),
    }
}

/// Runs a command line that must be refused, with a share that is in order.
fn refused(lab: &mut Lab<'_>, line: &str, status: i32, text: &str) -> Result<()> {
    let share = lab.directory()?;
    share.write("there", b"")?;
    let guest = lab.guest(line).with("share", &share);
    one_line(&lab.run(&guest)?, status, text)
}
