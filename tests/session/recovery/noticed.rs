//! Silence, unknown fids and lies of a server count as the loss of its connection; refusals of a file do not.

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Error, File, Fs, MountOptions, OpenOptions};
use xen9p::p9::Dialect;
use xen9p::p9::wire::{Reply, Tag, kind};

use xen9p_testing::server::lanes::LaneOptions;

use xen9p_testing::bed::recovering::{site, site_of};

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

/// A server that is silent about what was written behind is left as well, before its writer gives up.
#[test]
fn silence_about_what_was_written_behind_is_a_loss() {
    let site = site();
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).write_behind(4096);
    let file = options.open(&site.fs, "/file").unwrap();
    site.control.borrow().hold(&[kind::TWRITE]);
    file.write_all(&[7; 3000]).unwrap();
    // Time passes before anybody looks at the clock again.
    site.control.borrow().advance(Duration::from_millis(50));
    file.sync_all().unwrap();
    file.close().unwrap();
    assert_eq!(site.server.borrow().get("/file").unwrap(), [7; 3000]);
    site.finish(1);
}

/// The same for who waits for room that a silent server does not make.
#[test]
fn silence_of_a_server_that_is_full_is_a_loss() {
    // One request at a time.
    let site = site_of(LaneOptions::default(), &MountOptions::new().window(1));
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).write_behind(4096);
    let file = options.open(&site.fs, "/file").unwrap();
    site.control.borrow().hold(&[kind::TWRITE]);
    file.write_all(&[7; 2048]).unwrap();
    assert!(site.fs.metadata("/").unwrap().is_dir());
    file.close().unwrap();
    assert_eq!(site.server.borrow().get("/file").unwrap(), [7; 2048]);
    site.finish(1);
}
