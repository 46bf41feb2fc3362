//! Names, targets of links and attributes are bytes: what is no UTF-8 goes through every call of the C interface, and comes
//! back as it was.

mod kernel;

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use kernel::{World, last_error, mounted, turn};
use xen9p_capi::*;

const NULL: *mut xen9p_handle = null_mut();

#[test]
fn names_are_bytes() {
    let _turn = turn();
    let world = World::new();
    let fs = mounted(&world);
    let name = |name: &'static CStr| name.as_ptr();
    let odd = name(c"\xff\xfe \x01\x80");
    let odd_path = name(c"/\xff\xfe \x01\x80");
    // SAFETY: all pointers are valid; strings end with a NUL.
    unsafe {
        let (mut root, mut node, mut file, mut dir) = (0, 0, 0, 0);
        assert_eq!(xen9p_lookup(fs, name(c"/"), &mut root, NULL), 0);
        assert_eq!(xen9p_mkdir(root, odd, 0o755, NULL), 0, "{}", last_error());
        assert_eq!(xen9p_mkdir(fs, odd_path, 0o755, NULL), -17);
        assert_eq!(xen9p_lookup(fs, odd_path, &mut node, NULL), 0);
        let flags = XEN9P_WRITE | XEN9P_CREATE;
        assert_eq!(
            xen9p_open(node, name(c"\xc3"), flags, 0o644, &mut file, NULL),
            0
        );
        assert_eq!(xen9p_close(file, NULL), 0);
        let new = name(c"/\xff\xfe \x01\x80/\xe9t\xe9");
        assert_eq!(
            xen9p_rename(fs, name(c"/\xff\xfe \x01\x80/\xc3"), fs, new, NULL),
            0,
            "{}",
            last_error()
        );
        assert_eq!(xen9p_link(fs, new, fs, name(c"/\xa0"), NULL), 0);
        assert_eq!(xen9p_symlink(name(c"\xf0\x28"), root, name(c"l"), NULL), 0);
        let mut target = [0_u8; 16];
        let into = target.as_mut_ptr().cast();
        assert_eq!(xen9p_readlink(root, name(c"l"), into, 16, NULL), 2);
        assert_eq!(&target[..3], b"\xf0\x28\0");

        assert_eq!(xen9p_opendir(node, null(), &mut dir, NULL), 0);
        let mut entry = MaybeUninit::<xen9p_dirent>::zeroed().assume_init();
        assert_eq!(xen9p_readdir(dir, &mut entry, NULL), 1);
        let found = CStr::from_ptr(entry.name.as_ptr());
        assert_eq!(found.to_bytes(), b"\xe9t\xe9");
        assert_eq!(entry.length, 3);
        assert_eq!(xen9p_readdir(dir, &mut entry, NULL), 0);
        assert_eq!(xen9p_close(dir, NULL), 0);

        // An error tells the name so that a terminal bears it.
        assert_eq!(
            xen9p_unlink(fs, name(c"/\xff\xfe \x01\x80/\x1b[2J"), NULL),
            -2
        );
        assert!(last_error().chars().all(|letter| !letter.is_control()));
        assert_eq!(xen9p_unlink(node, name(c"\xe9t\xe9"), NULL), 0);
        assert_eq!(xen9p_rmdir(root, odd, NULL), 0);
        assert_eq!(xen9p_unlink(fs, name(c"/\xa0"), NULL), 0);
        assert_eq!(xen9p_exit(), 0);
    }
}
