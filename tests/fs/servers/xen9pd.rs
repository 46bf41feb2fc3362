//! This project's server, xen9pd: its three dialects, locks between machines, a share that is read-only.

use xen9p::fs::{LockRange, MountOptions};
use xen9p::p9::Dialect;
use xen9p_testing::server::TempDir;
use xen9p_testing::server::real::{Xen9pd, xen9pd};

use super::{attributes, essentials, is_read_only, mount, nothing_left, same_as_host, xattrs};
use crate::model::{Abilities, LINUX, run};

#[test]
fn xen9pd_in_linux_dialect() {
    let export = TempDir::new().unwrap();
    let Some(server) = Xen9pd::start(export.path(), "").unwrap() else {
        return;
    };
    let fs = mount(server.connect().unwrap(), &MountOptions::new());
    assert_eq!(fs.dialect(), Dialect::Linux);
    essentials(&fs, export.path());
    attributes(&fs, export.path());
    xattrs(&fs);
    fs.write(b"/\xff\xfe", b"raw").unwrap();
    assert_eq!(fs.read(b"/\xff\xfe").unwrap(), b"raw");
    fs.remove_file(b"/\xff\xfe").unwrap();
    // Locks between two processes of one machine, and between two machines.
    let other = mount(server.connect().unwrap(), &MountOptions::new());
    let (one, two) = (fs.create("/lock").unwrap(), other.create("/lock").unwrap());
    let lock = one.try_lock(LockRange::ALL, true).unwrap().unwrap();
    assert!(two.try_lock(LockRange::ALL, true).unwrap().is_none());
    drop(lock);
    drop(two.lock(LockRange::ALL, true).unwrap());
    let lock = two.try_lock(LockRange::ALL, true).unwrap().unwrap();
    assert!(one.try_lock(LockRange::ALL, true).unwrap().is_none());
    // A connection that ends holds nothing any more.
    std::mem::forget(lock);
    drop(two);
    nothing_left(other);
    drop(one.lock(LockRange::ALL, true).unwrap());
    drop(one);
    fs.remove_file("/lock").unwrap();
    let can = Abilities {
        // The client refuses to truncate where it can't tell two files apart that were last read at the same moment.
        open_unlinked: false,
        ..LINUX
    };
    run(&fs, 6, 3000, can);
    same_as_host(&fs, export.path(), "");
    nothing_left(fs);
}

#[test]
fn xen9pd_in_unix_dialect() {
    let export = TempDir::new().unwrap();
    let Some(transport) = xen9pd(export.path()).unwrap() else {
        return;
    };
    let options = MountOptions::new().dialects(&[Dialect::Unix]);
    let fs = mount(transport, &options);
    assert_eq!(fs.dialect(), Dialect::Unix);
    essentials(&fs, export.path());
    let can = Abilities {
        full_rename: false,
        open_unlinked: false,
        ..LINUX
    };
    run(&fs, 7, 1500, can);
    same_as_host(&fs, export.path(), "");
    nothing_left(fs);
}

#[test]
fn xen9pd_in_plan9s_dialect() {
    let export = TempDir::new().unwrap();
    let Some(transport) = xen9pd(export.path()).unwrap() else {
        return;
    };
    let options = MountOptions::new().dialects(&[Dialect::Plan9]);
    let fs = mount(transport, &options);
    assert_eq!(fs.dialect(), Dialect::Plan9);
    essentials(&fs, export.path());
    same_as_host(&fs, export.path(), "");
    nothing_left(fs);
}

#[test]
fn xen9pd_read_only() {
    let export = TempDir::new().unwrap();
    std::fs::write(export.path().join("f"), b"read me").unwrap();
    let Some(server) = Xen9pd::start(export.path(), "ro").unwrap() else {
        return;
    };
    let fs = mount(server.connect().unwrap(), &MountOptions::new());
    is_read_only(&fs);
    nothing_left(fs);
}
