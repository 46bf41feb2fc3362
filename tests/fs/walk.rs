//! A walk finds everything below a directory once, whatever its shape, follows no links, and goes on after what can't be listed.

use std::collections::BTreeSet;

use xen9p::errno::Errno;
use xen9p::fs::{Error, Fs, MountOptions};
use xen9p::tree::files;
use xen9p::tree::trees::MemTree;
use xen9p_testing::bed::memory::bed;
use xen9p_testing::server::lanes::{LaneOptions, lanes};
use xen9p_testing::server::mem::{MemOptions, MemServer};

fn found(fs: &Fs, top: &str) -> Vec<String> {
    let walk = fs.walk_dir(top).unwrap();
    walk.map(|entry| entry.unwrap().path_lossy()).collect()
}

#[test]
fn everything_is_found_once_and_directories_come_before_what_is_in_them() {
    let bed = bed();
    let fs = &bed.fs;
    fs.create_dir_all("/t/a/b/c").unwrap();
    fs.create_dir_all("/t/d").unwrap();
    for path in ["/t/1", "/t/a/2", "/t/a/b/c/3", "/t/d/4"] {
        fs.write(path, "x").unwrap();
    }
    fs.symlink("/t", "/t/a/up").unwrap();
    let all = found(fs, "/t");
    let once: BTreeSet<&str> = all.iter().map(String::as_str).collect();
    let expected = [
        "/t/1",
        "/t/a",
        "/t/a/2",
        "/t/a/b",
        "/t/a/b/c",
        "/t/a/b/c/3",
        "/t/a/up",
        "/t/d",
        "/t/d/4",
    ];
    assert_eq!(once, BTreeSet::from(expected));
    assert_eq!(all.len(), expected.len());
    for (at, path) in all.iter().enumerate() {
        let above = path.rsplit_once('/').unwrap().0;
        assert!(
            above == "/t" || all[..at].iter().any(|path| path == above),
            "{all:?}"
        );
    }
    // With a slash at its end, and from the root.
    assert!(found(fs, "/t/").contains(&"/t/a/b/c/3".to_string()));
    assert_eq!(found(fs, "/").len(), expected.len() + 1);
    let file = fs.walk_dir("/t/1").unwrap_err();
    assert_eq!(file, Errno::ENOTDIR.into());
    bed.finish();
}

#[test]
fn what_is_skipped_is_not_entered() {
    let fs = files::Fs::new(MemTree::new().root());
    fs.create_dir_all("/a/deep/er").unwrap();
    fs.create_dir_all("/b/deep").unwrap();
    // A file whose name is the end of a directory's.
    fs.create_dir("/dip").unwrap();
    fs.write("/dip/f", "x").unwrap();
    fs.write("/p", "x").unwrap();
    let mut walk = fs.walk_dir("/").unwrap();
    let mut seen = Vec::new();
    while let Some(entry) = walk.next() {
        let entry = entry.unwrap();
        let is_deep = entry.file_name() == b"deep" && entry.path().starts_with(b"/a");
        if is_deep || entry.file_name() == b"p" {
            walk.skip_dir(&entry);
        }
        assert_eq!(walk.depth(), entry.path_lossy().matches('/').count() - 1);
        seen.push(entry.path_lossy());
    }
    seen.sort();
    assert_eq!(
        seen,
        ["/a", "/a/deep", "/b", "/b/deep", "/dip", "/dip/f", "/p"]
    );
}

/// More names than one level has room for: the rest of the listing comes later.
#[test]
fn wide_and_deep_trees_are_walked_in_pieces() {
    let fs = files::Fs::new(MemTree::with_limit(64 << 20).root());
    let long = "n".repeat(200);
    for n in 0..2000 {
        fs.create_dir(format!("/{n:04}{long}")).unwrap();
    }
    fs.write(format!("/1999{long}/last"), "x").unwrap();
    let all: BTreeSet<_> = fs
        .walk_dir("/")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(all.len(), 2001);
    let deep = "/d".repeat(2000);
    fs.create_dir_all(&deep).unwrap();
    assert_eq!(fs.walk_dir("/d").unwrap().count(), 1999);
}

#[test]
fn an_unreadable_directory_is_an_error_and_a_lost_server_the_end() {
    let mut server = MemServer::new(MemOptions::default());
    let (transport, control) = lanes(LaneOptions::default(), move |request| {
        server.handle(request)
    });
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    for dir in ["/t/a", "/t/b", "/t/c"] {
        fs.create_dir_all(dir).unwrap();
        fs.write(format!("{dir}/f"), "x").unwrap();
    }
    let mut walk = fs.walk_dir("/t").unwrap();
    let first = walk.next().unwrap().unwrap().path_lossy();
    // It is gone when its turn comes.
    fs.remove_dir_all(&first).unwrap();
    let rest: Vec<_> = walk.by_ref().collect();
    let errors: Vec<_> = rest
        .iter()
        .filter_map(|entry| entry.as_ref().err())
        .collect();
    assert_eq!(errors, [&Error::Errno(Errno::ENOENT)]);
    assert_eq!(rest.len(), 2 + 1 + 2);
    let mut walk = fs.walk_dir("/t").unwrap();
    walk.next().unwrap().unwrap();
    control.lose(&"it is gone");
    let rest: Vec<_> = walk.collect();
    assert!(rest.len() <= 3 && rest.last().unwrap().is_err(), "{rest:?}");
}
