//! Each rule of the name space holds: mount points, links, unions, binds, copies.

use crate::common::{errno, names, served, tree};
use xen9p::errno::Errno;
use xen9p::fs::{Error, MountOptions, OpenOptions, Permissions};
use xen9p::ns::{Bind, MemTree, Namespace};

#[test]
fn servers_and_trees_are_one() {
    let (share, data) = (served(&[("/etc/hosts", "h")]), served(&[("/x", "1")]));
    let ns = Namespace::new(share.fs.clone());
    ns.mount(data.fs.clone(), "/mnt/data").unwrap();
    ns.mount(tree(&[("/t", "tmp")]), "/tmp").unwrap();

    assert_eq!(ns.read("/etc/hosts").unwrap(), b"h");
    assert_eq!(ns.read("/mnt/data/x").unwrap(), b"1");
    assert_eq!(ns.read("tmp/../tmp//t").unwrap(), b"tmp");
    ns.write("/mnt/data/y", "2").unwrap();
    assert_eq!(data.server.borrow().get("/y").unwrap(), b"2");
    assert_eq!(share.server.borrow().get("/mnt/data/y"), None);

    assert_eq!(ns.copy("/mnt/data/y", "/tmp/y").unwrap(), 1);
    assert_eq!(ns.copy("/tmp/t", "/etc/t").unwrap(), 3);
    assert_eq!(share.server.borrow().get("/etc/t").unwrap(), b"tmp");
    assert_eq!(errno(ns.rename("/tmp/t", "/etc/t2")), Errno::EXDEV);
    assert_eq!(errno(ns.rename("/mnt/data/x", "/x")), Errno::EXDEV);
    assert_eq!(errno(ns.hard_link("/mnt/data/x", "/x")), Errno::EXDEV);
    ns.rename("/mnt/data/x", "/mnt/data/z").unwrap();
    ns.hard_link("/mnt/data/z", "/mnt/data/zz").unwrap();
    assert_eq!(names(&ns, "/mnt/data"), ["y", "z", "zz"]);

    drop(ns);
    share.finish();
    data.finish();
}

#[test]
fn mount_points_are_seen_though_the_server_lacks_them() {
    let share = served(&[("/etc/hosts", "h"), ("/var/log/old", "o")]);
    let ns = Namespace::new(share.fs.clone());
    ns.mount(tree(&[("/f", "")]), "/mnt/a/deep").unwrap();
    ns.mount(tree(&[("/new", "")]), "/var/log").unwrap();
    assert_eq!(names(&ns, "/"), ["etc", "mnt", "var"]);
    assert_eq!(names(&ns, "/mnt"), ["a"]);
    assert_eq!(names(&ns, "/mnt/a"), ["deep"]);
    assert_eq!(names(&ns, "/mnt/a/deep"), ["f"]);
    assert_eq!(names(&ns, "/var"), ["log"]);
    assert_eq!(names(&ns, "/var/log"), ["new"]);
    for entry in ns.read_dir("/mnt").unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.path(), b"/mnt/a");
        assert!(entry.file_type().unwrap().is_dir());
        assert!(entry.metadata().unwrap().is_dir());
    }
    assert_eq!(ns.metadata("/mnt").unwrap().mode(), 0o040_555);
    assert!(ns.exists("/mnt/a").unwrap());
    assert!(!ns.exists("/mnt/b").unwrap());
    assert_eq!(errno(ns.metadata("/mnt/b/c")), Errno::ENOENT);

    // Nothing can be made or changed in a directory that no tree has.
    assert_eq!(errno(ns.write("/mnt/f", "")), Errno::EROFS);
    assert_eq!(errno(ns.create_dir("/mnt/d")), Errno::EROFS);
    assert_eq!(errno(ns.create_dir("/mnt/a")), Errno::EEXIST);
    assert_eq!(errno(ns.remove_dir("/mnt")), Errno::EBUSY);
    assert!(ns.open("/mnt").unwrap().metadata().unwrap().is_dir());
    assert_eq!(errno(ns.create("/mnt")), Errno::EISDIR);
    assert_eq!(errno(ns.statfs("/mnt")), Errno::EOPNOTSUPP);
    let mode = Permissions::from_mode(0o777);
    assert_eq!(errno(ns.set_permissions("/mnt", mode)), Errno::EROFS);

    // What a mount hides is there again afterwards.
    ns.unmount("/var/log").unwrap();
    assert_eq!(names(&ns, "/var/log"), ["old"]);
    ns.unmount("/mnt/a/deep").unwrap();
    assert!(!ns.exists("/mnt").unwrap());
    drop(ns);
    share.finish();
}

#[test]
fn a_mount_point_tells_of_what_is_mounted() {
    let root = served(&[("/dev/f", "")]);
    let ns = Namespace::new(root.fs.clone());
    let mounted = MemTree::new();
    Namespace::new(mounted.clone())
        .set_permissions("/", Permissions::from_mode(0o700))
        .unwrap();
    ns.mount(mounted, "/dev").unwrap();
    assert_eq!(ns.metadata("/dev").unwrap().permissions().mode(), 0o700);
    let entry = ns.read_dir("/").unwrap().next().unwrap().unwrap();
    assert_eq!(entry.metadata().unwrap().permissions().mode(), 0o700);
    assert_eq!(ns.read_dir("/").unwrap().count(), 1);
}

#[test]
fn links_are_resolved_in_the_name_space() {
    let (share, data) = (served(&[("/etc/passwd", "root's")]), served(&[("/f", "f")]));
    data.fs.write("/passwd", "data's").unwrap();
    data.fs.create_dir("/etc").unwrap();
    data.fs.write("/etc/passwd", "leak").unwrap();
    data.fs.symlink("/etc/passwd", "/absolute").unwrap();
    data.fs.symlink("../../../etc/passwd", "/upwards").unwrap();
    data.fs.symlink("f", "/sideways").unwrap();
    data.fs.symlink("/mnt/data/etc", "/dir").unwrap();
    data.fs.symlink("/made", "/dangling").unwrap();
    data.fs.symlink("b", "/a").unwrap();
    data.fs.symlink("a", "/b").unwrap();
    let ns = Namespace::new(share.fs.clone());
    ns.mount(data.fs.clone(), "/mnt/data").unwrap();
    ns.symlink("/mnt/data", "/data").unwrap();

    assert_eq!(ns.read("/mnt/data/absolute").unwrap(), b"root's");
    assert_eq!(ns.read("/mnt/data/upwards").unwrap(), b"root's");
    assert_eq!(ns.read("/data/absolute").unwrap(), b"root's");
    assert_eq!(ns.read("/data/sideways").unwrap(), b"f");
    assert_eq!(ns.read("/data/dir/passwd").unwrap(), b"leak");
    assert_eq!(ns.canonicalize("/data/dir").unwrap(), b"/mnt/data/etc");
    assert_eq!(
        ns.read_link("/data/upwards").unwrap(),
        b"../../../etc/passwd"
    );
    assert!(ns.symlink_metadata("/data/upwards").unwrap().is_symlink());
    assert_eq!(errno(ns.read_link("/data/f")), Errno::EINVAL);
    assert_eq!(ns.read("/data/a"), Err(Error::TooManyLinks));
    assert_eq!(ns.read("/data/a/x"), Err(Error::TooManyLinks));

    // A link to nowhere is where the file is made, in the tree that it leads to.
    ns.write("/data/dangling", "made").unwrap();
    assert_eq!(share.server.borrow().get("/made").unwrap(), b"made");
    let mut new = OpenOptions::new();
    new.write(true).create_new(true);
    assert_eq!(errno(ns.open_with("/data/b", &new)), Errno::EEXIST);

    // Mounting on a link mounts where it leads.
    ns.mount(tree(&[("/g", "")]), "/data/dir").unwrap();
    assert_eq!(names(&ns, "/mnt/data/etc"), ["g"]);
    ns.unmount("/mnt/data/etc").unwrap();
    ns.remove_file("/data/dir").unwrap();
    assert_eq!(data.fs.read("/etc/passwd").unwrap(), b"leak");
    drop(ns);
    share.finish();
    data.finish();
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let ns = Namespace::new(tree(&[("/0", "end")]));
    for at in 1..=41 {
        ns.symlink(format!("{}", at - 1), format!("/{at}")).unwrap();
    }
    assert_eq!(ns.read("/40").unwrap(), b"end");
    assert_eq!(ns.read("/41"), Err(Error::TooManyLinks));
}

#[test]
fn a_union_is_searched_in_order() {
    let (over, etc) = (
        served(&[("/motd", "over")]),
        served(&[("/etc/motd", "old")]),
    );
    etc.fs.write("/etc/hosts", "h").unwrap();
    let ns = Namespace::new(etc.fs.clone());
    ns.mount(over.fs.clone(), "/over").unwrap();
    ns.mount(
        tree(&[("/hosts", "last"), ("/third", "3"), ("/d/x", "")]),
        "/last",
    )
    .unwrap();
    ns.bind("/over", "/etc", Bind::BEFORE.create()).unwrap();
    ns.bind("/last", "/etc", Bind::AFTER).unwrap();

    assert_eq!(ns.read("/etc/motd").unwrap(), b"over");
    assert_eq!(ns.read("/etc/hosts").unwrap(), b"h");
    assert_eq!(ns.read("/etc/third").unwrap(), b"3");
    assert_eq!(names(&ns, "/etc"), ["d", "hosts", "motd", "third"]);
    let points = ns.mount_points();
    let etc_point = points.iter().find(|point| point.path == b"/etc").unwrap();
    assert_eq!(etc_point.elements, 3);

    // Changes act on the element where the name is.
    ns.write("/etc/hosts", "H").unwrap();
    assert_eq!(etc.server.borrow().get("/etc/hosts").unwrap(), b"H");
    ns.write("/etc/new", "n").unwrap();
    ns.create_dir("/etc/sub").unwrap();
    ns.symlink("new", "/etc/link").unwrap();
    assert_eq!(names(&ns, "/over"), ["link", "motd", "new", "sub"]);
    assert_eq!(ns.read("/etc/link").unwrap(), b"n");

    // Only the first name is searched for: what is in /etc/d is that of its element.
    ns.create_dir("/over/d").unwrap();
    assert_eq!(names(&ns, "/etc/d"), Vec::<String>::new());
    assert_eq!(errno(ns.read("/etc/d/x")), Errno::ENOENT);
    ns.remove_dir("/etc/d").unwrap();
    ns.write("/etc/d/y", "").unwrap();
    assert!(ns.exists("/last/d/y").unwrap());
    ns.remove_file("/etc/d/y").unwrap();
    assert_eq!(names(&ns, "/etc/d"), ["x"]);

    // What was hidden appears.
    ns.remove_file("/etc/motd").unwrap();
    assert_eq!(ns.read("/etc/motd").unwrap(), b"old");
    ns.rename("/etc/motd", "/etc/issue").unwrap();
    assert_eq!(etc.server.borrow().get("/etc/issue").unwrap(), b"old");
    assert_eq!(errno(ns.rename("/etc/issue", "/etc/third")), Errno::EXDEV);
    assert_eq!(errno(ns.remove_dir("/etc")), Errno::EBUSY);

    ns.unmount_from("/over", "/etc").unwrap();
    assert_eq!(names(&ns, "/etc"), ["d", "hosts", "issue", "third"]);
    assert_eq!(errno(ns.write("/etc/no", "")), Errno::EROFS);
    assert_eq!(errno(ns.create_dir("/etc/no")), Errno::EROFS);
    ns.unmount_from("/last", "/etc").unwrap();
    // No union any more.
    ns.write("/etc/yes", "").unwrap();
    assert_eq!(ns.mount_points().len(), 2);
    drop(ns);
    over.finish();
    etc.finish();
}

#[test]
fn errors_of_an_element_are_not_passed_over() {
    let bed = served(&[("/f", "f")]);
    let ns = Namespace::new(tree(&[("/u/f", "under")]));
    ns.mount(bed.fs.clone(), "/b").unwrap();
    ns.bind("/b", "/u", Bind::BEFORE).unwrap();
    assert_eq!(errno(ns.read("/u/f/g")), Errno::ENOTDIR);
    bed.control.lose(&"gone");
    assert!(matches!(ns.read("/u/f"), Err(Error::Transport(_))));
    assert!(matches!(ns.read_dir("/u"), Err(Error::Transport(_))));
}

#[test]
fn an_element_that_is_gone_is_passed_over() {
    let root = tree(&[("/a/x", "a"), ("/u/y", "u"), ("/one/z", "")]);
    let ns = Namespace::new(root.clone());
    ns.bind("/a", "/u", Bind::BEFORE).unwrap();
    ns.bind("/a", "/one", Bind::REPLACE).unwrap();
    // Of the same tree, without what is bound.
    let root = Namespace::new(root);
    root.remove_dir_all("/a").unwrap();
    assert_eq!(ns.read("/u/y").unwrap(), b"u");
    assert_eq!(names(&ns, "/u"), ["y"]);
    assert_eq!(errno(ns.read("/one/x")), Errno::ENOENT);
    assert_eq!(errno(ns.read_dir("/one")), Errno::ENOENT);
    // A link in its place is not followed out of where it was.
    root.symlink("/one", "/a").unwrap();
    assert_eq!(ns.read("/u/y").unwrap(), b"u");
    assert_eq!(errno(ns.read("/one/z")), Errno::ENOENT);
    ns.unmount("/one").unwrap();
    assert_eq!(ns.read("/one/z").unwrap(), b"");
}

#[test]
fn files_are_bound_too() {
    let bed = served(&[("/etc/hosts", "old"), ("/data/hosts", "new")]);
    let ns = Namespace::new(bed.fs.clone());
    ns.bind("/data/hosts", "/etc/hosts", Bind::REPLACE).unwrap();
    assert_eq!(ns.read("/etc/hosts").unwrap(), b"new");
    ns.write("/etc/hosts", "newer").unwrap();
    assert_eq!(bed.server.borrow().get("/data/hosts").unwrap(), b"newer");
    assert_eq!(bed.server.borrow().get("/etc/hosts").unwrap(), b"old");
    assert_eq!(errno(ns.remove_file("/etc/hosts")), Errno::EBUSY);
    assert_eq!(errno(ns.rename("/etc/hosts", "/x")), Errno::EBUSY);
    assert_eq!(errno(ns.rename("/data/hosts", "/etc/hosts")), Errno::EBUSY);
    assert_eq!(errno(ns.read("/etc/hosts/x")), Errno::ENOTDIR);
    assert_eq!(errno(ns.read_dir("/etc/hosts")), Errno::ENOTDIR);
    let entry = ns.read_dir("/etc").unwrap().next().unwrap().unwrap();
    assert!(entry.file_type().unwrap().is_file());
    assert_eq!(entry.metadata().unwrap().len(), 5);
    drop(entry);
    ns.unmount("/etc/hosts").unwrap();
    assert_eq!(ns.read("/etc/hosts").unwrap(), b"old");
    drop(ns);
    bed.finish();
}

#[test]
fn binds_never_run_in_circles() {
    let ns = Namespace::new(tree(&[("/a/b/f", ""), ("/f", "root")]));
    ns.bind("/", "/a", Bind::REPLACE).unwrap();
    assert_eq!(ns.read("/a/f").unwrap(), b"root");
    // In the root that is seen at /a nothing is bound.
    assert_eq!(names(&ns, "/a/a"), ["b"]);
    assert_eq!(errno(ns.read("/a/a/a/f")), Errno::ENOENT);
    ns.unmount("/a").unwrap();
    ns.bind("/a", "/a/b", Bind::REPLACE).unwrap();
    ns.bind("/a/b", "/a", Bind::REPLACE).unwrap();
    assert_eq!(names(&ns, "/a"), ["b"]);
    assert_eq!(names(&ns, "/a/b"), ["b"]);
    assert_eq!(names(&ns, "/a/b/b"), ["f"]);
    ns.bind("/a", "/a", Bind::REPLACE).unwrap();
    assert_eq!(names(&ns, "/a/b/b"), ["f"]);
}

#[test]
fn a_union_can_be_bound_as_one() {
    let ns = Namespace::new(tree(&[("/a/x", "a"), ("/b/y", "b"), ("/v/z", "")]));
    ns.bind("/a", "/b", Bind::AFTER.create()).unwrap();
    ns.bind("/b", "/v", Bind::REPLACE).unwrap();
    assert_eq!(names(&ns, "/v"), ["x", "y"]);
    ns.write("/v/new", "").unwrap();
    assert!(ns.exists("/a/new").unwrap());
    // What comes later to one does not show in the other.
    ns.unmount("/b").unwrap();
    assert_eq!(names(&ns, "/b"), ["y"]);
    assert_eq!(names(&ns, "/v"), ["new", "x", "y"]);
}

#[test]
fn the_root_is_bound_over_and_comes_back() {
    let ns = Namespace::new(tree(&[("/old", ""), ("/jail/in", "")]));
    ns.bind("/jail", "/", Bind::BEFORE).unwrap();
    assert_eq!(names(&ns, "/"), ["in", "jail", "old"]);
    ns.bind("/jail", "/", Bind::REPLACE).unwrap();
    assert_eq!(names(&ns, "/../.."), ["in"]);
    ns.mount(MemTree::new(), "/tmp").unwrap();
    assert_eq!(names(&ns, "/"), ["in", "tmp"]);
    ns.unmount("/").unwrap();
    assert_eq!(names(&ns, "/"), ["jail", "old", "tmp"]);
}

#[test]
fn copies_are_private_and_clones_are_shared() {
    let ns = Namespace::new(tree(&[("/a/f", ""), ("/b/g", "")]));
    let (shared, private) = (ns.clone(), ns.fork());
    ns.bind("/a", "/b", Bind::REPLACE).unwrap();
    assert_eq!(names(&shared, "/b"), ["f"]);
    assert_eq!(names(&private, "/b"), ["g"]);
    private.mount(MemTree::new(), "/a").unwrap();
    assert_eq!(names(&ns, "/a"), ["f"]);
    // The files are the same.
    private.write("/b/g", "now").unwrap();
    ns.unmount("/b").unwrap();
    assert_eq!(ns.read("/b/g").unwrap(), b"now");
    assert_eq!(format!("{private:?}"), "[\"/a\"]");
}

#[test]
fn several_attaches_of_one_connection() {
    let bed = served(&[("/f", "f")]);
    let other = bed
        .fs
        .attach(&MountOptions::new().user("other", 1000))
        .unwrap();
    let ns = Namespace::new(bed.fs.clone());
    ns.mount(other, "/other").unwrap();
    assert_eq!(ns.read("/other/f").unwrap(), b"f");
    // Two mounts, even of one server, are two trees; binds of one are not.
    assert_eq!(errno(ns.rename("/other/f", "/g")), Errno::EXDEV);
    ns.create_dir("/other/d").unwrap();
    ns.create_dir("/d2").unwrap();
    ns.bind("/other/d", "/d2", Bind::REPLACE).unwrap();
    ns.rename("/other/f", "/d2/f").unwrap();
    assert_eq!(bed.server.borrow().get("/d/f").unwrap(), b"f");
    drop(ns);
    bed.finish();
}

#[test]
fn open_files_outlive_their_mount() {
    let bed = served(&[("/f", "content")]);
    let ns = Namespace::new(MemTree::new());
    ns.mount(bed.fs.clone(), "/m").unwrap();
    let file = ns.open("/m/f").unwrap();
    let listing = ns.read_dir("/m").unwrap();
    ns.unmount("/m").unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    assert_eq!(listing.filter(Result::is_ok).count(), 1);
    file.close().unwrap();
    drop(ns);
    bed.finish();
}

#[test]
fn what_is_mounted_is_known_without_asking() {
    let bed = served(&[("/a/b/c", "c")]);
    let ns = Namespace::new(bed.fs.clone());
    let (_, root) = bed.cost(|fs| fs.metadata("/").unwrap());
    assert_eq!(bed.cost(|_| ns.metadata("/").unwrap()).1, root);
    drop(ns);
    bed.finish();
}
