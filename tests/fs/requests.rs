//! Each operation costs exactly so many requests; the table in docs/speed.md is this one.

use std::cell::RefCell;
use std::time::Duration;

use xen9p::fs::{Fs, MountOptions, Result};
use xen9p::ns::{MemTree, Namespace};
use xen9p_testing::bed::memory::{Bed, bed_with};
use xen9p_testing::bed::recovering::site_on;
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::{MemOptions, MemServer};

/// Name, requests, how often one waits for an answer, and the operation itself.
type Row<'a> = (&'a str, u64, u64, &'a dyn Fn(&Fs));

/// As QEMU on rings of order 9.
fn bed() -> Bed {
    let lanes = LaneOptions {
        lanes: 3,
        // Room for a message with half a ring's data.
        capacity: (1 << 20) + 2 * 24,
        latency: (Duration::from_millis(1), Duration::from_millis(1)),
        ..LaneOptions::default()
    };
    let server = MemOptions {
        msize: 1 << 20,
        iounit: 512 << 10,
        ..MemOptions::default()
    };
    bed_with(lanes, server, |server| {
        for name in ["/f", "/d/e/f", "/d/e/g"] {
            server.put(name, &[7; 1024]);
        }
        server.put("/mib", &[9; 1 << 20]);
        server.put("/mib8", &[9; 8 << 20]);
        for number in 0..500 {
            server.put(&format!("/many/{number}"), b"x");
        }
        for number in 0..64 * 3 {
            server.put(&format!("/tree/{}/{number}", number / 3), b"x");
        }
    })
}

/// What takes `waits` answers one after the other takes as many milliseconds of the simulated time.
fn measure(bed: &Bed, work: &dyn Fn(&Fs)) -> (u64, u64) {
    let session = bed.fs.to_async().session().clone();
    let before = session.now();
    let ((), requests) = bed.cost(work);
    let waited = session.now() - before;
    (requests, waited.as_millis() as u64)
}

#[test]
fn requests_per_operation() {
    let bed = bed();
    // Twice before, so that the directory is known as one that names are changed in.
    bed.fs.write("/d/e/1", b"x").unwrap();
    bed.fs.write("/d/e/2", b"x").unwrap();
    bed.fs.write("/d/e/3", b"x").unwrap();
    // The copies go to the root.
    bed.fs.write("/1", b"x").unwrap();
    let file = bed.fs.open("/f").unwrap();
    let mib = bed.fs.open("/mib").unwrap();
    let buffer = RefCell::new(vec![0; 1 << 20]);
    let table: [Row<'_>; 21] = [
        ("stat of a path", 3, 1, &|fs| {
            assert_eq!(fs.metadata("/d/e/f").unwrap().len(), 1024);
        }),
        ("stat of an open file", 1, 1, &|_| {
            assert_eq!(file.metadata().unwrap().len(), 1024);
        }),
        ("stat of a path that leads nowhere", 3, 1, &|fs| {
            assert!(fs.metadata("/d/e/none").is_err());
        }),
        ("whether a path exists", 2, 1, &|fs| {
            assert!(fs.exists("/d/e/f").unwrap());
        }),
        ("open, read, close", 4, 2, &|fs| {
            let file = fs.open("/d/e/f").unwrap();
            assert_eq!(file.read(&mut [0; 4096]).unwrap(), 1024);
        }),
        ("read a whole small file", 4, 2, &|fs| {
            assert_eq!(fs.read("/d/e/f").unwrap().len(), 1024);
        }),
        ("create, write, close", 4, 3, &|fs| {
            let file = fs.create("/d/e/new").unwrap();
            file.write_all(&[1; 1024]).unwrap();
            file.close().unwrap();
        }),
        ("write a whole new file", 4, 2, &|fs| {
            fs.write("/d/e/whole", [1; 1024]).unwrap()
        }),
        ("rename in a directory", 1, 1, &|fs| {
            fs.rename("/d/e/new", "/d/e/newer").unwrap()
        }),
        ("rename into another directory", 1, 1, &|fs| {
            fs.rename("/d/e/newer", "/newer").unwrap()
        }),
        ("unlink", 1, 1, &|fs| fs.remove_file("/d/e/whole").unwrap()),
        ("mkdir", 1, 1, &|fs| fs.create_dir("/d/e/dir").unwrap()),
        ("rmdir", 1, 1, &|fs| fs.remove_dir("/d/e/dir").unwrap()),
        ("symlink", 1, 1, &|fs| fs.symlink("f", "/d/e/link").unwrap()),
        ("mkdir where nothing was changed before", 4, 3, &|fs| {
            fs.create_dir("/many/dir").unwrap();
        }),
        ("an empty listing", 5, 4, &|fs| {
            assert_eq!(fs.read_dir("/many/dir").unwrap().count(), 0);
        }),
        ("read of 1 MiB of an open file", 2, 1, &|_| {
            assert_eq!(mib.read_at(&mut buffer.borrow_mut(), 0).unwrap(), 1 << 20);
        }),
        ("read of 4 KiB of an open file", 1, 1, &|_| {
            let mut page = [0; 4096];
            assert_eq!(mib.read_at(&mut page, 12_288).unwrap(), 4096);
        }),
        ("copy of a file of 1 KiB", 9, 6, &|fs| {
            assert_eq!(fs.copy("/f", "/copy").unwrap(), 1024);
        }),
        ("copy of a file of 1 MiB", 11, 6, &|fs| {
            assert_eq!(fs.copy("/mib", "/copy-mib").unwrap(), 1 << 20);
        }),
        ("copy of a file of 8 MiB", 39, 13, &|fs| {
            assert_eq!(fs.copy("/mib8", "/copy-mib8").unwrap(), 8 << 20);
        }),
    ];
    let mut lines = String::new();
    for (name, requests, waits, work) in table {
        assert_eq!(measure(&bed, work), (requests, waits), "{name}");
        lines += &format!("| {name} | {requests} | {waits} |\n");
    }
    let (requests, waits) = measure(&bed, &|fs| {
        let listing = fs.read_dir("/many").unwrap().with_metadata();
        let known = listing.filter(|entry| entry.as_ref().unwrap().1.is_ok());
        assert_eq!(known.count(), 501);
    });
    // Three for each, and those that find and open the directory, read it and close it.
    assert_eq!(requests, 3 * 501 + 7, "a listing with attributes");
    assert!(waits < 501 / 4, "{waits} waits for 501 entries");
    bed.fs.create_dir("/copies").unwrap();
    let (requests, waits) = measure(&bed, &|fs| {
        let listing = fs.read_dir("/many").unwrap();
        let copying = listing.copying_to(fs, "/copies").unwrap();
        let copied = copying.map(|entry| entry.unwrap().1.unwrap());
        assert_eq!(
            copied.sum::<Option<u64>>(),
            None,
            "the directory is left alone"
        );
    });
    // Nine for each, and those that find, list and close the two directories: whose group files get in a new one is known.
    assert_eq!(requests, 9 * 500 + 9, "copying many files");
    assert!(waits < 500 / 2, "{waits} waits for 500 files copied");
    assert_eq!(bed.fs.read("/copies/499").unwrap(), b"x");
    let (requests, waits) = measure(&bed, &|fs| fs.remove_dir_all("/copies").unwrap());
    assert_eq!(requests, 500 + 9, "removing many files");
    assert!(waits < 500 / 8, "{waits} waits for 500 files removed");
    let (requests, waits) = measure(&bed, &|fs| fs.remove_dir_all("/tree").unwrap());
    // One for each file, and for each directory: two fids made and given back, opened, two listings, removed.
    assert_eq!(requests, 65 * 8 + 64 * 3, "removing many directories");
    assert!(waits < 65, "{waits} waits for 65 directories removed");
    let text = std::fs::read_to_string("docs/speed.md").unwrap();
    assert!(text.contains(&lines), "docs/speed.md is to say:\n{lines}");
    drop((file, mib));
    bed.finish();
}

/// A tree of many small directories, one after the other as programs did it before, and as it is done now: what is asked,
/// and how often one waits for it.
#[test]
fn trees_of_small_directories_wait_for_several_at_once() {
    let bed = bed();
    let list = |fs: &Fs| {
        for n in 0..64 {
            assert_eq!(fs.read_dir(format!("/tree/{n}")).unwrap().count(), 3);
        }
    };
    let ask = |fs: &Fs| {
        for n in 0..64 {
            let listing = fs.read_dir(format!("/tree/{n}")).unwrap();
            assert_eq!(listing.with_metadata().count(), 3);
        }
    };
    let copy = |fs: &Fs| {
        for n in 0..64 {
            let (from, to) = (format!("/tree/{n}"), format!("/one-by-one/{n}"));
            assert!(fs.symlink_metadata(&from).unwrap().is_dir());
            fs.create_dir(&to).unwrap();
            let listing = fs.read_dir(&from).unwrap();
            for entry in listing.copying_to(fs, &to).unwrap() {
                assert_eq!(entry.unwrap().1, Ok(Some(1)));
            }
        }
    };
    bed.fs.create_dir("/one-by-one").unwrap();
    let names: Vec<Vec<u8>> = (0..64).map(|n| n.to_string().into()).collect();
    let before = [&list as &dyn Fn(&Fs), &ask, &copy].map(|work| measure(&bed, work));
    let now = [
        measure(&bed, &|fs| {
            assert_eq!(fs.walk_dir("/tree").unwrap().count(), 64 * 4);
        }),
        measure(&bed, &|fs| {
            for names in names.chunks(8) {
                for dir in fs.with_metadata_of_dirs("/tree", names.to_vec()).unwrap() {
                    assert_eq!(dir.unwrap().1.count(), 3);
                }
            }
        }),
        measure(&bed, &|fs| {
            assert_eq!(fs.copy_dir_all("/tree", "/copy").unwrap().files(), 64 * 3);
        }),
    ];
    for (before, now) in before.into_iter().zip(now) {
        assert!(now.1 * 3 <= before.1, "waits: {before:?} {now:?}");
        assert!(now.0 <= before.0 + 64 + 32, "requests: {before:?} {now:?}");
    }
    bed.finish();
}

/// Where each request of a copied tree goes.
#[test]
fn a_copied_tree_takes_nine_requests_for_a_file_and_nine_for_a_directory() {
    for files in [3, 10, 16] {
        let bed = bed();
        let dirs = 16;
        bed.fs.create_dir("/from").unwrap();
        for dir in 0..dirs {
            bed.fs.create_dir(format!("/from/{dir}")).unwrap();
            for file in 0..files {
                bed.fs.write(format!("/from/{dir}/{file}"), "x").unwrap();
            }
        }
        let (_, requests) = bed.cost(|fs| {
            let copied = fs.copy_dir_all("/from", "/to").unwrap();
            assert_eq!(copied.files(), dirs * files);
        });
        // A file: walk, open, getattr, read, clunk; walk, create, write, clunk. A directory: walk, open, getattr, two listings, clunk;
        // mkdir, walk, clunk. Eight directories: two walks and two clunks of those above, and one getattr, which tells whose group files get.
        let tree = dirs * (files * 9 + 9) + dirs / 8 * 5;
        // And 18 for the first directory and what the paths lead to.
        assert_eq!(requests, tree + 18, "{files} files in each directory");
        // The same by a program that goes by paths.
        let (_, requests) = bed.cost(|fs| {
            fs.create_dir("/one-by-one").unwrap();
            for dir in 0..dirs {
                let (from, to) = (format!("/from/{dir}"), format!("/one-by-one/{dir}"));
                fs.create_dir(&to).unwrap();
                for entry in fs.read_dir(&from).unwrap() {
                    let name = entry.unwrap().file_name_lossy().into_owned();
                    fs.copy(format!("{from}/{name}"), format!("{to}/{name}"))
                        .unwrap();
                }
            }
        });
        let few = files < 10 || requests <= 10 * dirs * files;
        assert!(few, "{files} files in each directory: {requests}");
        bed.finish();
    }
}

/// What most programs do most asks a server no more through a name space than without one.
#[test]
fn a_name_space_costs_no_request() {
    let bed = bed();
    let ns = Namespace::new(bed.fs.clone());
    ns.mount(MemTree::new(), "/mnt/none").unwrap();
    // What files in the root inherit is known after the first.
    bed.fs.write("/1", b"x").unwrap();
    let (many, long) = ("/d/e/f", "/many/1");
    type Pair<'a> = (&'a str, &'a dyn Fn(&Fs) -> bool, &'a dyn Fn() -> bool);
    let table: [Pair<'_>; 11] = [
        ("stat", &|fs| fs.metadata(many).is_ok(), &|| {
            ns.metadata(many).is_ok()
        }),
        (
            "stat without following",
            &|fs| fs.symlink_metadata(long).is_ok(),
            &|| ns.symlink_metadata(long).is_ok(),
        ),
        (
            "stat of nothing",
            &|fs| fs.metadata("/d/none").is_err(),
            &|| ns.metadata("/d/none").is_err(),
        ),
        ("open and close", &|fs| fs.open(many).is_ok(), &|| {
            ns.open(many).is_ok()
        }),
        ("open of nothing", &|fs| fs.open("/none").is_err(), &|| {
            ns.open("/none").is_err()
        }),
        ("read a whole file", &|fs| fs.read(many).is_ok(), &|| {
            ns.read(many).is_ok()
        }),
        (
            "whether a path exists",
            &|fs| fs.exists(many).is_ok(),
            &|| ns.exists(many).is_ok(),
        ),
        (
            "a listing",
            &|fs| fs.read_dir("/many").unwrap().count() == 500,
            &|| ns.read_dir("/many").unwrap().count() == 500,
        ),
        (
            "a listing with attributes",
            &|fs| fs.read_dir("/many").unwrap().with_metadata().count() == 500,
            &|| ns.read_dir("/many").unwrap().with_metadata().count() == 500,
        ),
        (
            "a copy",
            &|fs| fs.copy("/mib8", "/copy-plain").is_ok(),
            &|| ns.copy("/mib8", "/copy-within").is_ok(),
        ),
        (
            "a change of attributes",
            &|fs| fs.truncate(long, 0).is_ok(),
            &|| ns.truncate(long, 0).is_ok(),
        ),
    ];
    for (name, plain, within) in table {
        let expected = measure(&bed, &|fs| assert!(plain(fs), "{name}"));
        let found = measure(&bed, &|_| assert!(within(), "{name}"));
        assert_eq!(found, expected, "{name}");
    }
    drop(ns);
    bed.finish();
}

/// What a connection that is found again when it is lost costs: as much as any other.
#[test]
fn a_mount_that_recovers_costs_no_more() {
    let lanes = LaneOptions {
        lanes: 3,
        capacity: (1 << 20) + 2 * 24,
        latency: (Duration::from_millis(1), Duration::from_millis(1)),
        ..LaneOptions::default()
    };
    let sites = [false, true].map(|recovers| {
        let mut server = MemServer::new(MemOptions {
            iounit: 512 << 10,
            ..MemOptions::default()
        });
        server.put("/d/e/f", &[7; 1024]);
        server.put("/d/g", &[7; 3 << 20]);
        for number in 0..100 {
            server.put(&format!("/many/{number}"), b"x");
        }
        site_on(server, lanes.clone(), &MountOptions::new(), recovers)
    });
    // How many files each opens: what these are is asked behind the answer, which is not waited for.
    type Operation = (&'static str, u64, fn(&Fs) -> Result<()>);
    let operations: [Operation; 19] = [
        ("first name in a directory", 0, |fs| fs.create_dir("/d/e/1")),
        ("second", 0, |fs| fs.create_dir("/d/e/2")),
        ("third", 0, |fs| fs.create_dir("/d/e/3")),
        ("stat", 0, |fs| fs.metadata("/d/e/f").map(drop)),
        ("stat of nothing", 0, |fs| {
            assert!(fs.metadata("/d/e/none").is_err());
            Ok(())
        }),
        ("exists", 0, |fs| fs.exists("/d/e/f").map(drop)),
        ("read a file", 1, |fs| fs.read("/d/e/f").map(drop)),
        ("read 3 MiB", 1, |fs| fs.read("/d/g").map(drop)),
        ("create", 1, |fs| {
            let file = fs.create("/d/e/new")?;
            file.write_all(&[1; 1024])?;
            file.close()
        }),
        ("create again", 1, |fs| fs.create("/d/e/new")?.close()),
        ("rename", 0, |fs| fs.rename("/d/e/new", "/d/e/newer")),
        ("unlink", 0, |fs| fs.remove_file("/d/e/newer")),
        ("symlink", 0, |fs| fs.symlink("f", "/d/e/link")),
        ("read a link", 0, |fs| fs.read_link("/d/e/link").map(drop)),
        ("read through it", 1, |fs| fs.read("/d/e/link").map(drop)),
        ("list", 1, |fs| {
            assert_eq!(fs.read_dir("/many")?.count(), 100);
            Ok(())
        }),
        ("list with attributes", 1, |fs| {
            assert_eq!(fs.read_dir("/many")?.with_metadata().count(), 100);
            Ok(())
        }),
        ("copy 3 MiB", 2, |fs| fs.copy("/d/g", "/d/h").map(drop)),
        ("remove all", 1, |fs| fs.remove_dir_all("/many")),
    ];
    for (name, opened, work) in operations {
        let [(requests, waits), recovering] = sites.each_ref().map(|site| {
            let session = site.fs.to_async().session().clone();
            session.pump();
            let (requests, begun) = (site.fs.stats().requests, session.now());
            work(&site.fs).unwrap();
            session.pump();
            let waited = (session.now() - begun).as_millis();
            (site.fs.stats().requests - requests, waited)
        });
        assert_eq!(recovering, (requests + opened, waits), "{name}");
    }
    // The data of a new file is on its way alone: its fid has to be there until the data is.
    let [plain, recovering] = sites.each_ref().map(|site| {
        let session = site.fs.to_async().session().clone();
        let begun = session.now();
        site.fs.write("/d/e/whole", b"new").unwrap();
        (session.now() - begun).as_millis()
    });
    assert_eq!(recovering, plain + 1, "write a whole new file");
}
