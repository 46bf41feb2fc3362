//! Locks exclude one another, are released whatever happens, and are not waited for without end.

use std::time::Duration;

use xen9p::fs::{Error, LockRange, OpenOptions};
use xen9p::p9::wire::{LockStatus, kind, parse_header};
use xen9p_testing::bed::memory::{bed, bed_with};
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

#[test]
fn locks_exclude_and_are_released() {
    let bed = bed();
    bed.fs.write("/f", b"x").unwrap();
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&bed.fs, "/f")
            .unwrap()
    };
    let (one, two) = (open(), open());
    let lock = one.try_lock(LockRange::ALL, true).unwrap().unwrap();
    let second = two.try_lock(LockRange::ALL, false).unwrap();
    // One owner's locks do not exclude each other, unless the server goes by fid.
    drop(second);
    drop(lock);
    drop(two.lock(LockRange::ALL, true).unwrap());
    drop((one, two));
    bed.finish();
}

#[test]
fn a_lock_is_released_though_all_else_is_interrupted() {
    let bed = bed();
    bed.fs.write("/f", b"x").unwrap();
    let file = bed.fs.open("/f").unwrap();
    let lock = file.lock(LockRange::ALL, false).unwrap();
    bed.fs.interrupt().set();
    assert_eq!(file.read(&mut [0; 1]), Err(Error::Interrupted));
    assert_eq!(bed.control.count(kind::TLOCK), 1);
    drop(lock);
    assert_eq!(bed.control.count(kind::TLOCK), 2);
    bed.fs.interrupt().clear();
    drop(file);
    bed.finish();
}

#[test]
fn waiting_for_a_lock_ends_however_slow_the_server_refuses_it() {
    let slow = Duration::from_secs(20);
    let lanes = LaneOptions {
        latency: (slow, slow),
        ..LaneOptions::default()
    };
    let bed = bed_with(lanes, MemOptions::default(), |server| server.put("/f", b""));
    let file = bed.fs.open("/f").unwrap();
    bed.control.tamper(|request, mut reply| {
        if parse_header(request.first_chunk().unwrap()).kind == kind::TLOCK {
            reply[7] = LockStatus::BLOCKED.0;
        }
        vec![reply]
    });
    let begun = bed.control.now();
    let locked = file.lock(LockRange::ALL, true).map(drop);
    assert_eq!(locked, Err(Error::TimedOut));
    // The last answer may still come after it.
    let timeout = bed.fs.to_async().session().timeout();
    assert!(bed.control.now() - begun <= timeout + slow);
}
