//! Walks of several names, and files that are looked at and not opened.

use std::os::unix::fs::symlink;

use p9_tree::Node;
use p9_wire::{AttrMask, Errno, FileKind, OpenFlags, UnlinkFlags};
use xen9pd::host::{Limits, Options};

use super::*;

/// Walks along a path; with `look`, to look at what is there.
fn along(share: &Share, path: &str, look: bool) -> Result<Vec<HostNode>, Error> {
    let names: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
    let mut nodes = Vec::new();
    match look {
        true => now(share.root.look_along(&names, &mut nodes)),
        false => now(share.root.walk_along(&names, &mut nodes)),
    }?;
    Ok(nodes)
}

fn last(share: &Share, path: &str, look: bool) -> Result<HostNode, Error> {
    along(share, path, look).map(|mut nodes| nodes.pop().unwrap())
}

/// How many descriptors of this process lead below a directory.
fn descriptors_below(dir: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(dir)).count()
}

#[test]
fn a_walk_finds_what_has_the_names_now_whatever_had_them_before() {
    let share = default_share();
    for look in [false, true] {
        std::fs::create_dir_all(share.path("a/b")).unwrap();
        std::fs::write(share.path("a/b/file"), "first").unwrap();
        let first = along(&share, "a/b/file", look).unwrap();
        let again = along(&share, "a/b/file", look).unwrap();
        for (one, other) in first.iter().zip(&again) {
            assert_eq!(one.identity().path, other.identity().path);
        }
        // Another directory under the name of one that was walked through.
        std::fs::rename(share.path("a/b"), share.path("before")).unwrap();
        let gone = along(&share, "a/b/file", look);
        assert_eq!(errno(gone.map(drop)), Errno::ENOENT);
        std::fs::create_dir(share.path("a/b")).unwrap();
        std::fs::write(share.path("a/b/file"), "second").unwrap();
        let second = last(&share, "a/b/file", look).unwrap();
        assert_eq!(attr(&second).size, 6);
        assert_ne!(second.identity().path, first[2].identity().path);
        // A link is no way, and neither is a file.
        std::fs::remove_dir_all(share.path("a/b")).unwrap();
        symlink("../before", share.path("a/b")).unwrap();
        let through = along(&share, "a/b/file", look);
        assert_eq!(errno(through.map(drop)), Errno::ENOTDIR);
        let link = last(&share, "a/b", look).unwrap();
        assert_eq!(FileKind::of_mode(attr(&link).mode), FileKind::SYMLINK);
        std::fs::remove_dir_all(share.path("a")).unwrap();
        std::fs::remove_dir_all(share.path("before")).unwrap();
    }
}

#[test]
fn a_walk_of_bad_names_is_refused_as_a_step_is() {
    let share = default_share();
    std::fs::create_dir(share.path("dir")).unwrap();
    for look in [false, true] {
        let mut nodes = Vec::new();
        for bad in [&b".."[..], b".", b"", b"../outside", b"a\0"] {
            for names in [[b"dir", bad], [bad, b"dir"]] {
                let walked = match look {
                    true => now(share.root.look_along(&names, &mut nodes)),
                    false => now(share.root.walk_along(&names, &mut nodes)),
                };
                assert_eq!(errno(walked), Errno::EINVAL, "{names:?}");
            }
        }
    }
}

#[test]
fn a_file_that_is_looked_at_has_no_descriptor_until_it_is_used() {
    let share = default_share();
    std::fs::write(share.path("file"), "content").unwrap();
    let before = descriptors_below(&share.inside);
    let node = last(&share, "file", true).unwrap();
    assert_eq!(attr(&node).size, 7);
    assert_eq!(descriptors_below(&share.inside), before);
    // All the same, it is the file.
    std::fs::write(share.path("file"), "longer content").unwrap();
    assert_eq!(attr(&node).size, 14, "only the first look may be older");
    assert_eq!(descriptors_below(&share.inside), before + 1);
    std::fs::rename(share.path("file"), share.path("renamed")).unwrap();
    assert_eq!(read(&node).unwrap(), b"longer content");
    // Unless its name was another's before that.
    let node = last(&share, "renamed", true).unwrap();
    std::fs::write(share.path("other"), "other").unwrap();
    std::fs::rename(share.path("other"), share.path("renamed")).unwrap();
    assert_eq!(attr(&node).size, 14, "as it was at the look");
    let open = now(node.open(OpenFlags::empty()));
    assert_eq!(errno(open.map(drop)), Errno::ESTALE);
    assert_eq!(errno(now(node.getattr(AttrMask::ALL))), Errno::ESTALE);
}

#[test]
fn no_more_directories_stay_open_than_the_table_holds_and_removed_ones_go() {
    let share = default_share();
    for number in 0..1000 {
        std::fs::create_dir(share.path(&format!("d{number}"))).unwrap();
        std::fs::write(share.path(&format!("d{number}/file")), "").unwrap();
    }
    for number in 0..1000 {
        along(&share, &format!("d{number}/file"), true).unwrap();
    }
    let open = descriptors_below(&share.inside);
    assert!((10..=140).contains(&open), "{open} are open");
    for number in 0..1000 {
        std::fs::remove_file(share.path(&format!("d{number}/file"))).unwrap();
        let name = format!("d{number}");
        let removed = now(share.root.unlink(name.as_bytes(), UnlinkFlags::REMOVE_DIR));
        removed.unwrap();
    }
    // The root, and what the test itself has of it.
    let left = descriptors_below(&share.inside);
    assert!(left <= 3, "{left} are open");
}

/// Where what a share holds is counted, a file that was removed counts until it is closed.
#[test]
fn nothing_is_kept_where_it_would_count() {
    let share = Share::new(Options {
        limits: Limits {
            max_files: Some(100),
            ..Limits::default()
        },
        ..Options::default()
    });
    std::fs::create_dir(share.path("dir")).unwrap();
    std::fs::write(share.path("dir/file"), "").unwrap();
    let before = descriptors_below(&share.inside);
    for look in [false, true] {
        along(&share, "dir/file", look).unwrap();
    }
    assert_eq!(descriptors_below(&share.inside), before);
}
