//! Files work on a server like xen-9pfsd, with 9P2000.u, nine requests and five fids, and a lost connection to it is
//! found again (docs/xen-backends.md).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Error, Fs, LockRange, MountOptions, OpenOptions};
use xen9p::p9::Dialect;
use xen9p::p9::session::Recovery;
use xen9p::p9::wire::*;
use xen9p::transport::Transport;
use xen9p_testing::server::lanes::{LaneOptions, lanes};
use xen9p_testing::server::xen9pfsd::Daemon;

#[test]
fn files_on_a_server_like_xen_9pfsd() {
    let daemon = Rc::new(RefCell::new(Daemon::default()));
    let serving = daemon.clone();
    let options = LaneOptions {
        lanes: 4,
        ..LaneOptions::default()
    };
    let (transport, control) = lanes(options, move |request| serving.borrow_mut().handle(request));
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    assert_eq!(fs.dialect(), Dialect::Unix);
    assert_eq!(fs.msize(), 32 << 10);

    // The root's attributes, by every way to it.
    assert!(fs.metadata("/").unwrap().is_dir());
    assert!(fs.metadata("/a/..").unwrap().is_dir());
    assert!(fs.open("/").unwrap().metadata().unwrap().is_dir());

    // Far more files than fids.
    fs.create_dir_all("/logs/old").unwrap();
    for index in 0..40 {
        let content = vec![index as u8; index * 3000];
        let path = format!("/logs/{index}");
        fs.write(&path, &content).unwrap();
        assert!(fs.read(&path).unwrap() == content);
        assert_eq!(fs.metadata(&path).unwrap().len(), content.len() as u64);
    }
    assert_eq!(fs.metadata("/logs/none"), Err(Error::Errno(Errno::ENOENT)));
    let mut names: Vec<_> = fs
        .read_dir("/logs")
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name_lossy().into_owned(),
                entry.file_type().unwrap().is_dir(),
            )
        })
        .collect();
    names.sort();
    assert_eq!(names.len(), 41);
    assert_eq!(names[40], ("old".into(), true));

    // Appending and making anew, which it has no words for.
    let mut append = OpenOptions::new();
    append.append(true).create(true);
    for text in ["one", ", two"] {
        let log = append.open(&fs, "/logs/log").unwrap();
        log.write_all(text.as_bytes()).unwrap();
        log.close().unwrap();
    }
    assert_eq!(fs.read("/logs/log").unwrap(), b"one, two");
    let mut new = OpenOptions::new();
    new.write(true).create_new(true);
    let taken = new.open(&fs, "/logs/log").map(drop);
    assert_eq!(taken, Err(Error::Errno(Errno::EEXIST)));
    fs.write("/logs/log", b"").unwrap();
    assert_eq!(fs.read("/logs/log").unwrap(), b"");

    // Removing by its only way.
    fs.remove_file("/logs/log").unwrap();
    assert!(!fs.exists("/logs/log").unwrap());

    // It follows links without a word: what looks like a directory in a directory may lead out of the tree.
    fs.create_dir_all("/deep/dir").unwrap();
    fs.write("/deep/dir/file", b"elsewhere").unwrap();
    fs.write("/deep/file", b"kept").unwrap();
    for dir in ["/deep", "/deep/dir"] {
        assert_eq!(fs.remove_dir_all(dir), Err(Error::HiddenLinks), "{dir}");
    }
    assert_eq!(fs.read("/deep/dir/file").unwrap(), b"elsewhere");
    assert_eq!(fs.read("/deep/file").unwrap(), b"kept");

    // What it lacks is said, not passed over.
    let file = fs.open("/logs/1").unwrap();
    assert!(matches!(file.sync_all(), Err(Error::Unsupported { .. })));
    assert!(matches!(
        file.try_lock(LockRange::ALL, true).map(drop),
        Err(Error::Unsupported { .. })
    ));
    assert_eq!(
        fs.rename("/logs/1", "/logs/x").unwrap_err().errno(),
        Errno::EOPNOTSUPP
    );
    assert_eq!(
        fs.truncate("/logs/1", 0).unwrap_err().errno(),
        Errno::EOPNOTSUPP
    );
    assert!(matches!(fs.statfs("/"), Err(Error::Unsupported { .. })));

    // A request that hangs, and a server that can't take it back.
    control.hold(&[kind::TREAD]);
    assert_eq!(file.read(&mut [0; 10]), Err(Error::TimedOut));
    control.release();
    assert_eq!(file.read(&mut [0; 10]), Ok(10));
    drop(file);
    drop(fs);
    assert!(daemon.borrow().fids.is_empty());
    assert_eq!(daemon.borrow().flushes, 1);
    assert_eq!(control.reserved(), 0);
}

fn mount(daemon: &Rc<RefCell<Daemon>>, msize: u32) -> Fs {
    let serving = daemon.clone();
    let (transport, _) = lanes(LaneOptions::default(), move |request| {
        serving.borrow_mut().handle(request)
    });
    Fs::mount(transport, &MountOptions::new().msize(msize)).unwrap()
}

/// Names that can be listed, and a directory of them in which the `bad`th entries lead nowhere.
fn with_dangling(count: usize, bad: impl Fn(usize) -> bool) -> (Daemon, Vec<String>) {
    let mut daemon = Daemon::default();
    daemon.files.insert("/d".into(), None);
    let mut names = Vec::new();
    for n in 0..count {
        let name = format!("{n:05}{}", "x".repeat(n * 37 % 200));
        if bad(n) {
            daemon.links.insert(format!("/d/{name}"), "/nowhere".into());
        } else {
            let content = Some(Vec::new());
            daemon.files.insert(format!("/d/{name}"), content);
            names.push(name);
        }
    }
    (daemon, names)
}

fn names_of(fs: &Fs) -> Vec<String> {
    let listed = fs.read_dir("/d").unwrap();
    listed
        .map(|entry| entry.unwrap().file_name_lossy().into_owned())
        .collect()
}

/// The daemon leaves out the entry that did not fit into an answer, and stops at one that leads nowhere. All others are
/// listed, once and in their order.
#[test]
fn listings_lose_nothing_but_what_leads_nowhere() {
    type Bad = fn(usize) -> bool;
    let cases: [(usize, Bad); 9] = [
        (0, |_| false),
        (1, |_| true),
        (1, |_| false),
        (700, |_| false),
        (40, |n| n == 0),
        (40, |n| n == 39),
        (400, |n| n % 90 == 7),
        (60, |n| (20..26).contains(&n)),
        (60, |n| n < 5),
    ];
    for (case, (count, bad)) in cases.into_iter().enumerate() {
        for msize in [4096, 5000, 32 << 10] {
            let (daemon, names) = with_dangling(count, bad);
            let daemon = Rc::new(RefCell::new(daemon));
            let fs = mount(&daemon, msize);
            assert_eq!(names_of(&fs), names, "case {case}, msize {msize}");
            let requests = daemon.borrow().requests;
            assert!(requests < 5_000, "case {case}, msize {msize}: {requests}");
        }
    }
}

/// A directory of which no entry can be looked at, on a server that is perhaps another, is an error after a few requests.
#[test]
fn a_directory_of_entries_that_lead_nowhere_is_an_error() {
    let (daemon, _) = with_dangling(50, |_| true);
    let daemon = Rc::new(RefCell::new(daemon));
    let fs = mount(&daemon, 4096);
    let first = fs.read_dir("/d").unwrap().next().unwrap();
    assert_eq!(first.map(drop), Err(Error::Errno(Errno::ENOENT)));
    assert!(daemon.borrow().requests < 200);
}

/// Recovery needs nothing of a dialect that this one has not.
#[test]
fn a_lost_connection_to_it_is_found_again() {
    let daemon = Rc::new(RefCell::new(Daemon::default()));
    let connect = {
        let daemon = daemon.clone();
        move || {
            let serving = daemon.clone();
            let options = LaneOptions::default();
            lanes(options, move |request| serving.borrow_mut().handle(request))
        }
    };
    let (transport, control) = connect();
    let control = Rc::new(RefCell::new(control));
    let redial = {
        let (daemon, control) = (daemon.clone(), control.clone());
        move || {
            // It forgets a frontend that has gone.
            daemon.borrow_mut().fids.clear();
            let (transport, fresh) = connect();
            *control.borrow_mut() = fresh;
            let transport: Box<dyn Transport> = Box::new(transport);
            Ok(Some(transport))
        }
    };
    let recovery = Recovery::new(redial, Duration::from_secs(10));
    let fs = Fs::mount_recovering(transport, &MountOptions::new(), recovery).unwrap();
    assert_eq!(fs.dialect(), Dialect::Unix);
    fs.create_dir("/d").unwrap();
    fs.write("/d/file", b"content").unwrap();
    let file = fs.open("/d/file").unwrap();
    control.borrow().lose_at(&[kind::TREAD], 0, true);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    control.borrow().lose_at(&[kind::TCREATE], 0, true);
    assert_eq!(fs.create_dir("/d/new"), Err(Error::MaybeApplied));
    assert!(fs.metadata("/d/new").unwrap().is_dir());
    control.borrow().lose(&"for a test");
    daemon.borrow_mut().files.remove("/d/file");
    assert_eq!(file.read_at(&mut [0; 4], 0), Err(Error::Stale));
    assert_eq!(fs.stats().recoveries, 3);

    // A file is removed there when its fid, opened for that, is clunked: one that is there still was not removed.
    let mut unknown = 0;
    for after in 0..5 {
        fs.write("/d/gone", b"").unwrap();
        control.borrow().lose_at(&[kind::TCLUNK], after, false);
        match fs.remove_file("/d/gone") {
            Ok(()) => assert!(!fs.exists("/d/gone").unwrap(), "{after}"),
            Err(Error::MaybeApplied) => unknown += 1,
            Err(error) => panic!("{after}: {error}"),
        }
    }
    assert!(unknown > 0);
    // A connection that nothing is to happen to.
    control.borrow().lose(&"for a test");
    assert!(fs.metadata("/d").unwrap().is_dir());
    drop((file, fs));
    assert!(daemon.borrow().fids.is_empty());
}
