//! A session with a server that sends anything, while a program uses its files in every way.
//!
//! The server's lanes are in memory and its clock is simulated: silence costs no time, and a client
//! that waits for what can't come is caught.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use xen9p::fs::{
    File, FileTimes, Fs, LockRange, MountOptions, OpenOptions, Permissions, SeekFrom, SystemTime,
};
use xen9p::p9::wire::*;
use xen9p::p9::{Dialect, Error};
use xen9p_testing::server::lanes::{LaneOptions, lanes};
use xen9p_testing::server::lies::Lie;
use xen9p_testing::server::mem::{MemOptions, MemServer};

/// The most operations of one run.
const MOST_OPERATIONS: usize = 40;

/// The most requests that one run may come to. Each operation moves some thousand bytes, and a server may say that
/// it takes one byte at a time.
const MOST_REQUESTS: usize = 500_000;

/// The most simulated time that one operation may take: some requests, each up to its time limit.
const RUN_TIMEOUT: Duration = Duration::from_secs(100_000);

/// Where the input says what the server does.
struct Verdicts {
    bytes: VecDeque<u8>,
    dialect: Dialect,
    /// Whether anything was sent that an honest server would not.
    lied: bool,
    requests: usize,
}

impl Verdicts {
    fn byte(&mut self) -> u8 {
        self.bytes.pop_front().unwrap_or(0)
    }

    fn some(&mut self) -> Vec<u8> {
        let count = usize::from(self.byte()).min(self.bytes.len());
        self.bytes.drain(..count).collect()
    }

    /// What is sent instead of the honest reply.
    fn tell(&mut self, request: &[u8], honest: Vec<u8>) -> Vec<Vec<u8>> {
        self.requests += 1;
        assert!(self.requests < MOST_REQUESTS, "requests without end");
        let header = parse_header(request.first_chunk().expect("lanes check it"));
        let mut honest = match self.dialect {
            Dialect::Linux => honest,
            dialect => classic(request, honest, dialect),
        };
        let verdict = self.byte();
        if verdict < 128 {
            return vec![honest];
        }
        self.lied = true;
        match verdict {
            128..152 => return Lie::ALL[usize::from(verdict - 128)].tell(request, honest),
            152..168 => return vec![message(header.kind + 1, header.tag, &self.some())],
            168..184 => return vec![self.some()],
            184..200 => {
                let at = usize::from(self.byte()) % honest.len().max(1);
                let mask = self.byte();
                if let Some(byte) = honest.get_mut(at) {
                    *byte ^= mask;
                }
            }
            200..216 => {
                honest.resize(usize::from(self.byte()).max(HEADER_LEN), 0);
                super::codec::set_size(&mut honest);
            }
            216..224 => return vec![honest.clone(), honest],
            224..232 => return Vec::new(),
            _ => {
                let errno = u32::from(self.byte());
                return vec![refusal(self.dialect, header.tag, errno)];
            }
        }
        vec![honest]
    }
}

fn message(kind: u8, tag: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.push(kind);
    bytes.extend(tag.to_le_bytes());
    bytes.extend(body);
    super::codec::set_size(&mut bytes);
    bytes
}

fn refusal(dialect: Dialect, tag: u16, errno: u32) -> Vec<u8> {
    let ename = b"No such file or directory";
    encoded(
        match dialect {
            Dialect::Linux => Reply::Lerror { ecode: errno },
            _ => Reply::Error { ename, errno },
        },
        tag,
        dialect,
    )
}

fn encoded(reply: Reply<'_>, tag: u16, dialect: Dialect) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    let len = reply.encode(Tag(tag), dialect, &mut bytes);
    bytes.truncate(len.expect("short"));
    bytes
}

/// What a server of 9P2000 or 9P2000.u might answer, where the one of 9P2000.L has no answer.
fn classic(request: &[u8], other: Vec<u8>, dialect: Dialect) -> Vec<u8> {
    let header = parse_header(request.first_chunk().expect("lanes check it"));
    let (qid, iounit) = (Qid::default(), 0);
    let reply = match header.kind {
        kind::TVERSION => Reply::Version {
            msize: 8192,
            version: dialect.version().as_bytes(),
        },
        kind::TATTACH => Reply::Attach {
            qid: Qid {
                kind: QidKind::DIR,
                ..qid
            },
        },
        kind::TOPEN => Reply::Open { qid, iounit },
        kind::TCREATE => Reply::Create { qid, iounit },
        kind::TWSTAT => Reply::Wstat,
        kind::TSTAT => Reply::Stat {
            stat: Stat {
                name: b"file",
                ..Stat::UNCHANGED
            },
        },
        _ if parse_header(other.first_chunk().expect("a reply")).kind == kind::RLERROR => {
            return refusal(dialect, header.tag, 2);
        }
        _ => return other,
    };
    encoded(reply, header.tag, dialect)
}

/// Input: how to mount; how many operations; which; then what the server does, request by request,
/// and after that it is honest.
pub fn run(input: &[u8]) {
    let [choice, count, rest @ ..] = input else {
        return;
    };
    let count = usize::from(*count).min(MOST_OPERATIONS).min(rest.len());
    let (operations, verdicts) = rest.split_at(count);
    let dialect = match choice & 3 {
        0 | 1 => Dialect::Linux,
        2 => Dialect::Unix,
        _ => Dialect::Plan9,
    };
    let lane_options = LaneOptions {
        lanes: 1 + u16::from(choice >> 2 & 3),
        capacity: 8400,
        latency: (
            Duration::ZERO,
            Duration::from_millis((choice >> 4 & 3).into()),
        ),
        in_order: choice & 0x40 != 0,
        flush_cancels: choice & 0x80 != 0,
        seed: u64::from(*choice),
        ..LaneOptions::default()
    };
    let mut server = MemServer::new(MemOptions::default());
    server.put("/dir/file", &[7; 5000]);
    server.put("/dir/other", b"short");
    let verdicts = Rc::new(RefCell::new(Verdicts {
        bytes: verdicts.iter().copied().collect(),
        dialect,
        lied: dialect != Dialect::Linux,
        requests: 0,
    }));
    let (transport, control) = lanes(lane_options, move |request| server.handle(request));
    let told = verdicts.clone();
    control.tamper(move |request, reply| told.borrow_mut().tell(request, reply));
    let options = MountOptions::new()
        .window(8)
        .read_ahead(4096)
        .dialects(&[dialect]);
    let Ok(fs) = Fs::mount(transport, &options) else {
        return;
    };
    let session = fs.to_async().session().clone();
    let mut file = None;
    for operation in operations {
        let begin = session.now();
        operate(&fs, &mut file, *operation);
        assert!(session.now() - begin < RUN_TIMEOUT, "operation {operation}");
        if let Some(error) = session.error() {
            assert_eq!(fs.metadata("/dir").map(drop), Err(error));
        }
    }
    let lied = verdicts.borrow().lied;
    assert!(lied || session.error().is_none(), "{:?}", session.error());
    if !lied {
        verdicts.borrow_mut().bytes.clear();
        fs.interrupt().clear();
        assert_eq!(fs.metadata("/").map(drop), Ok(()));
    }
}

/// Does something with the files; how it ends is of no interest, as long as it does.
fn operate(fs: &Fs, file: &mut Option<File>, operation: u8) {
    let path = ["/dir/file", "/dir/other", "/new", "/dir"][usize::from(operation >> 6)];
    if let Some(file) = file {
        use_open(file, operation & 63);
    }
    let _: Result<(), Error> = match operation & 63 {
        0 => fs.read(path).map(drop),
        1 => fs.write(path, [1; 3000]),
        2 => fs.read_dir("/dir").map(|listing| {
            listing.take(100).filter_map(Result::ok).for_each(drop);
        }),
        3 => fs.read_dir("/dir").map(|listing| {
            listing.with_metadata().take(100).for_each(drop);
        }),
        4 => fs.metadata(path).map(drop),
        5 => fs.rename(path, "/dir/name"),
        6 => fs
            .symlink("dir/file", "/link")
            .and_then(|()| fs.read("/link").map(drop)),
        7 => fs.read_link("/link").map(drop),
        8 => fs.hard_link(path, "/dir/again"),
        9 => fs.remove_file(path),
        10 => fs.create_dir_all("/dir/a/b/c"),
        11 => fs.remove_dir_all("/dir"),
        12 => fs.copy(path, "/copy").map(drop),
        13 => fs.set_xattr(path, "user.x", b"value"),
        14 => fs.xattr(path, "user.x").map(drop),
        15 => fs.list_xattrs(path).map(drop),
        16 => fs.statfs(path).map(drop),
        17 => fs.set_permissions(path, Permissions::from_mode(0o640)),
        18 => {
            let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
            fs.set_times(path, times)
        }
        19 => fs.chown(path, Some(1), None),
        20 => fs.mknod("/dir/fifo", 0o010_644, 0, 0),
        21 => fs.truncate(path, 6000),
        22..26 => {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true);
            let options = match operation & 63 {
                22 => &mut options,
                23 => options.append(true),
                24 => options.write_behind(2000),
                _ => options.write_behind(10_000),
            };
            options.open(fs, path).map(|opened| *file = Some(opened))
        }
        26 => file.take().map_or(Ok(()), File::close),
        27 => {
            *file = None;
            Ok(())
        }
        28 => {
            fs.interrupt().set();
            Ok(())
        }
        29 => {
            fs.interrupt().clear();
            Ok(())
        }
        30 => {
            // Begun, and taken back.
            let fs = fs.to_async();
            begin(fs.read(path));
            begin(fs.read_dir(path));
            begin(fs.write("/dir/begun", [2; 5000]));
            fs.session().pump();
            Ok(())
        }
        31 => {
            fs.to_async().session().pump();
            Ok(())
        }
        _ => Ok(()),
    };
}

/// Uses an open file.
fn use_open(file: &File, operation: u8) {
    let mut buffer = [0; 700];
    let _: Result<(), Error> = match operation {
        32 => file.read(&mut buffer).map(drop),
        33 => file.read_at(&mut [0; 5000], 100).map(drop),
        34 => file.read_to_end(&mut Vec::new()).map(drop),
        35 => file.write_all(&buffer),
        36 => file.write_all(&[4; 5000]),
        37 => file.write_all_at(&buffer, 5000),
        38 => file.seek(SeekFrom::Start(1000)).map(drop),
        39 => file.seek(SeekFrom::End(-10)).map(drop),
        40 => file.set_len(2000),
        41 => file.flush(),
        42 => file.sync_all(),
        43 => file.metadata().map(drop),
        44 => file.try_lock(LockRange::ALL, true).map(drop),
        45 => file.lock(LockRange::ALL, false).map(drop),
        46 => (0..20).try_for_each(|_| file.read(&mut buffer).map(drop)),
        _ => Ok(()),
    };
}

/// Lets an operation run until it would wait, and no further.
fn begin(operation: impl Future) {
    let mut operation = pin!(operation);
    let _ = operation
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
}
