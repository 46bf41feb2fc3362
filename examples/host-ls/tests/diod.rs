//! The example as a person runs it, against diod.

use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ends the server with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_directory_of_diod_is_listed() {
    let directory = std::env::temp_dir().join(format!("host-ls-{}", std::process::id()));
    let (share, socket) = (directory.join("share"), directory.join("socket"));
    std::fs::create_dir_all(share.join("a/b")).unwrap();
    std::fs::write(share.join("a/file"), [0; 1234]).unwrap();
    let server = Command::new("/usr/sbin/diod")
        .args(["-f", "-n", "-N", "-L", "stderr", "-c", "/dev/null", "-l"])
        .arg(&socket)
        .arg("-e")
        .arg(&share)
        .stderr(Stdio::null())
        .spawn();
    let Ok(server) = server else {
        assert!(
            std::env::var_os("XEN9P_REQUIRE_SERVERS").is_none(),
            "diod is not installed"
        );
        return eprintln!("skipped: diod is not installed");
    };
    let server = Server(server);
    let until = Instant::now() + Duration::from_secs(30);
    while UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < until, "diod does not listen");
        std::thread::yield_now();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_host-ls"))
        .arg(format!("unix:{}", socket.display()))
        .arg("/a")
        .arg(&share)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable_by_key(|line| line.split_whitespace().last());
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].ends_with(" b"), "{text}");
    assert_eq!(lines[1], "        1234 file");
    let nothing = Command::new(env!("CARGO_BIN_EXE_host-ls"))
        .output()
        .unwrap();
    assert!(!nothing.status.success());
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("usage"));
    drop(server);
    std::fs::remove_dir_all(directory).unwrap();
}
