//! Open files and listings are found again after a loss, or are stale where another file is in their place (docs/lost-
//! backends.md).

use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Error, LockRange, OpenOptions};
use xen9p::p9::Dialect;
use xen9p::p9::wire::{AttrMask, OpenFlags, Reader, Reply, kind};
use xen9p_testing::server::lanes::Control;
use xen9p_testing::server::mem::{MemOptions, MemServer};

use xen9p_testing::bed::recovering::site;

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

/// The fid of a root that is closed is soon another root's, of another user or tree: that is not where its files are
/// looked for.
#[test]
fn a_file_is_not_found_again_below_another_root() {
    let site = site();
    site.fs.write("/file", b"content").unwrap();
    let session = site.fs.to_async().session().clone();
    let (file, other) = session.block_on(async {
        let (root, _) = session.attach(None, b"ann", 7, b"").await.unwrap();
        let number = root.number();
        let (file, _) = root.walk(&[b"file"]).await.unwrap();
        file.lopen(OpenFlags::empty()).await.unwrap();
        root.close().await.unwrap();
        let (other, _) = session.attach(None, b"bob", 8, b"").await.unwrap();
        assert_eq!(other.number(), number);
        (file, other)
    });
    site.lose();
    let mut byte = [0];
    let read = session.block_on(file.read(0, &mut byte));
    assert_eq!(read, Err(Error::Stale));
    let (again, walk) = session.block_on(other.walk(&[b"file"])).unwrap();
    assert_eq!(walk.names, 1);
    drop((file, again, other, session));
    site.finish(1);
}

/// A file system gives the number of a file that is gone to the next one. Where the server tells generations apart, another
/// file of the same name and number is another file.
#[test]
fn the_same_inode_of_another_generation_is_another_file() {
    for (then, expected) in [(7_u64, Ok(1)), (8, Err(Error::Stale))] {
        let generation = |control: &Control, value: u64| {
            control.tamper(move |request, mut reply| {
                if request[4] == kind::TGETATTR {
                    let answer = Reply::decode(Reader::new(&reply, Dialect::Linux));
                    let Ok((tag, Reply::Getattr { mut attr })) = answer else {
                        return vec![reply];
                    };
                    attr.valid |= AttrMask::GENERATION;
                    attr.generation = value;
                    let answer = Reply::Getattr { attr };
                    let size = answer.encode(tag, Dialect::Linux, &mut reply).unwrap();
                    reply.truncate(size);
                }
                vec![reply]
            });
        };
        let site = site();
        site.server.borrow_mut().put("/file", b"content");
        generation(&site.control.borrow(), 7);
        site.while_away(move |_, control| generation(control, then));
        let file = site.fs.open("/file").unwrap();
        // The answer to what was asked behind the open comes meanwhile.
        file.metadata().unwrap();
        let session = site.fs.to_async().session().clone();
        session.wait(session.now() + Duration::from_millis(1));
        site.lose();
        assert_eq!(file.read_at(&mut [0; 1], 0), expected);
        drop((file, session));
        site.finish(1);
    }
}
