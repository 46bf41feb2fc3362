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
        let path = std::env::temp_dir().join(format!("xen-bed {}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("bin")).unwrap();
        let program = path.join("bin/mmdebstrap");
        fs::write(
            &program,
            format!("#!/bin/sh\ncd '{}'\n{mmdebstrap}", path.display()),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Place(path)
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

/// Whether a process is there that has not ended.
fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    !status.is_empty() && !status.contains("\nState:\tZ")
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
