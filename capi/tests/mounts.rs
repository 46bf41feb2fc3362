//! A device is connected once, however often it is mounted, and again after its backend is lost.

mod kernel;

use std::ffi::CStr;
use std::ptr::{null, null_mut};

use kernel::{GUEST, World, finish, last_error, mounted, turn};
use xen9p_capi::*;

const NULL: *mut xen9p_handle = null_mut();
const EBADF: i64 = -9;

#[test]
fn a_device_is_connected_once_however_often_it_is_mounted() {
    let _turn = turn();
    let world = World::new();
    let first = mounted(&world);
    let connections = || world.share.borrow().connections();
    // SAFETY: all pointers are valid.
    unsafe {
        let mut tag = [0; 16];
        assert_eq!(xen9p_tag(0, tag.as_mut_ptr(), tag.len()), 5);
        assert_eq!(CStr::from_ptr(tag.as_ptr()), c"share");
        assert_eq!(xen9p_tag(1, tag.as_mut_ptr(), tag.len()), -19);
        let mut second = 0;
        assert_eq!(xen9p_mount(tag.as_ptr(), null(), &mut second, NULL), 0);
        assert_ne!(first, second);
        // Each is closed for itself, and a name of one is a name of the other.
        assert_eq!(xen9p_mkdir(first, c"/d".as_ptr(), 0o755, NULL), 0);
        assert_eq!(
            xen9p_rename(first, c"/d".as_ptr(), second, c"/e".as_ptr(), NULL),
            0
        );
        assert_eq!(xen9p_close(first, NULL), 0);
        assert_eq!(xen9p_close(first, NULL), EBADF as i32);
        assert_eq!(xen9p_rmdir(second, c"/e".as_ptr(), NULL), 0);
        assert_eq!(xen9p_close(second, NULL), 0);
        // Kept for the next mount.
        assert_eq!(xen9p_mount(null(), null(), &mut second, NULL), 0);
        assert_eq!(connections(), 1);
        let options = xen9p_mount_options {
            size: size_of::<xen9p_mount_options>(),
            disconnect: 1,
            ..Default::default()
        };
        assert_eq!(xen9p_close(second, NULL), 0);
        assert_eq!(xen9p_exit(), 0);
        assert_eq!(xen9p_init(&world.callbacks()), 0);
        // Where that is wished each mount connects.
        for count in 2..4 {
            assert_eq!(
                xen9p_mount(null(), &options, &mut second, NULL),
                0,
                "{}",
                last_error()
            );
            assert_eq!(connections(), count);
            assert_eq!(xen9p_close(second, NULL), 0);
        }
        assert_eq!(xen9p_exit(), 0);
    }
}

#[test]
fn a_lost_backend_ends_calls_and_can_be_mounted_again() {
    let _turn = turn();
    let world = World::new();
    let fs = mounted(&world);
    let mut again = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        let mut op = 0;
        let mut found = xen9p_stat::default();
        let root = c"/".as_ptr();
        assert_eq!(xen9p_stat(fs, root, 0, &mut found, NULL), 0);
        world.share.borrow_mut().kill();
        assert_eq!(xen9p_stat(fs, root, 0, &mut found, &mut op), 0);
        assert_eq!(finish(op), -5);
        assert_eq!(xen9p_stat(fs, root, 0, &mut found, NULL), -5);
        assert!(last_error().contains("backend"), "{}", last_error());
        world.share.borrow_mut().restart();
        assert_eq!(
            xen9p_mount(null(), null(), &mut again, NULL),
            0,
            "{}",
            last_error()
        );
        assert_eq!(xen9p_stat(again, root, 0, &mut found, NULL), 0);
        assert_eq!(xen9p_stat(fs, root, 0, &mut found, NULL), -5);
        assert_eq!(xen9p_close(fs, NULL), 0);
        assert_eq!(xen9p_stat(again, root, 0, &mut found, NULL), 0);
        assert_eq!(xen9p_exit(), 0);
    }
    let usage = world.fake.usage(GUEST);
    assert_eq!((usage.grants, usage.watches), (0, 0));
}
