//! Bad input: each gets one line that a person understands and a status that is not 0.

use std::time::Instant;

use super::Test;
use super::lab::{Lab, ends_with, shows};
use crate::domain::Ended;
use crate::fail;
use crate::host::Result;

pub const TESTS: &[Test] = &[
    ("no-device", no_device),
    ("no-such-tag", no_such_tag),
    ("missing-file", missing_file),
    ("unknown-command", unknown_command),
    ("unknown-option", |lab| {
        refused(lab, "nosuch=1 ls /", 2, "unknown option 'nosuch='")
    }),
    ("open-quote", |lab| {
        refused(lab, "write /x 'no end", 2, "opens a ' and never closes it")
    }),
    ("backend-never-starts", |lab| {
        fake(lab, "state=1", "state 1")
    }),
    ("backend-never-connects", |lab| {
        fake(
            lab,
            "state=2 versions=1 max-rings=4 max-ring-page-order=9",
            "state 2",
        )
    }),
    ("backend-closes", |lab| fake(lab, "state=6", "state 6")),
    ("backend-of-another-version", |lab| {
        fake(
            lab,
            "state=2 versions=2,3 max-rings=4 max-ring-page-order=9",
            "version 1",
        )
    }),
    ("no-versions", |lab| {
        fake(lab, "state=2 max-rings=4 max-ring-page-order=9", "version")
    }),
    ("no-rings", |lab| {
        fake(
            lab,
            "state=2 versions=1 max-rings=0 max-ring-page-order=9",
            "\"max-rings\" is 0",
        )
    }),
    ("rings-of-no-page", |lab| {
        fake(
            lab,
            "state=2 versions=1 max-rings=4 max-ring-page-order=0",
            "\"max-ring-page-order\" is 0",
        )
    }),
    // A huge order is a limit like any other; this backend then fails to connect.
    ("huge-rings", |lab| {
        fake(
            lab,
            "state=2 versions=1 max-rings=4294967295 max-ring-page-order=200",
            "state 2",
        )
    }),
    ("garbage-in-xenstore", |lab| {
        fake(
            lab,
            "state=2 versions=1 max-rings=many max-ring-page-order=9",
            "\"max-rings\"",
        )
    }),
];

/// Fails unless there is exactly one line besides the verdict, with that text, and that status.
fn one_line(ended: &Ended, status: i32, text: &str) -> Result<()> {
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

/// Runs a command line that is to be refused, with a share that is in order.
fn refused(lab: &mut Lab<'_>, line: &str, status: i32, text: &str) -> Result<()> {
    let share = lab.directory()?;
    let guest = lab.guest(line).with("share", &share);
    one_line(&lab.run(&guest)?, status, text)
}

fn no_device(lab: &mut Lab<'_>) -> Result<()> {
    let guest = lab.guest("ls /");
    one_line(&lab.run(&guest)?, 1, "no 9pfs device")
}

fn no_such_tag(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    let guest = lab
        .guest("share=music ls /")
        .with("photos", &share)
        .with("films", &share);
    let ended = lab.run(&guest)?;
    one_line(&ended, 1, "photos")?;
    shows(&ended.console, "films")
}

fn missing_file(lab: &mut Lab<'_>) -> Result<()> {
    refused(
        lab,
        "cat /x",
        1,
        "cat: /x: No such file or directory (ENOENT)",
    )
}

/// Both kinds of misuse, and that the first ends the run.
fn unknown_command(lab: &mut Lab<'_>) -> Result<()> {
    refused(lab, "frobnicate /; ls /", 2, "frobnicate: unknown command")?;
    refused(lab, "ls -Q /", 2, "ls: unknown option -Q; usage: ls")
}

/// Gives a guest a 9pfs device that exists in xenstore only: the backend's nodes say what `nodes` says, for ever.
fn fake(lab: &mut Lab<'_>, nodes: &str, text: &str) -> Result<()> {
    let guest = lab.guest("timeout=2 ls /");
    let script = format!(
        "id=$1 front=/local/domain/$1/device/9pfs/0 back=/local/domain/0/backend/9pfs/$1/0\n\
         xenstore-write $back/frontend $front $back/frontend-id $id $back/online 1\n\
         for node in {nodes}; do xenstore-write $back/${{node%%=*}} \"${{node#*=}}\"; done\n\
         xenstore-write $front/backend $back $front/backend-id 0 $front/tag share $front/state 1\n\
         xenstore-chmod $front n$id r0; xenstore-chmod -r $front n$id r0; xenstore-chmod -r $back n0 r$id\n"
    );
    let start = Instant::now();
    let mut domain = lab.start_after(&guest, &script)?;
    let ended = lab.end_of(&mut domain)?;
    one_line(&ended, 1, text)?;
    if start.elapsed().as_secs() > 60 {
        Err(fail!("it took {:?}", start.elapsed()))
    } else {
        Ok(())
    }
}
