//! Bad input: each gets one line that a person understands and a status that is not 0.

use super::Test;
use super::lab::{Lab, ends_with, shows};
use crate::domain::Ended;
use crate::fail;
use crate::host::Result;

#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    ("no-device", no_device),
    ("no-such-tag", no_such_tag),
    ("missing-file", |lab| refused(lab, "cat /x", 1, "cat: /x: No such file or directory (ENOENT)")),
    ("unknown-command", |lab| refused(lab, "frobnicate /; ls /", 2, "frobnicate: not a command")),
    ("unknown-flag", |lab| refused(lab, "ls -Q /", 2, "ls: unknown option -Q; usage: ls")),
    ("unknown-option", unknown_option),
    ("open-quote", |lab| refused(lab, "write /x 'no end", 2, "opens a ' and never closes it")),
    ("backend-never-starts", |lab| fake(lab, &[("state", "1")], "state 1")),
    ("backend-never-connects", |lab| fake(lab, &backend("1", "4", "9", "2"), "state 2")),
    ("backend-closes", |lab| fake(lab, &backend("1", "4", "9", "6"), "state 6")),
    ("backend-of-another-version", |lab| fake(lab, &backend("2,3", "4", "9", "2"), "version 1")),
    ("no-versions", |lab| fake(lab, &backend("", "4", "9", "2"), "version")),
    ("no-rings", |lab| fake(lab, &backend("1", "0", "9", "2"), "\"max-rings\" is 0")),
    ("garbage-for-rings", |lab| fake(lab, &backend("1", "many", "9", "2"), "\"max-rings\"")),
    ("rings-of-no-page", |lab| fake(lab, &backend("1", "4", "0", "2"), "\"max-ring-page-order\" is 0")),
    // A huge limit is a limit like any other; this backend then fails to connect.
    ("huge-rings", |lab| fake(lab, &backend("1", "4294967295", "200", "2"), "state 2")),
];

/// Fails unless there is exactly one line besides the verdict, with that text, and that status.
pub fn one_line(ended: &Ended, status: i32, text: &str) -> Result<()> {
    ends_with(ended, status)?;
    shows(&ended.console, text)?;
    match ended
        .console
        .lines()
        .filter(|line| !line.trim().is_empty())
        .count()
    {
        2 => Ok(()),
        count => Err(fail!("{} lines instead of one and the verdict", count)),
    }
}

/// Runs a command line that must be refused, with a share that is in order.
fn refused(lab: &mut Lab<'_>, line: &str, status: i32, text: &str) -> Result<()> {
    let share = lab.directory()?;
    let guest = lab.guest(line).with("share", &share);
    one_line(&lab.run(&guest)?, status, text)
}

fn no_device(lab: &mut Lab<'_>) -> Result<()> {
    let guest = lab.guest("ls /");
    one_line(&lab.run(&guest)?, 1, "no 9pfs device")
}

/// It is read before any device is looked for.
fn unknown_option(lab: &mut Lab<'_>) -> Result<()> {
    let guest = lab.guest("nosuch=1 ls /");
    one_line(&lab.run(&guest)?, 2, "unknown option 'nosuch='")
}

fn no_such_tag(lab: &mut Lab<'_>) -> Result<()> {
    let guest = lab.guest("share=music ls /");
    let script = device(0, "photos", &[("state", "1")]) + &device(1, "films", &[("state", "1")]);
    let mut domain = lab.start_after(&guest, &script)?;
    let ended = lab.end_of(&mut domain)?;
    one_line(&ended, 1, "photos")?;
    shows(&ended.console, "films")
}

/// What a backend has written that gets so far.
fn backend<'a>(
    versions: &'a str,
    rings: &'a str,
    order: &'a str,
    state: &'a str,
) -> [(&'a str, &'a str); 4] {
    [
        ("versions", versions),
        ("max-rings", rings),
        ("max-ring-page-order", order),
        ("state", state),
    ]
}

/// Script that gives the domain `$1` a 9pfs device that exists in xenstore only: no backend serves it, and the backend's
/// nodes say the same for ever.
pub fn device(number: u32, tag: &str, nodes: &[(&str, &str)]) -> String {
    let mut script = format!(
        "front=/local/domain/$1/device/9pfs/{number} back=/local/domain/0/backend/9pfs/$1/{number}\n\
         xenstore-write $back/frontend $front $back/frontend-id $1 $back/online 1\n"
    );
    for (node, value) in nodes {
        script += &format!("xenstore-write $back/{node} '{value}'\n");
    }
    script += &format!(
        "xenstore-write $front/backend $back $front/backend-id 0 $front/tag {tag} $front/state 1\n\
         xenstore-chmod -r $front n$1 r0; xenstore-chmod -r $back n0 r$1\n"
    );
    script
}

/// Runs a guest whose only device is such a one; it must give up with that text in good time.
fn fake(lab: &mut Lab<'_>, nodes: &[(&str, &str)], text: &str) -> Result<()> {
    let guest = lab.guest("timeout=2 ls /");
    let mut domain = lab.start_after(&guest, &device(0, "share", nodes))?;
    let ended = lab.end_of(&mut domain)?;
    one_line(&ended, 1, text)
}
