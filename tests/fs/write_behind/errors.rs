//! What goes wrong with bytes that were kept back is told once, to the program that wrote them; and nothing that was
//! written later is lost by it.

use std::cell::RefCell;
use std::time::Duration;

use xen9p::fs::{Error, File};
use xen9p::p9::wire::{kind, parse_header};
use xen9p_testing::bed::memory::bed_with;
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

use super::{Behind, CHUNK, ENOSPC, LIMIT, bed, no_space, small_messages};

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

/// A program may do something else for longer than a request may take: what was answered in time is no failure.
#[test]
fn a_reply_that_no_call_took_in_for_long_is_in_time() {
    let lanes = LaneOptions {
        latency: (Duration::from_millis(1), Duration::from_millis(1)),
        ..LaneOptions::default()
    };
    let bed = bed_with(lanes, small_messages(), |_| {});
    let file = bed.file("/new");
    for byte in 1..=2 {
        file.write_all(&[byte; CHUNK]).unwrap();
        bed.control.advance(Duration::from_secs(31));
    }
    assert_eq!(file.close(), Ok(()));
    assert_eq!(bed.content("/new"), [[1; CHUNK], [2; CHUNK]].concat());
    bed.finish();
}
