//! Requests that are in flight when the connection is lost are done again, told as done, or told as unknown, and never
//! done twice (docs/lost-backends.md).

use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Error, Fs, LockRange, OpenOptions, Permissions};
use xen9p::p9::session::Config;
use xen9p::p9::wire::{QidKind, kind};
use xen9p_testing::server::lanes::{Control, LaneOptions};

use xen9p_testing::bed::recovering::{site, site_with};
use xen9p_testing::random::content;

#[test]
fn reading_goes_on_where_it_was() {
    for lane_count in [1, 2, 8] {
        let site = site_with(LaneOptions {
            lanes: lane_count,
            capacity: 1 << 18,
            latency: (Duration::from_micros(10), Duration::from_micros(500)),
            ..LaneOptions::default()
        });
        let expected = content(5_000_000);
        site.server.borrow_mut().put("/d/file", &expected);
        let file = site.fs.open("/d/file").unwrap();
        let mut found = Vec::new();
        let mut losses = 0;
        while found.len() < expected.len() {
            if losses < 20 {
                site.lose_at(&[kind::TREAD], losses % 5, losses % 2 == 0);
                losses += 1;
            }
            let mut part = vec![0; 777_777];
            let count = file.read(&mut part).unwrap();
            found.extend_from_slice(&part[..count]);
        }
        assert!(found == expected);
        assert!(site.fs.stats().recoveries >= 7);
        drop(file);
        site.end();
    }
}

#[test]
fn small_reads_go_on_too() {
    let site = site();
    let expected = content(300_000);
    site.server.borrow_mut().put("/file", &expected);
    let file = site.fs.open("/file").unwrap();
    let mut found = Vec::new();
    let mut part = [0; 1000];
    for round in 0.. {
        if round % 50 == 0 {
            site.lose();
        }
        let count = file.read(&mut part).unwrap();
        found.extend_from_slice(&part[..count]);
        if count == 0 {
            break;
        }
    }
    assert!(found == expected);
    assert!(site.fs.stats().recoveries >= 3);
    drop(file);
    site.end();
}

#[test]
fn writing_at_a_place_is_done_again() {
    for done in [true, false] {
        let site = site();
        let expected = content(3_000_000);
        let file = site.fs.create("/file").unwrap();
        for (index, part) in expected.chunks(600_000).enumerate() {
            site.lose_at(&[kind::TWRITE], index, done);
            file.write_all(part).unwrap();
        }
        site.lose_at(&[kind::TFSYNC], 0, done);
        file.sync_all().unwrap();
        file.close().unwrap();
        assert!(site.server.borrow().get("/file").unwrap() == expected);
        let stats = site.fs.stats();
        assert_eq!(stats.losses, stats.recoveries);
        assert!(stats.losses >= 3);
        site.end();
    }
}

#[test]
fn what_is_written_behind_arrives() {
    let site = site();
    let expected = content(2_000_000);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).write_behind(64 << 10);
    let file = options.open(&site.fs, "/file").unwrap();
    for (index, part) in expected.chunks(1000).enumerate() {
        if index % 100 == 50 {
            site.lose_at(&[kind::TWRITE], 0, index % 200 == 50);
        }
        file.write_all(part).unwrap();
    }
    file.close().unwrap();
    assert!(site.server.borrow().get("/file").unwrap() == expected);
    site.finish(20);
}

#[test]
fn looking_is_done_again() {
    type Look = fn(&Fs) -> Result<(), Error>;
    let looks: [(&str, Look, &[u8]); 9] = [
        (
            "metadata",
            |fs| fs.metadata("/d/e/f").map(drop),
            &[kind::TWALK, kind::TGETATTR],
        ),
        (
            "read",
            |fs| fs.read("/d/e/f").map(drop),
            &[kind::TWALK, kind::TLOPEN, kind::TREAD],
        ),
        (
            "read_dir",
            |fs| fs.read_dir("/d/e").map(|list| assert_eq!(list.count(), 2)),
            &[kind::TWALK, kind::TLOPEN],
        ),
        (
            "read_link",
            |fs| fs.read_link("/d/e/l").map(drop),
            &[kind::TREADLINK],
        ),
        (
            "canonicalize",
            |fs| fs.canonicalize("/d/e/l").map(drop),
            &[kind::TWALK, kind::TREADLINK],
        ),
        ("statfs", |fs| fs.statfs("/d").map(drop), &[kind::TSTATFS]),
        (
            "exists",
            |fs| fs.exists("/d/e/none").map(|there| assert!(!there)),
            &[kind::TWALK],
        ),
        (
            "list_xattrs",
            |fs| fs.list_xattrs("/d").map(drop),
            &[kind::TWALK],
        ),
        (
            "open without truncating",
            |fs| {
                OpenOptions::new()
                    .write(true)
                    .create(true)
                    .open(fs, "/d/e/f")?
                    .close()
            },
            &[kind::TLOPEN, kind::TCLUNK],
        ),
    ];
    for (name, look, kinds) in looks {
        for &kind in kinds {
            for done in [true, false] {
                let site = site();
                site.server.borrow_mut().put("/d/e/f", b"content");
                site.fs.symlink("f", "/d/e/l").unwrap();
                site.lose_at(&[kind], 0, done);
                assert_eq!(look(&site.fs), Ok(()), "{name}, {}", kind::name(kind));
                assert_eq!(site.fs.read("/d/e/f").unwrap(), b"content");
                site.finish(1);
            }
        }
    }
}

#[test]
fn what_would_be_wrong_twice_is_told_once() {
    type Act = fn(&Fs) -> Result<(), Error>;
    let acts: [(&str, u8, Act); 12] = [
        ("create_dir", kind::TMKDIR, |fs| fs.create_dir("/new")),
        ("create", kind::TLCREATE, |fs| fs.create("/new").map(drop)),
        ("symlink", kind::TSYMLINK, |fs| fs.symlink("f", "/new")),
        ("mknod", kind::TMKNOD, |fs| {
            fs.mknod("/new", 0o010_600, 0, 0)
        }),
        ("hard_link", kind::TLINK, |fs| fs.hard_link("/f", "/new")),
        ("rename", kind::TRENAMEAT, |fs| fs.rename("/f", "/new")),
        ("remove_file", kind::TUNLINKAT, |fs| fs.remove_file("/f")),
        ("remove_dir", kind::TUNLINKAT, |fs| fs.remove_dir("/dir")),
        ("truncate", kind::TSETATTR, |fs| fs.truncate("/f", 1)),
        ("set_permissions", kind::TSETATTR, |fs| {
            fs.set_permissions("/f", Permissions::from_mode(0o640))
        }),
        ("open, truncating", kind::TLOPEN, |fs| {
            OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(fs, "/f")
                .map(drop)
        }),
        ("set_xattr", kind::TCLUNK, |fs| {
            fs.set_xattr("/f", "user.a", b"1")
        }),
    ];
    for (name, kind, act) in acts {
        for done in [true, false] {
            let site = site();
            site.server.borrow_mut().put("/f", b"content");
            site.fs.create_dir("/dir").unwrap();
            site.lose_at(&[kind], 0, done);
            assert_eq!(act(&site.fs), Err(Error::MaybeApplied), "{name}");
            assert!(site.fs.metadata("/").is_ok());
            let served = site.control.borrow().count(kind);
            assert_eq!(served, 0, "{name} is not asked for again");
            // From here on the answers are the new server's.
            let again = act(&site.fs);
            let twice_is_once = [
                "create",
                "truncate",
                "set_permissions",
                "open, truncating",
                "set_xattr",
            ];
            if !done || twice_is_once.contains(&name) {
                assert_eq!(again, Ok(()), "{name}");
            } else {
                assert!(
                    matches!(again, Err(Error::Errno(Errno::EEXIST | Errno::ENOENT))),
                    "{name}: {again:?}"
                );
            }
            site.finish(1);
        }
    }
}

#[test]
fn appending_is_not_repeated() {
    for done in [true, false] {
        let site = site();
        site.server.borrow_mut().put("/log", b"first\n");
        let log = OpenOptions::new()
            .append(true)
            .open(&site.fs, "/log")
            .unwrap();
        site.lose_at(&[kind::TWRITE], 0, done);
        assert_eq!(log.write_all(b"second\n"), Err(Error::MaybeApplied));
        log.write_all(b"third\n").unwrap();
        log.close().unwrap();
        let expected: &[u8] = match done {
            true => b"first\nsecond\nthird\n",
            false => b"first\nthird\n",
        };
        assert_eq!(site.server.borrow().get("/log").unwrap(), expected);
        site.finish(1);
    }
}

/// A file may be append-only whatever it was opened for: its qid says so.
#[test]
fn writing_to_an_append_only_file_is_not_repeated() {
    let append_only = |control: &Control| {
        control.tamper(|request, mut reply| {
            // The kind in the last qid of the reply.
            match reply[4] {
                kind::RWALK if request[4] == kind::TWALK && reply.len() > 9 => {
                    let last = reply.len() - 13;
                    reply[last] |= QidKind::APPEND.bits();
                }
                kind::RLOPEN => reply[7] |= QidKind::APPEND.bits(),
                _ => {}
            }
            vec![reply]
        });
    };
    let site = site();
    site.server.borrow_mut().put("/log", b"first\n");
    append_only(&site.control.borrow());
    site.while_away(move |_, control| append_only(control));
    let mut options = OpenOptions::new();
    let log = options.write(true).open(&site.fs, "/log").unwrap();
    site.lose_at(&[kind::TWRITE], 0, true);
    assert_eq!(log.write_all_at(b"second\n", 6), Err(Error::MaybeApplied));
    log.write_all_at(b"third\n", 13).unwrap();
    assert_eq!(site.control.borrow().count(kind::TWRITE), 1);
    drop(log);
    site.finish(1);
}

/// A large read or write has many requests in flight. One loss concerns all of them, and counts once.
#[test]
fn a_transfer_survives_as_many_losses_as_one_request() {
    for request in [kind::TREAD, kind::TWRITE] {
        let site = site_with(LaneOptions {
            capacity: 1 << 16,
            ..LaneOptions::default()
        });
        let expected = content(1_000_000);
        site.server.borrow_mut().put("/file", &expected);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&site.fs, "/file")
            .unwrap();
        site.while_away(move |number, control| {
            if number < 3 {
                control.lose_at(&[request], 0, false);
            }
        });
        site.lose_at(&[request], 0, false);
        let count = match request {
            kind::TREAD => file.read_at(&mut vec![0; expected.len()], 0),
            _ => file.write_at(&expected, 0),
        };
        assert_eq!(count, Ok(expected.len()), "{}", kind::name(request));
        drop(file);
        site.finish(3);
    }
}

/// A file is dropped, and when its Tclunk asks for room the connection turns out to be lost: it is done then, and leaves
/// neither its tag nor its fid in use.
#[test]
fn closing_that_finds_the_connection_lost_is_done() {
    // On one lane the answer to the last request is the last answer.
    let site = site_with(LaneOptions::default());
    site.fs.write("/file", b"content").unwrap();
    let session = site.fs.to_async().session().clone();
    // More often than there are tags.
    let rounds = 2 * Config::default().window;
    for round in 1..=rounds {
        let file = site.fs.open("/file").unwrap();
        file.metadata().unwrap();
        drop(file);
        let served = site.control.borrow().served().len();
        site.lose();
        session.pump();
        assert_eq!(site.fs.stats().losses, u64::from(round));
        assert_eq!(session.fids_in_use(), 1, "the root's, round {round}");
        assert_eq!(site.control.borrow().served().len(), served);
        // The next one finds another server.
        session.pump();
        assert_eq!(site.fs.stats().recoveries, u64::from(round));
    }
    assert_eq!(site.fs.read("/file").unwrap(), b"content");
    drop(session);
    site.finish(rounds.into());
}

/// As above for a file that had a lock, which no server can give again: then its Tclunk can't be answered for the server.
#[test]
fn what_is_given_up_with_the_connection_leaves_no_fid() {
    let site = site_with(LaneOptions::default());
    site.fs.write("/file", b"content").unwrap();
    let session = site.fs.to_async().session().clone();
    for round in 1..=5 {
        let mut options = OpenOptions::new();
        let file = options.write(true).open(&site.fs, "/file").unwrap();
        let lock = file.try_lock(LockRange::ALL, true).unwrap();
        drop(lock.expect("free"));
        file.metadata().unwrap();
        drop(file);
        site.lose();
        session.pump();
        assert_eq!(site.fs.stats().losses, round);
        assert_eq!(session.fids_in_use(), 1, "the root's, round {round}");
        session.pump();
    }
    assert_eq!(site.fs.read("/file").unwrap(), b"content");
    drop(session);
    site.finish(5);
}

/// Requests that were sent back to back are lost at any point, by a server that had done the one that was in flight, or not.
#[test]
fn a_loss_in_the_middle_of_a_burst_is_as_any_other() {
    type Act = fn(&Fs) -> Result<(), Error>;
    let acts: [(&str, bool, Act); 5] = [
        ("stat", true, |fs| {
            assert_eq!(fs.metadata("/d/f")?.len(), 7);
            Ok(())
        }),
        ("read", true, |fs| {
            assert_eq!(fs.read("/d/f")?, b"content");
            Ok(())
        }),
        ("stat of nothing", true, |fs| {
            let missing = fs.metadata("/d/none/at/all").map(drop);
            assert_eq!(missing, Err(Errno::ENOENT.into()));
            Ok(())
        }),
        ("list", true, |fs| {
            let listing = fs.read_dir("/d")?.with_metadata();
            let all: Result<Vec<_>, Error> = listing.collect();
            all?.into_iter()
                .try_for_each(|(_, metadata)| metadata.map(drop))
        }),
        ("create", false, |fs| fs.create("/d/new")?.close()),
    ];
    for (name, is_harmless, act) in acts {
        for (after, done) in (0..16).flat_map(|after| [(after, false), (after, true)]) {
            let what = format!("{name}, after {after} requests, done: {done}");
            let site = site();
            site.server.borrow_mut().put("/d/f", b"content");
            // The directory is kept, so that files are made in it with a fid of their own.
            for number in 0..3 {
                site.fs.create_dir(format!("/d/{number}")).unwrap();
            }
            site.fs.to_async().session().pump();
            site.fs.metadata("/").unwrap();
            site.lose_at(&[], after, done);
            match act(&site.fs) {
                Ok(()) => {}
                Err(Error::MaybeApplied) if !is_harmless => {
                    // It is there or not, and can be seen to be.
                    site.fs.exists("/d/new").unwrap();
                }
                // As the table has it, a listing is not gone on with on another connection.
                Err(Error::Stale) if name == "list" => {}
                Err(error) => panic!("{what}: {error}"),
            }
            // The loss may be still to come.
            for _ in 0..20 {
                site.fs.metadata("/d/f").unwrap();
            }
            assert_eq!(
                site.fs.read_dir("/d").unwrap().count(),
                match site.fs.exists("/d/new") {
                    Ok(true) => 5,
                    _ => 4,
                }
            );
            site.finish(1);
        }
    }
}
