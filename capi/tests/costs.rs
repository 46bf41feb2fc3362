//! What calls cost: no more requests, waits, hypercalls and looks at the clock than the same work by the Rust face, which is what an image
//! does.

mod kernel;

use std::cell::RefCell;
use std::ffi::CString;
use std::ptr::{null, null_mut};

use kernel::{GUEST, World, last_error, turn};
use xen9p::fs::{Fs, MountOptions};
use xen9p::transport::Transport;
use xen9p::transport::xen9pfs::{self, Config, Endpoints};
use xen9p::xen;
use xen9p::xen::event::Events;
use xen9p_capi::*;
use xen9p_testing::fake::{Asked, FakePlatform};

/// The call is not started, but made.
const NULL: *mut xen9p_handle = null_mut();

const MEMORY: usize = 64 << 20;
const MIB: usize = 1 << 20;

/// How often each is done: few enough that no clock is due, which is looked at ten times a second.
const TIMES: usize = 40;

/// What is done with files.
const WORK: [&str; 9] = [
    "read of 1 MiB",
    "write of 1 MiB",
    "read of 4 KiB anywhere",
    "read of 4 KiB in order",
    "create, write",
    "open, read",
    "rename",
    "unlink",
    "list",
];

/// The files that the work needs.
fn world() -> World {
    let world = World::new();
    let mut server = world.server.borrow_mut();
    server.put("/big", &vec![7; 2 * MIB]);
    server.put("/written", b"");
    server.put("/new/other", b"");
    for number in 0..TIMES {
        server.put(&format!("/small/f{number}"), &[9; 1024]);
        server.put(&format!("/doomed/f{number}"), b"x");
    }
    drop(server);
    world
}

/// What was done so far: requests, and what the platform was asked for.
type Count = (u64, Asked);

fn counted(world: &World) -> Count {
    (world.requests.get(), world.fake.asked(GUEST))
}

/// What was done between.
fn between(before: Count, after: Count) -> Count {
    let asked = Asked {
        hypercalls: after.1.hypercalls - before.1.hypercalls,
        clock_reads: after.1.clock_reads - before.1.clock_reads,
        waits: after.1.waits - before.1.waits,
    };
    (after.0 - before.0, asked)
}

fn place(number: usize) -> u64 {
    (number * 977 % (2 * MIB / 4096) * 4096) as u64
}

/// By the Rust face, as the image of the benchmark.
fn by_rust() -> Vec<Count> {
    let world = world();
    let events = Events::new(world.kernel.platform.clone());
    let domain = xen::Xen::<FakePlatform>::new(events).unwrap();
    let endpoints = Endpoints::new(&domain);
    let device = xen9pfs::device(&domain, None).unwrap();
    let transport = endpoints
        .connect(device, &Config::for_memory(MEMORY))
        .unwrap();
    assert!(transport.lanes() > 1);
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    let mut buffer = vec![1; MIB];
    let page = &mut vec![1; 4096];
    WORK.map(|work| {
        let file = match work {
            "write of 1 MiB" => fs.create("/written").unwrap(),
            _ => fs.open("/big").unwrap(),
        };
        let before = counted(&world);
        match work {
            "list" => assert_eq!(fs.read_dir("/small").unwrap().count(), TIMES),
            _ => {
                for number in 0..TIMES {
                    let old = format!("/new/f{number}");
                    match work {
                        "read of 1 MiB" => {
                            assert_eq!(file.read_at(&mut buffer, 0).unwrap(), MIB);
                        }
                        "write of 1 MiB" => {
                            assert_eq!(file.write_at(&buffer, 0).unwrap(), MIB);
                        }
                        "read of 4 KiB anywhere" => {
                            assert_eq!(file.read_at(page, place(number)).unwrap(), 4096);
                        }
                        "read of 4 KiB in order" => assert_eq!(file.read(page).unwrap(), 4096),
                        "create, write" => {
                            let file = fs.create(&old).unwrap();
                            file.write_all(&page[..1024]).unwrap();
                            file.close().unwrap();
                        }
                        "open, read" => {
                            let file = fs.open(format!("/small/f{number}")).unwrap();
                            assert_eq!(file.read(page).unwrap(), 1024);
                        }
                        "rename" => fs.rename(&old, format!("/new/r{number}")).unwrap(),
                        "unlink" => fs.remove_file(format!("/doomed/f{number}")).unwrap(),
                        other => unreachable!("{other}"),
                    }
                }
            }
        }
        between(before, counted(&world))
    })
    .into()
}

fn path(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// By calls of the C interface.
fn by_c() -> Vec<Count> {
    let world = world();
    let callbacks = xen9p_platform {
        memory: MEMORY,
        ..world.callbacks()
    };
    let buffer = RefCell::new(vec![1_u8; MIB]);
    let mut fs = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&callbacks), 0);
        assert_eq!(
            xen9p_mount(null(), null(), &mut fs, NULL),
            0,
            "{}",
            last_error()
        );
    }
    let open = |name: &str, flags: u32| {
        let mut file = 0;
        // SAFETY: all pointers are valid.
        let result = unsafe { xen9p_open(fs, path(name).as_ptr(), flags, 0o644, &mut file, NULL) };
        assert_eq!(result, 0, "{}", last_error());
        file
    };
    // SAFETY: no operation is started.
    let close = |handle| assert_eq!(unsafe { xen9p_close(handle, NULL) }, 0);
    let read = |file, size: usize, at: u64| {
        let into = buffer.borrow_mut().as_mut_ptr().cast();
        // SAFETY: the buffer has 1 MiB.
        unsafe { xen9p_read(file, into, size, at, NULL) }
    };
    let write = |file, size: usize| {
        let from = buffer.borrow().as_ptr().cast();
        // SAFETY: as above.
        unsafe { xen9p_write(file, from, size, 0, NULL) }
    };
    let counts = WORK.map(|work| {
        let file = match work {
            "write of 1 MiB" => open("/written", XEN9P_WRITE | XEN9P_CREATE | XEN9P_TRUNCATE),
            _ => open("/big", XEN9P_READ),
        };
        let before = counted(&world);
        if work == "list" {
            let (mut dir, mut count) = (0, 0);
            // SAFETY: all pointers are valid.
            unsafe {
                let mut entry = std::mem::zeroed::<xen9p_dirent>();
                assert_eq!(xen9p_opendir(fs, c"/small".as_ptr(), &mut dir, NULL), 0);
                while xen9p_readdir(dir, &mut entry, NULL) == 1 {
                    count += 1;
                }
            }
            close(dir);
            assert_eq!(count, TIMES);
            let taken = between(before, counted(&world));
            close(file);
            return taken;
        }
        for number in 0..TIMES {
            let old = format!("/new/f{number}");
            match work {
                "read of 1 MiB" => assert_eq!(read(file, MIB, 0), MIB as i64),
                "write of 1 MiB" => assert_eq!(write(file, MIB), MIB as i64),
                "read of 4 KiB anywhere" => assert_eq!(read(file, 4096, place(number)), 4096),
                "read of 4 KiB in order" => {
                    assert_eq!(read(file, 4096, number as u64 * 4096), 4096);
                }
                "create, write" => {
                    let file = open(&old, XEN9P_WRITE | XEN9P_CREATE | XEN9P_TRUNCATE);
                    assert_eq!(write(file, 1024), 1024);
                    close(file);
                }
                "open, read" => {
                    let file = open(&format!("/small/f{number}"), XEN9P_READ);
                    assert_eq!(read(file, 4096, 0), 1024);
                    close(file);
                }
                "rename" => {
                    let (old, new) = (path(&old), path(&format!("/new/r{number}")));
                    // SAFETY: all pointers are valid.
                    let result = unsafe { xen9p_rename(fs, old.as_ptr(), fs, new.as_ptr(), NULL) };
                    assert_eq!(result, 0, "{}", last_error());
                }
                "unlink" => {
                    let old = path(&format!("/doomed/f{number}"));
                    // SAFETY: all pointers are valid.
                    assert_eq!(unsafe { xen9p_unlink(fs, old.as_ptr(), NULL) }, 0);
                }
                other => unreachable!("{other}"),
            }
        }
        let taken = between(before, counted(&world));
        // What it has read ahead is not for the next row.
        close(file);
        taken
    });
    assert_eq!(xen9p_exit(), 0);
    counts.into()
}

#[test]
fn calls_cost_no_more_than_the_rust_face() {
    let _turn = turn();
    for ((work, rust), c) in WORK.iter().zip(by_rust()).zip(by_c()) {
        let ((rust_requests, rust), (requests, c)) = (rust, c);
        assert_eq!(requests, rust_requests, "{work}: requests");
        assert!(c.waits <= rust.waits, "{work}: {c:?} and {rust:?}");
        assert!(
            c.clock_reads <= rust.clock_reads,
            "{work}: {c:?} and {rust:?}"
        );
        // The server is told at once of a file that is closed: the last time there is nothing else to tell it.
        assert!(
            c.hypercalls <= rust.hypercalls + 1,
            "{work}: {c:?} and {rust:?}"
        );
    }
}
