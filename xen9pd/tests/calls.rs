//! How many system calls a request costs: in dom0 they are most of what a small one takes. strace counts them in
//! `xen9pd --listen`, and the table in docs/xen9pd.md says what came of it.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use p9_wire::{AttrMask, Dialect, Fid, Names, OpenFlags, Payload, Request, Tag, UnlinkFlags, kind};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const ROOT: Fid = Fid(0);
const LINK: Fid = Fid(1);
const DIR: Fid = Fid(2);
const OPEN: Fid = Fid(3);
const NEW: Fid = Fid(9);

/// What comes and goes with a socket, where a ring has none; and what the standard library asks of a descriptor before it closes
/// it, in programs that are built for tests.
const LEFT_OUT: [&str; 5] = ["read", "recvfrom", "sendto", "write", "fcntl"];

/// Ends the daemon when the test is over.
struct Daemon {
    strace: Child,
    trace: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Were strace ended, the daemon would go on. Each line begins with a number of a process, the first with the daemon's.
        let trace = fs::read_to_string(&self.trace).unwrap_or_default();
        let number = trace.split_whitespace().next();
        let daemon = number.and_then(|number| Pid::from_raw(number.parse().ok()?));
        let ended = daemon.map(|daemon| kill_process(daemon, Signal::KILL));
        if ended != Some(Ok(())) {
            let _ = self.strace.kill();
        }
        let _ = self.strace.wait();
    }
}

struct Peer {
    stream: UnixStream,
    trace: PathBuf,
    _daemon: Daemon,
    _dir: TempDir,
}

impl Peer {
    /// Starts a daemon under strace; `None` where that is not installed.
    fn start() -> Option<Peer> {
        let dir = tempfile::tempdir().unwrap();
        let (share, socket) = (dir.path().join("share"), dir.path().join("socket"));
        let trace = dir.path().join("trace");
        make_share(&share);
        let daemon = Command::new("strace")
            .args(["-f", "-qq", "-o"])
            .arg(&trace)
            .arg(env!("CARGO_BIN_EXE_xen9pd"))
            .arg("--no-sandbox")
            .arg(format!("--listen=unix:{}", socket.display()))
            .arg(format!("--share={}", share.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut daemon = match daemon {
            Ok(strace) => Daemon {
                strace,
                trace: trace.clone(),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert!(
                    env::var_os("XEN9P_REQUIRE_SERVERS").is_none(),
                    "strace is missing"
                );
                eprintln!("skipped: strace is not installed");
                return None;
            }
            Err(error) => panic!("strace does not start: {error}"),
        };
        let mut line = String::new();
        BufReader::new(daemon.strace.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        Some(Peer {
            stream: UnixStream::connect(&socket).unwrap(),
            trace,
            _daemon: daemon,
            _dir: dir,
        })
    }

    /// Sends requests at once, as a client does that waits for none of them, and takes in the replies.
    fn send(&mut self, requests: &[Request<'_>]) {
        let mut bytes = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            let mut message = [0; 8192];
            let tag = Tag(number as u16);
            let len = request.encode(tag, Dialect::Linux, &mut message).unwrap();
            bytes.extend_from_slice(&message[..len]);
        }
        self.stream.write_all(&bytes).unwrap();
        for request in requests {
            let mut size = [0; 4];
            self.stream.read_exact(&mut size).unwrap();
            let mut rest = vec![0; u32::from_le_bytes(size) as usize - 4];
            self.stream.read_exact(&mut rest).unwrap();
            assert_ne!(rest[0], kind::RLERROR, "{request:?}: {rest:?}");
        }
    }

    /// The system calls for these requests.
    fn calls(&mut self, requests: &[Request<'_>]) -> Vec<String> {
        let marks = self.marks();
        // What reads a link is a call of its own kind before and after them.
        self.send(&[Request::Readlink { fid: LINK }]);
        self.send(requests);
        self.send(&[Request::Readlink { fid: LINK }]);
        loop {
            // strace writes a line when the call is over, which is before the reply comes, but not always all of it.
            if self.marks() == marks + 2 {
                break;
            }
            std::thread::yield_now();
        }
        let trace = fs::read_to_string(&self.trace).unwrap();
        let calls = trace.lines().filter_map(call);
        let own = calls.skip_while({
            let mut left = marks + 1;
            move |call| {
                left -= usize::from(*call == "readlinkat");
                left > 0
            }
        });
        own.skip(1)
            .take_while(|call| *call != "readlinkat")
            .filter(|call| !LEFT_OUT.contains(call))
            .map(str::to_owned)
            .collect()
    }

    fn marks(&self) -> usize {
        let trace = fs::read_to_string(&self.trace).unwrap();
        let whole = trace.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let calls = whole.lines().filter_map(call);
        calls.filter(|call| *call == "readlinkat").count()
    }
}

/// The name of the call in a line of strace.
fn call(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(char::is_whitespace)?;
    let (name, _) = rest.trim_start().split_once('(')?;
    name.chars()
        .all(|char| char.is_ascii_alphanumeric() || char == '_')
        .then_some(name)
}

fn make_share(share: &Path) {
    fs::create_dir_all(share.join("a/b/c")).unwrap();
    fs::write(share.join("a/b/c/file"), [1; 8192]).unwrap();
    fs::write(share.join("file"), [1; 8192]).unwrap();
    symlink("file", share.join("link")).unwrap();
}

fn names<'a>(names: &[&'a [u8]]) -> Names<'a> {
    Names::from_slice(names).unwrap()
}

fn walk<'a>(fid: Fid, newfid: Fid, path: &[&'a [u8]]) -> Request<'a> {
    let names = names(path);
    Request::Walk { fid, newfid, names }
}

const fn clunk(fid: Fid) -> Request<'static> {
    Request::Clunk { fid }
}

const fn look(fid: Fid) -> Request<'static> {
    let mask = AttrMask::BASIC;
    Request::Getattr { fid, mask }
}

const fn open(fid: Fid, flags: OpenFlags) -> Request<'static> {
    Request::Lopen { fid, flags }
}

const fn read(fid: Fid) -> Request<'static> {
    let (offset, count) = (0, 4096);
    Request::Read { fid, offset, count }
}

#[test]
fn each_operation_costs_exactly_so_many_system_calls() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let version = b"9P2000.L";
    let msize = 8192;
    peer.send(&[Request::Version { msize, version }]);
    let attach = Request::Attach {
        fid: ROOT,
        afid: Fid::NONE,
        uname: b"",
        aname: b"share",
        n_uname: 0,
    };
    peer.send(&[attach]);
    peer.send(&[walk(ROOT, LINK, &[b"link"])]);
    peer.send(&[walk(ROOT, DIR, &[b"a", b"b"])]);
    peer.send(&[walk(ROOT, OPEN, &[b"file"])]);
    peer.send(&[open(OPEN, OpenFlags::READ_WRITE)]);
    let deep = walk(ROOT, NEW, &[b"a", b"b", b"c", b"file"]);
    // The directories on the way are known from here on, and the bits of the thread set.
    let data = Payload::from(&[2; 4096][..]);
    let write = |fid| Request::Write {
        fid,
        offset: 0,
        data,
    };
    peer.send(&[deep, look(NEW), clunk(NEW)]);
    peer.send(&[write(OPEN)]);

    let create = Request::Lcreate {
        fid: NEW,
        name: b"new",
        flags: OpenFlags::READ_WRITE,
        mode: 0o644,
        gid: 0,
    };
    let rename = Request::Renameat {
        olddirfid: DIR,
        oldname: b"new",
        newdirfid: DIR,
        newname: b"renamed",
    };
    let unlink = Request::Unlinkat {
        dirfid: DIR,
        name: b"renamed",
        flags: UnlinkFlags::empty(),
    };
    let mkdir = Request::Mkdir {
        dfid: DIR,
        name: b"dir",
        mode: 0o755,
        gid: 0,
    };
    let rmdir = Request::Unlinkat {
        dirfid: DIR,
        name: b"dir",
        flags: UnlinkFlags::REMOVE_DIR,
    };
    let entry = walk(DIR, NEW, &[b"c"]);
    let file = walk(ROOT, NEW, &[b"file"]);
    let steps: &[(&str, &[Request<'_>])] = &[
        (
            "stat of a path of four names",
            &[deep, look(NEW), clunk(NEW)],
        ),
        ("whether such a path exists", &[deep, clunk(NEW)]),
        (
            "stat of an entry of a listing",
            &[entry, look(NEW), clunk(NEW)],
        ),
        ("stat of an open file", &[look(OPEN)]),
        (
            "open, read, close",
            &[file, open(NEW, OpenFlags::empty()), read(NEW), clunk(NEW)],
        ),
        (
            "create, write, close",
            &[walk(DIR, NEW, &[]), create, write(NEW), clunk(NEW)],
        ),
        ("rename", &[rename]),
        ("unlink", &[unlink]),
        ("mkdir", &[mkdir]),
        ("rmdir", &[rmdir]),
        ("read", &[read(OPEN)]),
        ("write", &[write(OPEN)]),
    ];
    let mut table = String::from("| operation | system calls | which |\n|---|---|---|\n");
    for (name, requests) in steps {
        let calls = peer.calls(requests);
        table += &format!("| {name} | {} | {} |\n", calls.len(), counted(&calls));
    }
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/xen9pd.md");
    let text = fs::read_to_string(&document).unwrap();
    if env::var_os("XEN9P_WRITE_TABLE").is_some() {
        let (before, rest) = text.split_once("| operation | system calls |").unwrap();
        let (_, after) = rest.split_once("\n\n").unwrap();
        fs::write(&document, format!("{before}{table}\n{after}")).unwrap();
        return;
    }
    assert!(text.contains(&table), "counted:\n{table}");
}

/// Calls one after the other, equal ones together.
fn counted(calls: &[String]) -> String {
    let groups = calls.chunk_by(|one, other| one == other);
    let words = groups.map(|group| match group {
        [one] => one.clone(),
        many => format!("{} {}", many.len(), many[0]),
    });
    words.collect::<Vec<_>>().join(", ")
}
