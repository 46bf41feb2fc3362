//! The kernel as xen9p sees it: its [`Platform`].

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::arch::x86_64::_rdtsc;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use xen9p::hypercall::memory::{Space, add_to_physmap};
use xen9p::hypercall::raw::Gate;
use xen9p::hypercall::sched::{self, SuspendReturn, Suspended};
use xen9p::hypercall::{XenError, event_channel, hvm};
use xen9p::platform::{BuilderRing, DomainState, Frame, PAGE_SIZE, Page, Platform};
use xen9p::sys;
use xen9p::time::Instant;
use xen9p::xen::clock;
use xen9p::xen::event::Port;

use crate::{interrupts, pv};

/// This kernel. All that it knows is in statics.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

/// Grant frames that can be mapped.
const GRANT_FRAMES: u64 = 64;

/// The first of the guest frames that are no memory: shared_info goes there, and then the grant table.
static FREE_FRAMES: AtomicU64 = AtomicU64::new(0);

/// Which grant frames are mapped, a bit each.
static MAPPED: AtomicU64 = AtomicU64::new(0);

/// How far our clock is ahead of Xen's: it goes on where it was when the domain was saved.
static CLOCK: AtomicI64 = AtomicI64::new(0);

/// The event channel of the timer.
static TIMER: AtomicU32 = AtomicU32::new(0);

fn layout(count: NonZeroUsize) -> Option<Layout> {
    Layout::from_size_align(count.get().checked_mul(PAGE_SIZE)?, PAGE_SIZE).ok()
}

impl Kernel {
    /// Sets up what the drivers will ask for, in a PVH domain.
    ///
    /// # Safety
    /// Once, at the start. Nothing is behind the guest frames from `free_frames` on.
    pub unsafe fn init(free_frames: u64) -> Result<(), XenError> {
        FREE_FRAMES.store(free_frames, Ordering::Relaxed);
        // SAFETY: nothing is behind that frame, where shared_info comes; interrupts are off.
        unsafe {
            interrupts::init(free_frames * PAGE_SIZE as u64);
            Kernel::begin()
        }
    }

    /// Has Xen put shared_info in its place and send interrupts: at the start, and after a restore.
    ///
    /// # Safety
    /// Interrupts are off, and have handlers. Nothing uses shared_info meanwhile.
    unsafe fn begin() -> Result<(), XenError> {
        let vector =
            u64::from(sys::HVM_PARAM_CALLBACK_TYPE_VECTOR) << 56 | u64::from(interrupts::VECTOR);
        // SAFETY: there is no memory at that frame; the vector has a handler.
        unsafe {
            let frame = Frame(FREE_FRAMES.load(Ordering::Relaxed));
            add_to_physmap(&Kernel, Space::SharedInfo, frame)?;
            hvm::set_param(&Kernel, sys::HVM_PARAM_CALLBACK_IRQ, vector)?;
        }
        // Deadlines.
        let timer = event_channel::bind_virq(&Kernel, sys::VIRQ_TIMER, 0)?;
        TIMER.store(timer.0, Ordering::Relaxed);
        Ok(())
    }

    /// Suspends the domain, and puts back what Xen gives a new one anew: the machine's part of
    /// [`Xen::suspend`](xen9p::xen::Xen::suspend).
    pub fn suspend() -> Result<SuspendReturn, XenError> {
        let now = Kernel.now();
        // SAFETY: nothing but handlers would use shared_info or the grant table before they are back, and there are none
        // meanwhile. The return goes to the drivers.
        let returned = unsafe {
            match pv::info() {
                Some(info) => pv::suspend(info)?,
                None => Kernel::suspend_pvh()?,
            }
        };
        if returned.how() == Suspended::Resumed {
            let offset = now.as_nanos() as i64 - Kernel.system_time() as i64;
            CLOCK.store(offset, Ordering::Relaxed);
        }
        Ok(returned)
    }

    /// # Safety
    /// As of [`sched::suspend`], but that this puts everything back.
    unsafe fn suspend_pvh() -> Result<SuspendReturn, XenError> {
        // SAFETY: interrupts are off, so that no handler uses shared_info; it and the table are put back below before anything
        // else runs.
        unsafe {
            let returned = sched::suspend(&Kernel, Frame(0));
            if matches!(&returned, Ok(returned) if returned.how() == Suspended::Resumed) {
                interrupts::forget();
                MAPPED.store(0, Ordering::Relaxed);
                Kernel::begin()?;
            }
            returned
        }
    }

    /// Xen's clock, which another machine has another of.
    fn system_time(&self) -> u64 {
        // SAFETY: inside shared_info, which is mapped.
        unsafe {
            let time = &raw const (*self.shared_info()).vcpu_info[0].time;
            clock::system_time(time, || _rdtsc())
        }
    }

    /// A time on Xen's clock; one that has passed is never 0, which is no deadline for Xen.
    fn on_xens_clock(&self, at: Instant) -> u64 {
        let offset = CLOCK.load(Ordering::Relaxed);
        (at.as_nanos() as i64).saturating_sub(offset).max(1) as u64
    }

    fn shared_info(&self) -> *const sys::shared_info {
        match pv::is_here() {
            true => pv::shared_info(),
            false => (FREE_FRAMES.load(Ordering::Relaxed) * PAGE_SIZE as u64) as *const _,
        }
    }

    fn ring(&self, frame: u32, port: u32) -> Option<BuilderRing> {
        let frame = hvm::get_param(self, frame)
            .ok()
            .filter(|&frame| frame != 0)?;
        let port = hvm::get_param(self, port).ok()?;
        Some(BuilderRing {
            page: NonNull::new((frame * PAGE_SIZE as u64) as *mut Page)?,
            port: Port(port as u32),
        })
    }
}

// SAFETY: pages come from the global allocator as whole pages; memory is mapped one to one, so that an address says the
// guest frame, or in a PV domain the place in Xen's list of frames; hypercalls go to Xen by the processor's instruction;
// grant frames are put where nothing is.
unsafe impl Platform for Kernel {
    fn alloc_pages(&self, count: NonZeroUsize) -> Option<NonNull<Page>> {
        // SAFETY: the layout is not empty.
        NonNull::new(unsafe { alloc_zeroed(layout(count)?) }.cast())
    }

    unsafe fn free_pages(&self, first: NonNull<Page>, count: NonZeroUsize) {
        if let Some(layout) = layout(count) {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(first.as_ptr().cast(), layout) };
        }
    }

    fn frame(&self, page: NonNull<Page>) -> Frame {
        match pv::info() {
            Some(info) => pv::frame(info, page.addr().get()),
            None => Frame((page.addr().get() / PAGE_SIZE) as u64),
        }
    }

    unsafe fn hypercall(&self, number: u32, args: [usize; 5]) -> isize {
        static GATE: AtomicU64 = AtomicU64::new(0);
        let gate = match GATE.load(Ordering::Relaxed) {
            _ if pv::is_here() => Gate::Syscall,
            0 => {
                let gate = Gate::of_hvm();
                GATE.store(if gate == Gate::Vmcall { 1 } else { 2 }, Ordering::Relaxed);
                gate
            }
            1 => Gate::Vmcall,
            _ => Gate::Vmmcall,
        };
        // SAFETY: the domain's gate; the rest is the caller's promise.
        unsafe { gate.call(number, args) }
    }

    fn grant_frame(&self, index: u32) -> Result<NonNull<Page>, XenError> {
        if pv::is_here() {
            return pv::grant_frame(index);
        }
        if u64::from(index) >= GRANT_FRAMES {
            return Err(XenError::ENOSPC);
        }
        let frame = FREE_FRAMES.load(Ordering::Relaxed) + 1 + u64::from(index);
        if MAPPED.load(Ordering::Relaxed) & 1 << index == 0 {
            // SAFETY: nothing is behind that frame.
            unsafe { add_to_physmap(self, Space::GrantTable(index), Frame(frame))? };
            MAPPED.fetch_or(1 << index, Ordering::Relaxed);
        }
        NonNull::new((frame * PAGE_SIZE as u64) as *mut Page).ok_or(XenError::EINVAL)
    }

    fn domain_state(&self) -> &DomainState {
        static STATE: DomainState = DomainState::new();
        &STATE
    }

    fn xenstore_ring(&self) -> Option<BuilderRing> {
        if let Some(info) = pv::info() {
            return pv::xenstore_ring(info);
        }
        self.ring(sys::HVM_PARAM_STORE_PFN, sys::HVM_PARAM_STORE_EVTCHN)
    }

    fn console_ring(&self) -> Option<BuilderRing> {
        if let Some(info) = pv::info() {
            return pv::console_ring(info);
        }
        self.ring(sys::HVM_PARAM_CONSOLE_PFN, sys::HVM_PARAM_CONSOLE_EVTCHN)
    }

    fn now(&self) -> Instant {
        let offset = CLOCK.load(Ordering::Relaxed);
        Instant::from_nanos(self.system_time().wrapping_add_signed(offset))
    }

    fn wall_clock(&self) -> u64 {
        // SAFETY: shared_info is mapped.
        match unsafe { clock::wall_clock_base(self.shared_info()) } {
            0 => 0,
            base => base + self.system_time(),
        }
    }

    fn take_pending(&self, port: Port) -> bool {
        match pv::is_here() {
            true => pv::take(port.0),
            false => interrupts::take(port.0),
        }
    }

    fn wait(&self, ports: &[Port], deadline: Instant) {
        if pv::is_here() {
            // Refused only for a port that is none; to return early is allowed.
            let deadline = match deadline {
                Instant::NEVER => deadline,
                at => Instant::from_nanos(self.on_xens_clock(at)),
            };
            let _ = sched::poll(self, ports, deadline);
            return;
        }
        let timer = TIMER.load(Ordering::Relaxed);
        // What an earlier deadline left behind.
        interrupts::take(timer);
        if deadline != Instant::NEVER {
            let at = self.on_xens_clock(deadline) as usize;
            // SAFETY: the operation takes a time.
            unsafe { self.hypercall(sys::__HYPERVISOR_set_timer_op, [at, 0, 0, 0, 0]) };
        }
        // The timer may fire before we sleep. That it did has to be seen here: the clock need not show it, for Xen
        // reckons that of another processor, which may be ahead.
        interrupts::sleep_unless(|| {
            self.now() >= deadline
                || interrupts::fired(timer)
                || ports.iter().any(|port| interrupts::fired(port.0))
        });
    }
}
