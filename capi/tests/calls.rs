//! The C interface on the simulated Xen: files through it, and calls that a C programmer gets wrong.

mod kernel;

use std::ffi::CStr;
use std::ptr::{null, null_mut};

use kernel::{GUEST, World, last_error, now, turn};
use xen9p_capi::*;

const EBADF: i32 = -9;
const EFAULT: i32 = -14;

/// The call is not started, but made.
const NULL: *mut xen9p_handle = null_mut();

#[test]
fn everything_in_order_and_out_of_it() {
    let _turn = turn();
    let world = World::new();
    let before = world.fake.usage(GUEST);
    let callbacks = world.callbacks();
    let (mut fs, mut file, mut dir, mut op) = (0, 0, 0, 0);
    let mut bytes = vec![0_u8; 100_000];
    // SAFETY: all pointers are valid or null; strings end with a NUL.
    unsafe {
        // Before it is set up.
        assert_eq!(xen9p_mount(null(), null(), &mut fs, NULL), -6);
        assert_eq!(xen9p_close(1 << 16, NULL), -6);
        assert_eq!(xen9p_check_platform(None, null_mut()), -6);
        assert_eq!(xen9p_init(null()), EFAULT);
        let incomplete = xen9p_platform {
            wait: None,
            ..callbacks
        };
        assert_eq!(xen9p_init(&incomplete), -22);
        // A kernel that was compiled with another header.
        assert_eq!(xen9p_version(), XEN9P_VERSION);
        let (major, minor) = (1 << 16, 1 << 8);
        for version in [0, XEN9P_VERSION + minor, XEN9P_VERSION + major, u32::MAX] {
            let other = xen9p_platform {
                version,
                ..callbacks
            };
            assert_eq!(xen9p_init(&other), -93, "{version:#x}");
        }
        for size in [0, 7, callbacks.size + 1, usize::MAX] {
            let other = xen9p_platform { size, ..callbacks };
            assert_eq!(xen9p_init(&other), -22, "{size}");
        }
        // A patch version fits.
        let callbacks = xen9p_platform {
            version: XEN9P_VERSION + 1,
            ..callbacks
        };
        assert_eq!(xen9p_init(&callbacks), 0);
        assert_eq!(xen9p_init(&callbacks), -17);
        assert_eq!(xen9p_check_platform(None, null_mut()), 0);

        #[cfg(not(feature = "vchan"))]
        {
            assert_eq!(
                xen9p_mount(c"vchan!7!9p".as_ptr(), null(), &mut fs, NULL),
                -95
            );
            assert!(last_error().contains("FEATURES=vchan"), "{}", last_error());
            assert_eq!(xen9p_mount(c"#mem".as_ptr(), null(), &mut fs, NULL), -19);
        }
        #[cfg(not(feature = "cache"))]
        {
            let options = xen9p_mount_options {
                size: size_of::<xen9p_mount_options>(),
                cache: 1,
                ..Default::default()
            };
            assert_eq!(xen9p_mount(null(), &options, &mut fs, NULL), -95);
            assert!(last_error().contains("FEATURES=cache"), "{}", last_error());
        }
        assert_eq!(xen9p_mount(c"nothing".as_ptr(), null(), &mut fs, NULL), -19);
        assert!(
            last_error().contains("there are: share"),
            "{}",
            last_error()
        );
        assert_eq!(
            xen9p_mount(c"share".as_ptr(), null(), null_mut(), NULL),
            EFAULT
        );
        for size in [0, size_of::<xen9p_mount_options>() + 1] {
            let options = xen9p_mount_options {
                size,
                ..Default::default()
            };
            assert_eq!(xen9p_mount(null(), &options, &mut fs, NULL), -22);
            assert!(last_error().contains("sizeof"), "{}", last_error());
        }
        let options = xen9p_mount_options {
            // As an earlier version would have it, without what comes behind.
            size: std::mem::offset_of!(xen9p_mount_options, timeout),
            msize: 100,
            ..Default::default()
        };
        // Nonsense is no mount, and leaves the device usable.
        assert!(xen9p_mount(null(), &options, &mut fs, NULL) < 0);
        assert_eq!(
            xen9p_mount(null(), null(), &mut fs, NULL),
            0,
            "{}",
            last_error()
        );

        // Files.
        let flags = XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE;
        assert_eq!(
            xen9p_open(fs, c"/a".as_ptr(), flags, 0o644, &mut file, NULL),
            0
        );
        let data: Vec<u8> = (0..100_000_u32).map(|n| (n / 7) as u8).collect();
        assert_eq!(
            xen9p_write(file, data.as_ptr().cast(), data.len(), 0, NULL),
            100_000
        );
        assert_eq!(
            xen9p_read(file, bytes.as_mut_ptr().cast(), bytes.len(), 0, NULL),
            100_000
        );
        assert!(bytes == data);
        let mut stat = xen9p_stat::default();
        assert_eq!(xen9p_stat(file, null(), 0, &mut stat, NULL), 0);
        assert_eq!((stat.size, stat.mode & 0o777), (100_000, 0o644));
        assert_eq!(xen9p_stat(fs, c"/a".as_ptr(), 0, &mut stat, NULL), 0);
        let cut = xen9p_setattr {
            size: size_of::<xen9p_setattr>(),
            valid: XEN9P_SET_LENGTH,
            length: 50_000,
            ..Default::default()
        };
        assert_eq!(xen9p_setattr(file, null(), &cut, NULL), 0);
        assert_eq!(xen9p_sync(file, NULL), 0);
        assert_eq!(xen9p_mkdir(fs, c"/d".as_ptr(), 0o755, NULL), 0);
        assert_eq!(
            xen9p_rename(fs, c"/a".as_ptr(), fs, c"/b".as_ptr(), NULL),
            0
        );
        assert_eq!(xen9p_opendir(fs, c"/".as_ptr(), &mut dir, NULL), 0);
        let mut names = Vec::new();
        let mut entry = std::mem::zeroed::<xen9p_dirent>();
        while xen9p_readdir(dir, &mut entry, NULL) == 1 {
            names.push(
                CStr::from_ptr(entry.name.as_ptr())
                    .to_str()
                    .unwrap()
                    .to_owned(),
            );
        }
        names.sort();
        assert_eq!(names, ["b", "d"]);
        assert_eq!(xen9p_rmdir(fs, c"/b".as_ptr(), NULL), -20);
        assert_eq!(xen9p_unlink(fs, c"/d".as_ptr(), NULL), -21);
        assert_eq!(xen9p_rmdir(fs, c"/d".as_ptr(), NULL), 0);

        // Operations that are started.
        bytes.fill(0);
        assert_eq!(
            xen9p_read(file, bytes.as_mut_ptr().cast(), bytes.len(), 0, &mut op),
            0
        );
        let mut rounds = 0;
        let result = loop {
            match xen9p_poll(op) {
                result if result == -XEN9P_EINPROGRESS => rounds += 1,
                result => break result,
            }
            assert!(rounds < 1000);
            assert_eq!(xen9p_wait(fs, now(callbacks.context) + 1_000_000), 0);
        };
        assert!(result > 0 && rounds > 0, "{result} after {rounds} rounds");
        assert!(bytes[..result as usize] == data[..result as usize]);
        assert_eq!(xen9p_poll(op), i64::from(EBADF), "the operation is over");
        // One is given up, and its file closed before it.
        assert_eq!(
            xen9p_read(file, bytes.as_mut_ptr().cast(), bytes.len(), 0, &mut op),
            0
        );
        let mut other = 0;
        assert_eq!(
            xen9p_write(file, data.as_ptr().cast(), 1000, 0, &mut other),
            0
        );
        assert_eq!(xen9p_close(op, NULL), 0);

        // Wrong calls.
        assert_eq!(xen9p_open(fs, null(), XEN9P_READ, 0, &mut op, NULL), EFAULT);
        assert_eq!(
            xen9p_open(fs, c"/b".as_ptr(), XEN9P_READ, 0, null_mut(), NULL),
            EFAULT
        );
        assert_eq!(xen9p_open(fs, c"/b".as_ptr(), 64, 0, &mut op, NULL), -22);
        assert_eq!(xen9p_open(fs, c"/b".as_ptr(), 0, 0, &mut op, NULL), -22);
        assert_eq!(
            xen9p_open(fs, c"/none".as_ptr(), XEN9P_READ, 0, &mut op, NULL),
            -2
        );
        assert_eq!(
            last_error(),
            "open \"/none\": No such file or directory (ENOENT)"
        );
        assert_eq!(
            xen9p_open(file, c"/b".as_ptr(), XEN9P_READ, 0, &mut op, NULL),
            EBADF
        );
        assert_eq!(xen9p_read(file, null_mut(), 1, 0, NULL), EFAULT.into());
        assert_eq!(xen9p_read(file, null_mut(), 0, 0, NULL), 0);
        assert_eq!(
            xen9p_read(file, bytes.as_mut_ptr().cast(), usize::MAX, 0, NULL),
            -22
        );
        assert_eq!(
            xen9p_read(fs, bytes.as_mut_ptr().cast(), 1, 0, NULL),
            EBADF.into()
        );
        assert_eq!(xen9p_write(dir, null(), 0, 0, NULL), EBADF.into());
        assert_eq!(xen9p_readdir(file, &mut entry, NULL), EBADF);
        assert_eq!(xen9p_readdir(dir, null_mut(), NULL), EFAULT);
        assert_eq!(xen9p_stat(fs, c"/b".as_ptr(), 0, null_mut(), NULL), EFAULT);
        assert_eq!(xen9p_poll(file), EBADF.into());
        assert_eq!(xen9p_wait(dir, 0), EBADF);
        for handle in [0, 1, u32::MAX, file + (1 << 16), file ^ 0x8000] {
            assert_eq!(xen9p_close(handle, NULL), EBADF);
        }

        // From within a callback.
        world.kernel.meddle.set(Some(0));
        assert_eq!(xen9p_stat(fs, c"/b".as_ptr(), 0, &mut stat, NULL), 0);
        assert_eq!(world.kernel.meddle.get(), Some(-16));

        // Closed handles, whatever took their place.
        let closed = file;
        assert_eq!(xen9p_close(file, NULL), 0);
        assert_eq!(
            xen9p_open(fs, c"/b".as_ptr(), XEN9P_READ, 0, &mut file, NULL),
            0
        );
        assert_ne!(file, closed);
        assert_eq!(
            xen9p_read(closed, bytes.as_mut_ptr().cast(), 1, 0, NULL),
            EBADF.into()
        );
        assert_eq!(xen9p_close(closed, NULL), EBADF);
        for handle in [file, dir, other, fs] {
            assert_eq!(xen9p_close(handle, NULL), 0);
        }
        assert_eq!(xen9p_stat(fs, c"/b".as_ptr(), 0, &mut stat, NULL), EBADF);
    }
    // All is given back, and begins anew.
    assert_eq!(xen9p_exit(), 0);
    assert_eq!(world.fake.usage(GUEST), before);
    assert_eq!(world.server.borrow().fids(), 0);
    assert_eq!(xen9p_exit(), -6);
}
