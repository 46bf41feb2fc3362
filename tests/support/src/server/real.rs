//! Servers that each serve a directory of this machine: diod and our own `xen9pd` as processes, the crates `p9` and
//! `ninep` in threads, which others wrote, over socket pairs.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;

use rustix::process::{Signal, set_parent_process_death_signal};
use tempfile::TempDir;

use p9_client::transport::socket::Socket;

use super::mem::{MemOptions, MemServer};

/// Set in the environment, it makes a missing program an error.
const REQUIRE: &str = "XEN9P_REQUIRE_SERVERS";

/// Where a program is. If it isn't installed, says on stderr that the test which asked is skipped;
/// with `XEN9P_REQUIRE_SERVERS` set, as in our CI, panics instead.
pub fn find(program: &str, package: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(program))
        .find(|p| p.is_file());
    if found.is_none() {
        assert!(
            env::var_os(REQUIRE).is_none(),
            "{program} (package {package}) is missing"
        );
        eprintln!("skipped: {program} is not installed (package {package})");
    }
    found
}

/// A process that ends when this is dropped, and also when the thread that started it does: a test
/// that is killed leaves nothing running.
pub struct Process(Child);

impl Process {
    /// Starts it.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let tie = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: between fork and exec the closure makes one system call, prctl, and touches no
        // memory but its own stack.
        unsafe { command.pre_exec(tie) };
        command.spawn().map(Process)
    }

    /// Its standard input and output, if they were piped and not taken yet.
    pub fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        self.0.stdin.take().zip(self.0.stdout.take())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A thread that serves one end of a socket pair and ends when the other is closed.
fn serve(max_message: u32, serve: impl FnOnce(UnixStream) + Send + 'static) -> io::Result<Socket> {
    let (ours, theirs) = UnixStream::pair()?;
    thread::spawn(move || serve(theirs));
    ours.set_nonblocking(true)?;
    Ok(Socket::new(ours, max_message, ()))
}

/// Debian's diod serving `export`, in 9P2000.L. The aname to attach to is the path of `export`.
/// `None`, and a word about it on stderr, if it isn't installed.
///
/// Run by root, as it has to be, it serves every user with that user's rights. It never serves more
/// than 64 KiB of msize, drops the connection on what it doesn't know, and has neither Tunlinkat nor
/// Trenameat in version 1.0.24.
pub fn diod(export: &Path) -> io::Result<Option<Socket>> {
    let Some(program) = find("diod", "diod") else {
        return Ok(None);
    };
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(program);
    command
        .args(["-f", "-n", "-N", "-r", "0", "-w", "1", "-L", "stderr"])
        .args(["-c", "/dev/null", "-e"])
        .arg(export)
        .stdin(OwnedFd::from(theirs.try_clone()?))
        .stdout(OwnedFd::from(theirs))
        .stderr(Stdio::null());
    let process = Process::start(&mut command)?;
    // It keeps its copy of the other end, which would hide that diod has gone.
    drop(command);
    ours.set_nonblocking(true)?;
    Ok(Some(Socket::new(ours, 1 << 16, process)))
}

/// Our own `xen9pd --listen`, which serves one directory to all who connect, until this is dropped.
pub struct Xen9pd {
    _process: Process,
    dir: TempDir,
}

impl Xen9pd {
    /// Starts it. `options` are those of `--share`, such as "ro,devices". `None`, and a word about it on stderr, if the
    /// program was not built: it is looked for in `$XEN9PD`, and where the tests were built.
    pub fn start(export: &Path, options: &str) -> io::Result<Option<Arc<Xen9pd>>> {
        let Some(program) = Xen9pd::program()? else {
            return Ok(None);
        };
        let dir = TempDir::new()?;
        let mut command = Command::new(program);
        command
            .arg("--listen")
            .arg(format!("unix:{}", dir.path().join("socket").display()))
            .arg("--share")
            .arg(format!("{}:{options}", export.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = Process::start(&mut command)?;
        let out = process.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        if !line.starts_with("listening on ") {
            return Err(io::Error::other("xen9pd ended before it listened"));
        }
        Ok(Some(Arc::new(Xen9pd {
            _process: process,
            dir,
        })))
    }

    /// One more connection.
    pub fn connect(self: &Arc<Self>) -> io::Result<Socket> {
        let stream = UnixStream::connect(self.dir.path().join("socket"))?;
        stream.set_nonblocking(true)?;
        Ok(Socket::new(stream, 1 << 20, self.clone()))
    }

    fn program() -> io::Result<Option<PathBuf>> {
        let here = env::current_exe()?;
        let built = here
            .ancestors()
            .skip(1)
            .take(2)
            .map(|dir| dir.join("xen9pd"));
        let given = env::var_os("XEN9PD").map(PathBuf::from);
        let found = given.into_iter().chain(built).find(|path| path.is_file());
        if found.is_none() {
            assert!(
                env::var_os(REQUIRE).is_none(),
                "xen9pd is missing: cargo build -p xen9pd"
            );
            eprintln!("skipped: xen9pd is not built (cargo build -p xen9pd)");
        }
        Ok(found)
    }
}

/// One connection to a `xen9pd` of its own. As root, it serves devices, too.
pub fn xen9pd(export: &Path) -> io::Result<Option<Socket>> {
    Xen9pd::start(export, "devices")?
        .map(|server| server.connect())
        .transpose()
}

/// The server of the crate `p9` (crosvm's) serving `export`, in 9P2000.L.
///
/// Names have to be UTF-8; creates nothing but files and directories; locks nothing.
pub fn p9(export: &Path) -> io::Result<Socket> {
    let config = p9::Config {
        root: export.into(),
        ..Default::default()
    };
    let mut server = p9::Server::with_config(config)?;
    serve(1 << 16, move |mut stream| {
        let mut request = Vec::new();
        let mut reply = Vec::new();
        while read_message(&mut stream, &mut request).is_ok() {
            reply.clear();
            let handled = server.handle_message(&mut &request[..], &mut reply);
            if handled.is_err() || stream.write_all(&reply).is_err() {
                break;
            }
        }
    })
}

/// The server in memory, in a thread of its own with memory of its own, holding what `fill` puts there.
pub fn memory(
    options: MemOptions,
    fill: impl FnOnce(&mut MemServer) + Send + 'static,
) -> io::Result<Socket> {
    serve(options.msize, move |mut stream| {
        let mut server = MemServer::new(options);
        fill(&mut server);
        let mut request = Vec::new();
        while read_message(&mut stream, &mut request).is_ok() {
            if stream.write_all(&server.handle(&request)).is_err() {
                break;
            }
        }
    })
}

fn read_message(stream: &mut UnixStream, into: &mut Vec<u8>) -> io::Result<()> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let body = (u32::from_le_bytes(size) as usize).saturating_sub(size.len());
    into.clear();
    into.extend(size);
    into.resize(size.len() + body, 0);
    stream.read_exact(&mut into[size.len()..])
}

/// The server of the crate `ninep` serving `export`, in 9P2000.
///
/// Follows symbolic links of the host; a Twstat has to carry the file's qid.
pub fn ninep(export: &Path) -> io::Result<Socket> {
    let fs = ninep::util::local_proxy::LocalProxyFs::new(export)?;
    let mut server = ninep::sync::server::Server::new(fs);
    serve(1 << 16, move |stream| {
        server.handle_single_client_stream(stream)
    })
}
