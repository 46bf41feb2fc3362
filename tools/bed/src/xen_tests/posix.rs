//! The POSIX suite pjdfstest in a Linux guest whose share xen9pd serves.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, fs};

use super::Test;
use super::dom0_daemon::{at_rest, linux_with};
use super::lab::{Lab, Share};
use crate::host::{Context, Result};
use crate::{fail, say, tail};

/// Those that are run in a PV guest alone: in software a PVH guest's Linux takes minutes to boot, and does the same with its files.
pub const IN_PV: &[&str] = &["linux-passes-pjdfstest"];

pub const TESTS: &[Test] = &[("linux-passes-pjdfstest", pjdfstest)];

/// The suite, as `make posix-static` builds it.
const PROGRAM: &str = "target/posix-static/bin/pjdfstest";

/// Tests with these in their names are left out. A guest makes devices only where xen9pd's configuration says so. Linux asks a server
/// for each directory on a path of 4,096 bytes again and again, which takes minutes.
const LEFT_OUT: &[&str] = &["::block", "::char", "device", "::enametoolong_path"];

/// Tests that a bare directory passes and a Linux guest's share does not, and why that is not the server's doing.
const FAILING: &[(&str, &str)] = &[
    (
        "link::link_count_max",
        "pathconf(3) knows no LINK_MAX of 9P, so that the test skips itself",
    ),
    (
        "utimensat::subsecond",
        "Linux cuts the times that it sets on 9P to seconds (s_time_gran)",
    ),
];

/// The suite's settings: its users are two that every Linux has.
const SETTINGS: &str = r#"[features]
rename_ctime = {}
utimensat = {}
utime_now = {}
[settings]
naptime = 0.02
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// First process of the guest.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /mnt /etc /dev
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
for name in netfs fscache 9pnet 9pnet_xen 9p; do
    [ ! -e /modules/$name.ko ] || insmod /modules/$name.ko
done
printf 'root:x:0:0::/:\ndaemon:x:1:1::/:\nnobody:x:65534:65534::/:\n' > /etc/passwd
printf 'root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n' > /etc/group
umask 0
mount -t 9p -o trans=xen,version=9p2000.L,msize=131072,cache=none,access=client share /mnt
cp /mnt/suite.toml /etc && mkdir -m 777 /mnt/work
pjdfstest -c /etc/suite.toml -p /mnt/work TESTS > /mnt/suite.log 2>&1
umount /mnt
echo "[xen9p] exit $?"
poweroff -f
"#;

/// Makes the share in dom0's memory: what this machine shares with dom0 has no pipes and no sockets.
const SHARE: &str = r#"
rm -rf /run/suite && mkdir -p /run/suite && cp /host/suite.toml /run/suite
"#;

/// What passes on a directory of this machine passes on the guest's share.
fn pjdfstest(lab: &mut Lab<'_>) -> Result<()> {
    let program = lab.root().join(PROGRAM);
    let bed = lab.bed()?;
    bed.bring(&program, "pjdfstest")?;
    let settings = bed.path().join("suite.toml");
    fs::write(&settings, SETTINGS).during("write", &settings)?;
    let wanted = on_this_machine(&program, &settings)?;
    lab.dom0(SHARE)?;
    let share = Share {
        path: PathBuf::new(),
        in_dom0: "/run/suite".into(),
    };
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let init = INIT.replace("TESTS", &names.join(" "));
    let guest = linux_with(lab, "posix", &init, "/bin/busybox /host/pjdfstest")?;
    let ended = lab.run(&guest.with("share", &share));
    let log = lab.dom0("cat /run/suite/suite.log; rm -rf /run/suite")?;
    let console = &ended?.console;
    if !console.contains("[xen9p] exit 0") {
        let (console, log) = (tail::end(console, 20), tail::end(&log, 5));
        return Err(fail!("the Linux guest failed:\n{console}\n{log}"));
    }
    let passed = passed(&log);
    let failing: BTreeSet<String> = FAILING.iter().map(|(name, _)| (*name).into()).collect();
    let missing: BTreeSet<&String> = wanted.difference(&passed).collect();
    if missing != failing.iter().collect() {
        return Err(fail!(
            "these do not pass: {missing:?}, and known is this of {failing:?}; the suite says:\n{log}"
        ));
    }
    say!("pjdfstest: {} tests pass in the guest", passed.len());
    at_rest(lab)
}

/// The tests that pass in a directory of this machine.
fn on_this_machine(program: &Path, settings: &Path) -> Result<BTreeSet<String>> {
    // Not below a home directory: the suite's users have to get there.
    let directory = env::temp_dir().join(format!("xen-bed-posix-{}", process::id()));
    fs::create_dir(&directory).during("create", &directory)?;
    let everyone = fs::Permissions::from_mode(0o777);
    let output = fs::set_permissions(&directory, everyone).and_then(|()| {
        let mut suite = Command::new(program);
        suite.arg("-c").arg(settings).arg("-p").arg(&directory);
        suite.output()
    });
    fs::remove_dir_all(&directory).during("remove", &directory)?;
    let output = output.during("run", program)?;
    let mut passed = passed(&String::from_utf8_lossy(&output.stdout));
    passed.retain(|name| !LEFT_OUT.iter().any(|part| name.contains(part)));
    match passed.is_empty() {
        false => Ok(passed),
        true => Err(fail!(
            "no test of the suite passes here: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// The names in the suite's list that it says "ok" of.
fn passed(log: &str) -> BTreeSet<String> {
    let names = log
        .lines()
        .filter(|line| !line.starts_with(char::is_whitespace));
    let names = names.filter_map(|line| line.strip_suffix(" ok"));
    names.map(|name| name.trim_end().to_owned()).collect()
}
