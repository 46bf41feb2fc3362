//! What is read ahead is in flight while the program works, and is never seen where the session itself changed the file.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions, OpenOptions, SeekFrom};
use xen9p::p9::wire::{READ_HEADER_LEN, kind};
use xen9p_testing::bed::memory::{Bed, bed_with};
use xen9p_testing::count::with_memory;
use xen9p_testing::random::{Random, content};
use xen9p_testing::server::lanes::{Control, LaneOptions, Lanes, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};
use xen9p_testing::server::real::memory;

const MIB: usize = 1 << 20;

/// As rings of order 9, with an answer after a millisecond.
fn rings(size: usize) -> Bed {
    rings_that_answer_within(Duration::from_millis(1), size)
}

/// The same, with an answer after a millisecond at least and this time at most.
fn rings_that_answer_within(most: Duration, size: usize) -> Bed {
    let lanes = LaneOptions {
        lanes: 4,
        capacity: (1 << 20) + 2 * 24,
        latency: (Duration::from_millis(1), most),
        ..LaneOptions::default()
    };
    let server = MemOptions {
        msize: 1 << 20,
        iounit: 512 << 10,
        ..MemOptions::default()
    };
    bed_with(lanes, server, |server| {
        server.put("/f", &content(size));
        server.put("/other", b"other");
    })
}

fn reading_ahead(bed: &Bed, bytes: usize) -> Fs {
    bed.fs
        .attach(&MountOptions::new().read_ahead(bytes))
        .unwrap()
}

/// A lane to a server with what `fill` puts there, for tests that choose how they mount it.
fn one_lane(fill: impl FnOnce(&mut MemServer)) -> (Lanes, Control) {
    one_lane_with(fill, |reply| reply)
}

/// The same, with each reply as `change` makes it.
fn one_lane_with(
    fill: impl FnOnce(&mut MemServer),
    change: impl Fn(Vec<u8>) -> Vec<u8> + 'static,
) -> (Lanes, Control) {
    let mut server = MemServer::new(MemOptions::default());
    fill(&mut server);
    let options = LaneOptions {
        latency: (Duration::from_millis(1), Duration::from_millis(1)),
        ..LaneOptions::default()
    };
    lanes(options, move |request| change(server.handle(request)))
}

#[test]
fn the_next_requests_are_in_flight_while_the_program_works() {
    let bed = rings(32 * MIB);
    let wanted = content(32 * MIB);
    for (call, most_waits) in [(MIB, 14), (4096, 22)] {
        let fs = reading_ahead(&bed, 4 * MIB);
        let file = fs.open("/f").unwrap();
        let session = fs.to_async().session().clone();
        let begun = session.now();
        let (_, requests) = bed.cost(|_| {
            let mut buffer = vec![0; call];
            for piece in wanted.chunks(call) {
                file.read_exact(&mut buffer).unwrap();
                assert!(buffer == piece);
            }
        });
        // One after the other these would be 32 and 64 waits.
        let waits = (session.now() - begun).as_millis();
        assert!(waits <= most_waits, "{waits} waits by calls of {call}");
        assert!((64..=84).contains(&requests), "{requests} requests");
        drop(file);
        fs.unmount().unwrap();
    }
    bed.finish();
}

/// Rings answer in no order among each other: what comes before its turn waits where it is, and is copied once.
#[test]
fn what_comes_early_is_not_copied_twice() {
    let bed = rings_that_answer_within(Duration::from_millis(9), 32 * MIB);
    let wanted = content(32 * MIB);
    let fs = reading_ahead(&bed, 4 * MIB);
    for call in [4096, 100_000, MIB] {
        let file = fs.open("/f").unwrap();
        let mut buffer = vec![0; call];
        for piece in wanted.chunks(call) {
            file.read_exact(&mut buffer[..piece.len()]).unwrap();
            assert!(buffer[..piece.len()] == *piece);
        }
        assert_eq!(fs.stats().spills, 0, "by calls of {call}");
    }
    fs.unmount().unwrap();
    bed.finish();
}

#[test]
fn other_files_have_their_share_of_requests() {
    for window in [1, 2, 4, 64] {
        let (transport, control) = one_lane(|server| {
            server.put("/f", &content(MIB));
            server.put("/other", b"other");
        });
        let options = MountOptions::new().window(window).read_ahead(MIB / 2);
        let fs = Fs::mount(transport, &options).unwrap();
        let file = fs.open("/f").unwrap();
        let mut buffer = [0; 4096];
        for piece in content(MIB / 2).chunks(4096) {
            file.read_exact(&mut buffer).unwrap();
            assert!(buffer == piece);
            assert_eq!(fs.read("/other").unwrap(), b"other", "{window}");
        }
        drop((file, fs));
        assert_eq!(control.reserved(), 0);
    }
}

#[test]
fn fids_are_given_back_where_there_is_one_tag() {
    let (transport, _) = one_lane(|server| server.put("/f", b"content"));
    let fs = Fs::mount(transport, &MountOptions::new().window(1)).unwrap();
    for _ in 0..100 {
        assert_eq!(fs.metadata("/f").unwrap().len(), 7);
        let in_use = fs.to_async().session().fids_in_use();
        assert!(in_use <= 4, "{in_use}");
    }
    fs.unmount().unwrap();
}

/// A file that is read and changed by one session at random: what is read is always what was written last.
#[test]
fn what_the_session_changes_is_seen_at_once() {
    for seed in 0..20 {
        let lanes = LaneOptions {
            lanes: 3,
            capacity: 64 << 10,
            latency: (Duration::from_micros(1), Duration::from_millis(50)),
            in_order: seed % 4 < 2,
            seed,
            ..LaneOptions::default()
        };
        let server = MemOptions {
            iounit: 8 << 10,
            // Some give less than they are asked for.
            io_limit: [u32::MAX, 5_000][seed as usize % 2],
            ..MemOptions::default()
        };
        let mut model = content(300_000);
        let bed = bed_with(lanes, server, |server| server.put("/f", &content(300_000)));
        let fs = reading_ahead(&bed, 64 << 10);
        let file = fs.open("/f").unwrap();
        let writer = OpenOptions::new().write(true).open(&bed.fs, "/f").unwrap();
        let mut random = Random::new(seed);
        let mut position = 0;
        for step in 0..600 {
            match random.below(40) {
                0 => {
                    position = random.below(model.len() + 10_000);
                    file.seek(SeekFrom::Start(position as u64)).unwrap();
                }
                1 => {
                    let at = random.below(model.len() + 1);
                    let bytes = content(random.below(20_000) + 1);
                    writer.write_all_at(&bytes, at as u64).unwrap();
                    model.resize(model.len().max(at + bytes.len()), 0);
                    model[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                2 => {
                    let len = random.below(300_000);
                    writer.set_len(len as u64).unwrap();
                    model.resize(len, 0);
                }
                kind => {
                    let len = if kind % 2 == 0 { 1_000 } else { 20_000 };
                    let mut buffer = vec![0; len];
                    let count = file.read(&mut buffer).unwrap();
                    let left = model.get(position..).unwrap_or(&[]);
                    assert!(
                        count <= left.len() && buffer[..count] == left[..count],
                        "{seed} {step}"
                    );
                    assert!(count > 0 || left.is_empty(), "{seed} {step}");
                    position += count;
                }
            }
        }
        drop((file, writer));
        fs.unmount().unwrap();
        bed.finish();
    }
}

/// What others change shows when the bytes that were ahead are used up.
#[test]
fn what_others_change_is_missed_within_the_bytes_ahead_at_most() {
    for most in [0, 64 << 10, 256 << 10] {
        let changed = Rc::new(Cell::new(false));
        let is_changed = changed.clone();
        let fill = |server: &mut MemServer| server.put("/f", &vec![1; 2 * MIB]);
        let (transport, _) = one_lane_with(fill, move |mut reply| {
            if is_changed.get() && reply[4] == kind::TREAD + 1 {
                reply[READ_HEADER_LEN..].fill(2);
            }
            reply
        });
        let fs = Fs::mount(transport, &MountOptions::new().read_ahead(most)).unwrap();
        let file = fs.open("/f").unwrap();
        let mut buffer = [0; 4096];
        for _ in 0..256 {
            file.read_exact(&mut buffer).unwrap();
            assert!(buffer == [1; 4096]);
        }
        changed.set(true);
        let mut old = 0;
        for _ in 0..256 {
            file.read_exact(&mut buffer).unwrap();
            old += buffer.iter().filter(|&&byte| byte == 1).count();
        }
        assert!(old <= most, "{old} bytes of {most}");
        assert!(buffer == [2; 4096]);
    }
}

/// Where there is no memory to read ahead in, the file and others are read all the same.
#[test]
fn without_memory_files_are_read_all_the_same() {
    let transport = memory(MemOptions::default(), |server| {
        server.put("/f", &content(MIB));
        server.put("/other", b"other");
    });
    let options = MountOptions::new().msize(1 << 17).read_ahead(MIB / 2);
    let fs = Fs::mount(transport.unwrap(), &options).unwrap();
    let (file, other) = (fs.open("/f").unwrap(), fs.open("/other").unwrap());
    let wanted = content(MIB);
    let mut buffer = [0; 4096];
    let mut read = |pieces: &[u8]| {
        for piece in pieces.chunks(4096) {
            file.read_exact(&mut buffer).unwrap();
            assert!(buffer == piece);
            let mut bytes = [0; 8];
            assert_eq!(other.read_at(&mut bytes, 0).unwrap(), 5);
        }
    };
    read(&wanted[..64 << 10]);
    with_memory(8 << 10, || read(&wanted[64 << 10..512 << 10]));
    read(&wanted[512 << 10..]);
}

/// What no task waits for has its time, too: an answer that lies there is not late because the program did something else.
#[test]
fn a_clunk_that_was_answered_while_the_program_was_busy_ends_nothing() {
    let (transport, control) = one_lane(|server| server.put("/f", b"content"));
    let fs = Fs::mount(transport, &MountOptions::new().window(1)).unwrap();
    let session = fs.to_async().session().clone();
    for _ in 0..3 {
        drop(fs.open("/f").unwrap());
        // Sends it, and looks at the clock.
        session.wait(session.now());
        control.advance(Duration::from_secs(100));
        assert_eq!(fs.metadata("/f").unwrap().len(), 7);
    }
}

/// A loop that polls and waits comes to rest, whatever was read ahead lies in its way; also over a stream.
#[test]
fn who_waits_comes_to_rest_with_what_was_read_ahead_unread() {
    let bed = rings(4 * MIB);
    let stream = memory(MemOptions::default(), |server| {
        server.put("/f", &content(MIB))
    })
    .unwrap();
    for fs in [
        reading_ahead(&bed, MIB),
        Fs::mount(stream, &MountOptions::new()).unwrap(),
    ] {
        let file = fs.open("/f").unwrap();
        let mut buffer = [0; 4096];
        for _ in 0..4 {
            file.read_exact(&mut buffer).unwrap();
        }
        let session = fs.to_async().session().clone();
        let until = session.now() + Duration::from_millis(100);
        let calls = (0..1000)
            .take_while(|_| session.now() < until)
            .inspect(|_| session.wait(until))
            .count();
        assert!(calls < 100, "{calls}");
    }
}

#[test]
fn what_is_read_ahead_may_be_without_limit() {
    let bed = rings(4 * MIB);
    let fs = reading_ahead(&bed, usize::MAX);
    let file = fs.open("/f").unwrap();
    let mut buffer = [0; 4096];
    for part in content(4 * MIB).chunks(buffer.len()) {
        file.read_exact(&mut buffer).unwrap();
        assert_eq!(buffer, part);
    }
}
