//! Mounts the 9P client through FUSE, once for each of several servers, and runs
//! the suites pjdfstest and fsx on it. Called by `make test-posix`, which see.
//!
//! Everything happens in a mount and process name space of its own, so that neither a mount nor a
//! process outlives it, however it ends.

mod answer;
mod convert;
mod expected;
mod fuse;
mod mount;
mod nodes;
mod servers;
mod suites;
mod tree;

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::slice;
use std::time::{Duration, Instant};

use servers::Server;
use suites::{Outcomes, Suites};
use xen9p_testing::server::TempDir;

/// The list of known failures.
const EXPECTED: &str = include_str!("../expected-failures.txt");

/// The longest that a suite may take on one server.
const PJDFSTEST_LIMIT: Duration = Duration::from_secs(300);
const FSX_LIMIT: Duration = Duration::from_secs(240);

/// Two ways to use a file. Through the page cache the client sees pages; files can be mapped, and
/// what the kernel caches must agree with the server after truncation. Directly, it sees each read
/// and write as fsx makes it, of any size and at any offset.
const FSX: [Fsx; 2] = [
    Fsx {
        name: "cached",
        direct: false,
        operations: 5_000,
        config: "flen = 1048576\n[opsize]\nmax = 131072\n\
                 [weights]\nclose_open = 1.0\ninvalidate = 1.0\nfsync = 0.2\nfdatasync = 0.2\n",
    },
    Fsx {
        name: "direct",
        direct: true,
        operations: 2_000,
        config: "flen = 2097152\n[opsize]\nmax = 1048576\n\
                 [weights]\nmapread = 0.0\nmapwrite = 0.0\nclose_open = 1.0\nfsync = 0.2\nfdatasync = 0.2\n",
    },
];

struct Fsx {
    name: &'static str,
    direct: bool,
    operations: u32,
    config: &'static str,
}

fn main() -> ExitCode {
    let inside = env::args_os().nth(1).is_some_and(|word| word == "inside");
    let result = if inside { run() } else { enter() };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("posix: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again in name spaces of its own. Not as their first process, which signals
/// don't end. Says why if that is impossible here, which is no failure.
fn enter() -> io::Result<bool> {
    let mut private = Command::new("unshare");
    private.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
    ]);
    private.args(["sh", "-c", "\"$@\"; exit $?", "sh"]);
    if let Err(error) = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
    {
        println!("posix: skipped: no FUSE mounts here: /dev/fuse: {error}");
        return Ok(true);
    }
    let mut probe = Command::new("unshare");
    probe
        .args(private.get_args())
        .arg("true")
        .stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        println!(
            "posix: skipped: name spaces of its own take root and unshare (package util-linux)"
        );
        return Ok(true);
    }
    Err(private.arg(env::current_exe()?).arg("inside").exec())
}

fn run() -> io::Result<bool> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let path = |name: &str| {
        variable(name)
            .map(PathBuf::from)
            .ok_or_else(|| io::Error::other(format!("{name} is not set")))
    };
    let only = variable("ONLY").map(|only| only.to_string_lossy().into_owned());
    let only = only.as_deref();
    let bin = path("SUITES")?;
    let logs = path("LOGS")?;
    fs::create_dir_all(&logs)?;

    // Other users have to get in, so this can't be below a home directory.
    let scratch = TempDir::new()?;
    let make = |name: &str| {
        let dir = scratch.path().join(name);
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        io::Result::Ok(dir)
    };
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
    let other_fs = OtherFs::mount(make("other")?)?;
    let suites = Suites {
        pjdfstest: bin.join("pjdfstest"),
        fsx: bin.join("fsx"),
        logs,
        other_fs: other_fs.0.clone(),
    };

    let host = suites.pjdfstest("host", &make("host")?, only.as_slice(), PJDFSTEST_LIMIT)?;
    let servers = variable("SERVERS").map(|list| list.to_string_lossy().into_owned());
    let mut good = true;
    for server in Server::ALL {
        if servers
            .as_ref()
            .is_some_and(|list| !list.split(',').any(|name| name == server.name()))
        {
            continue;
        }
        if let Some((program, package)) = server.program()
            && xen9p_testing::server::real::find(program, package).is_none()
        {
            continue;
        }
        let (export, at) = (
            make(server.name())?,
            make(&format!("{}-mounted", server.name()))?,
        );
        let session = Session {
            server,
            export: &export,
            at: &at,
            suites: &suites,
        };
        if let Some(tests) = server.pjdfstest() {
            let tests = only.as_ref().map_or(tests, slice::from_ref);
            good &= session.pjdfstest(&host, tests)?;
        }
        if only.is_none() {
            for fsx in &FSX {
                good &= session.fsx(fsx)?;
            }
        }
    }
    Ok(good)
}

/// A file system in memory, for what can't be done between two. Unmounted when dropped, so that the
/// directory can be removed.
struct OtherFs(PathBuf);

impl OtherFs {
    fn mount(at: PathBuf) -> io::Result<OtherFs> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "other"])
            .arg(&at)
            .status()?;
        if mounted.success() {
            Ok(OtherFs(at))
        } else {
            Err(io::Error::other("mounting a tmpfs failed"))
        }
    }
}

impl Drop for OtherFs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// One server to be tried.
struct Session<'a> {
    server: Server,
    export: &'a Path,
    at: &'a Path,
    suites: &'a Suites,
}

impl Session<'_> {
    fn pjdfstest(&self, host: &Outcomes, only: &[&str]) -> io::Result<bool> {
        let name = self.server.name();
        let start = Instant::now();
        let mount = self.server.mount(self.export, self.at, false)?;
        let outcomes = self.suites.pjdfstest(name, self.at, only, PJDFSTEST_LIMIT);
        let ended = mount.end();
        let listed = expected::list(EXPECTED, name).map_err(io::Error::other)?;
        let mut host = host.clone();
        host.retain(|test, _| only.is_empty() || only.iter().any(|part| test.contains(part)));
        let verdict = expected::judge(&outcomes?, &host, &listed);
        println!(
            "{name}: pjdfstest: {} passed, {} failed as listed, {} failed, {} failed on the host too, {} skipped ({:.1} s)",
            verdict.passed + verdict.better.len(),
            verdict.expected.len(),
            verdict.unexpected.len(),
            verdict.host.len(),
            verdict.skipped,
            start.elapsed().as_secs_f64(),
        );
        for test in &verdict.unexpected {
            println!("{name}: FAILED: {test}");
        }
        for test in &verdict.better {
            println!("{name}: listed as failing, but passed: {test}; take it off the list");
        }
        ended?;
        Ok(verdict.unexpected.is_empty())
    }

    fn fsx(&self, fsx: &Fsx) -> io::Result<bool> {
        let name = format!("{}-fsx-{}", self.server.name(), fsx.name);
        // make hands on what is empty, too.
        let seed = match env::var("SEED").ok().filter(|seed| !seed.is_empty()) {
            Some(seed) => seed
                .parse()
                .map_err(|_| io::Error::other("SEED is not a number"))?,
            None => 9,
        };
        let start = Instant::now();
        let mount = self.server.mount(self.export, self.at, fsx.direct)?;
        let result = self
            .suites
            .fsx(&name, self.at, fsx.config, fsx.operations, seed, FSX_LIMIT);
        let ended = mount.end();
        match &result {
            Ok(()) => println!(
                "{}: fsx {}: {} operations, seed {seed} ({:.1} s)",
                self.server.name(),
                fsx.name,
                fsx.operations,
                start.elapsed().as_secs_f64()
            ),
            Err(error) => println!(
                "{}: FAILED: fsx {}, seed {seed}: {error}",
                self.server.name(),
                fsx.name
            ),
        }
        ended?;
        Ok(result.is_ok())
    }
}
