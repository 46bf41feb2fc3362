//! What the kernel provides: callbacks, and a [`Platform`] made of them.

use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_void};
use core::num::NonZeroUsize;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering};

use xen9p::hypercall::raw::Gate;
use xen9p::hypercall::{DomId, XenError};
#[cfg(feature = "vchan")]
use xen9p::platform::View;
use xen9p::platform::{BuilderRing, DomainState, Frame, GrantDriver, Page, Platform, StoreDriver};
use xen9p::time::Instant;
use xen9p::xen::event::Port;
use xen9p::xen::grant::GrantRef;
use xen9p::xen::store::StoreError;

use crate::{store, threads};

/// A ring that Xen's domain builder made: its page, mapped for good, and its event channel.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct xen9p_ring {
    /// The page; NULL if the domain has no such ring.
    pub page: *mut c_void,
    /// The port.
    pub port: u32,
}

/// What the kernel provides. The library copies it. Each callback gets `context` as its first argument. Those of the first
/// group are needed; of the others NULL is what a kernel leaves out. No callback may call the library, but where that is
/// said, and only `wait`, `store_request`, `store_watch` and `store_unwatch` may block. The library gives `lock` up around the
/// three for xenstore; `wait` gives it up itself.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xen9p_platform {
    /// sizeof (struct xen9p_platform).
    pub size: usize,
    /// XEN9P_VERSION.
    pub version: u32,
    /// Handed to each callback.
    pub context: *mut c_void,
    /// How much memory the kernel has, in bytes: an eighth of it goes into the rings of a mount. 0: 16 MiB, with which reads
    /// are about half as fast as with 64.
    pub memory: usize,
    /// Memory of a size above 0, aligned to a power of two; NULL when there is none.
    pub alloc: Option<unsafe extern "C" fn(*mut c_void, size: usize, align: usize) -> *mut c_void>,
    /// Takes memory of `alloc` back; size and alignment are those that were asked for.
    pub free:
        Option<unsafe extern "C" fn(*mut c_void, memory: *mut c_void, size: usize, align: usize)>,
    /// `count` zeroed pages of 4096 bytes, next to each other, page-aligned, mapped read-write; NULL when there are none,
    /// however large `count` is: xen9p_check_platform() asks for 2^40.
    pub alloc_pages: Option<unsafe extern "C" fn(*mut c_void, count: usize) -> *mut c_void>,
    /// Takes pages of `alloc_pages` back; the count is that which was asked for.
    pub free_pages: Option<unsafe extern "C" fn(*mut c_void, first: *mut c_void, count: usize)>,
    /// The frame behind a page of `alloc_pages`: the MFN in a PV domain, else the GFN.
    pub frame: Option<unsafe extern "C" fn(*mut c_void, page: *const c_void) -> u64>,
    /// Makes a hypercall with five arguments and returns Xen's answer; see xen9p_hypercall().
    pub hypercall:
        Option<unsafe extern "C" fn(*mut c_void, number: u32, args: *const usize) -> isize>,
    /// Nanoseconds of the monotonic clock, from any moment on; it never goes back, by a suspend neither.
    pub now: Option<unsafe extern "C" fn(*mut c_void) -> u64>,
    /// Not 0 if the port fired since this was asked the last time; forgets that it did. An interrupt that comes in the middle of
    /// this must not be forgotten with it. Asked of ports that `port_opened` told of,
    /// and of that in `xenstore`.
    pub take_pending: Option<unsafe extern "C" fn(*mut c_void, port: u32) -> c_int>,
    /// Blocks until one of the ports fired and was not taken, or the clock shows `deadline`; XEN9P_FOREVER never comes, and
    /// where the kernel's clock is a signed one, what is above its largest number does not either. May return early.
    /// `count` may be 0: a plain sleep. `deadline` may be past, 0 as well: it looks, and does not sleep. Where there is no `wake`,
    /// a thread that calls xen9p_watch_fired() ends the sleep, too.
    ///
    /// With `lock`, this is called with the lock held, gives it up while it sleeps, and has it again when it returns, as a
    /// wait on a condition variable does: what fires, and a call of `wake`, after the lock was given up ends it.
    /// xen9p_watch_fired() may be called from in here; with `lock`, which it takes, where the lock is given up.
    pub wait:
        Option<unsafe extern "C" fn(*mut c_void, ports: *const u32, count: usize, deadline: u64)>,
    /// Told when the library can't go on because of a bug, of its own or in a callback; does not return. `message` has `length` bytes and no NUL.
    pub panic: Option<unsafe extern "C" fn(*mut c_void, message: *const c_char, length: usize)>,

    /// The grant table, in one of two ways. This is the first: frame `index` of the domain's table, version 1, mapped
    /// read-write for good; the same address each time; NULL when the table can't become that large. The references from
    /// `first_grant` on, `grants` of them, are then the library's alone, whatever their entries say; it uses those from 8 on
    /// that are free when it first sees them. `grants` 0: all behind `first_grant`.
    pub grant_frame: Option<unsafe extern "C" fn(*mut c_void, index: u32) -> *mut c_void>,
    /// See `grant_frame`.
    pub first_grant: u32,
    /// See `grant_frame`.
    pub grants: u32,
    /// The second way, for kernels that have an allocator of references: lets a domain map a frame for reading and writing,
    /// and returns the reference, or a negative number when there is none.
    pub grant: Option<unsafe extern "C" fn(*mut c_void, domain: u32, frame: u64) -> i64>,
    /// Ends a grant and takes the reference back: not 0, unless the other domain has the frame mapped; it is asked again
    /// later then.
    pub end_grant: Option<unsafe extern "C" fn(*mut c_void, reference: u32) -> c_int>,

    /// Xenstore, in one of two ways. This is the first: the ring, which is the library's alone from the first call on that
    /// asks xenstore (xen9p_check_platform(), xen9p_tag(), xen9p_mount(), xen9p_serve()), with no request of the kernel's under
    /// way. All watches of the domain are dropped then. The library owns the page; the kernel notes the port's events.
    pub xenstore: xen9p_ring,
    /// The second way, for kernels with a connection of their own: makes a request of type XS_... (io/xs_wire.h) in a
    /// transaction, with the payload of the wire, and copies the payload of the answer, at most 4096 bytes, to `answer`.
    /// Returns its length; or a negative error number, for XS_ERROR that of xen9p_store_error(). May block, for a bounded
    /// time, without the lock.
    pub store_request: Option<
        unsafe extern "C" fn(
            *mut c_void,
            kind: u32,
            transaction: u32,
            payload: *const c_void,
            length: usize,
            answer: *mut c_void,
        ) -> i64,
    >,
    /// Has xenstore watch a path under a token; 0, or a negative error number. When it fires the kernel calls
    /// xen9p_watch_fired(), the first time at once. As `store_request`, it may block. Both strings are the library's; what is
    /// needed longer is copied.
    pub store_watch: Option<
        unsafe extern "C" fn(*mut c_void, path: *const c_char, token: *const c_char) -> c_int,
    >,
    /// Ends a watch.
    pub store_unwatch:
        Option<unsafe extern "C" fn(*mut c_void, path: *const c_char, token: *const c_char)>,

    /// Told of a port that the library opened, before anything can fire there: a kernel with a dispatcher binds a handler
    /// that notes the event for `take_pending` and ends `wait`, and unmasks the port. Where `wait` polls (SCHEDOP_poll),
    /// ports stay masked, and this is NULL. Not told of the port in `xenstore`, which was open before.
    pub port_opened: Option<unsafe extern "C" fn(*mut c_void, port: u32)>,
    /// Told of a port that the library closes next: its number may be another's then. Must not close it itself.
    pub port_closed: Option<unsafe extern "C" fn(*mut c_void, port: u32)>,

    /// For kernels with threads that call the library at the same time: takes a lock, which is held during each call, but
    /// while `wait` sleeps and the three callbacks for xenstore work. A callback that calls the library all the same takes it a second
    /// time. All three, or none: then all calls are to come one at a time, from any thread, and one that comes while another is
    /// under way is -EBUSY.
    pub lock: Option<unsafe extern "C" fn(*mut c_void)>,
    /// Gives the lock back.
    pub unlock: Option<unsafe extern "C" fn(*mut c_void)>,
    /// Has every `wait` return that sleeps now, and none that begins later. Called with the lock held; does not block.
    pub wake: Option<unsafe extern "C" fn(*mut c_void)>,

    /// To map pages of other domains, which xen9p_mount() of a vchan does and nothing else; all four, or none. This is a
    /// window: page-aligned addresses for `count` pages next to each other, at which nothing is; NULL when there are none.
    pub alloc_window: Option<unsafe extern "C" fn(*mut c_void, count: usize) -> *mut c_void>,
    /// Takes a window back, all of it XEN9P_WINDOW_EMPTY; the count is that which was asked for.
    pub free_window: Option<unsafe extern "C" fn(*mut c_void, first: *mut c_void, count: usize)>,
    /// Where Xen is told to map a page that shows there: in a PV domain that address itself, with page tables down
    /// to the last level; else the guest physical address of a frame without memory, which is for this page alone.
    pub window_address: Option<unsafe extern "C" fn(*mut c_void, page: *const c_void) -> u64>,
    /// Sets what is at a page of a window: XEN9P_WINDOW_EMPTY and so on; `own` is a frame as `frame` gives it. In a PV domain
    /// Xen shows and hides foreign pages itself: there is something to do for XEN9P_WINDOW_OWN alone, and for
    /// XEN9P_WINDOW_EMPTY after that.
    pub set_window:
        Option<unsafe extern "C" fn(*mut c_void, page: *mut c_void, what: u32, own: u64)>,
}

/// Nothing: an access faults.
pub const XEN9P_WINDOW_EMPTY: u32 = 0;
/// The page that Xen has mapped at its `window_address`.
pub const XEN9P_WINDOW_FOREIGN: u32 = 1;
/// A page of this domain's own, in the place of one that was lost: mapped read-write.
pub const XEN9P_WINDOW_OWN: u32 = 2;

/// Memory of a kernel that does not say how much it has.
const DEFAULT_MEMORY: usize = 16 << 20;

impl xen9p_platform {
    /// Whether all is there that has to be, in one of the ways that there are.
    fn is_complete(&self) -> bool {
        let base = self.alloc.is_some()
            && self.free.is_some()
            && self.alloc_pages.is_some()
            && self.free_pages.is_some()
            && self.frame.is_some()
            && self.hypercall.is_some()
            && self.now.is_some()
            && self.take_pending.is_some()
            && self.wait.is_some()
            && self.panic.is_some();
        let all_or_none = |parts: &[bool]| parts.iter().all(|&part| part == parts[0]);
        let store = [
            self.store_request.is_some(),
            self.store_watch.is_some(),
            self.store_unwatch.is_some(),
        ];
        let threads = [
            self.lock.is_some(),
            self.unlock.is_some(),
            self.wake.is_some(),
        ];
        let windows = [
            self.alloc_window.is_some(),
            self.free_window.is_some(),
            self.window_address.is_some(),
            self.set_window.is_some(),
        ];
        let one_store = !store[0] || self.xenstore.page.is_null();
        let one_table = self.grant.is_some() == self.end_grant.is_some()
            && self.grant.is_some() != self.grant_frame.is_some();
        let groups = [&store[..], &threads, &windows];
        base && one_store && one_table && groups.into_iter().all(all_or_none)
    }
}

/// The callbacks, while they are there.
struct Table(UnsafeCell<Option<xen9p_platform>>);

// SAFETY: written by xen9p_init and xen9p_exit alone, at which no other call is made; the interface asks for that.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new(None));

/// Keeps the callbacks, unless one is missing.
pub(crate) fn install(platform: &xen9p_platform) -> bool {
    let complete = platform.is_complete();
    if complete {
        // SAFETY: no other call is made, and no reference exists: `table` gives copies.
        unsafe { *TABLE.0.get() = Some(*platform) };
    }
    complete
}

/// Forgets the callbacks.
pub(crate) fn uninstall() {
    // SAFETY: as in `install`.
    unsafe { *TABLE.0.get() = None };
}

/// Sets where xenstore's ring is, in a domain that was resumed.
pub(crate) fn move_ring(ring: xen9p_ring) {
    // SAFETY: as in `install`; the lock is held.
    if let Some(table) = unsafe { &mut *TABLE.0.get() } {
        table.xenstore = ring;
    }
}

/// Whether there are callbacks.
pub(crate) fn is_installed() -> bool {
    table(|_| ()).is_some()
}

/// Looks at the callbacks. Only for a moment: `look` calls none.
pub(crate) fn table<T>(look: impl FnOnce(&xen9p_platform) -> T) -> Option<T> {
    // SAFETY: what writes is a call of its own, or the end of a callback, and neither happens within `look`.
    unsafe { &*TABLE.0.get() }.as_ref().map(look)
}

/// How much memory the kernel has.
pub(crate) fn known_memory() -> usize {
    table(|table| match table.memory {
        0 => DEFAULT_MEMORY,
        bytes => bytes,
    })
    .unwrap_or(0)
}

/// Calls a callback.
macro_rules! callback {
    ($name:ident, $otherwise:expr $(, $argument:expr)*) => {
        match crate::platform::table(|table| (table.$name, table.context)) {
            // SAFETY: the kernel's function, called as the header says.
            Some((Some(function), context)) => unsafe { function(context $(, $argument)*) },
            _ => $otherwise,
        }
    };
}
pub(crate) use callback;

/// The clock.
pub(crate) fn now() -> Instant {
    Instant::from_nanos(callback!(now, 0))
}

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

    #[cfg(feature = "vchan")]
    fn alloc_window(&self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        NonNull::new(callback!(alloc_window, core::ptr::null_mut(), count.get()).cast())
    }

    #[cfg(feature = "vchan")]
    unsafe fn free_window(&self, first: NonNull<Page>, count: NonZeroUsize) {
        callback!(free_window, (), first.as_ptr().cast(), count.get());
    }

    #[cfg(feature = "vchan")]
    fn window_address(&self, page: NonNull<Page>) -> u64 {
        callback!(window_address, u64::MAX, page.as_ptr().cast())
    }

    #[cfg(feature = "vchan")]
    unsafe fn set_window(&self, page: NonNull<Page>, view: View) {
        let (what, own) = match view {
            View::Empty => (XEN9P_WINDOW_EMPTY, 0),
            View::Foreign => (XEN9P_WINDOW_FOREIGN, 0),
            View::Own(frame) => (XEN9P_WINDOW_OWN, frame.0),
        };
        callback!(set_window, (), page.as_ptr().cast(), what, own);
    }

    fn grant_refs(&self) -> Range<u32> {
        let (first, count) = table(|table| (table.first_grant, table.grants)).unwrap_or((0, 0));
        match count {
            0 => first..u32::MAX,
            count => first..first.saturating_add(count),
        }
    }

    fn grant_driver(&self) -> Option<&dyn GrantDriver> {
        table(|table| table.grant.is_some())?.then_some(self as _)
    }

    fn store_driver(&self) -> Option<&dyn StoreDriver> {
        table(|table| table.store_request.is_some())?.then_some(self as _)
    }

    fn domain_state(&self) -> &DomainState {
        // There is one kernel, see `TABLE`.
        static STATE: DomainState = DomainState::new();
        &STATE
    }

    fn xenstore_ring(&self) -> Option<BuilderRing> {
        let ring = table(|table| table.xenstore)?;
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
        now()
    }

    fn wall_clock(&self) -> u64 {
        0
    }

    fn take_pending(&self, port: Port) -> bool {
        let taken = callback!(take_pending, 0, port.0) != 0;
        if taken {
            threads::note_event();
        }
        taken
    }

    fn port_opened(&self, port: Port) {
        callback!(port_opened, (), port.0);
    }

    fn port_closed(&self, port: Port) {
        callback!(port_closed, (), port.0);
    }

    fn wait(&self, ports: &[Port], deadline: Instant) {
        threads::wait(ports, deadline);
    }
}

// SAFETY: the header asks for it.
unsafe impl GrantDriver for Kernel {
    fn grant(&self, remote: DomId, frame: Frame) -> Result<GrantRef, XenError> {
        let reference = callback!(grant, -1, remote.0.into(), frame.0);
        let reference = u32::try_from(reference).map_err(|_| XenError::ENOSPC)?;
        Ok(GrantRef(reference))
    }

    fn end(&self, reference: GrantRef) -> bool {
        callback!(end_grant, 0, reference.0) != 0
    }
}

impl StoreDriver for Kernel {
    fn request(&self, kind: u32, transaction: u32, payload: &[u8]) -> Result<Vec<u8>, StoreError> {
        store::request(kind, transaction, payload)
    }

    fn watch(&self, path: &str, token: u32) -> Result<(), StoreError> {
        store::watch(path, token)
    }

    fn unwatch(&self, path: &str, token: u32) {
        store::unwatch(path, token);
    }
}

/// Makes a hypercall with five arguments by the processor's instruction: for the callback `hypercall`. `pv` is not 0 in a
/// PV domain. May be called at any time.
///
/// # Safety
/// The code runs in such a domain, and the arguments are valid for the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xen9p_hypercall(pv: c_int, number: u32, args: *const usize) -> isize {
    // Asking the processor leaves the domain for a microsecond: once is enough.
    static GATE: AtomicU8 = AtomicU8::new(0);
    let gate = match (pv != 0, GATE.load(Ordering::Relaxed)) {
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
