//! What the builder told us, in the same words for both kinds of domain.

use core::arch::x86_64::{_mm_lfence, _rdtsc};
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use spin::Once;

use crate::platform::{BuilderRing, Frame, Page};
use crate::sys;
use crate::time::Instant;
use crate::xen::clock::{self, Scale};
use crate::xen::event::Port;
use crate::xen::shared::{SharedMemory, SharedWord};

/// How the domain runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Paravirtualised: Xen owns the page tables and the processor's modes.
    Pv,
    /// In a hardware container without an emulated PC.
    Pvh,
}

/// Words of pending bits, and of mask bits, in shared_info.
const EVENT_WORDS: usize = 64;

/// A ring of the domain builder. Its page stays; after a resume it has another port.
pub(super) struct ResumableRing {
    page: NonNull<Page>,
    port: AtomicU32,
}

impl ResumableRing {
    pub(super) fn new(page: NonNull<Page>, port: u32) -> Self {
        ResumableRing {
            page,
            port: AtomicU32::new(port),
        }
    }

    pub(super) fn set_port(&self, port: u32) {
        self.port.store(port, Ordering::Relaxed);
    }

    pub(super) fn ring(&self) -> BuilderRing {
        BuilderRing {
            page: self.page,
            port: Port(self.port.load(Ordering::Relaxed)),
        }
    }
}

/// See the module.
pub(super) struct Machine {
    pub(super) mode: Mode,
    /// Whether this is dom0, under Xen without anybody beside us.
    pub(super) first_domain: bool,
    pub(super) shared_info: SharedMemory<'static>,
    /// Where shared_info is for Xen; of no meaning in a PV domain.
    pub(super) shared_info_at: Frame,
    /// The builder's structure, in a PV domain.
    pub(super) start_info: Option<NonNull<sys::start_info>>,
    pub(super) xenstore: Option<ResumableRing>,
    pub(super) console: Option<ResumableRing>,
    pub(super) command_line: &'static [u8],
    pub(super) started: Instant,
    /// What to add to Xen's system time, which begins anew on another machine, to get our own.
    pub(super) clock_offset: AtomicU64,
    /// The latest time that the clock has shown.
    pub(super) latest: AtomicU64,
}

// SAFETY: a machine is installed in an image alone, which one virtual CPU runs; the pointers are to pages that stay for
// good.
unsafe impl Send for Machine {}
// SAFETY: as above; besides, what changes after it is installed is atomic, and shared pages are accessed as such.
unsafe impl Sync for Machine {}

static MACHINE: Once<Machine> = Once::new();

/// The machine, once it is known.
pub(super) fn try_machine() -> Option<&'static Machine> {
    MACHINE.get()
}

/// The machine.
///
/// # Panics
/// It is not known yet.
pub(super) fn machine() -> &'static Machine {
    try_machine().expect("the machine is in use before it is set up")
}

/// The time-stamp counter, not read before earlier loads.
pub(super) fn ticks() -> u64 {
    // SAFETY: neither instruction accesses memory; every 64-bit processor has both, and Xen lets
    // a domain read the counter (or emulates that).
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}

impl Machine {
    /// Makes this the machine of the image, with all events masked. `first_tick` is the time-stamp
    /// counter of the first instruction.
    ///
    /// # Safety
    /// This is an image, which one thread runs. `shared_info` is the mapped shared_info page in its 64-bit layout, and the
    /// builder's rings are mapped, all for good.
    pub(super) unsafe fn install(mut self, first_tick: u64) {
        self.mask_events();
        let now = self.now();
        // Multiplier and shift change only when the domain moves to another machine.
        let since_first_tick = Scale {
            tsc_timestamp: first_tick,
            system_time: 0,
            ..clock::scale_in(self.time_info())
        };
        let elapsed = since_first_tick.nanos_at(ticks());
        self.started = Instant::from_nanos(now.as_nanos().saturating_sub(elapsed));
        MACHINE.call_once(|| self);
    }

    /// Has no event ever interrupt us: all are polled for.
    pub(super) fn mask_events(&self) {
        // A pending upcall would make every wait return at once.
        let mask = self.vcpu_info(offset_of!(sys::vcpu_info, evtchn_upcall_mask), 1);
        mask.word(0).store(1_u8, Ordering::SeqCst);
        for index in 0..EVENT_WORDS {
            let word = self
                .shared_info
                .word(offset_of!(sys::shared_info, evtchn_mask) + index * size_of::<u64>());
            word.store(u64::MAX, Ordering::SeqCst);
        }
    }

    /// A field of the vCPU's part of shared_info.
    pub(super) fn vcpu_info(&self, offset: usize, len: usize) -> SharedMemory<'static> {
        let start = offset_of!(sys::shared_info, vcpu_info);
        self.shared_info.subslice(start + offset, len)
    }

    fn time_info(&self) -> SharedMemory<'static> {
        let size = size_of::<sys::vcpu_time_info>();
        self.vcpu_info(offset_of!(sys::vcpu_info, time), size)
    }

    /// Xen's system time, in nanoseconds.
    fn system_time(&self) -> u64 {
        clock::system_time_in(self.time_info(), ticks)
    }

    /// The monotonic clock. It stands still while the domain is saved, and where Xen's goes back, as when the domain comes
    /// to run on a processor whose counter is behind.
    pub(super) fn now(&self) -> Instant {
        let offset = self.clock_offset.load(Ordering::Relaxed);
        let now = self.system_time().wrapping_add(offset);
        // One thread: a load and a store are as good as one step.
        let now = now.max(self.latest.load(Ordering::Relaxed));
        self.latest.store(now, Ordering::Relaxed);
        Instant::from_nanos(now)
    }

    /// Has the clock go on from `now`.
    pub(super) fn set_clock(&self, now: Instant) {
        let offset = now.as_nanos().wrapping_sub(self.system_time());
        self.clock_offset.store(offset, Ordering::Relaxed);
    }

    /// The time of the monotonic clock on Xen's scale.
    pub(super) fn to_system_time(&self, at: Instant) -> Instant {
        match at {
            Instant::NEVER => at,
            at => {
                let offset = self.clock_offset.load(Ordering::Relaxed);
                // One that is before Xen's time began has passed.
                match offset as i64 {
                    ahead @ 0.. => Instant::from_nanos(at.as_nanos().saturating_sub(ahead as u64)),
                    behind => {
                        Instant::from_nanos(at.as_nanos().saturating_add(behind.unsigned_abs()))
                    }
                }
            }
        }
    }

    /// Nanoseconds since 1970.
    pub(super) fn wall_clock(&self) -> u64 {
        match clock::wall_clock_base_in(self.shared_info) {
            0 => 0,
            base => base.saturating_add(self.system_time()),
        }
    }

    /// The word with the pending bit of `port`, if there can be such a port.
    pub(super) fn pending(&self, port: Port) -> Option<SharedWord<'static, u64>> {
        let index = port.0 as usize / 64;
        let start = offset_of!(sys::shared_info, evtchn_pending);
        (index < EVENT_WORDS).then(|| self.shared_info.word(start + index * size_of::<u64>()))
    }
}
