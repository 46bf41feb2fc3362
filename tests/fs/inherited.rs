//! What servers leave to the client, or do in ways of their own: reading a directory as a file, the group of what is
//! made in a setgid directory, times that 32 bits do not hold, and open files whose names are taken by others.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use xen9p::errno::Errno;
use xen9p::fs::{FileTimes, Fs, MountOptions, OpenOptions, Permissions, SystemTime};
use xen9p::p9::Dialect;
use xen9p_testing::server::TempDir;
use xen9p_testing::server::qemu::{QemuOptions, qemu};
use xen9p_testing::server::real::{diod, ninep, p9};

/// Runs `check` on a directory that each of the named servers exports, where the server can be had.
fn on_each(servers: &[&str], check: impl Fn(&Fs, &Path, &str)) {
    for &name in servers {
        let export = TempDir::new().unwrap();
        let options = MountOptions::new();
        let unix = MountOptions::new().dialects(&[Dialect::Unix]);
        let mapped = QemuOptions {
            security_model: "mapped-xattr",
            ..QemuOptions::default()
        };
        let tree = export.path().to_str().unwrap();
        let fs = match name {
            "qemu" | "qemu.u" => {
                let Some(transport) = qemu(export.path(), QemuOptions::default()).unwrap() else {
                    continue;
                };
                Fs::mount(transport, if name == "qemu" { &options } else { &unix })
            }
            "mapped" => {
                let Some(transport) = qemu(export.path(), mapped).unwrap() else {
                    continue;
                };
                Fs::mount(transport, &options)
            }
            "diod" => {
                let Some(transport) = diod(export.path()).unwrap() else {
                    continue;
                };
                Fs::mount(transport, &options.tree(tree))
            }
            "p9" => Fs::mount(p9(export.path()).unwrap(), &options),
            "ninep" => Fs::mount(ninep(export.path()).unwrap(), &options),
            other => panic!("no server {other}"),
        };
        check(&fs.unwrap(), export.path(), name);
    }
}

#[test]
fn a_directory_is_not_read_as_a_file() {
    on_each(
        &["qemu", "qemu.u", "mapped", "diod", "p9", "ninep"],
        |fs, _, server| {
            fs.create_dir("/d").unwrap();
            fs.write("/d/f", b"x").unwrap();
            let is_dir = |what: &str, result: Result<(), xen9p::fs::Error>| {
                assert_eq!(
                    result.map_err(|error| error.errno()),
                    Err(Errno::EISDIR),
                    "{what}, {server}"
                );
            };
            is_dir("read", fs.read("/d").map(drop));
            is_dir("read_to_string", fs.read_to_string("/d").map(drop));
            is_dir("copy", fs.copy("/d", "/e").map(drop));
            for path in ["/d", "/"] {
                let dir = fs.open(path).unwrap();
                let mut bytes = [0; 512];
                is_dir("File::read", dir.read(&mut bytes).map(drop));
                is_dir("File::read_exact", dir.read_exact(&mut bytes));
                is_dir("File::read_at", dir.read_at(&mut bytes, 0).map(drop));
                let lent = dir.read_lent_at(0, 64, |_| panic!("there is nothing to see"));
                is_dir("File::read_lent_at", lent.map(drop));
                is_dir(
                    "File::read_to_end",
                    dir.read_to_end(&mut Vec::new()).map(drop),
                );
                assert_eq!(bytes, [0; 512]);
                // What a directory is opened for.
                assert!(dir.metadata().unwrap().is_dir());
            }
            assert!(!fs.exists("/e").unwrap());
        },
    );
}

/// The kernel's rule on a local file system: what is made in a setgid directory gets the directory's group, and a new
/// directory the bit as well.
#[test]
fn setgid_directories_pass_on_their_group() {
    on_each(&["qemu", "mapped", "diod"], |fs, host, server| {
        fs.create_dir("/plain").unwrap();
        fs.create_dir("/team").unwrap();
        fs.chown("/team", None, Some(55)).unwrap();
        fs.set_permissions("/team", Permissions::from_mode(0o2775))
            .unwrap();
        // The second and third of each kind are made in a directory that is kept.
        for index in 0..3 {
            let name = |what: &str| format!("/team/{what}{index}");
            fs.write(name("file"), b"x").unwrap();
            fs.create_dir(name("dir")).unwrap();
            fs.create_dir_all(format!("{}/deeper", name("all")))
                .unwrap();
            fs.write(format!("{}/deeper/file", name("all")), b"")
                .unwrap();
            fs.symlink("file0", name("link")).unwrap();
            fs.copy("/team/file0", name("copy")).unwrap();
            // QEMU makes no pipes unless it only pretends to.
            let pipes = server != "qemu";
            if pipes {
                fs.mknod(name("fifo"), 0o010_600, 0, 0).unwrap();
            }
            for (what, is_dir) in [
                ("file", false),
                ("dir", true),
                ("all", true),
                ("link", false),
                ("copy", false),
                ("fifo", false),
            ] {
                if what == "fifo" && !pipes {
                    continue;
                }
                let there = fs.symlink_metadata(name(what)).unwrap();
                assert_eq!(there.gid(), 55, "{what}{index}, {server}");
                assert_eq!(
                    there.mode() & 0o2000 != 0,
                    is_dir,
                    "{what}{index}, {server}"
                );
            }
            let deeper = fs.metadata(format!("{}/deeper", name("all"))).unwrap();
            assert_eq!(
                (deeper.gid(), deeper.mode() & 0o7777),
                (55, 0o2755),
                "{server}"
            );
            let file = fs.metadata(format!("{}/deeper/file", name("all")));
            assert_eq!(file.unwrap().gid(), 55, "{server}");
        }
        fs.write("/plain/file", b"").unwrap();
        fs.create_dir("/plain/dir").unwrap();
        assert_eq!(fs.metadata("/plain/file").unwrap().gid(), 0);
        assert_eq!(fs.metadata("/plain/dir").unwrap().mode() & 0o7777, 0o755);
        if server != "mapped" {
            let theirs = host.join("team/dir1").metadata().unwrap();
            assert_eq!(
                (theirs.gid(), theirs.mode() & 0o7777),
                (55, 0o2755),
                "{server}"
            );
        }
    });
    on_each(&["qemu.u"], |fs, host, _| {
        fs.create_dir("/team").unwrap();
        fs.chown("/team", None, Some(55)).unwrap();
        fs.set_permissions("/team", Permissions::from_mode(0o2775))
            .unwrap();
        fs.write("/team/file", b"x").unwrap();
        fs.create_dir("/team/dir").unwrap();
        for name in ["file", "dir"] {
            let theirs = host.join("team").join(name).metadata().unwrap();
            assert_eq!(theirs.gid(), 55, "{name}");
        }
        let dir = host.join("team/dir").metadata().unwrap();
        assert_eq!(dir.permissions().mode() & 0o7777, 0o2755);
    });
}

#[test]
fn a_time_is_shown_as_it_is_or_refused() {
    let before = SystemTime::new(-3600, 0);
    let late = SystemTime::new(1 << 33, 0);
    on_each(&["qemu", "diod"], |fs, _, server| {
        fs.write("/f", b"").unwrap();
        for time in [before, late] {
            fs.set_times("/f", FileTimes::new().set_modified(time))
                .unwrap();
            assert_eq!(fs.metadata("/f").unwrap().modified(), time, "{server}");
        }
    });
    on_each(&["qemu.u"], |fs, host, _| {
        fs.write("/f", b"").unwrap();
        let file = std::fs::File::options()
            .write(true)
            .open(host.join("f"))
            .unwrap();
        let hour_before = std::time::UNIX_EPOCH - std::time::Duration::from_secs(3600);
        file.set_times(std::fs::FileTimes::new().set_modified(hour_before))
            .unwrap();
        assert_eq!(fs.metadata("/f").unwrap().modified(), before);
        for time in [
            before,
            SystemTime::new(-1, 0),
            SystemTime::new(1 << 31, 0),
            SystemTime::new(u32::MAX.into(), 0),
            late,
        ] {
            let refused = fs.set_times("/f", FileTimes::new().set_modified(time));
            assert_eq!(refused.unwrap_err().errno(), Errno::EINVAL, "{time:?}");
        }
        assert_eq!(host.join("f").metadata().unwrap().mtime(), -3600);
        let last = SystemTime::new(i32::MAX.into(), 0);
        fs.set_times("/f", FileTimes::new().set_modified(last))
            .unwrap();
        assert_eq!(fs.metadata("/f").unwrap().modified(), last);
    });
}

/// Servers that find an open file by its name would change the file that has this name now.
#[test]
fn an_open_file_never_changes_another() {
    on_each(
        &["qemu", "qemu.u", "mapped", "diod", "p9"],
        |fs, host, server| {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            for how in ["taken", "replaced"] {
                fs.write("/file", b"mine").unwrap();
                fs.write("/other", b"another file's").unwrap();
                let file = options.open(fs, "/file").unwrap();
                match how {
                    "taken" => {
                        fs.remove_file("/file").unwrap();
                        fs.rename("/other", "/file").unwrap();
                    }
                    _ => fs.rename("/other", "/file").unwrap(),
                }
                let before = host.join("file").metadata().unwrap();
                let results = [
                    file.set_len(1),
                    file.set_permissions(Permissions::from_mode(0o600)),
                    file.set_times(FileTimes::new().set_modified(SystemTime::new(77, 0))),
                ];
                let after = host.join("file").metadata().unwrap();
                let what = format!("{how}, {server}: {results:?}");
                assert_eq!(
                    std::fs::read(host.join("file")).unwrap(),
                    b"another file's",
                    "{what}"
                );
                assert_eq!(after.mode(), before.mode(), "{what}");
                assert_eq!(after.mtime(), before.mtime(), "{what}");
                drop(file);
                fs.remove_file("/file").unwrap();
            }
            // A file that something else was renamed beside is still changed.
            fs.write("/file", b"mine").unwrap();
            let file = options.open(fs, "/file").unwrap();
            fs.write("/a", b"").unwrap();
            fs.rename("/a", "/b").unwrap();
            fs.remove_file("/b").unwrap();
            file.set_len(2).unwrap();
            file.close().unwrap();
            assert_eq!(std::fs::read(host.join("file")).unwrap(), b"mi", "{server}");
        },
    );
}
