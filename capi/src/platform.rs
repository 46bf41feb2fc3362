//! What the kernel provides: callbacks, and a [`Platform`] made of them.

use core::cell::UnsafeCell;
use core::ffi::{c_char, c_void};
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};

use xen9p::hypercall::XenError;
use xen9p::hypercall::raw::Gate;
use xen9p::platform::{BuilderRing, DomainState, Frame, Page, Platform};
use xen9p::time::Instant;
use xen9p::xen::event::Port;

/// A ring that Xen's domain builder made: its page, mapped for good, and its event channel.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct xen9p_ring {
    /// The page; NULL if the domain has no such ring.
    pub page: *mut c_void,
    /// The port.
    pub port: u32,
}

/// What the kernel provides. The library copies it. Each callback gets `context` as its first argument; none may be
/// NULL. No callback but `wait` may block, and none may call the library.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xen9p_platform {
    /// sizeof (struct xen9p_platform).
    pub size: usize,
    /// XEN9P_VERSION.
    pub version: u32,
    /// Handed to each callback.
    pub context: *mut c_void,
    /// Memory of a size above 0, aligned to a power of two; NULL when there is none.
    pub alloc: Option<unsafe extern "C" fn(*mut c_void, size: usize, align: usize) -> *mut c_void>,
    /// Takes memory of `alloc` back; size and alignment are those that were asked for.
    pub free:
        Option<unsafe extern "C" fn(*mut c_void, memory: *mut c_void, size: usize, align: usize)>,
    /// `count` zeroed pages of 4096 bytes, next to each other, page-aligned, mapped read-write; NULL when there are none.
    pub alloc_pages: Option<unsafe extern "C" fn(*mut c_void, count: usize) -> *mut c_void>,
    /// Takes pages of `alloc_pages` back; the count is that which was asked for.
    pub free_pages: Option<unsafe extern "C" fn(*mut c_void, first: *mut c_void, count: usize)>,
    /// The frame behind a page of `alloc_pages`: the MFN in a PV domain, else the GFN.
    pub frame: Option<unsafe extern "C" fn(*mut c_void, page: *const c_void) -> u64>,
    /// Makes a hypercall with five arguments and returns Xen's answer; see xen9p_hypercall().
    pub hypercall:
        Option<unsafe extern "C" fn(*mut c_void, number: u32, args: *const usize) -> isize>,
    /// Frame `index` of the domain's grant table, version 1, mapped read-write for good; the same address each time.
    /// NULL when the table can't become that large.
    pub grant_frame: Option<unsafe extern "C" fn(*mut c_void, index: u32) -> *mut c_void>,
    /// Nanoseconds of the monotonic clock.
    pub now: Option<unsafe extern "C" fn(*mut c_void) -> u64>,
    /// Whether the port fired since this was asked the last time; forgets that it did.
    pub take_pending: Option<unsafe extern "C" fn(*mut c_void, port: u32) -> bool>,
    /// Blocks until one of the ports fired and was not taken, or the clock shows `deadline`. May return early.
    pub wait:
        Option<unsafe extern "C" fn(*mut c_void, ports: *const u32, count: usize, deadline: u64)>,
    /// Told when the library can't go on because of a bug; does not return.
    pub panic: Option<unsafe extern "C" fn(*mut c_void, message: *const c_char, length: usize)>,
    /// Xenstore's ring.
    pub xenstore: xen9p_ring,
}

/// The callbacks, once they are there.
struct Table(UnsafeCell<Option<xen9p_platform>>);

// SAFETY: written once, by the first call; the interface asks for one thread.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new(None));

/// Keeps the callbacks, unless one is missing.
pub(crate) fn install(platform: &xen9p_platform) -> bool {
    let p = platform;
    let complete = p.alloc.is_some()
        && p.free.is_some()
        && p.alloc_pages.is_some()
        && p.free_pages.is_some()
        && p.frame.is_some()
        && p.hypercall.is_some()
        && p.grant_frame.is_some()
        && p.now.is_some()
        && p.take_pending.is_some()
        && p.wait.is_some()
        && p.panic.is_some();
    if complete {
        // SAFETY: one thread, and no reference exists: `table` gives copies.
        unsafe { *TABLE.0.get() = Some(*platform) };
    }
    complete
}

/// The callbacks.
pub(crate) fn table() -> Option<xen9p_platform> {
    // SAFETY: one thread; a copy is made.
    unsafe { *TABLE.0.get() }
}

/// Calls a callback.
macro_rules! callback {
    ($name:ident, $otherwise:expr $(, $argument:expr)*) => {
        match table().and_then(|table| Some((table.$name?, table.context))) {
            // SAFETY: the kernel's function, called as the header says.
            Some((function, context)) => unsafe { function(context $(, $argument)*) },
            None => $otherwise,
        }
    };
}
pub(crate) use callback;

/// The kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel;

// SAFETY: the C programmer owes what the header asks for, which is what this trait asks for.
unsafe impl Platform for Kernel {
    fn alloc_pages(&self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        NonNull::new(callback!(alloc_pages, core::ptr::null_mut(), count.get()).cast())
    }

    unsafe fn free_pages(&self, first: NonNull<Page>, count: NonZeroUsize) {
        callback!(free_pages, (), first.as_ptr().cast(), count.get());
    }

    fn frame(&self, page: NonNull<Page>) -> Frame {
        Frame(callback!(frame, u64::MAX, page.as_ptr().cast()))
    }

    unsafe fn hypercall(&self, number: u32, args: [usize; 5]) -> isize {
        callback!(
            hypercall,
            -(XenError::ENOSYS.0 as isize),
            number,
            args.as_ptr()
        )
    }

    fn grant_frame(&self, index: u32) -> Result<NonNull<Page>, XenError> {
        let page = callback!(grant_frame, core::ptr::null_mut(), index);
        NonNull::new(page.cast()).ok_or(XenError::ENOSPC)
    }

    fn domain_state(&self) -> &DomainState {
        // There is one kernel, see `TABLE`.
        static STATE: DomainState = DomainState::new();
        &STATE
    }

    fn xenstore_ring(&self) -> Option<BuilderRing> {
        let ring = table()?.xenstore;
        Some(BuilderRing {
            page: NonNull::new(ring.page.cast())?,
            port: Port(ring.port),
        })
    }

    fn console_ring(&self) -> Option<BuilderRing> {
        // The kernel's own.
        None
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(callback!(now, 0))
    }

    fn wall_clock(&self) -> u64 {
        0
    }

    fn take_pending(&self, port: Port) -> bool {
        callback!(take_pending, false, port.0)
    }

    fn wait(&self, ports: &[Port], deadline: Instant) {
        // A Port is a transparent u32.
        callback!(
            wait,
            (),
            ports.as_ptr().cast(),
            ports.len(),
            deadline.as_nanos()
        );
    }
}

/// Makes a hypercall with five arguments by the processor's instruction: for the callback `hypercall`. `pv` says whether
/// the domain is a PV one.
///
/// # Safety
/// The code runs in such a domain, and the arguments are valid for the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_hypercall(pv: bool, number: u32, args: *const usize) -> isize {
    // Asking the processor leaves the domain for a microsecond: once is enough.
    static GATE: AtomicU8 = AtomicU8::new(0);
    let gate = match (pv, GATE.load(Ordering::Relaxed)) {
        (true, _) => Gate::Syscall,
        (false, 1) => Gate::Vmcall,
        (false, 2) => Gate::Vmmcall,
        (false, _) => {
            let gate = Gate::of_hvm();
            GATE.store(1 + u8::from(gate == Gate::Vmmcall), Ordering::Relaxed);
            gate
        }
    };
    // SAFETY: the caller's promise.
    unsafe { gate.call(number, args.cast::<[usize; 5]>().read()) }
}
