//! Whole trees, of which several directories are looked into at the same time, are walked and copied as if it were done one
//! by one: over lanes with any delay and order, and on servers that answer short.

use std::collections::BTreeMap;
use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Error, Fs};
use xen9p::ns::{MemTree, Namespace};
use xen9p_testing::bed::memory::{Bed, bed, bed_with};
use xen9p_testing::random::Random;
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

fn wild(seed: u64) -> Bed {
    let lanes = LaneOptions {
        lanes: 1 + (seed % 4) as u16,
        capacity: 40 << 10,
        latency: (Duration::ZERO, Duration::from_millis(seed % 3)),
        in_order: seed.is_multiple_of(2),
        seed,
        ..LaneOptions::default()
    };
    let server = MemOptions {
        untyped_entries: seed.is_multiple_of(5),
        io_limit: [u32::MAX, 1000][(seed % 2) as usize],
        ..MemOptions::default()
    };
    bed_with(lanes, server, |_| {})
}

/// A random tree below `top`.
fn grow(fs: &Fs, random: &mut Random, top: &str) {
    let mut dirs = vec![top.to_string()];
    fs.create_dir(top).unwrap();
    for n in 0..20 + random.below(150) {
        let path = format!("{}/{n}", dirs[random.below(dirs.len())]);
        match random.below(8) {
            0..3 => {
                fs.create_dir(&path).unwrap();
                dirs.push(path);
            }
            3 => fs.symlink("..", &path).unwrap(),
            4 => fs.write(&path, random.bytes((64 << 10) + 1)).unwrap(),
            _ => {
                let len = random.below(9000);
                fs.write(&path, random.bytes(len)).unwrap();
            }
        }
    }
}

/// All that is below a directory, by recursion and one directory after the other, in the order of a walk.
fn one_by_one(fs: &Fs, top: &str, found: &mut Vec<String>) {
    let listing = fs.read_dir(top).unwrap();
    let paths: Vec<String> = listing.map(|entry| entry.unwrap().path_lossy()).collect();
    found.extend(paths.iter().cloned());
    for path in paths {
        if fs.symlink_metadata(&path).unwrap().is_dir() {
            one_by_one(fs, &path, found);
        }
    }
}

/// What is below a directory, by the paths there.
fn contents(fs: &Fs, top: &str) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut paths = Vec::new();
    one_by_one(fs, top, &mut paths);
    let about = |path: &String| {
        let found = fs.symlink_metadata(path).unwrap();
        let content = match (found.is_dir(), found.is_symlink()) {
            (true, _) => Vec::new(),
            (_, true) => fs.read_link(path).unwrap(),
            _ => fs.read(path).unwrap(),
        };
        (path[top.len()..].to_string(), (found.mode(), content))
    };
    paths.iter().map(about).collect()
}

#[test]
fn walks_and_copies_are_what_they_are_one_by_one() {
    for seed in 0..20 {
        let bed = wild(seed);
        let fs = &bed.fs;
        let mut random = Random::new(seed);
        grow(fs, &mut random, "/from");
        let mut expected = Vec::new();
        one_by_one(fs, "/from", &mut expected);
        let walk = fs.walk_dir("/from").unwrap();
        let walked: Vec<String> = walk.map(|entry| entry.unwrap().path_lossy()).collect();
        assert_eq!(walked, expected, "{seed}");
        let copied = fs.copy_dir_all("/from", "/to").unwrap();
        let (from, to) = (contents(fs, "/from"), contents(fs, "/to"));
        assert!(from == to, "{seed}");
        let dirs = from.values().filter(|(mode, _)| mode >> 12 == 4).count();
        let links = from.values().filter(|(mode, _)| mode >> 12 == 0o12).count();
        assert_eq!(copied.dirs(), dirs as u64 + 1);
        assert_eq!(copied.links(), links as u64);
        assert_eq!(copied.files(), (from.len() - dirs - links) as u64);
        let files = from.values().filter(|(mode, _)| mode >> 12 == 0o10);
        let bytes: usize = files.map(|(_, content)| content.len()).sum();
        assert_eq!(copied.bytes(), bytes as u64);
        // Within a name space the tree is waited for in another way.
        let ns = Namespace::new(fs.clone());
        ns.mount(MemTree::with_limit(64 << 20), "/m").unwrap();
        let walk = ns.walk_dir("/from").unwrap();
        let walked: Vec<String> = walk.map(|entry| entry.unwrap().path_lossy()).collect();
        assert_eq!(walked, expected, "{seed}");
        for to in ["/again", "/m/there"] {
            assert_eq!(ns.copy_dir_all("/from", to), Ok(copied), "{seed} {to}");
        }
        assert!(contents(fs, "/again") == from, "{seed}");
        assert_eq!(ns.copy_dir_all("/m/there", "/back"), Ok(copied));
        assert!(contents(fs, "/back") == from, "{seed}");
        drop(ns);
        bed.finish();
    }
}

#[test]
fn copies_into_themselves_and_over_others_are_refused() {
    let bed = bed();
    let fs = &bed.fs;
    fs.create_dir_all("/d/e/f").unwrap();
    fs.symlink("/d/e", "/to-e").unwrap();
    fs.write("/file", "x").unwrap();
    let into = |error| matches!(error, Err(Error::InvalidInput(_)));
    for to in ["/d/x", "/d/e/x", "/to-e/x", "/d/e/f/../x"] {
        let refused = fs.copy_dir_all("/d", to);
        assert!(into(refused), "{to}: {refused:?}");
    }
    assert!(into(fs.copy_dir_all("/", "/x")));
    assert_eq!(fs.walk_dir("/d").unwrap().count(), 2, "nothing was made");
    let errno = |from, to| fs.copy_dir_all(from, to).unwrap_err().errno();
    assert_eq!(errno("/d", "/file"), Errno::EEXIST);
    assert_eq!(errno("/d", "/d/"), Errno::EEXIST);
    assert_eq!(errno("/d/e", "/d/e2/x"), Errno::ENOENT);
    assert_eq!(errno("/to-e", "/x"), Errno::ENOTDIR);
    assert_eq!(errno("/file", "/x"), Errno::ENOTDIR);
    assert_eq!(errno("/none", "/x"), Errno::ENOENT);
    // A name that only begins like it.
    assert_eq!(
        fs.copy_dir_all("/d", "/dd").map(|copied| copied.dirs()),
        Ok(3)
    );
    bed.finish();
}

/// Ctrl-C ends what is under way.
#[test]
fn an_interrupted_copy_can_be_done_again() {
    let bed = bed_with(LaneOptions::default(), MemOptions::default(), |server| {
        for n in 0..300 {
            server.put(&format!("/d/{}/{n}", n / 3), b"x");
        }
    });
    let fs = &bed.fs;
    let interrupt = fs.to_async().session().interrupt();
    let mut walk = fs.walk_dir("/d").unwrap();
    assert!(walk.by_ref().take(150).all(|entry| entry.is_ok()));
    interrupt.set();
    assert_eq!(fs.copy_dir_all("/d", "/e"), Err(Error::Interrupted));
    let rest: Vec<_> = walk.by_ref().filter_map(Result::err).collect();
    assert_eq!(rest, [Error::Interrupted]);
    drop(walk);
    interrupt.clear();
    assert_eq!(
        fs.copy_dir_all("/d", "/e").map(|copied| copied.files()),
        Ok(300)
    );
    bed.finish();
}
