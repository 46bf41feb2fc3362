//! What becomes of files when the connection is lost: each cause, and each operation that may be in flight. The tables
//! in docs/lost-backends.md are written from what happens here.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;
use std::{env, fs};

use xen9p::errno::Errno;
use xen9p::fs::{Error, File, Fs, LockRange, MountOptions, OpenOptions};
use xen9p::hypercall::DomId;
use xen9p::p9::Dialect;
use xen9p::p9::session::Recovery;
use xen9p::p9::wire::{Reply, Tag, kind};
use xen9p::time::Instant;
use xen9p::transport::xen9pfs::{self, Config};
use xen9p::transport::{Transport, TransportError};
use xen9p::xen::Xen;
use xen9p::xen::event::Events;
use xen9p::xen::store::{Access, Permission};
use xen9p_testing::backend::{Program, Share};
use xen9p_testing::fake::{FakePlatform, FakeXen, Usage};
use xen9p_testing::server::lanes::{Control, LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

const GUEST: DomId = DomId(4);
const TIMEOUT: Duration = Duration::from_secs(8);
const FILE: &str = "docs/lost-backends.md";

/// What the backend's server remembers.
#[derive(Clone, Copy, PartialEq)]
enum Memory {
    Good,
    /// Nothing, and until there is a Tversion its errors are QEMU's: of another dialect.
    Fresh,
    /// No fids, for which it says EBADF.
    NoFids,
}

fn error(request: &[u8], memory: Memory) -> Vec<u8> {
    let (dialect, reply) = match memory {
        Memory::NoFids => {
            let ecode = Errno::EBADF.number().into();
            (Dialect::Linux, Reply::Lerror { ecode })
        }
        _ => {
            let ename = b"No such file or directory";
            (Dialect::Unix, Reply::Error { ename, errno: 2 })
        }
    };
    let tag = Tag(u16::from_le_bytes([request[5], request[6]]));
    let mut bytes = vec![0; 100];
    let size = reply
        .encode(tag, dialect, &mut bytes)
        .expect("an error fits");
    bytes.truncate(size);
    bytes
}

struct Bed {
    fake: FakeXen,
    xen: Xen<FakePlatform>,
    share: Rc<RefCell<Share>>,
    memory: Rc<Cell<Memory>>,
    before: Usage,
}

fn bed(program: Program) -> Bed {
    let fake = FakeXen::new();
    let platform = fake.add_domain(GUEST);
    let mut server = MemServer::new(MemOptions::default());
    server.put("/file", &content());
    let memory = Rc::new(Cell::new(Memory::Good));
    let state = memory.clone();
    let handler = Box::new(move |request: &[u8]| {
        if request[4] == kind::TVERSION {
            state.set(Memory::Good);
        }
        match state.get() {
            Memory::Good => server.handle(request),
            memory => error(request, memory),
        }
    });
    let share = Share::new(&fake.dom0(), GUEST, 0, "share", program, handler);
    let share = Rc::new(RefCell::new(share));
    fake.share_peer(share.clone());
    let xen = Xen::new(Events::new(platform)).unwrap();
    let before = fake.usage(GUEST);
    Bed {
        fake,
        xen,
        share,
        memory,
        before,
    }
}

fn content() -> Vec<u8> {
    (0..60_000_u32).map(|at| ((at * 7) >> 3) as u8).collect()
}

fn config() -> Config {
    let mut config = Config::default();
    config.rings = Some(2);
    config.order = Some(2);
    config.patience = Duration::from_secs(2);
    config
}

impl Bed {
    fn mount(&self, recovers: bool) -> Fs {
        let device = xen9pfs::device(&self.xen, Some("share")).unwrap();
        let transport = xen9pfs::connect(&self.xen, device, &config()).unwrap();
        let options = MountOptions::new().timeout(TIMEOUT);
        if !recovers {
            return Fs::mount(transport, &options).unwrap();
        }
        let (xen, share, fake) = (self.xen.clone(), self.share.clone(), self.fake.clone());
        let redial = move || {
            repair(&fake, &share);
            let device = xen9pfs::device(&xen, Some("share"));
            match device.and_then(|device| xen9pfs::connect(&xen, device, &config())) {
                Ok(transport) => {
                    let transport: Box<dyn Transport> = Box::new(transport);
                    Ok(Some(transport))
                }
                Err(_) => {
                    fake.run_for(Duration::from_millis(100));
                    Ok(None)
                }
            }
        };
        let recovery = Recovery::new(redial, Duration::from_secs(60));
        Fs::mount_recovering(transport, &options, recovery).unwrap()
    }

    fn flat(&self) {
        self.share.borrow_mut().kill();
        self.fake.settle();
        let _ = self.xen.store.poll();
        self.fake.settle();
        assert_eq!(self.xen.grants.drain(), 0, "in quarantine");
        let now = self.fake.usage(GUEST);
        let held = |usage: Usage| (usage.pages, usage.grants, usage.ports, usage.watches);
        assert_eq!(
            held(now),
            held(self.before),
            "pages, grants, ports, watches"
        );
    }
}

/// What an administrator does: brings the device's nodes back if they are gone, and starts the backend.
fn repair(fake: &FakeXen, share: &RefCell<Share>) {
    let mut share = share.borrow_mut();
    let dom0 = fake.dom0();
    let (front, back) = (share.front().to_owned(), share.back().to_owned());
    if dom0.read(&front).is_none() {
        let owner = Permission {
            domain: GUEST,
            access: Access::None,
        };
        dom0.write(&front, "");
        dom0.set_permissions(&front, &[owner]);
    }
    for (node, value) in [
        ("backend", back.as_str()),
        ("backend-id", "0"),
        ("tag", "share"),
        ("state", "1"),
    ] {
        let path = format!("{front}/{node}");
        if dom0.read(&path).is_none() {
            dom0.write(&path, value);
        }
    }
    share.follow("restart").unwrap();
}

/// What happens when a request is made.
#[derive(Clone, Copy)]
enum Blow {
    /// Just before it.
    Deed(fn(&Bed)),
    /// To its answer, by a backend that follows this script from the beginning.
    Script(&'static str),
}

/// A way to lose a connection.
struct Cause {
    what: &'static str,
    blow: Blow,
    /// How it is noticed.
    noticed: &'static str,
    /// Within which time that has to be, from when the request is made.
    within: Duration,
}

const AT_ONCE: Duration = Duration::from_millis(100);
const PULSE: Duration = Duration::from_millis(1200);

fn back(bed: &Bed, node: &str, value: &str) {
    let path = format!("{}/{node}", bed.share.borrow().back());
    bed.fake.dom0().write(&path, value);
}

/// A new backend process that maps the old rings, as QEMU does when somebody sets its state to 1.
fn restarted(bed: &Bed, other_port: bool) {
    bed.share.borrow_mut().kill();
    if other_port {
        bed.fake.dom0().alloc_unbound(GUEST).unwrap();
    }
    back(bed, "state", "1");
    bed.share.borrow_mut().restart();
    bed.memory.set(Memory::Fresh);
    bed.fake.settle();
    assert!(bed.share.borrow().rings() > 0, "it serves the old rings");
}

const CAUSES: [Cause; 17] = [
    Cause {
        what: "it goes to Closing",
        blow: Blow::Deed(|bed| back(bed, "state", "5")),
        noticed: "its state, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "it goes to Closed",
        blow: Blow::Deed(|bed| back(bed, "state", "6")),
        noticed: "its state, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "it is restarted: its state is 1",
        blow: Blow::Deed(|bed| back(bed, "state", "1")),
        noticed: "its state, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "it is restarted, and waits: its state is 2",
        blow: Blow::Deed(|bed| {
            bed.share.borrow_mut().kill();
            back(bed, "state", "2");
        }),
        noticed: "its state, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "its state makes no sense",
        blow: Blow::Deed(|bed| back(bed, "state", "4x")),
        noticed: "its state, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "its directory is removed",
        blow: Blow::Deed(|bed| {
            bed.share.borrow_mut().kill();
            bed.fake.dom0().rm(bed.share.borrow().back());
        }),
        noticed: "its state is gone, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "the device is removed on both sides",
        blow: Blow::Deed(|bed| {
            bed.share.borrow_mut().kill();
            bed.fake.dom0().rm(bed.share.borrow().back());
            bed.fake.dom0().rm(bed.share.borrow().front());
        }),
        noticed: "its state is gone, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "it is killed",
        blow: Blow::Deed(|bed| bed.share.borrow_mut().kill()),
        noticed: "nobody is bound to our event channel (EVTCHNOP_status), once a second",
        within: PULSE,
    },
    Cause {
        what: "it is killed, and another has mapped our rings before we looked",
        blow: Blow::Deed(|bed| restarted(bed, true)),
        noticed: "another port is bound to our event channel",
        within: AT_ONCE,
    },
    Cause {
        what: "the same, and the port has the same number",
        blow: Blow::Deed(|bed| restarted(bed, false)),
        noticed: "its server says Rerror, where in 9P2000.L it is Rlerror",
        within: AT_ONCE,
    },
    Cause {
        what: "its server has lost our fids",
        blow: Blow::Deed(|bed| bed.memory.set(Memory::NoFids)),
        noticed: "EBADF to a request that can't have it for another reason",
        within: AT_ONCE,
    },
    Cause {
        what: "an index of a ring is impossible",
        blow: Blow::Script("on Tread in-prod 1000000"),
        noticed: "the ring's own check",
        within: AT_ONCE,
    },
    Cause {
        what: "a reply is longer than messages can be",
        blow: Blow::Script("on Tread size 4294967295"),
        noticed: "the ring's own check",
        within: AT_ONCE,
    },
    Cause {
        what: "a reply is of another type",
        blow: Blow::Script("on Tread kind 119"),
        noticed: "the session's own check",
        within: AT_ONCE,
    },
    Cause {
        what: "a reply has a tag that was not sent",
        blow: Blow::Script("on Tread tag 12345"),
        noticed: "the session's own check",
        within: AT_ONCE,
    },
    Cause {
        what: "it does not answer a request, nor that it is taken back",
        blow: Blow::Script("each Tread silence; each Tflush silence"),
        noticed: "the time limit; without recovery, that of the Tflush",
        within: Duration::from_secs(18),
    },
    Cause {
        what: "xenstore breaks its protocol",
        blow: Blow::Deed(|bed| bed.fake.inject_store_bytes(GUEST, &[0xff; 16])),
        noticed: "the connection to it is broken",
        within: AT_ONCE,
    },
];

fn read(file: &File) -> Result<(), Error> {
    let mut bytes = vec![0; 3000];
    let count = file.read_at(&mut bytes, 1000)?;
    assert!(bytes[..count] == content()[1000..1000 + count]);
    Ok(())
}

/// The error without its number, as far as it shows one.
fn why(error: Error) -> String {
    let text = error.to_string();
    let number = format!(" ({})", error.errno().name().unwrap_or(""));
    text.strip_suffix(&number).unwrap_or(&text).to_owned()
}

/// A mount, and a file of it, at the moment before a request is made.
fn before(bed: &Bed, cause: &Cause, recovers: bool) -> (Fs, File) {
    if let Blow::Script(script) = cause.blow {
        bed.share.borrow_mut().faults = script.parse().unwrap();
    }
    let fs = bed.mount(recovers);
    let file = fs.open("/file").unwrap();
    if let Blow::Deed(deed) = cause.blow {
        read(&file).unwrap();
        deed(bed);
    }
    (fs, file)
}

/// Without recovery: the error, after which nothing works any more.
fn fails(program: Program, cause: &Cause) -> String {
    let bed = bed(program);
    let (fs, file) = before(&bed, cause, false);
    let begun = bed.fake.now();
    let mut error = read(&file).expect_err(cause.what);
    // A request that gets no answer is given up alone, and then the server; one that is refused because its file is
    // not known may be refused for another reason.
    while let Error::TimedOut | Error::Errno(_) = error {
        let next = match error {
            Error::TimedOut => read(&file),
            _ => fs.metadata("/file").map(drop),
        };
        error = next.expect_err(cause.what);
    }
    let took = bed.fake.now() - begun;
    assert!(took < cause.within, "{}: {took:?}", cause.what);
    // Every request ends, and with the same.
    let before = bed.fake.now();
    assert_eq!(read(&file), Err(error), "{}", cause.what);
    assert_eq!(fs.metadata("/file").map(drop), Err(error));
    assert_eq!(fs.write("/new", b"x"), Err(error));
    assert!(bed.fake.now() - before < AT_ONCE);
    drop((file, fs));
    if !matches!(error, Error::Transport(TransportError::Lost(how)) if how.contains("xenstore")) {
        bed.flat();
    }
    why(error)
}

/// With recovery: once there is a backend again the request is made again.
fn goes_on(program: Program, cause: &Cause) -> String {
    let bed = bed(program);
    let (fs, file) = before(&bed, cause, true);
    match read(&file) {
        Ok(()) => {}
        Err(error) => {
            let stats = fs.stats();
            assert_eq!((stats.losses, stats.recoveries), (1, 0), "{}", cause.what);
            return why(error);
        }
    }
    let stats = fs.stats();
    assert_eq!((stats.losses, stats.recoveries), (1, 1), "{}", cause.what);
    assert!(fs.read("/file").unwrap() == content());
    file.close().unwrap();
    assert_eq!(fs.to_async().session().fids_in_use(), 1, "the root's");
    fs.unmount().unwrap();
    bed.flat();
    "goes on".into()
}

/// Operations and what they have in flight.
type Act = fn(&Site) -> Result<(), Error>;

const ACTS: [(&str, u8, Act); 33] = [
    ("stat, open: the walk", kind::TWALK, |site| {
        site.fs.metadata("/d/f").map(drop)
    }),
    ("stat: the question", kind::TGETATTR, |site| {
        site.fs.metadata("/d/f").map(drop)
    }),
    ("open", kind::TLOPEN, |site| site.fs.open("/d/f").map(drop)),
    ("read", kind::TREAD, |site| {
        site.file.read_at(&mut [0; 4], 0).map(drop)
    }),
    ("read a link", kind::TREADLINK, |site| {
        site.fs.read_link("/d/l").map(drop)
    }),
    ("list from the beginning", kind::TREADDIR, |site| {
        site.fs
            .read_dir("/d")?
            .try_for_each(|entry| entry.map(drop))
    }),
    ("go on with a listing", kind::TREADDIR, |site| {
        let mut listing = site.fs.read_dir("/many")?;
        listing.next().expect("many")?;
        site.doom(kind::TREADDIR);
        listing.try_for_each(|entry| entry.map(drop))
    }),
    ("statistics of the file system", kind::TSTATFS, |site| {
        site.fs.statfs("/d").map(drop)
    }),
    ("read an extended attribute", kind::TXATTRWALK, |site| {
        site.fs.list_xattrs("/d/f").map(drop)
    }),
    ("write at a place", kind::TWRITE, |site| {
        site.file.write_all_at(b"xy", 1)
    }),
    ("write behind, then sync", kind::TWRITE, |site| {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .write_behind(4096)
            .open(&site.fs, "/d/f")?;
        file.write_all(b"behind")?;
        file.sync_all()
    }),
    ("sync", kind::TFSYNC, |site| site.file.sync_all()),
    ("close", kind::TCLUNK, |site| site.fs.open("/d/f")?.close()),
    ("append", kind::TWRITE, |site| {
        OpenOptions::new()
            .append(true)
            .open(&site.fs, "/d/f")?
            .write_all(b"more")
    }),
    ("open with truncation", kind::TLOPEN, |site| {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .truncate(true)
            .open(&site.fs, "/d/f")
            .map(drop)
    }),
    ("create", kind::TLCREATE, |site| {
        site.fs.create("/d/new").map(drop)
    }),
    ("make a directory", kind::TMKDIR, |site| {
        site.fs.create_dir("/d/new")
    }),
    ("make a device or pipe", kind::TMKNOD, |site| {
        site.fs.mknod("/d/new", 0o010_600, 0, 0)
    }),
    ("make a symbolic link", kind::TSYMLINK, |site| {
        site.fs.symlink("f", "/d/new")
    }),
    ("make a hard link", kind::TLINK, |site| {
        site.fs.hard_link("/d/f", "/d/new")
    }),
    ("rename", kind::TRENAMEAT, |site| {
        site.fs.rename("/d/f", "/d/new")
    }),
    ("remove a file", kind::TUNLINKAT, |site| {
        site.fs.remove_file("/d/f")
    }),
    ("remove a directory", kind::TUNLINKAT, |site| {
        site.fs.remove_dir("/empty")
    }),
    ("truncate", kind::TSETATTR, |site| {
        site.fs.truncate("/d/f", 1)
    }),
    ("change of attributes", kind::TSETATTR, |site| {
        let mode = xen9p::fs::Permissions::from_mode(0o640);
        site.fs.set_permissions("/d/f", mode)
    }),
    (
        "begin to set an extended attribute",
        kind::TXATTRCREATE,
        |site| site.fs.set_xattr("/d/f", "user.a", b"1"),
    ),
    (
        "set an extended attribute: closing it",
        kind::TCLUNK,
        |site| site.fs.set_xattr("/d/f", "user.a", b"1"),
    ),
    ("lock", kind::TLOCK, |site| {
        site.file.try_lock(LockRange::ALL, true).map(drop)
    }),
    ("nothing: a file with a lock, used next", 0, |site| {
        let lock = site.file.try_lock(LockRange::ALL, true)?;
        site.lose();
        let result = site.file.write_all_at(b"z", 0);
        drop(lock);
        result
    }),
    ("nothing: an open file, used next", 0, |site| {
        site.lose();
        site.file.read_at(&mut [0; 4], 0).map(drop)
    }),
    ("nothing: a file that is removed meanwhile", 0, |site| {
        site.lose_and(|fs| fs.remove_file("/d/f").unwrap());
        site.file.read_at(&mut [0; 4], 0).map(drop)
    }),
    ("nothing: another file in its place", 0, |site| {
        site.lose_and(|fs| {
            fs.write("/foreign", b"foreign").unwrap();
            fs.rename("/foreign", "/d/f").unwrap();
        });
        site.file.read_at(&mut [0; 7], 0).map(drop)
    }),
    ("nothing: its path, used next", 0, |site| {
        site.lose();
        site.fs.read("/d/f").map(drop)
    }),
];

struct Site {
    fs: Fs,
    file: File,
    server: Rc<RefCell<MemServer>>,
    control: Rc<RefCell<Control>>,
    done: bool,
}

fn site(recovers: bool, done: bool) -> Site {
    let mut server = MemServer::new(MemOptions::default());
    server.put("/d/f", b"content");
    for index in 0..2000 {
        server.put(&format!("/many/{index:0100}"), b"");
    }
    let server = Rc::new(RefCell::new(server));
    let options = LaneOptions {
        lanes: 2,
        latency: (Duration::from_micros(10), Duration::from_micros(500)),
        ..LaneOptions::default()
    };
    let connect = {
        let server = server.clone();
        move || {
            let serving = server.clone();
            lanes(options.clone(), move |request| {
                serving.borrow_mut().handle(request)
            })
        }
    };
    let (transport, control) = connect();
    let control = Rc::new(RefCell::new(control));
    let fs = if recovers {
        let control = control.clone();
        let redial = move || {
            let now = control.borrow().now();
            let (transport, fresh) = connect();
            fresh.advance(now - Instant::from_nanos(0));
            *control.borrow_mut() = fresh;
            let transport: Box<dyn Transport> = Box::new(transport);
            Ok(Some(transport))
        };
        let recovery = Recovery::new(redial, TIMEOUT);
        Fs::mount_recovering(transport, &MountOptions::new(), recovery).unwrap()
    } else {
        Fs::mount(transport, &MountOptions::new()).unwrap()
    };
    fs.symlink("f", "/d/l").unwrap();
    fs.create_dir("/empty").unwrap();
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).open(&fs, "/d/f").unwrap();
    Site {
        fs,
        file,
        server,
        control,
        done,
    }
}

impl Site {
    fn lose(&self) {
        self.control.borrow().lose("for a test");
    }

    /// The connection is lost, and before there is another, somebody else does this.
    fn lose_and(&self, act: impl FnOnce(&Fs)) {
        self.lose();
        let server = self.server.clone();
        let (transport, _) = lanes(LaneOptions::default(), move |request| {
            server.borrow_mut().handle(request)
        });
        act(&Fs::mount(transport, &MountOptions::new()).unwrap());
    }

    fn doom(&self, kind: u8) {
        self.control.borrow().lose_at(&[kind], 0, self.done);
    }
}

/// What becomes of an operation, with and without recovery.
fn treatment(act: &(&str, u8, Act), recovers: bool, done: bool) -> String {
    let &(what, request, run) = act;
    let site = site(recovers, done);
    if request != 0 && !what.starts_with("go on") {
        site.doom(request);
    }
    let result = run(&site);
    // Some know what became of theirs before there is another connection; on that, the open file is had again.
    let again = match site.fs.stats().recoveries {
        0 => 0,
        _ => site.control.borrow().count(request) - usize::from(request == kind::TLOPEN),
    };
    let text = match result {
        Ok(()) if request == 0 => "goes on".into(),
        Ok(()) if again > 0 => "made again".into(),
        Ok(()) => "done".into(),
        Err(Error::Transport(_)) => "a transport error".into(),
        Err(error @ (Error::MaybeApplied | Error::Stale)) => format!("`{error:?}`"),
        Err(error) => panic!("{what}: {error}"),
    };
    if text == "`MaybeApplied`" {
        assert_eq!(again, 0, "{what} is not asked for again");
    }
    // Whatever came of it: the mount works.
    if recovers {
        site.fs.metadata("/").unwrap();
        let stats = site.fs.stats();
        assert_eq!((stats.losses, stats.recoveries), (1, 1), "{what}");
    }
    text
}

fn tables() -> String {
    let mut text = String::from(
        "| the backend | noticed by | what everything on the mount fails with | with recovery, once there is a backend again |\n|---|---|---|---|\n",
    );
    for cause in &CAUSES {
        let qemu = fails(Program::Qemu, cause);
        if !cause.what.contains("killed, and another") && !cause.what.contains("same number") {
            // xen-9pfsd takes no rings up by itself.
            assert_eq!(fails(Program::Daemon, cause), qemu, "{}", cause.what);
        }
        let on = goes_on(Program::Qemu, cause);
        let _ = writeln!(
            text,
            "| {} | {} | {qemu} | {on} |",
            cause.what, cause.noticed
        );
    }
    text += "\n| in flight | request | not done when the connection is lost | done | without recovery |\n|---|---|---|---|---|\n";
    for act in &ACTS {
        let request = match act.1 {
            0 => "",
            request => kind::name(request),
        };
        let [before, after] = [false, true].map(|done| treatment(act, true, done));
        let fails = treatment(act, false, true);
        let after = if after == before { "the same" } else { &after };
        let _ = writeln!(
            text,
            "| {} | {request} | {before} | {after} | {fails} |",
            act.0
        );
    }
    text
}

#[test]
fn the_tables_in_the_docs_are_what_happens() {
    const BEGIN: &str = "<!-- tables: written by tests/losses.rs -->\n";
    const END: &str = "<!-- end of tables -->";
    let tables = tables();
    let document = fs::read_to_string(FILE).expect(FILE);
    let (before, rest) = document.split_once(BEGIN).expect("the tables' beginning");
    let (old, after) = rest.split_once(END).expect("the tables' end");
    if env::var_os("XEN9P_WRITE_TABLE").is_some() {
        fs::write(FILE, [before, BEGIN, &tables, END, after].concat()).expect("the file");
        return;
    }
    for (old, new) in old.lines().zip(tables.lines()) {
        assert_eq!(old, new, "{FILE}; XEN9P_WRITE_TABLE=1 writes it anew");
    }
    assert_eq!(
        old.lines().count(),
        tables.lines().count(),
        "rows in {FILE}"
    );
}
