//! Ways to lose a connection, on the simulated Xen.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Error, File, Fs, MountOptions};
use xen9p::p9::Dialect;
use xen9p::p9::session::Recovery;
use xen9p::p9::wire::{Reply, Tag, kind};
use xen9p::transport::TransportError;
use xen9p::xen::store::{Access, Permission};
use xen9p::xen::suspend::Suspended;
use xen9p_testing::backend::{Handler, Program};
use xen9p_testing::random::content;
use xen9p_testing::server::mem::{MemOptions, MemServer};

use xen9p_testing::bed::guest::{Bed, GUEST, bed_serving};

const TIMEOUT: Duration = Duration::from_secs(8);

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

/// A guest, and what its backend's server remembers.
pub struct Site {
    bed: Bed,
    server: Rc<RefCell<MemServer>>,
    memory: Rc<Cell<Memory>>,
}

/// Bytes of the file that is in use.
const LEN: usize = 60_000;

fn site(program: Program) -> Site {
    let mut server = MemServer::new(MemOptions::default());
    server.put("/file", &content(LEN));
    let server = Rc::new(RefCell::new(server));
    let memory = Rc::new(Cell::new(Memory::Good));
    let bed = bed_serving(program, handler(&server, &memory));
    Site {
        bed,
        server,
        memory,
    }
}

fn handler(server: &Rc<RefCell<MemServer>>, memory: &Rc<Cell<Memory>>) -> Handler {
    let (server, memory) = (server.clone(), memory.clone());
    Box::new(move |request: &[u8]| {
        if request[4] == kind::TVERSION {
            memory.set(Memory::Good);
        }
        match memory.get() {
            Memory::Good => server.borrow_mut().handle(request),
            memory => error(request, memory),
        }
    })
}

impl Site {
    fn mount(&self, recovers: bool) -> Fs {
        let transport = self.bed.connect().unwrap();
        let options = MountOptions::new().timeout(TIMEOUT);
        if !recovers {
            return Fs::mount(transport, &options).unwrap();
        }
        let recovery = Recovery::new(self.bed.redial(repair), Duration::from_secs(60));
        Fs::mount_recovering(transport, &options, recovery).unwrap()
    }

    fn flat(&self) {
        self.bed.share.borrow_mut().kill();
        self.bed.flat();
    }
}

/// What an administrator does: brings the device's nodes back if they are gone, and starts the backend.
fn repair(bed: &Bed) {
    let mut share = bed.share.borrow_mut();
    let dom0 = bed.fake.dom0();
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
pub enum Blow {
    /// Just before it.
    Deed(fn(&Site)),
    /// To its answer, by a backend that follows this script from the beginning.
    Script(&'static str),
}

/// A way to lose a connection.
pub struct Cause {
    pub what: &'static str,
    blow: Blow,
    /// How it is noticed.
    pub noticed: &'static str,
    /// Within which time that has to be, from when the request is made.
    within: Duration,
}

const AT_ONCE: Duration = Duration::from_millis(100);
const CHECK_TIMEOUT: Duration = Duration::from_millis(1200);

/// A new backend process that maps the old rings, as QEMU does when an administrator sets its state to 1.
fn restarted(site: &Site, other_port: bool) {
    site.bed.share.borrow_mut().kill();
    if other_port {
        site.bed.fake.dom0().alloc_unbound(GUEST).unwrap();
    }
    site.bed.set_back_state("1");
    site.bed.share.borrow_mut().restart();
    site.memory.set(Memory::Fresh);
    site.bed.fake.settle();
    assert!(
        site.bed.share.borrow().rings() > 0,
        "it serves the old rings"
    );
}

pub const CAUSES: [Cause; 18] = [
    Cause {
        what: "it goes to Closing",
        blow: Blow::Deed(|site| site.bed.set_back_state("5")),
        noticed: "its state, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "it goes to Closed",
        blow: Blow::Deed(|site| site.bed.set_back_state("6")),
        noticed: "its state, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "it is restarted: its state is 1",
        blow: Blow::Deed(|site| site.bed.set_back_state("1")),
        noticed: "its state, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "it is restarted, and waits: its state is 2",
        blow: Blow::Deed(|site| {
            site.bed.share.borrow_mut().kill();
            site.bed.set_back_state("2");
        }),
        noticed: "its state, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "its state makes no sense",
        blow: Blow::Deed(|site| site.bed.set_back_state("4x")),
        noticed: "its state, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "its directory is removed",
        blow: Blow::Deed(|site| {
            site.bed.share.borrow_mut().kill();
            site.bed.fake.dom0().rm(site.bed.share.borrow().back());
        }),
        noticed: "its state is gone, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "the device is removed on both sides",
        blow: Blow::Deed(|site| {
            site.bed.share.borrow_mut().kill();
            site.bed.fake.dom0().rm(site.bed.share.borrow().back());
            site.bed.fake.dom0().rm(site.bed.share.borrow().front());
        }),
        noticed: "its state is gone, by a watch",
        within: AT_ONCE,
    },
    Cause {
        what: "it is killed",
        blow: Blow::Deed(|site| site.bed.share.borrow_mut().kill()),
        noticed: "no domain is bound to our event channel (EVTCHNOP_status), once a second",
        within: CHECK_TIMEOUT,
    },
    Cause {
        what: "it is killed, and another has mapped our rings before we looked",
        blow: Blow::Deed(|site| restarted(site, true)),
        noticed: "another port is bound to our event channel",
        within: AT_ONCE,
    },
    Cause {
        what: "the same, and the port has the same number",
        blow: Blow::Deed(|site| restarted(site, false)),
        noticed: "its server says Rerror, where in 9P2000.L it is Rlerror",
        within: AT_ONCE,
    },
    Cause {
        what: "its server has lost our fids",
        blow: Blow::Deed(|site| site.memory.set(Memory::NoFids)),
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
        what: "the domain is saved and restored",
        blow: Blow::Deed(|site| {
            // Its server knows no client yet.
            let fresh = handler(&site.server, &Rc::new(Cell::new(Memory::NoFids)));
            let outcome = site.bed.xen.suspend(|| Ok(site.bed.restore(true, fresh)));
            assert_eq!(outcome, Ok(Suspended::Resumed));
        }),
        noticed: "the resume",
        within: AT_ONCE,
    },
    Cause {
        what: "xenstore breaks its protocol",
        blow: Blow::Deed(|site| site.bed.fake.inject_store_bytes(GUEST, &[0xff; 16])),
        noticed: "the connection to it is broken",
        within: AT_ONCE,
    },
];

fn read(file: &File) -> Result<(), Error> {
    let mut bytes = vec![0; 3000];
    let count = file.read_at(&mut bytes, 1000)?;
    assert!(bytes[..count] == content(LEN)[1000..1000 + count]);
    Ok(())
}

/// The error without its number, as far as it shows one.
fn why(error: Error) -> String {
    let text = error.to_string();
    let number = format!(" ({})", error.errno().name().unwrap_or(""));
    text.strip_suffix(&number).unwrap_or(&text).to_owned()
}

/// A mount, and a file of it, at the moment before a request is made.
fn before(site: &Site, cause: &Cause, recovers: bool) -> (Fs, File) {
    if let Blow::Script(script) = cause.blow {
        site.bed.share.borrow_mut().faults = script.parse().unwrap();
    }
    let fs = site.mount(recovers);
    let file = fs.open("/file").unwrap();
    if let Blow::Deed(deed) = cause.blow {
        read(&file).unwrap();
        deed(site);
    }
    (fs, file)
}

/// Without recovery: the error, after which nothing works any more.
pub fn fails(program: Program, cause: &Cause) -> String {
    let site = site(program);
    let (fs, file) = before(&site, cause, false);
    let begun = site.bed.fake.now();
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
    let took = site.bed.fake.now() - begun;
    assert!(took < cause.within, "{}: {took:?}", cause.what);
    // Every request ends, and with the same.
    let before = site.bed.fake.now();
    assert_eq!(read(&file), Err(error), "{}", cause.what);
    assert_eq!(fs.metadata("/file").map(drop), Err(error));
    assert_eq!(fs.write("/new", b"x"), Err(error));
    assert!(site.bed.fake.now() - before < AT_ONCE);
    drop((file, fs));
    if !matches!(error, Error::Transport(TransportError::Lost(how)) if how.contains("xenstore")) {
        site.flat();
    }
    why(error)
}

/// With recovery: once there is a backend again the request is made again.
pub fn goes_on(program: Program, cause: &Cause) -> String {
    let site = site(program);
    let (fs, file) = before(&site, cause, true);
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
    assert!(fs.read("/file").unwrap() == content(LEN));
    file.close().unwrap();
    assert_eq!(fs.to_async().session().fids_in_use(), 1, "the root's");
    fs.unmount().unwrap();
    site.flat();
    "goes on".into()
}
