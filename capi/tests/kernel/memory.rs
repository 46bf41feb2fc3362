//! A kernel that has no memory any more, from any allocation on.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::{null, null_mut};

use xen9p_capi::*;

thread_local! {
    /// Whether the library runs, and not what it calls.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// How many more allocations the kernel grants.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    /// Whether it grants one more for each that is given back.
    static REUSES: Cell<bool> = const { Cell::new(false) };
}

/// The library's allocator inside of it, the system's elsewhere.
struct Both;

// SAFETY: what both give out comes from `System` in the end, but for parts of the library's reserve, which its own
// allocator knows; without callbacks it has none, and gives nothing back.
unsafe impl GlobalAlloc for Both {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match INSIDE.get() {
            // SAFETY: the caller's promise.
            true => unsafe { Allocator.alloc(layout) },
            // SAFETY: the caller's promise.
            false => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        match INSIDE.get() {
            // SAFETY: the caller's promise.
            true => unsafe { Allocator.dealloc(memory, layout) },
            // SAFETY: the caller's promise.
            false => unsafe { System.dealloc(memory, layout) },
        }
    }
}

#[global_allocator]
static ALLOCATOR: Both = Both;

/// The kernel's memory.
pub fn alloc(size: usize, align: usize) -> *mut u8 {
    let left = LEFT.get();
    if left == 0 {
        return null_mut();
    }
    LEFT.set(left.saturating_sub(1));
    // SAFETY: sizes are above 0.
    unsafe { System.alloc(Layout::from_size_align(size, align).unwrap()) }
}

/// Takes it back.
pub fn free(memory: *mut u8, size: usize, align: usize) {
    // SAFETY: as it was given out.
    unsafe { System.dealloc(memory, Layout::from_size_align(size, align).unwrap()) }
    if REUSES.get() {
        LEFT.set(LEFT.get() + 1);
    }
}

/// From now on the kernel grants what is given back, and nothing else.
pub fn leave_what_is_given_back() {
    LEFT.set(0);
    REUSES.set(true);
}

/// From now on the kernel grants so many more allocations.
pub fn leave(count: usize) {
    REUSES.set(false);
    LEFT.set(count);
}

/// Runs the kernel's side of a callback.
pub fn outside<T>(work: impl FnOnce() -> T) -> T {
    let before = INSIDE.replace(false);
    let result = work();
    INSIDE.set(before);
    result
}

pub fn inside<T>(call: impl FnOnce() -> T) -> T {
    let before = INSIDE.replace(true);
    let result = call();
    INSIDE.set(before);
    result
}

/// How a mount is made, and what happens to it.
#[derive(Clone, Copy)]
pub struct Way {
    /// Started, and asked about.
    pub is_started: bool,
    /// Seconds for which a lost backend is looked for.
    pub recovery: u32,
    /// Bytes of its cache.
    pub cache: u32,
}

/// What a program does with files. Returns the first error, with everything closed.
///
/// # Safety
/// The library is set up.
unsafe fn work(way: Way, lose: &dyn Fn()) -> Result<(), i64> {
    let mut open = Vec::new();
    // SAFETY: all pointers are valid; strings end with a NUL.
    let result = unsafe { work_on(&mut open, way, lose) };
    for handle in open.into_iter().rev() {
        // SAFETY: the place for the operation's handle lives until it is over.
        let closed = run(way.is_started, |op| unsafe {
            xen9p_close(handle, op).into()
        });
        assert!(matches!(closed, Ok(0) | Err(-12 | -5)), "{closed:?}");
    }
    result
}

/// The end of a call that was started; one that can't be waited for is given up.
fn end(op: xen9p_handle) -> i64 {
    loop {
        match inside(|| xen9p_poll(op)) {
            result if result == -XEN9P_EINPROGRESS => {
                let waited = inside(|| xen9p_wait(op, u64::MAX));
                if waited < 0 {
                    // SAFETY: no operation is started.
                    assert_eq!(inside(|| unsafe { xen9p_close(op, null_mut()) }), 0);
                    return waited.into();
                }
            }
            result => return result,
        }
    }
}

/// Makes a call that is started, or not.
fn run(is_started: bool, call: impl FnOnce(*mut xen9p_handle) -> i64) -> Result<i64, i64> {
    let mut op = 0;
    let result = match is_started {
        true => match inside(|| call(&mut op)) {
            0 => end(op),
            error => error,
        },
        false => inside(|| call(null_mut())),
    };
    if result < 0 { Err(result) } else { Ok(result) }
}

/// # Safety
/// As [`work`].
unsafe fn work_on(open: &mut Vec<xen9p_handle>, way: Way, lose: &dyn Fn()) -> Result<(), i64> {
    let (mut fs, mut file, mut dir, mut node) = (0, 0, 0, 0);
    let mut bytes = vec![7_u8; 50_000];
    let data = bytes.as_mut_ptr();
    let flags = XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE;
    let (path, name) = (c"/m".as_ptr(), c"user.a".as_ptr());
    // SAFETY: the caller's promise; all pointers are valid until the calls are over.
    unsafe {
        // So that each time begins with a mount.
        let options = xen9p_mount_options {
            size: size_of::<xen9p_mount_options>(),
            disconnect: 1,
            recovery: way.recovery,
            cache: way.cache,
            ..Default::default()
        };
        let started = way.is_started;
        let mounted = run(started, |op| {
            xen9p_mount(null(), &options, &mut fs, op).into()
        });
        if fs != 0 {
            open.push(fs);
        }
        mounted?;
        let opened = run(started, |op| {
            xen9p_open(fs, path, flags, 0o644, &mut file, op).into()
        });
        if file != 0 {
            open.push(file);
        }
        opened?;
        run(started, |op| xen9p_write(file, data.cast(), 50_000, 0, op))?;
        lose();
        run(started, |op| xen9p_read(file, data.cast(), 50_000, 0, op))?;
        run(true, |op| xen9p_read(file, data.cast(), 50_000, 0, op))?;
        for kind in [XEN9P_LOCK_EXCLUSIVE, XEN9P_LOCK_NONE] {
            run(started, |op| xen9p_lock(file, kind, 0, 10, op).into())?;
        }
        run(started, |op| xen9p_sync(file, op).into())?;
        // By a path and by a node.
        let found = run(started, |op| {
            xen9p_lookup(fs, c"/".as_ptr(), &mut node, op).into()
        });
        if node != 0 {
            open.push(node);
        }
        found?;
        let mut stat = xen9p_stat::default();
        let mut full = xen9p_statfs::default();
        let change = xen9p_setattr {
            size: size_of::<xen9p_setattr>(),
            valid: XEN9P_SET_MODE | XEN9P_SET_LENGTH,
            mode: 0o600,
            length: 3,
            ..Default::default()
        };
        for (at, m, n) in [
            (fs, path, c"/n".as_ptr()),
            (node, c"m".as_ptr(), c"n".as_ptr()),
        ] {
            run(started, |op| xen9p_stat(at, m, 0, &mut stat, op).into())?;
            run(started, |op| xen9p_setattr(at, m, &change, op).into())?;
            run(started, |op| xen9p_statfs(at, m, &mut full, op).into())?;
            run(started, |op| {
                xen9p_setxattr(at, m, name, data.cast(), 20, op).into()
            })?;
            run(started, |op| {
                xen9p_getxattr(at, m, name, data.cast(), 20, op)
            })?;
            run(started, |op| {
                xen9p_getxattr(at, m, null(), data.cast(), 200, op)
            })?;
            run(started, |op| {
                xen9p_setxattr(at, m, name, null(), 0, op).into()
            })?;
            run(started, |op| xen9p_rename(at, m, at, n, op).into())?;
            run(started, |op| xen9p_link(at, n, at, m, op).into())?;
            run(started, |op| xen9p_unlink(at, n, op).into())?;
            run(started, |op| xen9p_symlink(path, at, n, op).into())?;
            run(started, |op| xen9p_readlink(at, n, data.cast(), 20, op))?;
            run(started, |op| xen9p_unlink(at, n, op).into())?;
            run(started, |op| xen9p_mkdir(at, n, 0o755, op).into())?;
            run(started, |op| xen9p_rmdir(at, n, op).into())?;
        }
        for (at, path) in [(fs, c"/".as_ptr()), (node, null())] {
            let opened = run(started, |op| xen9p_opendir(at, path, &mut dir, op).into());
            if dir != 0 {
                open.push(dir);
            }
            opened?;
            let mut entry = std::mem::zeroed::<xen9p_dirent>();
            while run(started, |op| xen9p_readdir(dir, &mut entry, op).into())? == 1 {}
            dir = 0;
        }
        run(started, |op| xen9p_unlink(fs, path, op).into())?;
    }
    Ok(())
}

/// Removes what a program that was stopped has left.
///
/// # Safety
/// The library is set up.
unsafe fn tidy_up() {
    let mut fs = 0;
    let options = xen9p_mount_options {
        size: size_of::<xen9p_mount_options>(),
        disconnect: 1,
        ..Default::default()
    };
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(
            inside(|| xen9p_mount(null(), &options, &mut fs, null_mut())),
            0
        );
        for path in [c"/m", c"/n"] {
            inside(|| xen9p_unlink(fs, path.as_ptr(), null_mut()));
            inside(|| xen9p_rmdir(fs, path.as_ptr(), null_mut()));
        }
        assert_eq!(inside(|| xen9p_close(fs, null_mut())), 0);
    }
}

/// Has memory end at one allocation after the other, less densely towards the end unless `XEN9P_THOROUGH` is set, which
/// takes minutes. Returns how many there are.
///
/// # Safety
/// The library is set up.
pub unsafe fn end_everywhere(way: Way, lose: &dyn Fn()) -> usize {
    let thorough = std::env::var_os("XEN9P_THOROUGH").is_some();
    let mut after = 0;
    loop {
        LEFT.set(after);
        // SAFETY: the caller's promise.
        let result = unsafe { work(way, lose) };
        LEFT.set(usize::MAX);
        // With memory again everything works.
        // SAFETY: the caller's promise.
        unsafe { tidy_up() };
        // SAFETY: the caller's promise.
        let again = unsafe { work(way, lose) };
        assert_eq!(again, Ok(()), "after {after} allocations");
        match result {
            Ok(()) => return after,
            // A backend that could not be looked for without memory is lost.
            Err(-5) if way.recovery > 0 => {}
            Err(error) => assert_eq!(error, -12, "after {after} allocations"),
        }
        after += match thorough {
            true => 1,
            false => 1 + after / 4,
        };
    }
}
