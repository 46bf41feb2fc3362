//! Every call of the C interface: by a path and by a node, waited for and started, and with what a C programmer gets wrong.

mod kernel;

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use kernel::{World, finish, last_error, mounted, turn};
use xen9p_capi::*;

const NULL: *mut xen9p_handle = null_mut();
const EBADF: i64 = -9;
const EFAULT: i64 = -14;
const EINVAL: i64 = -22;

/// What may be handed to a call: a kind of handle, and a path.
#[derive(Clone, Copy)]
struct Case {
    at: xen9p_handle,
    path: *const c_char,
    op: *mut xen9p_handle,
}

/// All calls of one handle and one path.
const CALLS: &[&str] = &[
    "open", "lookup", "opendir", "stat", "setattr", "statfs", "mkdir", "mknod", "unlink", "rmdir",
    "rename", "link", "symlink", "readlink", "getxattr", "setxattr",
];

/// Makes the call of this name, otherwise with sensible arguments. What it finds is of no interest; a call that is
/// started is over or given up before the next.
///
/// # Safety
/// The path is NULL or valid, `op` as well.
unsafe fn call(name: &str, Case { at, path, op }: Case) -> i64 {
    static FOUND: Found = Found(std::cell::UnsafeCell::new((
        0,
        MaybeUninit::uninit(),
        MaybeUninit::uninit(),
    )));
    let found = FOUND.0.get();
    let (other, value) = (c"other".as_ptr(), c"user.a".as_ptr());
    // SAFETY: the caller's promise; tests take turns, so that the place for what is found is used by one call at a time.
    unsafe {
        let handle = &raw mut (*found).0;
        let stat = (*found).1.as_mut_ptr();
        let full = (*found).2.as_mut_ptr();
        let result = match name {
            "open" => xen9p_open(at, path, XEN9P_READ, 0, handle, op),
            "lookup" => xen9p_lookup(at, path, handle, op),
            "opendir" => xen9p_opendir(at, path, handle, op),
            "stat" => xen9p_stat(at, path, 0, stat, op),
            "setattr" => xen9p_setattr(at, path, &chmod(0o600), op),
            "statfs" => xen9p_statfs(at, path, full, op),
            "mkdir" => xen9p_mkdir(at, path, 0o755, op),
            "mknod" => xen9p_mknod(at, path, 0o010644, 0, 0, op),
            "unlink" => xen9p_unlink(at, path, op),
            "rmdir" => xen9p_rmdir(at, path, op),
            "rename" => xen9p_rename(at, path, at, other, op),
            "link" => xen9p_link(at, path, at, other, op),
            "symlink" => xen9p_symlink(other, at, path, op),
            "readlink" => return xen9p_readlink(at, path, null_mut(), 0, op),
            "getxattr" => return xen9p_getxattr(at, path, value, null_mut(), 0, op),
            "setxattr" => xen9p_setxattr(at, path, value, other.cast(), 1, op),
            _ => unreachable!("{name} is no call"),
        };
        result.into()
    }
}

/// Where calls put what they find: longer there than any of them runs.
struct Found(
    std::cell::UnsafeCell<(
        xen9p_handle,
        MaybeUninit<xen9p_stat>,
        MaybeUninit<xen9p_statfs>,
    )>,
);

// SAFETY: tests take turns.
unsafe impl Sync for Found {}

fn chmod(mode: u32) -> xen9p_setattr {
    xen9p_setattr {
        size: size_of::<xen9p_setattr>(),
        valid: XEN9P_SET_MODE,
        mode,
        ..Default::default()
    }
}

/// What [`call`] tries, as the text of its error begins.
fn tried(name: &str, path: Option<&CStr>) -> String {
    let path = path.map(|path| format!(" \"{}\"", path.to_bytes().escape_ascii()));
    let path = path.unwrap_or_default();
    match name {
        "rename" | "link" => format!("{name}{path} to \"other\": "),
        "symlink" if path.is_empty() => format!("{name} \"other\": "),
        "symlink" => format!("{name} \"other\" to{path}: "),
        _ => format!("{name}{path}: "),
    }
}

/// # Safety
/// The library is set up.
unsafe fn node(at: xen9p_handle, path: &CStr) -> xen9p_handle {
    let mut node = 0;
    // SAFETY: all pointers are valid.
    let found = unsafe { xen9p_lookup(at, path.as_ptr(), &mut node, NULL) };
    assert_eq!(found, 0, "{path:?}: {}", last_error());
    node
}

/// # Safety
/// As [`node`].
unsafe fn stat(at: xen9p_handle, path: *const c_char, flags: u32) -> xen9p_stat {
    let mut stat = xen9p_stat::default();
    // SAFETY: all pointers are valid.
    let found = unsafe { xen9p_stat(at, path, flags, &mut stat, NULL) };
    assert_eq!(found, 0, "{}", last_error());
    stat
}

/// # Safety
/// As [`node`].
unsafe fn names(at: xen9p_handle, path: *const c_char) -> Vec<String> {
    let (mut dir, mut found) = (0, Vec::new());
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(
            xen9p_opendir(at, path, &mut dir, NULL),
            0,
            "{}",
            last_error()
        );
        let mut entry = std::mem::zeroed::<xen9p_dirent>();
        while xen9p_readdir(dir, &mut entry, NULL) == 1 {
            let name = CStr::from_ptr(entry.name.as_ptr()).to_str().unwrap();
            assert_eq!(entry.length as usize, name.len());
            found.push(name.to_owned());
        }
        // From a cookie on, and from the beginning.
        assert_eq!(xen9p_seekdir(dir, 0), 0);
        let mut again = 0;
        while xen9p_readdir(dir, &mut entry, NULL) == 1 {
            again += 1;
        }
        assert_eq!(again, found.len());
        assert_eq!(xen9p_close(dir, NULL), 0);
    }
    found.sort();
    found
}

#[test]
fn each_call_works_by_path_and_by_node() {
    let _turn = turn();
    let world = World::new();
    let fs = mounted(&world);
    // SAFETY: all pointers are valid; strings end with a NUL.
    unsafe {
        let root = node(fs, c"/");
        for (at, prefix) in [(fs, "/"), (root, "")] {
            let path = |name: &str| CString::new(format!("{prefix}{name}")).unwrap();
            let (d, f, g, s) = (path("d"), path("f"), path("g"), path("s"));
            let mut file = 0;
            let ok = |result: i32| assert_eq!(result, 0, "{prefix}: {}", last_error());
            ok(xen9p_mkdir(at, d.as_ptr(), 0o755, NULL));
            let flags = XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE | XEN9P_EXCLUSIVE;
            ok(xen9p_open(at, f.as_ptr(), flags, 0o640, &mut file, NULL));
            assert_eq!(xen9p_write(file, c"hello".as_ptr().cast(), 5, 0, NULL), 5);
            ok(xen9p_sync(file, NULL));
            assert_eq!(stat(file, null(), 0).size, 5);
            for kind in [XEN9P_LOCK_SHARED, XEN9P_LOCK_EXCLUSIVE, XEN9P_LOCK_NONE] {
                ok(xen9p_lock(file, kind, 0, 0, NULL));
            }
            let mut change = chmod(0o600);
            change.valid |= XEN9P_SET_LENGTH | XEN9P_SET_ACCESSED | XEN9P_SET_MODIFIED;
            change.length = 3;
            change.accessed.seconds = 10;
            (change.modified.seconds, change.modified.nanos) = (20, 999_999_999);
            ok(xen9p_setattr(at, f.as_ptr(), &change, NULL));
            let found = stat(at, f.as_ptr(), 0);
            assert_eq!(
                (found.mode & 0o7777, found.size, found.links),
                (0o600, 3, 1)
            );
            assert_eq!((found.accessed.seconds, found.modified.seconds), (10, 20));
            change.valid = XEN9P_SET_UID | XEN9P_SET_GID;
            (change.uid, change.gid) = (7, 8);
            ok(xen9p_setattr(at, f.as_ptr(), &change, NULL));
            let found = stat(at, f.as_ptr(), 0);
            assert_eq!((found.uid, found.gid), (7, 8));
            change.valid = XEN9P_SET_ACCESSED_NOW | XEN9P_SET_MODIFIED_NOW;
            ok(xen9p_setattr(at, f.as_ptr(), &change, NULL));

            ok(xen9p_link(at, f.as_ptr(), at, g.as_ptr(), NULL));
            assert_eq!(stat(at, g.as_ptr(), 0).links, 2);
            ok(xen9p_symlink(c"f".as_ptr(), at, s.as_ptr(), NULL));
            let mut text = [0; 8];
            assert_eq!(
                xen9p_readlink(at, s.as_ptr(), text.as_mut_ptr(), 8, NULL),
                1
            );
            assert_eq!(CStr::from_ptr(text.as_ptr()), c"f");
            assert_eq!(
                stat(at, s.as_ptr(), XEN9P_NOFOLLOW).mode & 0o170_000,
                0o120_000
            );
            ok(xen9p_mknod(at, path("p").as_ptr(), 0o010644, 0, 0, NULL));
            assert_eq!(stat(at, path("p").as_ptr(), 0).mode & 0o170_000, 0o010_000);
            assert_eq!(names(fs, c"/".as_ptr()), ["d", "f", "g", "p", "s"]);
            assert_eq!(names(root, null()), ["d", "f", "g", "p", "s"]);
            assert_eq!(names(at, d.as_ptr()), Vec::<String>::new());

            let value = c"value".as_ptr().cast();
            ok(xen9p_setxattr(
                at,
                f.as_ptr(),
                c"user.a".as_ptr(),
                value,
                5,
                NULL,
            ));
            let get = |name: *const c_char, into: &mut [u8]| {
                xen9p_getxattr(
                    at,
                    f.as_ptr(),
                    name,
                    into.as_mut_ptr().cast(),
                    into.len(),
                    NULL,
                )
            };
            let mut bytes = [0; 16];
            assert_eq!(get(c"user.a".as_ptr(), &mut []), 5);
            assert_eq!(get(c"user.a".as_ptr(), &mut bytes), 5);
            assert_eq!(&bytes[..5], b"value");
            assert_eq!(get(c"user.a".as_ptr(), &mut bytes[..4]), -34);
            assert_eq!(get(null(), &mut bytes), 7);
            assert_eq!(&bytes[..7], b"user.a\0");
            ok(xen9p_setxattr(
                at,
                f.as_ptr(),
                c"user.a".as_ptr(),
                null(),
                0,
                NULL,
            ));
            assert_eq!(get(c"user.a".as_ptr(), &mut bytes), -61);

            let mut full = xen9p_statfs::default();
            ok(xen9p_statfs(at, d.as_ptr(), &mut full, NULL));
            assert!(full.name_max > 0 && full.block_size > 0);
            // The node is still that file when its name is another.
            let kept = node(at, &f);
            ok(xen9p_unlink(at, g.as_ptr(), NULL));
            ok(xen9p_rename(at, f.as_ptr(), at, path("h").as_ptr(), NULL));
            assert_eq!(stat(kept, null(), 0).size, 3);
            ok(xen9p_unlink(at, path("h").as_ptr(), NULL));
            ok(xen9p_unlink(at, s.as_ptr(), NULL));
            ok(xen9p_unlink(at, path("p").as_ptr(), NULL));
            ok(xen9p_rmdir(at, d.as_ptr(), NULL));
            ok(xen9p_close(kept, NULL));
            ok(xen9p_close(file, NULL));
        }
        assert_eq!(names(root, null()), Vec::<String>::new());
        assert_eq!(xen9p_exit(), 0);
    }
    assert_eq!(world.server.borrow().fids(), 0);
}

#[test]
fn what_is_wrong_is_refused_by_each_call() {
    let _turn = turn();
    let world = World::new();
    // SAFETY: nothing is set up.
    unsafe {
        for &name in CALLS {
            let case = Case {
                at: 1,
                path: null(),
                op: NULL,
            };
            assert_eq!(call(name, case), -6, "{name}");
        }
    }
    let fs = mounted(&world);
    // SAFETY: all pointers are valid or null; strings end with a NUL.
    unsafe {
        let root = node(fs, c"/");
        let (mut file, mut dir, mut op) = (0, 0, 0);
        let flags = XEN9P_WRITE | XEN9P_CREATE;
        assert_eq!(
            xen9p_open(fs, c"/f".as_ptr(), flags, 0o644, &mut file, NULL),
            0
        );
        assert_eq!(xen9p_opendir(fs, c"/".as_ptr(), &mut dir, NULL), 0);
        let path = c"/f".as_ptr();
        for &name in CALLS {
            let mut with = |at, path: *const c_char| {
                let waited = call(name, Case { at, path, op: NULL });
                let told = last_error();
                let path = (!path.is_null()).then(|| CStr::from_ptr(path));
                assert!(told.starts_with(&tried(name, path)), "{name}: {told}");
                // It is found before anything is started, and told the same way.
                let case = Case {
                    at,
                    path: path.map_or(null(), CStr::as_ptr),
                    op: &mut op,
                };
                let started = call(name, case);
                let started = if started == 0 { finish(op) } else { started };
                assert_eq!((started, last_error()), (waited, told), "{name}");
                waited
            };
            // Nothing open, closed, of another kind.
            for at in [0, u32::MAX, fs + (1 << 16), dir] {
                assert_eq!(with(at, path), EBADF, "{name} of {at:#x}");
            }
            assert_eq!(with(file, path), EBADF, "{name} of a file and a path");
            assert_eq!(with(fs, null()), EFAULT, "{name} without a path");
            // A node has names, not paths.
            for bad in [c"", c".", c"..", c"a/b", c"/"] {
                assert_eq!(with(root, bad.as_ptr()), EINVAL, "{name} of {bad:?}");
            }
            let long = CString::new("n".repeat(256)).unwrap();
            assert_eq!(with(root, long.as_ptr()), EINVAL, "{name}");
            assert_eq!(with(fs, c"/none/none".as_ptr()), -2, "{name}");
            let end = ": No such file or directory (ENOENT)";
            assert!(last_error().ends_with(end), "{}", last_error());
            // And is given up at any time.
            let case = Case {
                at: fs,
                path,
                op: &mut op,
            };
            assert_eq!(call(name, case), 0, "{name}");
            assert_eq!(xen9p_close(op, NULL), 0, "{name}");
            assert_eq!(xen9p_poll(op), EBADF, "{name}");
            assert_eq!(last_error(), "poll: the handle is not open");
        }
        // Where the answer goes.
        assert_eq!(xen9p_lookup(fs, path, null_mut(), NULL), EFAULT as i32);
        assert_eq!(xen9p_opendir(fs, path, null_mut(), NULL), EFAULT as i32);
        assert_eq!(xen9p_statfs(fs, path, null_mut(), NULL), EFAULT as i32);
        assert_eq!(xen9p_stat(fs, path, 0, null_mut(), NULL), EFAULT as i32);
        assert_eq!(xen9p_setattr(fs, path, null(), NULL), EFAULT as i32);
        assert_eq!(xen9p_symlink(null(), fs, path, NULL), EFAULT as i32);
        assert_eq!(xen9p_readlink(fs, path, null_mut(), 1, NULL), EFAULT);
        assert_eq!(
            xen9p_getxattr(fs, path, null(), null_mut(), 1, NULL),
            EFAULT
        );
        assert_eq!(
            xen9p_setxattr(fs, path, null(), null(), 0, NULL),
            EFAULT as i32
        );
        assert_eq!(xen9p_rename(fs, path, fs, null(), NULL), EFAULT as i32);
        assert_eq!(xen9p_link(fs, path, fs, null(), NULL), EFAULT as i32);
        // Numbers that mean nothing.
        let mut stat = xen9p_stat::default();
        assert_eq!(xen9p_stat(fs, path, 2, &mut stat, NULL), EINVAL as i32);
        assert_eq!(xen9p_lock(file, 3, 0, 0, NULL), EINVAL as i32);
        assert_eq!(xen9p_lock(dir, 0, 0, 0, NULL), EBADF as i32);
        assert_eq!(xen9p_sync(fs, NULL), EBADF as i32);
        assert_eq!(xen9p_seekdir(file, 0), EBADF as i32);
        let wrong = [
            xen9p_setattr {
                size: 0,
                ..chmod(0)
            },
            xen9p_setattr {
                valid: 256,
                ..chmod(0)
            },
            xen9p_setattr {
                valid: XEN9P_SET_ACCESSED | XEN9P_SET_ACCESSED_NOW,
                ..chmod(0)
            },
            xen9p_setattr {
                valid: XEN9P_SET_LENGTH,
                length: u64::MAX,
                ..chmod(0)
            },
            xen9p_setattr {
                valid: XEN9P_SET_MODIFIED,
                modified: xen9p_time {
                    nanos: 1_000_000_000,
                    ..Default::default()
                },
                ..chmod(0)
            },
        ];
        for (index, wrong) in wrong.iter().enumerate() {
            assert_eq!(
                xen9p_setattr(root, c"f".as_ptr(), wrong, NULL),
                EINVAL as i32,
                "{index}"
            );
        }
        let huge = usize::MAX;
        let some = c"x".as_ptr();
        assert_eq!(
            xen9p_readlink(fs, path, some.cast_mut(), huge, NULL),
            EINVAL
        );
        assert_eq!(xen9p_write(file, some.cast(), huge, 0, NULL), EINVAL);
        assert_eq!(
            xen9p_setxattr(fs, path, some, some.cast(), 0, NULL),
            EINVAL as i32
        );
        // Two kinds of places.
        assert_eq!(
            xen9p_rename(fs, path, root, c"g".as_ptr(), NULL),
            EINVAL as i32
        );
        assert_eq!(
            xen9p_link(fs, path, root, c"g".as_ptr(), NULL),
            EINVAL as i32
        );
        // Not yet, and no more.
        assert_eq!(xen9p_suspend(None, null_mut()), EFAULT as i32);
        assert_eq!(xen9p_watch_fired(null(), null()), EFAULT as i32);
        assert_eq!(xen9p_watch_fired(some, some), EINVAL as i32);
        assert_eq!(xen9p_watch_fired(some, c"77".as_ptr()), 0);
        assert_eq!(xen9p_store_error(c"ENOENT".as_ptr()), -2);
        assert_eq!(xen9p_store_error(c"nonsense".as_ptr()), -5);
        assert_eq!(xen9p_store_error(null()), EFAULT as i32);
        assert_eq!(xen9p_exit(), 0);
        for &name in CALLS {
            assert_eq!(
                call(
                    name,
                    Case {
                        at: fs,
                        path,
                        op: NULL
                    }
                ),
                -6,
                "{name}"
            );
        }
        // A handle of before means nothing after a second init.
        let again = mounted(&world);
        assert_ne!(again, fs);
        for at in [fs, root, file, dir] {
            assert_eq!(xen9p_close(at, NULL), EBADF as i32);
        }
        assert_eq!(xen9p_exit(), 0);
    }
}
