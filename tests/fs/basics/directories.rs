//! Directories and what leads to files: listings, deep paths, links, renames.

use xen9p::errno::Errno;
use xen9p::fs::{Error, OpenOptions};
use xen9p_testing::bed::memory::{bed, bed_with};
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

use super::errno;

fn names(fs: &xen9p::fs::Fs, path: &str) -> Vec<String> {
    let mut names: Vec<String> = fs
        .read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn directories_are_not_written_and_files_not_listed() {
    let bed = bed();
    bed.fs.create_dir("/d").unwrap();
    assert_eq!(errno(bed.fs.write("/d", b"x")), Errno::EISDIR);
    let mut options = OpenOptions::new();
    assert_eq!(
        errno(options.read(true).write(true).open(&bed.fs, "/d").map(drop)),
        Errno::EISDIR
    );
    bed.fs.write("/f", b"x").unwrap();
    let mut options = OpenOptions::new();
    options.read(true).directory(true);
    assert_eq!(errno(options.open(&bed.fs, "/f").map(drop)), Errno::ENOTDIR);
    assert!(options.open(&bed.fs, "/d").is_ok());
    assert_eq!(errno(bed.fs.remove_file("/d")), Errno::EISDIR);
    assert_eq!(errno(bed.fs.remove_dir("/f")), Errno::ENOTDIR);
    bed.finish();
}

#[test]
fn makes_lists_and_removes_directories() {
    let bed = bed();
    let fs = &bed.fs;
    fs.create_dir("/d").unwrap();
    assert_eq!(errno(fs.create_dir("/d")), Errno::EEXIST);
    assert_eq!(errno(fs.create_dir("/x/y")), Errno::ENOENT);
    fs.create_dir_all("/x/y/z").unwrap();
    fs.create_dir_all("/x/y/z").unwrap();
    fs.create_dir_all("/").unwrap();
    fs.write("/x/file", b"1").unwrap();
    fs.write("/x/y/file", b"2").unwrap();
    assert_eq!(names(fs, "/x"), ["file", "y"]);
    let entry = fs.read_dir("/x/").unwrap().next().unwrap().unwrap();
    assert!(entry.path().starts_with(b"/x/"));
    drop(entry);
    assert_eq!(errno(fs.remove_dir("/x")), Errno::ENOTEMPTY);
    fs.remove_dir("/d").unwrap();
    fs.symlink("/x", "/link").unwrap();
    assert_eq!(errno(fs.remove_dir_all("/link")), Errno::ENOTDIR);
    fs.symlink("/link", "/x/y/up").unwrap();
    fs.remove_dir_all("/x").unwrap();
    assert_eq!(names(fs, "/"), ["link"]);
    bed.finish();
}

#[test]
fn large_directories_are_listed_once_and_whole() {
    for untyped_entries in [false, true] {
        let options = MemOptions {
            untyped_entries,
            ..MemOptions::default()
        };
        let bed = bed_with(LaneOptions::default(), options, |server| {
            for index in 0..5000 {
                server.put(&format!("/d/file-{index:05}"), b"");
            }
            server.put("/d/sub/inner", b"x");
        });
        let mut found = names(&bed.fs, "/d");
        assert_eq!(found.pop().as_deref(), Some("sub"));
        assert_eq!(found.len(), 5000);
        assert!(found.is_sorted_by(|a, b| a < b));

        // The listing goes on where a cookie says.
        let mut listing = bed.fs.read_dir("/d").unwrap();
        let cookie = listing.nth(2499).unwrap().unwrap().cookie();
        listing.seek(cookie);
        assert_eq!(listing.count(), 2501);

        let types = bed.fs.read_dir("/d").unwrap().map(|entry| entry.unwrap());
        let dirs = types.filter(|entry| entry.file_type().unwrap().is_dir());
        assert_eq!(dirs.count(), 1);
        bed.fs.remove_dir_all("/d").unwrap();
        assert!(names(&bed.fs, "/").is_empty());
        bed.finish();
    }
}

#[test]
fn attributes_of_a_whole_directory_are_asked_for_at_once() {
    let options = LaneOptions {
        lanes: 4,
        latency: (
            std::time::Duration::from_millis(1),
            std::time::Duration::from_millis(1),
        ),
        ..LaneOptions::default()
    };
    let bed = bed_with(options, MemOptions::default(), |server| {
        for index in 0..333 {
            server.put(&format!("/d/{index}"), &vec![0; index]);
        }
    });
    let begin = bed.fs.to_async().session().now();
    let listing = bed.fs.read_dir("/d").unwrap();
    let mut count = 0;
    for entry in listing.with_metadata() {
        let (entry, metadata) = entry.unwrap();
        let size = entry.file_name_lossy().parse::<u64>().unwrap();
        assert_eq!(metadata.unwrap().len(), size);
        count += 1;
    }
    assert_eq!(count, 333);
    // One after the other would be a thousand milliseconds.
    let took = bed.fs.to_async().session().now() - begin;
    assert!(took < std::time::Duration::from_millis(60), "{took:?}");
    assert!(bed.control.most_in_flight() >= 30);
    bed.finish();
}

#[test]
fn walks_deeper_than_sixteen_names() {
    let bed = bed();
    for depth in [15, 16, 17, 31, 32, 33, 70] {
        let path: String = (0..depth).map(|level| format!("/{level}")).collect();
        bed.fs.create_dir_all(&path).unwrap();
        let file = format!("{path}/file");
        bed.fs.write(&file, path.as_bytes()).unwrap();
        assert_eq!(bed.fs.read(&file).unwrap(), path.as_bytes());
        assert_eq!(errno(bed.fs.open(format!("{path}/no"))), Errno::ENOENT);
        assert_eq!(errno(bed.fs.open(format!("{path}/no/no"))), Errno::ENOENT);
        assert_eq!(errno(bed.fs.open(format!("{file}/no"))), Errno::ENOTDIR);
    }
    bed.fs.remove_dir_all("/0").unwrap();
    bed.finish();
}

#[test]
fn follows_symbolic_links() {
    let bed = bed();
    let fs = &bed.fs;
    fs.create_dir_all("/a/b").unwrap();
    fs.write("/a/b/f", b"found").unwrap();
    fs.symlink("/a/b", "/abs").unwrap();
    fs.symlink("../a/./b", "/a/rel").unwrap();
    fs.symlink("f", "/a/b/same").unwrap();
    fs.symlink("/abs/same", "/a/chain").unwrap();
    for path in ["/abs/f", "/a/rel/f", "/a/rel/same", "/a/chain", "/abs/same"] {
        assert_eq!(fs.read(path).unwrap(), b"found", "{path}");
        assert_eq!(fs.canonicalize(path).unwrap(), b"/a/b/f", "{path}");
    }
    assert_eq!(fs.read_link("/a/chain").unwrap(), b"/abs/same");
    assert_eq!(errno(fs.read_link("/a/b/f")), Errno::EINVAL);
    assert!(fs.symlink_metadata("/abs").unwrap().is_symlink());
    assert!(fs.metadata("/abs").unwrap().is_dir());

    // A dangling link is where the file is made.
    fs.symlink("/a/made", "/dangling").unwrap();
    assert_eq!(errno(fs.open("/dangling")), Errno::ENOENT);
    assert!(!fs.exists("/dangling").unwrap());
    fs.write("/dangling", b"new").unwrap();
    assert_eq!(fs.read("/a/made").unwrap(), b"new");
    let mut new = OpenOptions::new();
    new.write(true).create_new(true);
    assert_eq!(errno(new.open(fs, "/dangling").map(drop)), Errno::EEXIST);

    // The link itself is removed and renamed.
    fs.rename("/abs", "/abs2").unwrap();
    assert_eq!(fs.read_link("/abs2").unwrap(), b"/a/b");
    fs.remove_file("/abs2").unwrap();
    assert!(fs.exists("/a/b/f").unwrap());

    fs.symlink("/loop", "/loop").unwrap();
    assert_eq!(fs.open("/loop").map(drop), Err(Error::TooManyLinks));
    assert_eq!(fs.open("/loop/x").map(drop), Err(Error::TooManyLinks));
    bed.finish();
}

#[test]
fn forty_links_are_followed_and_forty_one_are_not() {
    let bed = bed();
    bed.fs.write("/0", b"end").unwrap();
    for index in 1..=41 {
        bed.fs
            .symlink(format!("{}", index - 1), format!("/{index}"))
            .unwrap();
    }
    assert_eq!(bed.fs.read("/40").unwrap(), b"end");
    assert_eq!(bed.fs.read("/41"), Err(Error::TooManyLinks));
    bed.finish();
}

#[test]
fn renames_and_links() {
    let bed = bed();
    let fs = &bed.fs;
    fs.create_dir_all("/a/sub").unwrap();
    fs.create_dir("/b").unwrap();
    fs.write("/a/f", b"1").unwrap();
    fs.rename("/a/f", "/a/g").unwrap();
    fs.rename("/a/g", "/b/h").unwrap();
    fs.write("/b/old", b"2").unwrap();
    fs.rename("/b/h", "/b/old").unwrap();
    assert_eq!(fs.read("/b/old").unwrap(), b"1");
    fs.rename("/a", "/b/a").unwrap();
    assert_eq!(names(fs, "/b"), ["a", "old"]);
    assert_eq!(errno(fs.rename("/none", "/x")), Errno::ENOENT);

    fs.hard_link("/b/old", "/twin").unwrap();
    assert_eq!(fs.metadata("/twin").unwrap().nlink(), 2);
    let ino = |path: &str| fs.metadata(path).unwrap().ino();
    assert_eq!(ino("/twin"), ino("/b/old"));
    fs.remove_file("/b/old").unwrap();
    assert_eq!(fs.read("/twin").unwrap(), b"1");
    bed.finish();
}
