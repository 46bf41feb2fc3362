//! What is written behind is kept back, sent in order and in time, and its errors are told to the program that wrote
//! it.

mod errors;
mod random;

use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Error, File, LockRange, OpenOptions, Permissions, SeekFrom};
use xen9p::p9::Dialect;
use xen9p::p9::wire::{Reply, Tag, kind, parse_header};
use xen9p_testing::bed::memory::{Bed, bed_with};
use xen9p_testing::random::content;
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
