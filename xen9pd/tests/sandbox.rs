//! The sandbox, from inside: a process that has entered it can reach its shares and nothing else, and ends when it tries
//! other system calls.
//!
//! This program is its own harness: called with the name of a part it enters the sandbox and does that part, called
//! without it starts itself once for each. The harness of the language would have threads before the sandbox is entered.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::pin::pin;
use std::process::{Command, ExitStatus};
use std::ptr;
use std::task::{Context, Poll, Waker};

use p9_tree::{Node, OpenFile};
use p9_wire::{AttrMask, Errno, OpenFlags, UnlinkFlags, XattrFlags};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Signal, chroot, getppid, kill_process};
use xen9pd::host::{Directory, HostNode, HostTree, Options, Owners};
use xen9pd::sandbox::{self, Plan, SandboxError};

/// What a part does inside, and how the process ends.
type Part = (&'static str, fn(&[HostNode]), Ending);

#[derive(Clone, Copy, PartialEq)]
enum Ending {
    Well,
    /// By the kernel, for a system call that is not on the list.
    Forbidden,
}

const PARTS: &[Part] = &[
    ("work", work, Ending::Well),
    ("squashed", squashed, Ending::Well),
    ("look-around", look_around, Ending::Well),
    ("threads", threads, Ending::Well),
    ("socket", socket, Ending::Forbidden),
    ("execute", execute, Ending::Forbidden),
    ("unmount", remove_mounts, Ending::Forbidden),
    ("chroot", change_root, Ending::Forbidden),
    ("signal", signal_others, Ending::Forbidden),
    ("new-names", new_names, Ending::Forbidden),
    ("code", executable_memory, Ending::Forbidden),
    ("ioctl", ask_terminal, Ending::Forbidden),
];

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [part, directory] = &arguments[..]
        && let Some((name, inside, _)) = PARTS.iter().find(|(name, _, _)| name == part)
    {
        enter(name, Path::new(directory), *inside);
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make name spaces");
        return;
    }
    let wanted = |name: &str| {
        let filters: Vec<_> = arguments
            .iter()
            .filter(|word| !word.starts_with('-'))
            .collect();
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    refuses_threads();
    let mut failed = Vec::new();
    for &(name, _, ending) in PARTS.iter().filter(|part| wanted(part.0)) {
        let status = run(name);
        let ended = match ending {
            Ending::Well => status.success(),
            Ending::Forbidden => status.signal() == Some(libc::SIGSYS),
        };
        println!("sandbox {name} ... {}", if ended { "ok" } else { "FAILED" });
        if !ended {
            failed.push(format!("{name}: {status}"));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Runs a part in a process of its own, on two shares in a directory that has other things, too.
fn run(part: &str) -> ExitStatus {
    let dir = tempfile::tempdir().unwrap();
    for name in ["first", "second", "outside"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("file"), name).unwrap();
    }
    fs::set_permissions(dir.path().join("first"), PermissionsExt::from_mode(0o777)).unwrap();
    symlink(dir.path().join("outside"), dir.path().join("first/link")).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .arg(part)
        .arg(dir.path())
        .status()
        .unwrap()
}

fn refuses_threads() {
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || wait.recv().is_ok());
    let plan = Plan {
        shares: Vec::new(),
        max_descriptors: 100,
    };
    let parted = sandbox::part(&[]).unwrap();
    let refused = sandbox::enter(plan, parted).unwrap_err();
    assert!(matches!(refused, SandboxError::Threads(2)), "{refused}");
    drop(stop);
    other.join().unwrap();
}

fn enter(part: &str, directory: &Path, inside: fn(&[HostNode])) {
    let first = match part {
        "squashed" => Options {
            owners: Owners::Squash {
                uid: 1234,
                gid: 5678,
            },
            ..Options::default()
        },
        _ => Options::default(),
    };
    let second = Options {
        read_only: true,
        ..Options::default()
    };
    let open = |name| Directory::open(&directory.join(name)).unwrap();
    let shares = vec![(open("first"), first), (open("second"), second)];
    let options = [first, second];
    // A descriptor that was open before would stay: this test has none but the standard ones.
    let plan = Plan {
        shares,
        max_descriptors: 100,
    };
    let entered = sandbox::enter(plan, sandbox::part(&[]).unwrap()).unwrap();
    assert!(entered.namespaces);
    let roots: Vec<_> = entered
        .roots
        .into_iter()
        .zip(options)
        .map(|(root, options)| {
            let tree = HostTree::new(root, entered.proc.clone(), options, None).unwrap();
            tree.root(Some(77)).unwrap()
        })
        .collect();
    inside(&roots);
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a host directory waited"),
    }
}

/// All that a share is for works inside.
fn work(roots: &[HostNode]) {
    let [first, second] = roots else { panic!() };
    let read = |node: &HostNode| {
        let file = now(node.open(OpenFlags::empty())).unwrap();
        let mut content = [0; 100];
        let len = now(file.read(&mut content, 0)).unwrap();
        content[..len].to_vec()
    };
    assert_eq!(read(&now(first.walk(b"file")).unwrap()), b"first");
    assert_eq!(read(&now(second.walk(b"file")).unwrap()), b"second");
    let made = now(first.create(b"new", OpenFlags::READ_WRITE, 0o644, 88)).unwrap();
    now(made.file.write(b"hello", 0)).unwrap();
    now(made.file.fsync(false)).unwrap();
    let attr = now(made.node.getattr(AttrMask::ALL)).unwrap();
    assert_eq!((attr.uid, attr.gid, attr.size), (77, 88, 5));
    let all = p9_wire::SetAttr {
        valid: p9_wire::SetAttrMask::from_bits_retain(0x1ff),
        mode: 0o600,
        uid: 5,
        gid: 6,
        size: 3,
        ..Default::default()
    };
    now(made.node.setattr(&all)).unwrap();
    now(made.node.set_xattr(b"user.x", b"y", XattrFlags::empty())).unwrap();
    assert_eq!(now(made.node.xattr(b"user.x", 9)).unwrap(), b"y");
    now(made.node.list_xattrs(99)).unwrap();
    now(made.node.remove_xattr(b"user.x")).unwrap();
    let lock = p9_tree::Lock {
        kind: p9_wire::LockKind::WRITE,
        start: 0,
        length: 0,
        owner: 1,
        client: b"",
    };
    now(made.file.lock(&lock, p9_wire::LockFlags::empty())).unwrap();
    now(first.mkdir(b"dir", 0o755, 0)).unwrap();
    now(first.symlink(b"sym", b"target", 0)).unwrap();
    now(first.mknod(b"pipe", 0o10644, 0, 0, 0)).unwrap();
    now(first.link(&made.node, b"dir2")).unwrap();
    let dir = now(first.walk(b"dir")).unwrap();
    now(first.rename(b"new", &dir, b"moved")).unwrap();
    now(dir.unlink(b"moved", UnlinkFlags::empty())).unwrap();
    now(first.statfs()).unwrap();
    let listed = now(first.open(OpenFlags::DIRECTORY)).unwrap();
    let mut names = 0;
    now(listed.readdir(0, &mut |_| {
        names += 1;
        true
    }))
    .unwrap();
    assert_eq!(names, 8);
    // The mount is read-only, too, so that the tree's own check is not the only one.
    let refused = fs::write("/1/file", "x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
}

fn squashed(roots: &[HostNode]) {
    let made = now(roots[0].create(b"new", OpenFlags::READ_WRITE, 0o644, 88)).unwrap();
    let attr = now(made.node.getattr(AttrMask::ALL)).unwrap();
    assert_eq!((attr.uid, attr.gid), (1234, 5678));
    let file = now(roots[0].walk(b"file")).unwrap();
    let refused = now(file.open(OpenFlags::WRITE_ONLY)).map(drop).unwrap_err();
    assert_eq!(refused.errno(), Errno::EACCES);
}

/// There is nothing but the two shares, by whatever way.
fn look_around(_: &[HostNode]) {
    let mut names: Vec<_> = fs::read_dir("/")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["0", "1"]);
    for path in [
        "/etc/passwd",
        "/proc/self/status",
        "/dev/null",
        "/sys",
        "/..//etc",
        "/0/../../etc",
        "/0/link/file",
        "../etc",
        "/tmp",
    ] {
        assert!(fs::metadata(path).is_err(), "{path}");
        assert!(fs::File::open(path).is_err(), "{path}");
    }
    let root = fs::metadata("/").unwrap();
    for above in ["/..", "/0/..", "/1/../.."] {
        let above = fs::metadata(above).unwrap();
        assert_eq!((above.dev(), above.ino()), (root.dev(), root.ino()));
    }
    let refused = fs::write("/new", "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    descriptors_lead_nowhere();
    // Not a single capability that could undo it.
    let sets = rustix::thread::capabilities(None).unwrap();
    use rustix::thread::CapabilitySet as C;
    let kept = C::DAC_OVERRIDE | C::CHOWN | C::FOWNER | C::FSETID | C::SETUID | C::SETGID;
    assert_eq!(sets.permitted, kept);
    assert!(sets.inheritable.is_empty());
}

/// A descriptor of a directory outside would be a door, since there is no wall above it.
fn descriptors_lead_nowhere() {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, statat};

    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut directories = 0;
    for number in 0..100 {
        // SAFETY: a number that is no descriptor's is refused by the kernel.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let Ok(mut at) = openat(fd, ".", flags, Mode::empty()) else {
            continue;
        };
        directories += 1;
        for _ in 0..20 {
            for name in ["etc", "sys", "outside", "kernel"] {
                let found = statat(&at, name, AtFlags::SYMLINK_NOFOLLOW);
                assert!(found.is_err(), "descriptor {number} leads to {name}");
            }
            at = openat(&at, "..", flags, Mode::empty()).unwrap();
        }
        let top = fstat(&at).unwrap();
        let above = statat(&at, "..", AtFlags::empty()).unwrap();
        assert_eq!((top.st_dev, top.st_ino), (above.st_dev, above.st_ino));
    }
    assert!(
        directories >= 3,
        "the shares and /proc/self/fd are looked at"
    );
    assert!(openat(CWD, "etc", flags, Mode::empty()).is_err());
}

/// The server starts threads inside.
fn threads(roots: &[HostNode]) {
    std::thread::scope(|scope| {
        for number in 0..8 {
            let name = format!("thread{number}");
            std::thread::Builder::new()
                .name(name.clone())
                .spawn_scoped(scope, move || {
                    now(roots[0].mkdir(name.as_bytes(), 0o755, 9)).unwrap();
                    let node = now(roots[0].walk(name.as_bytes())).unwrap();
                    let attr = now(node.getattr(AttrMask::ALL)).unwrap();
                    assert_eq!((attr.uid, attr.gid), (77, 9));
                })
                .unwrap();
        }
    });
}

// What follows does not return.

fn socket(_: &[HostNode]) {
    let _ = std::net::UdpSocket::bind("127.0.0.1:0");
}

fn execute(_: &[HostNode]) {
    let _ = Command::new("/bin/true").status();
}

fn remove_mounts(_: &[HostNode]) {
    let _ = unmount("/", UnmountFlags::DETACH);
}

fn change_root(_: &[HostNode]) {
    let _ = chroot("/");
}

fn signal_others(_: &[HostNode]) {
    let _ = kill_process(getppid().unwrap(), Signal::TERM);
}

fn new_names(_: &[HostNode]) {
    // SAFETY: FILES is not among the flags.
    let _ = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER) };
}

fn executable_memory(_: &[HostNode]) {
    let access = ProtFlags::READ | ProtFlags::EXEC;
    // SAFETY: a new mapping at an address of the kernel's choice replaces none.
    let _ = unsafe { mmap_anonymous(ptr::null_mut(), 4096, access, MapFlags::PRIVATE) };
}

fn ask_terminal(_: &[HostNode]) {
    let _ = rustix::termios::tcgetwinsize(std::io::stdin());
}
