//! A cache for mounts that ask for one: what is known is not asked for again, what others changed is seen by who opens it, and
//! its memory is given back where the kernel has none.

mod kernel;

use std::ptr::{null, null_mut};
use std::time::Duration;

use kernel::memory::{self, inside, outside};
use kernel::{World, last_error, turn};
use xen9p_capi::*;

/// The call is not started, but made.
const NULL: *mut xen9p_handle = null_mut();

const SIZE: usize = 50_000;

/// A mount with so many bytes of cache.
fn mount(world: &World, cache: u32, recovery: u32) -> xen9p_handle {
    let options = xen9p_mount_options {
        size: size_of::<xen9p_mount_options>(),
        cache,
        recovery,
        ..Default::default()
    };
    let mut fs = 0;
    // SAFETY: all pointers are valid; the callbacks keep their promises.
    unsafe {
        assert_eq!(inside(|| xen9p_init(&world.callbacks())), 0);
        let mounted = inside(|| xen9p_mount(null(), &options, &mut fs, NULL));
        assert_eq!(mounted, 0, "{}", last_error());
    }
    fs
}

fn close(handle: xen9p_handle) {
    // SAFETY: the call is made.
    assert_eq!(inside(|| unsafe { xen9p_close(handle, NULL) }), 0);
}

/// Opens a file, reads all of it, and closes it.
fn whole(fs: xen9p_handle) -> Vec<u8> {
    let (mut file, mut bytes, mut done) = (0, vec![0; SIZE + 1], 0);
    let path = c"/f".as_ptr();
    // SAFETY: all pointers are valid.
    unsafe {
        let opened = inside(|| xen9p_open(fs, path, XEN9P_READ, 0, &mut file, NULL));
        assert_eq!(opened, 0, "{}", last_error());
        loop {
            let into = bytes[done..].as_mut_ptr().cast();
            let count = inside(|| xen9p_read(file, into, SIZE + 1 - done, done as u64, NULL));
            assert!(count >= 0, "{}", last_error());
            done += count as usize;
            if count == 0 {
                break;
            }
        }
    }
    close(file);
    bytes.truncate(done);
    bytes
}

/// How many entries the root has.
fn entries(fs: xen9p_handle) -> usize {
    let (mut dir, mut count) = (0, 0);
    // SAFETY: all pointers are valid, and all bits of an entry are integers.
    unsafe {
        let mut entry: xen9p_dirent = std::mem::zeroed();
        let opened = inside(|| xen9p_opendir(fs, c"/".as_ptr(), &mut dir, NULL));
        assert_eq!(opened, 0, "{}", last_error());
        while inside(|| xen9p_readdir(dir, &mut entry, NULL)) == 1 {
            count += 1;
        }
    }
    close(dir);
    count
}

fn length(fs: xen9p_handle) -> u64 {
    let mut stat = xen9p_stat::default();
    // SAFETY: all pointers are valid.
    let told = inside(|| unsafe { xen9p_stat(fs, c"/f".as_ptr(), 0, &mut stat, NULL) });
    assert_eq!(told, 0, "{}", last_error());
    stat.size
}

/// The requests that some work takes.
fn requests(world: &World, work: impl FnOnce()) -> u64 {
    let before = world.requests.get();
    work();
    world.requests.get() - before
}

/// A world whose share has a file, which did not change for a while.
fn world() -> World {
    let world = World::new();
    world.server.borrow_mut().put("/f", &vec![7; SIZE]);
    world
}

/// Reads and lists twice, with time in between, so that what is kept is trusted.
fn warm(world: &World, fs: xen9p_handle) {
    for _ in 0..2 {
        assert!(whole(fs) == vec![7; SIZE]);
        assert_eq!(entries(fs), 1);
        world.fake.run_for(Duration::from_millis(50));
    }
}

/// A mount with so many bytes of cache, which has read and listed already.
fn warm_mount(world: &World, cache: u32, recovery: u32) -> xen9p_handle {
    let fs = mount(world, cache, recovery);
    warm(world, fs);
    fs
}

#[test]
fn what_is_known_is_not_asked_for_again() {
    let _turn = turn();
    let world = world();
    let fs = warm_mount(&world, 1 << 20, 0);
    // Walk, open, what it is like now, close.
    let read = || assert!(whole(fs) == vec![7; SIZE]);
    assert_eq!(requests(&world, read), 4);
    assert_eq!(requests(&world, || assert_eq!(entries(fs), 1)), 4);
    assert_eq!(length(fs), SIZE as u64);
    assert_eq!(requests(&world, || assert_eq!(length(fs), SIZE as u64)), 0);
    // What others did is seen by who opens.
    world.server.borrow_mut().change("/f", 0, &[8; SIZE]);
    world.server.borrow_mut().put("/g", b"");
    assert!(whole(fs) == vec![8; SIZE]);
    assert_eq!(entries(fs), 2);
    assert_eq!(inside(|| xen9p_exit()), 0);
}

#[test]
fn who_does_not_ask_for_it_gets_none() {
    let _turn = turn();
    let world = world();
    let fs = warm_mount(&world, 0, 0);
    assert!(requests(&world, || assert_eq!(entries(fs), 1)) > 4);
    for _ in 0..3 {
        let stat = || assert_eq!(length(fs), SIZE as u64);
        assert_eq!(requests(&world, stat), 3);
    }
    assert_eq!(inside(|| xen9p_exit()), 0);
}

#[test]
fn a_loss_empties_it() {
    let _turn = turn();
    let world = world();
    let fs = warm_mount(&world, 1 << 20, 30);
    outside(|| {
        world.share.borrow_mut().kill();
        world.share.borrow_mut().restart();
    });
    // The loss is noticed by what is asked for.
    let full = || {
        let mut full = xen9p_statfs::default();
        // SAFETY: all pointers are valid.
        let told = inside(|| unsafe { xen9p_statfs(fs, c"/".as_ptr(), &mut full, NULL) });
        assert_eq!(told, 0, "{}", last_error());
    };
    full();
    // The data comes from the server, once more when the file has not changed for a while, and then no longer.
    let costs = [(); 3].map(|()| {
        world.fake.run_for(Duration::from_millis(50));
        requests(&world, || assert!(whole(fs) == vec![7; SIZE]))
    });
    assert_eq!(costs, [5, 5, 4]);
    assert_eq!(inside(|| xen9p_exit()), 0);
}

/// What the cache has is taken from there when the kernel refuses memory.
#[test]
fn memory_that_is_missing_comes_from_it() {
    let _turn = turn();
    let world = world();
    let fs = warm_mount(&world, 1 << 20, 0);
    assert_eq!(requests(&world, || assert_eq!(entries(fs), 1)), 4);
    memory::leave_what_is_given_back();
    assert_eq!(entries(fs), 1);
    memory::leave(usize::MAX);
    // What was known of names and listings went first, with half of the data.
    let read = requests(&world, || assert!(whole(fs) == vec![7; SIZE]));
    assert!(read > 4, "{read} requests");
    assert_eq!(inside(|| xen9p_exit()), 0);
}
