//! QEMU's server: its two dialects, mapped attributes, a share that is read-only.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use xen9p::errno::Errno;
use xen9p::fs::{Error, FileTimes, LockRange, MountOptions, OpenOptions, Permissions, SystemTime};
use xen9p::p9::Dialect;
use xen9p_testing::server::TempDir;
use xen9p_testing::server::qemu::{QemuOptions, qemu};

use super::{attributes, essentials, is_read_only, mount, nothing_left, same_as_host, xattrs};
use crate::model::{Abilities, LINUX, run};

#[test]
fn qemu_in_linux_dialect() {
    let export = TempDir::new().unwrap();
    let Some(transport) = qemu(export.path(), QemuOptions::default()).unwrap() else {
        return;
    };
    let fs = mount(transport, &MountOptions::new());
    assert_eq!(fs.dialect(), Dialect::Linux);
    essentials(&fs, export.path());
    attributes(&fs, export.path());
    xattrs(&fs);
    // The host's names, whatever bytes they are.
    fs.write(b"/\xff\xfe", b"raw").unwrap();
    assert_eq!(fs.read(b"/\xff\xfe").unwrap(), b"raw");
    fs.remove_file(b"/\xff\xfe").unwrap();
    // A directory is not opened for writing, though QEMU would.
    fs.create_dir("/d").unwrap();
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    assert_eq!(options.open(&fs, "/d").unwrap_err().errno(), Errno::EISDIR);
    fs.remove_dir("/d").unwrap();
    // QEMU grants every lock.
    let file = fs.create("/lock").unwrap();
    assert!(file.try_lock(LockRange::ALL, true).unwrap().is_some());
    drop(file);
    fs.remove_file("/lock").unwrap();
    let can = Abilities {
        // It truncates by path.
        open_unlinked: false,
        ..LINUX
    };
    run(&fs, 1, 3000, can);
    same_as_host(&fs, export.path(), "");
    nothing_left(fs);
}

#[test]
fn qemu_with_mapped_attributes() {
    let export = TempDir::new().unwrap();
    let options = QemuOptions {
        security_model: "mapped-xattr",
        msize: 16 << 10,
        ..QemuOptions::default()
    };
    let Some(transport) = qemu(export.path(), options).unwrap() else {
        return;
    };
    let fs = mount(transport, &MountOptions::new());
    let can = Abilities {
        open_unlinked: false,
        ..LINUX
    };
    run(&fs, 2, 1500, can);
    nothing_left(fs);
}

#[test]
fn qemu_read_only() {
    let export = TempDir::new().unwrap();
    std::fs::write(export.path().join("f"), b"read me").unwrap();
    let options = QemuOptions {
        read_only: true,
        ..QemuOptions::default()
    };
    let Some(transport) = qemu(export.path(), options).unwrap() else {
        return;
    };
    let fs = mount(transport, &MountOptions::new());
    is_read_only(&fs);
    nothing_left(fs);
}

#[test]
fn qemu_in_unix_dialect() {
    let export = TempDir::new().unwrap();
    let Some(transport) = qemu(export.path(), QemuOptions::default()).unwrap() else {
        return;
    };
    let options = MountOptions::new().dialects(&[Dialect::Unix]);
    let fs = mount(transport, &options);
    assert_eq!(fs.dialect(), Dialect::Unix);
    essentials(&fs, export.path());
    fs.write("/f", b"x").unwrap();
    fs.set_permissions("/f", Permissions::from_mode(0o4751))
        .unwrap();
    let theirs = export.path().join("f").metadata().unwrap();
    assert_eq!(theirs.permissions().mode() & 0o7777, 0o4751);
    assert_eq!(fs.metadata("/f").unwrap().mode(), theirs.mode());
    let time = SystemTime::new(1_000_000_000, 0);
    fs.set_times("/f", FileTimes::new().set_modified(time))
        .unwrap();
    assert_eq!(fs.metadata("/f").unwrap().modified(), time);
    let file = fs.open("/f").unwrap();
    for unsupported in [
        file.sync_all(),
        fs.statfs("/").map(drop),
        fs.xattr("/f", "user.x").map(drop),
        file.try_lock(LockRange::ALL, true).map(drop),
    ] {
        assert!(matches!(
            unsupported,
            Err(Error::Unsupported {
                dialect: Dialect::Unix,
                ..
            })
        ));
    }
    drop(file);
    fs.remove_file("/f").unwrap();
    let can = Abilities {
        full_rename: false,
        open_unlinked: false,
        ..LINUX
    };
    run(&fs, 3, 1500, can);
    same_as_host(&fs, export.path(), "");
    nothing_left(fs);
}
