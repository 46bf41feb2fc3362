//! Whose files are, and what the kernel takes off a file that changes.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use p9_tree::{Node, OpenFile};
use p9_wire::{Errno, FileKind, OpenFlags, SetAttr, SetAttrMask, UnlinkFlags, XattrFlags};
use xen9pd::host::{IdMap, Owners, ShareError};

use super::*;

fn owner_of(share: &Share, name: &str) -> (u32, u32) {
    let stat = share.path(name).symlink_metadata().unwrap();
    (stat.uid(), stat.gid())
}

fn set_owner(node: &HostNode, uid: u32, gid: u32) -> Result<(), Error> {
    now(node.setattr(&SetAttr {
        valid: SetAttrMask::UID | SetAttrMask::GID,
        uid,
        gid,
        ..SetAttr::default()
    }))
}

#[test]
fn new_files_belong_to_the_user_of_the_attach_and_the_group_of_the_request() {
    if !is_root() {
        return;
    }
    let share = default_share();
    // Permissions of the directory are no obstacle: the peer's kernel has checked them.
    std::fs::set_permissions(&share.inside, PermissionsExt::from_mode(0o700)).unwrap();
    let root = share.tree.root(Some(1234)).unwrap();
    create(&root, "file", 0o6755, 5678).unwrap();
    now(root.mkdir(b"dir", 0o755, 5678)).unwrap();
    now(root.symlink(b"link", b"x", 5678)).unwrap();
    now(root.mknod(b"pipe", 0o10644, 0, 0, 5678)).unwrap();
    for name in ["file", "dir", "link", "pipe"] {
        assert_eq!(owner_of(&share, name), (1234, 5678), "{name}");
    }
    let mode = share.path("file").metadata().unwrap().mode();
    assert_eq!(mode & 0o7777, 0o6755);
    create(&root, "own group", 0o644, NO_GROUP).unwrap();
    assert_eq!(owner_of(&share, "own group"), (1234, 0));
    // This thread is root again.
    create(&share.root, "root's", 0o600, NO_GROUP).unwrap();
    assert_eq!(owner_of(&share, "root's"), (0, 0));
    set_owner(&share.node("root's").unwrap(), 1, 2).unwrap();
    assert_eq!(owner_of(&share, "root's"), (1, 2));
}

#[test]
fn a_directory_with_the_set_group_id_bit_hands_down_its_group() {
    if !is_root() {
        return;
    }
    let share = default_share();
    std::fs::create_dir(share.path("dir")).unwrap();
    chown(share.path("dir"), None, Some(77)).unwrap();
    let dir = share.node("dir").unwrap();
    chmod(&dir, 0o2777).unwrap();
    assert_eq!(attr(&dir).mode, 0o42777);
    for user in [None, Some(1000)] {
        let root = share.tree.root(user).unwrap();
        let dir = now(root.walk(b"dir")).unwrap();
        let sub = now(dir.mkdir(b"sub", 0o755, 5)).unwrap();
        assert_eq!((attr(&sub).gid, attr(&sub).mode), (77, 0o42755));
        let file = create(&dir, "file", 0o644, 5).unwrap();
        assert_eq!((attr(&file).gid, attr(&file).mode), (77, 0o100644));
        for (name, flags) in [
            ("sub", UnlinkFlags::REMOVE_DIR),
            ("file", UnlinkFlags::empty()),
        ] {
            now(dir.unlink(name.as_bytes(), flags)).unwrap();
        }
    }
}

/// A peer must not be able to put other content into a program that runs as another user.
#[test]
fn what_is_written_loses_its_set_user_id() {
    let share = default_share();
    let node = share.make("program", b"0123456789");
    let bits = |expected: u32, after: &str| {
        assert_eq!(attr(&node).mode & 0o7777, expected, "{after}");
    };
    let arm = || {
        chmod(&node, 0o6755).unwrap();
        bits(0o6755, "chmod");
    };
    let file = now(node.open(OpenFlags::READ_WRITE)).unwrap();
    arm();
    now(file.write(b"x", 0)).unwrap();
    bits(0o755, "a write");
    arm();
    set_len(&node, 3).unwrap();
    bits(0o755, "a change of length");
    arm();
    now(node.open(OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE)).unwrap();
    bits(0o755, "an open that empties it");
    arm();
    file.write_with(0, 1, |fd| rustix::io::pwrite(fd, b"y", 0))
        .unwrap();
    bits(0o755, "a write by the caller's own system call");
    if is_root() {
        arm();
        set_owner(&node, 5, 5).unwrap();
        bits(0o755, "a change of owner");
        // Of a group that is not the server's own: the peer's root may.
        arm();
        now(file.write(b"z", 0)).unwrap();
        bits(0o755, "a write to a file of others");
    }
    arm();
    now(file.read(&mut [0], 0)).unwrap();
    bits(0o6755, "a read");
}

#[test]
fn squashed_everything_is_done_as_one_user() {
    if !is_root() {
        return;
    }
    let share = Share::new(Options {
        owners: Owners::Squash {
            uid: 1234,
            gid: 5678,
        },
        devices: true,
        ..Options::default()
    });
    // The directories above give no access: descriptors do.
    std::fs::create_dir(share.path("roots")).unwrap();
    std::fs::write(share.path("roots/secret"), "secret").unwrap();
    std::fs::set_permissions(share.path("roots"), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(share.path("private"), "secret").unwrap();
    std::fs::set_permissions(share.path("private"), PermissionsExt::from_mode(0o600)).unwrap();
    chown(&share.inside, Some(1234), None).unwrap();
    let root = share.tree.root(Some(0)).unwrap();
    let file = create(&root, "file", 0o644, 42).unwrap();
    now(root.mkdir(b"dir", 0o755, 42)).unwrap();
    now(root.symlink(b"link", b"x", 42)).unwrap();
    for name in ["file", "dir", "link"] {
        assert_eq!(owner_of(&share, name), (1234, 5678), "{name}");
    }
    // The kernel checks the user's rights.
    let private = now(root.walk(b"private")).unwrap();
    assert_eq!(errno(read(&private)), Errno::EACCES);
    assert_eq!(errno(chmod(&private, 0o777)), Errno::EPERM);
    assert_eq!(errno(set_owner(&file, 0, 0)), Errno::EPERM);
    let roots = now(root.walk(b"roots")).unwrap();
    assert_eq!(errno(now(roots.walk(b"secret"))), Errno::EACCES);
    assert_eq!(errno(now(roots.open(OpenFlags::DIRECTORY))), Errno::EACCES);
    let device = now(root.mknod(b"null", FileKind::CHAR_DEVICE.bits() | 0o666, 1, 3, 42));
    assert_eq!(errno(device), Errno::EPERM);
    chmod(&file, 0o4755).unwrap();
    let open = now(file.open(OpenFlags::READ_WRITE)).unwrap();
    now(open.write(b"x", 0)).unwrap();
    assert_eq!(attr(&file).mode & 0o7777, 0o755);
    // And this thread is root again.
    assert!(std::fs::read(share.path("private")).is_ok());
    let groups = rustix::process::getegid();
    assert!(groups.is_root());
}

/// What is wrong is told once, to the administrator, rather than by every file to the guest.
#[test]
fn a_directory_that_the_squashed_user_may_not_search_is_refused() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mode = |mode| {
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
    };
    let options = |uid| Options {
        owners: Owners::Squash { uid, gid: 5678 },
        ..Options::default()
    };
    let (uid, gid) = (1234, 5678);
    for unsearchable in [0o700, 0o744] {
        mode(unsearchable);
        let refused = HostTree::open(dir.path(), options(uid)).unwrap_err();
        assert_eq!(refused, ShareError::Unsearchable { uid, gid });
        let said = refused.to_string();
        assert!(said.contains("squash=1234:5678"), "{said}");
        // Root may, and so may who needs not be asked.
        assert!(HostTree::open(dir.path(), options(0)).is_ok());
        assert!(HostTree::open(dir.path(), Options::default()).is_ok());
    }
    // Without the right to read, files are reached by their names.
    mode(0o711);
    assert!(HostTree::open(dir.path(), options(uid)).is_ok());
    mode(0o750);
    chown(dir.path(), None, Some(gid)).unwrap();
    assert!(HostTree::open(dir.path(), options(uid)).is_ok());
    // And this thread is root again.
    assert!(rustix::process::geteuid().is_root());
}

#[test]
fn others_can_squash_to_themselves_only() {
    if !is_root() {
        return;
    }
    // Another user, with no way back: in a thread, whose rights are its own.
    std::thread::spawn(|| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let (uid, gid) = (
            rustix::process::Uid::from_raw(4000),
            rustix::process::Gid::from_raw(4000),
        );
        rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        let squash = |uid, gid| Options {
            owners: Owners::Squash { uid, gid },
            ..Options::default()
        };
        let refused = HostTree::open(dir.path(), squash(4001, 4000)).unwrap_err();
        assert!(matches!(
            refused,
            ShareError::CannotSquash { uid: 4001, .. }
        ));
        let said = refused.to_string();
        assert!(
            said.contains("squash=4001:4000") && said.contains("as root"),
            "{said}"
        );
        for options in [squash(4000, 4000), Options::default()] {
            let root = HostTree::open(dir.path(), options)
                .unwrap()
                .root(Some(0))
                .unwrap();
            let file = create(&root, "file", 0o4755, 0).unwrap();
            assert_eq!((attr(&file).uid, attr(&file).gid), (4000, 4000));
            let open = now(file.open(OpenFlags::READ_WRITE)).unwrap();
            now(open.write(b"x", 0)).unwrap();
            assert_eq!(attr(&file).mode & 0o7777, 0o755);
            now(root.unlink(b"file", UnlinkFlags::empty())).unwrap();
        }
    })
    .join()
    .unwrap();
}

fn mapped(map: &str) -> Share {
    Share::new(Options {
        owners: Owners::Map(IdMap::parse(map).unwrap()),
        ..Options::default()
    })
}

#[test]
fn mapped_users_are_others_here() {
    if !is_root() {
        return;
    }
    let share = mapped("b 0 100000 1000");
    chown(&share.inside, Some(100_000), Some(100_000)).unwrap();
    let root = share.tree.root(Some(0)).unwrap();
    let file = create(&root, "file", 0o600, 7).unwrap();
    assert_eq!(owner_of(&share, "file"), (100_000, 100_007));
    assert_eq!((attr(&file).uid, attr(&file).gid), (0, 7));
    let user = share.tree.root(Some(5)).unwrap();
    let dir = now(user.mkdir(b"dir", 0o700, NO_GROUP)).unwrap();
    assert_eq!(owner_of(&share, "dir"), (100_005, 100_000));
    // The peer's root goes everywhere, as it does at home.
    let dir = share.node("dir").map(|_| dir).unwrap();
    create(&dir, "inner", 0o600, 0).unwrap();
    set_owner(&file, 8, 9).unwrap();
    assert_eq!(owner_of(&share, "file"), (100_008, 100_009));
    assert_eq!((attr(&file).uid, attr(&file).gid), (8, 9));
    // Numbers that no one has.
    assert_eq!(errno(set_owner(&file, 1000, 9)), Errno::EINVAL);
    assert_eq!(owner_of(&share, "file"), (100_008, 100_009));
    assert_eq!(errno(create(&root, "x", 0o600, 1000)), Errno::EOVERFLOW);
    let stranger = share.tree.root(Some(1000)).unwrap();
    assert_eq!(errno(create(&stranger, "x", 0o600, 0)), Errno::EOVERFLOW);
    // A program with the set-user-ID bit runs as that user here, not as root.
    chmod(&file, 0o4755).unwrap();
    assert_eq!(share.path("file").metadata().unwrap().uid(), 100_008);
}

/// Otherwise the peer's root would be root here by way of a file that is root's.
#[test]
fn files_of_users_outside_the_map_are_not_the_peer_s_to_change() {
    if !is_root() {
        return;
    }
    let share = mapped("b 0 100000 1000");
    chown(&share.inside, Some(100_000), Some(100_000)).unwrap();
    for (name, uid, gid) in [("root's", 0, 0), ("group's", 100_001, 0)] {
        let node = share.make(name, b"content");
        chown(share.path(name), Some(uid), Some(gid)).unwrap();
        let seen = attr(&node);
        let expected = if uid == 0 { 65534 } else { 1 };
        assert_eq!((seen.uid, seen.gid), (expected, 65534));
        assert_eq!(errno(chmod(&node, 0o6777)), Errno::EACCES, "{name}");
        assert_eq!(errno(set_owner(&node, 0, 0)), Errno::EACCES);
        assert_eq!(errno(set_len(&node, 0)), Errno::EACCES);
        for flags in [OpenFlags::WRITE_ONLY, OpenFlags::TRUNCATE] {
            assert_eq!(errno(now(node.open(flags))), Errno::EACCES);
        }
        let set = now(node.set_xattr(b"user.x", b"y", XattrFlags::empty()));
        assert_eq!(errno(set), Errno::EACCES);
        assert_eq!(errno(now(share.root.link(&node, b"link"))), Errno::EACCES);
        now(node.open(OpenFlags::empty())).unwrap();
        std::fs::set_permissions(share.path(name), PermissionsExt::from_mode(0o660)).unwrap();
        assert_eq!(errno(now(node.open(OpenFlags::empty()))), Errno::EACCES);
    }
    std::fs::create_dir(share.path("dir")).unwrap();
    let dir = share.node("dir").unwrap();
    assert_eq!(errno(create(&dir, "new", 0o600, 0)), Errno::EACCES);
    std::fs::write(share.path("dir/file"), "").unwrap();
    share.node("dir/file").unwrap();
    let removed = now(dir.unlink(b"file", UnlinkFlags::empty()));
    assert_eq!(errno(removed), Errno::EACCES);
    let moved = now(dir.rename(b"file", &share.root, b"mine"));
    assert_eq!(errno(moved), Errno::EACCES);
    std::fs::set_permissions(share.path("dir"), PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(errno(share.node("dir/file")), Errno::EACCES);
}

#[test]
fn access_control_lists_are_hidden_where_owners_are_mapped() {
    if !is_root() {
        return;
    }
    let share = mapped("b 0 100000 1000");
    let node = share.make("file", b"");
    chown(share.path("file"), Some(100_000), Some(100_000)).unwrap();
    now(node.set_xattr(b"user.x", b"y", XattrFlags::empty())).unwrap();
    assert_eq!(now(node.list_xattrs(100)).unwrap(), b"user.x\0");
    let acl = now(node.xattr(b"system.posix_acl_access", 100));
    assert_eq!(errno(acl), Errno::ENODATA);
    let set = now(node.set_xattr(b"system.posix_acl_access", b"x", XattrFlags::empty()));
    assert_eq!(errno(set), Errno::EPERM);
}
