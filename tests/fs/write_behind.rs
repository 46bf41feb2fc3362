//! What is written behind is kept back, sent in order and in time, and its errors are told to the program that wrote
//! it.

use std::cell::RefCell;
use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Error, File, LockRange, OpenOptions, Permissions, SeekFrom};
use xen9p::p9::Dialect;
use xen9p::p9::wire::{Reply, Tag, kind, parse_header};
use xen9p_testing::bed::memory::{Bed, bed_with};
use xen9p_testing::random::{Random, content};
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

/// Most bytes of data in a message, with the msize of these tests.
const CHUNK: usize = 8192 - 24;

const LIMIT: usize = 64 << 10;

const ENOSPC: Error = Error::Errno(Errno::ENOSPC);

fn small_messages() -> MemOptions {
    MemOptions {
        msize: 8192,
        ..MemOptions::default()
    }
}

fn bed() -> Bed {
    bed_with(LaneOptions::default(), small_messages(), |server| {
        server.put("/old", b"old content");
    })
}

fn options() -> OpenOptions {
    *OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .write_behind(LIMIT)
}

trait Behind {
    fn file(&self, path: &str) -> File;
    fn content(&self, path: &str) -> Vec<u8>;
    fn writes(&self) -> usize;
    /// From now on writes are refused.
    fn refuse_writes(&self);
}

impl Behind for Bed {
    fn file(&self, path: &str) -> File {
        options().open(&self.fs, path).unwrap()
    }

    fn content(&self, path: &str) -> Vec<u8> {
        self.server.borrow().get(path).unwrap()
    }

    fn writes(&self) -> usize {
        self.control.count(kind::TWRITE)
    }

    fn refuse_writes(&self) {
        self.control.tamper(|request, reply| {
            let header = parse_header(request.first_chunk().unwrap());
            vec![match header.kind {
                kind::TWRITE => no_space(header.tag),
                _ => reply,
            }]
        });
    }
}

fn no_space(tag: u16) -> Vec<u8> {
    let ecode = Errno::ENOSPC.number().into();
    let mut bytes = vec![0; 11];
    let encoded = Reply::Lerror { ecode }.encode(Tag(tag), Dialect::Linux, &mut bytes);
    assert_eq!(encoded, Ok(11));
    bytes
}

#[test]
fn small_writes_become_large_requests() {
    let bed = bed();
    let file = bed.file("/new");
    let all = content(100_000);
    for piece in all.chunks(100) {
        file.write_all(piece).unwrap();
    }
    assert_eq!(file.stream_position(), Ok(100_000));
    assert_eq!(bed.writes(), 100_000 / CHUNK);
    file.close().unwrap();
    assert_eq!(bed.writes(), 100_000_usize.div_ceil(CHUNK));
    assert_eq!(bed.content("/new"), all);
    assert_eq!(bed.fs.stats().bytes_written, 100_000);
    bed.finish();
}

#[test]
fn nobody_waits_until_the_limit_is_reached() {
    let latency = Duration::from_millis(10);
    let lanes = LaneOptions {
        lanes: 3,
        latency: (latency, latency),
        ..LaneOptions::default()
    };
    let bed = bed_with(lanes, small_messages(), |_| {});
    let file = bed.file("/new");
    let session = bed.fs.to_async().session().clone();
    let (start, waits) = (session.now(), bed.fs.stats().waits);
    let all = content(LIMIT + CHUNK);
    let (at_once, rest) = all.split_at(LIMIT / CHUNK * CHUNK);
    for piece in at_once.chunks(500) {
        file.write_all(piece).unwrap();
    }
    assert_eq!(session.now(), start);
    assert_eq!(bed.fs.stats().waits, waits);
    file.write_all(rest).unwrap();
    assert_eq!(session.now() - start, latency);
    file.close().unwrap();
    assert_eq!(bed.content("/new"), all);
    drop(session);
    bed.finish();
}

#[test]
fn large_writes_are_not_kept() {
    let bed = bed();
    let file = bed.file("/new");
    let all = content(2 * LIMIT);
    file.write_all(&all[..10]).unwrap();
    assert_eq!(file.write(&all[10..10 + LIMIT]), Ok(LIMIT));
    assert_eq!(bed.content("/new"), all[..10 + LIMIT]);
    drop(file);
    bed.finish();
}

#[test]
fn whatever_is_done_with_the_file_finds_it_written() {
    type Use = fn(&File);
    let uses: [(&str, Use); 13] = [
        ("read", |file| assert_eq!(file.read(&mut [0; 9]), Ok(6))),
        ("read_at", |file| {
            let mut found = [0; 11];
            file.read_exact_at(&mut found, 0).unwrap();
            assert_eq!(&found, b"new content");
        }),
        ("read_to_end", |file| {
            let mut rest = Vec::new();
            assert_eq!(file.read_to_end(&mut rest), Ok(6));
        }),
        ("write_at", |file| {
            assert_eq!(file.write_at(b"t", 10), Ok(1))
        }),
        ("seek", |file| {
            assert_eq!(file.seek(SeekFrom::End(0)), Ok(13))
        }),
        ("metadata", |file| {
            assert_eq!(file.metadata().unwrap().len(), 13)
        }),
        ("set_len", |file| file.set_len(13).unwrap()),
        ("set_permissions", |file| {
            file.set_permissions(Permissions::from_mode(0o600)).unwrap();
        }),
        ("flush", |file| file.flush().unwrap()),
        ("sync_all", |file| file.sync_all().unwrap()),
        ("sync_data", |file| file.sync_data().unwrap()),
        ("lock", |file| {
            drop(file.lock(LockRange::ALL, true).unwrap())
        }),
        ("elsewhere", |file| {
            file.rewind().unwrap();
            file.write_all(b"new").unwrap();
        }),
    ];
    for (name, act) in uses {
        let bed = bed();
        let file = bed.file("/old");
        if name == "seek" || name == "metadata" || name == "set_len" {
            file.seek(SeekFrom::Start(10)).unwrap();
            file.write_all(b"t..").unwrap();
            assert_eq!(bed.content("/old"), b"old content", "{name}");
            act(&file);
            assert_eq!(bed.content("/old"), b"old content..", "{name}");
        } else {
            file.write_all(b"ne").unwrap();
            file.write_all(b"w c").unwrap();
            assert_eq!(bed.content("/old"), b"old content", "{name}");
            act(&file);
            assert_eq!(bed.content("/old"), b"new content", "{name}");
        }
        file.close().unwrap();
        bed.finish();
    }
}

#[test]
fn an_unlock_comes_after_what_was_written_under_the_lock() {
    let bed = bed();
    let file = bed.file("/old");
    let lock = file.lock(LockRange::ALL, true).unwrap();
    file.write_all(b"new").unwrap();
    drop(lock);
    assert_eq!(bed.content("/old"), b"new content");
    let kinds: Vec<u8> = bed.control.served().iter().map(|&(kind, _)| kind).collect();
    assert_eq!(kinds[kinds.len() - 2..], [kind::TWRITE, kind::TLOCK]);
    file.close().unwrap();
    bed.finish();
}

#[test]
fn an_error_is_told_once_by_whoever_asks_for_it() {
    type Ask = fn(&File) -> Result<(), Error>;
    let asks: [Ask; 5] = [
        File::flush,
        File::sync_all,
        File::sync_data,
        |file| file.write(&[1; CHUNK]).map(drop),
        |file| file.write_at(b"!", 0).map(drop),
    ];
    for ask in asks {
        let bed = bed();
        let file = bed.file("/old");
        bed.refuse_writes();
        // One piece is sent, and refused without anybody's noticing.
        file.write_all(&[1; CHUNK]).unwrap();
        assert_eq!(bed.writes(), 1);
        assert_eq!(ask(&file), Err(ENOSPC));
        bed.control.behave();
        // The rest of it was given up.
        assert_eq!(file.flush(), Ok(()));
        file.rewind().unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(file.close(), Ok(()));
        // The server had written the refused bytes all the same.
        assert_eq!(bed.content("/old")[..3], *b"new");
        bed.finish();
    }
}

#[test]
fn close_tells_and_closes() {
    for sent in [false, true] {
        let bed = bed();
        let file = bed.file("/old");
        bed.refuse_writes();
        file.write_all(&vec![1; if sent { CHUNK } else { 1 }])
            .unwrap();
        assert_eq!(file.close(), Err(ENOSPC));
        bed.control.behave();
        bed.finish();
    }
}

#[test]
fn what_cannot_tell_fails_until_it_is_told() {
    let bed = bed();
    let file = bed.file("/old");
    bed.refuse_writes();
    file.write_all(b"new").unwrap();
    for _ in 0..2 {
        assert_eq!(file.read(&mut [0; 3]), Err(ENOSPC));
        assert_eq!(file.metadata().map(drop), Err(ENOSPC));
        assert_eq!(file.set_len(3), Err(ENOSPC));
    }
    assert_eq!(file.sync_data(), Err(ENOSPC));
    assert_eq!(file.metadata().map(drop), Ok(()));
    assert_eq!(file.close(), Ok(()));
    bed.finish();
}

#[test]
fn what_is_written_after_an_error_is_not_overtaken() {
    // The second of three requests is refused, and the third takes its time.
    let lanes = LaneOptions {
        lanes: 3,
        latency: (Duration::from_millis(1), Duration::from_millis(90)),
        in_order: false,
        ..LaneOptions::default()
    };
    for seed in 0..30 {
        let lanes = LaneOptions {
            seed,
            ..lanes.clone()
        };
        let bed = bed_with(lanes, small_messages(), |_| {});
        let file = bed.file("/new");
        let mut writes = 0;
        bed.control.tamper(move |request, reply| {
            let header = parse_header(request.first_chunk().unwrap());
            writes += u32::from(header.kind == kind::TWRITE);
            vec![match (header.kind, writes) {
                (kind::TWRITE, 1) => no_space(header.tag),
                _ => reply,
            }]
        });
        file.write_all(&[1; 3 * CHUNK]).unwrap();
        assert_eq!(file.flush(), Err(ENOSPC));
        file.rewind().unwrap();
        file.write_all(&[2; 3 * CHUNK]).unwrap();
        file.close().unwrap();
        assert!(bed.content("/new") == [2; 3 * CHUNK], "seed {seed}");
        bed.finish();
    }
}

#[test]
fn a_server_may_take_less() {
    let bed = bed_with(
        LaneOptions::default(),
        MemOptions {
            io_limit: 999,
            ..small_messages()
        },
        |_| {},
    );
    let file = bed.file("/new");
    let all = content(5 * CHUNK + 77);
    for piece in all.chunks(333) {
        file.write_all(piece).unwrap();
    }
    file.close().unwrap();
    assert_eq!(bed.content("/new"), all);
    bed.finish();
}

#[test]
fn a_server_that_takes_nothing_or_more_is_an_error() {
    for (count, error) in [
        (0, Error::WriteZero),
        (4, Error::Protocol(&"more written than was sent")),
    ] {
        let bed = bed();
        let file = bed.file("/old");
        bed.control.tamper(move |request, mut reply| {
            if parse_header(request.first_chunk().unwrap()).kind == kind::TWRITE {
                reply[7] = count;
            }
            vec![reply]
        });
        file.write_all(b"new").unwrap();
        assert_eq!(file.close(), Err(error));
    }
}

#[test]
fn silence_is_a_timeout() {
    let bed = bed();
    let file = bed.file("/old");
    bed.control.hold(&[kind::TWRITE]);
    file.write_all(&[1; CHUNK]).unwrap();
    assert_eq!(file.flush(), Err(Error::TimedOut));
    bed.control.release();
    assert_eq!(file.flush(), Ok(()));
    file.close().unwrap();
    bed.finish();
}

/// A server that wants its bytes one by one, and keeps the answer to the first of them to itself.
#[test]
fn pieces_are_bounded_however_small_the_server_wants_them() {
    let tiny = MemOptions {
        iounit: 1,
        ..small_messages()
    };
    let bed = bed_with(LaneOptions::default(), tiny, |_| {});
    let file = bed.file("/new");
    let mut first = true;
    bed.control.tamper(move |request, reply| {
        let is_write = parse_header(request.first_chunk().unwrap()).kind == kind::TWRITE;
        match is_write && std::mem::take(&mut first) {
            true => vec![],
            false => vec![reply],
        }
    });
    let written = file.write_all(&[1; LIMIT / 2]);
    assert_eq!(written, Err(Error::TimedOut));
    assert!(bed.control.count(kind::TWRITE) < 1000);
}

#[test]
fn an_interrupt_loses_nothing() {
    let bed = bed();
    let file = bed.file("/old");
    file.write_all(b"new").unwrap();
    bed.fs.interrupt().set();
    assert_eq!(file.flush(), Err(Error::Interrupted));
    assert_eq!(file.metadata().map(drop), Err(Error::Interrupted));
    bed.fs.interrupt().clear();
    assert_eq!(file.flush(), Ok(()));
    assert_eq!(bed.content("/old"), b"new content");
    file.close().unwrap();
    bed.finish();
}

#[test]
fn appending_and_synchronous_writes_are_not_kept() {
    let sync = |flags| *options().custom_flags(flags);
    let mut append = OpenOptions::new();
    append.append(true).write_behind(LIMIT);
    for options in [append, sync(0o10_000), sync(0o4_010_000), sync(0o40_000)] {
        let bed = bed();
        let file = options.open(&bed.fs, "/old").unwrap();
        for count in 1..=3 {
            file.write_all(b"abc").unwrap();
            assert_eq!(bed.writes(), count);
        }
        file.close().unwrap();
        bed.finish();
    }
}

#[test]
fn idle_files_keep_no_tags() {
    let bed = bed();
    // Each has more answered requests that were not asked about than its share of the window.
    let files: Vec<File> = (0..30)
        .map(|number| {
            let file = bed.file(&format!("/{number}"));
            file.write_all(&[1; 7 * CHUNK + 1]).unwrap();
            file
        })
        .collect();
    assert_eq!(bed.writes(), 30 * 7);
    assert_eq!(bed.fs.read("/old").unwrap(), b"old content");
    for file in files {
        file.close().unwrap();
    }
    assert_eq!(bed.content("/29"), [1; 7 * CHUNK + 1]);
    bed.finish();
}

thread_local! {
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            LOGGED.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

#[test]
fn dropping_what_is_not_written_is_logged() {
    // Only this test sets one, and each test has a thread of its own.
    log::set_logger(&Logger).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let logged = || LOGGED.with_borrow_mut(std::mem::take);

    let bed = bed();
    let file = bed.file("/old");
    file.write_all(b"new").unwrap();
    file.flush().unwrap();
    drop(file);
    // Sent, and even answered.
    let file = bed.file("/old");
    file.write_all(&[1; CHUNK]).unwrap();
    bed.fs.metadata("/").unwrap();
    drop(file);
    assert_eq!(logged(), [""; 0]);

    let file = bed.file("/old");
    file.write_all(b"new").unwrap();
    drop(file);
    let lines = logged();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("3 bytes"), "{}", lines[0]);

    let file = bed.file("/old");
    bed.refuse_writes();
    file.write_all(b"new").unwrap();
    assert_eq!(file.metadata().map(drop), Err(ENOSPC));
    drop(file);
    let lines = logged();
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].contains("ENOSPC") || lines[0].contains("space"),
        "{}",
        lines[0]
    );
    bed.control.behave();
    bed.finish();
}

/// Random use of a file, with a model; with `refusals`, the server refuses some of the writes.
fn random_use(seed: u64, refusals: bool) {
    let lanes = LaneOptions {
        lanes: 1 + (seed % 4) as u16,
        capacity: 24 << 10,
        latency: (Duration::ZERO, Duration::from_millis(seed % 5)),
        in_order: seed.is_multiple_of(2),
        seed,
        ..LaneOptions::default()
    };
    let server = MemOptions {
        io_limit: if seed.is_multiple_of(3) {
            700
        } else {
            u32::MAX
        },
        ..small_messages()
    };
    let bed = bed_with(lanes, server, |_| {});
    if refusals {
        let mut random = Random::new(!seed);
        bed.control.tamper(move |request, reply| {
            let header = parse_header(request.first_chunk().unwrap());
            let refused = header.kind == kind::TWRITE && random.below(8) == 0;
            vec![if refused { no_space(header.tag) } else { reply }]
        });
    }
    let mut random = Random::new(seed);
    let limit = [2, 100, 5000, 20_000, 100_000][random.below(5)];
    let mut options = options();
    let file = options.write_behind(limit).open(&bed.fs, "/f").unwrap();
    let (mut model, mut at) = (Vec::<u8>::new(), 0);
    let mut told = 0;
    for step in 0..600 {
        let what = format!("seed {seed}, step {step}");
        let result = match random.below(12) {
            0..=5 => {
                let len = match random.below(4) {
                    0 => random.below(3),
                    1 | 2 => random.below(400),
                    _ => random.below(30_000),
                };
                let data: Vec<u8> = random.bytes(len);
                let result = file.write_all(&data);
                if result.is_ok() && len > 0 {
                    model.resize(model.len().max(at + len), 0);
                    model[at..at + len].copy_from_slice(&data);
                    at += len;
                }
                result
            }
            6 => {
                at = random.below(model.len() + 100);
                file.seek(SeekFrom::Start(at as u64)).map(drop)
            }
            7 => {
                let mut found = vec![0; random.below(3000)];
                let from = random.below(model.len() + 10);
                file.read_at(&mut found, from as u64).map(|count| {
                    let wanted = model.get(from..).unwrap_or(&[]);
                    assert!(found[..count] == wanted[..count], "{what}");
                })
            }
            8 => file.metadata().map(|metadata| {
                assert_eq!(metadata.len(), model.len() as u64, "{what}");
            }),
            9 => {
                let size = random.below(model.len() + 1000);
                file.set_len(size as u64).map(|()| model.resize(size, 0))
            }
            10 => file.seek(SeekFrom::End(0)).map(|end| {
                assert_eq!(end, model.len() as u64, "{what}");
                at = model.len();
            }),
            _ => file.flush().map(|()| {
                assert!(bed.content("/f") == model, "{what}");
            }),
        };
        if let Err(error) = result {
            assert!(refusals && error == ENOSPC, "{what}: {error}");
            // Told, if that wasn't it. Whatever is there now is what counts.
            let _ = file.flush();
            told += 1;
            model = bed.content("/f");
            at = model.len();
            file.seek(SeekFrom::Start(at as u64)).expect(&what);
        }
    }
    assert_eq!(refusals, told > 0, "seed {seed}");
    if file.close().is_ok() {
        assert!(bed.content("/f") == model, "seed {seed}, at the end");
    }
    bed.control.behave();
    bed.finish();
}

#[test]
fn random_use_agrees_with_a_model() {
    (1..=40).for_each(|seed| random_use(seed, false));
}

#[test]
fn no_refused_write_goes_unnoticed() {
    (1..=40).for_each(|seed| random_use(seed, true));
}
