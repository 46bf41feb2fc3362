//! Domains that serve each other over vchan, PV and PVH mixed, and the ends of vchan that others wrote: libxenvchan in dom0, as
//! vchan-socket-proxy uses it.

use std::fs;

use super::Test;
use super::lab::{Lab, Share, content, ends_with, same_trees, shows};
use crate::domain::{Domain, Guest, Kind};
use crate::fail;
use crate::host::{Context, Result};

pub const TESTS: &[Test] = &[
    ("domains-one-serves-another", one_serves_another),
    ("domains-dom0-serves", dom0_serves),
    ("domains-dom0-is-served", dom0_is_served),
    ("domains-server-destroyed", server_destroyed),
    ("domains-client-destroyed", client_destroyed),
    ("domains-backend", backend),
    ("domains-backend-of-linux", backend_of_linux),
    ("domains-backend-destroyed", backend_destroyed),
    ("domains-frontend-destroyed", frontend_destroyed),
    ("domains-messages", messages),
    ("domains-two-addresses", two_addresses),
];

/// Those for which one mixture of PV and PVH is enough: what they are about is in libxenvchan, in Linux, or the same for both.
pub const ONCE: &[&str] = &[
    "domains-dom0-serves",
    "domains-dom0-is-served",
    "domains-server-destroyed",
    "domains-client-destroyed",
    "domains-backend-of-linux",
    "domains-two-addresses",
];

/// Makes a domain and removes it, to see which number Xen gives out: the next ones follow.
const LOOK: &str = r#"
set -e
xl create -p /host/$1.cfg > /dev/null 2>&1
xl domid $1
xl destroy $1
"#;

/// The number that Xen will give to the next domain. The one after that gets the next number.
pub(super) fn next_number(lab: &mut Lab<'_>) -> Result<u32> {
    let guest = lab.guest("");
    let config = lab.bed()?.path().join(format!("{}.cfg", guest.name));
    fs::write(&config, guest.config()?).during("write", &config)?;
    let output = lab.dom0(&format!("set -- {}\n{LOOK}", guest.name))?;
    let last: u32 = output
        .trim()
        .parse()
        .map_err(|_| fail!("xl domid printed {output}"))?;
    Ok(last + 1)
}

/// Starts a guest, and waits until it has its number: the domain that is made next gets the next one.
pub(super) fn start_numbered(lab: &mut Lab<'_>, guest: &Guest) -> Result<Domain> {
    let domain = lab.start(guest)?;
    let name = &guest.name;
    lab.dom0(&format!(
        "for try in $(seq 300); do ! xl domid {name} 2>/dev/null || exit 0; sleep 0.1; done; exit 1"
    ))?;
    Ok(domain)
}

/// A guest of the type that the lab's guests are not of.
pub(super) fn other_guest(lab: &mut Lab<'_>, command_line: &str) -> Guest {
    let mut guest = lab.guest(command_line);
    guest.kind = match guest.kind {
        Kind::Pv => Kind::Pvh,
        Kind::Pvh | Kind::Hvm => Kind::Pv,
    };
    guest
}

/// Waits until Xen knows no domain but dom0 and `$#` others, by their names. A domain whose pages another one still maps stays in
/// the list without a name.
const LIST: &str = r#"
for try in $(seq 300); do
    left=$(xl list | awk 'NR > 2 { print $1 }' | sort | tr '\n' ' ')
    [ "$left" != "$(printf '%s\n' "$@" | sort | tr '\n' ' ' | sed 's/^ //')" ] || exit 0
    sleep 0.1
done
xl list
exit 1
"#;

/// Fails unless these guests are all that is left.
pub(super) fn only(lab: &mut Lab<'_>, guests: &[&Guest]) -> Result<()> {
    let names: Vec<&str> = guests.iter().map(|guest| guest.name.as_str()).collect();
    lab.dom0(&format!("set -- {}\n{LIST}", names.join(" ")))
        .map(drop)
}

/// The other one works on the memory and on a share of the one, under one root.
fn one_serves_another(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    fill(&share)?;
    let first = next_number(lab)?;
    let line = format!(
        "mount=#mem:/,share:/files export=/:vchan!{}!all echo serving; sleep infinity",
        first + 1
    );
    let server = lab.guest(&line).with("share", &share);
    let line = format!("mount=vchan!{first}!all:/ {WORK}");
    let client = other_guest(lab, &line);
    let mut server_domain = lab.start(&server)?;
    lab.console_of(&mut server_domain, "serving")?;
    ends_with(&lab.run(&client)?, 0)?;
    same_trees(&share.path.join("in"), &share.path.join("out"))?;
    only(lab, &[&server])?;
    lab.dom0(&format!("xl destroy {}", server.name))?;
    only(lab, &[])
}

/// Two guests exchange transactions, and Xen copies between the buffer of the one and the memory of the other, until it is not
/// registered any more.
fn messages(lab: &mut Lab<'_>) -> Result<()> {
    let first = next_number(lab)?;
    let server = lab.guest_of("idc-guest", &format!("serve {}", first + 1))?;
    let mut client = lab.guest_of("idc-guest", &format!("ask {first}"))?;
    client.kind = other_guest(lab, "").kind;
    let mut server_domain = lab.start(&server)?;
    lab.console_of(&mut server_domain, "serving")?;
    let ended = lab.run(&client)?;
    ends_with(&ended, 0)?;
    shows(&ended.console, "answer 0: 0, done")?;
    shows(&ended.console, "answer 1: 14, the buffer is not registered")?;
    ends_with(&lab.end_of(&mut server_domain)?, 0)?;
    only(lab, &[])
}

/// Two guests serve one share, and one of them is destroyed while a third copies there.
fn two_addresses(lab: &mut Lab<'_>) -> Result<()> {
    let first = next_number(lab)?;
    let share = lab.directory()?;
    super::files::write_sparse(&share, "big.bin", 64 << 20)?;
    let line = format!(
        "export=/:vchan!{}!a echo serving; sleep infinity",
        first + 2
    );
    let servers = [
        lab.guest(&line).with("share", &share),
        other_guest(lab, &line).with("share", &share),
    ];
    let line = format!(
        "mount=vchan!{first}!a+vchan!{}!a:/ cp /big.bin /copy.bin; cmp /big.bin /copy.bin",
        first + 1
    );
    let client = lab.guest(&line);
    for server in &servers {
        let mut domain = lab.start(server)?;
        lab.console_of(&mut domain, "serving")?;
    }
    let mut client_domain = lab.start(&client)?;
    lab.grows(&mut client_domain, &share, 1 << 20)?;
    lab.dom0(&format!("xl destroy {}", servers[0].name))?;
    let ended = lab.end_of(&mut client_domain)?;
    shows(&ended.console, "goes on after")?;
    ends_with(&ended, 0)?;
    only(lab, &[&servers[1]])?;
    lab.dom0(&format!("xl destroy {}", servers[1].name))?;
    only(lab, &[])
}

/// What a guest does on a root in another guest's memory, and on the share of that.
pub(super) const WORK: &str = "selftest /; cp -r /files/in /kept; cp -r /kept /files/out; stats";

/// Files for that.
pub(super) fn fill(share: &Share) -> Result<()> {
    for size in [0, 1, 4096, 65_537, 1 << 20] {
        share.write(&format!("in/{size}.bin"), &content(size))?;
    }
    Ok(())
}

/// Has diod serve the directory `/run/9p` to the domain `$1`, through libxenvchan.
const DIOD: &str = r#"
set -e
mkdir -p /run/9p
rm -f /run/diod.sock
diod -f -n -N -l /run/diod.sock -e /run/9p -c /dev/null -L stderr </dev/null >/host/diod.log 2>&1 &
diod=$!
until [ -S /run/diod.sock ]; do [ -d /proc/$diod ]; sleep 0.05; done
vchan-socket-proxy -v -m server $1 /local/domain/0/data/vchan/$1/9p /run/diod.sock </dev/null >/host/proxy.log 2>&1 &
proxy=$!
"#;

/// A guest works on files of dom0 that diod serves, with libxenvchan in between.
fn dom0_serves(lab: &mut Lab<'_>) -> Result<()> {
    let guest = lab.guest("mount=vchan!0!9p!/run/9p:/ selftest");
    let mut domain = lab.start_after(&guest, DIOD)?;
    let ended = lab.end_of(&mut domain);
    let logs = lab.dom0("kill $(pidof diod vchan-socket-proxy); tail -n 20 /host/diod.log /host/proxy.log; ls -A /run/9p")?;
    match ended.and_then(|ended| ends_with(&ended, 0)) {
        Err(error) => Err(fail!("{error}\n{logs}")),
        Ok(()) => only(lab, &[]),
    }
}

/// Mounts what the domain `$1` serves in dom0's kernel, through libxenvchan, and works on it.
const LINUX: &str = r#"
set -e
id=$(xl domid $1)
trap 'kill $proxy; cat /host/proxy.log' EXIT
rm -f /run/served.sock
vchan-socket-proxy -v -m client $id /local/domain/$id/data/vchan/0/tree /run/served.sock </dev/null >/host/proxy.log 2>&1 &
proxy=$!
until [ -S /run/served.sock ]; do [ -d /proc/$proxy ]; sleep 0.05; done
mkdir -p /run/served
mount -t 9p -o trans=unix,version=9p2000.L,msize=65536 /run/served.sock /run/served
[ "$(cat /run/served/hello.txt)" = hello ]
head -c 300000 /dev/urandom > /run/data
cp /run/data /run/served/data
umount /run/served
mount -t 9p -o trans=unix,version=9p2000.L,msize=65536 /run/served.sock /run/served
cmp /run/data /run/served/data
mkdir /run/served/d
mv /run/served/data /run/served/d/moved
[ "$(ls /run/served)" = "$(printf 'd\nhello.txt')" ]
rm -r /run/served/d
umount /run/served
"#;

/// dom0 works on files of a guest, with libxenvchan in between, and Linux's own client.
fn dom0_is_served(lab: &mut Lab<'_>) -> Result<()> {
    let guest = lab.guest(
        "mount=#mem:/ export=/:vchan!0!tree write /hello.txt hello; echo serving; sleep infinity",
    );
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, "serving")?;
    lab.dom0(&format!("set -- {}\n{LINUX}", guest.name))?;
    lab.dom0(&format!("xl destroy {}", guest.name))?;
    only(lab, &[])
}

/// A server of a share with much in it, for the next two domains, and the first of them, which copies.
struct Pair {
    share: Share,
    server: Guest,
    client: Guest,
    client_domain: Domain,
    number: u32,
}

fn busy_pair(lab: &mut Lab<'_>) -> Result<Pair> {
    let number = next_number(lab)?;
    let share = lab.directory()?;
    super::files::write_sparse(&share, "big.bin", 1 << 30)?;
    let line = format!(
        "export=/:vchan!{}!a,/:vchan!{}!b echo serving; sleep infinity",
        number + 1,
        number + 2
    );
    let server = lab.guest(&line).with("share", &share);
    let line = format!("mount=vchan!{number}!a:/ cp /big.bin /copy.bin");
    let client = other_guest(lab, &line);
    let mut server_domain = lab.start(&server)?;
    lab.console_of(&mut server_domain, "serving")?;
    let mut client_domain = lab.start(&client)?;
    lab.grows(&mut client_domain, &share, 1 << 20)?;
    Ok(Pair {
        share,
        server,
        client,
        client_domain,
        number,
    })
}

/// The client is told, and the server's domain is gone all the same.
fn server_destroyed(lab: &mut Lab<'_>) -> Result<()> {
    let mut pair = busy_pair(lab)?;
    lab.dom0(&format!("xl destroy {}", pair.server.name))?;
    let ended = lab.end_of(&mut pair.client_domain)?;
    shows(&ended.console, "connection to the 9P server lost")?;
    ends_with(&ended, 1)?;
    only(lab, &[])
}

/// The server lets go of it, and serves the next one.
fn client_destroyed(lab: &mut Lab<'_>) -> Result<()> {
    let pair = busy_pair(lab)?;
    lab.dom0(&format!("xl destroy {}", pair.client.name))?;
    only(lab, &[&pair.server])?;
    let line = format!("mount=vchan!{}!b:/ write /next.txt next", pair.number);
    let next = other_guest(lab, &line);
    ends_with(&lab.run(&next)?, 0)?;
    pair.share.holds("next.txt", b"next\n")?;
    lab.dom0(&format!("xl destroy {}", pair.server.name))?;
    only(lab, &[])
}

/// The line of xl's configuration by which a guest gets a share from another guest.
pub(super) fn served_by(server: &Guest, path: &str) -> String {
    format!(
        "p9=[\"tag=share,path={path},security_model=none,backend={}\"]",
        server.name
    )
}

/// A guest works on files that another one serves as its 9pfs device.
fn backend(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    fill(&share)?;
    let line = "mount=#mem:/,share:/files export=/:9pfs echo serving; sleep infinity";
    let server = lab.guest(line).with("share", &share);
    let mut server_domain = lab.start(&server)?;
    lab.console_of(&mut server_domain, "serving")?;
    let mut client = other_guest(lab, WORK);
    client.more = served_by(&server, "/");
    ends_with(&lab.run(&client)?, 0)?;
    same_trees(&share.path.join("in"), &share.path.join("out"))?;
    only(lab, &[&server])?;
    // Another one gets what is not exported: nothing.
    let mut client = other_guest(lab, "timeout=5 ls /");
    client.more = served_by(&server, "/etc");
    ends_with(&lab.run(&client)?, 1)?;
    lab.dom0(&format!("xl destroy {}", server.name))?;
    only(lab, &[])
}

/// Linux's own client works on files that a guest of ours serves.
fn backend_of_linux(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    super::dom0_daemon::fill(&share)?;
    let line =
        "mount=#mem:/,share:/files export=/:9pfs cp -r /files/in /in; echo serving; sleep infinity";
    let mut server = lab.guest(line).with("share", &share);
    server.memory = 64;
    let mut server_domain = lab.start(&server)?;
    lab.console_of(&mut server_domain, "serving")?;
    let mut linux = super::dom0_daemon::linux(lab, "work 131072")?;
    linux.kind = other_guest(lab, "").kind;
    linux.more = served_by(&server, "/");
    let ended = lab.run(&linux)?;
    if !ended.console.contains("[xen9p] exit 0") {
        let console = crate::tail::end(&ended.console, 20);
        return Err(fail!("the Linux guest failed:\n{console}"));
    }
    lab.dom0(&format!("xl destroy {}", server.name))?;
    only(lab, &[])
}

/// A server of a share with much in it, and a frontend that copies.
fn busy_devices(lab: &mut Lab<'_>) -> Result<Pair> {
    let share = lab.directory()?;
    super::files::write_sparse(&share, "big.bin", 1 << 30)?;
    let line = "export=/:9pfs echo serving; sleep infinity";
    let server = lab.guest(line).with("share", &share);
    let mut server_domain = lab.start(&server)?;
    lab.console_of(&mut server_domain, "serving")?;
    let mut client = other_guest(lab, "cp /big.bin /copy.bin");
    client.more = served_by(&server, "/");
    let mut client_domain = lab.start(&client)?;
    lab.grows(&mut client_domain, &share, 1 << 20)?;
    Ok(Pair {
        share,
        server,
        client,
        client_domain,
        number: 0,
    })
}

/// The frontend is told, and the backend's domain is gone all the same.
fn backend_destroyed(lab: &mut Lab<'_>) -> Result<()> {
    let mut pair = busy_devices(lab)?;
    lab.dom0(&format!("xl destroy {}", pair.server.name))?;
    let ended = lab.end_of(&mut pair.client_domain)?;
    shows(&ended.console, "connection to the 9P server lost")?;
    ends_with(&ended, 1)?;
    only(lab, &[])
}

/// The backend lets go of it in time, so that xl has nothing to say, and serves the next one.
fn frontend_destroyed(lab: &mut Lab<'_>) -> Result<()> {
    let pair = busy_devices(lab)?;
    let said = lab.dom0(&format!("xl destroy {} 2>&1", pair.client.name))?;
    if said.contains("error") || said.contains("timed out") {
        return Err(fail!("xl destroy: {said}"));
    }
    only(lab, &[&pair.server])?;
    let mut next = other_guest(lab, "write /next.txt next");
    next.more = served_by(&pair.server, "/");
    ends_with(&lab.run(&next)?, 0)?;
    pair.share.holds("next.txt", b"next\n")?;
    lab.dom0(&format!("xl destroy {}", pair.server.name))?;
    only(lab, &[])
}
