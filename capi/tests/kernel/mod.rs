//! A kernel in C, as the library sees it, on the simulated Xen.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod calls;
pub mod memory;
pub mod own;

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::num::NonZeroUsize;
use std::ptr::{NonNull, null, null_mut};
use std::rc::Rc;

use memory::outside;
use xen9p::hypercall::DomId;
use xen9p::platform::{Frame, Platform, View};
use xen9p::time::Instant;
use xen9p::xen::event::Port;
use xen9p_capi::*;
use xen9p_testing::backend::{Program, Share};
use xen9p_testing::fake::{FakePlatform, FakeXen};
use xen9p_testing::server::mem::{MemOptions, MemServer};

pub const GUEST: DomId = DomId(3);

/// The kernel: what the callbacks get as their context.
pub struct Kernel {
    pub platform: FakePlatform,
    /// Calls the library from within `wait`, once, and keeps what it says.
    pub meddle: Cell<Option<i32>>,
    /// Drivers of its own, where it has some.
    pub own: Option<own::Own>,
}

pub unsafe fn kernel<'a>(context: *mut c_void) -> &'a Kernel {
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
pub unsafe extern "C" fn now(context: *mut c_void) -> u64 {
    // SAFETY: as the library calls it.
    outside(|| unsafe { kernel(context) }.platform.now().as_nanos())
}
pub unsafe extern "C" fn take_pending(context: *mut c_void, port: u32) -> c_int {
    // SAFETY: as the library calls it.
    outside(|| unsafe { kernel(context) }.platform.take_pending(Port(port))).into()
}
pub unsafe extern "C" fn wait(
    context: *mut c_void,
    ports: *const u32,
    count: usize,
    deadline: u64,
) {
    // SAFETY: as the library calls it.
    let (kernel, ports) = unsafe { (kernel(context), std::slice::from_raw_parts(ports, count)) };
    if kernel.meddle.get() == Some(0) {
        kernel.meddle.set(Some(unsafe_close(1 << 16)));
    }
    outside(|| {
        let ports: Vec<Port> = ports.iter().map(|&port| Port(port)).collect();
        kernel.platform.wait(&ports, Instant::from_nanos(deadline));
    });
}
unsafe extern "C" fn alloc_window(context: *mut c_void, pages: usize) -> *mut c_void {
    // SAFETY: as the library calls it.
    let kernel = unsafe { kernel(context) };
    let first = outside(|| kernel.platform.alloc_window(count(pages)));
    first.map_or(null_mut(), |first| first.as_ptr().cast())
}
unsafe extern "C" fn free_window(context: *mut c_void, first: *mut c_void, pages: usize) {
    let first = NonNull::new(first.cast()).unwrap();
    // SAFETY: as the library calls it.
    outside(|| unsafe { kernel(context).platform.free_window(first, count(pages)) });
}
unsafe extern "C" fn window_address(context: *mut c_void, page: *const c_void) -> u64 {
    let page = NonNull::new(page.cast_mut().cast()).unwrap();
    // SAFETY: as the library calls it.
    outside(|| unsafe { kernel(context) }.platform.window_address(page))
}
unsafe extern "C" fn set_window(context: *mut c_void, page: *mut c_void, what: u32, own: u64) {
    let page = NonNull::new(page.cast()).unwrap();
    let view = match what {
        XEN9P_WINDOW_EMPTY => View::Empty,
        XEN9P_WINDOW_FOREIGN => View::Foreign,
        XEN9P_WINDOW_OWN => View::Own(Frame(own)),
        other => panic!("{other} is nothing that can be at a page"),
    };
    // SAFETY: as the library calls it.
    outside(|| unsafe { kernel(context).platform.set_window(page, view) });
}
unsafe extern "C" fn panic(_: *mut c_void, _: *const c_char, _: usize) {
    unreachable!("the test's panics are std's")
}

fn unsafe_close(handle: xen9p_handle) -> i32 {
    // SAFETY: no operation is started.
    unsafe { xen9p_close(handle, null_mut()) }
}

pub fn last_error() -> String {
    let mut text = [0; 4096];
    // SAFETY: the buffer has this size.
    let length = unsafe { xen9p_last_error(text.as_mut_ptr(), text.len()) };
    assert!(length > 0);
    // SAFETY: it ends with a NUL.
    unsafe { CStr::from_ptr(text.as_ptr()) }
        .to_str()
        .unwrap()
        .into()
}

/// A domain with a share, and a kernel in it.
pub struct World {
    pub fake: FakeXen,
    pub server: Rc<RefCell<MemServer>>,
    pub share: Rc<RefCell<Share>>,
    pub kernel: Box<Kernel>,
    /// Requests that the server got.
    pub requests: Rc<Cell<u64>>,
}

/// A backend's program that gives requests to a server.
fn share(fake: &FakeXen, server: &Rc<RefCell<MemServer>>, requests: &Rc<Cell<u64>>) -> Share {
    let (server, requests) = (server.clone(), requests.clone());
    let handler = Box::new(move |request: &[u8]| {
        requests.set(requests.get() + 1);
        server.borrow_mut().handle(request)
    });
    Share::new(&fake.dom0(), GUEST, 0, "share", Program::Qemu, handler)
}

impl World {
    pub fn new() -> World {
        let fake = FakeXen::new();
        let platform = fake.add_domain(GUEST);
        let server = Rc::new(RefCell::new(MemServer::new(MemOptions::default())));
        let requests = Rc::default();
        let share = Rc::new(RefCell::new(share(&fake, &server, &requests)));
        fake.share_peer(share.clone());
        World {
            fake,
            server,
            share,
            requests,
            kernel: Box::new(Kernel {
                platform,
                meddle: Cell::new(None),
                own: None,
            }),
        }
    }

    /// Puts another domain in the place of this one, as a restore does, with another backend for the same files.
    pub fn restore(&self) {
        outside(|| {
            self.share.borrow_mut().kill();
            self.fake.remove_peers();
            self.fake.restore(GUEST, true);
            *self.share.borrow_mut() = share(&self.fake, &self.server, &self.requests);
            self.fake.share_peer(self.share.clone());
        });
    }

    /// What a kernel provides that has nothing of its own: the library owns grant table and xenstore's ring.
    pub fn callbacks(&self) -> xen9p_platform {
        let ring = self.kernel.platform.xenstore_ring().unwrap();
        xen9p_platform {
            context: (&raw const *self.kernel).cast_mut().cast(),
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
            ..nothing()
        }
    }

    /// The same of a kernel that maps pages of other domains.
    pub fn with_windows(&self) -> xen9p_platform {
        xen9p_platform {
            alloc_window: Some(alloc_window),
            free_window: Some(free_window),
            window_address: Some(window_address),
            set_window: Some(set_window),
            ..self.callbacks()
        }
    }
}

impl World {
    /// With drivers of the kernel's own for all that there are ways for.
    pub fn with_drivers(mut self) -> World {
        self.kernel.own = Some(own::Own::new(self.kernel.platform.clone()));
        self
    }

    pub fn own(&self) -> &own::Own {
        self.kernel.own.as_ref().unwrap()
    }

    /// What such a kernel provides.
    pub fn drivers(&self) -> xen9p_platform {
        xen9p_platform {
            grant_frame: None,
            grant: Some(own::grant),
            end_grant: Some(own::end_grant),
            xenstore: nothing().xenstore,
            store_request: Some(own::store_request),
            store_watch: Some(own::store_watch),
            store_unwatch: Some(own::store_unwatch),
            port_opened: Some(own::port_opened),
            port_closed: Some(own::port_closed),
            wait: Some(own::wait),
            ..self.callbacks()
        }
    }
}

/// A platform without anything.
pub fn nothing() -> xen9p_platform {
    xen9p_platform {
        size: size_of::<xen9p_platform>(),
        version: XEN9P_VERSION,
        context: null_mut(),
        memory: 0,
        alloc: None,
        free: None,
        alloc_pages: None,
        free_pages: None,
        frame: None,
        hypercall: None,
        now: None,
        take_pending: None,
        wait: None,
        panic: None,
        grant_frame: None,
        first_grant: 0,
        grants: 0,
        grant: None,
        end_grant: None,
        xenstore: xen9p_ring {
            page: null_mut(),
            port: 0,
        },
        store_request: None,
        store_watch: None,
        store_unwatch: None,
        port_opened: None,
        port_closed: None,
        lock: None,
        unlock: None,
        wake: None,
        alloc_window: None,
        free_window: None,
        window_address: None,
        set_window: None,
    }
}

/// The library is one per program: tests take turns.
pub fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The end of a call that was started.
pub fn finish(op: xen9p_handle) -> i64 {
    for _ in 0..1000 {
        match xen9p_poll(op) {
            result if result == -XEN9P_EINPROGRESS => {
                assert_eq!(xen9p_wait(op, XEN9P_FOREVER), 0);
            }
            result => return result,
        }
    }
    panic!("an operation that never ends");
}

/// A mount of the first device, over a library that was just initialised.
pub fn mounted(world: &World) -> xen9p_handle {
    let mut fs = 0;
    // SAFETY: all pointers are valid.
    unsafe {
        assert_eq!(xen9p_init(&world.callbacks()), 0);
        assert_eq!(
            xen9p_mount(null(), null(), &mut fs, null_mut()),
            0,
            "{}",
            last_error()
        );
    }
    fs
}
