//! A connection that is lost and found again: what goes on, what ends, and what is never done twice.

mod fs_common;

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use fs_common::Chance;
use xen9p::errno::Errno;
use xen9p::fs::{Error, File, Fs, LockRange, MountOptions, OpenOptions, Permissions, SeekFrom};
use xen9p::p9::Dialect;
use xen9p::p9::session::Recovery;
use xen9p::p9::wire::{Reply, Tag, kind};
use xen9p::transport::{Transport, TransportError};
use xen9p_testing::server::lanes::{Control, LaneOptions, Lanes, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

const PATIENCE: Duration = Duration::from_secs(10);

/// What happens while there is no connection; gets the number of the try and the control of the new connection.
type Outage = Box<dyn FnMut(usize, &Control)>;

/// A mount whose server can go away and come back.
struct Site {
    fs: Fs,
    server: Rc<RefCell<MemServer>>,
    options: Rc<RefCell<LaneOptions>>,
    control: Rc<RefCell<Control>>,
    outage: Rc<RefCell<Option<Outage>>>,
    tries: Rc<RefCell<usize>>,
}

fn connect(options: &LaneOptions, server: &Rc<RefCell<MemServer>>) -> (Lanes, Control) {
    let serving = server.clone();
    lanes(options.clone(), move |request| {
        serving.borrow_mut().handle(request)
    })
}

fn site() -> Site {
    site_with(LaneOptions {
        lanes: 2,
        latency: (Duration::from_micros(10), Duration::from_micros(500)),
        ..LaneOptions::default()
    })
}

fn site_with(options: LaneOptions) -> Site {
    let server = Rc::new(RefCell::new(MemServer::new(MemOptions::default())));
    let (transport, control) = connect(&options, &server);
    let control = Rc::new(RefCell::new(control));
    let options = Rc::new(RefCell::new(options));
    let outage: Rc<RefCell<Option<Outage>>> = Rc::default();
    let tries = Rc::new(RefCell::new(0));
    let redial = {
        let (server, options, control) = (server.clone(), options.clone(), control.clone());
        let (outage, tries) = (outage.clone(), tries.clone());
        move || {
            assert!(
                control.borrow().is_closed(),
                "closed before a new one is made"
            );
            let now = control.borrow().now();
            let mut options = options.borrow_mut();
            options.seed += 1;
            let (transport, fresh) = connect(&options, &server);
            fresh.advance(Duration::from_nanos(
                now.as_nanos() - fresh.now().as_nanos(),
            ));
            fresh.advance(Duration::from_millis(100));
            *tries.borrow_mut() += 1;
            if let Some(outage) = &mut *outage.borrow_mut() {
                outage(*tries.borrow(), &fresh);
            }
            *control.borrow_mut() = fresh;
            let transport: Box<dyn Transport> = Box::new(transport);
            Ok(Some(transport))
        }
    };
    let fs = Fs::mount_recovering(
        transport,
        &MountOptions::new(),
        Recovery::new(redial, PATIENCE),
    )
    .unwrap();
    Site {
        fs,
        server,
        options,
        control,
        outage,
        tries,
    }
}

impl Site {
    fn lose_at(&self, kinds: &[u8], after: usize, done: bool) {
        self.control.borrow().lose_at(kinds, after, done);
    }

    fn lose(&self) {
        self.control.borrow().lose("for a test");
    }

    fn while_away(&self, outage: impl FnMut(usize, &Control) + 'static) {
        *self.outage.borrow_mut() = Some(Box::new(outage));
    }

    /// Another client's hands on the server's files.
    fn meanwhile(&self, act: impl Fn(&Fs) + 'static) {
        let (server, options) = (self.server.clone(), self.options.borrow().clone());
        self.while_away(move |_, _| {
            // A server in memory forgets fids with each Tversion, as QEMU does: ours are gone already.
            let (transport, _) = connect(&options, &server);
            act(&Fs::mount(transport, &MountOptions::new()).unwrap());
        });
    }

    fn finish(self, recoveries: u64) {
        let stats = self.fs.stats();
        assert_eq!((stats.losses, stats.recoveries), (recoveries, recoveries));
        self.end();
    }

    fn end(self) {
        let Site {
            fs,
            server,
            control,
            ..
        } = self;
        drop(fs);
        assert_eq!(server.borrow().fids(), 0, "fids left on the server");
        assert_eq!(
            control.borrow().reserved(),
            0,
            "reply budget not given back"
        );
        assert!(control.borrow().is_closed());
    }
}

fn content(len: usize) -> Vec<u8> {
    let mut chance = Chance::new(len as u64);
    (0..len).map(|_| chance.next() as u8).collect()
}

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
    let expected = content(400_000);
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
    site.finish(4);
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

#[test]
fn opening_again_neither_truncates_nor_creates() {
    let site = site();
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    let file = options.open(&site.fs, "/file").unwrap();
    file.write_all(b"kept").unwrap();
    site.lose();
    file.write_all_at(b"!", 4).unwrap();
    assert_eq!(site.server.borrow().get("/file").unwrap(), b"kept!");

    let fresh = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&site.fs, "/fresh")
        .unwrap();
    site.meanwhile(|fs| fs.remove_file("/fresh").unwrap());
    site.lose();
    assert_eq!(fresh.write_all(b"x"), Err(Error::Stale));
    assert!(!site.fs.exists("/fresh").unwrap());
    drop((file, fresh));
    site.finish(2);
}

#[test]
fn another_file_in_its_place_is_stale_and_nothing_else() {
    let site = site();
    for name in ["/replaced", "/moved", "/gone", "/same"] {
        site.fs.write(name, name).unwrap();
    }
    let [replaced, moved, gone, same] =
        ["/replaced", "/moved", "/gone", "/same"].map(|name| site.fs.open(name).unwrap());
    site.meanwhile(|fs| {
        fs.write("/other", b"foreign data").unwrap();
        fs.rename("/other", "/replaced").unwrap();
        fs.rename("/moved", "/elsewhere").unwrap();
        fs.remove_file("/gone").unwrap();
    });
    site.lose();
    let mut buffer = [0; 100];
    assert_eq!(same.read(&mut buffer), Ok(5));
    for file in [&replaced, &moved, &gone] {
        assert_eq!(file.read(&mut buffer), Err(Error::Stale));
        assert_eq!(file.metadata().map(drop), Err(Error::Stale));
    }
    assert_eq!(site.fs.read("/replaced").unwrap(), b"foreign data");
    assert_eq!(site.fs.stats().stale, 3);
    assert_eq!(gone.close(), Err(Error::Stale));
    drop((replaced, moved, same));
    site.finish(1);
}

#[test]
fn what_was_renamed_by_us_is_found() {
    let site = site();
    site.fs.create_dir_all("/a/b").unwrap();
    site.fs.write("/a/b/file", b"content").unwrap();
    site.fs.write("/a/bc", b"other").unwrap();
    let file = site.fs.open("/a/b/file").unwrap();
    let other = site.fs.open("/a/bc").unwrap();
    site.fs.rename("/a/b", "/a/moved").unwrap();
    site.fs.rename("/a/moved/file", "/named").unwrap();
    site.lose();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    other.read_to_string(&mut text).unwrap();
    assert_eq!(text, "contentother");
    drop((file, other));
    site.finish(1);
}

#[test]
fn a_lock_is_lost_with_the_connection() {
    let site = site();
    site.fs.write("/file", b"x").unwrap();
    let file = OpenOptions::new()
        .write(true)
        .open(&site.fs, "/file")
        .unwrap();
    let lock = file.try_lock(LockRange::ALL, true).unwrap().expect("free");
    site.lose();
    assert_eq!(file.write_at(b"y", 0), Err(Error::Stale));
    drop(lock);
    assert_eq!(site.server.borrow().get("/file").unwrap(), b"x");
    drop(file);
    site.finish(1);
}

#[test]
fn listings_begin_anew_or_end_honestly() {
    let site = site();
    for index in 0..3000 {
        site.fs.write(format!("/{index:0100}"), b"").unwrap();
    }
    let mut fresh = site.fs.read_dir("/").unwrap();
    let mut begun = site.fs.read_dir("/").unwrap();
    assert!(begun.next().unwrap().is_ok());
    site.lose();
    assert_eq!(fresh.by_ref().map(Result::unwrap).count(), 3000);
    // What was there already is still given.
    let rest: Vec<_> = begun.by_ref().collect();
    let (last, others) = rest.split_last().unwrap();
    assert!(others.iter().all(Result::is_ok) && others.len() < 2999);
    assert_eq!(last.as_ref().map(drop), Err(&Error::Stale));
    begun.seek(0);
    assert_eq!(begun.map(Result::unwrap).count(), 3000);
    drop((fresh, rest));
    site.finish(1);
}

#[test]
fn losses_while_it_is_found_again() {
    let site = site();
    for index in 0..10 {
        site.fs
            .write(format!("/{index}"), format!("{index}"))
            .unwrap();
    }
    let files: Vec<_> = (0..10)
        .map(|index| site.fs.open(format!("/{index}")).unwrap())
        .collect();
    // Lost at the first request of the new connection, then at the second …
    site.while_away(|number, control| {
        if number <= 25 {
            control.lose_at(&[], number - 1, number % 2 == 0);
        }
    });
    site.lose();
    for (index, file) in files.iter().enumerate() {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, index.to_string());
    }
    assert_eq!(*site.tries.borrow(), 26);
    drop(files);
    site.end();
}

#[test]
fn a_request_that_is_lost_each_time_ends() {
    let site = site();
    site.fs.write("/file", b"x").unwrap();
    site.while_away(|_, control| control.lose_at(&[kind::TGETATTR], 0, false));
    site.lose_at(&[kind::TGETATTR], 0, false);
    assert!(matches!(
        site.fs.metadata("/file"),
        Err(Error::Transport(_))
    ));
    *site.outage.borrow_mut() = None;
    site.lose();
    assert!(site.fs.metadata("/file").is_ok());
    site.end();
}

#[test]
fn silence_is_a_loss() {
    let site = site();
    site.fs.write("/file", b"content").unwrap();
    site.control.borrow().hold(&[kind::TREAD]);
    assert_eq!(site.fs.read("/file").unwrap(), b"content");
    site.finish(1);
}

#[test]
fn a_tflush_without_answer_is_a_loss() {
    let site = site();
    site.fs.write("/file", b"content").unwrap();
    let fs = site.fs.to_async();
    site.control.borrow().hold(&[kind::TGETATTR, kind::TFLUSH]);
    {
        let mut look = pin!(fs.metadata("/"));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..10 {
            assert!(look.as_mut().poll(&mut cx).is_pending());
            fs.session().pump();
            site.control.borrow().advance(Duration::from_millis(1));
        }
    }
    assert_eq!(site.fs.stats().flushes, 1);
    let before = site.control.borrow().now();
    while site.fs.stats().recoveries == 0 {
        let now = site.control.borrow().now();
        assert!(now - before < fs.session().timeout() * 2);
        fs.session().wait(now + Duration::from_secs(1));
    }
    assert_eq!(site.fs.read("/file").unwrap(), b"content");
    drop(fs);
    site.finish(1);
}

/// A server that has begun anew behind the back of a transport that is still there: QEMU when it is restarted and maps
/// the rings of the one before, a proxy that has connected to its server again.
#[test]
fn a_server_that_knows_no_fids_is_left() {
    let answers = [
        (
            // QEMU before anybody has asked it for a dialect.
            "in another dialect",
            Dialect::Unix,
            Reply::Error {
                ename: b"No such file or directory",
                errno: 2,
            },
        ),
        (
            "EBADF",
            Dialect::Linux,
            Reply::Lerror {
                ecode: Errno::EBADF.number().into(),
            },
        ),
    ];
    for (name, dialect, answer) in answers {
        type Look = fn(&Fs, &File) -> Result<(), Error>;
        let looks: [(&str, Look); 6] = [
            ("stat", |fs, _| fs.metadata("/d/file").map(drop)),
            ("open", |fs, _| fs.open("/d/file").map(drop)),
            ("mkdir", |fs, _| fs.create_dir("/d/new")),
            ("read", |_, file| file.read_at(&mut [0; 4], 0).map(drop)),
            ("write", |_, file| file.write_all_at(b"x", 9)),
            ("attributes", |_, file| file.metadata().map(drop)),
        ];
        for (what, look) in looks {
            let site = site();
            site.fs.create_dir("/d").unwrap();
            site.fs.write("/d/file", b"content").unwrap();
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true);
            let file = file.open(&site.fs, "/d/file").unwrap();
            site.control.borrow().tamper(move |request, _| {
                let mut bytes = vec![0; 100];
                let tag = Tag(u16::from_le_bytes([request[5], request[6]]));
                let size = answer.encode(tag, dialect, &mut bytes).unwrap();
                bytes.truncate(size);
                vec![bytes]
            });
            assert_eq!(look(&site.fs, &file), Ok(()), "{name}, {what}");
            drop(file);
            site.finish(1);
        }
    }
}

/// What a server may say of files, and does not mean that it has forgotten them.
#[test]
fn refusals_that_are_about_the_file_are_told() {
    let site = site();
    site.fs.write("/file", b"content").unwrap();
    let file = site.fs.open("/file").unwrap();
    // Not open for that; gone; no such attribute; half a walk.
    assert!(file.write_at(b"x", 0).is_err());
    let missing = Err(Error::Errno(Errno::ENOENT));
    assert_eq!(site.fs.metadata("/none").map(drop), missing);
    assert_eq!(site.fs.metadata("/none/at/all").map(drop), missing);
    assert_eq!(site.fs.read("/d/e").map(drop), missing);
    site.fs.remove_file("/file").unwrap();
    let _ = file.metadata();
    let _ = site.fs.xattr("/", "user.none");
    file.close().unwrap();
    site.finish(0);
}

#[test]
fn a_server_that_lies_is_left() {
    let site = site();
    site.fs.write("/file", b"content").unwrap();
    let file = site.fs.open("/file").unwrap();
    site.control.borrow().tamper(|_, mut reply| {
        reply[4] = kind::RVERSION;
        vec![reply]
    });
    // What found out is told; what else was in flight is not.
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    drop(file);
    site.finish(1);
}

#[test]
fn what_a_new_server_cannot_do_is_refused() {
    type Bend = fn(&mut LaneOptions, &mut MemOptions);
    type Expected = fn(&Error) -> bool;
    let bends: [(&str, Bend, Expected); 3] = [
        (
            "smaller messages of the transport",
            |lanes, _| lanes.capacity /= 2,
            |error| matches!(error, Error::MessageSize(_)),
        ),
        (
            "smaller messages of the server",
            |_, server| server.msize = 8192,
            |error| matches!(error, Error::MessageSize(8192)),
        ),
        (
            "another number of rings",
            |lanes, _| lanes.lanes = 3,
            |error| matches!(error, Error::InvalidInput(_)),
        ),
    ];
    for (name, bend, expected) in bends {
        let site = site();
        site.fs.write("/file", b"x").unwrap();
        let mut server = MemOptions::default();
        bend(&mut site.options.borrow_mut(), &mut server);
        *site.server.borrow_mut() = MemServer::new(server);
        site.lose();
        let error = site.fs.read("/file").unwrap_err();
        assert!(expected(&error), "{name}: {error:?}");
        assert_eq!(site.fs.read("/file").unwrap_err(), error, "{name}");
    }
}

#[test]
fn fewer_rings_will_do() {
    let site = site_with(LaneOptions {
        lanes: 8,
        ..LaneOptions::default()
    });
    let expected = content(2_000_000);
    site.fs.write("/file", &expected).unwrap();
    let file = site.fs.open("/file").unwrap();
    site.options.borrow_mut().lanes = 4;
    site.lose_at(&[kind::TREAD], 1, false);
    let mut found = Vec::new();
    file.read_to_end(&mut found).unwrap();
    assert!(found == expected);
    drop(file);
    site.finish(1);
}

#[test]
fn another_tree_makes_all_files_stale() {
    let site = site();
    site.fs.write("/file", b"x").unwrap();
    let file = site.fs.open("/file").unwrap();
    site.lose();
    let other = MemServer::new(MemOptions::default());
    *site.server.borrow_mut() = other;
    // The root is a root like any other here; the file is not there.
    assert_eq!(file.read(&mut [0; 1]), Err(Error::Stale));
    assert_eq!(site.fs.read("/file"), Err(Error::Errno(Errno::ENOENT)));
    drop(file);
    site.finish(1);
}

#[test]
fn patience_ends() {
    let (transport, control) = {
        let mut server = MemServer::new(MemOptions::default());
        lanes(LaneOptions::default(), move |request| {
            server.handle(request)
        })
    };
    let watch = control.clone();
    let redial = move || {
        watch.advance(Duration::from_secs(1));
        Ok(None)
    };
    let recovery = Recovery::new(redial, PATIENCE);
    let fs = Fs::mount_recovering(transport, &MountOptions::new(), recovery).unwrap();
    let before = control.now();
    control.lose("for ever");
    let lost = Error::Transport(TransportError::Lost("for ever"));
    assert_eq!(fs.metadata("/").map(drop), Err(lost));
    assert_eq!(control.now() - before, PATIENCE);
    assert_eq!(fs.create_dir("/x"), Err(lost));
}

#[test]
fn an_interrupt_ends_the_search_and_another_operation_takes_it_up() {
    let site = site();
    site.fs.write("/file", b"content").unwrap();
    let file = site.fs.open("/file").unwrap();
    let interrupt = site.fs.interrupt();
    site.fs.set_idle_hook(Some(Box::new({
        let interrupt = interrupt.clone();
        move || interrupt.set()
    })));
    site.lose();
    assert_eq!(file.read(&mut [0; 1]), Err(Error::Interrupted));
    assert_eq!(*site.tries.borrow(), 0);
    site.fs.set_idle_hook(None);
    interrupt.clear();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    file.close().unwrap();
    let stats = site.fs.stats();
    assert_eq!((stats.losses, stats.recoveries), (1, 1));
    site.end();
}

#[test]
fn who_asks_from_within_the_search_is_told_at_once() {
    let site = site();
    site.fs.write("/file", b"content").unwrap();
    let told = Rc::new(RefCell::new(Vec::new()));
    site.fs.set_idle_hook(Some(Box::new({
        let (fs, told) = (site.fs.clone(), told.clone());
        move || told.borrow_mut().push(fs.metadata("/file").map(drop))
    })));
    site.lose();
    assert_eq!(site.fs.read("/file").unwrap(), b"content");
    site.fs.set_idle_hook(None);
    assert!(matches!(told.borrow()[0], Err(Error::Transport(_))));
    site.finish(1);
}

#[test]
fn nobody_is_needed_to_close() {
    let site = site();
    site.fs.write("/file", b"x").unwrap();
    let file = site.fs.open("/file").unwrap();
    site.lose();
    let interrupt = site.fs.interrupt();
    interrupt.set();
    assert_eq!(file.metadata().map(drop), Err(Error::Interrupted));
    interrupt.clear();
    assert_eq!(file.close(), Ok(()));
    assert_eq!(site.fs.clone().unmount(), Ok(()));
    assert_eq!(*site.tries.borrow(), 0);
    let control = site.control.borrow().clone();
    drop(site);
    assert!(control.is_closed());
}

#[test]
fn a_hundred_losses_leave_nothing_behind() {
    let site = site();
    site.fs.create_dir("/dir").unwrap();
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true);
    let file = options.open(&site.fs, "/dir/file").unwrap();
    let session = site.fs.to_async().session().clone();
    let fids = session.fids_in_use();
    for round in 0..100_u8 {
        site.lose_at(&[], usize::from(round % 7), round % 2 == 0);
        file.write_all_at(&[round], round.into()).unwrap();
        let mut back = [0];
        file.read_exact_at(&mut back, round.into()).unwrap();
        assert_eq!(back, [round]);
        assert!(site.fs.metadata("/dir/file").is_ok());
        // The answer to the last clunk comes meanwhile.
        for _ in 0..4 {
            assert!(site.fs.metadata("/").is_ok());
        }
        assert_eq!(session.fids_in_use(), fids, "round {round}");
        // The root and the file.
        assert_eq!(site.server.borrow().fids(), 2, "round {round}");
    }
    assert!(site.fs.stats().recoveries >= 50);
    drop((file, session));
    site.end();
}

/// Anything that may be done again, with losses anywhere: in the end the file is what it is in the model.
#[test]
fn random_losses_change_nothing() {
    for seed in 1..40 {
        let site = site_with(LaneOptions {
            lanes: 1 + seed as u16 % 4,
            capacity: 1 << 16,
            latency: (Duration::ZERO, Duration::from_micros(300)),
            in_order: seed % 2 == 0,
            seed,
            ..LaneOptions::default()
        });
        let mut chance = Chance::new(seed);
        let mut model: Vec<u8> = Vec::new();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .open(&site.fs, "/file")
            .unwrap();
        for step in 0..60 {
            if chance.below(3) == 0 {
                site.lose_at(&[], chance.below(12), chance.below(2) == 0);
            }
            let offset = chance.below(200_000);
            let len = chance.below(150_000);
            match chance.below(4) {
                0 | 1 => {
                    let bytes: Vec<u8> = (0..len).map(|at| (at ^ step) as u8).collect();
                    file.write_all_at(&bytes, offset as u64).unwrap();
                    if len > 0 {
                        model.resize(model.len().max(offset + len), 0);
                        model[offset..offset + len].copy_from_slice(&bytes);
                    }
                }
                2 => {
                    let mut bytes = vec![0; len];
                    let mut done = 0;
                    while done < len {
                        match file
                            .read_at(&mut bytes[done..], (offset + done) as u64)
                            .unwrap()
                        {
                            0 => break,
                            count => done += count,
                        }
                    }
                    let there = model.get(offset..).unwrap_or(&[]);
                    assert!(
                        bytes[..done] == there[..len.min(there.len())],
                        "seed {seed}"
                    );
                }
                _ => {
                    assert_eq!(file.metadata().unwrap().len(), model.len() as u64);
                    assert_eq!(file.seek(SeekFrom::End(0)), Ok(model.len() as u64));
                }
            }
        }
        file.close().unwrap();
        assert!(site.fs.read("/file").unwrap() == model, "seed {seed}");
        site.end();
    }
}
