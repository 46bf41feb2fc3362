//! What the end of a path says: a slash, "." and ".." stand for directories.

use xen9p::errno::Errno;
use xen9p::fs::{OpenOptions, Permissions, Result};
use xen9p_testing::bed::memory::bed;

#[test]
fn what_a_path_ends_with_is_meant() {
    let bed = bed();
    let fs = &bed.fs;
    fs.create_dir("/d").unwrap();
    fs.write("/f", "keep").unwrap();
    fs.symlink("d", "/to-dir").unwrap();
    fs.symlink("f", "/to-file").unwrap();
    fs.symlink("f/", "/to-file-as-dir").unwrap();
    fs.symlink("none", "/to-none").unwrap();
    let refused: &[(&str, Result<()>, Errno)] = &[
        ("open", fs.open("/f/").map(drop), Errno::ENOTDIR),
        ("open .", fs.open("/f/.").map(drop), Errno::ENOTDIR),
        (
            "open a link",
            fs.open("/to-file/").map(drop),
            Errno::ENOTDIR,
        ),
        (
            "open such a link",
            fs.open("/to-file-as-dir").map(drop),
            Errno::ENOTDIR,
        ),
        ("create", fs.create("/new/").map(drop), Errno::EISDIR),
        ("create over", fs.create("/f/").map(drop), Errno::ENOTDIR),
        (
            "create in nothing",
            fs.create("/none/x/").map(drop),
            Errno::ENOENT,
        ),
        (
            "create new",
            fs.open_with("/new/", OpenOptions::new().write(true).create_new(true))
                .map(drop),
            Errno::EISDIR,
        ),
        ("write", fs.write("/new/", "x"), Errno::EISDIR),
        ("metadata", fs.metadata("/f/").map(drop), Errno::ENOTDIR),
        (
            "symlink_metadata",
            fs.symlink_metadata("/to-file/").map(drop),
            Errno::ENOTDIR,
        ),
        ("exists", fs.exists("/f/").map(drop), Errno::ENOTDIR),
        (
            "read_link",
            fs.read_link("/to-dir/").map(drop),
            Errno::EINVAL,
        ),
        (
            "canonicalize",
            fs.canonicalize("/f/").map(drop),
            Errno::ENOTDIR,
        ),
        ("truncate", fs.truncate("/f/", 0), Errno::ENOTDIR),
        (
            "permissions",
            fs.set_permissions("/f/", Permissions::from_mode(0)),
            Errno::ENOTDIR,
        ),
        ("remove_file", fs.remove_file("/f/"), Errno::ENOTDIR),
        (
            "remove_file of a link",
            fs.remove_file("/to-dir/"),
            Errno::ENOTDIR,
        ),
        (
            "remove_file of a directory",
            fs.remove_file("/d/"),
            Errno::EISDIR,
        ),
        (
            "remove_dir of a link",
            fs.remove_dir("/to-dir/"),
            Errno::ENOTDIR,
        ),
        ("remove_dir .", fs.remove_dir("/d/."), Errno::EINVAL),
        ("remove_dir ..", fs.remove_dir("/d/x/.."), Errno::ENOTEMPTY),
        ("remove_dir_all .", fs.remove_dir_all("/d/."), Errno::EINVAL),
        (
            "remove_dir_all ..",
            fs.remove_dir_all("/d/x/.."),
            Errno::ENOTEMPTY,
        ),
        (
            "remove_dir_all of a link",
            fs.remove_dir_all("/to-dir/"),
            Errno::ENOTDIR,
        ),
        (
            "remove_dir_all of the root",
            fs.remove_dir_all("/."),
            Errno::EBUSY,
        ),
        ("rename", fs.rename("/f/", "/new"), Errno::ENOTDIR),
        ("rename to", fs.rename("/f", "/new/"), Errno::ENOTDIR),
        (
            "rename a link",
            fs.rename("/to-dir/", "/new"),
            Errno::ENOTDIR,
        ),
        ("rename .", fs.rename("/d/.", "/new"), Errno::EBUSY),
        ("rename to ..", fs.rename("/d", "/x/.."), Errno::EBUSY),
        ("symlink", fs.symlink("x", "/new/"), Errno::ENOENT),
        ("symlink over", fs.symlink("x", "/f/"), Errno::EEXIST),
        ("hard_link", fs.hard_link("/f", "/new/"), Errno::ENOENT),
        ("hard_link of", fs.hard_link("/f/", "/new"), Errno::ENOTDIR),
        ("mknod", fs.mknod("/new/", 0o10644, 0, 0), Errno::ENOENT),
        ("create_dir", fs.create_dir("/f/"), Errno::EEXIST),
        (
            "create_dir over a link",
            fs.create_dir("/to-none/"),
            Errno::EEXIST,
        ),
        ("create_dir .", fs.create_dir("/new/."), Errno::ENOENT),
        ("copy", fs.copy("/f/", "/new").map(drop), Errno::ENOTDIR),
        ("copy to", fs.copy("/f", "/new/").map(drop), Errno::EISDIR),
    ];
    for (what, done, errno) in refused {
        assert_eq!(
            done.as_ref().map_err(|error| error.errno()),
            Err(*errno),
            "{what}"
        );
    }
    assert_eq!(fs.read("/f").unwrap(), b"keep");
    assert!(!fs.exists("/new").unwrap() && !fs.exists("/none").unwrap());
    assert!(fs.metadata("/to-dir/").unwrap().is_dir());
    assert!(fs.symlink_metadata("/to-dir/").unwrap().is_dir());
    assert!(fs.symlink_metadata("/to-dir").unwrap().is_symlink());
    fs.create_dir("/new/").unwrap();
    fs.create_dir_all("/new/a/./b/.").unwrap();
    fs.rename("/new/", "/newer/").unwrap();
    fs.remove_dir("/newer/a/b/").unwrap();
    fs.remove_dir_all("/newer/").unwrap();
    assert!(!fs.exists("/newer").unwrap());
    bed.finish();
}

#[test]
fn what_failed_last_is_told_with_its_paths() {
    let bed = bed();
    let fs = &bed.fs;
    let told = || fs.last_failure().map(|failure| failure.to_string());
    assert_eq!(told(), None);
    fs.write("/f", "").unwrap();
    assert_eq!(told(), None, "nothing failed");
    fs.read_to_string("/app.conf").unwrap_err();
    assert_eq!(
        told().unwrap(),
        "read_to_string \"/app.conf\": No such file or directory (ENOENT)"
    );
    fs.clone().rename("/f\n", "/g").unwrap_err();
    let failure = fs.last_failure().unwrap();
    assert_eq!(failure.error(), Errno::ENOENT.into());
    assert_eq!(
        (failure.operation(), failure.path()),
        ("rename", &b"/f\n"[..])
    );
    assert_eq!(
        failure.to_string(),
        "rename \"/f\\n\" to \"/g\": No such file or directory (ENOENT)"
    );
    OpenOptions::new()
        .write(true)
        .open(fs, "/")
        .map(drop)
        .unwrap_err();
    assert_eq!(told().unwrap(), "open \"/\": Is a directory (EISDIR)");
    fs.write("/f", "").unwrap();
    assert!(
        told().unwrap().starts_with("open "),
        "a success changes nothing"
    );
    bed.finish();
}
