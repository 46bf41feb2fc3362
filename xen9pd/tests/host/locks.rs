//! Locks hold against everyone who looks, and for no longer than the files through which they were taken.

use p9_tree::{Lock, Node, OpenFile};
use p9_wire::{Errno, LockFlags, LockKind, LockStatus, OpenFlags};

use super::*;

fn lock(kind: LockKind, start: u64, length: u64, owner: u32) -> Lock<'static> {
    Lock {
        kind,
        start,
        length,
        owner,
        client: b"guest",
    }
}

fn take(file: &impl OpenFile, lock: Lock<'_>) -> LockStatus {
    now(file.lock(&lock, LockFlags::empty())).unwrap()
}

const READ: LockKind = LockKind::READ;
const WRITE: LockKind = LockKind::WRITE;
const UNLOCK: LockKind = LockKind::UNLOCK;
const SUCCESS: LockStatus = LockStatus::SUCCESS;
const BLOCKED: LockStatus = LockStatus::BLOCKED;

#[test]
fn two_processes_and_two_connections_exclude_each_other() {
    let share = default_share();
    share.make("file", b"0123456789");
    let open = |root: &HostNode| {
        let node = now(root.walk(b"file")).unwrap();
        now(node.open(OpenFlags::READ_WRITE)).unwrap()
    };
    // Another Tattach is another peer, which can have a process of the same number on a machine of the same name.
    let other_root = HostTree::open(&share.inside, Options::default())
        .unwrap()
        .root(None)
        .unwrap();
    let (ours, again, theirs) = (open(&share.root), open(&share.root), open(&other_root));
    assert_eq!(take(&ours, lock(WRITE, 2, 3, 7)), SUCCESS);
    for (other, owner) in [(&again, 8), (&theirs, 7)] {
        assert_eq!(take(other, lock(WRITE, 4, 1, owner)), BLOCKED);
        assert_eq!(take(other, lock(READ, 0, 0, owner)), BLOCKED);
        assert_eq!(take(other, lock(WRITE, 5, 0, owner)), SUCCESS);
        assert_eq!(take(other, lock(UNLOCK, 0, 0, owner)), SUCCESS);
        let held = now(other.getlock(&lock(READ, 0, 0, owner)))
            .unwrap()
            .unwrap();
        assert_eq!((held.kind, held.start, held.length), (WRITE, 2, 3));
        assert_eq!(now(other.getlock(&lock(READ, 5, 9, owner))).unwrap(), None);
    }
    // The same process through another of its open files is not in its own way.
    assert_eq!(take(&again, lock(WRITE, 0, 0, 7)), SUCCESS);
    assert_eq!(now(again.getlock(&lock(WRITE, 0, 0, 7))).unwrap(), None);
    assert_eq!(take(&theirs, lock(READ, 100, 1, 7)), BLOCKED);
    // Closing gives back what was taken through it, when the last such file is closed.
    drop(ours);
    assert_eq!(take(&theirs, lock(READ, 100, 1, 7)), BLOCKED);
    drop(again);
    assert_eq!(take(&theirs, lock(WRITE, 0, 0, 7)), SUCCESS);
}

#[test]
fn shared_locks_are_shared_and_upgrades_wait_their_turn() {
    let share = default_share();
    let node = share.make("file", b"");
    let file = now(node.open(OpenFlags::READ_WRITE)).unwrap();
    assert_eq!(take(&file, lock(READ, 0, 10, 1)), SUCCESS);
    assert_eq!(take(&file, lock(READ, 5, 10, 2)), SUCCESS);
    assert_eq!(take(&file, lock(WRITE, 0, 10, 1)), BLOCKED);
    assert_eq!(take(&file, lock(WRITE, 0, 5, 1)), SUCCESS);
    assert_eq!(take(&file, lock(UNLOCK, 5, 10, 2)), SUCCESS);
    assert_eq!(take(&file, lock(WRITE, 0, 10, 1)), SUCCESS);
    assert_eq!(take(&file, lock(UNLOCK, 3, 4, 1)), SUCCESS);
    assert_eq!(take(&file, lock(WRITE, 3, 4, 2)), SUCCESS);
    assert_eq!(take(&file, lock(READ, 2, 2, 2)), BLOCKED);
}

/// Programs of this machine that lock see the peer's locks, and it sees theirs.
#[test]
fn locks_hold_against_programs_of_this_machine() {
    let share = default_share();
    let node = share.make("file", b"");
    let file = now(node.open(OpenFlags::READ_WRITE)).unwrap();
    assert_eq!(take(&file, lock(WRITE, 0, 0, 1)), SUCCESS);
    let host = std::fs::File::options()
        .write(true)
        .open(share.path("file"))
        .unwrap();
    let own = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    let refused = rustix::fs::fcntl_lock(&host, own).unwrap_err();
    assert!([rustix::io::Errno::AGAIN, rustix::io::Errno::ACCESS].contains(&refused));
    assert_eq!(take(&file, lock(UNLOCK, 0, 0, 1)), SUCCESS);
    rustix::fs::fcntl_lock(&host, own).unwrap();
    assert_eq!(take(&file, lock(READ, 0, 1, 1)), BLOCKED);
    let held = now(file.getlock(&lock(READ, 0, 1, 1))).unwrap().unwrap();
    assert_eq!(held.owner, std::process::id());
}

#[test]
fn locks_ask_for_what_the_file_is_open_for() {
    let share = default_share();
    let node = share.make("file", b"");
    let reader = now(node.open(OpenFlags::empty())).unwrap();
    let writer = now(node.open(OpenFlags::WRITE_ONLY)).unwrap();
    let refused = |result| assert_eq!(errno(result), Errno::EBADF);
    refused(now(reader.lock(&lock(WRITE, 0, 0, 1), LockFlags::empty())));
    refused(now(writer.lock(&lock(READ, 0, 0, 1), LockFlags::empty())));
    assert_eq!(take(&reader, lock(READ, 0, 0, 1)), SUCCESS);
    assert_eq!(take(&reader, lock(UNLOCK, 0, 0, 1)), SUCCESS);
    assert_eq!(take(&writer, lock(WRITE, 0, 0, 1)), SUCCESS);
    let dir = now(share.root.open(OpenFlags::DIRECTORY)).unwrap();
    refused(now(dir.lock(&lock(READ, 0, 0, 1), LockFlags::empty())));
}

#[test]
fn ranges_that_are_none_are_refused() {
    let share = default_share();
    let node = share.make("file", b"");
    let file = now(node.open(OpenFlags::READ_WRITE)).unwrap();
    for (start, length) in [
        (u64::MAX, 0),
        (0, u64::MAX),
        (1 << 62, 1 << 62),
        (1 << 63, 1),
    ] {
        let refused = now(file.lock(&lock(WRITE, start, length, 1), LockFlags::empty()));
        assert_eq!(errno(refused), Errno::EOVERFLOW, "{start} {length}");
    }
    let strange = now(file.lock(&lock(LockKind(9), 0, 0, 1), LockFlags::empty()));
    assert_eq!(errno(strange), Errno::EINVAL);
    let strange = now(file.getlock(&lock(UNLOCK, 0, 0, 1)));
    assert_eq!(errno(strange), Errno::EINVAL);
}

/// Each process that ever locked something is forgotten when its files are closed.
#[test]
fn many_owners_come_and_go() {
    let share = default_share();
    let node = share.make("file", b"");
    let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    for owner in 0..5000 {
        let file = now(node.open(OpenFlags::READ_WRITE)).unwrap();
        assert_eq!(take(&file, lock(WRITE, 0, 0, owner)), SUCCESS);
    }
    let after = std::fs::read_dir("/proc/self/fd").unwrap().count();
    // Other tests of this process open and close files meanwhile.
    assert!(after < before + 1000, "{before} descriptors, then {after}");
}
