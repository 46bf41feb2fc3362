//! A backend that dies and comes back while a guest uses it.

use super::Test;
use super::lab::{Lab, content, ends_with, shows};
use crate::daemon;
use crate::domain::Guest;
use crate::host::Result;

pub const TESTS: &[Test] = &[
    ("backend-killed-while-copying", backend_killed_while_copying),
    ("backend-killed-and-gone", backend_killed_and_gone),
    ("device-comes-and-goes", device_comes_and_goes),
];

/// Ends the QEMU that serves a guest as no program can notice; `$1` is the guest's name.
const KILL: &str = r#"
set -e
id=$(xl domid $1)
for process in /proc/[0-9]*; do
    if tr '\0' ' ' < $process/cmdline 2>/dev/null | grep -q -e "-xen-domid $id "; then pid=${process#/proc/}; fi
done
program=$(readlink /proc/$pid/exe)
kill -9 $pid
while grep -q -e '^State:[[:space:]]*[A-Y]' /proc/$pid/status 2>/dev/null; do sleep 0.05; done
"#;

/// Asks for the worker of xen9pd that serves a guest; `$1` is the guest's name.
const FIND_WORKER: &str = r#"
set -e
id=$(xl domid $1)
pid=$(xen9pd status --json |
    awk -v id=$id '/"domain":/ { domain = $2 + 0 } /"process":/ && domain == id { print $2 + 0 }')
"#;

/// Ends it.
const KILL_WORKER: &str = r#"
kill -9 $pid
while grep -q -e '^State:[[:space:]]*[A-Y]' /proc/$pid/status 2>/dev/null; do sleep 0.05; done
"#;

/// Before that, ends the daemon, which would start another one.
const KILL_BROKER: &str = "kill -9 $(xenstore-read /local/domain/0/libxl/xen-9pfs/pid)\n";

/// Then has another one serve it, as an administrator would who knows that QEMU takes up only backends in state 1.
const RESTART: &str = r#"
xenstore-write /local/domain/0/backend/9pfs/$id/0/state 1
setsid $program -xen-domid $id -xen-attach -name $1 -nodefaults -no-user-config -vnc none -display none \
    -machine xenpv,accel=xen -m 32 > /var/log/xen/qemu-dm-$1.log 2>&1 < /dev/null &
"#;

fn script(guest: &Guest, parts: &[&str]) -> String {
    format!("set -- {}\n{}", guest.name, parts.concat())
}

fn backend_killed_while_copying(lab: &mut Lab<'_>) -> Result<()> {
    const SIZE: usize = 128 << 20;
    /// Early, so that the guest still has work when the second one is found and killed.
    const KILL_EVERY: usize = 6 << 20;

    let share = lab.directory()?;
    let content = content(SIZE);
    share.write("in.bin", &content)?;
    let guest = lab
        .guest("recovery=reattach cp /in.bin /copy.bin; sha256 /in.bin /copy.bin; stats")
        .with("share", &share);
    let mut domain = lab.start(&guest)?;
    for part in [1, 2] {
        lab.grows(&mut domain, &share, part * KILL_EVERY)?;
        replace_backend(lab, &guest)?;
        lab.console_repeats(&mut domain, "goes on after", part)?;
    }
    let ended = lab.end_of(&mut domain)?;
    ends_with(&ended, 0)?;
    share.holds("copy.bin", &content)
}

/// Ends what serves a guest, and has another one serve it.
pub fn replace_backend(lab: &mut Lab<'_>, guest: &Guest) -> Result<()> {
    match lab.backend.is_xen9pd() {
        // It comes by itself.
        true => lab.dom0(&script(guest, &[FIND_WORKER, KILL_WORKER]))?,
        false => lab.dom0(&script(guest, &[KILL, RESTART]))?,
    };
    Ok(())
}

/// Ends what serves a guest for good.
pub fn kill_backend(lab: &mut Lab<'_>, guest: &Guest) -> Result<()> {
    match lab.backend.is_xen9pd() {
        true => lab.dom0(&script(guest, &[FIND_WORKER, KILL_BROKER, KILL_WORKER]))?,
        false => lab.dom0(&script(guest, &[KILL]))?,
    };
    Ok(())
}

/// Brings back what other guests need of it.
pub fn revive(lab: &mut Lab<'_>) -> Result<()> {
    match lab.backend.is_xen9pd() {
        true => daemon::start_again(lab.bed()?),
        false => Ok(()),
    }
}

/// Who does not ask for it is told at once, and the domain ends in good order.
fn backend_killed_and_gone(lab: &mut Lab<'_>) -> Result<()> {
    let share = lab.directory()?;
    super::files::write_sparse(&share, "big.bin", 1 << 30)?;
    for (options, word) in [
        ("", "its event channel is gone"),
        ("recovery=reattach:3", "looking for a server"),
    ] {
        let guest = lab
            .guest(&format!("{options} cp /big.bin /copy.bin"))
            .with("share", &share);
        let mut domain = lab.start(&guest)?;
        lab.grows(&mut domain, &share, 1 << 20)?;
        kill_backend(lab, &guest)?;
        let ended = lab.end_of(&mut domain)?;
        revive(lab)?;
        shows(&ended.console, word)?;
        shows(&ended.console, ".bin: connection to the 9P server lost")?;
        ends_with(&ended, 1)?;
        lab.dom0("rm -f /host/*/copy.bin")?;
    }
    Ok(())
}

/// Makes the nodes of a second device as libxl makes those of the first; `$1` is the guest's name, `$2` the directory.
const PLUG: &str = r#"
set -e
id=$(xl domid $1)
front=/local/domain/$id/device/9pfs/7
back=/local/domain/0/backend/9pfs/$id/7
xenstore-write $back/frontend $front $back/frontend-id $id $back/online 1 $back/path $2 $back/security_model none
xenstore-chmod -r $back n0 r$id
xenstore-write $front/backend-id 0 $front/tag late $front/state 1
xenstore-chmod -r $front n$id r0
xenstore-write $front/backend $back
xenstore-write $back/state 1
"#;

/// Takes it away again, as libxl does where it need not wait for the guest.
const UNPLUG: &str = r#"
id=$(xl domid $1)
xenstore-rm /local/domain/$id/device/9pfs/7 /local/domain/0/backend/9pfs/$id/7
"#;

/// A device that is made by hand while the guest runs is seen, used, and seen to go. xl can't do that with 9pfs devices;
/// QEMU can.
fn device_comes_and_goes(lab: &mut Lab<'_>) -> Result<()> {
    let [share, late] = [lab.directory()?, lab.directory()?];
    late.write("late.txt", b"better than never\n")?;
    let guest = lab
        .guest("echo ready; devices 3; cat late:/late.txt; devices 3; cat late:/late.txt")
        .with("share", &share);
    let mut domain = lab.start(&guest)?;
    lab.console_of(&mut domain, "0 share: connected (1)")?;
    let arguments = format!("set -- {} {}\n", guest.name, late.in_dom0);
    lab.dom0(&format!("{arguments}{PLUG}"))?;
    lab.console_of(&mut domain, "7 late: connected (1)")?;
    lab.dom0(&format!("{arguments}{UNPLUG}"))?;
    let ended = lab.end_of(&mut domain)?;
    for text in [
        "7 late: appeared",
        "better than never",
        "7 late: disconnected (1): connection to the 9P server lost: the device was removed",
        "7 late: disappeared",
        // The last command.
        "no 9pfs device with that tag; there are: share",
    ] {
        shows(&ended.console, text)?;
    }
    ends_with(&ended, 1)
}
