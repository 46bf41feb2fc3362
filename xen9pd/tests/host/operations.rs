//! What files are for: content, attributes by descriptor, names that move, trees that are deep, disks that are full.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use p9_tree::{Node, OpenFile};
use p9_wire::{AttrMask, Errno, OpenFlags, SetAttr, SetAttrMask, Time, UnlinkFlags};

use rustix::fs::OFlags;

use super::*;

#[test]
fn content_goes_where_it_belongs() {
    let share = default_share();
    let created = now(share.root.create(
        b"file",
        OpenFlags::READ_WRITE | OpenFlags::EXCLUSIVE,
        0o640,
        NO_GROUP,
    ))
    .unwrap();
    assert_eq!(now(created.file.write(b"hello", 3)).unwrap(), 5);
    let mut buffer = [9; 16];
    assert_eq!(now(created.file.read(&mut buffer, 0)).unwrap(), 8);
    assert_eq!(&buffer[..8], b"\0\0\0hello");
    assert_eq!(now(created.file.read(&mut buffer, 8)).unwrap(), 0);
    assert_eq!(now(created.file.read(&mut buffer, 1 << 40)).unwrap(), 0);
    now(created.file.fsync(false)).unwrap();
    now(created.file.fsync(true)).unwrap();
    let host = share.path("file").metadata().unwrap();
    assert_eq!(host.permissions().mode() & 0o7777, 0o640);
    let attr = attr(&created.node);
    assert_eq!(
        (attr.mode, attr.size, attr.nlink, attr.uid),
        (host.mode(), 8, 1, host.uid())
    );
    assert!(attr.valid.contains(AttrMask::BASIC));
    // O_EXCL, and without it the one that is there.
    let again = now(share.root.create(
        b"file",
        OpenFlags::EXCLUSIVE | OpenFlags::READ_WRITE,
        0o600,
        NO_GROUP,
    ));
    assert_eq!(errno(again), Errno::EEXIST);
    let again = now(share
        .root
        .create(b"file", OpenFlags::READ_WRITE, 0o600, NO_GROUP))
    .unwrap();
    assert_eq!(again.node.qid().path, created.node.qid().path);
    assert_eq!(super::attr(&again.node).size, 8);
    let cut = OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE;
    now(share.root.create(b"file", cut, 0o600, NO_GROUP)).unwrap();
    assert_eq!(super::attr(&again.node).size, 0);
}

#[test]
fn the_way_a_file_is_open_holds() {
    let share = default_share();
    let node = share.make("file", b"0123");
    let reader = now(node.open(OpenFlags::empty())).unwrap();
    assert_eq!(errno(now(reader.write(b"x", 0))), Errno::EBADF);
    let writer = now(node.open(OpenFlags::WRITE_ONLY)).unwrap();
    assert_eq!(errno(now(writer.read(&mut [0; 4], 0))), Errno::EBADF);
    let appender = now(node.open(OpenFlags::WRITE_ONLY | OpenFlags::APPEND)).unwrap();
    now(appender.write(b"45", 0)).unwrap();
    assert_eq!(read(&node).unwrap(), b"012345");
    assert_eq!(errno(now(node.open(OpenFlags::DIRECTORY))), Errno::ENOTDIR);
    assert_eq!(
        errno(now(share.root.open(OpenFlags::READ_WRITE))),
        Errno::EISDIR
    );
    let dir = now(share.root.open(OpenFlags::empty())).unwrap();
    assert_eq!(errno(now(dir.read(&mut [0; 4], 0))), Errno::EISDIR);
    assert_eq!(errno(now(dir.write(&[0; 4], 0))), Errno::EBADF);
    assert_eq!(errno(list(&reader, 0, 1)), Errno::ENOTDIR);
}

/// QEMU changes attributes by path, so that those of a removed file, or of one that was moved, go wrong there.
#[test]
fn attributes_are_set_by_descriptor() {
    let share = default_share();
    let node = share.make("file", b"0123456789");
    std::fs::rename(share.path("file"), share.path("moved")).unwrap();
    std::fs::write(share.path("file"), "another").unwrap();
    let change = SetAttr {
        valid: SetAttrMask::MODE
            | SetAttrMask::SIZE
            | SetAttrMask::ATIME
            | SetAttrMask::ATIME_SET
            | SetAttrMask::MTIME
            | SetAttrMask::MTIME_SET,
        mode: 0o604,
        size: 5,
        atime: Time { secs: 1, nanos: 2 },
        mtime: Time {
            secs: -3_i64 as u64,
            nanos: 4,
        },
        ..SetAttr::default()
    };
    now(node.setattr(&change)).unwrap();
    let moved = share.path("moved").metadata().unwrap();
    assert_eq!((moved.mode() & 0o7777, moved.size()), (0o604, 5));
    assert_eq!((moved.atime(), moved.atime_nsec()), (1, 2));
    assert_eq!((moved.mtime(), moved.mtime_nsec()), (-3, 4));
    assert_eq!(std::fs::read(share.path("file")).unwrap(), b"another");

    // And when it has no name any more.
    let open = now(node.open(OpenFlags::READ_WRITE)).unwrap();
    now(share.root.unlink(b"moved", UnlinkFlags::empty())).unwrap();
    set_len(&node, 3).unwrap();
    chmod(&node, 0o611).unwrap();
    let attr = attr(&node);
    assert_eq!((attr.size, attr.mode & 0o7777, attr.nlink), (3, 0o611, 0));
    now(open.write(b"abc", 0)).unwrap();
    assert_eq!(read(&node).unwrap(), b"abc");
    assert_eq!(
        errno(now(share.root.link(&node, b"back"))),
        Errno::ENOENT,
        "a removed file stays removed"
    );
}

#[test]
fn a_change_of_the_time_of_change_is_one() {
    let share = default_share();
    let node = share.make("file", b"");
    let before = attr(&node);
    let now_only = |valid| {
        let change = SetAttr {
            valid,
            ..SetAttr::default()
        };
        now(node.setattr(&change)).unwrap();
        attr(&node)
    };
    // The clock of file systems ticks every few milliseconds.
    let mut after = before;
    while after.ctime == before.ctime {
        after = now_only(SetAttrMask::CTIME);
    }
    assert!(after.ctime > before.ctime);
    assert_eq!((after.mtime, after.mode), (before.mtime, before.mode));
    assert_ne!(after.qid.version, before.qid.version);
    assert_eq!(node.qid().path, after.qid.path);
    assert_eq!(node.qid(), after.qid, "the version that it has now");
    assert_eq!(after.qid.path, before.qid.path);
    let touched = now_only(SetAttrMask::MTIME);
    assert!(touched.mtime > before.mtime);
    assert_eq!(touched.atime, before.atime);
    let nonsense = SetAttr {
        valid: SetAttrMask::MTIME | SetAttrMask::MTIME_SET,
        mtime: Time {
            secs: 0,
            nanos: 1_000_000_000,
        },
        ..SetAttr::default()
    };
    assert_eq!(errno(now(node.setattr(&nonsense))), Errno::EINVAL);
}

#[test]
fn nodes_stay_with_their_files_when_names_move() {
    let share = default_share();
    let root = &share.root;
    for dir in ["a", "a/b", "z"] {
        std::fs::create_dir(share.path(dir)).unwrap();
    }
    let deep = share.make("a/b/file", b"content");
    let b = share.node("a/b").unwrap();
    now(root.rename(b"a", &share.node("z").unwrap(), b"moved")).unwrap();
    assert_eq!(read(&deep).unwrap(), b"content");
    let file = now(b.walk(b"file")).unwrap();
    assert_eq!(file.qid().path, deep.qid().path);
    now(b.mkdir(b"new", 0o700, NO_GROUP)).unwrap();
    assert!(share.path("z/moved/b/new").is_dir());
    // Over what is there, as rename(2).
    share.make("over", b"old");
    now(b.rename(b"file", root, b"over")).unwrap();
    assert_eq!(std::fs::read(share.path("over")).unwrap(), b"content");
    let into_itself = now(root.rename(b"z", &share.node("z/moved").unwrap(), b"x"));
    assert_eq!(errno(into_itself), Errno::EINVAL);
    let over_full = now(root.rename(b"over", root, b"z"));
    assert_eq!(errno(over_full), Errno::EISDIR);
    let full = now(root.unlink(b"z", UnlinkFlags::REMOVE_DIR));
    assert_eq!(errno(full), Errno::ENOTEMPTY);
    assert_eq!(
        errno(now(root.unlink(b"z", UnlinkFlags::empty()))),
        Errno::EISDIR
    );
    assert_eq!(
        errno(now(root.unlink(b"over", UnlinkFlags::REMOVE_DIR))),
        Errno::ENOTDIR
    );
    let second = share.node("over").unwrap();
    now(root.link(&second, b"second")).unwrap();
    assert_eq!(attr(&second).nlink, 2);
    let dir = share.node("z").unwrap();
    assert_eq!(errno(now(root.link(&dir, b"zz"))), Errno::EPERM);
    assert_eq!(errno(now(root.link(&second, b"z"))), Errno::EEXIST);
    assert_eq!(errno(now(root.mkdir(b"z", 0o755, NO_GROUP))), Errno::EEXIST);
}

/// 3,000 levels, far beyond the longest path: a node is a descriptor.
#[test]
fn depth_costs_nothing() {
    let share = default_share();
    let mut at = share.root.clone();
    for _ in 0..3000 {
        at = now(at.mkdir(b"a-directory", 0o755, NO_GROUP)).unwrap();
    }
    create(&at, "bottom", 0o644, NO_GROUP).unwrap();
    let mut at = share.root.clone();
    let mut levels = 0;
    while let Ok(next) = now(at.walk(b"a-directory")) {
        at = next;
        levels += 1;
    }
    assert_eq!(levels, 3000);
    now(at.walk(b"bottom")).unwrap();
    now(at.unlink(b"bottom", UnlinkFlags::empty())).unwrap();
    // The test's own directory can't be removed by path: empty it from below, as a peer would.
    drop(at);
    let mut way = vec![share.root.clone()];
    while way.len() <= 3000 {
        // No more than a part of the way is held at once.
        let next = now(way[way.len() - 1].walk(b"a-directory")).unwrap();
        way.push(next);
        if way.len() > 600 {
            break;
        }
    }
    // What is below moves up, level by level, until nothing is left.
    drop(way);
    for _ in 0..3000 {
        let top = now(share.root.walk(b"a-directory")).unwrap();
        if now(top.rename(b"a-directory", &share.root, b"next")).is_ok() {
            now(share.root.unlink(b"a-directory", UnlinkFlags::REMOVE_DIR)).unwrap();
            now(share.root.rename(b"next", &share.root, b"a-directory")).unwrap();
        }
    }
    now(share.root.unlink(b"a-directory", UnlinkFlags::REMOVE_DIR)).unwrap();
}

#[test]
fn a_full_disk_says_so() {
    if !is_root() {
        return;
    }
    std::thread::spawn(|| {
        let share = default_share();
        // SAFETY: the descriptors stay shared.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        mount_change(
            "/",
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        )
        .unwrap();
        let data = Some(c"size=64k,nr_inodes=4");
        mount("none", &share.inside, "tmpfs", MountFlags::empty(), data).unwrap();
        let tree = HostTree::open(&share.inside, Options::default()).unwrap();
        let root = tree.root(None).unwrap();
        let flags = OpenFlags::READ_WRITE;
        let full = now(root.create(b"file", flags, 0o644, NO_GROUP)).unwrap();
        let chunk = [1; 16 << 10];
        for part in 0..4 {
            now(full.file.write(&chunk, part * (16 << 10))).unwrap();
        }
        assert_eq!(errno(now(full.file.write(&chunk, 64 << 10))), Errno::ENOSPC);
        create(&root, "2", 0o644, NO_GROUP).unwrap();
        create(&root, "3", 0o644, NO_GROUP).unwrap();
        assert_eq!(errno(create(&root, "4", 0o644, NO_GROUP)), Errno::ENOSPC);
        let statfs = now(root.statfs()).unwrap();
        assert_eq!((statfs.bfree, statfs.ffree, statfs.namelen), (0, 0, 255));
        drop((full, root, tree));
        rustix::mount::unmount(&share.inside, rustix::mount::UnmountFlags::DETACH).unwrap();
    })
    .join()
    .unwrap();
}

/// A file has one descriptor while the request that made it keeps it open, and is as good as any other afterwards: by then it is
/// not open for writing any more, which would keep programs of this machine from running it.
#[test]
fn a_file_that_was_made_outlives_the_open_file() {
    let share = default_share();
    let flags = OpenFlags::READ_WRITE;
    // The flags of the descriptors that the file has.
    let open = || {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap();
        let paths = fds.filter_map(|fd| Some(fd.ok()?.path()));
        let own = paths
            .filter(|fd| std::fs::read_link(fd).is_ok_and(|target| target == share.path("moved")));
        let flags = own.map(|fd| {
            let name = fd.file_name().unwrap().to_str().unwrap();
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{name}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
            OFlags::from_bits_retain(flags).contains(OFlags::PATH)
        });
        let mut flags: Vec<bool> = flags.collect();
        flags.sort_unstable();
        flags
    };
    for use_before in [false, true] {
        let made = now(share.root.create(b"new", flags, 0o644, NO_GROUP)).unwrap();
        std::fs::rename(share.path("new"), share.path("moved")).unwrap();
        assert_eq!(open(), [false]);
        now(made.file.write(b"content", 0)).unwrap();
        if use_before {
            chmod(&made.node, 0o600).unwrap();
            assert_eq!(open(), [false, true]);
        }
        let other = made.node.clone();
        drop(made.file);
        drop(made.node);
        assert_eq!(open(), [true]);
        assert_eq!(read(&other).unwrap(), b"content");
        drop(other);
        assert!(open().is_empty());
        std::fs::remove_file(share.path("moved")).unwrap();
    }
}
