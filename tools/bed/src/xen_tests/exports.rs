//! What a guest serves, and to which other one: changed by a person at its shell, different for each domain, and made up by an
//! application; and three that serve one another in a ring.

use super::Test;
use super::domains::{next_number, only, other_guest, served_by, start_numbered};
use super::lab::{Lab, ends_with, shows};
use crate::fail;
use crate::host::Result;

pub const TESTS: &[Test] = &[
    ("domains-served-at-the-shell", served_at_the_shell),
    ("domains-get-different-trees", get_different_trees),
    ("domains-device-of-an-app", device_of_an_app),
    ("domains-in-a-ring", in_a_ring),
];

/// One directory is served to one guest by a vchan and to another as its device, and no more from when that is said.
fn served_at_the_shell(lab: &mut Lab<'_>) -> Result<()> {
    let first = next_number(lab)?;
    let server = lab.guest("mount=#mem:/ shell");
    let mut serving = lab.start(&server)?;
    lab.console_of(&mut serving, "/ $ ")?;
    let reader = first + 1;
    let line = format!(
        "mkdir /data; write /data/one.txt first; serve -r /data vchan!{reader}!data; serve /data 9pfs; exports\r"
    );
    serving.types(lab.bed()?, line.as_bytes())?;
    let listed = format!("/data\tvchan!{reader}!data\tro\tdomain {reader} not connected\r\n");
    lab.console_of(&mut serving, &listed)?;
    lab.console_of(&mut serving, "/data\t9pfs\trw\tno device\r\n")?;

    let line =
        format!("mount=#mem:/,vchan!{first}!data:/far cat /far/one.txt; write /far/x refused");
    let client = other_guest(lab, &line);
    let ended = lab.run(&client)?;
    shows(&ended.console, "first\r\n")?;
    shows(&ended.console, "Read-only file system (EROFS)")?;
    ends_with(&ended, 1)?;

    let mut writer = other_guest(lab, "shell");
    writer.more = served_by(&server, "/data");
    let mut writing = lab.start(&writer)?;
    lab.console_of(&mut writing, "/ $ ")?;
    writing.types(lab.bed()?, b"write /two.txt sec'on'd; ls\r")?;
    lab.console_of(&mut writing, "one.txt  two.txt\r\n")?;
    serving.types(lab.bed()?, b"cat /data/two.txt; exports\r")?;
    lab.console_of(&mut serving, "second\r\n")?;
    let listed = format!("/data\t9pfs\trw\tdomain {} connected\r\n", reader + 1);
    lab.console_of(&mut serving, &listed)?;
    serving.types(lab.bed()?, b"unserve /data 9pfs; echo 'un'served $?\r")?;
    lab.console_of(&mut serving, "\nunserved 0\r\n")?;
    writing.types(lab.bed()?, b"cat /two.txt; exit 7\r")?;
    let ended = lab.end_of(&mut writing)?;
    shows(&ended.console, "connection to the 9P server lost")?;
    ends_with(&ended, 7)?;
    serving.types(lab.bed()?, b"exports > /list; wc -l /list; exit 0\r")?;
    let ended = lab.end_of(&mut serving)?;
    shows(&ended.console, "1 /list\r\n")?;
    ends_with(&ended, 0)?;
    only(lab, &[])
}

/// A guest serves one tree to a second guest and another to a third: each sees its own, with its own rights, and has no way to
/// the other's.
fn get_different_trees(lab: &mut Lab<'_>) -> Result<()> {
    let first = next_number(lab)?;
    let (second, third_number) = (first + 1, first + 2);
    let server = lab.guest(&format!(
        "mount=#mem:/ mkdir /b /c; write /b/for-b only; write /c/for-c only; \
         serve -r /b vchan!{second}!t; serve /c vchan!{third_number}!t; echo serving; sleep infinity"
    ));
    let mut serving = lab.start(&server)?;
    lab.console_of(&mut serving, "serving")?;

    let reader = other_guest(
        lab,
        &format!("timeout=5 mount=#mem:/,vchan!{first}!t:/t shell"),
    );
    let mut reading = lab.start(&reader)?;
    lab.console_of(&mut reading, "/ $ ")?;
    reading.types(lab.bed()?, b"ls /t; write /t/mine x\r")?;
    lab.console_of(&mut reading, "\nfor-b\r\n")?;
    lab.console_of(&mut reading, "Read-only file system (EROFS)")?;

    let line = format!("mount=#mem:/,vchan!{first}!t:/t write /t/mine x; ls /t/../t");
    let third = lab.guest(&line);
    let ended = lab.run(&third)?;
    shows(&ended.console, "for-c\r\nmine\r\n")?;
    if ended.console.contains("for-b") {
        return Err(fail!("the third guest sees what is for the second"));
    }
    ends_with(&ended, 0)?;

    // What the third one wrote is not here, nor is its vchan, by its whole path.
    let line = format!(
        "mount vchan!{first}!/local/domain/{first}/data/vchan/{third_number}/t /u; ls /t > /list; wc -l /list\r"
    );
    reading.types(lab.bed()?, line.as_bytes())?;
    lab.console_of(
        &mut reading,
        "in vain for the other domain to publish the vchan",
    )?;
    lab.console_of(&mut reading, "\n1 /list\r\n")?;
    reading.types(lab.bed()?, b"exit 0\r")?;
    ends_with(&lab.end_of(&mut reading)?, 0)?;
    lab.dom0(&format!("xl destroy {}", server.name))?;
    only(lab, &[])
}

/// The thermometer of the examples is read and set by another guest.
fn device_of_an_app(lab: &mut Lab<'_>) -> Result<()> {
    let first = next_number(lab)?;
    let line = format!("mount=#mem:/ vchan!{}!thermometer", first + 1);
    let server = lab.guest_of("thermometer", &line)?;
    // It prints nothing.
    let _serving = start_numbered(lab, &server)?;
    let line = format!(
        "mount=#mem:/,vchan!{first}!thermometer:/dev ls /dev; cat /dev/celsius; write /dev/ctl offset 1000; \
         cat /dev/celsius; write /dev/celsius 30"
    );
    let client = other_guest(lab, &line);
    let ended = lab.run(&client)?;
    shows(&ended.console, "celsius\r\nctl\r\n2")?;
    shows(&ended.console, "\r\n102")?;
    shows(&ended.console, "Permission denied (EACCES)")?;
    if ended.console.contains("\r\n30") {
        return Err(fail!("the guest set what is measured"));
    }
    ends_with(&ended, 1)?;
    lab.dom0(&format!("xl destroy {}", server.name))?;
    only(lab, &[])
}

/// Each of three guests serves its name space to the one before it and mounts that of the one behind it. Once the ring is closed,
/// all three work at once: each sends a file round, through the next one and the one behind that, until it is back.
fn in_a_ring(lab: &mut Lab<'_>) -> Result<()> {
    const ROUNDS: usize = 3;

    let first = next_number(lab)?;
    let mut guests = Vec::new();
    for place in 0..3 {
        let (before, behind) = (first + (place + 2) % 3, first + (place + 1) % 3);
        let line = format!(
            "timeout=120 mount=#mem:/ export=/:vchan!{before}!ring mount vchan!{behind}!ring /next; shell"
        );
        guests.push(match place {
            1 => other_guest(lab, &line),
            _ => lab.guest(&line),
        });
    }
    let mut domains = Vec::new();
    for guest in &guests {
        domains.push(start_numbered(lab, guest)?);
    }
    for domain in &mut domains {
        lab.console_of(domain, "/ $ ")?;
    }
    for (place, domain) in domains.iter_mut().enumerate() {
        let round = format!(
            "ls -l / > /sent && cp /sent /next/{place}a && cp /next/{place}a /next/next/{place}b && \
             cp /next/next/{place}b /next/next/next/{place}c && cmp /sent /{place}c && echo 'it is 'back\r"
        );
        domain.types(lab.bed()?, round.repeat(ROUNDS).as_bytes())?;
    }
    for domain in &mut domains {
        lab.console_repeats(domain, "it is back\r\n", ROUNDS)?;
    }
    for domain in &mut domains {
        domain.types(lab.bed()?, b"exit 0\r")?;
    }
    for domain in &mut domains {
        ends_with(&lab.end_of(domain)?, 0)?;
    }
    only(lab, &[])
}
