//! Calls of the C interface that each have to succeed.

use std::ffi::CStr;
use std::ptr::{null, null_mut};

use xen9p_capi::*;

use super::{finish, last_error};

const NULL: *mut xen9p_handle = null_mut();

/// A mount of this name.
///
/// # Safety
/// The library is set up.
pub unsafe fn mount(name: &CStr) -> xen9p_handle {
    let mut fs = 0;
    // SAFETY: all pointers are valid.
    let mounted = unsafe { xen9p_mount(name.as_ptr(), null(), &mut fs, NULL) };
    assert_eq!(mounted, 0, "{name:?}: {}", last_error());
    fs
}

/// Makes or replaces a file with this content.
///
/// # Safety
/// The library is set up.
pub unsafe fn put(fs: xen9p_handle, path: &CStr, content: &[u8]) {
    let (mut file, flags) = (0, XEN9P_WRITE | XEN9P_CREATE);
    // SAFETY: all pointers are valid.
    unsafe {
        let opened = xen9p_open(fs, path.as_ptr(), flags, 0o644, &mut file, NULL);
        assert_eq!(opened, 0, "{}", last_error());
        let count = xen9p_write(file, content.as_ptr().cast(), content.len(), 0, NULL);
        assert_eq!(count, content.len() as i64);
        assert_eq!(xen9p_close(file, NULL), 0);
    }
}

/// The content of a file of up to 1 MiB.
///
/// # Safety
/// The library is set up.
pub unsafe fn get(fs: xen9p_handle, path: &CStr) -> Vec<u8> {
    let (mut file, mut op) = (0, 0);
    let mut content = vec![0; 1 << 20];
    // SAFETY: all pointers are valid.
    unsafe {
        let opened = xen9p_open(fs, path.as_ptr(), XEN9P_READ, 0, &mut file, NULL);
        assert_eq!(opened, 0, "{}", last_error());
        // Started, and asked about.
        let into = content.as_mut_ptr().cast();
        assert_eq!(xen9p_read(file, into, content.len(), 0, &mut op), 0);
        let count = finish(op);
        assert!(count >= 0, "{count}: {}", last_error());
        content.truncate(count as usize);
        assert_eq!(xen9p_close(file, NULL), 0);
    }
    content
}
