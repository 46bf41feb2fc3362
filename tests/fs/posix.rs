//! What the POSIX suites of tests/posix once found stays right, over the servers that showed it.

use xen9p::fs::{FileTimes, Fs, MountOptions, SystemTime};
use xen9p_testing::server::TempDir;
use xen9p_testing::server::qemu::{QemuOptions, qemu};

/// Mounts a fresh directory through QEMU; `None` where there is no QEMU.
fn through_qemu() -> Option<(TempDir, Fs)> {
    let export = TempDir::new().unwrap();
    let transport = qemu(export.path(), QemuOptions::default()).unwrap()?;
    let fs = Fs::mount(transport, &MountOptions::new()).unwrap();
    Some((export, fs))
}

/// utimensat with AT_SYMLINK_NOFOLLOW: a link has times of its own.
#[test]
fn a_link_has_times_of_its_own() {
    let Some((_export, fs)) = through_qemu() else {
        return;
    };
    let (of_file, of_link) = (
        SystemTime::new(1_900_000_000, 0),
        SystemTime::new(1_950_000_000, 5),
    );
    fs.write("/f", b"x").unwrap();
    fs.symlink("f", "/l").unwrap();
    fs.set_times("/l", FileTimes::new().set_modified(of_file))
        .unwrap();
    fs.set_times_nofollow("/l", FileTimes::new().set_modified(of_link))
        .unwrap();
    assert_eq!(fs.metadata("/f").unwrap().modified(), of_file);
    assert_eq!(fs.symlink_metadata("/l").unwrap().modified(), of_link);
}
