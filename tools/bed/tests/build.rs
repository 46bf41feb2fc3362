//! What `xen-bed` does when the making of an image goes wrong, with programs in mmdebstrap's place that do as little as the
//! test needs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Time a step of a test may take, on a machine that does much else.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// A cache, and a directory of programs that come before the machine's.
struct Place(PathBuf);

impl Place {
    fn new(name: &str, mmdebstrap: &str) -> Place {
        let place = Place::empty(&format!("xen-bed {}-{name}", std::process::id()));
        place.put("mmdebstrap", mmdebstrap);
        place
    }

    fn empty(name: &str) -> Place {
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("bin")).unwrap();
        Place(path)
    }

    /// Puts a program there, which is run in the place.
    fn put(&self, name: &str, script: &str) {
        let program = self.0.join("bin").join(name);
        let script = format!("#!/bin/sh\ncd '{}'\n{script}", self.0.display());
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What becomes of a run with the Xen that has Argo, with no programs but those of the place and what runs them.
    fn run_argo(&self) -> Output {
        for name in ["setpriv", "sh"] {
            let found = [format!("/usr/bin/{name}"), format!("/bin/{name}")];
            let found = found.iter().find(|path| Path::new(path).exists()).unwrap();
            std::os::unix::fs::symlink(found, self.0.join("bin").join(name)).unwrap();
        }
        Command::new(env!("CARGO_BIN_EXE_xen-bed"))
            .args(["dom0", "--xen", "argo", "-c", "true"])
            .env("XEN_BED_CACHE", self.0.join("cache"))
            .env("PATH", self.0.join("bin"))
            .output()
            .unwrap()
    }

    fn start(&self) -> Child {
        let path = std::env::var("PATH").unwrap();
        Command::new(env!("CARGO_BIN_EXE_xen-bed"))
            .args(["dom0", "-c", "true"])
            .env("XEN_BED_CACHE", self.0.join("cache"))
            .env("PATH", format!("{}:{path}", self.0.join("bin").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What a build has left.
    fn left(&self) -> PathBuf {
        self.file("cache/build/image")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + STEP_TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Whether a process is there that has not ended. One that has is a zombie until it is waited for, and dead for a moment after.
fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    let has_ended = ["\nState:\tZ", "\nState:\tX"];
    !status.is_empty() && !has_ended.iter().any(|state| status.contains(state))
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Tells that it runs, and does not end.
const SLEEPS: &str = "echo $$ >pid.new\nmv pid.new pid\nexec sleep 1000\n";

#[test]
fn sigterm_and_ctrl_c_leave_nothing() {
    for (number, name) in [(Signal::TERM, "term"), (Signal::INT, "int")] {
        let place = Place::new(name, SLEEPS);
        let child = place.start();
        wait_until("mmdebstrap runs", || place.file("pid").exists());
        let pid = fs::read_to_string(place.file("pid")).unwrap();
        assert!(place.left().exists());
        signal(&child, number);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(128 + number.as_raw()),
            "{}",
            errors(&output)
        );
        assert!(!place.left().exists());
        assert!(!is_alive(&pid));
        assert!(!errors(&output).contains("cannot"), "{}", errors(&output));
    }
}

#[test]
fn the_next_start_removes_what_a_killed_one_left() {
    let place = Place::new("kill", SLEEPS);
    let child = place.start();
    wait_until("mmdebstrap runs", || place.file("pid").exists());
    let pid = fs::read_to_string(place.file("pid")).unwrap();
    fs::write(place.left().join("half"), "half a download").unwrap();
    signal(&child, Signal::KILL);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(9));
    wait_until("mmdebstrap dies with it", || !is_alive(&pid));
    fs::remove_file(place.file("pid")).unwrap();
    let child = place.start();
    wait_until("mmdebstrap runs again", || place.file("pid").exists());
    assert!(!place.left().join("half").exists());
    signal(&child, Signal::TERM);
    child.wait_with_output().unwrap();
}

#[test]
fn one_builds_at_a_time() {
    let place = Place::new("two", SLEEPS);
    let first = place.start();
    wait_until("mmdebstrap runs", || place.file("pid").exists());
    let pid = fs::read_to_string(place.file("pid")).unwrap();
    let second = place.start();
    let waits = || {
        // A process that waits for a lock is a line of this with an arrow.
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let own = format!(" {} ", second.id());
        locks
            .lines()
            .any(|line| line.contains("->") && line.contains(&own))
    };
    wait_until("the second waits", waits);
    assert_eq!(fs::read_to_string(place.file("pid")).unwrap(), pid);
    signal(&first, Signal::TERM);
    first.wait_with_output().unwrap();
    wait_until("the second builds", || {
        fs::read_to_string(place.file("pid")).is_ok_and(|now| now != pid)
    });
    signal(&second, Signal::TERM);
    let output = second.wait_with_output().unwrap();
    assert!(errors(&output).contains("another xen-bed is building"));
}

#[test]
fn a_version_that_is_gone_is_looked_for_once_more() {
    let place = Place::new(
        "gone",
        "echo >>tries\n[ $(wc -l <tries) = 1 ] || { echo 'E: Could not resolve m' >&2; exit 25; }\n\
         echo 'E: Failed to fetch http://m/xen_1.deb  404  Not Found' >&2\nexit 25\n",
    );
    let output = place.start().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(fs::read_to_string(place.file("tries")).unwrap(), "\n\n");
    let errors = errors(&output);
    assert!(errors.contains("404  Not Found; trying again"), "{errors}");
    assert!(
        errors.contains("is it reachable?): E: Could not resolve m"),
        "{errors}"
    );
    assert!(!place.left().exists());
}

#[test]
fn a_program_that_is_missing_is_named() {
    let place = Place::new("missing", "");
    fs::remove_file(place.file("bin/mmdebstrap")).unwrap();
    let setpriv = ["/usr/bin/setpriv", "/bin/setpriv"];
    let setpriv = setpriv
        .iter()
        .find(|path| Path::new(path).exists())
        .unwrap();
    std::os::unix::fs::symlink(setpriv, place.file("bin/setpriv")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xen-bed"))
        .args(["dom0", "-c", "true"])
        .env("XEN_BED_CACHE", place.file("cache"))
        .env("PATH", place.file("bin"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    let errors = errors(&output);
    assert!(
        errors.contains("mmdebstrap") && errors.contains("xen-bed doctor"),
        "{errors}"
    );
}

/// Programs that building a hypervisor takes.
const BUILDERS: [&str; 10] = [
    "apt-get",
    "dpkg-source",
    "patch",
    "xz",
    "make",
    "gcc",
    "ld",
    "flex",
    "bison",
    "python3",
];

#[test]
fn packages_that_building_a_hypervisor_takes_are_named() {
    let place = Place::empty(&format!("xen-bed-{}-tools", std::process::id()));
    for name in BUILDERS.iter().filter(|name| **name != "bison") {
        place.put(name, "exit 1\n");
    }
    let output = place.run_argo();
    assert_eq!(output.status.code(), Some(125));
    let errors = errors(&output);
    assert!(
        errors.contains("apt-get install -y --no-install-recommends bison\n"),
        "{errors}"
    );
}

#[test]
fn every_version_of_the_source_is_tried_and_each_reason_told() {
    let place = Place::empty(&format!("xen-bed-{}-source", std::process::id()));
    for name in BUILDERS {
        place.put(name, "exit 1\n");
    }
    place.put(
        "apt-get",
        "for last; do :; done\necho \"$last\" >>asked\n[ $last = update ] || { echo \"E: 404 $last\" >&2; exit 100; }\n",
    );
    place.put(
        "apt-cache",
        "echo 'Version: 4.17.2-1'\necho 'Version: 4.17.10-1'\necho 'Version: 4.20.1-1'\n",
    );
    // As dpkg says it of these two.
    place.put("dpkg", "[ $2 = 4.17.10-1 ] && [ $4 = 4.17.2-1 ]\n");
    let output = place.run_argo();
    assert_eq!(output.status.code(), Some(125));
    let asked = fs::read_to_string(place.file("asked")).unwrap();
    assert_eq!(asked, "update\nxen=4.17.10-1\nxen=4.17.2-1\n");
    let errors = errors(&output);
    let reasons = "there is no source to build a Xen with Argo of: 4.17.10-1: E: 404 xen=4.17.10-1; 4.17.2-1: E: 404 xen=4.17.2-1";
    assert!(errors.contains(reasons), "{errors}");
    assert!(!place.file("cache/build/argo").exists());
}

#[test]
fn a_cache_in_which_xen_cannot_be_built_is_told() {
    let place = Place::empty(&format!("xen-bed {}-blank", std::process::id()));
    for name in BUILDERS {
        place.put(name, "exit 1\n");
    }
    let output = place.run_argo();
    assert_eq!(output.status.code(), Some(125));
    let errors = errors(&output);
    assert!(errors.contains("has a blank in it"), "{errors}");
}
