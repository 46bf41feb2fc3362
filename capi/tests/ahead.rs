//! What is read ahead: never seen where the mount has changed a file since, nor where a kernel wants none of it.

mod kernel;

use std::ptr::{null, null_mut};

use kernel::{World, last_error, turn};
use xen9p_capi::*;
use xen9p_testing::random::{Random, content};

/// The call is not started, but made.
const NULL: *mut xen9p_handle = null_mut();

const PIECE: usize = 4096;

/// A mount that reads so many bytes ahead; 0: as many as it likes.
fn mount(world: &World, memory: usize, read_ahead: u32) -> xen9p_handle {
    let callbacks = xen9p_platform {
        memory,
        ..world.callbacks()
    };
    let options = xen9p_mount_options {
        size: size_of::<xen9p_mount_options>(),
        read_ahead,
        ..Default::default()
    };
    let mut fs = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&callbacks), 0);
        assert_eq!(
            xen9p_mount(null(), &options, &mut fs, NULL),
            0,
            "{}",
            last_error()
        );
    }
    fs
}

fn open(fs: xen9p_handle, flags: u32) -> xen9p_handle {
    let mut file = 0;
    // SAFETY: all pointers are valid.
    let result = unsafe { xen9p_open(fs, c"/f".as_ptr(), flags, 0, &mut file, NULL) };
    assert_eq!(result, 0, "{}", last_error());
    file
}

fn read(file: xen9p_handle, size: usize, at: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    // SAFETY: the buffer has this size.
    let count = unsafe { xen9p_read(file, bytes.as_mut_ptr().cast(), size, at as u64, NULL) };
    assert!(count >= 0, "{}", last_error());
    bytes.truncate(count as usize);
    bytes
}

fn write(file: xen9p_handle, bytes: &[u8], at: usize) {
    // SAFETY: the buffer has this size.
    let count = unsafe { xen9p_write(file, bytes.as_ptr().cast(), bytes.len(), at as u64, NULL) };
    assert_eq!(count, bytes.len() as i64, "{}", last_error());
}

/// Reads pieces in order, from the first on.
fn read_pieces(file: xen9p_handle, pieces: usize) {
    for piece in 0..pieces {
        assert_eq!(read(file, PIECE, piece * PIECE).len(), PIECE);
    }
}

/// Files that are read and changed by one kernel at random: what is read is always what was written last, by whatever handle.
#[test]
fn what_the_mount_changes_is_seen_at_once() {
    let _turn = turn();
    for seed in 0..6 {
        let world = World::new();
        let mut model = content(300_000);
        world.server.borrow_mut().put("/f", &model);
        let fs = mount(&world, 64 << 20, 0);
        let both = XEN9P_READ | XEN9P_WRITE;
        let files = [XEN9P_READ, both, XEN9P_READ].map(|flags| open(fs, flags));
        let mut random = Random::new(seed);
        let mut positions = [0; 3];
        for step in 0..900 {
            let which = random.below(3);
            match random.below(30) {
                0 => positions[which] = random.below(model.len() + 10_000),
                1 => {
                    let at = random.below(model.len() + 1);
                    let bytes = content(random.below(20_000) + 1);
                    write(files[1], &bytes, at);
                    model.resize(model.len().max(at + bytes.len()), 0);
                    model[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                2 => {
                    let change = xen9p_setattr {
                        size: size_of::<xen9p_setattr>(),
                        valid: XEN9P_SET_LENGTH,
                        length: random.below(400_000) as u64,
                        // SAFETY: all bits are integers.
                        ..unsafe { std::mem::zeroed() }
                    };
                    // SAFETY: all pointers are valid.
                    let result = unsafe { xen9p_setattr(files[1], null(), &change, NULL) };
                    assert_eq!(result, 0, "{}", last_error());
                    model.resize(change.length as usize, 0);
                }
                _ => {
                    let size = random.below(2 * PIECE) + 1;
                    let at = positions[which];
                    let bytes = read(files[which], size, at);
                    let wanted = &model[at.min(model.len())..(at + size).min(model.len())];
                    assert!(
                        bytes == wanted,
                        "seed {seed}, step {step}: {size} bytes at {at}"
                    );
                    positions[which] += bytes.len();
                }
            }
        }
        assert_eq!(xen9p_exit(), 0);
    }
}

/// Requests that `pieces` reads in order take, with so much memory and these options.
fn requests(memory: usize, read_ahead: u32, pieces: usize) -> u64 {
    let world = World::new();
    world.server.borrow_mut().put("/f", &content(1 << 20));
    let file = open(mount(&world, memory, read_ahead), XEN9P_READ);
    let before = world.requests.get();
    read_pieces(file, pieces);
    let made = world.requests.get() - before;
    assert_eq!(xen9p_exit(), 0);
    made
}

#[test]
fn as_much_is_read_ahead_as_options_and_memory_allow() {
    let _turn = turn();
    assert!(requests(64 << 20, 0, 200) < 40);
    assert!(requests(64 << 20, 256 << 10, 200) < 40);
    assert_eq!(requests(64 << 20, 4096, 200), 200);
    // A 64th of this is too little for pieces of this size.
    assert_eq!(requests(500 << 10, 0, 200), 200);
}

#[test]
fn what_others_change_is_seen_where_nothing_is_read_ahead() {
    let _turn = turn();
    let world = World::new();
    world.server.borrow_mut().put("/f", &content(1 << 20));
    let file = open(mount(&world, 64 << 20, 1), XEN9P_READ);
    read_pieces(file, 20);
    world.server.borrow_mut().change("/f", 0, &[5; 1 << 20]);
    assert_eq!(read(file, PIECE, 20 * PIECE), [5; PIECE]);
    assert_eq!(xen9p_exit(), 0);
}

/// Who has a lock sees what the holder before it has written.
#[test]
fn what_others_changed_before_a_lock_is_seen_behind_it() {
    let _turn = turn();
    let world = World::new();
    world.server.borrow_mut().put("/f", &content(1 << 20));
    let file = open(mount(&world, 64 << 20, 0), XEN9P_READ);
    read_pieces(file, 20);
    world.server.borrow_mut().change("/f", 0, &[5; 1 << 20]);
    // SAFETY: the call is made.
    let locked = unsafe { xen9p_lock(file, XEN9P_LOCK_SHARED, 0, 0, NULL) };
    assert_eq!(locked, 0, "{}", last_error());
    assert_eq!(read(file, PIECE, 20 * PIECE), [5; PIECE]);
    assert_eq!(xen9p_exit(), 0);
}

/// The end of a file is never remembered: who follows a log sees each line when it is there.
#[test]
fn what_others_append_is_seen_at_the_next_call() {
    let _turn = turn();
    let world = World::new();
    let mut end = 20 * PIECE;
    world.server.borrow_mut().put("/f", &content(end));
    let file = open(mount(&world, 64 << 20, 0), XEN9P_READ);
    read_pieces(file, 20);
    for line in 1..200 {
        assert_eq!(read(file, PIECE, end), []);
        let new = content(line);
        world.server.borrow_mut().change("/f", end as u64, &new);
        assert_eq!(read(file, PIECE, end), new);
        end += line;
    }
    assert_eq!(xen9p_exit(), 0);
}

/// A file that was written to is closed with the server's answer; of another one the server is told, too.
#[test]
fn the_server_is_told_of_each_file_that_is_closed() {
    let _turn = turn();
    let world = World::new();
    world.server.borrow_mut().put("/f", b"content");
    let fs = mount(&world, 64 << 20, 0);
    let fids = world.server.borrow().fids();
    for flags in [XEN9P_READ, XEN9P_WRITE, XEN9P_READ | XEN9P_WRITE] {
        let (file, waits) = (open(fs, flags), world.fake.asked(kernel::GUEST).waits);
        // SAFETY: the call is made.
        assert_eq!(unsafe { xen9p_close(file, NULL) }, 0);
        let has_waited = world.fake.asked(kernel::GUEST).waits > waits;
        assert_eq!(has_waited, flags != XEN9P_READ);
        world.fake.settle();
        assert_eq!(world.server.borrow().fids(), fids, "{flags}");
    }
    assert_eq!(xen9p_exit(), 0);
}
