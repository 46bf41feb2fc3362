//! What xen9p_last_error() tells: the call, its paths, and what was wrong.

mod kernel;

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use kernel::{World, finish, last_error, mounted, turn};
use xen9p_capi::*;

const NULL: *mut xen9p_handle = null_mut();

#[test]
fn each_error_names_its_call() {
    let _turn = turn();
    let world = World::new();
    let fs = mounted(&world);
    let (mut file, mut dir, mut op) = (0, 0, 0);
    // SAFETY: all pointers are valid or null; strings end with a NUL.
    unsafe {
        let flags = XEN9P_WRITE | XEN9P_CREATE;
        assert_eq!(
            xen9p_open(fs, c"/f".as_ptr(), flags, 0o644, &mut file, NULL),
            0
        );
        assert_eq!(xen9p_opendir(fs, c"/".as_ptr(), &mut dir, NULL), 0);
        let told = |result: i64, text: &str| {
            assert!(result < 0, "{text}: {result}");
            assert_eq!(last_error(), text);
        };
        let mut entry = MaybeUninit::uninit();
        let byte = (&raw mut op).cast();
        told(
            xen9p_read(fs, byte, 1, 0, NULL),
            "read: the handle is not that of a file",
        );
        told(
            xen9p_write(0, byte, 1, 0, NULL),
            "write: the handle is not open",
        );
        told(
            xen9p_write(file, null(), 1, 0, NULL),
            "write: the buffer is a null pointer",
        );
        told(
            xen9p_sync(fs, NULL).into(),
            "sync: the handle is not that of a file",
        );
        told(
            xen9p_lock(file, 3, 0, 0, NULL).into(),
            "lock: an unknown kind of lock",
        );
        told(xen9p_close(0, NULL).into(), "close: the handle is not open");
        told(
            xen9p_readdir(file, entry.as_mut_ptr(), NULL).into(),
            "readdir: the handle is not that of a directory",
        );
        told(
            xen9p_seekdir(file, 0).into(),
            "seekdir: the handle is not that of a directory",
        );
        told(
            xen9p_wait(file, 0).into(),
            "wait: the handle is not that of a mount or an operation",
        );
        told(
            xen9p_tag(9, null_mut(), 0),
            "tag: there are no more 9pfs devices",
        );
        told(
            xen9p_mount(c"\xff".as_ptr(), null(), &mut op, NULL).into(),
            "mount \"\\xff\": the tag is not UTF-8",
        );
        told(
            xen9p_suspend(None, null_mut()).into(),
            "suspend: suspend is a null pointer",
        );
        told(
            xen9p_watch_fired(c"/x".as_ptr(), c"y".as_ptr()).into(),
            "watch_fired \"/x\": this is no token of the library's",
        );
        // An operation is told by what was started, and the question after it by itself.
        assert_eq!(xen9p_rmdir(fs, c"/f".as_ptr(), &mut op), 0);
        told(finish(op), "rmdir \"/f\": Not a directory (ENOTDIR)");
        told(xen9p_poll(op), "poll: the handle is not open");
        assert_eq!(xen9p_exit(), 0);
    }
}

#[test]
fn what_is_too_long_is_cut_in_the_paths_and_not_at_the_end() {
    let _turn = turn();
    let world = World::new();
    let fs = mounted(&world);
    // SAFETY: all pointers are valid; strings end with a NUL.
    unsafe {
        let odd = CString::new([0xff; 5000]).unwrap();
        assert!(xen9p_rename(fs, odd.as_ptr(), 0, odd.as_ptr(), NULL) < 0);
        let mut text = vec![0; 8192];
        let length = xen9p_last_error(text.as_mut_ptr(), text.len());
        let text = CStr::from_ptr(text.as_ptr()).to_str().unwrap();
        let end = "\": the handle is not open";
        assert!(text.ends_with(end) && text.len() == length, "{text}");
        assert_eq!(text.matches("\\xff").count(), 2 * 256, "{text}");
        assert_eq!(xen9p_exit(), 0);
    }
}
