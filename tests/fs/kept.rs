//! A directory whose fid is kept for a moment costs fewer requests, and shows in nothing else: what this mount or
//! another client moves, removes or makes again is found as it is (docs/speed.md).

use std::time::Duration;

use xen9p::errno::Errno;
use xen9p::fs::{Error, Fs, MountOptions, Permissions};
use xen9p_testing::bed::memory::{Bed, bed, bed_with};
use xen9p_testing::server::lanes::LaneOptions;
use xen9p_testing::server::mem::MemOptions;

/// A mount that keeps `dir`, and another one of the same tree, for another client.
fn keeping(dir: &str) -> (Bed, xen9p::fs::Fs) {
    let bed = bed();
    bed.fs.create_dir_all(dir).unwrap();
    let other = bed.fs.attach(&MountOptions::new()).unwrap();
    for name in ["1", "2", "3"] {
        bed.fs.write(format!("{dir}/{name}"), name).unwrap();
    }
    let ((), cost) = bed.cost(|fs| fs.remove_file(format!("{dir}/3")).unwrap());
    assert_eq!(cost, 1, "the directory is not kept");
    (bed, other)
}

fn finish(bed: Bed, other: xen9p::fs::Fs) {
    drop(other);
    bed.finish();
}

#[test]
fn what_this_mount_moves_or_removes_is_not_where_it_was() {
    let (bed, other) = keeping("/a/b");
    let fs = &bed.fs;
    fs.rename("/a/b", "/a/c").unwrap();
    assert_eq!(fs.remove_file("/a/b/1"), Err(Error::Errno(Errno::ENOENT)));
    fs.remove_file("/a/c/1").unwrap();
    // One above the directory that is kept.
    fs.write("/a/c/4", "4").unwrap();
    fs.write("/a/c/5", "5").unwrap();
    fs.rename("/a", "/z").unwrap();
    fs.create_dir_all("/a/c").unwrap();
    fs.write("/a/c/5", "new").unwrap();
    assert_eq!(fs.read("/z/c/5").unwrap(), b"5");
    assert_eq!(fs.read("/a/c/5").unwrap(), b"new");
    // Another directory in its place, by removing and by renaming.
    fs.remove_dir_all("/a/c").unwrap();
    assert_eq!(fs.write("/a/c/6", "6"), Err(Error::Errno(Errno::ENOENT)));
    fs.create_dir("/a/c").unwrap();
    fs.write("/a/c/6", "6").unwrap();
    fs.remove_file("/a/c/6").unwrap();
    fs.create_dir("/a/d").unwrap();
    fs.rename("/a/d", "/a/c").unwrap();
    fs.write("/a/c/7", "7").unwrap();
    assert_eq!(other.read("/a/c/7").unwrap(), b"7");
    fs.remove_file("/a/c/7").unwrap();
    fs.remove_dir("/a/c").unwrap();
    assert_eq!(fs.create_dir("/a/c/d"), Err(Error::Errno(Errno::ENOENT)));
    finish(bed, other);
}

#[test]
fn a_directory_is_forgotten_when_it_is_moved_by_way_of_a_link_to_the_root() {
    let (bed, other) = keeping("/dir");
    let fs = &bed.fs;
    fs.symlink("/", "/link").unwrap();
    fs.write("/dir/4", "4").unwrap();
    fs.write("/dir/5", "5").unwrap();
    fs.rename("/link/dir", "/moved").unwrap();
    assert_eq!(fs.write("/dir/6", "6"), Err(Error::Errno(Errno::ENOENT)));
    assert_eq!(fs.read("/moved/5").unwrap(), b"5");
    finish(bed, other);
}

#[test]
fn a_directory_is_not_kept_by_the_name_of_a_link_to_it() {
    let (bed, other) = keeping("/real/dir");
    let fs = &bed.fs;
    fs.symlink("real", "/link").unwrap();
    fs.write("/link/dir/4", "4").unwrap();
    fs.write("/link/dir/5", "5").unwrap();
    fs.write("/real/dir/6", "6").unwrap();
    fs.rename("/link/dir", "/link/moved").unwrap();
    assert_eq!(
        fs.write("/real/dir/7", "7"),
        Err(Error::Errno(Errno::ENOENT))
    );
    fs.write("/real/moved/7", "7").unwrap();
    fs.remove_file("/link").unwrap();
    assert_eq!(
        fs.write("/link/moved/8", "8"),
        Err(Error::Errno(Errno::ENOENT))
    );
    finish(bed, other);
}

#[test]
fn what_others_remove_and_make_again_is_found() {
    let (bed, other) = keeping("/a/b");
    other.remove_dir_all("/a").unwrap();
    other.create_dir_all("/a/b").unwrap();
    other.write("/a/b/theirs", "theirs").unwrap();
    // The fid leads to the directory that is gone; the way leads to the new one.
    bed.fs.write("/a/b/ours", "ours").unwrap();
    assert_eq!(other.read("/a/b/ours").unwrap(), b"ours");
    bed.fs.remove_file("/a/b/theirs").unwrap();
    bed.fs.rename("/a/b/ours", "/a/b/mine").unwrap();
    assert!(other.exists("/a/b/mine").unwrap());
    finish(bed, other);
}

#[test]
fn what_others_make_again_is_found_where_something_is_moved_to() {
    let (bed, other) = keeping("/a/b");
    bed.fs.write("/file", "ours").unwrap();
    other.remove_dir_all("/a").unwrap();
    other.create_dir_all("/a/b").unwrap();
    bed.fs.rename("/file", "/a/b/file").unwrap();
    assert_eq!(other.read("/a/b/file").unwrap(), b"ours");
    finish(bed, other);
}

#[test]
fn what_others_make_again_is_removed_as_a_whole() {
    let (bed, other) = keeping("/a/b");
    other.remove_dir_all("/a").unwrap();
    other.create_dir_all("/a/b/c/d").unwrap();
    bed.fs.remove_dir_all("/a/b/c").unwrap();
    assert_eq!(other.read_dir("/a/b").unwrap().count(), 0);
    finish(bed, other);
}

/// What a directory passes on to new files is known of one that was just made, or in which names were just changed, until that
/// is changed, or another directory is there.
#[test]
fn what_is_known_of_a_directory_is_not_known_of_another() {
    let (bed, other) = keeping("/a/b");
    let fs = &bed.fs;
    let share = |fs: &Fs, dir: &str| {
        fs.chown(dir, None, Some(55)).unwrap();
        fs.set_permissions(dir, Permissions::from_mode(0o2775))
            .unwrap();
    };
    let group = |path: &str| fs.metadata(path).unwrap().gid();
    // New, and changed at once.
    fs.create_dir("/a/new").unwrap();
    let ((), cost) = bed.cost(|fs| fs.write("/a/new/0", "0").unwrap());
    assert_eq!(cost, 4, "walk, create, write, clunk: whose group is known");
    share(fs, "/a/new");
    fs.write("/a/new/1", "1").unwrap();
    assert_eq!((group("/a/new/0"), group("/a/new/1")), (0, 55));
    // Kept, and changed.
    fs.write("/a/b/4", "4").unwrap();
    share(fs, "/a/b");
    fs.write("/a/b/5", "5").unwrap();
    assert_eq!((group("/a/b/4"), group("/a/b/5")), (0, 55));
    // Made in one that passes its group on.
    fs.create_dir("/a/b/below").unwrap();
    fs.write("/a/b/below/6", "6").unwrap();
    assert_eq!(group("/a/b/below/6"), 55);
    // Another in its place.
    other.create_dir("/theirs").unwrap();
    share(&other, "/theirs");
    fs.create_dir("/a/ours").unwrap();
    other.rename("/theirs", "/a/ours").unwrap();
    fs.write("/a/ours/7", "7").unwrap();
    assert_eq!(group("/a/ours/7"), 55);
    finish(bed, other);
}

/// A program that goes to and fro between directories, as one that copies a tree.
#[test]
fn directories_that_take_turns_are_kept() {
    let (bed, other) = keeping("/a/b");
    bed.fs.create_dir("/copy").unwrap();
    for number in 0..6 {
        let dir = format!("/copy/{number}");
        let ((), cost) = bed.cost(|fs| fs.create_dir(&dir).unwrap());
        assert!(number < 2 || cost == 1, "{dir}: {cost}");
        for name in 0..3 {
            bed.fs.write(format!("{dir}/{name}"), "x").unwrap();
        }
    }
    finish(bed, other);
}

#[test]
fn nothing_is_kept_for_longer_than_it_may() {
    let (bed, other) = keeping("/a/b");
    bed.control.advance(Duration::from_secs(2));
    let ((), cost) = bed.cost(|fs| fs.remove_file("/a/b/2").unwrap());
    assert!(cost > 1);
    // Another client's directory in its place, after that time.
    bed.fs.write("/a/b/4", "4").unwrap();
    other.rename("/a/b", "/a/old").unwrap();
    other.create_dir("/a/b").unwrap();
    bed.control.advance(Duration::from_secs(2));
    bed.fs.write("/a/b/5", "5").unwrap();
    assert!(other.exists("/a/b/5").unwrap());
    assert!(!other.exists("/a/old/5").unwrap());
    finish(bed, other);
}

#[test]
fn nothing_is_kept_where_nothing_is_to_be_kept() {
    let bed = bed_with(LaneOptions::default(), MemOptions::default(), |_| {});
    let fs = bed
        .fs
        .attach(&MountOptions::new().keep_dirs(Duration::ZERO))
        .unwrap();
    fs.create_dir_all("/a/b").unwrap();
    for number in 0..4 {
        fs.to_async().session().pump();
        let before = bed.fs.stats().requests;
        fs.write(format!("/a/b/{number}"), "x").unwrap();
        fs.to_async().session().pump();
        // Walk, the directory's group, create, write, clunk.
        assert_eq!(bed.fs.stats().requests - before, 5);
        assert_eq!(fs.to_async().session().fids_in_use(), 2);
    }
    drop(fs);
    bed.finish();
}

#[test]
fn the_parents_of_many_directories_take_turns() {
    let (bed, other) = keeping("/a/b");
    for round in 0..3 {
        for dir in 0..10 {
            let dir = format!("/d{dir}");
            if round == 0 {
                bed.fs.create_dir(&dir).unwrap();
            }
            for name in 0..3 {
                bed.fs.write(format!("{dir}/{round}-{name}"), "x").unwrap();
            }
        }
    }
    // The two roots, and no more than four directories.
    assert!(bed.fs.to_async().session().fids_in_use() <= 6);
    assert_eq!(other.read_dir("/d7").unwrap().count(), 9);
    finish(bed, other);
}
