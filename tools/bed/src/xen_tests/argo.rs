//! Domains that serve each other by Argo, PV and PVH mixed, under a hypervisor that has it; and what a guest says under one
//! that does not.

use super::Test;
use super::domains::{WORK, fill, next_number, only, other_guest};
use super::lab::{Lab, ends_with, same_trees, shows};
use crate::domain::{Domain, Guest};
use crate::host::Result;

/// The image under test with the feature `argo`.
const IMAGE: &str = "xen9p-argo";

/// Those for a Xen with Argo.
pub const TESTS: &[Test] = &[
    ("argo-one-serves-another", one_serves_another),
    ("argo-server-destroyed", server_destroyed),
    ("argo-client-destroyed", client_destroyed),
];

/// Those for a Xen without it.
pub const WITHOUT: &[Test] = &[("domains-argo-unsupported", unsupported)];

/// A server, and its number. That of its first client follows.
struct Server {
    guest: Guest,
    _domain: Domain,
    number: u32,
}

/// A guest that serves its memory, in which it has a file, by the exports that are for the number of the next domain.
fn server(lab: &mut Lab<'_>, exports: impl Fn(u32) -> String) -> Result<Server> {
    let number = next_number(lab)?;
    let line = format!(
        "mount=#mem:/ export={} write /hello.txt hello; echo serving; sleep infinity",
        exports(number + 1)
    );
    let guest = lab.guest_of(IMAGE, &line)?;
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, "serving")?;
    Ok(Server {
        guest,
        _domain: domain,
        number,
    })
}

/// A guest of the other type with this command line.
fn client(lab: &mut Lab<'_>, line: &str) -> Result<Guest> {
    let kind = other_guest(lab, "").kind;
    let mut guest = lab.guest_of(IMAGE, line)?;
    guest.kind = kind;
    Ok(guest)
}

/// The other one works on the memory and on a share of the one, under one root.
fn one_serves_another(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    fill(&share)?;
    let first = next_number(lab)?;
    let line = format!(
        "mount=#mem:/,share:/files export=/:argo!{}!564 echo serving; sleep infinity",
        first + 1
    );
    let server = lab.guest_of(IMAGE, &line)?.with("share", &share);
    let mut server_domain = lab.start(&server)?;
    lab.console_of(&mut server_domain, "serving")?;
    let client = client(lab, &format!("mount=argo!{first}!564:/ {WORK}"))?;
    ends_with(&lab.run(&client)?, 0)?;
    same_trees(&share.path.join("in"), &share.path.join("out"))?;
    only(lab, &[&server])?;
    lab.dom0(&format!("xl destroy {}", server.name))?;
    only(lab, &[])
}

/// The client is told.
fn server_destroyed(lab: &mut Lab<'_>) -> Result<()> {
    let exports = |next| format!("/:argo!{next}!1");
    let server = server(lab, exports)?;
    let line = format!(
        "mount=argo!{}!1:/ cat /hello.txt; sleep 5; cat /hello.txt",
        server.number
    );
    let client = client(lab, &line)?;
    let mut domain = lab.start(&client)?;
    lab.console_of(&mut domain, "hello")?;
    lab.dom0(&format!("xl destroy {}", server.guest.name))?;
    let ended = lab.end_of(&mut domain)?;
    shows(&ended.console, "connection to the 9P server lost")?;
    ends_with(&ended, 1)?;
    only(lab, &[])
}

/// The server forgets it, and serves the next one.
fn client_destroyed(lab: &mut Lab<'_>) -> Result<()> {
    let exports = |next| format!("/:argo!{next}!1,/:argo!{}!1", next + 1);
    let server = server(lab, exports)?;
    let line = format!(
        "mount=argo!{}!1:/ cat /hello.txt; sleep infinity",
        server.number
    );
    let first = client(lab, &line)?;
    let mut domain = lab.start(&first)?;
    lab.console_of(&mut domain, "hello")?;
    lab.dom0(&format!("xl destroy {}", first.name))?;
    only(lab, &[&server.guest])?;
    let next = client(
        lab,
        &format!("mount=argo!{}!1:/ cat /hello.txt", server.number),
    )?;
    let ended = lab.run(&next)?;
    shows(&ended.console, "hello")?;
    ends_with(&ended, 0)?;
    lab.dom0(&format!("xl destroy {}", server.guest.name))?;
    only(lab, &[])
}

/// A guest that wants Argo, or is to serve by it, is told at once why it can't.
fn unsupported(lab: &mut Lab<'_>) -> Result<()> {
    for line in [
        "mount=argo!0!564:/ ls /",
        "mount=#mem:/ export=/:argo!0!564 ls /",
    ] {
        let guest = lab.guest_of(IMAGE, line)?;
        let ended = lab.run(&guest)?;
        shows(
            &ended.console,
            "Argo: unsupported: this Xen is built without Argo (CONFIG_ARGO)",
        )?;
        ends_with(&ended, 1)?;
    }
    only(lab, &[])
}
