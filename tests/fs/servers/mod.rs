//! The files API works with servers that others wrote: random operations agree with a model and with the directory
//! itself, then the peculiarities of each server.

mod qemu;
mod xen9pd;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::model::{Abilities, LINUX, run};
use xen9p::errno::Errno;
use xen9p::fs::{
    Error, FileTimes, Fs, LockRange, MountOptions, OpenOptions, Permissions, SystemTime,
};
use xen9p::p9::Dialect;
use xen9p::transport::Transport;
use xen9p_testing::server::TempDir;
use xen9p_testing::server::real::{diod, ninep, p9};

fn mount(transport: impl Transport + 'static, options: &MountOptions) -> Fs {
    Fs::mount(transport, options).expect("mount")
}

/// The tree as the host sees it is the tree as the client sees it.
fn same_as_host(fs: &Fs, host: &Path, path: &str) {
    let mut ours: Vec<_> = fs
        .read_dir(format!("/{path}"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    ours.sort_by(|a, b| a.file_name().cmp(b.file_name()));
    let mut theirs: Vec<_> = std::fs::read_dir(host)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    theirs.sort();
    let names: Vec<_> = ours.iter().map(|entry| entry.file_name_lossy()).collect();
    assert_eq!(names, theirs);
    for name in theirs {
        let (host, path) = (host.join(&name), format!("{path}/{name}"));
        let kind = host.symlink_metadata().unwrap().file_type();
        let ours = fs.symlink_metadata(&path).unwrap();
        assert_eq!(ours.is_dir(), kind.is_dir());
        assert_eq!(ours.is_symlink(), kind.is_symlink());
        if kind.is_dir() {
            same_as_host(fs, &host, &path);
        } else if kind.is_file() {
            assert!(
                fs.read(&path).unwrap() == std::fs::read(&host).unwrap(),
                "{path}"
            );
        }
    }
}

/// What every server can do: content of all sizes, seen from both sides.
fn essentials(fs: &Fs, host: &Path) {
    for size in [
        0,
        1,
        255,
        256,
        4096,
        65_511,
        65_512,
        65_513,
        1 << 20,
        3_333_333,
    ] {
        let content: Vec<u8> = (0..size)
            .map(|at: usize| (at * 7 + at / 251) as u8)
            .collect();
        fs.write("/file", &content).unwrap();
        assert!(
            std::fs::read(host.join("file")).unwrap() == content,
            "{size}"
        );
        assert_eq!(fs.metadata("/file").unwrap().len(), size as u64);
        assert!(fs.read("/file").unwrap() == content, "{size}");
    }
    fs.copy("/file", "/copy").unwrap();
    assert!(std::fs::read(host.join("copy")).unwrap() == std::fs::read(host.join("file")).unwrap());

    std::fs::create_dir(host.join("many")).unwrap();
    for index in 0..700 {
        std::fs::write(
            host.join(format!("many/a rather long name {index:04}")),
            b"",
        )
        .unwrap();
    }
    let mut names: Vec<_> = fs
        .read_dir("/many")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_vec())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 700);
    fs.remove_dir_all("/many").unwrap();
    assert!(!host.join("many").exists());

    let deep: String = (0..40).map(|level| format!("/{level}")).collect();
    fs.create_dir_all(&deep).unwrap();
    fs.write(format!("{deep}/end"), b"bottom").unwrap();
    assert_eq!(
        std::fs::read(host.join(format!("{}/end", &deep[1..]))).unwrap(),
        b"bottom"
    );
    fs.remove_dir_all("/0").unwrap();

    assert_eq!(fs.read("/none").unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(fs.read("/file/x").unwrap_err().errno(), Errno::ENOTDIR);
    let file = OpenOptions::new().append(true).open(fs, "/copy").unwrap();
    file.set_len(3).unwrap();
    file.write_all(b"tail").unwrap();
    file.close().unwrap();
    assert_eq!(std::fs::read(host.join("copy")).unwrap().len(), 7);
    let mut new = OpenOptions::new();
    new.write(true).create_new(true);
    assert_eq!(new.open(fs, "/copy").unwrap_err().errno(), Errno::EEXIST);
    fs.rename("/copy", "/renamed").unwrap();
    assert!(host.join("renamed").exists());
    fs.remove_file("/renamed").unwrap();
    fs.remove_file("/file").unwrap();
    assert!(std::fs::read_dir(host).unwrap().next().is_none());
}

/// Attributes of 9P2000.L, to the nanosecond, seen from both sides.
fn attributes(fs: &Fs, host: &Path) {
    fs.write("/attr", b"0123456789").unwrap();
    let file = host.join("attr");
    assert_eq!(
        file.metadata().unwrap().permissions().mode() & 0o7777,
        0o644
    );
    fs.set_permissions("/attr", Permissions::from_mode(0o640))
        .unwrap();
    let time = SystemTime::new(1_234_567_890, 987_654_321);
    fs.set_times(
        "/attr",
        FileTimes::new().set_modified(time).set_accessed(time),
    )
    .unwrap();
    let theirs = file.metadata().unwrap();
    assert_eq!(theirs.permissions().mode() & 0o7777, 0o640);
    assert_eq!(
        (theirs.mtime(), theirs.mtime_nsec()),
        (1_234_567_890, 987_654_321)
    );
    let ours = fs.metadata("/attr").unwrap();
    assert_eq!(ours.modified(), time);
    assert_eq!(ours.accessed(), time);
    assert_eq!(ours.mode(), theirs.mode());
    assert_eq!(ours.nlink(), 1);
    fs.set_times("/attr", FileTimes::now()).unwrap();
    assert!(fs.metadata("/attr").unwrap().modified() > time);
    fs.truncate("/attr", 3).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"012");
    let opened = fs.open("/attr").unwrap();
    opened.sync_all().unwrap();
    opened.sync_data().unwrap();
    drop(opened);
    let statfs = fs.statfs("/").unwrap();
    assert!(statfs.total_bytes() >= statfs.free_bytes());
    fs.remove_file("/attr").unwrap();
}

fn xattrs(fs: &Fs) {
    fs.write("/x", b"").unwrap();
    match fs.set_xattr("/x", "user.one", b"first") {
        // Not on every file system of a host.
        Err(Error::Errno(Errno::EOPNOTSUPP)) => eprintln!("skipped: no user xattrs here"),
        set => {
            set.unwrap();
            fs.set_xattr("/x", "user.two", vec![9; 2000]).unwrap();
            assert_eq!(fs.xattr("/x", "user.one").unwrap(), b"first");
            assert_eq!(fs.xattr("/x", "user.two").unwrap(), vec![9; 2000]);
            let list = fs.list_xattrs("/x").unwrap();
            assert!(list.contains(&b"user.one".to_vec()) && list.contains(&b"user.two".to_vec()));
            fs.remove_xattr("/x", "user.one").unwrap();
            assert_eq!(
                fs.xattr("/x", "user.one"),
                Err(Error::Errno(Errno::ENODATA))
            );
        }
    }
    fs.remove_file("/x").unwrap();
}

/// Of a share with the file "f": it is read, and every change is refused.
fn is_read_only(fs: &Fs) {
    assert_eq!(fs.read("/f").unwrap(), b"read me");
    for result in [
        fs.write("/f", b""),
        fs.write("/new", b""),
        fs.create_dir("/d"),
        fs.remove_file("/f"),
        fs.rename("/f", "/g"),
        fs.symlink("f", "/l"),
        fs.truncate("/f", 0),
        fs.set_permissions("/f", Permissions::from_mode(0o600)),
    ] {
        assert_eq!(result.unwrap_err().errno(), Errno::EROFS);
    }
}

fn nothing_left(fs: Fs) {
    let session = fs.to_async().session().clone();
    fs.unmount().unwrap();
    for _ in 0..100 {
        if session.fids_in_use() == 0 {
            return;
        }
        let soon = session.now() + std::time::Duration::from_millis(20);
        session.wait(soon);
    }
    panic!("{} fids left", session.fids_in_use());
}

#[test]
fn diod_with_real_locks() {
    let export = TempDir::new().unwrap();
    let Some(transport) = diod(export.path()).unwrap() else {
        return;
    };
    let tree = export.path().to_str().unwrap();
    let fs = mount(transport, &MountOptions::new().tree(tree));
    essentials(&fs, export.path());
    attributes(&fs, export.path());
    xattrs(&fs);
    let (one, two) = (fs.create("/lock").unwrap(), fs.create("/lock").unwrap());
    let lock = one.try_lock(LockRange::ALL, true).unwrap().unwrap();
    assert!(two.try_lock(LockRange::ALL, true).unwrap().is_none());
    drop(lock);
    drop(two.lock(LockRange::ALL, true).unwrap());
    drop((one, two));
    fs.remove_file("/lock").unwrap();
    let can = Abilities {
        open_unlinked: false,
        ..LINUX
    };
    run(&fs, 4, 3000, can);
    same_as_host(&fs, export.path(), "");
    nothing_left(fs);
}

#[test]
fn crosvms_server() {
    let export = TempDir::new().unwrap();
    let fs = mount(p9(export.path()).unwrap(), &MountOptions::new());
    essentials(&fs, export.path());
    let can = Abilities {
        symlinks: false,
        ..LINUX
    };
    run(&fs, 5, 3000, can);
    same_as_host(&fs, export.path(), "");
    nothing_left(fs);
}

/// ninep remembers what an inode number stood for after the file is gone, and takes a new file of that
/// number for the old one: nothing is made here after something was removed.
#[test]
fn ninep_in_plan9s_dialect() {
    let export = TempDir::new().unwrap();
    let host = export.path();
    let fs = mount(ninep(host).unwrap(), &MountOptions::new());
    assert_eq!(fs.dialect(), Dialect::Plan9);
    let deep: String = (0..40).map(|level| format!("/{level}")).collect();
    fs.create_dir_all(&deep).unwrap();
    for size in [0, 1, 4096, 65_511, 65_512, 65_513, 3_333_333] {
        let content: Vec<u8> = (0..size)
            .map(|at: usize| (at * 7 + at / 251) as u8)
            .collect();
        let path = format!("{deep}/{size}");
        fs.write(&path, &content).unwrap();
        assert!(std::fs::read(host.join(&path[1..])).unwrap() == content);
        assert!(fs.read(&path).unwrap() == content);
    }
    fs.create_dir("/many").unwrap();
    for index in 0..300 {
        std::fs::write(
            host.join(format!("many/a rather long name {index:04}")),
            b"",
        )
        .unwrap();
    }
    assert_eq!(fs.read_dir("/many").unwrap().count(), 300);
    let mut listing = fs.read_dir("/many").unwrap();
    let cookie = listing.nth(99).unwrap().unwrap().cookie();
    listing.seek(cookie);
    assert_eq!(listing.count(), 200);
    same_as_host(&fs, host, "");

    fs.write("/log", b"one").unwrap();
    let log = OpenOptions::new().append(true).open(&fs, "/log").unwrap();
    log.write_all(b", two").unwrap();
    log.set_len(7).unwrap();
    assert_eq!(log.stream_position().unwrap(), 7);
    // stat(5)'s way to ask for it is a change of the qid to ninep.
    assert_eq!(log.sync_all().unwrap_err().errno(), Errno::EINVAL);
    log.close().unwrap();
    assert_eq!(std::fs::read(host.join("log")).unwrap(), b"one, tw");
    fs.write("/log", b"new").unwrap();
    assert_eq!(fs.read("/log").unwrap(), b"new");
    fs.set_permissions("/log", Permissions::from_mode(0o600))
        .unwrap();
    assert_eq!(fs.metadata("/log").unwrap().permissions().mode(), 0o600);
    fs.rename("/log", "/log.1").unwrap();
    assert_eq!(
        fs.rename("/log.1", "/0/log").unwrap_err().errno(),
        Errno::EXDEV
    );
    let mut new = OpenOptions::new();
    new.write(true).create_new(true);
    assert_eq!(new.open(&fs, "/log.1").unwrap_err().errno(), Errno::EEXIST);
    for unsupported in [
        fs.symlink("a", "/b"),
        fs.hard_link("/log.1", "/b"),
        fs.chown("/log.1", Some(1), None),
        fs.statfs("/").map(drop),
        fs.xattr("/log.1", "user.x").map(drop),
    ] {
        assert!(matches!(
            unsupported,
            Err(Error::Unsupported {
                dialect: Dialect::Plan9,
                ..
            })
        ));
    }
    assert_eq!(fs.read("/none").unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(
        fs.remove_dir("/many").unwrap_err().errno(),
        Errno::ENOTEMPTY
    );
    fs.remove_file("/log.1").unwrap();
    fs.remove_dir_all("/many").unwrap();
    fs.remove_dir_all("/0").unwrap();
    assert!(std::fs::read_dir(host).unwrap().next().is_none());
    nothing_left(fs);
}
