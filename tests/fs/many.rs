//! What is done with many files of a directory at the same time ends as if it were done one by one: over lanes with any
//! delay and order, on servers that answer short or refuse, and between two connections.

use std::collections::BTreeMap;
use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Error, Fs};
use xen9p::ns::Namespace;
use xen9p_testing::bed::memory::{Bed, bed_with};
use xen9p_testing::random::Random;
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

/// The largest file that is copied together with others.
const SMALL: usize = 64 << 10;

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

/// A directory with files of any size, directories and links; its files, by name.
fn fill(fs: &Fs, random: &mut Random, at: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    fs.create_dir(at).unwrap();
    let mut files = BTreeMap::new();
    for n in 0..random.below(70) {
        let path = format!("{at}/{n}");
        match random.below(8) {
            0 => fs.create_dir(&path).unwrap(),
            1 => fs.symlink("0", &path).unwrap(),
            kind => {
                let len = [0, 1, 4096, 5000, SMALL, SMALL + 1][kind - 2];
                let content = random.bytes(len);
                fs.write(&path, &content).unwrap();
                files.insert(n.to_string().into_bytes(), content);
            }
        }
    }
    files
}

#[test]
fn copies_are_what_copies_one_by_one_are() {
    for seed in 0..12 {
        let (here, there) = (wild(seed), wild(seed + 1));
        let mut random = Random::new(seed);
        let files = fill(&here.fs, &mut random, "/from");
        // A name space waits for each connection by itself.
        let (from, to) = (
            Namespace::new(here.fs.clone()),
            Namespace::new(there.fs.clone()),
        );
        to.mount(here.fs.clone(), "/here").unwrap();
        to.create_dir("/to").unwrap();
        let taken = random.below(70).to_string();
        to.write(format!("/to/{taken}"), "kept").unwrap();
        let within = [false, true][random.below(2)];
        let listing = match within {
            true => to.read_dir("/here/from").unwrap(),
            false => from.read_dir("/from").unwrap(),
        };
        let (mut order, mut copied) = (Vec::new(), 0);
        for entry in listing.copying_to(&to, "/to").unwrap() {
            let (entry, count) = entry.unwrap();
            let name = entry.file_name();
            order.push(name.to_vec());
            let content = files.get(name).filter(|content| content.len() <= SMALL);
            match (content, count) {
                (Some(_), Err(error)) if name == taken.as_bytes() => {
                    assert_eq!(error, Error::Errno(Errno::EEXIST));
                    assert_eq!(to.read(format!("/to/{taken}")).unwrap(), b"kept");
                }
                (Some(content), Ok(Some(count))) => {
                    assert_eq!(count, content.len() as u64, "{seed}");
                    let path = [b"/to/", name].concat();
                    assert!(to.read(path).unwrap() == *content, "{seed}");
                    copied += 1;
                }
                // Without a type it is left alone.
                (_, Ok(None)) if content.is_none() || entry.known_type().is_none() => {}
                (_, count) => panic!("{seed}: {name:?}: {count:?}"),
            }
        }
        let listed = from.read_dir("/from").unwrap();
        let listed: Vec<_> = listed
            .map(|entry| entry.unwrap().file_name().to_vec())
            .collect();
        assert_eq!(order, listed, "{seed}: in the order of the listing");
        let there_now = there.fs.read_dir("/to").unwrap().count();
        assert_eq!(there_now, copied + 1, "{seed}: nothing else was made");
        drop((from, to));
        here.finish();
        there.finish();
    }
}

#[test]
fn what_is_removed_is_what_was_meant() {
    for seed in 0..12 {
        let bed = wild(seed);
        let fs = &bed.fs;
        let mut random = Random::new(seed);
        let files = fill(fs, &mut random, "/d");
        let count = fs.read_dir("/d").unwrap().count();
        let listing = fs.read_dir("/d").unwrap();
        let is_meant = |name: &[u8]| name.last().is_some_and(|byte| byte % 2 == 0);
        let mut left = 0;
        for entry in listing.removing(move |entry| is_meant(entry.file_name())) {
            let (entry, removed) = entry.unwrap();
            let path = entry.path();
            let is_dir = fs.symlink_metadata(&path).is_ok_and(|found| found.is_dir());
            match removed {
                Some(Ok(())) => assert!(!fs.exists(&path).unwrap(), "{seed}"),
                // Only where the listing does not tell.
                Some(Err(error)) => {
                    assert_eq!(error, Error::Errno(Errno::EISDIR), "{seed}");
                    assert!(is_dir && entry.known_type().is_none(), "{seed}");
                    left += 1;
                }
                None => {
                    assert!(is_dir || !is_meant(entry.file_name()), "{seed}");
                    left += 1;
                }
            }
        }
        let stays = fs.read_dir("/d").unwrap().count();
        assert_eq!(stays, left, "{seed}: of {count}");
        for (name, content) in files.iter().filter(|(name, _)| !is_meant(name)) {
            assert!(fs.read([b"/d/", name.as_slice()].concat()).unwrap() == *content);
        }
        // All of it, with directories in it that have files themselves.
        fill(fs, &mut random, "/d/more");
        fs.remove_dir_all("/d").unwrap();
        assert!(!fs.exists("/d").unwrap());
        bed.finish();
    }
}

/// Ctrl-C ends what is under way; nothing is lost of what was not begun.
#[test]
fn what_is_interrupted_can_be_done_again() {
    let bed = bed_with(LaneOptions::default(), MemOptions::default(), |server| {
        for n in 0..100 {
            server.put(&format!("/d/{n}"), b"x");
        }
    });
    let fs = &bed.fs;
    fs.create_dir("/e").unwrap();
    let interrupt = fs.to_async().session().interrupt();
    let mut copying = fs.read_dir("/d").unwrap().copying_to(fs, "/e").unwrap();
    let (_, first) = copying.next().unwrap().unwrap();
    assert_eq!(first, Ok(Some(1)));
    interrupt.set();
    let rest = copying.filter(|entry| !matches!(entry, Ok((_, Ok(_)))));
    assert!(rest.count() > 0);
    assert_eq!(fs.remove_dir_all("/d"), Err(Error::Interrupted));
    interrupt.clear();
    assert_eq!(fs.read_dir("/d").unwrap().count(), 100);
    for dir in ["/d", "/e"] {
        fs.remove_dir_all(dir).unwrap();
    }
    bed.finish();
}
