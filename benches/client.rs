//! What the client costs by itself: encoding and decoding of the messages of file traffic, and
//! requests over a server in memory that answers at once. Time and allocations, each the least of
//! several runs. `cargo bench`, with part of a name to run only some.
//!
//! Under callgrind (`make bench-count`) each is counted instead: every operation's instructions go to a dump of its own.

use std::env;
use std::hint::black_box;
use std::time::{Duration, Instant};

use xen9p::fs::{Fs, MountOptions, OpenOptions};
use xen9p::p9::wire::{
    Attr, AttrMask, Dialect, DirEntries, DirEntry, DirEntryKind, Fid, Names, OpenFlags, Payload,
    Qid, Qids, Reader, Reply, Request, Tag,
};
use xen9p::transport::xen9pfs::ring::Order;
use xen9p_testing::backend::PlainRing;
use xen9p_testing::count::{Counting, allocations};
use xen9p_testing::server::still::Still;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RUNS: u32 = 7;
const RUN: Duration = Duration::from_millis(40);

/// Operations that are counted together under callgrind, and as many before that for practice.
const COUNTED: u64 = 64;

struct Bench {
    only: Option<String>,
    counting: bool,
}

/// Asks valgrind for something (its manual, "The Client Request mechanism"); without effect when it does not run.
fn valgrind(request: u64, argument: u64) {
    let words = [request, argument, 0, 0, 0, 0];
    // SAFETY: rotations by 128 bits in all and an exchange of a register with itself: nothing changes but the flags
    // and rdx. valgrind knows the sequence and reads the words at rax.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") words.as_ptr(),
            inout("rdx") 0_u64 => _,
        );
    }
}

const CALLGRIND: u64 = (b'C' as u64) << 24 | (b'T' as u64) << 16;
/// Starts counting anew.
const ZERO_STATS: u64 = CALLGRIND + 1;
/// Writes down what was counted, under a name.
const DUMP_STATS_AT: u64 = CALLGRIND + 3;

impl Bench {
    /// Measures one operation, which moves `bytes` of data.
    fn measure(&self, name: &str, bytes: usize, mut operation: impl FnMut()) {
        if self.only.as_ref().is_some_and(|part| !name.contains(part)) {
            return;
        }
        if self.counting {
            let name = std::ffi::CString::new(name).unwrap_or_default();
            (0..COUNTED).for_each(|_| operation());
            valgrind(ZERO_STATS, 0);
            (0..COUNTED).for_each(|_| operation());
            return valgrind(DUMP_STATS_AT, name.as_ptr() as u64);
        }
        // As many as fill a run.
        let mut count = 1_u32;
        let taken = loop {
            let start = Instant::now();
            (0..count).for_each(|_| operation());
            match start.elapsed() {
                taken if taken * 4 > RUN => break taken,
                _ => count *= 2,
            }
        };
        count = (f64::from(count) * RUN.as_secs_f64() / taken.as_secs_f64()) as u32 + 1;
        let run = |_| {
            let (start, before) = (Instant::now(), allocations());
            (0..count).for_each(|_| operation());
            (start.elapsed(), allocations() - before)
        };
        let runs: Vec<_> = (0..RUNS).map(run).collect();
        let time = runs.iter().map(|run| run.0).min().unwrap_or_default();
        let allocated = runs.iter().map(|run| run.1).min().unwrap_or_default();
        let each = time.as_secs_f64() / f64::from(count);
        let rate = match bytes {
            0 => String::new(),
            bytes => format!("{:8.0} MB/s", bytes as f64 / each / 1e6),
        };
        let allocated = allocated as f64 / f64::from(count);
        println!(
            "{name:32} {:10.1} ns {allocated:6.2} allocations {rate}",
            each * 1e9
        );
    }
}

fn main() {
    // cargo passes --bench.
    let only = env::args().skip(1).find(|word| !word.starts_with('-'));
    let counting = env::var_os("BENCH_COUNT").is_some();
    let bench = Bench { only, counting };
    wire(&bench);
    ring(&bench);
    client(&bench);
}

fn wire(bench: &Bench) {
    let zeros = vec![0; 64 << 10];
    let data = Payload::from(&zeros[..]);
    let fid = Fid(7);
    let names = Names::from_slice(&[b"usr".as_slice(), b"share", b"doc"]).unwrap_or_default();
    let qids = Qids::from_slice(&[Qid::default(); 3]).unwrap_or_default();
    let offset = 1 << 20;
    let requests = [
        Request::Walk {
            fid,
            newfid: Fid(8),
            names,
        },
        Request::Lopen {
            fid,
            flags: OpenFlags::empty(),
        },
        Request::Getattr {
            fid,
            mask: AttrMask::BASIC,
        },
        Request::Read {
            fid,
            offset,
            count: 65536,
        },
        Request::Write { fid, offset, data },
        Request::Clunk { fid },
    ];
    let replies = [
        Reply::Walk { qids },
        Reply::Lopen {
            qid: Qid::default(),
            iounit: 0,
        },
        Reply::Getattr {
            attr: Attr::default(),
        },
        Reply::Read { data },
        Reply::Write { count: 65536 },
        Reply::Clunk,
    ];
    let mut bytes = vec![0; 80 << 10];
    for request in requests {
        let name = message_name(&request);
        bench.measure(&format!("encode T{name}"), 0, || {
            let len =
                black_box(&request).encode_head(Tag(1), Dialect::Linux, black_box(&mut bytes));
            assert!(black_box(len).is_ok());
        });
        let len = request
            .encode(Tag(1), Dialect::Linux, &mut bytes)
            .unwrap_or_default();
        bench.measure(&format!("decode T{name}"), 0, || {
            let decoded = Request::decode(Reader::new(black_box(&bytes[..len]), Dialect::Linux));
            assert!(black_box(decoded).is_ok());
        });
    }
    for reply in replies {
        let name = message_name(&reply);
        bench.measure(&format!("encode R{name}"), 0, || {
            let len = black_box(&reply).encode_head(Tag(1), Dialect::Linux, black_box(&mut bytes));
            assert!(black_box(len).is_ok());
        });
        let len = reply
            .encode(Tag(1), Dialect::Linux, &mut bytes)
            .unwrap_or_default();
        bench.measure(&format!("decode R{name}"), 0, || {
            let decoded = Reply::decode(Reader::new(black_box(&bytes[..len]), Dialect::Linux));
            assert!(black_box(decoded).is_ok());
        });
    }
    let listing = listing(&mut bytes);
    bench.measure("parse a directory of 100 names", 0, || {
        assert_eq!(DirEntries::new(black_box(&bytes[..listing])).count(), 100);
    });
}

/// The name of a message's variant, in small letters.
fn message_name(message: &impl std::fmt::Debug) -> String {
    let text = format!("{message:?}");
    text.chars()
        .take_while(|c| c.is_alphanumeric())
        .collect::<String>()
        .to_lowercase()
}

/// Puts 100 entries into `bytes`; their length.
fn listing(bytes: &mut [u8]) -> usize {
    let mut len = 0;
    for number in 0..100 {
        let name = format!("file-{number:04}.txt");
        let entry = DirEntry {
            qid: Qid::default(),
            offset: number,
            kind: DirEntryKind(8),
            name: name.as_bytes(),
        };
        len += entry.encode(&mut bytes[len..]).unwrap_or_default();
    }
    len
}

/// The ring alone: the other end only moves its indices.
fn ring(bench: &Bench) {
    /// Where the other end's indices are in the interface page (`xen/interface/io/9pfs.h`).
    const IN_PROD: usize = 4;
    const OUT_CONS: usize = 64;

    for (name, size) in [("32 B", 32_u32), ("64 KiB", 64 << 10)] {
        let memory = PlainRing::new(Order::MAX);
        let (mut ring, other) = (memory.frontend(0), memory.backend());
        let mut message = vec![0; size as usize];
        message[..4].copy_from_slice(&size.to_le_bytes());
        // One size, which divides the ring's: the same replies are there all the time.
        for place in (0..other.size()).step_by(size as usize) {
            other.write_replies(place, &message);
        }
        let mut sent = 0_u32;
        bench.measure(&format!("ring: send {name}"), size as usize, || {
            assert_eq!(ring.send(&[black_box(&message)], 0), Ok(true));
            sent = sent.wrapping_add(size);
            other.set(OUT_CONS, sent);
        });
        let mut answered = 0_u32;
        bench.measure(&format!("ring: receive {name}"), size as usize, || {
            answered = answered.wrapping_add(size);
            other.set(IN_PROD, answered);
            assert!(matches!(ring.peek(), Ok(Some(_))));
            ring.copy_out(0, black_box(&mut message));
            ring.consume();
        });
    }
}

fn client(bench: &Bench) {
    let fs = match Fs::mount(Still::new(512 << 10), &MountOptions::new()) {
        Ok(fs) => fs,
        Err(error) => return eprintln!("mounting failed: {error}"),
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fs, "/f")
        .expect("it is there");
    let mut buffer = vec![0; 16 << 20];
    for (name, size) in [
        ("100 B", 100),
        ("4 KiB", 4 << 10),
        ("64 KiB", 64 << 10),
        ("1 MiB", 1 << 20),
        ("16 MiB", 16 << 20),
    ] {
        bench.measure(&format!("read {name}"), size, || {
            file.read_exact_at(&mut buffer[..size], 0).expect("a read")
        });
        bench.measure(&format!("write {name}"), size, || {
            file.write_all_at(&buffer[..size], 0).expect("a write")
        });
    }
    cache(bench, &fs);
    bench.measure("metadata of an open file", 0, || {
        black_box(file.metadata().expect("attributes"));
    });
    bench.measure("metadata of a path of 3 names", 0, || {
        black_box(fs.metadata("/usr/share/doc").expect("attributes"));
    });
    bench.measure("open and close", 0, || {
        fs.open("/f").and_then(|file| file.close()).expect("a file")
    });
}

/// What is kept, again and again.
fn cache(bench: &Bench, fs: &Fs) {
    let cached = fs.cached(16 << 20);
    let file = cached.open("/f").expect("it is there");
    let mut buffer = vec![0; 1 << 20];
    file.read_exact_at(&mut buffer, 0).expect("a read");
    for (name, size) in [("4 KiB", 4 << 10), ("64 KiB", 64 << 10)] {
        bench.measure(&format!("read {name} from the cache"), size, || {
            file.read_exact_at(&mut buffer[..size], 4 << 10)
                .expect("a read")
        });
    }
    bench.measure("metadata of an open file from the cache", 0, || {
        black_box(file.metadata().expect("attributes"));
    });
    bench.measure("metadata of a path from the cache", 0, || {
        black_box(cached.metadata("/usr/share/doc").expect("attributes"));
    });
}
