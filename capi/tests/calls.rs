//! The C interface on the simulated Xen: files through it, and calls that a C programmer gets wrong.
//!
//! One test: the library is set up once in a program, by one thread.

mod memory;

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_void};
use std::num::NonZeroUsize;
use std::ptr::{NonNull, null, null_mut};
use std::rc::Rc;

use memory::outside;
use xen9p::hypercall::DomId;
use xen9p::platform::Platform;
use xen9p::time::Instant;
use xen9p::xen::event::Port;
use xen9p_capi::*;
use xen9p_testing::backend::{Program, Share};
use xen9p_testing::fake::{FakePlatform, FakeXen};
use xen9p_testing::server::mem::{MemOptions, MemServer};

const GUEST: DomId = DomId(3);
const EBADF: i32 = -9;
const EFAULT: i32 = -14;

/// The kernel: what the callbacks get as their context.
struct Kernel {
    platform: FakePlatform,
    /// Calls the library from within `wait`, once, and keeps what it says.
    meddle: Cell<Option<i32>>,
}

unsafe fn kernel<'a>(context: *mut c_void) -> &'a Kernel {
    // SAFETY: the context is the kernel, which lives as long as the test.
    unsafe { &*context.cast() }
}

fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

unsafe extern "C" fn alloc(_: *mut c_void, size: usize, align: usize) -> *mut c_void {
    memory::alloc(size, align).cast()
}
unsafe extern "C" fn free(_: *mut c_void, memory: *mut c_void, size: usize, align: usize) {
    memory::free(memory.cast(), size, align);
}
unsafe extern "C" fn alloc_pages(context: *mut c_void, pages: usize) -> *mut c_void {
    if pages > 1 << 20 {
        return null_mut();
    }
    // SAFETY: as the library calls it.
    let kernel = unsafe { kernel(context) };
    let first = outside(|| kernel.platform.alloc_pages(count(pages)));
    first.map_or(null_mut(), |first| first.as_ptr().cast())
}
unsafe extern "C" fn free_pages(context: *mut c_void, first: *mut c_void, pages: usize) {
    let first = NonNull::new(first.cast()).unwrap();
    // SAFETY: as the library calls it.
    outside(|| unsafe { kernel(context).platform.free_pages(first, count(pages)) });
}
unsafe extern "C" fn frame(context: *mut c_void, page: *const c_void) -> u64 {
    let page = NonNull::new(page.cast_mut().cast()).unwrap();
    // SAFETY: as the library calls it.
    unsafe { kernel(context) }.platform.frame(page).0
}
unsafe extern "C" fn hypercall(context: *mut c_void, number: u32, args: *const usize) -> isize {
    // SAFETY: as the library calls it, with five arguments.
    outside(|| unsafe {
        kernel(context)
            .platform
            .hypercall(number, args.cast::<[usize; 5]>().read())
    })
}
unsafe extern "C" fn grant_frame(context: *mut c_void, index: u32) -> *mut c_void {
    // SAFETY: as the library calls it.
    let kernel = unsafe { kernel(context) };
    let page = outside(|| kernel.platform.grant_frame(index));
    page.map_or(null_mut(), |page| page.as_ptr().cast())
}
unsafe extern "C" fn now(context: *mut c_void) -> u64 {
    // SAFETY: as the library calls it.
    outside(|| unsafe { kernel(context) }.platform.now().as_nanos())
}
unsafe extern "C" fn take_pending(context: *mut c_void, port: u32) -> bool {
    // SAFETY: as the library calls it.
    outside(|| unsafe { kernel(context) }.platform.take_pending(Port(port)))
}
unsafe extern "C" fn wait(context: *mut c_void, ports: *const u32, count: usize, deadline: u64) {
    // SAFETY: as the library calls it.
    let (kernel, ports) = unsafe { (kernel(context), std::slice::from_raw_parts(ports, count)) };
    if kernel.meddle.get() == Some(0) {
        kernel.meddle.set(Some(xen9p_close(1 << 16)));
    }
    outside(|| {
        let ports: Vec<Port> = ports.iter().map(|&port| Port(port)).collect();
        kernel.platform.wait(&ports, Instant::from_nanos(deadline));
    });
}
unsafe extern "C" fn panic(_: *mut c_void, _: *const c_char, _: usize) {
    unreachable!("the test's panics are std's")
}

fn last_error() -> String {
    let mut text = [0; 200];
    // SAFETY: the buffer has this size.
    let length = unsafe { xen9p_last_error(text.as_mut_ptr(), text.len()) };
    assert!(length > 0);
    // SAFETY: it ends with a NUL.
    unsafe { CStr::from_ptr(text.as_ptr()) }
        .to_str()
        .unwrap()
        .into()
}

#[test]
fn everything_in_order_and_out_of_it() {
    let fake = FakeXen::new();
    let platform = fake.add_domain(GUEST);
    let server = Rc::new(RefCell::new(MemServer::new(MemOptions::default())));
    let serving = server.clone();
    let handler = Box::new(move |request: &[u8]| serving.borrow_mut().handle(request));
    let share = Share::new(&fake.dom0(), GUEST, 0, "share", Program::Qemu, handler);
    fake.share_peer(Rc::new(RefCell::new(share)));
    let ring = platform.xenstore_ring().unwrap();
    let before = fake.usage(GUEST);
    let kernel = Kernel {
        platform,
        meddle: Cell::new(None),
    };
    let callbacks = xen9p_platform {
        size: size_of::<xen9p_platform>(),
        version: XEN9P_VERSION,
        context: (&raw const kernel).cast_mut().cast(),
        alloc: Some(alloc),
        free: Some(free),
        alloc_pages: Some(alloc_pages),
        free_pages: Some(free_pages),
        frame: Some(frame),
        hypercall: Some(hypercall),
        grant_frame: Some(grant_frame),
        now: Some(now),
        take_pending: Some(take_pending),
        wait: Some(wait),
        panic: Some(panic),
        xenstore: xen9p_ring {
            page: ring.page.as_ptr().cast(),
            port: ring.port.0,
        },
    };
    let (mut fs, mut file, mut dir, mut op) = (0, 0, 0, 0);
    let mut bytes = vec![0_u8; 100_000];
    // SAFETY: all pointers are valid or null; strings end with a NUL.
    unsafe {
        // Before it is set up.
        assert_eq!(xen9p_mount(null(), null(), &mut fs), -6);
        assert_eq!(xen9p_close(1 << 16), -6);
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

        assert_eq!(xen9p_mount(c"nothing".as_ptr(), null(), &mut fs), -19);
        assert!(
            last_error().contains("there are: share"),
            "{}",
            last_error()
        );
        assert_eq!(xen9p_mount(c"share".as_ptr(), null(), null_mut()), EFAULT);
        for size in [0, size_of::<xen9p_mount_options>() + 1] {
            let options = xen9p_mount_options {
                size,
                ..Default::default()
            };
            assert_eq!(xen9p_mount(null(), &options, &mut fs), -22);
            assert!(last_error().contains("sizeof"), "{}", last_error());
        }
        let options = xen9p_mount_options {
            // As an earlier version would have it, without what comes behind.
            size: std::mem::offset_of!(xen9p_mount_options, timeout),
            msize: 100,
            ..Default::default()
        };
        // Nonsense is no mount, and leaves the device usable.
        assert!(xen9p_mount(null(), &options, &mut fs) < 0);
        assert_eq!(xen9p_mount(null(), null(), &mut fs), 0, "{}", last_error());

        // Files.
        let flags = XEN9P_READ | XEN9P_WRITE | XEN9P_CREATE;
        assert_eq!(xen9p_open(fs, c"/a".as_ptr(), flags, 0o644, &mut file), 0);
        let data: Vec<u8> = (0..100_000_u32).map(|n| (n / 7) as u8).collect();
        assert_eq!(
            xen9p_write(file, data.as_ptr().cast(), data.len(), 0),
            100_000
        );
        assert_eq!(
            xen9p_read(file, bytes.as_mut_ptr().cast(), bytes.len(), 0),
            100_000
        );
        assert!(bytes == data);
        let mut stat = xen9p_stat::default();
        assert_eq!(xen9p_fstat(file, &mut stat), 0);
        assert_eq!((stat.size, stat.mode & 0o777), (100_000, 0o644));
        assert_eq!(xen9p_stat(fs, c"/a".as_ptr(), &mut stat), 0);
        assert_eq!(xen9p_truncate(file, 50_000), 0);
        assert_eq!(xen9p_sync(file), 0);
        assert_eq!(xen9p_mkdir(fs, c"/d".as_ptr(), 0o755), 0);
        assert_eq!(xen9p_rename(fs, c"/a".as_ptr(), c"/b".as_ptr()), 0);
        assert_eq!(xen9p_opendir(fs, c"/".as_ptr(), &mut dir), 0);
        let mut names = Vec::new();
        let mut entry = std::mem::zeroed::<xen9p_dirent>();
        while xen9p_readdir(dir, &mut entry) == 1 {
            names.push(
                CStr::from_ptr(entry.name.as_ptr())
                    .to_str()
                    .unwrap()
                    .to_owned(),
            );
        }
        names.sort();
        assert_eq!(names, ["b", "d"]);
        assert_eq!(xen9p_rmdir(fs, c"/b".as_ptr()), -20);
        assert_eq!(xen9p_unlink(fs, c"/d".as_ptr()), -21);
        assert_eq!(xen9p_rmdir(fs, c"/d".as_ptr()), 0);

        // Operations that are started.
        bytes.fill(0);
        assert_eq!(
            xen9p_read_start(file, bytes.as_mut_ptr().cast(), bytes.len(), 0, &mut op),
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
            xen9p_read_start(file, bytes.as_mut_ptr().cast(), bytes.len(), 0, &mut op),
            0
        );
        let mut other = 0;
        assert_eq!(
            xen9p_write_start(file, data.as_ptr().cast(), 1000, 0, &mut other),
            0
        );
        assert_eq!(xen9p_close(op), 0);

        // Wrong calls.
        assert_eq!(xen9p_open(fs, null(), XEN9P_READ, 0, &mut op), EFAULT);
        assert_eq!(
            xen9p_open(fs, c"/b".as_ptr(), XEN9P_READ, 0, null_mut()),
            EFAULT
        );
        assert_eq!(xen9p_open(fs, c"/b".as_ptr(), 64, 0, &mut op), -22);
        assert_eq!(xen9p_open(fs, c"/b".as_ptr(), 0, 0, &mut op), -22);
        assert_eq!(
            xen9p_open(fs, c"/none".as_ptr(), XEN9P_READ, 0, &mut op),
            -2
        );
        assert!(last_error().contains("ENOENT"));
        assert_eq!(
            xen9p_open(file, c"/b".as_ptr(), XEN9P_READ, 0, &mut op),
            EBADF
        );
        assert_eq!(xen9p_read(file, null_mut(), 1, 0), EFAULT.into());
        assert_eq!(xen9p_read(file, null_mut(), 0, 0), 0);
        assert_eq!(
            xen9p_read(file, bytes.as_mut_ptr().cast(), usize::MAX, 0),
            -22
        );
        assert_eq!(
            xen9p_read(fs, bytes.as_mut_ptr().cast(), 1, 0),
            EBADF.into()
        );
        assert_eq!(xen9p_write(dir, null(), 0, 0), EBADF.into());
        assert_eq!(xen9p_readdir(file, &mut entry), EBADF);
        assert_eq!(xen9p_readdir(dir, null_mut()), EFAULT);
        assert_eq!(xen9p_stat(fs, c"/b".as_ptr(), null_mut()), EFAULT);
        assert_eq!(xen9p_poll(file), EBADF.into());
        assert_eq!(xen9p_wait(dir, 0), EBADF);
        for handle in [0, 1, u32::MAX, file + (1 << 16), file ^ 0x8000] {
            assert_eq!(xen9p_close(handle), EBADF);
        }

        // From within a callback.
        kernel.meddle.set(Some(0));
        assert_eq!(xen9p_stat(fs, c"/b".as_ptr(), &mut stat), 0);
        assert_eq!(kernel.meddle.get(), Some(-16));

        // Closed handles, whatever took their place.
        let closed = file;
        assert_eq!(xen9p_close(file), 0);
        assert_eq!(xen9p_open(fs, c"/b".as_ptr(), XEN9P_READ, 0, &mut file), 0);
        assert_ne!(file, closed);
        assert_eq!(
            xen9p_read(closed, bytes.as_mut_ptr().cast(), 1, 0),
            EBADF.into()
        );
        assert_eq!(xen9p_close(closed), EBADF);
        for handle in [file, dir, other, fs] {
            assert_eq!(xen9p_close(handle), 0);
        }
        assert_eq!(xen9p_stat(fs, c"/b".as_ptr(), &mut stat), EBADF);
    }
    // SAFETY: it is set up.
    let points = unsafe { memory::end_everywhere() };
    assert!(points > 20, "{points}");
    // What is left is the connection to xenstore, for the next mount.
    let after = fake.usage(GUEST);
    assert_eq!((after.pages, after.grants), (before.pages, before.grants));
    assert_eq!(server.borrow().fids(), 0);
}
