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
}

/// From now on the kernel grants so many more allocations.
pub fn leave(count: usize) {
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

/// What a program does with files. Returns the first error, with everything closed.
///
/// # Safety
/// The library is set up.
unsafe fn work() -> Result<(), i64> {
    let mut open = Vec::new();
    // SAFETY: all pointers are valid; strings end with a NUL.
    let result = unsafe { work_on(&mut open) };
    for handle in open.into_iter().rev() {
        // SAFETY: no operation is started.
        let closed = inside(|| unsafe { xen9p_close(handle, null_mut()) });
        assert!(closed == 0 || closed == -12, "{closed}");
    }
    result
}

/// # Safety
/// As [`work`].
unsafe fn work_on(open: &mut Vec<xen9p_handle>) -> Result<(), i64> {
    let check = |result: i64| if result < 0 { Err(result) } else { Ok(result) };
    let (mut fs, mut file, mut dir, mut op) = (0, 0, 0, 0);
    let mut bytes = vec![7_u8; 50_000];
    let data = bytes.as_mut_ptr();
    let flags = XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE;
    // SAFETY: the caller's promise; all pointers are valid.
    unsafe {
        // So that each time begins with a mount.
        let options = xen9p_mount_options {
            size: size_of::<xen9p_mount_options>(),
            disconnect: 1,
            ..Default::default()
        };
        check(inside(|| xen9p_mount(null(), &options, &mut fs, null_mut())).into())?;
        open.push(fs);
        check(
            inside(|| xen9p_open(fs, c"/m".as_ptr(), flags, 0o644, &mut file, null_mut())).into(),
        )?;
        open.push(file);
        check(inside(|| {
            xen9p_write(file, data.cast(), 50_000, 0, null_mut())
        }))?;
        check(inside(|| {
            xen9p_read(file, data.cast(), 50_000, 0, null_mut())
        }))?;
        check(inside(|| xen9p_read(file, data.cast(), 50_000, 0, &mut op)))?;
        loop {
            match inside(|| xen9p_poll(op)) {
                result if result == -XEN9P_EINPROGRESS => {
                    check(inside(|| xen9p_wait(fs, u64::MAX)).into())
                        .inspect_err(|_| open.push(op))?;
                }
                // Over, and closed, or not asked about.
                result => {
                    if result == -12 {
                        inside(|| xen9p_close(op, null_mut()));
                    }
                    check(result)?;
                    break;
                }
            }
        }
        check(inside(|| xen9p_opendir(fs, c"/".as_ptr(), &mut dir, null_mut())).into())?;
        open.push(dir);
        let mut entry = std::mem::zeroed::<xen9p_dirent>();
        while check(inside(|| xen9p_readdir(dir, &mut entry, null_mut())).into())? == 1 {}
        let mut stat = xen9p_stat::default();
        check(inside(|| xen9p_stat(fs, c"/m".as_ptr(), 0, &mut stat, null_mut())).into())?;
        check(inside(|| xen9p_unlink(fs, c"/m".as_ptr(), null_mut())).into())?;
    }
    Ok(())
}

/// Has memory end at one allocation after the other, less densely towards the end unless `XEN9P_THOROUGH` is set, which
/// takes minutes. Returns how many there are.
///
/// # Safety
/// The library is set up.
pub unsafe fn end_everywhere() -> usize {
    let thorough = std::env::var_os("XEN9P_THOROUGH").is_some();
    let mut after = 0;
    loop {
        LEFT.set(after);
        // SAFETY: the caller's promise.
        let result = unsafe { work() };
        LEFT.set(usize::MAX);
        // With memory again everything works.
        // SAFETY: the caller's promise.
        assert_eq!(unsafe { work() }, Ok(()), "after {after} allocations");
        match result {
            Ok(()) => return after,
            Err(error) => assert_eq!(error, -12, "after {after} allocations"),
        }
        after += match thorough {
            true => 1,
            false => 1 + after / 4,
        };
    }
}
