//! The walls of a share: names, symbolic links, special files, and directories that move while they are walked.

use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use p9_tree::{Node, OpenFile};
use p9_wire::{
    Errno, FileKind, OpenFlags, Qid, QidKind, SetAttr, SetAttrMask, UnlinkFlags, XattrFlags,
};
use xen9pd::host::{HostTree, Options};

use super::*;

#[test]
fn a_name_is_one_component_whatever_the_request() {
    let share = default_share();
    let root = &share.root;
    share.make("file", b"");
    let bad = [
        &b""[..],
        b".",
        b"..",
        b"a/b",
        b"/",
        b"../outside/secret",
        b"a\0b",
    ];
    for name in bad {
        let flags = OpenFlags::READ_WRITE;
        let results = [
            errno(now(root.walk(name))),
            errno(now(root.create(name, flags, 0o644, NO_GROUP))),
            errno(now(root.mkdir(name, 0o755, NO_GROUP))),
            errno(now(root.symlink(name, b"x", NO_GROUP))),
            errno(now(root.mknod(name, 0o10644, 0, 0, NO_GROUP))),
            errno(now(root.link(&share.node("file").unwrap(), name))),
            errno(now(root.rename(b"file", root, name))),
            errno(now(root.rename(name, root, b"new"))),
            errno(now(root.unlink(name, UnlinkFlags::empty()))),
            errno(now(root.unlink(name, UnlinkFlags::REMOVE_DIR))),
        ];
        assert_eq!(results, [Errno::EINVAL; 10], "{name:?}");
    }
    assert_eq!(errno(now(root.walk(&[b'x'; 256]))), Errno::ENAMETOOLONG);
    assert_eq!(names_in(&share.inside), ["file"]);
    assert_eq!(names_in(&share.outside), ["secret"]);
}

#[test]
fn a_symbolic_link_is_data_and_never_a_way() {
    let share = default_share();
    let outside = share.outside.to_str().unwrap().to_owned();
    let targets = [
        outside.as_str(),
        "../outside",
        "/",
        "..",
        "/proc/self/root",
        "dir",
    ];
    std::fs::create_dir(share.path("dir")).unwrap();
    std::fs::write(share.path("dir/secret"), "inside").unwrap();
    for (number, target) in targets.iter().enumerate() {
        let name = format!("link{number}");
        symlink(target, share.path(&name)).unwrap();
        let link = share.node(&name).unwrap();
        assert_eq!(link.qid().kind, QidKind::SYMLINK);
        assert_eq!(now(link.readlink()).unwrap(), target.as_bytes());
        // Nothing goes through it.
        assert_eq!(errno(now(link.walk(b"secret"))), Errno::ENOTDIR);
        assert_eq!(errno(now(link.open(OpenFlags::empty()))), Errno::ELOOP);
        assert_eq!(
            errno(now(link.open(OpenFlags::DIRECTORY))),
            Errno::ELOOP,
            "{target}"
        );
        let new = now(link.create(b"new", OpenFlags::READ_WRITE, 0o644, NO_GROUP));
        assert_eq!(errno(new), Errno::ENOTDIR);
        assert_eq!(
            errno(now(link.mkdir(b"new", 0o755, NO_GROUP))),
            Errno::ENOTDIR
        );
        assert_eq!(
            errno(now(link.unlink(b"secret", UnlinkFlags::empty()))),
            Errno::ENOTDIR
        );
        // Nor does a create of its name, nor a change of its attributes.
        let over = now(share.root.create(
            name.as_bytes(),
            OpenFlags::READ_WRITE | OpenFlags::TRUNCATE,
            0o644,
            NO_GROUP,
        ));
        assert_eq!(errno(over), Errno::ELOOP);
        assert_eq!(errno(set_len(&link, 0)), Errno::EINVAL);
        assert_eq!(errno(chmod(&link, 0o777)), Errno::EOPNOTSUPP);
        assert_eq!(
            errno(now(link.set_xattr(b"user.x", b"y", XattrFlags::empty()))),
            Errno::EPERM
        );
    }
    assert_eq!(
        std::fs::read_to_string(share.outside.join("secret")).unwrap(),
        "secret"
    );
    assert_eq!(names_in(&share.outside), ["secret"]);
    assert_eq!(names_in(&share.path("dir")), ["secret"]);
}

#[test]
fn times_owner_and_a_second_name_are_of_the_link_itself() {
    let share = default_share();
    let target = share.make("target", b"");
    let before = attr(&target);
    symlink("target", share.path("link")).unwrap();
    let link = share.node("link").unwrap();
    let time = p9_wire::Time {
        secs: 12345,
        nanos: 678,
    };
    let change = SetAttr {
        valid: SetAttrMask::MTIME | SetAttrMask::MTIME_SET,
        mtime: time,
        ..SetAttr::default()
    };
    now(link.setattr(&change)).unwrap();
    now(share.root.link(&link, b"again")).unwrap();
    if is_root() {
        let change = SetAttr {
            valid: SetAttrMask::UID,
            uid: 4321,
            ..SetAttr::default()
        };
        now(link.setattr(&change)).unwrap();
        assert_eq!(attr(&link).uid, 4321);
    }
    assert_eq!(attr(&link).mtime, time);
    assert_eq!(attr(&link).nlink, 2);
    assert_eq!(
        std::fs::read_link(share.path("again")).unwrap().to_str(),
        Some("target")
    );
    let after = attr(&target);
    assert_eq!(
        (before.mtime, before.uid, before.nlink),
        (after.mtime, after.uid, after.nlink)
    );
}

/// A pipe would keep the server waiting, a device would do things, a socket is a way to other programs.
#[test]
fn special_files_are_seen_but_never_opened() {
    let share = Share::new(Options {
        devices: true,
        ..Options::default()
    });
    let root = &share.root;
    let mut kinds = vec![
        ("pipe", FileKind::FIFO, 0, 0),
        ("socket", FileKind::SOCKET, 0, 0),
    ];
    if is_root() {
        kinds.push(("null", FileKind::CHAR_DEVICE, 1, 3));
        kinds.push(("disk", FileKind::BLOCK_DEVICE, 7, 250));
    }
    for (name, kind, major, minor) in kinds {
        let mode = kind.bits() | 0o666;
        let made = now(root.mknod(name.as_bytes(), mode, major, minor, NO_GROUP)).unwrap();
        let walked = share.node(name).unwrap();
        assert_eq!(made.qid().path, walked.qid().path);
        assert_eq!(attr(&walked).mode, mode);
        assert_eq!(attr(&walked).rdev, rustix::fs::makedev(major, minor));
        for flags in [
            OpenFlags::empty(),
            OpenFlags::WRITE_ONLY,
            OpenFlags::READ_WRITE,
            OpenFlags::NONBLOCK,
        ] {
            assert_eq!(errno(now(walked.open(flags))), Errno::ENXIO, "{name}");
            let over = now(root.create(name.as_bytes(), flags, 0o644, NO_GROUP));
            assert_eq!(errno(over), Errno::ENXIO, "{name}");
        }
        assert_eq!(errno(set_len(&walked, 0)), Errno::EINVAL);
        chmod(&walked, 0o600).unwrap();
        assert_eq!(attr(&walked).mode, kind.bits() | 0o600);
        now(root.unlink(name.as_bytes(), UnlinkFlags::empty())).unwrap();
    }
}

#[test]
fn devices_are_made_only_where_the_share_allows_them() {
    let share = default_share();
    for kind in [FileKind::CHAR_DEVICE, FileKind::BLOCK_DEVICE] {
        let made = now(share
            .root
            .mknod(b"new", kind.bits() | 0o666, 1, 3, NO_GROUP));
        assert_eq!(errno(made), Errno::EPERM);
    }
    let pipe = now(share
        .root
        .mknod(b"new", FileKind::FIFO.bits(), 0, 0, NO_GROUP));
    pipe.unwrap();
    assert!(
        share
            .path("new")
            .symlink_metadata()
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let strange = now(share
        .root
        .mknod(b"dir", FileKind::DIR.bits(), 0, 0, NO_GROUP));
    assert_eq!(errno(strange), Errno::EINVAL);
}

#[test]
fn the_parent_of_the_root_is_the_root() {
    let share = default_share();
    std::fs::create_dir(share.path("dir")).unwrap();
    let listed = |node: &HostNode| {
        let file = now(node.open(OpenFlags::DIRECTORY)).unwrap();
        let mut parent = Qid::default();
        now(file.readdir(0, &mut |entry| {
            if entry.name == b".." {
                parent = entry.qid;
            }
            true
        }))
        .unwrap();
        parent.path
    };
    assert_eq!(listed(&share.root), share.root.qid().path);
    assert_eq!(listed(&share.node("dir").unwrap()), share.root.qid().path);
}

/// Directories change places with each other, and with links that lead outside, while a peer walks through them: it
/// finds what is inside, or an error, never what is outside.
#[test]
fn a_storm_of_renames_leads_nowhere_else() {
    let share = default_share();
    let inside = &share.inside;
    for dir in ["a", "a/b", "c"] {
        std::fs::create_dir(inside.join(dir)).unwrap();
    }
    for (at, dir) in ["a/b", "c"].iter().enumerate() {
        std::fs::write(inside.join(dir).join("secret"), format!("inside{at}")).unwrap();
    }
    symlink(&share.outside, inside.join("link")).unwrap();
    let stop = AtomicBool::new(false);
    let (mut found, mut missed) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |a: &str, b: &str| {
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    inside.join(a),
                    rustix::fs::CWD,
                    inside.join(b),
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                exchange("a/b", "link");
                exchange("a/b", "link");
                exchange("a/b", "c");
                std::fs::rename(inside.join("a/b"), inside.join("b")).unwrap();
                std::fs::rename(inside.join("b"), inside.join("a/b")).unwrap();
                exchange("a/b", "c");
            }
        });
        let _stop = Stop(&stop);
        for round in 0..20_000 {
            // Name by name, and all names at once: to stay, and to look.
            let mut nodes = Vec::new();
            let names = [&b"a"[..], b"b", b"secret"];
            let walked = match round % 3 {
                0 => share.node("a/b/secret").map(|node| nodes.push(node)),
                1 => now(share.root.walk_along(&names, &mut nodes)),
                _ => now(share.root.look_along(&names, &mut nodes)),
            };
            if round % 3 == 2
                && let Some(node) = nodes.get(2)
            {
                assert_eq!(attr(node).size, 7, "that of a file inside");
            }
            match walked.and_then(|()| read(nodes.last().unwrap())) {
                Ok(content) => {
                    assert!(content.starts_with(b"inside"), "{content:?}");
                    found += 1;
                }
                Err(error) => {
                    let errno = error.errno();
                    let moved = [Errno::ENOENT, Errno::ENOTDIR].contains(&errno)
                        || round % 3 == 2 && errno == Errno::ESTALE;
                    assert!(moved, "{error}");
                    missed += 1;
                }
            }
        }
    });
    assert!(found > 0 && missed > 0, "found {found}, missed {missed}");
}

/// What a peer holds is the file, wherever it is: a directory that has been moved out of the share goes no further up.
#[test]
fn a_directory_that_moves_out_takes_nothing_else_along() {
    let share = default_share();
    std::fs::create_dir_all(share.path("dir/sub")).unwrap();
    let sub = share.node("dir/sub").unwrap();
    std::fs::rename(share.path("dir"), share.outside.join("dir")).unwrap();
    assert_eq!(errno(now(sub.walk(b".."))), Errno::EINVAL);
    assert_eq!(errno(now(sub.walk(b"../../secret"))), Errno::EINVAL);
    assert_eq!(errno(share.node("dir")), Errno::ENOENT);
}

/// `qid.path` of a walk, an attribute and a listing agree, and no two files have the same, on two file systems too.
#[test]
fn numbers_of_files_are_their_own_across_file_systems() {
    if !is_root() {
        return;
    }
    // Another file system below the share, seen by this thread and what it starts only.
    thread::spawn(|| {
        let share = default_share();
        std::fs::create_dir(share.path("other")).unwrap();
        // SAFETY: the descriptors stay shared.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        mount_change(
            "/",
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        )
        .unwrap();
        mount(
            "none",
            share.path("other"),
            "tmpfs",
            MountFlags::empty(),
            None,
        )
        .unwrap();
        let tree = HostTree::open(&share.inside, Options::default()).unwrap();
        let root = tree.root(None).unwrap();
        let other = now(root.walk(b"other")).unwrap();
        let mut seen = std::collections::HashMap::new();
        for (label, dir, path) in [
            ("root", &root, share.inside.clone()),
            ("other", &other, share.path("other")),
        ] {
            for number in 0..200 {
                let name = format!("{number}");
                std::fs::write(path.join(&name), "").unwrap();
                let node = now(dir.walk(name.as_bytes())).unwrap();
                assert_eq!(node.qid().path, attr(&node).qid.path);
                if let Some(twin) = seen.insert(node.qid().path, (label, number)) {
                    panic!("{label}/{number} and {twin:?} have the same number");
                }
            }
            let file = now(dir.open(OpenFlags::DIRECTORY)).unwrap();
            now(file.readdir(0, &mut |entry| {
                if let Some(number) = str::from_utf8(entry.name).ok().and_then(|n| n.parse().ok()) {
                    assert_eq!(seen.get(&entry.qid.path), Some(&(label, number)));
                }
                true
            }))
            .unwrap();
        }
        // And a share that ends at the border does.
        let strict = Options {
            cross_mounts: false,
            ..Options::default()
        };
        let root = HostTree::open(&share.inside, strict)
            .unwrap()
            .root(None)
            .unwrap();
        assert_eq!(errno(now(root.walk(b"other"))), Errno::EXDEV);
        let ino = share.path("other").metadata().unwrap().ino();
        assert!(ino > 0);
        drop((root, other, tree));
        rustix::mount::unmount(share.path("other"), rustix::mount::UnmountFlags::DETACH).unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn a_share_that_is_read_only_changes_nothing() {
    let share = Share::new(Options {
        read_only: true,
        ..Options::default()
    });
    let file = share.make("file", b"content");
    std::fs::create_dir(share.path("dir")).unwrap();
    let root = &share.root;
    let change = SetAttr {
        valid: SetAttrMask::MTIME,
        ..SetAttr::default()
    };
    let results = [
        errno(now(root.create(
            b"new",
            OpenFlags::WRITE_ONLY,
            0o644,
            NO_GROUP,
        ))),
        errno(now(root.create(
            b"file",
            OpenFlags::empty(),
            0o644,
            NO_GROUP,
        ))),
        errno(now(root.mkdir(b"new", 0o755, NO_GROUP))),
        errno(now(root.symlink(b"new", b"x", NO_GROUP))),
        errno(now(root.mknod(b"new", 0o10644, 0, 0, NO_GROUP))),
        errno(now(root.mknod(b"new", 0o20644, 0, 0, NO_GROUP))),
        errno(now(root.link(&file, b"new"))),
        errno(now(root.rename(b"file", root, b"new"))),
        errno(now(root.unlink(b"file", UnlinkFlags::empty()))),
        errno(now(root.unlink(b"dir", UnlinkFlags::REMOVE_DIR))),
        errno(now(file.open(OpenFlags::WRITE_ONLY))),
        errno(now(file.open(OpenFlags::READ_WRITE))),
        errno(now(file.open(OpenFlags::TRUNCATE))),
        errno(now(file.setattr(&change))),
        errno(now(file.set_xattr(b"user.x", b"", XattrFlags::empty()))),
        errno(now(file.remove_xattr(b"user.x"))),
    ];
    assert_eq!(results, [Errno::EROFS; 16]);
    assert_eq!(read(&file).unwrap(), b"content");
    let open = now(file.open(OpenFlags::empty())).unwrap();
    assert_eq!(errno(now(open.write(b"x", 0))), Errno::EBADF);
    assert_eq!(names_in(&share.inside), ["dir", "file"]);
}
