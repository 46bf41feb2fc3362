//! A cached mount does what one without a cache does, and asks the server for nothing that it knows.

use std::time::Duration;

use crate::model::{Abilities, LINUX, run};
use xen9p::fs::{CachedFs, Fs, MountOptions};
use xen9p::ns::Namespace;
use xen9p::p9::wire::{READ_HEADER_LEN, kind};
use xen9p_testing::bed::memory::{Bed, bed_with};
use xen9p_testing::bed::recovering::{site, site_on, two_lanes};
use xen9p_testing::server::TempDir;
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::{MemOptions, MemServer};
use xen9p_testing::server::qemu::{QemuOptions, qemu};
use xen9p_testing::server::real::diod;

#[test]
fn random_operations_over_wild_lanes() {
    for seed in 1..=12 {
        let options = LaneOptions {
            lanes: 1 + (seed % 4) as u16,
            capacity: 40 << 10,
            latency: (Duration::ZERO, Duration::from_millis(seed % 3 * 10)),
            in_order: seed.is_multiple_of(2),
            seed,
            ..LaneOptions::default()
        };
        let server = MemOptions {
            untyped_entries: seed.is_multiple_of(3),
            io_limit: if seed.is_multiple_of(4) {
                1000
            } else {
                u32::MAX
            },
            ..MemOptions::default()
        };
        let bed = bed_with(options, server, |_| {});
        // Room for all there is, for a little, and for none.
        let cached = bed.fs.cached([4 << 20, 100 << 10, 0][seed as usize % 3]);
        run(&cached, seed, 1500, LINUX);
        drop(cached);
        bed.finish();
    }
}

#[test]
fn random_operations_on_servers_that_others_wrote() {
    let can = Abilities {
        open_unlinked: false,
        ..LINUX
    };
    let export = TempDir::new().unwrap();
    if let Some(transport) = qemu(export.path(), QemuOptions::default()).unwrap() {
        let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
        run(&fs.cached(4 << 20), 1, 2000, can);
    }
    let export = TempDir::new().unwrap();
    if let Some(transport) = diod(export.path()).unwrap() {
        let tree = export.path().to_str().unwrap();
        let fs = Fs::mount(transport, &MountOptions::new().tree(tree)).unwrap();
        run(&fs.cached(4 << 20), 2, 2000, can);
    }
}

/// As QEMU on rings of order 9.
fn bed() -> Bed {
    let lanes = LaneOptions {
        lanes: 3,
        capacity: (1 << 20) + 2 * 24,
        latency: (Duration::from_millis(1), Duration::from_millis(1)),
        ..LaneOptions::default()
    };
    let server = MemOptions {
        iounit: 512 << 10,
        ..MemOptions::default()
    };
    bed_with(lanes, server, |server| {
        server.put("/d/f", &[7; 10_000]);
        server.put("/mib", &[9; 1 << 20]);
    })
}

/// The requests of the second time; the first is long enough ago for what was read then to be trusted.
fn second(bed: &Bed, work: &dyn Fn()) -> u64 {
    work();
    bed.control.advance(Duration::from_millis(50));
    work();
    bed.cost(|_| work()).1
}

fn costs(bed: &Bed, files: &dyn Files) {
    let stat = || assert_eq!(files.len("/d/f"), 10_000);
    assert_eq!(second(bed, &stat), 0, "stat");
    bed.control.advance(Duration::from_secs(1));
    assert_eq!(bed.cost(|_| stat()).1, 3, "stat after a second");
    bed.fs.symlink("f", "/d/l").unwrap();
    let link = || assert_eq!(files.link("/d/l"), b"f");
    assert_eq!(second(bed, &link), 0, "readlink");
    // Walk, open, what it is like now, and close.
    let whole = || assert!(files.whole("/d/f") == [7; 10_000]);
    assert_eq!(second(bed, &whole), 4, "open and read");
    // Walk, open, what it is like now, and close: whatever the number of entries.
    for number in 0..500 {
        bed.server.borrow_mut().put(&format!("/many/{number}"), b"");
    }
    for (dir, entries) in [("/d", 2), ("/many", 500)] {
        let list = || assert_eq!(files.count(dir), entries);
        assert_eq!(second(bed, &list), 4, "list {dir}");
    }
    let large = || assert!(files.whole("/mib") == vec![9; 1 << 20]);
    assert_eq!(second(bed, &large), 4, "open and read 1 MiB");
}

/// What is looked at, of a mount or a name space.
trait Files {
    fn len(&self, path: &str) -> u64;
    fn link(&self, path: &str) -> Vec<u8>;
    fn whole(&self, path: &str) -> Vec<u8>;
    fn count(&self, path: &str) -> usize;
}

macro_rules! files {
    ($name:ty) => {
        impl Files for $name {
            fn len(&self, path: &str) -> u64 {
                self.metadata(path).unwrap().len()
            }

            fn link(&self, path: &str) -> Vec<u8> {
                self.read_link(path).unwrap()
            }

            fn whole(&self, path: &str) -> Vec<u8> {
                self.read(path).unwrap()
            }

            fn count(&self, path: &str) -> usize {
                let entries = self.read_dir(path).unwrap();
                entries.inspect(|entry| assert!(entry.is_ok())).count()
            }
        }
    };
}

files!(CachedFs);
files!(Namespace);

#[test]
fn what_is_known_costs_no_request() {
    let bed = bed();
    let cached = bed.fs.cached(4 << 20);
    costs(&bed, &cached);
    let file = cached.open("/mib").unwrap();
    let mut page = [0; 4096];
    let reads = bed.cost(|_| {
        for at in (0..1 << 20).step_by(4096 * 7) {
            assert_eq!(file.read_at(&mut page, at).unwrap(), 4096);
        }
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    });
    assert_eq!(reads.1, 0, "4 KiB anywhere in an open file");
    drop((file, cached));
    bed.finish();
}

/// Nor a look at the clock, but for what is believed for a time.
#[test]
fn what_is_known_costs_few_looks_at_the_clock() {
    let bed = bed();
    let cached = bed.fs.cached(4 << 20);
    let whole = || assert!(cached.read("/mib").unwrap() == vec![9; 1 << 20]);
    second(&bed, &whole);
    let file = cached.open("/mib").unwrap();
    let looks = |work: &mut dyn FnMut()| {
        let before = bed.control.looks();
        work();
        bed.control.looks() - before
    };
    let mut page = [0; 4096];
    let mut read = || assert_eq!(file.read_at(&mut page, 4096 * 7).unwrap(), 4096);
    assert_eq!(looks(&mut read), 0, "4 KiB of an open file");
    let mut fstat = || assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    assert_eq!(looks(&mut fstat), 1, "attributes of an open file");
    let mut stat = || assert_eq!(cached.metadata("/d/f").unwrap().len(), 10_000);
    stat();
    assert_eq!(looks(&mut stat), 1, "stat");
    drop((file, cached));
    bed.finish();
}

#[test]
fn nor_does_it_through_a_name_space() {
    let bed = bed();
    let ns = Namespace::new(bed.fs.cached(4 << 20));
    costs(&bed, &ns);
    drop(ns);
    bed.finish();
}

/// Each write is on the server when the call returns.
#[test]
fn nothing_stays_behind() {
    let bed = bed();
    let cached = bed.fs.cached(4 << 20);
    let mut options = xen9p::fs::OpenOptions::new();
    options.read(true).write(true).write_behind(64 << 10);
    let file = options.open(&cached, "/d/f").unwrap();
    assert_eq!(cached.read("/d/f").unwrap().len(), 10_000);
    for at in [0, 5000, 9999] {
        let (_, requests) = bed.cost(|_| file.write_all_at(b"new", at).unwrap());
        assert_eq!(requests, 1);
        let there = bed.server.borrow().get("/d/f").unwrap();
        assert_eq!(&there[at as usize..][..3], b"new");
        assert!(cached.read("/d/f").unwrap() == there);
    }
    drop((file, cached));
    bed.finish();
}

/// What was known of the lost server is not known of the next.
#[test]
fn a_loss_empties_it() {
    let site = site();
    site.fs.write("/f", "old").unwrap();
    let cached = site.fs.cached(1 << 20);
    let file = cached.open("/f").unwrap();
    let content = |buffer: &mut [u8; 3]| file.read_at(buffer, 0).map(|_| *buffer);
    let mut buffer = [0; 3];
    assert_eq!(content(&mut buffer), Ok(*b"old"));
    let names = || cached.read_dir("/").map(|entries| entries.count());
    assert_eq!(names(), Ok(1));
    let mut listing = cached.read_dir("/").unwrap();
    site.server.borrow_mut().put("/other", b"");
    site.lose();
    // Until the loss is noticed nothing is known of it.
    site.fs.metadata("/other").unwrap();
    site.fs.write("/f", "new").unwrap();
    assert_eq!(content(&mut buffer), Ok(*b"new"));
    assert_eq!(names(), Ok(2));
    assert_eq!(listing.by_ref().filter(Result::is_ok).count(), 2);
}

#[test]
fn where_the_session_is_over_so_is_the_cache() {
    let mut server = MemServer::new(MemOptions::default());
    server.put("/f", b"old");
    let site = site_on(server, two_lanes(), &MountOptions::new(), false);
    let cached = site.fs.cached(1 << 20);
    let file = cached.open("/f").unwrap();
    assert_eq!(file.read_at(&mut [0; 3], 0), Ok(3));
    assert!(cached.metadata("/f").is_ok());
    // Read, kept, and begun once more.
    let names = || cached.read_dir("/").map(|entries| entries.count());
    assert_eq!((names(), names()), (Ok(1), Ok(1)));
    let mut listing = cached.read_dir("/").unwrap();
    site.lose();
    assert!(site.fs.metadata("/f").is_err());
    assert!(file.read_at(&mut [0; 3], 0).is_err());
    assert!(cached.metadata("/f").is_err());
    assert!(names().is_err());
    assert!(listing.next().is_some_and(|entry| entry.is_err()));
}

/// Another client may write within the same tick of the server's clock, so that nothing tells of it. What is read within that
/// time is read once more; so is what was read ahead within it and taken later.
#[test]
fn what_was_read_ahead_early_is_not_kept() {
    const PAGE: usize = 4096;
    let bed = bed();
    bed.server.borrow_mut().put("/a", &[7; 64 * PAGE]);
    let options = MountOptions::new().read_ahead(4 << 20);
    let fs = bed.fs.attach(&options).unwrap().cached(1 << 20);
    let file = fs.open("/a").unwrap();
    let mut buffer = [0; PAGE];
    for _ in 0..3 {
        file.read_exact(&mut buffer).unwrap();
    }
    fs.metadata("/mib").unwrap();
    bed.control.tamper(|_, mut reply| {
        if reply[4] == kind::TREAD + 1 {
            reply[READ_HEADER_LEN..].fill(8);
        }
        vec![reply]
    });
    bed.control.advance(Duration::from_secs(1));
    file.read_exact(&mut buffer).unwrap();
    file.close().unwrap();
    bed.control.advance(Duration::from_secs(5));
    let file = fs.open("/a").unwrap();
    file.read_exact_at(&mut buffer, 3 * PAGE as u64).unwrap();
    assert_eq!(buffer, [8; PAGE]);
}
