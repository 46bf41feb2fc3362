//! What is asked of xen9pd beyond what a guest of ours asks of any backend.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Test;
use super::domains::{only, served_by};
use super::lab::{Lab, Share, content, ends_with, shows};
use super::many_guests;
use crate::daemon;
use crate::domain::Guest;
use crate::host::{Context, Result};
use crate::{fail, say, tail};

pub const TESTS: &[Test] = &[
    ("linux-mounts-again-and-again", linux_mounts),
    ("broker-restarted-while-copying", broker_restarted),
    ("lying-rings", lying_rings),
    ("nothing-left-behind", nothing_left_behind),
    ("driver-domain", driver_domain),
];

/// What is asked of it where devices are for it by their type. To devices without a type a guest's QEMU may be first: it serves
/// those that a lying guest plugs in as it does all others.
pub const TYPED_TESTS: &[Test] = &[("lying-frontends", lying_frontends)];

/// What is asked of it where they have none. The first of these would take minutes more in a PVH domain.
pub const UNTYPED_TESTS: &[Test] = &[
    ("large-directory-in-a-small-domain", large_directory),
    ("claims-while-busy", many_guests::claims_while_busy),
];

/// A directory whose names the guest's memory could not hold: it is listed and removed piece by piece. QEMU would need minutes
/// for so many files.
fn large_directory(lab: &mut Lab<'_>) -> Result<()> {
    const ENTRIES: usize = 200_000;
    let share = Share {
        path: PathBuf::new(),
        in_dom0: format!("/run/large-{}", lab.kind.name()),
    };
    // Names of 40 bytes: with 24 bytes for a `Vec` and 8 for what the allocator adds, all of them would take 14 MB.
    // A file system of its own, as the first one has room for fewer files.
    // dom0's memory holds them.
    if !lab.has_room_for(2048) {
        say!("a directory of {ENTRIES} entries: left out, as this machine has little memory");
        return Ok(());
    }
    let names = format!("seq -w {ENTRIES} | sed s:^:an-entry-with-a-name-of-some-length-:");
    lab.dom0(&format!(
        "mkdir {0} && mount -t tmpfs -o nr_inodes=0 none {0} && mkdir {0}/many && cd {0}/many && {names} | xargs touch",
        share.in_dom0
    ))?;
    // Into a file: a console carries 9 MB in five minutes.
    let mut guest = lab
        .guest("ls /many > /list; rm -r /many")
        .with("share", &share);
    guest.memory = 16;
    let ended = lab.run(&guest);
    let found = lab.dom0(&format!(
        "{names} | cmp - {0}/list 2>&1 && ls -A {0}; umount {0}; rmdir {0}",
        share.in_dom0
    ))?;
    ends_with(&ended?, 0)?;
    match found.trim() {
        "list" => Ok(()),
        found => Err(fail!(
            "the list is another one, or something is left: {found}"
        )),
    }
}

/// First process of the Linux guest: mounts its share, and works there, again and again.
const LINUX: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /mnt
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
for name in netfs fscache 9pnet 9pnet_xen 9p; do
    [ ! -e /modules/$name.ko ] || insmod /modules/$name.ko
done
work() {
    set -e
    mount -t 9p -o trans=xen,version=9p2000.L,msize=$1 share /mnt
    cp -a /mnt/in /mnt/out$1
    diff -r /mnt/in /mnt/out$1
    dd if=/mnt/in/big.bin of=/mnt/copy.bin bs=128K
    cmp /mnt/in/big.bin /mnt/copy.bin
    mkdir /mnt/d && mv /mnt/copy.bin /mnt/d/moved.bin && ln -s moved.bin /mnt/d/link
    [ "$(readlink /mnt/d/link)" = moved.bin ]
    chmod 640 /mnt/d/moved.bin && truncate -s 5 /mnt/d/moved.bin
    [ "$(stat -c '%a %s' /mnt/d/moved.bin)" = "640 5" ]
    rm -r /mnt/d
    umount /mnt
    for time in 1 2 3; do
        mount -t 9p -o trans=xen,version=9p2000.L,msize=$1 share /mnt
        [ -f /mnt/in/big.bin ]
        umount /mnt
    done
}
(WORK)
echo "[xen9p] exit $?"
poweroff -f
"#;

/// Makes the rest of a Linux guest's file system, with dom0's own shell: `/run/$1.cpio`, with these programs.
const INITRD: &str = r#"
set -e
name=$1; shift
rm -rf /run/$name && mkdir -p /run/$name/bin && cp "$@" /run/$name/bin
cp /host/$name-init /run/$name/init && chmod 755 /run/$name/init
cd /run/$name && find . | cpio -o -H newc > /run/$name.cpio 2>/dev/null
cat /host/linux-modules.cpio >> /run/$name.cpio
# xl maps the kernel, which would take a request for each page on a directory of another machine.
[ -e /run/vmlinux ] || cp /host/vmlinux /run/vmlinux
"#;

/// First process of a driver domain: serves the devices of others.
const DRIVER: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /srv
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for name in xen-evtchn xen-gntdev; do
    [ ! -e /modules/$name.ko ] || insmod /modules/$name.ko
done
cp /bin/busybox /srv/in.bin
truncate -s 900G /srv/large.bin
xen9pd run </dev/null &
until xen9pd status --json >/dev/null 2>&1; do kill -0 $! || poweroff -f; usleep 50000; done
echo serving
wait
"#;

fn linux_mounts(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    let content = fill(&share)?;
    let work = "work 131072 && work 524288 && work 8192";
    let guest = linux(lab, work)?.with("share", &share);
    let ended = lab.run(&guest)?;
    let console = &ended.console;
    if !console.contains("[xen9p] exit 0") {
        return Err(fail!("the Linux guest failed:\n{}", tail::end(console, 20)));
    }
    share.holds("out8192/big.bin", &content)
}

/// Makes what a [Linux guest](linux) works on; returns the content of `in/big.bin`.
pub fn fill(share: &Share) -> Result<Vec<u8>> {
    for n in 0..12u8 {
        share.write(
            &format!("in/{}/{n}.bin", n % 4),
            &vec![n; usize::from(n) * 2503],
        )?;
    }
    let content: Vec<u8> = (0..512u32 << 10).map(|n| (n ^ (n >> 9)) as u8).collect();
    share.write("in/big.bin", &content)?;
    Ok(content)
}

/// A Linux guest that works on its share with tag "share", in which there is a directory "in": `work`, with each size of
/// messages.
pub fn linux(lab: &mut Lab<'_>, work: &str) -> Result<Guest> {
    let init = LINUX.replace("WORK", work);
    linux_with(lab, "linux", &init, "/bin/busybox")
}

/// A Linux guest with this first process and these programs.
pub(super) fn linux_with(
    lab: &mut Lab<'_>,
    name: &str,
    init: &str,
    programs: &str,
) -> Result<Guest> {
    let (kernel, modules) = lab.linux();
    let bed = lab.bed()?;
    bed.bring(&kernel, "vmlinux")?;
    bed.bring(&modules, "linux-modules.cpio")?;
    let path = bed.path().join(format!("{name}-init"));
    fs::write(&path, init).during("write", &path)?;
    lab.dom0(&format!("set -- {name} {programs}\n{INITRD}"))?;
    let mut guest = lab.guest("console=hvc0 quiet rdinit=/init");
    guest.kernel = "/run/vmlinux".to_owned();
    guest.ramdisk = Some(format!("/run/{name}.cpio"));
    guest.memory = 256;
    Ok(guest)
}

/// xen9pd in a domain of its own serves one guest after another, and keeps no toolstack waiting when they go.
fn driver_domain(lab: &mut Lab<'_>) -> Result<()> {
    let driver = linux_with(lab, "driver", DRIVER, "/bin/busybox /usr/bin/xen9pd")?;
    let mut driver_domain = lab.start(&driver)?;
    lab.console_of(&mut driver_domain, "serving")?;
    let guest = |lab: &mut Lab<'_>, line: &str| {
        let mut guest = lab.guest(line);
        guest.more = served_by(&driver, "/srv");
        guest
    };
    for _ in 0..2 {
        let works = guest(lab, "selftest; cp /in.bin /out.bin; cmp /in.bin /out.bin");
        ends_with(&lab.run(&works)?, 0)?;
        only(lab, &[&driver])?;
    }
    // One that is destroyed in the middle of its work.
    let reads = guest(lab, "echo reading; sha256 /large.bin");
    let mut domain = lab.start(&reads)?;
    lab.console_of(&mut domain, "reading")?;
    let said = lab.dom0(&format!("xl destroy {} 2>&1", reads.name))?;
    if said.contains("error") || said.contains("timed out") {
        return Err(fail!("xl destroy: {said}"));
    }
    only(lab, &[&driver])?;
    // And one that outlives its driver domain.
    let reads = guest(lab, "echo reading; sha256 /large.bin");
    let mut domain = lab.start(&reads)?;
    lab.console_of(&mut domain, "reading")?;
    lab.dom0(&format!("xl destroy {}", driver.name))?;
    let ended = lab.end_of(&mut domain)?;
    shows(&ended.console, "connection to the 9P server lost")?;
    ends_with(&ended, 1)?;
    only(lab, &[])
}

/// The daemon is ended, politely and not, and started again; the guest does not notice.
fn broker_restarted(lab: &mut Lab<'_>) -> Result<()> {
    const SIZE: usize = 48 << 20;

    let share = lab.directory()?;
    let content = content(SIZE);
    share.write("in.bin", &content)?;
    let guest = lab.guest("cp /in.bin /copy.bin").with("share", &share);
    let mut domain = lab.start(&guest)?;
    for (part, signal) in [(1, "-9"), (2, "-15")] {
        lab.grows(&mut domain, &share, part * SIZE / 8)?;
        lab.dom0(&format!(
            "pid=$(xenstore-read /local/domain/0/libxl/xen-9pfs/pid); kill {signal} $pid\n\
             while [ -d /proc/$pid ] && ! grep -q '^State:.Z' /proc/$pid/status; do sleep 0.05; done"
        ))?;
        daemon::start_again(lab.bed()?)?;
    }
    let ended = lab.end_of(&mut domain)?;
    ends_with(&ended, 0)?;
    if ended.console.contains("lost") {
        return Err(fail!("the guest noticed"));
    }
    share.holds("copy.bin", &content)?;
    at_rest(lab)
}

/// Plays frontends of the domain `$1`, each of which wants something that is not to be had, and looks at how they end:
/// refused, with a reason in xenstore.
const LIES: &str = r#"
set -e
id=$(xl domid $1)
number=20
# Waits until the backend has that state.
reaches() {
    for try in $(seq 600); do
        [ "$(xenstore-read $back/state)" != $1 ] || return 0
        sleep 0.05
    done
    echo "$number: state $(xenstore-read $back/state), not $1"
    return 1
}
# The device is closed, for a reason that contains these words.
refused() {
    for try in $(seq 600); do
        reason=$(xenstore-read /local/domain/0/error/${back#/local/domain/0/}/error 2>/dev/null) && break
        sleep 0.05
    done
    reaches 6
    echo "$number: $reason"
    echo "$reason" | grep -q -e "$1"
    xenstore-rm $front $back
    number=$((number + 1))
}
# Makes a device's nodes as libxl does: the kind of its backend, and the frontend that they name.
plug() {
    front=/local/domain/$id/device/9pfs/$number
    back=/local/domain/0/backend/$1/$id/$number
    xenstore-write $back/frontend ${2:-$front} $back/frontend-id $id $back/online 1 $back/path ${3:-/host} \
        $back/security_model none $front/tag lie $front/state 1
    xenstore-chmod -r $back n0 r$id
    xenstore-write $front/backend $back
    xenstore-write $back/state 1
}
# A frontend that offers rings by these nodes.
offers() {
    want=$1; shift
    plug 9pfs
    reaches 2
    for node; do xenstore-write -- $front/${node%%=*} "${node#*=}"; done
    xenstore-write $front/state 3
    refused "$want"
}
one="version=1 num-rings=1"
ring0="ring-ref0=8 event-channel-0=1"
offers 'version' version=2 num-rings=1 $ring0
offers 'version' num-rings=1 $ring0
offers 'rings' version=1 num-rings=9 $ring0
offers 'rings' version=1 num-rings=0
offers 'rings' version=1 num-rings=4294967297 $ring0
offers 'rings' version=1 num-rings= $ring0
offers 'lacks' version=1 num-rings=2 $ring0
offers 'lacks' $one ring-ref0=0 event-channel-0=1
offers 'lacks' $one ring-ref0=-1 event-channel-0=1
offers 'lacks' $one ring-ref0=$(head -c 2000 /dev/zero | tr '\0' 9) event-channel-0=1
offers 'cannot map' $one ring-ref0=4000000000 event-channel-0=1
offers 'ring 0' $one ring-ref0=1 event-channel-0=4000000000
# A device of one domain with the frontend of another.
plug xen_9pfs /local/domain/0/device/9pfs/$number
refused 'not in domain'
# Shares that can't be.
plug xen_9pfs '' /run/nowhere
refused '/run/nowhere: the directory can.t be opened'
plug xen_9pfs '' /bin/busybox
refused 'Not a directory'
plug xen_9pfs '' relative
refused 'has to begin with'
# A second daemon.
said=$(xen9pd run 2>&1) && exit 1
echo "$said" | grep -q 'another xen9pd has /run/xen9pd/lock'
[ $(echo "$said" | wc -l) = 1 ]
# One that goes back and forth while it is looked at ends as any other, and takes no more connections than its turns.
plug 9pfs
for state in 1 6 3 4 3 5 1 3 6 2 3 5 99 x '' 3; do xenstore-write -- $front/state "$state"; done
refused 'version'
"#;

fn lying_frontends(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    share.write("in.bin", &[0x5a; 1 << 20])?;
    let guest = lab.guest("shell").with("share", &share);
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, "/ $ ")?;
    lab.dom0(&format!("set -- {}\n{LIES}", guest.name))?;
    domain.types(lab.bed()?, b"cp /in.bin /out.bin; exit 0\r")?;
    // The device in good order is none the worse for it.
    ends_with(&lab.end_of(&mut domain)?, 0)?;
    share.holds("out.bin", &[0x5a; 1 << 20])?;
    at_rest(lab)
}

/// An image of ours breaks the rules of rings on one device, one after the other, while another guest works.
fn lying_rings(lab: &mut Lab<'_>) -> Result<()> {
    const SIZE: usize = 16 << 20;

    let [share, other] = [lab.directory()?, lab.directory()?];
    let content = content(SIZE);
    other.write("in.bin", &content)?;
    let honest = lab
        .guest(&"cp /in.bin /copy.bin; ".repeat(4))
        .with("share", &other);
    let mut honest = lab.start(&honest)?;
    lab.grows(&mut honest, &other, 1)?;
    let liar = lab.guest_of("lying-frontend", "")?.with("lie", &share);
    let ended = lab.run(&liar)?;
    let failed = |line: &&str| line.starts_with("FAILED");
    let failed: Vec<&str> = ended.console.lines().filter(failed).collect();
    if !failed.is_empty() {
        return Err(fail!("{}", failed.join("\n")));
    }
    ends_with(&ended, 0)?;
    ends_with(&lab.end_of(&mut honest)?, 0)?;
    other.holds("copy.bin", &content)?;
    at_rest(lab)
}

/// Waits until the daemon serves none, and fails unless it then has what it had at its start.
pub(super) fn at_rest(lab: &mut Lab<'_>) -> Result<()> {
    const REST: &str = r#"
for try in $(seq 400); do
    xenstore-list /local/domain/0/backend/9pfs /local/domain/0/backend/xen_9pfs 2>/dev/null | grep -q . || break
    xl list | awk 'NR > 2' | grep -q . || break
    sleep 0.05
done
for try in $(seq 200); do
    xenstore-ls /local/domain/0/backend 2>/dev/null | grep -q frontend-id || break
    sleep 0.05
done
sleep 0.2
xen9pd status --json
ls /run/xen9pd/workers
"#;
    let status = lab.dom0(REST)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut now = status;
    loop {
        let wanted = ["\"watches\": 3", "\"workers\": 0", "\"devices\": []"];
        let missing = wanted.iter().find(|text| !now.contains(*text));
        match missing {
            None if now.trim_end().ends_with('}') => return Ok(()),
            _ if Instant::now() < deadline => now = lab.dom0(REST)?,
            _ => return Err(fail!("the daemon is not at rest: {now}")),
        }
    }
}

/// Guests that come and go, and one that is destroyed in the middle.
fn nothing_left_behind(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    share.write("in.bin", &[7; 1 << 20])?;
    let count = |lab: &mut Lab<'_>| -> Result<String> {
        let status = lab.dom0("xen9pd status --json | grep -m 1 descriptors")?;
        Ok(status.trim().to_owned())
    };
    let before = count(lab)?;
    for _ in 0..3 {
        lab.succeeds(&share, "cp /in.bin /copy.bin")?;
    }
    let guest = lab
        .guest("echo ready; sleep infinity")
        .with("share", &share);
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, "ready")?;
    lab.dom0(&format!("xl destroy {}", guest.name))?;
    at_rest(lab)?;
    let after = count(lab)?;
    match before == after {
        true => Ok(()),
        false => Err(fail!("descriptors: {before} before, {after} after")),
    }
}
